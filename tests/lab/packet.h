/*
 * IPv4 packets as the lab's NAT sees them: whose they are, and what changes in them
 * when an address does. Knows UDP, TCP and the ICMP errors about them; no socket, no
 * NAT.
 */
#ifndef POSTERN_LAB_PACKET_H
#define POSTERN_LAB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../sim/world/nat.h"

enum { PACKET_REFUSAL_MAX = 64 };

struct packet {
    uint8_t *ip;
    size_t len, head; /* head: of the IP header */
    enum vproto proto;
    struct addr from, to;
    unsigned flags; /* of enum nat_tcp */
    /* An ICMP error: from and to have port 0, and this is what it is about. */
    bool is_error;
    uint8_t *about;
    struct addr about_from, about_to;
};

enum answer { ANSWER_NONE, ANSWER_RST, ANSWER_ICMP };

/* False: nothing that a NAT of the lab lets through (fragments, other protocols). */
bool packet_parse(struct packet *p, uint8_t *buf, size_t len);
/* Changes the ends, and the sums with them. */
void packet_set(struct packet *p, const struct addr *from, const struct addr *to);
/* Changes the ends of what an error is about. */
void packet_set_about(struct packet *p, const struct addr *from, const struct addr *to);
/* What a thoughtless ALG does: each `a` among the data, four bytes, becomes `b`. */
void packet_damage(struct packet *p, const struct addr *a, const struct addr *b);
/* The answer to a packet that nobody expected, as from its destination; its length. */
size_t packet_refuse(uint8_t out[static PACKET_REFUSAL_MAX], const struct packet *p,
                     enum answer how);

#endif

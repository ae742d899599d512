/*
 * What a router does to packets that cross it (RFC 4787, RFC 5382): maps inner
 * endpoints to outer ones, and lets in what its filter permits; without translation it
 * is a stateful firewall. Pure: takes addresses and the time, says what becomes of
 * them.
 */
#ifndef POSTERN_SIM_NAT_H
#define POSTERN_SIM_NAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/proto.h"

enum vproto { VPROTO_UDP, VPROTO_TCP, VPROTO_COUNT };

enum nat_ports {
    NAT_PORTS_PRESERVED, /* the inner port where it is free, else random */
    NAT_PORTS_SEQUENTIAL,
    NAT_PORTS_RANDOM,
    NAT_PORTS_RANGE, /* each inner address has a block of its own; in it the next */
};

struct nat_config {
    bool translates;
    bool blocks_udp;
    bool rejects_tcp; /* a SYN from outside that nobody expects is answered by RST */
    enum nat_mapping mapping;
    enum nat_filtering filtering;
    enum nat_ports ports;
    bool hairpins, inbound_refreshes;
    bool clamps; /* TCP's segments to the MTU of the router's wires */
    uint64_t udp_us, tcp_us, tcp_transitory_us; /* zeroes: 120 s, 7440 s, 240 s */
    unsigned sessions_max;                      /* 0: no limit but memory */
    unsigned range_size;                        /* NAT_PORTS_RANGE; 0: 64 */
    struct addr ext;                            /* translates: the outer address */
};

struct nat_session;

enum { NAT_RECENT = 64 };

struct nat {
    struct nat_config c;
    struct nat_session *sessions; /* `count` of them, `room` allocated */
    size_t count, room;
    uint64_t none_dies_before_us; /* so that not each packet looks at all of them */
    size_t recent[NAT_RECENT];    /* where a pair's session was found; a hint only */
    uint16_t next_port;
    uint64_t refused; /* for want of sessions */
};

/* What of TCP a NAT looks at. */
enum nat_tcp { NAT_TCP_SYN = 1, NAT_TCP_FIN = 2, NAT_TCP_RST = 4 };

void nat_init(struct nat *n, const struct nat_config *c);
void nat_fini(struct nat *n);
/* Forgets all, as after a restart. */
void nat_flush(struct nat *n);

/*
 * Outwards: rewrites `from`. False: dropped. `rng` is the world's; `tcp_flags` of enum
 * nat_tcp.
 */
bool nat_out(struct nat *n, enum vproto proto, struct addr *from, const struct addr *to,
             unsigned tcp_flags, uint64_t now_us, uint64_t *rng);
/* Inwards: rewrites `to`. False: nothing lets it in. */
bool nat_in(struct nat *n, enum vproto proto, const struct addr *from, struct addr *to,
            unsigned tcp_flags, uint64_t now_us);
/* The inner end of outer `to`, without any effect, for what an ICMP error quotes. */
bool nat_inner_of(const struct nat *n, enum vproto proto, const struct addr *ext,
                  const struct addr *remote, uint64_t now_us, struct addr *inner);
/* Sessions that are alive. */
size_t nat_sessions(const struct nat *n, uint64_t now_us);

#endif

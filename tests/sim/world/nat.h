/*
 * What a router does to packets that cross it (RFC 4787, RFC 5382): maps inner
 * endpoints to outer ones, and lets in what its filter permits; without translation it
 * is a stateful firewall. Pure: takes addresses and the time, says what becomes of
 * them. The simulator's routers and the lab's NAT in user space (lab/usernat.c) both
 * are this.
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
    NAT_PORTS_RANGE_RANDOM, /* likewise, in it any (RFC 6431, RFC 7422) */
};

enum { NAT_POOL_MAX = 8 };

/* Numbers that are 0 mean: as stated, or no such limit. */
struct nat_config {
    bool translates;
    bool blocks_udp;
    bool rejects_tcp; /* a SYN from outside that nobody expects is answered by RST */
    bool drops_syn;   /* each SYN from outside, expected or not */
    enum nat_mapping mapping;
    enum nat_filtering filtering;
    enum nat_ports ports;
    uint16_t port_first, port_last; /* 1024 to 65535 */
    unsigned step;                  /* NAT_PORTS_SEQUENTIAL; 1 */
    unsigned range_size;            /* NAT_PORTS_RANGE; 64 */
    bool keeps_low; /* ports below 1024 stay there, as netfilter's 512-1023 do */
    bool overloads; /* one outer port for several mappings, told apart by the remote */
    bool hairpins, inbound_refreshes;
    bool rst_closes; /* a session ends with its RST */
    bool clamps;     /* TCP's segments to the MTU of the router's wires */
    uint64_t udp_us, tcp_us, tcp_transitory_us; /* 120 s, 7440 s, 240 s */
    uint64_t udp_first_us;                      /* before an answer; udp_us */
    unsigned sessions_max;                      /* of all, but for memory */
    /* Of each inner address: sessions; new ones a second, beyond which they are
     * dropped. */
    unsigned sessions_each, new_per_s;
    /* An inner address is banned for ban_us (60 s) with more new sessions in a second,
     * or with as many that nobody has answered; an outer one with as many packets that
     * nobody expected. */
    unsigned ban_new_per_s, ban_unanswered, ban_unexpected;
    uint64_t ban_us;
    struct addr ext;                    /* translates: the outer address */
    struct addr more[NAT_POOL_MAX - 1]; /* and others, `more_count` of them */
    unsigned more_count;
    bool pool_arbitrary; /* each mapping has any of them, else an inner address keeps
                            one (RFC 4787 REQ-2) */
};

struct nat_session;

enum { NAT_BUCKETS = 1024, NAT_KNOWN = 64 };

/* What is kept of an inner address, or of an outer one that was not expected. */
struct nat_known {
    struct addr ip;
    unsigned sessions, unanswered, unexpected;
    unsigned begun; /* new sessions in the second that began at second_us */
    uint64_t second_us, banned_us; /* until when; 0: it is not */
    unsigned at;                   /* of the pool */
};

struct nat {
    struct nat_config c;
    struct nat_session *sessions; /* `count` of them, `room` allocated */
    size_t count, room;
    uint64_t none_dies_before_us; /* so that not each packet looks at all of them */
    /* The first session of an endpoint and one more, 0: none; the others by its links.
     */
    uint32_t inner[NAT_BUCKETS], outer[NAT_BUCKETS];
    struct nat_known known[NAT_KNOWN];
    unsigned known_count;
    uint16_t next_port;
    uint64_t refused; /* for want of sessions */
    uint64_t banned;  /* how often an address was */
};

/* What of TCP a NAT looks at. */
enum nat_tcp { NAT_TCP_SYN = 1, NAT_TCP_FIN = 2, NAT_TCP_RST = 4, NAT_TCP_ACK = 8 };

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
/* The outer end of what inner `from` sends to `remote`, likewise. */
bool nat_outer_of(const struct nat *n, enum vproto proto, const struct addr *inner,
                  const struct addr *remote, uint64_t now_us, struct addr *ext);
/* It is one of its outer addresses. */
bool nat_owns(const struct nat *n, const struct addr *a);
/* Sessions that are alive. */
size_t nat_sessions(const struct nat *n, uint64_t now_us);

#endif

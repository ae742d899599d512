/*
 * What the programs may ask of the privileged helper and of its keeper, who starts it:
 * one struct each way over a SOCK_SEQPACKET pair, in the machine's own layout (both
 * ends are of one build). The list of operations is the allowlist; helper/edge.c has
 * the table of what each field may be, since whoever asks has parsed network input.
 * What a request does not use is zero.
 */
#ifndef POSTERN_CORE_PRIVILEGE_H
#define POSTERN_CORE_PRIVILEGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

#define PRIVILEGE_FD 3                         /* the end of the pair that is theirs */
#define PRIVILEGE_KEEPER_NAME "postern-keeper" /* its argv[0]; else it is a helper */
#define PRIVILEGE_VERSION 6
#define PRIVILEGE_KNOCK_ID_LEN 16
#define PRIVILEGE_SOURCES_MAX 4
#define PRIVILEGE_KNOCKS_MAX 256
#define PRIVILEGE_GATES_MAX 256
#define PRIVILEGE_HELD_MAX 1024
#define PRIVILEGE_HELD_MS 15000
#define PRIVILEGE_PASSED_MS 60000
#define PRIVILEGE_REASON_LEN 128
#define PRIVILEGE_BUFFER_BYTES (4 * 1024 * 1024)

enum privilege_op {
    /*
     * Reply: what this helper is able to do, enum privilege_can. `after_gates`: one
     * before it was lost and had gates, of which rules may be left to be taken away.
     */
    PRIVILEGE_HELLO = 1,
    /*
     * Drop everything to port `local` (1024 or above) of `tcp` or UDP, and report the
     * one packet from an address of `sources` that carries `id` (UDP: the payload; TCP:
     * a SYN whose sequence number is its first 4 bytes, big-endian). From then on what
     * comes from that packet's address and port passes. `serial` names the knock.
     */
    PRIVILEGE_KNOCK_ADD,
    PRIVILEGE_KNOCK_REMOVE, /* reply: `dropped` */
    PRIVILEGE_KNOCK_SEEN,   /* from the helper by itself: `from` */
    /* A TCP socket whose SYN will carry sequence number `sequence`; bound to `local`,
     * port 0 or 1024 and above. */
    PRIVILEGE_SEQUENCED,
    /* A UDP socket that sends from `local`, which is not ours, to `remote` only. */
    PRIVILEGE_TRANSPARENT,
    PRIVILEGE_LOW_PORT, /* a socket bound to `local`, port 512-1023 */
    /* The socket sent along may buffer PRIVILEGE_BUFFER_BYTES each way. */
    PRIVILEGE_BUFFERS,
    /*
     * The arranged connection (helper/arranged.c): a TCP socket from `local` to
     * `remote` that is connected already, with our first sequence number `sequence` and
     * the peer's `peer_sequence`; and our SYN on the wire, which dies after `hops`.
     * `ways` and `peer_ways`: what both kernels put into a SYN, enum tcp_ways; what
     * both have is agreed on.
     */
    PRIVILEGE_ARRANGE,
    PRIVILEGE_ARRANGE_ANSWER, /* the SYN-ACK of the same connection */
    /*
     * Hold what asks for a TCP connection to `local` until there is a verdict: to its
     * port at its address; of an address that is all zero, at any of its family;
     * without a family, at any of this machine. Along comes the gate: a SOCK_SEQPACKET
     * socket on which the helper sends a struct privilege_syn for each SYN, and takes a
     * struct privilege_verdict. The gate lasts until it is closed; what it holds is
     * refused then.
     */
    PRIVILEGE_GATE,
    /*
     * Both of the keeper, and without reply. Start a helper, whose end of a new pair is
     * sent along; end the one that was started. Either way that one is killed first.
     */
    PRIVILEGE_START,
    PRIVILEGE_END,
    /* A link (TUN) at which systemd-resolved may be told of a DNS server; reply: its
     * name as `reason`. */
    PRIVILEGE_NAMES_LINK,
    /* Of the helper: start a keeper, whose end of a new pair is sent along. */
    PRIVILEGE_KEEPER,
    PRIVILEGE_OP_COUNT,
};

struct privilege_syn {
    uint64_t id; /* never used again */
    struct addr from;
};

enum gate_verdict {
    GATE_ACCEPT = 1, /* it goes on to the listening socket */
    GATE_REFUSE,     /* "connection refused": answered with RST */
    GATE_DROP,       /* not answered */
};

/* An id that is not held (any more) is passed over. */
struct privilege_verdict {
    uint64_t id;
    uint32_t verdict; /* enum gate_verdict */
};

enum privilege_can {
    PRIVILEGE_CAN_FILTER = 1, /* CAP_NET_ADMIN */
    PRIVILEGE_CAN_RAW = 2,    /* CAP_NET_RAW */
    PRIVILEGE_CAN_BIND = 4,   /* CAP_NET_BIND_SERVICE */
};

/* The options of a kernel's SYN: bits 0-3 are its window scale, if it has any. */
enum tcp_ways {
    TCP_WAYS_SCALE_MASK = 0x0f,
    TCP_WAYS_TIMESTAMPS = 0x10,
    TCP_WAYS_SACK = 0x20,
    TCP_WAYS_SCALES = 0x40,
    TCP_WAYS_FLAGS = 0x70,
    TCP_WAYS_ALL = 0x7f,
    TCP_WAYS_SCALE_MAX = 14, /* RFC 7323 section 2.3 */
};

struct privilege_request {
    uint32_t op, serial;
    struct addr local, remote;
    uint32_t sequence, peer_sequence;
    uint32_t hops;
    uint32_t ways, peer_ways;
    uint8_t tcp, after_gates; /* no bool: what comes from outside may be anything */
    uint8_t source_count;
    struct addr sources[PRIVILEGE_SOURCES_MAX];
    uint8_t id[PRIVILEGE_KNOCK_ID_LEN];
};

/* A socket travels along where the operation gives one. */
struct privilege_reply {
    uint32_t op, serial;
    int32_t err; /* 0, or enum postern_err with `reason` filled */
    uint32_t version, can;
    struct addr from;
    uint64_t dropped;
    char reason[PRIVILEGE_REASON_LEN];
};

#endif

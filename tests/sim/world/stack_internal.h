/* What stack.c (sockets, ports, UDP) and tcp.c (connections) share. */
#ifndef POSTERN_SIM_STACK_INTERNAL_H
#define POSTERN_SIM_STACK_INTERNAL_H

#include "stack.h"

struct fifo {
    uint8_t *data;
    size_t from, len, room;
};
void fifo_put(struct fifo *f, const void *data, size_t len);
size_t fifo_copy(const struct fifo *f, size_t at, void *out, size_t cap);
void fifo_skip(struct fifo *f, size_t len);

struct datagram {
    struct datagram *next;
    struct addr from, to;
    size_t len;
    uint8_t data[];
};

/* What came too early. */
struct early {
    struct early *next;
    uint32_t seq;
    size_t len;
    bool fin;
    uint8_t data[];
};

enum tcp_state { TCP_IDLE, TCP_LISTENS, TCP_CALLS, TCP_ANSWERS, TCP_OPEN, TCP_OVER };

struct vtcp {
    enum tcp_state state;
    struct fifo in, out; /* `out` begins at the first byte not acknowledged */
    struct early *early;
    uint32_t una, nxt, max; /* of what we send; `max`: the highest ever sent */
    uint32_t got;           /* next expected of theirs */
    uint32_t peer_window;
    size_t mss, cwnd, threshold;
    bool end_wanted, end_acked, ended; /* our FIN; `ended`: theirs came */
    bool no_more_reading;
    bool window_was_shut;
    unsigned repeats, same_acks, probes;
    bool recovering;
    uint32_t recover;
    uint64_t rto_us, srtt_us, var_us, min_rtt_us;
    uint64_t heard_us, data_us, said_us, stuck_since_us;
    uint32_t segments_in, data_segments_in;
    uint32_t timed_seq; /* the segment whose answer is timed */
    uint64_t timed_us;  /* 0: none */
    struct valarm resend, keep;
    /* of a listener */
    struct vsock *waiting[64]; /* open, not accepted yet */
    unsigned waiting_count, backlog;
    struct vsock *parent; /* of one that was not accepted yet */
};

struct vsock {
    struct vsock *next; /* of the stack */
    struct vstack *stack;
    enum vproto proto;
    enum addr_family family;
    int options[VSOCK_OPTIONS];
    bool bound, orphan;
    struct addr local, remote; /* `remote` ADDR_NONE: not connected */
    int err;
    vsock_cb cb;
    void *ctx;
    struct datagram *first, **last;
    size_t queued;
    struct vtcp t;
};

struct vstack {
    struct vnet_node *node;
    struct vsock *socks;
};

static inline struct vclock *vsock_clock(const struct vsock *s)
{
    return &s->stack->node->net->clock;
}

void vsock_tell(struct vsock *s, int edges);
/* Takes it out of the stack, and frees. */
void vsock_free(struct vsock *s);
struct vsock *vsock_child(struct vsock *listener, const struct vpacket *syn);

/* A segment for `s`, which may be gone afterwards. */
void vtcp_input(struct vsock *s, const struct vpacket *p);
void vtcp_icmp(struct vsock *s, const struct vpacket *p);
/* The answer to a segment that is nobody's. */
void vtcp_refuse(struct vnet_node *node, const struct vpacket *p);
int vtcp_connect(struct vsock *s);
void vtcp_answer(struct vsock *s, const struct vpacket *syn);
/* `s` may be gone afterwards. */
void vtcp_close(struct vsock *s);
void vtcp_fini(struct vsock *s);
void vtcp_init(struct vsock *s);
void vtcp_output(struct vsock *s);
void vtcp_opened_window(struct vsock *s);
void vtcp_watch_silence(struct vsock *s);

enum { VTCP_ROOM = 512 * 1024 };

#endif

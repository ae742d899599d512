/* One TCP connection; see stack.h. Congestion control is Reno's, roughly. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <assert.h>

#include "stack_internal.h"

enum {
    SECOND = 1000000,
    RTO_FIRST_US = SECOND,
    RTO_MIN_US = 200000,
    RTO_MAX_US = 120 * SECOND,
    SYN_REPEATS = 6,
    REPEATS = 15,
    ORPHAN_REPEATS = 8,
    GOODBYE_US = 60 * SECOND,
    WINDOW_FIRST = 10,
    EARLY_MAX = 1024,
};

static int32_t after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b);
}

static uint64_t now_us(const struct vsock *s)
{
    return vsock_clock(s)->now_us;
}

static size_t own_mss(const struct vsock *s)
{
    size_t over = s->remote.family == ADDR_V6 ? TCP6_OVERHEAD : TCP4_OVERHEAD;
    size_t mss = vnet_mtu(s->stack->node, &s->remote) - over;
    size_t wish = (size_t)s->options[VSOCK_SEGMENT_MAX];
    return wish > 0 && wish < mss ? wish : mss;
}

static uint32_t own_window(const struct vsock *s)
{
    return s->t.in.len < VTCP_ROOM ? (uint32_t)(VTCP_ROOM - s->t.in.len) : 0;
}

static void send_segment(struct vsock *s, uint32_t seq, uint8_t flags, size_t at,
                         size_t len)
{
    uint8_t buf[65536];
    size_t n = len > 0 ? fifo_copy(&s->t.out, at, buf, len) : 0;
    struct vpacket *p = vpacket_new(VPROTO_TCP, &s->local, &s->remote, buf, n);
    p->tcp.seq = seq;
    p->tcp.flags = flags;
    p->tcp.ack = (flags & TCP_ACK) != 0 ? s->t.got : 0;
    p->tcp.window = own_window(s);
    if ((flags & TCP_SYN) != 0)
        p->tcp.mss = (uint16_t)own_mss(s);
    if (s->options[VSOCK_TTL] > 0)
        p->ttl = (unsigned)s->options[VSOCK_TTL];
    if (len > 0)
        s->t.said_us = now_us(s);
    s->t.window_was_shut = p->tcp.window < 2 * s->t.mss;
    (void)vnet_send(s->stack->node, p); /* no way: as lost; it is sent again */
}

static void send_ack(struct vsock *s)
{
    send_segment(s, s->t.nxt, TCP_ACK, 0, 0);
}

static void send_reset(struct vsock *s)
{
    if (s->t.state >= TCP_ANSWERS && s->t.state <= TCP_OPEN)
        send_segment(s, s->t.nxt, TCP_RST | TCP_ACK, 0, 0);
}

void vtcp_refuse(struct vnet_node *node, const struct vpacket *p)
{
    if ((p->tcp.flags & TCP_RST) != 0)
        return;
    struct vpacket *r = vpacket_new(VPROTO_TCP, &p->to, &p->from, NULL, 0);
    r->tcp.flags = TCP_RST | TCP_ACK;
    r->tcp.seq = (p->tcp.flags & TCP_ACK) != 0 ? p->tcp.ack : 0;
    r->tcp.ack = p->tcp.seq + (uint32_t)p->len +
                 ((p->tcp.flags & (TCP_SYN | TCP_FIN)) != 0 ? 1 : 0);
    (void)vnet_send(node, r);
}

/* ---------------------------------------------------------------------- its timers */

static void set_resend(struct vsock *s)
{
    struct vtcp *t = &s->t;
    bool waits = t->max != t->una || (t->peer_window == 0 && t->out.len > 0);
    if (!waits) {
        valarm_off(vsock_clock(s), &t->resend);
        t->stuck_since_us = 0;
        return;
    }
    if (t->stuck_since_us == 0)
        t->stuck_since_us = now_us(s);
    if (!valarm_is_set(&t->resend))
        valarm_set(vsock_clock(s), &t->resend, now_us(s) + t->rto_us);
}

static void measure(struct vsock *s, uint32_t ack)
{
    struct vtcp *t = &s->t;
    if (t->timed_us == 0 || after(ack, t->timed_seq) <= 0)
        return;
    uint64_t rtt = now_us(s) - t->timed_us;
    t->timed_us = 0;
    if (t->min_rtt_us == 0 || rtt < t->min_rtt_us)
        t->min_rtt_us = rtt;
    if (t->srtt_us == 0) {
        t->srtt_us = rtt;
        t->var_us = rtt / 2;
    } else {
        uint64_t off = rtt > t->srtt_us ? rtt - t->srtt_us : t->srtt_us - rtt;
        t->var_us = (3 * t->var_us + off) / 4;
        t->srtt_us = (7 * t->srtt_us + rtt) / 8;
    }
    /* As Linux: where every round trip is alike it is not repeated with the answer. */
    uint64_t spread = 4 * t->var_us;
    t->rto_us = t->srtt_us + (spread > RTO_MIN_US ? spread : RTO_MIN_US);
}

/* It is over; the program learns why when it next looks. */
static void die(struct vsock *s, int err)
{
    struct vtcp *t = &s->t;
    struct vsock *parent = t->parent;
    for (unsigned i = 0; parent != NULL && i < parent->t.waiting_count; i++)
        if (parent->t.waiting[i] == s) {
            memmove(&parent->t.waiting[i], &parent->t.waiting[i + 1],
                    (--parent->t.waiting_count - i) * sizeof(s));
            break;
        }
    if (parent != NULL)
        s->orphan = true;
    t->parent = NULL;
    t->state = TCP_OVER;
    s->err = err;
    valarm_off(vsock_clock(s), &t->resend);
    valarm_off(vsock_clock(s), &t->keep);
    vsock_tell(s, POLLIN | POLLOUT);
}

/* The last statement of whatever may have ended it. */
static void free_if_done(struct vsock *s)
{
    if (s->orphan && s->t.state == TCP_OVER)
        vsock_free(s);
}

static bool is_stuck_for_good(const struct vsock *s)
{
    const struct vtcp *t = &s->t;
    unsigned limit = t->state != TCP_OPEN ? SYN_REPEATS
                     : s->orphan          ? ORPHAN_REPEATS
                                          : REPEATS;
    uint64_t patience = (uint64_t)s->options[VSOCK_GIVE_UP_MS] * 1000;
    return t->repeats > limit || (patience > 0 && t->state == TCP_OPEN &&
                                  now_us(s) - t->stuck_since_us >= patience);
}

static void send_syn(struct vsock *s)
{
    bool answers = s->t.state == TCP_ANSWERS;
    send_segment(s, s->t.una, answers ? TCP_SYN | TCP_ACK : TCP_SYN, 0, 0);
}

static void on_resend(void *ctx)
{
    struct vsock *s = ctx;
    struct vtcp *t = &s->t;
    t->repeats++;
    if (is_stuck_for_good(s)) {
        die(s, ETIMEDOUT);
        free_if_done(s);
        return;
    }
    t->rto_us = 2 * t->rto_us < RTO_MAX_US ? 2 * t->rto_us : RTO_MAX_US;
    t->timed_us = 0;
    if (t->state != TCP_OPEN) {
        send_syn(s);
    } else if (t->peer_window == 0 && t->max == t->una) {
        send_segment(s, t->una, TCP_ACK, 0, 1); /* is it still shut? */
        t->nxt = t->max = t->una + 1;
        t->repeats = s->orphan ? t->repeats : 0; /* asked as long as it is answered */
    } else {
        size_t flight = t->max - t->una;
        t->threshold = flight / 2 > 2 * t->mss ? flight / 2 : 2 * t->mss;
        t->cwnd = t->mss;
        t->recovering = false;
        t->same_acks = 0;
        t->nxt = t->una;
        vtcp_output(s);
    }
    set_resend(s);
}

/* The end of a connection whose program is gone. */
static void on_keep(void *ctx)
{
    struct vsock *s = ctx;
    struct vtcp *t = &s->t;
    if (s->orphan) {
        die(s, ETIMEDOUT);
        free_if_done(s);
        return;
    }
    uint64_t idle = (uint64_t)s->options[VSOCK_KEEP_IDLE_S] * SECOND;
    uint64_t gap = (uint64_t)s->options[VSOCK_KEEP_GAP_S] * SECOND;
    if (now_us(s) < t->heard_us + idle || t->max != t->una) {
        t->probes = 0;
        valarm_set(vsock_clock(s), &t->keep,
                   t->max != t->una ? now_us(s) + idle : t->heard_us + idle);
        return;
    }
    if ((int)t->probes++ >= s->options[VSOCK_KEEP_COUNT]) {
        send_reset(s);
        die(s, ETIMEDOUT);
        return;
    }
    send_segment(s, t->una - 1, TCP_ACK, 0, 0);
    valarm_set(vsock_clock(s), &t->keep, now_us(s) + gap);
}

void vtcp_watch_silence(struct vsock *s)
{
    if (s->options[VSOCK_KEEPALIVE] && s->t.state == TCP_OPEN && !s->orphan)
        valarm_set(vsock_clock(s), &s->t.keep,
                   s->t.heard_us + (uint64_t)s->options[VSOCK_KEEP_IDLE_S] * SECOND);
}

void vtcp_init(struct vsock *s)
{
    s->t.rto_us = RTO_FIRST_US;
    s->t.mss = 536;
    s->t.resend = (struct valarm){.cb = on_resend, .ctx = s};
    s->t.keep = (struct valarm){.cb = on_keep, .ctx = s};
    s->options[VSOCK_KEEP_IDLE_S] = 7200;
    s->options[VSOCK_KEEP_GAP_S] = 75;
    s->options[VSOCK_KEEP_COUNT] = 9;
}

void vtcp_fini(struct vsock *s)
{
    valarm_off(vsock_clock(s), &s->t.resend);
    valarm_off(vsock_clock(s), &s->t.keep);
    free(s->t.in.data);
    free(s->t.out.data);
    while (s->t.early != NULL) {
        struct early *e = s->t.early;
        s->t.early = e->next;
        free(e);
    }
}

/* ------------------------------------------------------------------------ outwards */

/* Sends what window and congestion permit from `nxt` on. */
void vtcp_output(struct vsock *s)
{
    struct vtcp *t = &s->t;
    if (t->state != TCP_OPEN)
        return;
    for (;;) {
        size_t flight = t->nxt - t->una;
        size_t window = t->peer_window < t->cwnd ? t->peer_window : t->cwnd;
        size_t rest = t->out.len > flight ? t->out.len - flight : 0;
        size_t room = window > flight ? window - flight : 0;
        size_t n = rest < t->mss ? rest : t->mss;
        if (n > room)
            n = room;
        bool fin = t->end_wanted && !t->end_acked && flight + n == t->out.len;
        if (n == 0 && !(fin && flight == t->out.len))
            break;
        if (n > 0 && n < t->mss && n < rest && flight > 0)
            break; /* no silly windows */
        if (t->timed_us == 0 && t->nxt == t->max) {
            t->timed_us = now_us(s);
            t->timed_seq = t->nxt;
        }
        send_segment(s, t->nxt, (uint8_t)(TCP_ACK | (fin ? TCP_FIN : 0)), flight, n);
        t->nxt += (uint32_t)n + fin;
        if (after(t->nxt, t->max) > 0)
            t->max = t->nxt;
    }
    set_resend(s);
}

static void begin(struct vsock *s)
{
    struct vtcp *t = &s->t;
    t->una = (uint32_t)vclock_random(vsock_clock(s), UINT32_MAX);
    t->nxt = t->max = t->una + 1;
    t->timed_us = now_us(s);
    t->timed_seq = t->una;
    send_syn(s);
    set_resend(s);
}

int vtcp_connect(struct vsock *s)
{
    s->t.state = TCP_CALLS;
    s->t.mss = own_mss(s);
    begin(s);
    return -EINPROGRESS;
}

static void take_syn(struct vsock *s, const struct vpacket *syn)
{
    struct vtcp *t = &s->t;
    t->got = syn->tcp.seq + 1;
    t->peer_window = syn->tcp.window;
    t->mss = own_mss(s);
    if (syn->tcp.mss > 0 && syn->tcp.mss < t->mss)
        t->mss = syn->tcp.mss;
    t->cwnd = WINDOW_FIRST * t->mss;
    t->threshold = SIZE_MAX / 2;
}

void vtcp_answer(struct vsock *s, const struct vpacket *syn)
{
    s->t.state = TCP_ANSWERS;
    s->remote = syn->from;
    take_syn(s, syn);
    begin(s);
}

/* A reader made room. Once the other end has sent all, it need not know, and may have
 * forgotten the connection. */
void vtcp_opened_window(struct vsock *s)
{
    if (s->t.state == TCP_OPEN && !s->t.ended && s->t.window_was_shut &&
        own_window(s) >= 2 * s->t.mss)
        send_ack(s);
}

/* After both ends: TIME_WAIT is not kept; who ends it is forgotten by its port. */
static void look_for_end(struct vsock *s)
{
    struct vtcp *t = &s->t;
    if (!t->end_acked || !s->orphan || t->state != TCP_OPEN)
        return;
    if (!t->ended && s->options[VSOCK_LINGER2] < 0)
        send_reset(s);
    if (t->ended || s->options[VSOCK_LINGER2] < 0)
        t->state = TCP_OVER;
    else if (!valarm_is_set(&t->keep))
        valarm_set(vsock_clock(s), &t->keep, now_us(s) + GOODBYE_US);
}

void vtcp_close(struct vsock *s)
{
    struct vtcp *t = &s->t;
    if (t->state == TCP_LISTENS) {
        t->state = TCP_IDLE;
        while (t->waiting_count > 0) {
            struct vsock *w = t->waiting[--t->waiting_count];
            w->t.parent = NULL;
            send_reset(w);
            vsock_free(w);
        }
        for (struct vsock *c = s->stack->socks, *next; c != NULL; c = next) {
            next = c->next;
            if (c->t.parent == s) /* half open */
                vsock_free(c);
        }
    }
    if (t->state == TCP_OPEN && t->in.len == 0 && !s->options[VSOCK_ABORT]) {
        s->orphan = true;
        t->end_wanted = true;
        vtcp_output(s);
        look_for_end(s);
        free_if_done(s);
        return;
    }
    send_reset(s);
    vsock_free(s);
}

/* ------------------------------------------------------------------------- inwards */

static void grow(struct vtcp *t, size_t acked)
{
    if (t->cwnd < t->threshold)
        t->cwnd += acked < t->mss ? acked : t->mss;
    else
        t->cwnd += t->mss * t->mss / t->cwnd + 1;
}

/* The first segment that was not acknowledged, once more. */
static void resend_first(struct vsock *s)
{
    struct vtcp *t = &s->t;
    size_t n = t->out.len < t->mss ? t->out.len : t->mss;
    bool fin = t->end_wanted && n == t->out.len && !t->end_acked;
    t->timed_us = 0;
    send_segment(s, t->una, (uint8_t)(TCP_ACK | (fin ? TCP_FIN : 0)), 0, n);
}

static void on_same_ack(struct vsock *s)
{
    struct vtcp *t = &s->t;
    if (t->recovering) {
        t->cwnd += t->mss;
    } else if (++t->same_acks == 3) {
        size_t flight = t->max - t->una;
        t->threshold = flight / 2 > 2 * t->mss ? flight / 2 : 2 * t->mss;
        t->cwnd = t->threshold + 3 * t->mss;
        t->recovering = true;
        t->recover = t->max;
        resend_first(s);
    }
}

static void on_new_ack(struct vsock *s, uint32_t ack)
{
    struct vtcp *t = &s->t;
    size_t acked = ack - t->una;
    measure(s, ack);
    size_t bytes = acked < t->out.len ? acked : t->out.len;
    if (acked > t->out.len && t->end_wanted)
        t->end_acked = true;
    fifo_skip(&t->out, bytes);
    t->una = ack;
    if (after(t->nxt, t->una) < 0)
        t->nxt = t->una;
    t->repeats = t->same_acks = 0;
    t->stuck_since_us = 0;
    valarm_off(vsock_clock(s), &t->resend);
    if (t->recovering && after(ack, t->recover) < 0) {
        resend_first(s);
    } else {
        if (t->recovering)
            t->cwnd = t->threshold;
        t->recovering = false;
        grow(t, bytes);
    }
    if (bytes > 0 && t->out.len < VTCP_ROOM)
        vsock_tell(s, POLLOUT);
}

static void take_ack(struct vsock *s, const struct vpacket *p)
{
    struct vtcp *t = &s->t;
    uint32_t ack = p->tcp.ack;
    if ((p->tcp.flags & TCP_ACK) == 0 || after(ack, t->max) > 0)
        return;
    bool same_window = p->tcp.window == t->peer_window;
    t->peer_window = p->tcp.window;
    if (after(ack, t->una) > 0)
        on_new_ack(s, ack);
    else if (ack == t->una && p->len == 0 && same_window && t->max != t->una &&
             (p->tcp.flags & TCP_FIN) == 0)
        on_same_ack(s);
    vtcp_output(s);
}

/* In order: to the program. */
static void accept_bytes(struct vsock *s, const uint8_t *data, size_t len, bool fin)
{
    struct vtcp *t = &s->t;
    if (len > 0 && !t->no_more_reading)
        fifo_put(&t->in, data, len);
    t->got += (uint32_t)len;
    if (fin) {
        t->ended = true;
        t->got++;
    }
}

static void keep_early(struct vsock *s, const struct vpacket *p)
{
    struct early **at = &s->t.early;
    unsigned count = 0;
    while (*at != NULL && after((*at)->seq, p->tcp.seq) < 0) {
        at = &(*at)->next;
        count++;
    }
    if ((*at != NULL && (*at)->seq == p->tcp.seq && (*at)->len >= p->len) ||
        count > EARLY_MAX)
        return;
    struct early *e = calloc(1, sizeof(*e) + p->len);
    assert(e != NULL);
    e->seq = p->tcp.seq;
    e->len = p->len;
    e->fin = (p->tcp.flags & TCP_FIN) != 0;
    if (p->len > 0)
        memcpy(e->data, p->data, p->len);
    e->next = *at;
    *at = e;
}

static void take_early(struct vsock *s)
{
    struct vtcp *t = &s->t;
    while (t->early != NULL && after(t->early->seq, t->got) <= 0) {
        struct early *e = t->early;
        size_t old = t->got - e->seq;
        t->early = e->next;
        if (!t->ended && (old < e->len || (old == e->len && e->fin)))
            accept_bytes(s, e->data + old, e->len - old, e->fin);
        free(e);
    }
}

static void take_bytes(struct vsock *s, const struct vpacket *p)
{
    struct vtcp *t = &s->t;
    bool fin = (p->tcp.flags & TCP_FIN) != 0;
    if (p->len == 0 && !fin) {
        if (after(p->tcp.seq, t->got) < 0)
            send_ack(s); /* a keepalive, or a repeated handshake */
        return;
    }
    t->data_us = now_us(s);
    int32_t old = after(t->got, p->tcp.seq);
    if (old < 0) {
        if (p->len <= own_window(s))
            keep_early(s, p);
    } else if (!t->ended && p->len <= own_window(s) + (size_t)old &&
               ((size_t)old < p->len || ((size_t)old == p->len && fin))) {
        accept_bytes(s, p->data + old, p->len - (size_t)old, fin);
        take_early(s);
        vsock_tell(s, POLLIN);
    }
    send_ack(s);
}

static void on_open(struct vsock *s)
{
    struct vtcp *t = &s->t;
    struct vsock *parent = t->parent;
    t->state = TCP_OPEN;
    t->repeats = 0;
    t->stuck_since_us = 0;
    valarm_off(vsock_clock(s), &t->resend);
    if (t->rto_us > 3 * RTO_FIRST_US)
        t->rto_us = 3 * RTO_FIRST_US;
    vtcp_watch_silence(s);
    if (parent == NULL) {
        vsock_tell(s, POLLOUT);
        return;
    }
    if (parent->t.waiting_count < parent->t.backlog) {
        parent->t.waiting[parent->t.waiting_count++] = s;
        vsock_tell(parent, POLLIN);
    } else {
        send_reset(s);
        die(s, ECONNRESET);
    }
}

/* While it calls or answers. */
static void handshake(struct vsock *s, const struct vpacket *p)
{
    struct vtcp *t = &s->t;
    bool syn = (p->tcp.flags & TCP_SYN) != 0, ack = (p->tcp.flags & TCP_ACK) != 0;
    if (ack && p->tcp.ack != t->una + 1) {
        if (t->state == TCP_CALLS)
            vtcp_refuse(s->stack->node, p);
        return;
    }
    if (t->state == TCP_CALLS && syn) {
        take_syn(s, p);
        if (!ack) { /* both call at once */
            t->state = TCP_ANSWERS;
            send_syn(s);
            return;
        }
    } else if (t->state == TCP_ANSWERS && syn && !ack) {
        send_syn(s);
        return;
    } else if (!ack || t->state == TCP_CALLS) {
        return;
    }
    measure(s, p->tcp.ack);
    t->una = t->nxt = t->max = p->tcp.ack;
    t->peer_window = p->tcp.window;
    on_open(s);
    if (syn && t->state == TCP_OPEN)
        send_ack(s);
    if (!syn && t->state == TCP_OPEN)
        take_bytes(s, p);
    vtcp_output(s);
}

static void take_reset(struct vsock *s, const struct vpacket *p)
{
    struct vtcp *t = &s->t;
    if (t->state == TCP_CALLS) {
        if ((p->tcp.flags & TCP_ACK) != 0 && p->tcp.ack == t->una + 1)
            die(s, ECONNREFUSED);
        return;
    }
    int32_t ahead = after(p->tcp.seq, t->got);
    if (ahead >= 0 && ahead <= VTCP_ROOM)
        die(s, t->ended && t->in.len == 0 ? EPIPE : ECONNRESET);
}

void vtcp_input(struct vsock *s, const struct vpacket *p)
{
    struct vtcp *t = &s->t;
    if ((int)p->ttl < s->options[VSOCK_MIN_TTL])
        return;
    t->heard_us = now_us(s);
    t->probes = 0;
    t->segments_in++;
    t->data_segments_in += p->len > 0;
    if ((p->tcp.flags & TCP_RST) != 0) {
        take_reset(s, p);
    } else if (t->state == TCP_CALLS || t->state == TCP_ANSWERS) {
        handshake(s, p);
    } else if (t->state == TCP_OPEN && (p->tcp.flags & TCP_SYN) != 0) {
        send_ack(s); /* a repeated one */
    } else if (t->state == TCP_OPEN && s->orphan && p->len > 0 &&
               after(p->tcp.seq + (uint32_t)p->len, t->got) > 0) {
        send_reset(s); /* nobody reads it any more */
        die(s, ECONNRESET);
    } else if (t->state == TCP_OPEN) {
        bool both = t->ended && t->end_acked;
        take_ack(s, p);
        take_bytes(s, p);
        if (!both && t->ended && t->end_acked)
            vsock_tell(s, POLLIN | POLLOUT); /* over both ways */
        look_for_end(s);
    }
    free_if_done(s);
}

void vtcp_icmp(struct vsock *s, const struct vpacket *p)
{
    struct vtcp *t = &s->t;
    size_t over = s->remote.family == ADDR_V6 ? TCP6_OVERHEAD : TCP4_OVERHEAD;
    switch (p->icmp.kind) {
    case VICMP_TOO_BIG:
        if (p->icmp.mtu > over && p->icmp.mtu - over < t->mss) {
            t->mss = p->icmp.mtu - over;
            t->nxt = t->una;
            vtcp_output(s);
        }
        return;
    case VICMP_EXPIRED:
        if (s->options[VSOCK_MIN_TTL] > 0)
            return;
        break;
    default:
        break;
    }
    if (t->state == TCP_CALLS)
        die(s, p->icmp.kind == VICMP_PORT ? ECONNREFUSED : EHOSTUNREACH);
    free_if_done(s);
}

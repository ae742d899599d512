/*
 * When a session works: once in a loop round after something touched it, and when its
 * timer fires. A round delivers what arrived, moves to the path that is wanted, sends,
 * and arms the timer. Knows when, not what: packets are output.c's, life is
 * session.c's.
 */
#include "io/clock.h"
#include "session/internal.h"

#include <sched.h>

/*
 * A conversation of small messages at a quick pace waits for the next one awake, since
 * putting the processor to sleep and waking it costs more than the message: round trips
 * between near peers take half the time. Others (bulk, a slow typist, a far peer)
 * sleep.
 */
enum {
    LINGER_NS = 60000,       /* how long to wait awake */
    LINGER_GAP_NS = 200000,  /* only when the round before is no older */
    LINGER_BYTES_MAX = 8192, /* a round that moves more is bulk */
    LINGER_BULK_NS = 2000000 /* and none of those for so long */
};

static void arm_timer(struct session *s)
{
    uint64_t now = clock_ns(), next = UINT64_MAX;
    if (s->current != NULL) {
        next = ngtcp2_conn_get_expiry(s->conn);
        if (s->pending.buf != NULL && next < now + 5 * NGTCP2_MILLISECONDS)
            next = now + 5 * NGTCP2_MILLISECONDS; /* the path is full */
        uint64_t keep = s->keeps_alive ? keepalive_deadline_us(&s->keep) : UINT64_MAX;
        if (keep < next / 1000)
            next = keep * 1000;
    }
    uint64_t steer = steer_deadline_ns(s);
    if (steer < next)
        next = steer;
    if (next == UINT64_MAX || (s->armed_ns != 0 && s->armed_ns <= next))
        return; /* an earlier wake-up looks again */
    if (next <= now)
        next = now + 1000;
    timer_at_ns(&s->timer, next);
    s->armed_ns = next;
}

static void tell_open(struct session *s)
{
    if (!s->open || s->told_open || s->fail_err != 0 || s->freed)
        return;
    s->told_open = true;
    s->events->on_open(s->ctx);
}

/* Everything that one round does; the session may be freed in its events. */
static void run_round(struct session *s)
{
    s->busy = true;
    s->in_round = true;
    tell_open(s); /* before what came with the end of the handshake */
    if (!s->freed && s->fail_err == 0)
        meta_deliver(s);
    if (!s->freed)
        stream_flush_touched(s);
    if (!s->freed && s->fail_err == 0)
        steer_run(s);
    if (!s->freed && s->fail_err == 0)
        steer_renew(s);
    if (!s->freed && !s->closed && s->fail_err == 0) {
        bool more = output_run(s);
        s->in_round = false;
        if (more || s->touched != NULL)
            session_touch(s); /* others get their turn first */
    }
    s->in_round = false;
    if (!s->freed && !s->closed && s->fail_err != 0) {
        s->closed = true;
        s->events->on_close(s->ctx, s->fail_err, s->fail_why);
    } else if (!s->freed && !s->closed) {
        arm_timer(s);
    }
}

/* Is this a quick conversation of small messages? Looked at after each round. */
static bool lingers(struct session *s)
{
    uint64_t now = clock_ns(), moved = s->sent_bytes + s->received_bytes;
    bool quick =
        now - s->round_ns < LINGER_GAP_NS && moved - s->round_bytes <= LINGER_BYTES_MAX;
    s->round_ns = now;
    s->round_bytes = moved;
    return quick;
}

static void on_turn(void *ctx)
{
    struct session *s = ctx;
    if (s->closed)
        return;
    if (s->round_due) {
        s->round_due = false;
        run_round(s);
        if (!s->freed && !s->closed && lingers(s))
            timer_start(&s->turn, 0);
        session_leave(s);
    } else if (clock_ns() - s->round_ns < LINGER_NS) {
        timer_start(&s->turn, 0);
        (void)sched_yield(); /* the message may come from a program on this processor */
    }
}

void session_touch(struct session *s)
{
    if (s->turn.loop == NULL || s->closed || s->in_round)
        return;
    s->round_due = true;
    if (!timer_is_active(&s->turn))
        timer_start(&s->turn, 0);
}

/* ----------------------------------------------------------------------- the timer */

static void on_timer(void *ctx)
{
    struct session *s = ctx;
    if (s->closed)
        return;
    s->armed_ns = 0;
    s->busy = true;
    uint64_t now = clock_ns();
    if (s->current != NULL && ngtcp2_conn_get_expiry(s->conn) <= now) {
        int rc = ngtcp2_conn_handle_expiry(s->conn, now);
        if (rc != 0)
            session_fail(s,
                         rc == NGTCP2_ERR_HANDSHAKE_TIMEOUT ? POSTERN_ERR_TIMEOUT
                                                            : POSTERN_ERR_CLOSED,
                         "the other device did not answer the handshake");
    }
    if (s->fail_err == 0 && s->keeps_alive && s->current != NULL &&
        keepalive_due(&s->keep, now / 1000))
        paths_ask(&s->net, now / 1000);
    if (!s->freed)
        session_touch(s);
    session_leave(s);
}

void round_init(struct session *s)
{
    timer_init(&s->timer, s->env->loop, on_timer, s);
    timer_init(&s->turn, s->env->loop, on_turn, s);
}

void round_stop(struct session *s)
{
    timer_stop(&s->turn);
    timer_stop(&s->timer);
}

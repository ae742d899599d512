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
// clang-format off
static const uint8_t turn_next[] = {
    [TURN_NONE] = 1u << TURN_DUE,
    [TURN_DUE]  = 1u << TURN_RUNS,
    [TURN_RUNS] = 1u << TURN_NONE,
};
// clang-format on

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
        uint64_t pause = flight_pause_until_ns(s);
        if (pause > now) /* nothing leaves before, and perhaps something waits */
            next = pause;
        uint64_t keep = s->keeps_alive ? keepalive_deadline_us(&s->keep) : UINT64_MAX;
        if (keep < next / 1000)
            next = keep * 1000;
    }
    uint64_t steer = steer_deadline_ns(s);
    if (steer < next)
        next = steer;
    uint64_t bundle = bundle_deadline_ns(s);
    if (bundle < next)
        next = bundle;
    uint64_t copies = copies_deadline_ns(s);
    if (copies < next)
        next = copies;
    uint64_t stall = stall_deadline_ns(s);
    if (stall < next)
        next = stall;
    if (next == UINT64_MAX || (s->armed_ns != 0 && s->armed_ns <= next))
        return; /* an earlier wake-up looks again */
    if (next <= now)
        next = now + 1000;
    timer_at_ns(&s->timer, next);
    s->armed_ns = next;
}

static void tell_open(struct session *s)
{
    if (s->life != LIFE_SECURE)
        return;
    STATE_GO(session_life_next, s->life, LIFE_OPEN);
    s->events->on_open(s->ctx);
}

/* Everything that one round does; the session may be freed in its events. */
static void run_round(struct session *s)
{
    bool more = false;
    STATE_GO(session_use_next, s->use, USE_BUSY);
    STATE_GO(turn_next, s->turn, TURN_RUNS);
    tell_open(s); /* before what came with the end of the handshake */
    if (session_lives(s))
        meta_deliver(s);
    if (s->use != USE_FREED) /* also of one that has failed: those bytes were whole */
        stream_flush_touched(s);
    if (session_lives(s))
        steer_run(s);
    if (session_lives(s))
        stall_run(s);
    if (session_lives(s))
        bundle_run(s, clock_ns());
    if (session_lives(s))
        steer_renew(s);
    if (session_lives(s))
        more = output_run(s) || !list_empty(&s->touched);
    STATE_GO(turn_next, s->turn, TURN_NONE);
    if (s->life == LIFE_FAILED) {
        STATE_GO(session_life_next, s->life, LIFE_CLOSED);
        s->events->on_close(s->ctx, s->fail_err, s->fail_why);
    } else if (session_lives(s)) {
        if (more)
            session_touch(s); /* others get their turn first */
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
    if (s->life == LIFE_CLOSED)
        return;
    if (s->turn == TURN_DUE) {
        run_round(s);
        if (session_lives(s) && lingers(s))
            timer_start(&s->next_turn, 0);
        session_leave(s);
    } else if (clock_ns() - s->round_ns < LINGER_NS) {
        timer_start(&s->next_turn, 0);
        (void)sched_yield(); /* the message may come from a program on this processor */
    }
}

void session_touch(struct session *s)
{
    if (s->next_turn.loop == NULL || s->life == LIFE_CLOSED || s->turn == TURN_RUNS)
        return;
    STATE_GO(turn_next, s->turn, TURN_DUE);
    if (!timer_is_active(&s->next_turn))
        timer_start(&s->next_turn, 0);
}

/* ----------------------------------------------------------------------- the timer */

static void on_timer(void *ctx)
{
    struct session *s = ctx;
    if (s->life == LIFE_CLOSED)
        return;
    s->armed_ns = 0;
    STATE_GO(session_use_next, s->use, USE_BUSY);
    uint64_t now = clock_ns();
    if (s->current != NULL && ngtcp2_conn_get_expiry(s->conn) <= now) {
        int rc = ngtcp2_conn_handle_expiry(s->conn, now);
        if (rc != 0)
            session_fail(s,
                         rc == NGTCP2_ERR_HANDSHAKE_TIMEOUT ? POSTERN_ERR_TIMEOUT
                                                            : POSTERN_ERR_CLOSED,
                         "the other device did not answer the handshake");
        opening_on_expiry(s);
    }
    if (session_lives(s) && s->keeps_alive && s->current != NULL &&
        keepalive_due(&s->keep, now / 1000))
        paths_ask(&s->net, now / 1000);
    session_touch(s);
    session_leave(s);
}

void round_init(struct session *s)
{
    timer_init(&s->timer, s->env->loop, on_timer, s);
    timer_init(&s->next_turn, s->env->loop, on_turn, s);
}

void round_stop(struct session *s)
{
    timer_stop(&s->next_turn);
    timer_stop(&s->timer);
}

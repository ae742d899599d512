/*
 * Whether a connection to the broker that stands still lives: keepalives, doubts, and
 * what a change of the network does to it. Knows neither how one is made nor what it
 * carries (uplink.c).
 */
#include "path/uplink_internal.h"

#include "core/least.h"
#include "io/clock.h"
#include "io/netmon.h"

enum {
    PONG_TIMEOUT_US = 5000000,
    PONG_SLOW_US = 30000000, /* at most, while the relay is heard */
    RELAY_LATELY_US = 2000000,
    /* What is said need not be answered, but puts a ping off: not for longer than this.
     */
    UNANSWERED_US = 2000000,
    DELAYED_ACK_US = 200000, /* a kernel may keep an acknowledgement back for so long */
    LATE_TIMES = 2,  /* as late as answers are, before another is begun beside */
    LATE_US = 50000, /* so late, a timer says that this program did not run */
};

/* When a ping was not answered for so long, a second connection is begun beside. */
#define PATIENCE_KEEPALIVE_US 2500000u /* or four round trips */
#define PATIENCE_SUSPECT_US 250000u    /* or two: something is wrong already */
#define PATIENCE_HASTE_US                                                              \
    100000u                       /* or half of one: the dial takes another, and is    \
                                     dropped unless that comes before the answer */
#define PATIENCE_WATCH_US 150000u /* and two, for the answer of a kernel */
#define PATIENCE_CHANGE_US                                                             \
    100000u /* or two: the network is another one, or may be                           \
             */

/*
 * What arrives, on this connection or through our relay pair, says that the way to the
 * broker stands and that a full line makes answers wait. One that is silent alone, as
 * NATs forget one and not the other, is replaced by the one beside.
 */
static uint64_t give_up_at(const struct uplink *u)
{
    const struct net *n = u->config.net;
    uint64_t patience =
        PONG_TIMEOUT_US + 4 * max64(uplink_rtt_us(u), uplink_late_us(u));
    uint64_t relay =
        n->relay_heard_us + RELAY_LATELY_US + 4 * (uint64_t)n->relay_rtt_us;
    uint64_t at = max64(u->heard_us + patience, relay);
    return max64(u->pinged_us + patience, min64(at, u->pinged_us + PONG_SLOW_US));
}

/* When the broker's kernel was heard last. */
static uint64_t kernel_heard(const struct uplink *u, uint64_t now)
{
    return now - channel_silent_ms(u->line->channel) * 1000ull;
}

/* Since when, or from when on, the broker's kernel owes ours an answer: to a question,
 * or to a message. */
static uint64_t asked_at(const struct uplink *u, uint64_t now)
{
    uint64_t heard = kernel_heard(u, now), asked = heard + WATCH_S * 1000000ull;
    if (u->said_us > heard)
        asked = min64(asked, u->said_us + DELAYED_ACK_US);
    return asked;
}

static uint64_t watch_at(const struct uplink *u, uint64_t now)
{
    if (!uplink_is_watched(u))
        return UINT64_MAX;
    return asked_at(u, now) + PATIENCE_WATCH_US +
           max64(2ull * uplink_rtt_us(u), LATE_TIMES * uplink_late_us(u));
}

void uplink_on_said(struct uplink *u)
{
    uint64_t now = clock_us();
    bool first = u->spoke_us == 0;
    if (first)
        u->spoke_us = now;
    if (uplink_is_watched(u) && u->said_us <= kernel_heard(u, now)) {
        u->said_us = now;
        first = true;
    }
    if (first)
        uplink_arm(u);
}

/* What came by our relay pair since then says that the line is slow, and not dead. */
static uint64_t watch_patience_us(const struct uplink *u, uint64_t now)
{
    bool slow = u->config.net->relay_heard_us > asked_at(u, now);
    return slow ? PATIENCE_KEEPALIVE_US : PATIENCE_SUSPECT_US;
}

/* A ping is on its way that was given more time than a kernel takes that owes it too.
 */
static bool may_hasten(const struct uplink *u, uint64_t at)
{
    return u->pinging && u->beside == NULL &&
           at + watch_patience_us(u, at) < u->beside_us;
}

void uplink_arm(struct uplink *u)
{
    uint64_t now = clock_us(), at = keepalive_deadline_us(&u->keep);
    if (!u->pinging)
        at = min64(at, watch_at(u, now));
    if (!u->pinging && u->spoke_us != 0 && u->spoke_us + UNANSWERED_US < at)
        at = u->spoke_us + UNANSWERED_US;
    if (u->pinging) {
        uint64_t watch = watch_at(u, now);
        at = give_up_at(u);
        if (!uplink_line_is_connected(u->beside) && u->beside_us < at)
            at = u->beside_us;
        if (watch < at && may_hasten(u, max64(now, watch)))
            at = watch;
    }
    u->due_us = at > now ? at + 1000 : now;
    uplink_set_timer(u, at > now ? (at - now) / 1000 + 1 : 0);
}

static bool is_unanswered(const struct uplink *u, uint64_t now)
{
    return u->spoke_us != 0 && now >= u->spoke_us + UNANSWERED_US;
}

/* Asks whether the connection lives, and begins another beside it if that takes long.
 */
static void ping(struct uplink *u, unsigned round_trips, uint64_t patience_us)
{
    Control m = {.which_body = Control_ping_tag, .body.ping.nonce = clock_us()};
    uint64_t now = clock_us(), rtt_us = uplink_rtt_us(u);
    if (patience_us > 0)
        patience_us = max64(
            patience_us, max64(round_trips * rtt_us, LATE_TIMES * uplink_late_us(u)));
    if (!u->pinging) {
        u->pinged_us = now;
        u->beside_ms = 0;
    }
    /* The one beside is given its time, however many doubts there are. */
    if (!u->pinging || (u->beside == NULL && now + patience_us < u->beside_us))
        u->beside_us = now + patience_us;
    u->pinging = true;
    /* First: what the new way's router hears of us first shall be our address there. */
    if (u->beside == NULL && patience_us == 0)
        uplink_begin_beside(u);
    int rc = uplink_send(u, &m);
    if (rc != 0 && rc != POSTERN_ERR_LIMIT) { /* at its bound: what waits asks as well
                                               */
        uplink_line_failed(u->line, rc);
        return;
    }
    uplink_arm(u);
}

/* A busy machine: the answer may have come and not been read yet. It is read first. */
static bool was_late(struct uplink *u, uint64_t now)
{
    if (!u->pinging || now < u->due_us + LATE_US)
        return false;
    u->pinged_us += now - u->due_us;
    u->beside_us += now - u->due_us + LATE_US;
    uplink_arm(u);
    return true;
}

void uplink_on_up_timer(struct uplink *u)
{
    uint64_t now = clock_us();
    if (was_late(u, now))
        return;
    if (u->pinging && now >= give_up_at(u)) {
        keepalive_on_dead(&u->keep);
        uplink_line_failed(u->line, POSTERN_ERR_TIMEOUT);
        return;
    }
    if (u->pinging && !uplink_line_is_connected(u->beside) && now >= u->beside_us) {
        uplink_begin_beside(u);
    } else if (!u->pinging && now >= watch_at(u, now)) {
        ping(u, 2, watch_patience_us(u, now));
        return;
    } else if (may_hasten(u, now) && now >= watch_at(u, now)) {
        u->beside_us = now + watch_patience_us(u, now);
    }
    if (!u->pinging && (keepalive_due(&u->keep, now) || is_unanswered(u, now))) {
        ping(u, 4, PATIENCE_KEEPALIVE_US);
        return;
    }
    uplink_arm(u);
}

void uplink_suspect(struct uplink *u)
{
    if (u->state == UPLINK_UP && uplink_may_go_round(u))
        ping(u, 2, PATIENCE_CHANGE_US);
    else if (u->state == UPLINK_UP)
        ping(u, 0, max64(PATIENCE_HASTE_US, uplink_rtt_us(u) / 2));
    else if (!u->fatal)
        uplink_hurry(u);
}

void uplink_ask(struct uplink *u)
{
    uplink_refresh(u);
    uplink_hurry(u);
}

void uplink_refresh(struct uplink *u)
{
    if (u->state == UPLINK_UP && !u->pinging)
        ping(u, 4, PATIENCE_KEEPALIVE_US);
}

/* A try that was begun in the network as it is now goes on. */
static bool still_good(const struct line *l)
{
    return l->channel != NULL &&
           netmon_way_of(&l->local, &l->remote) == NETMON_WAY_SAME;
}

static void address_gone(struct uplink *u)
{
    (void)fault_set(&u->fault, POSTERN_ERR_CLOSED, ADVICE_RETRIED,
                    "this machine lost the address from which it was connected to the "
                    "broker");
    u->fatal = false;
    uplink_connect_now(u);
    u->config.events->on_down(u->config.ctx, &u->fault, 0, false);
}

void uplink_kick(struct uplink *u)
{
    comeback_reset(&u->comeback);
    if (u->beside != NULL && !still_good(u->beside)) {
        uplink_line_free(u->beside);
        u->beside = NULL;
    }
    if (u->state != UPLINK_UP) {
        if (u->state == UPLINK_WAITING || !still_good(u->line)) {
            uplink_drop_lines(u);
            u->state = UPLINK_WAITING;
            uplink_set_timer(u, 0);
        }
        return;
    }
    switch (netmon_way_of(&u->line->local, &u->line->remote)) {
    case NETMON_WAY_GONE:
        address_gone(u);
        break;
    case NETMON_WAY_OTHER:
        ping(u, 0, 0);
        break;
    case NETMON_WAY_SAME:
        ping(u, 2, PATIENCE_CHANGE_US);
        break;
    }
}

/*
 * relay: packets through the broker, which joins two TCP connections and reads
 * neither. Works wherever the broker can be reached at all.
 *
 * Until the pair stands, a few packets travel inside the control connections (Carry),
 * so that the first byte never waits for a handshake with the broker. When the pair
 * breaks they do so again until a new one stands.
 *
 * A pair on which nothing comes any more is kept while its connection stands, for a
 * line that has become slow delivers what is under way: another is made beside it, and
 * whichever answers first carries.
 *
 * A network may swallow what is large without a word, and TCP would send it again for
 * ever. Where a pair has just been joined and then takes nothing, the next one has
 * small segments, and so have all from this address. Where one chokes that has carried,
 * while the connection to the broker, whose segments are small, goes on, only the pair
 * in its place has them: a NAT that forgets makes the broker's connection a new one.
 */
#include "path/kind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/relay_preface.h"
#include "io/clock.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/log.h"
#include "io/sock.h"
#include "io/tlspipe.h"
#include "path/framed.h"

enum {
    DIAL_FIRST_MS = 1500, /* and two round trips; doubling with each failure */
    DIAL_TIMEOUT_MS = 8000,
    JOIN_TIMEOUT_MS = 4000,
    ANSWER_MS = 1500, /* and four round trips: then something swallows what we say */
    RETRY_FIRST_MS = 500,
    RETRY_MAX_MS = 30000,
    NO_PAIR_FIRST_MS = 5000, /* doubling up to NO_PAIR_MAX_MS */
    NO_PAIR_MAX_MS = 80000,
    TICKET_WAIT_MS = 500,    /* from the host's answer: then ours was lost */
    TICKET_LOST_US = 500000, /* and four round trips */
    FORGOTTEN_MS = 300,      /* without a word, while it was spoken to */
    /* A fresh pair is looked at so often whether it takes what it is given. */
    LOOK_MS = 250,
    LOOKS = 12,
};

struct relay;

struct carry_path {
    struct path base; /* first: struct path * points here */
    struct relay *relay;
};

struct relay {
    struct approach *approach;
    struct carry_path carry; /* through the control connections */
    struct framed *pair;     /* through the joined TCP pair; NULL while there is none */
    bool carry_listed, carry_proven, running;
    uint8_t ticket[TICKET_LEN];
    struct reach *dial;
    bool by_tls;               /* this try */
    bool heard;                /* the broker answered it */
    uint64_t waiting_us;       /* for the other side, since then */
    struct addr local, remote; /* of the connection to the broker */
    struct addr broker;        /* where it was dialled */
    int fd;                    /* dialled, not joined yet */
    struct watch watch;
    struct timer timer; /* join timeout, or the pause before asking again */
    unsigned failures;
    uint32_t lost, peer_lost; /* halves of pairs that broke, here and there */
    uint32_t lost_told;
    char note[200]; /* why the broker has no pair for us; empty: it has */
    bool small;     /* this try, or the pair, has small segments */
    bool
        fails; /* a pair carried nothing: the next one has segments of the other kind */
    bool choked;           /* the pair that was: what is large was swallowed */
    uint64_t joined_us;    /* the pair was */
    unsigned looks, stuck; /* left at the pair; in a row at which it was stuck */
    bool doubted; /* another is asked for because nothing came through the pair */
    bool renewed; /* a new connection to the broker came after the pair */
    bool busy, freed;
};

static void on_byte(void *ctx, int events);
static void on_timer(void *ctx);

static struct net *net_of(struct relay *r)
{
    return approach_config_of(r->approach)->net;
}

static void set_timer(struct relay *r, uint64_t ms)
{
    timer_start(&r->timer, ms);
}

/* Two answers may be as late as others over this line are. */
static unsigned late_ms(struct relay *r)
{
    struct uplink *u = approach_config_of(r->approach)->uplink;
    return 2 * (unsigned)(uplink_late_us(u) / 1000);
}

static unsigned doubled(unsigned ms, unsigned times, unsigned max_ms)
{
    while (times-- > 0 && ms < max_ms)
        ms *= 2;
    return ms < max_ms ? ms : max_ms;
}

/* Doubling with each failure, from the upper half of it. */
static unsigned pause_ms(struct relay *r, unsigned first_ms, unsigned max_ms)
{
    unsigned ms = doubled(first_ms, r->failures++, max_ms);
    return ms - randombytes_uniform(ms / 2);
}

/* ---------------------------------------------------------------- the carried path */

static int carry_send(struct path *p, const uint8_t *buf, size_t len,
                      size_t segment_len)
{
    struct relay *r = ((struct carry_path *)p)->relay;
    for (size_t at = 0; at < len; at += segment_len)
        approach_carry(r->approach, buf + at,
                       len - at < segment_len ? len - at : segment_len);
    return 0;
}

static const struct path_ops carry_ops = {carry_send};

/* There is none, or nothing comes through it. */
static bool wants_pair(const struct relay *r)
{
    return r->pair == NULL || framed_path(r->pair)->silent;
}

static bool is_trying(const struct relay *r)
{
    return r->dial != NULL || r->fd >= 0;
}

/* What is carried starts where the connection to the broker does. */
static void carry_place(struct relay *r)
{
    const struct uplink *u = approach_config_of(r->approach)->uplink;
    uplink_local(u, &r->carry.base.local);
    r->carry.base.remote = *uplink_broker_addr(u);
}

static void carry_works(struct relay *r)
{
    if (r->carry_proven || r->pair != NULL || !r->running)
        return;
    r->carry_proven = true;
    r->carry.base.rtt_us = approach_rtt_hint_us(r->approach);
    carry_place(r);
    approach_proven(r->approach, &r->carry.base);
}

static void carry_list(struct relay *r)
{
    if (r->carry_listed)
        return;
    r->carry_listed = true;
    r->carry.base.id = approach_next_path_id(r->approach);
    approach_path_new(r->approach, &r->carry.base);
}

/* ----------------------------------------------------------------- the joined pair */

static bool is_thin_here(struct relay *r)
{
    struct addr here, *thin = &net_of(r)->thin;
    uplink_local(approach_config_of(r->approach)->uplink, &here);
    here.port = thin->port;
    return thin->family != ADDR_NONE && addr_equal(&here, thin);
}

static void socket_close(struct relay *r)
{
    net_of(r)->relay_dials -= r->dial != NULL;
    reach_cancel(r->dial);
    r->dial = NULL;
    watch_close(&r->watch);
    if (r->fd >= 0) /* NATs keep what ends in order for longer */
        linger_break(r->fd);
    r->fd = -1;
}

/* `why`: given up; NULL: no more wanted. */
static void forget(struct relay *r, struct framed *pair, const char *why)
{
    if (why != NULL)
        approach_lost(r->approach, framed_path(pair), why);
    approach_path_retire(r->approach, framed_path(pair));
    if (why != NULL) /* who sees an end in order takes it for the program's */
        framed_reset(pair);
    framed_free(pair);
}

/* Forgets the pair, and carries again when that was `why`. */
static void pair_drop(struct relay *r, const char *why)
{
    struct framed *pair = r->pair;
    if (pair == NULL)
        return;
    r->pair = NULL;
    if (why != NULL) {
        r->carry_proven = false;
        if (uplink_is_up(approach_config_of(r->approach)->uplink))
            carry_works(r);
    }
    forget(r, pair, why);
}

/* A client asks for another pair before long. */
static void ask_later(struct relay *r)
{
    if (r->running && approach_config_of(r->approach)->client)
        set_timer(r, pause_ms(r, RETRY_FIRST_MS, RETRY_MAX_MS));
}

/* The try to make a pair is over; one that stands, stands. */
static void try_failed(struct relay *r, const char *why)
{
    log_debug("relay: %s", why);
    socket_close(r);
    timer_stop(&r->timer);
    if (r->pair == NULL && r->lost != r->lost_told)
        approach_offer_soon(r->approach);
    if (wants_pair(r))
        ask_later(r);
}

/* Go on carrying, until the try that is under way makes a new one, or another. */
static void pair_broke(struct relay *r, const char *why)
{
    pair_drop(r, why);
    r->lost++;
    if (is_trying(r)) /* the broker ends the old one when the new one is joined */
        return;
    approach_offer_soon(r->approach); /* the peer's half is worth nothing now */
    /* What broke it may have broken the connection to the broker, unheard. */
    uplink_suspect(approach_config_of(r->approach)->uplink);
    ask_later(r);
}

static void on_pair_broke(void *ctx, struct framed *f, const char *why)
{
    struct relay *r = ctx;
    (void)f;
    r->busy = true;
    pair_broke(r, why);
    r->busy = false;
    if (r->freed)
        free(r);
}

static void on_joined(struct relay *r)
{
    int fd = r->fd;
    r->fd = -1;
    socket_close(r); /* the poll, not the connection */
    struct framed *old = r->pair, *pair;
    r->failures = 0;
    r->looks = r->small ? 0 : LOOKS;
    r->stuck = 0;
    r->renewed = false;
    r->joined_us = clock_us();
    set_timer(r, LOOK_MS);
    if (framed_new(&pair, net_of(r), fd, PATH_RELAY, approach_next_path_id(r->approach),
                   on_pair_broke, r) != 0) {
        close(fd);
        try_failed(r, "out of memory");
        return;
    }
    r->pair = pair;
    struct path *p = framed_path(r->pair);
    p->rtt_us *= 2;  /* the socket ends at the broker */
    if (r->by_tls) { /* and the path's at TLS, on this side */
        p->local = r->local;
        p->remote = r->remote;
        p->rtt_us = approach_rtt_hint_us(r->approach);
    }
    net_of(r)->relay_by_tls = r->by_tls;
    approach_path_new(r->approach, p);
    approach_proven(r->approach, p);
    if (old != NULL)
        forget(r, old, "the relay pair is made anew");
    if (r->carry_proven) {
        r->carry_proven = false;
        approach_lost(r->approach, &r->carry.base, "the relay pair stands");
    }
}

static void on_dialed(void *ctx, int err, int fd);

static bool is_choked(const struct relay *r)
{
    struct uplink *u = approach_config_of(r->approach)->uplink;
    return r->pair != NULL && !r->small && framed_is_choked(r->pair, uplink_up_us(u));
}

static void dial(struct relay *r)
{
    struct uplink *u = approach_config_of(r->approach)->uplink;
    unsigned ms = doubled(DIAL_FIRST_MS + approach_rtt_hint_us(r->approach) / 1000,
                          r->failures, DIAL_TIMEOUT_MS) +
                  late_ms(r);
    r->heard = false;
    r->broker = *uplink_broker_addr(u);
    bool choked = r->choked || is_choked(r);
    if (choked)
        log_debug("relay: large segments are swallowed; this pair has small ones");
    r->small = choked || is_thin_here(r) || (r->fails && !r->small);
    r->fails = r->choked = false;
    if (uplink_reach(u, &r->dial, r->small, ms, on_dialed, r) != 0) {
        r->dial = NULL;
        try_failed(r, "the broker's relay cannot be reached");
        return;
    }
    net_of(r)->relay_dials++;
}

/*
 * The broker took no notice of our ticket: something on the way lets only TLS pass, it
 * may be, so the same ticket is shown inside TLS.
 */
static void not_heard(struct relay *r, const char *why)
{
    if (r->heard || r->by_tls) {
        try_failed(r, why);
        return;
    }
    socket_close(r);
    r->by_tls = true;
    dial(r);
}

static int wrap(struct relay *r, int fd)
{
    const struct uplink *uplink = approach_config_of(r->approach)->uplink;
    const struct link *broker = uplink_link(uplink);
    struct tlspipe_config c = {.loop = net_of(r)->loop,
                               .protocol = PROTO_ALPN_RELAY,
                               .expect = broker->broker_key,
                               .badge = uplink_badge(uplink)};
    return tlspipe_open(&c, fd);
}

static void on_dialed(void *ctx, int err, int fd)
{
    struct relay *r = ctx;
    uint8_t preface[RELAY_PREFACE_LEN];
    net_of(r)->relay_dials--;
    r->dial = NULL;
    if (err != 0) {
        try_failed(r, "the broker's relay cannot be reached");
        return;
    }
    (void)!sock_local(fd, &r->local);
    (void)!sock_remote(fd, &r->remote);
    if (r->by_tls)
        fd = wrap(r, fd);
    if (fd < 0) {
        try_failed(r, "out of memory");
        return;
    }
    r->fd = fd;
    relay_preface_encode(preface, r->ticket);
    if (watch_start(&r->watch, net_of(r)->loop, fd, WATCH_READ, on_byte, r) != 0) {
        try_failed(r, "out of memory");
        return;
    }
    set_timer(r, ANSWER_MS + 2 * approach_rtt_hint_us(r->approach) / 1000 + late_ms(r));
    if (!sock_say(fd, preface, sizeof(preface)))
        try_failed(r, "the broker's relay did not take our ticket");
}

/* Carrying goes on in its bounds, and the pair is asked for again. */
static void no_pair(struct relay *r, const char *why)
{
    (void)snprintf(r->note, sizeof(r->note), "%s; it is asked again by itself", why);
    log_debug("relay: %s", why);
    if (approach_config_of(r->approach)->client && r->running && wants_pair(r) &&
        !is_trying(r))
        set_timer(r, pause_ms(r, NO_PAIR_FIRST_MS, NO_PAIR_MAX_MS));
}

static void on_ticket(void *k, const uint8_t *ticket, const char *why_none)
{
    struct relay *r = k;
    if (ticket == NULL) {
        no_pair(r, why_none);
        return;
    }
    r->note[0] = '\0';
    if (r->doubted && !wants_pair(r)) { /* it was late, and answers again */
        r->doubted = false;
        return;
    }
    r->doubted = false;
    socket_close(r);
    memcpy(r->ticket, ticket, TICKET_LEN);
    r->by_tls = net_of(r)->relay_by_tls;
    dial(r);
}

/* The broker's one byte: the other side came too. */
static void on_byte(void *ctx, int events)
{
    struct relay *r = ctx;
    uint8_t byte = 0;
    (void)events;
    r->busy = true;
    ssize_t n = sock_read(r->fd, &byte, 1);
    if (n == 1 && byte == RELAY_JOINED) {
        on_joined(r);
    } else if (n == 1 && byte == RELAY_WAITING) {
        r->heard = true;
        r->waiting_us = clock_us();
        set_timer(r, JOIN_TIMEOUT_MS + 2 * approach_rtt_hint_us(r->approach) / 1000 +
                         late_ms(r));
    } else if (n != POSTERN_ERR_AGAIN) {
        not_heard(r, "the broker's relay did not take our ticket");
    }
    r->busy = false;
    if (r->freed)
        free(r);
}

/* ------------------------------------------------------------------------ the kind */

/*
 * What was small has just passed, and what is large does not: the session goes on where
 * it is, and another pair is made.
 */
static void pair_is_stuck(struct relay *r)
{
    log_debug("relay: large segments are swallowed; the next ones are small");
    r->looks = 0;
    net_of(r)->thin = framed_path(r->pair)->local;
    if (r->by_tls)
        net_of(r)->thin = r->local;
    r->busy = true;
    pair_broke(r, "the network swallows large packets");
    r->busy = false;
    if (r->freed)
        free(r);
}

static bool drop_forgotten(struct relay *r);

/* None stands any more, here or at the peer. */
static void ask_for_pair(struct relay *r)
{
    if (!is_trying(r))
        approach_introduce_soon(r->approach);
    approach_offer_soon(r->approach);
}

static void look_at_pair(struct relay *r)
{
    if (r->looks == 0)
        return;
    r->looks--;
    if (r->renewed) {
        r->busy = true;
        if (drop_forgotten(r))
            ask_for_pair(r);
        else
            set_timer(r, LOOK_MS);
        r->busy = false;
        if (r->freed)
            free(r);
        return;
    }
    r->stuck = framed_is_stuck(r->pair) ? r->stuck + 1 : 0;
    unsigned patience_ms = late_ms(r) + 2 * approach_rtt_hint_us(r->approach) / 1000;
    if (r->stuck * LOOK_MS > patience_ms)
        pair_is_stuck(r);
    else
        set_timer(r, LOOK_MS);
}

static void on_timer(void *ctx)
{
    struct relay *r = ctx;
    if (r->pair != NULL && !wants_pair(r) && !is_trying(r))
        look_at_pair(r);
    else if (r->fd >= 0)
        not_heard(r, r->heard ? "the other side did not come to the relay"
                              : "the broker's relay does not answer");
    else if (r->running && r->dial == NULL && wants_pair(r))
        approach_introduce_soon(r->approach);
}

static void *relay_new(struct approach *a, enum path_kind kind)
{
    (void)kind;
    struct relay *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->approach = a;
    r->fd = -1;
    r->carry = (struct carry_path){
        .base = {.ops = &carry_ops, .kind = PATH_RELAY, .meagre = true}, .relay = r};
    timer_init(&r->timer, approach_config_of(a)->net->loop, on_timer, r);
    if (approach_config_of(a)->allowed & (1u << PATH_RELAY))
        carry_list(r);
    return r;
}

static void relay_start(void *k)
{
    struct relay *r = k;
    bool again = r->running && wants_pair(r) && !is_trying(r);
    r->running = true;
    carry_list(r);
    approach_started(r->approach, PATH_RELAY);
    if (again)
        approach_introduce_soon(r->approach);
}

static void relay_stop(void *k)
{
    struct relay *r = k;
    r->running = false;
    r->carry_proven = false;
    timer_stop(&r->timer);
    socket_close(r);
    pair_drop(r, NULL);
}

static void relay_free(void *k)
{
    struct relay *r = k;
    socket_close(r);
    framed_free(r->pair);
    r->pair = NULL;
    timer_stop(&r->timer);
    r->freed = true;
    if (!r->busy)
        free(r);
}

static void relay_fill_offer(void *k, Offer *o)
{
    struct relay *r = k;
    /* Who has a newer one, or makes it, would only have the peer drop its half of it.
     */
    if (r->pair == NULL && !is_trying(r))
        r->lost_told = r->lost;
    o->relay_lost = r->lost_told;
}

/* The peer's half of our pair is gone, which the broker may not know yet. */
static void peer_lost_pair(struct relay *r)
{
    socket_close(r);
    pair_drop(r, "the other side's connection to the relay broke");
    if (r->running)
        approach_introduce_soon(r->approach);
}

static void relay_on_offer(void *k, const Offer *o, bool renewed)
{
    struct relay *r = k;
    (void)renewed;
    if (o->relay_lost > r->peer_lost) {
        r->peer_lost = o->relay_lost;
        if (r->pair != NULL)
            peer_lost_pair(r);
    }
    carry_works(r); /* the peer heard us through the broker, and we hear it */
    /* It is there, and has not come to the relay: its ticket was lost on the way. */
    if (approach_config_of(r->approach)->client && r->running && r->fd >= 0 &&
        r->heard &&
        clock_us() - r->waiting_us >
            TICKET_LOST_US + 2ull * approach_rtt_hint_us(r->approach)) {
        socket_close(r);
        approach_introduce_soon(r->approach);
    }
    if (approach_config_of(r->approach)->client && r->running && wants_pair(r) &&
        !is_trying(r) && !timer_is_active(&r->timer))
        set_timer(r, pause_ms(r, TICKET_WAIT_MS, RETRY_MAX_MS));
}

static void relay_on_carry(void *k, const uint8_t *packet, size_t len)
{
    struct relay *r = k;
    r->busy = true;
    carry_works(r);
    path_deliver(&r->carry.base, packet, len, len);
    r->busy = false;
    if (r->freed)
        free(r);
}

/*
 * The try to make a pair began at an address that is not ours any more, or not the
 * broker's. A client whose connection to the broker is a new one asks for another
 * ticket anyway.
 */
static bool is_stale(const struct relay *r, bool up)
{
    const struct approach_config *c = approach_config_of(r->approach);
    if (r->fd >= 0 && netmon_way_of(&r->local, &r->remote) == NETMON_WAY_GONE)
        return true;
    return up && (c->client || !addr_equal(&r->broker, uplink_broker_addr(c->uplink)));
}

/* The broker was found elsewhere: a pair that is joined where it was is worth nothing.
 */
static void follow_broker(struct relay *r)
{
    const struct addr *now =
        uplink_broker_addr(approach_config_of(r->approach)->uplink);
    if (r->pair == NULL || now->family == ADDR_NONE || addr_equal(&r->broker, now))
        return;
    pair_drop(r, "the broker is at another address now");
    r->lost++;
}

/*
 * A new connection to the broker works, and the pair's has brought nothing since before
 * it was begun, not even an acknowledgement: what forgot the one before has forgotten
 * the pair, and the try that was under way. Where answers are late it may only be slow.
 */
static bool drop_forgotten(struct relay *r)
{
    if (r->pair == NULL || late_ms(r) > 0 || !framed_is_unheard(r->pair, FORGOTTEN_MS))
        return false;
    socket_close(r);
    pair_drop(r, "nothing came through the relay any more, but a new connection works");
    r->lost++;
    return true;
}

/* Nothing may have been said through the pair yet; and what it does not take now says
 * nothing of sizes. */
static void watch_forgotten(struct relay *r)
{
    if (drop_forgotten(r) || r->pair == NULL)
        return;
    r->renewed = true;
    r->looks = LOOKS;
    if (!is_trying(r) && !wants_pair(r))
        set_timer(r, LOOK_MS);
}

static void relay_on_uplink(void *k, bool up)
{
    struct relay *r = k;
    const struct approach_config *c = approach_config_of(r->approach);
    if (!r->running)
        return;
    if (!up && r->carry_proven) {
        r->carry_proven = false;
        approach_lost(r->approach, &r->carry.base, "the broker cannot be reached");
    }
    if (is_stale(r, up))
        socket_close(r);
    if (up) {
        carry_place(r);
        follow_broker(r);
        watch_forgotten(r);
        r->failures = 0; /* what failed before says nothing any more */
    }
    if (!up || !wants_pair(r))
        return;
    if (approach_is_established(r->approach)) /* what carried before carries again */
        carry_works(r);
    if (!is_trying(r))
        approach_introduce_soon(r->approach);
    if (!c->client)
        approach_offer_soon(r->approach); /* the client sees that we are back */
}

/*
 * Client: what the broker carries answers, and the pair does not any more. Another is
 * asked for at once, unless it is fresh, and may never have worked, or answers are
 * late.
 */
static void relay_on_used(void *k, struct path *p)
{
    struct relay *r = k;
    if (p != &r->carry.base || !approach_config_of(r->approach)->client ||
        !r->running || wants_pair(r) || is_trying(r) || late_ms(r) > 0 ||
        clock_us() - r->joined_us < LOOKS * LOOK_MS * 1000ull)
        return;
    framed_path(r->pair)->silent = r->doubted = true;
    approach_introduce_soon(r->approach);
}

static void relay_on_dead(void *k, struct path *p)
{
    struct relay *r = k;
    if (r->pair != NULL && p == framed_path(r->pair)) {
        socket_close(r);
        r->choked = is_choked(r);
        r->fails = true;
        pair_broke(r, "nothing came through the relay any more");
    } else if (p == &r->carry.base) {
        r->carry_proven = false;
        uplink_suspect(approach_config_of(r->approach)->uplink);
    }
}

static bool relay_on_silent(void *k, struct path *p)
{
    struct relay *r = k;
    if (r->pair == NULL || p != framed_path(r->pair) ||
        netmon_way_of(&p->local, &p->remote) == NETMON_WAY_GONE)
        return false;
    p->silent = r->doubted = true;
    uplink_suspect(approach_config_of(r->approach)->uplink);
    if (!is_trying(r))
        ask_later(r);
    return true;
}

/* What has shown its ticket goes on: the broker may have joined it, and ended this. */
static void relay_on_back(void *k, struct path *p)
{
    struct relay *r = k;
    if (r->pair == NULL || p != framed_path(r->pair) || r->fd >= 0)
        return;
    socket_close(r);
    timer_stop(&r->timer);
    r->failures = 0;
}

static const char *relay_note(void *k)
{
    const struct relay *r = k;
    return r->note[0] != '\0' && r->pair == NULL ? r->note : NULL;
}

const struct kind_ops relay_engine = {
    .new = relay_new,
    .free = relay_free,
    .start = relay_start,
    .stop = relay_stop,
    .fill_offer = relay_fill_offer,
    .on_offer = relay_on_offer,
    .on_ticket = on_ticket,
    .on_carry = relay_on_carry,
    .on_uplink = relay_on_uplink,
    .on_used = relay_on_used,
    .on_dead = relay_on_dead,
    .on_silent = relay_on_silent,
    .on_back = relay_on_back,
    .note = relay_note,
};

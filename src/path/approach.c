/*
 * One approach: kinds started and stopped as the ladder says, and when it is time to
 * speak to the peer by way of the broker, what is said, and what is done about its
 * words. Decides nothing itself: core/ladder does, and each kind's own machine. One
 * object that all of these share, which is why it is long: each entry ends in run().
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/introduction.h"
#include "core/least.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "path/accept.h"
#include "path/kind.h"
#include "path/offer.h"
#include "path/path_locals.h"

enum {
    FIRST_GENERATION = 1,
    OFFER_DELAY_MS = 2,   /* candidates that come together travel together */
    OFFER_SPACE_MS = 500, /* at most, where what we say waits in a queue */
    BACK_SPREAD_MS = 200, /* all clients of a host hear at once that it is back */
};

/* The other side can make us speak again and again: this much, whatever it says. */
static const struct pace_policy speaking = {.at_once = 32, .every_ms = 500};

/* The client's: it leads. */
struct lead {
    struct ladder ladder;
    struct introduction introduction;
    uint8_t early[1500]; /* the first packet, until it is answered */
    size_t early_len;
};

struct approach {
    struct approach_config config;
    struct lead *lead;             /* NULL at a host */
    void *kinds[PATH_KIND_COUNT];  /* NULL: was never begun */
    char *failed[PATH_KIND_COUNT]; /* at a host: why, since it last worked; or NULL */
    struct list paths;             /* struct path */
    uint8_t check_key[16];
    uint32_t next_path_id;
    uint32_t peer_generation, generation;
    uint32_t peer_network; /* the peer's count of its changes of network; 0: unknown */
    bool established;
    uint64_t established_us; /* the first time */
    bool peer_relays;        /* its latest Offer allows the relay */
    bool want_offer;
    uint64_t offer_at_ms, offered_ms; /* loop time */
    uint64_t signal_us;               /* when the peer last spoke through the broker */
    struct timer timer;
    struct pace said; /* used unless the configuration has one */
    struct target target;
    Offer *held;       /* direct kinds wait with it for approach_admit; else NULL */
    uint64_t admit_ms; /* that, by the clock; UINT64_MAX: by something else */
    struct accept accept;
    bool busy, freed;
};

static bool allows(const struct approach *a, enum path_kind k)
{
    return (a->config.allowed >> k & 1) != 0;
}

/* True while this kind must not begin: the peer has proven too little yet. */
static bool holds_back(const struct approach *a, enum path_kind k)
{
    return a->held != NULL && path_kind_is_direct(k);
}

/* The session goes without the relay: no pair of it tells the broker who has it. */
static bool is_unrelayed(const struct approach *a)
{
    return !allows(a, PATH_RELAY) || !a->peer_relays;
}

/* ---------------------------------------------------------------------- offers out */

/* Our Offer of this moment, sealed. */
static size_t seal_offer(struct approach *a, uint8_t *out, size_t cap)
{
    Offer o = {.generation = a->generation, .network = a->generation};
    memcpy(o.conv, a->config.conv, CONV_LEN);
    if (a->config.client) {
        o.fresh = !a->established;
        o.check_key.size = sizeof(a->check_key);
        memcpy(o.check_key.bytes, a->check_key, sizeof(a->check_key));
    }
    if (a->config.has_invite) {
        o.invite_id.size = INVITE_ID_LEN;
        memcpy(o.invite_id.bytes, a->config.invite_id, INVITE_ID_LEN);
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        if (!allows(a, (enum path_kind)k))
            continue;
        offer_name(&o, (enum path_kind)k);
        if (kind_table[k]->fill_offer != NULL && a->kinds[k] != NULL)
            kind_table[k]->fill_offer(a->kinds[k], &o);
    }
    return offer_seal(out, cap, &o, &a->config.net->own, a->config.peer);
}

static int send_control(struct approach *a, Control *m)
{
    memcpy(m->peer, a->config.peer, KEY_LEN);
    memcpy(m->conv, a->config.conv, CONV_LEN);
    return uplink_send(a->config.uplink, m);
}

static bool send_introduce(struct approach *a)
{
    Control m = {.which_body = Control_introduce_tag};
    Introduce *in = &m.body.introduce;
    in->sealed.size =
        (pb_size_t)seal_offer(a, in->sealed.bytes, sizeof(in->sealed.bytes));
    in->vouched_count = (pb_size_t)target_show(
        &a->target, in->vouched, sizeof(in->vouched) / sizeof(in->vouched[0]));
    if (a->config.has_invite) {
        in->pass.size = INVITE_PASS_LEN;
        memcpy(in->pass.bytes, a->config.invite_pass, INVITE_PASS_LEN);
    }
    if (uplink_host_badge(a->config.uplink, a->config.peer, in->badge.bytes))
        in->badge.size = BADGE_HOST_LEN;
    in->early.size = (pb_size_t)a->lead->early_len;
    memcpy(in->early.bytes, a->lead->early, a->lead->early_len);
    if (send_control(a, &m) != 0)
        return false;
    a->want_offer = false;
    return true;
}

static void send_offer(struct approach *a)
{
    Control m = {.which_body = Control_signal_tag};
    Signal *s = &m.body.signal;
    s->sealed.size = (pb_size_t)seal_offer(a, s->sealed.bytes, sizeof(s->sealed.bytes));
    s->vouched_count = (pb_size_t)target_show(
        &a->target, s->vouched, sizeof(s->vouched) / sizeof(s->vouched[0]));
    if (send_control(a, &m) != 0)
        return;
    a->want_offer = false;
    a->offered_ms = loop_now_ms(a->config.net->loop);
}

/*
 * Each Offer says all that is known. Where the one before waits in the line's queue, a
 * while longer gathers what is found meanwhile.
 */
static uint64_t offer_space_ms(const struct approach *a)
{
    uint32_t rtt_us = uplink_rtt_us(a->config.uplink);
    uint32_t least_us = uplink_min_rtt_us(a->config.uplink);
    uint64_t queued_ms = rtt_us > least_us ? (rtt_us - least_us) / 1000 : 0;
    return queued_ms < OFFER_SPACE_MS ? queued_ms : OFFER_SPACE_MS;
}

/* ---------------------------------------------------------------------- scheduling */

/* What is due then may be said not before this. */
static uint64_t paced_ms(const struct approach *a, uint64_t at)
{
    uint64_t now = loop_now_ms(a->config.net->loop);
    return max64(at, pace_free_ms(a->config.said, &speaking, now));
}

/* Loop times; UINT64_MAX: none is to be sent. */
static uint64_t introduce_at_ms(const struct approach *a)
{
    return a->lead != NULL ? paced_ms(a, introduction_due_ms(&a->lead->introduction))
                           : UINT64_MAX;
}

static uint64_t offer_at_ms(const struct approach *a)
{
    bool known = a->lead == NULL || introduction_was_said(&a->lead->introduction);
    return a->want_offer && known ? paced_ms(a, a->offer_at_ms) : UINT64_MAX;
}

static void schedule(struct approach *a)
{
    uint64_t now_us = clock_us(), at = min64(a->admit_ms, accept_due_ms(&a->accept, a));
    uint64_t ladder_us =
        a->lead != NULL ? ladder_deadline_us(&a->lead->ladder) : UINT64_MAX;
    loop_refresh(a->config.net->loop);
    uint64_t now = loop_now_ms(a->config.net->loop);
    if (ladder_us != UINT64_MAX) /* a client's: nothing else waits */
        at = now + (ladder_us > now_us ? (ladder_us - now_us) / 1000 + 1 : 0);
    /* What cannot be sent yet sets no wake-up: approach_on_uplink does, or an answer.
     */
    if (uplink_is_up(a->config.uplink)) {
        if (introduce_at_ms(a) < at)
            at = introduce_at_ms(a);
        if (offer_at_ms(a) < at)
            at = offer_at_ms(a);
    }
    if (at == UINT64_MAX)
        timer_stop(&a->timer);
    else
        timer_start(&a->timer, at > now ? at - now : 1);
}

static void send_due(struct approach *a)
{
    uint64_t now = loop_now_ms(a->config.net->loop);
    if (!uplink_is_up(a->config.uplink))
        return;
    bool introduce = now >= introduce_at_ms(a), offer = now >= offer_at_ms(a);
    if (introduce || offer)
        pace_spend(a->config.said, &speaking, now);
    if (introduce)
        introduction_on_sent(&a->lead->introduction, send_introduce(a),
                             now + approach_rtt_hint_us(a) / 1000); /* it takes that */
    else if (offer)
        send_offer(a);
}

/* A kind's state is made when it first begins: most approaches need few of them. */
static void *kind_make(struct approach *a, enum path_kind k)
{
    if (a->kinds[k] == NULL && allows(a, k))
        a->kinds[k] = kind_table[k]->new (a, k);
    return a->kinds[k];
}

static void kind_start(struct approach *a, enum path_kind k)
{
    if (kind_make(a, k) != NULL)
        kind_table[k]->start(a->kinds[k]);
    else
        approach_failed(a, k, "out of memory");
}

const struct list *approach_paths(const struct approach *a)
{
    return &a->paths;
}

struct path *approach_path(const struct approach *a, uint32_t id)
{
    LIST_EACH (struct path, p, &a->paths, link)
        if (p->id == id)
            return p;
    return NULL;
}

static void climb(struct approach *a)
{
    struct ladder_action act;
    ladder_set_late(&a->lead->ladder, lateness_us(&a->config.net->late, clock_us()));
    for (int i = 0;
         i < 64 && !a->freed && ladder_next(&a->lead->ladder, clock_us(), &act); i++) {
        switch (act.type) {
        case LADDER_START:
            kind_start(a, act.kind);
            break;
        case LADDER_STOP:
            if (a->kinds[act.kind] != NULL)
                kind_table[act.kind]->stop(a->kinds[act.kind]);
            break;
        case LADDER_SELECT:
            a->config.events->on_select(
                a->config.ctx,
                act.kind == PATH_KIND_NONE ? NULL : approach_path(a, act.path_id));
            break;
        }
    }
}

static void begin_waiting(struct approach *a)
{
    uint64_t now = loop_now_ms(a->config.net->loop);
    if (now >= accept_due_ms(&a->accept, a))
        accept_ask(&a->accept, a);
    if (now >= a->admit_ms)
        approach_admit(a);
}

/* True when it was freed meanwhile, and is gone now. */
static bool leave(struct approach *a)
{
    bool freed = a->freed;
    a->busy = a->freed = false;
    if (freed)
        approach_free(a);
    return freed;
}

/* Everything that is due; the last thing that every entry does. */
static void run(struct approach *a)
{
    if (a->busy || a->freed)
        return;
    a->busy = true;
    loop_refresh(a->config.net->loop);
    if (a->lead != NULL)
        climb(a);
    else
        begin_waiting(a);
    if (!a->freed)
        send_due(a);
    if (!leave(a))
        schedule(a);
}

static void on_timer(void *ctx)
{
    run(ctx);
}

static void poke(struct approach *a)
{
    if (!a->busy && !a->freed)
        timer_start(&a->timer, 0);
}

/* --------------------------------------------------------------- services to kinds */

const struct approach_config *approach_config_of(const struct approach *a)
{
    return &a->config;
}

struct target *approach_target(struct approach *a)
{
    return &a->target;
}

bool approach_is_established(const struct approach *a)
{
    return a->established;
}

uint64_t approach_age_us(const struct approach *a)
{
    return a->established ? clock_us() - a->established_us : 0;
}

const uint8_t *approach_check_key(const struct approach *a)
{
    return a->check_key;
}

uint32_t approach_next_path_id(struct approach *a)
{
    return ++a->next_path_id;
}

uint32_t approach_rtt_hint_us(const struct approach *a)
{
    return 2 * uplink_rtt_us(a->config.uplink);
}

void approach_started(struct approach *a, enum path_kind k)
{
    if (a->lead != NULL)
        ladder_on_started(&a->lead->ladder, k, clock_us());
    poke(a);
}

static void keep_reason(struct approach *a, enum path_kind k, const char *reason)
{
    free(a->failed[k]);
    a->failed[k] = reason != NULL ? strdup(reason) : NULL;
}

void approach_proven(struct approach *a, struct path *p)
{
    keep_reason(a, p->kind, NULL);
    if (a->lead != NULL)
        ladder_on_proven(&a->lead->ladder, p->kind, p->id, p->rtt_us, clock_us());
    if (a->lead != NULL && p->window_bytes != 0)
        ladder_on_window(&a->lead->ladder, p->id, p->window_bytes);
    a->config.events->on_proven(a->config.ctx, p);
    poke(a);
}

void approach_failed(struct approach *a, enum path_kind k, const char *reason)
{
    log_debug("%s: %s", path_kind_name(k), reason);
    if (a->lead != NULL)
        ladder_on_failed(&a->lead->ladder, k, reason, clock_us());
    else
        keep_reason(a, k, reason);
    poke(a);
}

void approach_busy(struct approach *a, enum path_kind k, const char *reason,
                   uint64_t wait_ms)
{
    log_debug("%s: %s", path_kind_name(k), reason);
    if (a->lead != NULL)
        ladder_on_busy(&a->lead->ladder, k, reason, wait_ms * 1000, clock_us());
    else
        keep_reason(a, k, reason);
    poke(a);
}

void approach_lost(struct approach *a, struct path *p, const char *reason)
{
    log_debug("%s path %u lost: %s", path_kind_name(p->kind), p->id, reason);
    if (a->lead != NULL)
        ladder_on_lost(&a->lead->ladder, p->id, reason, clock_us());
    poke(a);
}

void approach_path_new(struct approach *a, struct path *p)
{
    list_push(&a->paths, &p->link);
    if (!a->freed)
        a->config.events->on_path(a->config.ctx, p);
}

/* The ladder holds none that is gone: it would choose it, and the session has no such.
 */
void approach_path_retire(struct approach *a, struct path *p)
{
    list_remove(&p->link);
    if (a->lead != NULL)
        ladder_on_lost(&a->lead->ladder, p->id, "its place was taken by another path",
                       clock_us());
    poke(a);
    a->config.events->on_path_gone(a->config.ctx, p);
}

void approach_offer_soon(struct approach *a)
{
    if (a->want_offer)
        return;
    a->want_offer = true;
    uint64_t at = a->offered_ms + offer_space_ms(a);
    a->offer_at_ms = loop_now_ms(a->config.net->loop) + OFFER_DELAY_MS;
    if (a->offer_at_ms < at)
        a->offer_at_ms = at;
    if (!a->busy && !a->freed)
        schedule(a);
}

void approach_introduce_soon(struct approach *a)
{
    if (a->lead == NULL)
        return;
    introduction_again(&a->lead->introduction, 0);
    poke(a);
}

void approach_carry(struct approach *a, const uint8_t *packet, size_t len)
{
    Control m = {.which_body = Control_carry_tag};
    struct lead *l = a->lead;
    if (len > sizeof(m.body.carry.packet.bytes))
        return;
    if (l != NULL && !introduction_is_answered(&l->introduction) && !a->established) {
        /* It travels with each introduction, so that the one that arrives suffices. */
        bool said = introduction_was_said(&l->introduction);
        if (said || l->early_len == 0) {
            memcpy(l->early, packet, len);
            l->early_len = len;
        }
        if (!said)
            return;
    }
    if (!uplink_may_carry(a->config.uplink, len))
        return; /* lost: the session will send less */
    m.body.carry.packet.size = (pb_size_t)len;
    memcpy(m.body.carry.packet.bytes, packet, len);
    if (send_control(a, &m) != 0)
        log_debug("a packet could not be carried by the broker");
}

/* ----------------------------------------------------------------------- offers in */

/* Kinds that the peer does not allow are refused here with that reason. */
static void apply_peer_kinds(struct approach *a, uint32_t theirs)
{
    a->peer_relays = (theirs >> PATH_RELAY & 1) != 0;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        if (((a->config.allowed & ~theirs) >> k & 1) == 0)
            continue;
        if (a->kinds[k] != NULL)
            kind_table[k]->stop(a->kinds[k]);
        ladder_refuse(&a->lead->ladder, (enum path_kind)k,
                      "the other side does not allow it");
    }
}

/*
 * A host that began anew was out of reach for a while, and what we told it by then went
 * into a connection that was dead: it would wait for our addresses, and we for its
 * checks, until the round is over.
 */
static void tell_again(struct approach *a, uint32_t generation)
{
    if (!a->established && generation > max64(a->peer_generation, FIRST_GENERATION))
        approach_offer_soon(a);
}

static void take_offer(struct approach *a, const Offer *o)
{
    if (a->config.client && o->fresh) {
        a->signal_us = 0; /* that is no sign of who has the session */
        a->config.events->on_forgotten(a->config.ctx);
        return;
    }
    bool renewed = o->generation > a->peer_generation && a->peer_generation != 0;
    if (o->generation < a->peer_generation)
        return;
    if (a->lead != NULL)
        tell_again(a, o->generation);
    a->peer_generation = o->generation;
    target_hear(&a->target, o);
    if (renewed && a->established)
        a->config.events->on_renewed(a->config.ctx);
    if (a->lead != NULL) {
        introduction_on_offer(&a->lead->introduction);
        apply_peer_kinds(a, offer_kinds(o));
        if (o->network > a->peer_network && a->peer_network != 0)
            ladder_on_peer_change(&a->lead->ladder, clock_us());
        a->peer_network = o->network;
    }
    if (a->held != NULL)
        *a->held = *o;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL && kind_table[k]->on_offer != NULL &&
            !holds_back(a, (enum path_kind)k))
            kind_table[k]->on_offer(a->kinds[k], o, renewed);
}

static void take_sealed(struct approach *a, const Vouch *vouched, size_t n,
                        const uint8_t *sealed, size_t len)
{
    Offer o;
    target_take(&a->target, vouched, n, clock_us());
    if (offer_open(&o, &a->config.net->own, a->config.peer, a->config.conv, sealed,
                   len) != 0)
        log_debug("dropped an offer that is not genuine");
    else
        take_offer(a, &o);
}

static void take_ticket(struct approach *a, const Ticket *t)
{
    if (!allows(a, PATH_RELAY))
        return;
    bool none = t->ticket.size != TICKET_LEN;
    /* It is of the host's Accept. Its Offer may wait behind what is carried, and each
     * time that more is asked another pair takes the place of the one before. */
    if (a->lead != NULL && a->established)
        introduction_on_ticket(&a->lead->introduction);
    kind_table[PATH_RELAY]->on_ticket(
        a->kinds[PATH_RELAY], none ? NULL : t->ticket.bytes, none ? t->reason : NULL);
}

static void take_packet(struct approach *a, const uint8_t *packet, size_t len)
{
    if (len > 0 && allows(a, PATH_RELAY))
        kind_table[PATH_RELAY]->on_carry(a->kinds[PATH_RELAY], packet, len);
}

static void take_introduce(struct approach *a, const Introduce *in)
{
    take_sealed(a, in->vouched, in->vouched_count, in->sealed.bytes, in->sealed.size);
    if (a->freed)
        return;
    accept_say(&a->accept, a, in->mark);
    approach_offer_soon(a); /* our answer */
    take_packet(a, in->early.bytes, in->early.size);
}

void approach_on_early(struct approach *a, const Introduce *in)
{
    a->busy = true;
    take_packet(a, in->early.bytes, in->early.size);
    if (!leave(a))
        run(a);
}

static void take_refusal(struct approach *a, const Refuse *r)
{
    struct introduction *in = a->lead != NULL ? &a->lead->introduction : NULL;
    uint64_t now = loop_now_ms(a->config.net->loop);
    bool answered = in != NULL && introduction_is_answered(in);
    switch (r->code) {
    case REFUSE_BACK:
        if (in != NULL && !answered &&
            introduction_due_ms(in) > now + BACK_SPREAD_MS) /* it is not about to be */
            introduction_again(in, now + randombytes_uniform(BACK_SPREAD_MS));
        return;
    case REFUSE_SILENT:
        if (answered)
            return; /* it was answered since */
        break;
    case REFUSE_OFFLINE:
    case REFUSE_ENDED:
        a->signal_us = 0;
        if (in != NULL)
            introduction_on_offline(in, now);
        break;
    case REFUSE_GONE:
    case REFUSE_BROKEN:
    case REFUSE_RESET:
        approach_ask(a);
        break;
    default:
        break;
    }
    a->config.events->on_refused(a->config.ctx, r->code, r->reason);
}

void approach_on_control(struct approach *a, const Control *m)
{
    const Introduce *in = &m->body.introduce;
    const Signal *signal = &m->body.signal;
    a->busy = true;
    switch (m->which_body) {
    case Control_introduce_tag: /* host: the client asks again */
        if (a->lead == NULL)
            take_introduce(a, in);
        break;
    case Control_ticket_tag:
        take_ticket(a, &m->body.ticket);
        break;
    case Control_signal_tag:
        a->signal_us = clock_us();
        take_sealed(a, signal->vouched, signal->vouched_count, signal->sealed.bytes,
                    signal->sealed.size);
        break;
    case Control_carry_tag:
        take_packet(a, m->body.carry.packet.bytes, m->body.carry.packet.size);
        break;
    case Control_refuse_tag:
        take_refusal(a, &m->body.refuse);
        break;
    default:
        break;
    }
    if (!leave(a))
        run(a);
}

/* ---------------------------------------------------------------------- life cycle */

static struct approach *approach_new(const struct approach_config *c)
{
    struct approach *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return NULL;
    a->config = *c;
    if (a->config.said == NULL)
        a->config.said = &a->said;
    a->generation = FIRST_GENERATION;
    a->admit_ms = UINT64_MAX;
    a->peer_relays = true;
    list_init(&a->paths);
    timer_init(&a->timer, c->net->loop, on_timer, a);
    return a;
}

/* The session begins on its path, before anything was started. */
static bool make_relay(struct approach *a)
{
    return !allows(a, PATH_RELAY) || kind_make(a, PATH_RELAY) != NULL;
}

static bool make_lead(struct approach *a)
{
    uint64_t seed;
    a->lead = calloc(1, sizeof(*a->lead));
    if (a->lead == NULL)
        return false;
    randombytes_buf(&seed, sizeof(seed));
    ladder_init(&a->lead->ladder, a->config.allowed, seed, clock_us());
    ladder_prefer(&a->lead->ladder, a->config.preferred);
    introduction_init(&a->lead->introduction, ~seed);
    return true;
}

int approach_new_client(struct approach **out, const struct approach_config *c)
{
    struct approach *a = approach_new(c);
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    randombytes_buf(a->check_key, sizeof(a->check_key));
    if (!make_lead(a) || !make_relay(a)) {
        approach_free(a);
        return POSTERN_ERR_NOMEM;
    }
    poke(a);
    *out = a;
    return 0;
}

static void start_at_host(struct approach *a, enum path_kind k, const Offer *offer)
{
    if (!allows(a, k))
        return;
    kind_start(a, k);
    if (a->kinds[k] != NULL && kind_table[k]->on_offer != NULL)
        kind_table[k]->on_offer(a->kinds[k], offer, false);
}

int approach_new_host(struct approach **out, const struct approach_config *c,
                      const Offer *offer, const Introduce *in)
{
    if (offer->check_key.size != sizeof(((struct approach *)0)->check_key))
        return POSTERN_ERR_PROTO;
    struct approach *a = approach_new(c);
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    memcpy(a->check_key, offer->check_key.bytes, sizeof(a->check_key));
    a->peer_generation = offer->generation;
    a->config.allowed &= offer_kinds(offer);
    bool holds = allows(a, PATH_RELAY) && (c->unlisted || !target_may_approach(a));
    if (holds)
        a->held = malloc(sizeof(*a->held));
    if (!make_relay(a) || (holds && a->held == NULL)) {
        approach_free(a);
        return POSTERN_ERR_NOMEM;
    }
    if (a->held != NULL)
        *a->held = *offer;
    target_take(&a->target, in->vouched, in->vouched_count, clock_us());
    *out = a;
    a->busy = true;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (!holds_back(a, (enum path_kind)k))
            start_at_host(a, (enum path_kind)k, offer);
    accept_say(&a->accept, a, in->mark);
    a->busy = false;
    a->want_offer = true;
    a->offer_at_ms = 0;
    poke(a);
    return 0;
}

/* What its host still says by it is nothing for this device's line. */
static void say_done(struct approach *a)
{
    Control m = {.which_body = Control_done_tag};
    if (a->lead != NULL && uplink_is_up(a->config.uplink) && send_control(a, &m) != 0)
        log_debug("the broker was not told that an approach is over");
}

void approach_settle(struct approach *a)
{
    LIST_EACH (struct path, p, &a->paths, link)
        p->settled = true;
}

void approach_free(struct approach *a)
{
    if (a == NULL || a->freed)
        return;
    if (a->busy) {
        a->freed = true;
        return;
    }
    a->freed = true;
    say_done(a);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL)
            kind_table[k]->stop(a->kinds[k]);
    LIST_EACH (struct path, p, &a->paths, link)
        a->config.events->on_path_gone(a->config.ctx, p);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL)
            kind_table[k]->free(a->kinds[k]);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        free(a->failed[k]);
    timer_stop(&a->timer);
    free(a->held);
    free(a->lead);
    sodium_memzero(a->check_key, sizeof(a->check_key));
    free(a);
}

struct path *approach_first_path(struct approach *a)
{
    if (!allows(a, PATH_RELAY))
        return NULL;
    LIST_EACH (struct path, p, &a->paths, link)
        if (p->kind == PATH_RELAY)
            return p;
    return NULL;
}

/* ----------------------------------------------------------------- owner's reports */

/* Host: what the handshake was to show first. */
static void begin_held(struct approach *a)
{
    target_proven(a);
    accept_ask(&a->accept, a);
    if (a->held == NULL || a->config.unlisted)
        return;
    a->admit_ms = loop_now_ms(a->config.net->loop) + TARGET_BRIEF_MS;
    if (target_may_hasten(a))
        approach_admit(a);
    else
        poke(a);
}

void approach_set_established(struct approach *a)
{
    bool first = !a->established;
    if (first)
        a->established_us = clock_us();
    a->established = true;
    if (a->lead != NULL)
        a->lead->early_len = 0;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL && kind_table[k]->on_established != NULL)
            kind_table[k]->on_established(a->kinds[k]);
    if (first && a->lead == NULL)
        begin_held(a);
}

void approach_admit(struct approach *a)
{
    Offer *offer = a->held;
    a->held = NULL;
    a->admit_ms = UINT64_MAX;
    a->config.unlisted = false;
    for (unsigned k = 0; k < PATH_KIND_COUNT && offer != NULL; k++)
        if (path_kind_is_direct((enum path_kind)k))
            start_at_host(a, (enum path_kind)k, offer);
    if (offer != NULL)
        approach_offer_soon(a);
    free(offer);
}

void approach_on_path_used(struct approach *a, struct path *p)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL && kind_table[k]->on_used != NULL)
            kind_table[k]->on_used(a->kinds[k], p);
}

void approach_on_path_dead(struct approach *a, struct path *p, const char *reason)
{
    approach_lost(a, p, reason);
    if (kind_table[p->kind]->on_dead != NULL)
        kind_table[p->kind]->on_dead(a->kinds[p->kind], p);
}

bool approach_on_path_silent(struct approach *a, struct path *p)
{
    const struct kind_ops *kind = kind_table[p->kind];
    return kind->on_silent != NULL && kind->on_silent(a->kinds[p->kind], p);
}

void approach_again(struct approach *a, enum path_kind kind)
{
    ladder_again(&a->lead->ladder, kind);
    poke(a);
}

void approach_on_path_back(struct approach *a, struct path *p)
{
    p->silent = false;
    if (kind_table[p->kind]->on_back != NULL)
        kind_table[p->kind]->on_back(a->kinds[p->kind], p);
}

void approach_on_path_rtt(struct approach *a, const struct path *p)
{
    if (a->lead == NULL)
        return;
    ladder_on_rtt(&a->lead->ladder, p->id, p->rtt_us);
    poke(a);
}

void approach_on_outdone(struct approach *a, enum path_kind kind, uint64_t own_bit_s,
                         enum path_kind rival, uint64_t rival_bit_s)
{
    ladder_on_outdone(&a->lead->ladder, kind, own_bit_s, rival, rival_bit_s);
    poke(a);
}

void approach_on_cleared(struct approach *a, enum path_kind kind)
{
    ladder_on_cleared(&a->lead->ladder, kind);
    poke(a);
}

void approach_forgive(struct approach *a)
{
    ladder_forgive(&a->lead->ladder);
    poke(a);
}

void approach_on_uplink(struct approach *a, bool up)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL && kind_table[k]->on_uplink != NULL)
            kind_table[k]->on_uplink(a->kinds[k], up);
    if (!up)
        return;
    if (a->lead != NULL)
        introduction_reset_pauses(&a->lead->introduction);
    approach_ask(a); /* the broker may be another one, and know nothing of us */
    poke(a);
}

void approach_ask(struct approach *a)
{
    if (!a->established)
        return;
    if (is_unrelayed(a))
        approach_introduce_soon(a);
    else
        approach_offer_soon(a); /* refused where the host is not there any more */
}

/* Nothing can come back there: no time to find out. The end of one may end others. */
static void drop_gone(struct approach *a)
{
    struct path *p;
    for (uint32_t id = 0; (p = path_find_gone(&a->paths, id)) != NULL;) {
        id = p->id;
        approach_on_path_dead(a, p, "the address that it started from is gone");
    }
}

void approach_on_network_change(struct approach *a)
{
    drop_gone(a);
    path_renew_locals(&a->paths);
    a->generation++;
    a->config.net->relay_by_tls = false;
    if (a->config.client) {
        ladder_on_network_change(&a->lead->ladder, clock_us());
        poke(a);
        return;
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (allows(a, (enum path_kind)k) && path_kind_is_direct((enum path_kind)k) &&
            !holds_back(a, (enum path_kind)k))
            kind_start(a, (enum path_kind)k);
    approach_offer_soon(a);
}

void approach_on_heard(struct approach *a)
{
    ladder_on_heard(&a->lead->ladder, clock_us());
    poke(a);
}

struct addr approach_peer_seen(const struct approach *a)
{
    return a->target.vouched[0].addr;
}

const struct ladder *approach_ladder(const struct approach *a)
{
    return &a->lead->ladder;
}

const char *approach_reason(const struct approach *a, enum path_kind k,
                            char buf[static LADDER_REASON_LEN])
{
    const char *note = a->kinds[k] != NULL && kind_table[k]->note != NULL
                           ? kind_table[k]->note(a->kinds[k])
                           : NULL;
    if (note == NULL)
        return ladder_reason(&a->lead->ladder, k, clock_us(), buf);
    (void)snprintf(buf, LADDER_REASON_LEN, "%s", note);
    return buf;
}

const char *approach_failure(const struct approach *a, enum path_kind k)
{
    return a->failed[k];
}

uint64_t approach_signal_us(const struct approach *a)
{
    return a->signal_us;
}

const uint8_t *approach_conv(const struct approach *a)
{
    return a->config.conv;
}

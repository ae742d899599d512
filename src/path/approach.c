/*
 * One approach: kinds started and stopped as the ladder says, and when it is time to
 * speak to the peer; what is said then is exchange.c's. Decides nothing itself:
 * core/ladder does, and each kind's own machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "path/exchange.h"

enum {
    INTRODUCE_RETRY_FIRST_MS = 700,
    INTRODUCE_RETRY_MAX_MS = 20000,
    OFFER_DELAY_MS = 2,   /* candidates that come together travel together */
    BACK_SPREAD_MS = 200, /* all clients of a host hear at once that it is back */
};

static void on_timer(void *ctx);
static void run(struct approach *a);

/* ---------------------------------------------------------------------- scheduling */

static void schedule(struct approach *a)
{
    uint64_t now_us = clock_us();
    uint64_t at = UINT64_MAX;
    uint64_t ladder_us = a->config.client ? ladder_deadline_us(&a->ladder) : UINT64_MAX;
    loop_refresh(a->config.net->loop);
    uint64_t now = loop_now_ms(a->config.net->loop);
    if (ladder_us != UINT64_MAX)
        at = now + (ladder_us > now_us ? (ladder_us - now_us) / 1000 + 1 : 0);
    /* What cannot be sent yet sets no wake-up: approach_on_uplink does, or an answer.
     */
    if (uplink_is_up(a->config.uplink)) {
        if (a->want_introduce && a->config.client && a->introduce_at_ms < at)
            at = a->introduce_at_ms;
        if (a->want_offer && (a->introduced || !a->config.client) &&
            a->offer_at_ms < at)
            at = a->offer_at_ms;
    }
    if (at == UINT64_MAX)
        timer_stop(&a->timer);
    else
        timer_start(&a->timer, at > now ? at - now : 1);
}

/* Until the host answers, the introduction is repeated with growing pauses. */
static void plan_introduce_retry(struct approach *a)
{
    unsigned shift = a->introduce_tries < 4 ? a->introduce_tries : 4;
    unsigned ms = (unsigned)INTRODUCE_RETRY_FIRST_MS << shift;
    ms = ms < INTRODUCE_RETRY_MAX_MS ? ms : INTRODUCE_RETRY_MAX_MS;
    a->introduce_tries++;
    a->want_introduce = true;
    a->introduce_at_ms =
        loop_now_ms(a->config.net->loop) + ms - randombytes_uniform(ms / 2);
}

static void send_due(struct approach *a)
{
    uint64_t now = loop_now_ms(a->config.net->loop);
    if (!uplink_is_up(a->config.uplink))
        return;
    if (a->want_introduce && a->config.client && now >= a->introduce_at_ms) {
        exchange_introduce(a);
        if (!a->answered)
            plan_introduce_retry(a);
    } else if (a->want_offer && now >= a->offer_at_ms &&
               (a->introduced || !a->config.client)) {
        exchange_offer(a);
    }
}

/* A kind's state is made when it first begins: most approaches need few of them. */
static void *kind_make(struct approach *a, enum path_kind k)
{
    if (a->kinds[k] == NULL && approach_allows(a, k))
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

static struct path *path_by_id(const struct approach *a, uint32_t id)
{
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++)
        if (a->paths[i] != NULL && a->paths[i]->id == id)
            return a->paths[i];
    return NULL;
}

static void climb(struct approach *a)
{
    struct ladder_action act;
    for (int i = 0; i < 64 && !a->freed && ladder_next(&a->ladder, clock_us(), &act);
         i++) {
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
                act.kind == PATH_KIND_NONE ? NULL : path_by_id(a, act.path_id));
            break;
        }
    }
}

/* Everything that is due; the last thing that every entry does. */
static void run(struct approach *a)
{
    if (a->busy || a->freed)
        return;
    a->busy = true;
    loop_refresh(a->config.net->loop);
    if (a->config.client)
        climb(a);
    if (!a->freed)
        send_due(a);
    a->busy = false;
    if (a->freed) {
        a->freed = false;
        approach_free(a);
        return;
    }
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

bool approach_is_established(const struct approach *a)
{
    return a->established;
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
    ladder_on_started(&a->ladder, k, clock_us());
    poke(a);
}

void approach_proven(struct approach *a, struct path *p)
{
    ladder_on_proven(&a->ladder, p->kind, p->id, p->rtt_us, clock_us());
    if (p->window_bytes != 0)
        ladder_on_window(&a->ladder, p->id, p->window_bytes);
    poke(a);
}

void approach_failed(struct approach *a, enum path_kind k, const char *reason)
{
    log_debug("%s: %s", path_kind_name(k), reason);
    ladder_on_failed(&a->ladder, k, reason, clock_us());
    poke(a);
}

void approach_lost(struct approach *a, struct path *p, const char *reason)
{
    log_debug("%s path %u lost: %s", path_kind_name(p->kind), p->id, reason);
    ladder_on_lost(&a->ladder, p->id, reason, clock_us());
    poke(a);
}

void approach_path_new(struct approach *a, struct path *p)
{
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++) {
        if (a->paths[i] == NULL) {
            a->paths[i] = p;
            break;
        }
    }
    if (!a->freed)
        a->config.events->on_path(a->config.ctx, p);
}

void approach_path_retire(struct approach *a, struct path *p)
{
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++)
        if (a->paths[i] == p)
            a->paths[i] = NULL;
    a->config.events->on_path_gone(a->config.ctx, p);
}

void approach_offer_soon(struct approach *a)
{
    if (a->want_offer)
        return;
    a->want_offer = true;
    a->offer_at_ms = loop_now_ms(a->config.net->loop) + OFFER_DELAY_MS;
    if (!a->busy && !a->freed)
        schedule(a);
}

void approach_introduce_soon(struct approach *a)
{
    if (!a->config.client)
        return;
    a->answered = false; /* each is answered, and repeated until it is */
    a->want_introduce = true;
    a->introduce_at_ms = 0;
    poke(a);
}

void approach_carry(struct approach *a, const uint8_t *packet, size_t len)
{
    Control m = {.which_body = Control_carry_tag};
    if (len > sizeof(a->early))
        return;
    if (a->config.client && !a->answered && !a->established) {
        /* It travels with each introduction, so that the one that arrives suffices. */
        if (a->introduced || a->early_len == 0) {
            memcpy(a->early, packet, len);
            a->early_len = len;
        }
        if (!a->introduced)
            return;
    }
    if (!uplink_may_carry(a->config.uplink, len))
        return; /* lost: the session will send less */
    memcpy(m.body.carry.peer, a->config.peer, KEY_LEN);
    memcpy(m.body.carry.conv, a->config.conv, CONV_LEN);
    m.body.carry.packet.size = (pb_size_t)len;
    memcpy(m.body.carry.packet.bytes, packet, len);
    if (uplink_send(a->config.uplink, &m) != 0)
        log_debug("a packet could not be carried by the broker");
}

void approach_on_control(struct approach *a, const Control *m)
{
    a->busy = true;
    switch (m->which_body) {
    case Control_introduce_tag: /* host: the client asks again */
        target_take(&a->target, m->body.introduce.vouched,
                    m->body.introduce.vouched_count, clock_us());
        exchange_take(a, m->body.introduce.sealed.bytes, m->body.introduce.sealed.size);
        if (!a->freed) {
            exchange_accept(a, m->body.introduce.mark.bytes,
                            m->body.introduce.mark.size);
            approach_offer_soon(a); /* our answer */
        }
        if (!a->freed)
            exchange_packet(a, m->body.introduce.early.bytes,
                            m->body.introduce.early.size);
        break;
    case Control_ticket_tag:
        exchange_ticket(a, &m->body.ticket);
        break;
    case Control_signal_tag:
        target_take(&a->target, m->body.signal.vouched, m->body.signal.vouched_count,
                    clock_us());
        exchange_take(a, m->body.signal.sealed.bytes, m->body.signal.sealed.size);
        break;
    case Control_carry_tag:
        exchange_packet(a, m->body.carry.packet.bytes, m->body.carry.packet.size);
        break;
    case Control_refuse_tag:
        if (m->body.refuse.code == REFUSE_BACK) {
            if (a->config.client && !a->answered) {
                approach_introduce_soon(a);
                a->introduce_at_ms = loop_now_ms(a->config.net->loop) +
                                     randombytes_uniform(BACK_SPREAD_MS);
            }
            break;
        }
        if (a->config.client && m->body.refuse.code == REFUSE_OFFLINE) {
            a->answered = false; /* it may come back: ask until it answers */
            a->refused_offline = true;
            plan_introduce_retry(a);
        }
        if (m->body.refuse.code == REFUSE_SILENT && a->answered)
            break; /* it was answered since */
        if (m->body.refuse.code == REFUSE_GONE || m->body.refuse.code == REFUSE_BROKEN)
            approach_ask(a);
        a->config.events->on_refused(a->config.ctx, m->body.refuse.code,
                                     m->body.refuse.reason);
        break;
    default:
        break;
    }
    a->busy = false;
    if (a->freed) {
        a->freed = false;
        approach_free(a);
        return;
    }
    run(a);
}

/* ---------------------------------------------------------------------- life cycle */

static struct approach *approach_new(const struct approach_config *c)
{
    struct approach *a = calloc(1, sizeof(*a));
    uint64_t seed;
    if (a == NULL)
        return NULL;
    a->config = *c;
    a->generation = 1;
    a->peer_relays = true;
    a->began_us = clock_us();
    randombytes_buf(&seed, sizeof(seed));
    ladder_init(&a->ladder, c->allowed, seed, a->began_us);
    ladder_prefer(&a->ladder, c->preferred);
    timer_init(&a->timer, c->net->loop, on_timer, a);
    return a;
}

/* The session begins on its path, before anything was started. */
static bool make_relay(struct approach *a)
{
    return !approach_allows(a, PATH_RELAY) || kind_make(a, PATH_RELAY) != NULL;
}

int approach_new_client(struct approach **out, const struct approach_config *c)
{
    struct approach *a = approach_new(c);
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    randombytes_buf(a->check_key, sizeof(a->check_key));
    if (!make_relay(a)) {
        approach_free(a);
        return POSTERN_ERR_NOMEM;
    }
    a->want_introduce = true;
    poke(a);
    *out = a;
    return 0;
}

static void start_at_host(struct approach *a, enum path_kind k, const Offer *offer)
{
    if (!approach_allows(a, k))
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
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (!exchange_names(offer, (enum path_kind)k))
            a->config.allowed &= ~(1u << k);
    bool holds = c->unlisted && approach_allows(a, PATH_RELAY);
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
        if (!approach_holds(a, (enum path_kind)k))
            start_at_host(a, (enum path_kind)k, offer);
    exchange_accept(a, in->mark.bytes, in->mark.size);
    a->busy = false;
    a->want_offer = true;
    a->offer_at_ms = 0;
    poke(a);
    return 0;
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
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL)
            kind_table[k]->stop(a->kinds[k]);
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++)
        if (a->paths[i] != NULL)
            a->config.events->on_path_gone(a->config.ctx, a->paths[i]);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL)
            kind_table[k]->free(a->kinds[k]);
    timer_stop(&a->timer);
    free(a->held);
    sodium_memzero(a->check_key, sizeof(a->check_key));
    free(a);
}

struct path *approach_first_path(struct approach *a)
{
    if (!approach_allows(a, PATH_RELAY))
        return NULL;
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++)
        if (a->paths[i] != NULL && a->paths[i]->kind == PATH_RELAY)
            return a->paths[i];
    return NULL;
}

/* ----------------------------------------------------------------- owner's reports */

void approach_set_established(struct approach *a)
{
    a->established = true;
    a->early_len = 0;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL && kind_table[k]->on_established != NULL)
            kind_table[k]->on_established(a->kinds[k]);
}

void approach_admit(struct approach *a)
{
    Offer *offer = a->held;
    a->held = NULL;
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

void approach_on_path_rtt(struct approach *a, const struct path *p)
{
    ladder_on_rtt(&a->ladder, p->id, p->rtt_us);
    poke(a);
}

void approach_on_outdone(struct approach *a, enum path_kind kind, uint64_t own_bit_s,
                         enum path_kind rival, uint64_t rival_bit_s)
{
    ladder_on_outdone(&a->ladder, kind, own_bit_s, rival, rival_bit_s);
    poke(a);
}

void approach_on_cleared(struct approach *a, enum path_kind kind)
{
    ladder_on_cleared(&a->ladder, kind);
    poke(a);
}

void approach_forgive(struct approach *a)
{
    ladder_forgive(&a->ladder);
    poke(a);
}

void approach_on_uplink(struct approach *a, bool up)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL && kind_table[k]->on_uplink != NULL)
            kind_table[k]->on_uplink(a->kinds[k], up);
    if (!up)
        return;
    a->introduce_tries = 0;
    approach_ask(a); /* the broker may be another one, and know nothing of us */
    poke(a);
}

void approach_ask(struct approach *a)
{
    if (a->established && approach_is_unrelayed(a))
        approach_introduce_soon(a);
}

/* Nothing can come back to an address that this machine lost: no time to find out. */
static void drop_gone(struct approach *a)
{
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++) {
        struct path *p = a->paths[i];
        if (p != NULL && p->stream &&
            netmon_way_of(&p->local, &p->remote) == NETMON_WAY_GONE)
            approach_on_path_dead(a, p, "the address that it started from is gone");
    }
}

/* Sockets for datagrams are bound to no address: the kernel may start elsewhere now. */
static void renew_locals(struct approach *a)
{
    struct addr now;
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++) {
        struct path *p = a->paths[i];
        if (p == NULL || p->stream || p->kind == PATH_RELAY ||
            p->local.family == ADDR_NONE || !netmon_source(&p->remote, &now))
            continue;
        now.port = p->local.port;
        p->local = now;
    }
}

void approach_on_network_change(struct approach *a)
{
    drop_gone(a);
    renew_locals(a);
    a->generation++;
    a->config.net->relay_by_tls = false;
    if (a->config.client) {
        a->began_us = clock_us();
        ladder_on_network_change(&a->ladder, clock_us());
        poke(a);
        return;
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (approach_allows(a, (enum path_kind)k) &&
            path_kind_is_direct((enum path_kind)k) &&
            !approach_holds(a, (enum path_kind)k))
            kind_start(a, (enum path_kind)k);
    approach_offer_soon(a);
}

void approach_on_heard(struct approach *a)
{
    ladder_on_heard(&a->ladder, clock_us());
    poke(a);
}

struct addr approach_peer_seen(const struct approach *a)
{
    return a->target.vouched[0].addr;
}

const struct ladder *approach_ladder(const struct approach *a)
{
    return &a->ladder;
}

const char *approach_reason(const struct approach *a, enum path_kind k,
                            char buf[static LADDER_REASON_LEN])
{
    const char *note = a->kinds[k] != NULL && kind_table[k]->note != NULL
                           ? kind_table[k]->note(a->kinds[k])
                           : NULL;
    if (note == NULL)
        return ladder_reason(&a->ladder, k, clock_us(), buf);
    (void)snprintf(buf, LADDER_REASON_LEN, "%s", note);
    return buf;
}

uint64_t approach_elapsed_us(const struct approach *a)
{
    return clock_us() - a->began_us;
}

const uint8_t *approach_conv(const struct approach *a)
{
    return a->config.conv;
}

/*
 * One approach: offers out, offers in, kinds started and stopped as the ladder says.
 * Decides nothing itself: core/ladder does, and each kind's own machine.
 */
#include "path/approach.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/log.h"
#include "path/kind.h"

enum {
    INTRODUCE_RETRY_FIRST_MS = 700,
    INTRODUCE_RETRY_MAX_MS = 20000,
    OFFER_DELAY_MS = 2, /* candidates that come together travel together */
    RETIRED_MAX = 8,
};

struct approach {
    struct approach_config config;
    struct ladder ladder;
    void *kinds[PATH_KIND_COUNT];
    struct path *paths[LADDER_MAX_PATHS + RETIRED_MAX];
    uint8_t check_key[16];
    uint32_t next_path_id;
    uint32_t peer_generation, generation;
    uint32_t trouble, peer_trouble;
    uint64_t began_us;
    bool established, introduced, answered;
    bool want_introduce, want_offer;
    unsigned introduce_tries;
    uint64_t introduce_at_ms, offer_at_ms; /* loop time; 0: not planned */
    uv_timer_t *timer;                     /* own allocation */
    uint8_t early[1500];
    size_t early_len;
    bool busy, freed;
};

static void on_timer(uv_timer_t *t);
static void run(struct approach *a);

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static bool allowed(const struct approach *a, enum path_kind k)
{
    return (a->config.allowed >> k & 1) != 0;
}

/* -------------------------------------------------------------------- offers out */

static size_t seal_offer(struct approach *a, uint8_t *out, size_t cap)
{
    Offer o = Offer_init_zero;
    uint8_t plain[1024], nonce[SEAL_NONCE_LEN];
    o.generation = a->generation;
    o.trouble = a->trouble;
    o.fresh = a->config.client ? !a->established : false;
    if (a->config.client) {
        o.check_key.size = sizeof(a->check_key);
        memcpy(o.check_key.bytes, a->check_key, sizeof(a->check_key));
    }
    if (a->config.has_invite) {
        o.invite_id.size = INVITE_ID_LEN;
        memcpy(o.invite_id.bytes, a->config.invite_id, INVITE_ID_LEN);
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        if (!allowed(a, (enum path_kind)k))
            continue;
        (void)strncpy(o.kinds[o.kinds_count++], path_kind_name((enum path_kind)k),
                      sizeof(o.kinds[0]) - 1);
        if (kind_table[k]->fill_offer != NULL && a->kinds[k] != NULL)
            kind_table[k]->fill_offer(a->kinds[k], &o);
    }
    int n = proto_encode_offer(plain, sizeof(plain), &o);
    if (n < 0)
        return 0;
    randombytes_buf(nonce, sizeof(nonce));
    n = key_seal(out, cap, plain, (size_t)n, &a->config.net->own, a->config.peer,
                 nonce);
    return n > 0 ? (size_t)n : 0;
}

static void send_introduce(struct approach *a)
{
    Control m = {.which_body = Control_introduce_tag};
    Introduce *in = &m.body.introduce;
    memcpy(in->peer, a->config.peer, KEY_LEN);
    memcpy(in->conv, a->config.conv, CONV_LEN);
    in->sealed.size =
        (pb_size_t)seal_offer(a, in->sealed.bytes, sizeof(in->sealed.bytes));
    in->early.size = (pb_size_t)a->early_len;
    memcpy(in->early.bytes, a->early, a->early_len);
    if (uplink_send(a->config.uplink, &m) != 0)
        return;
    a->introduced = true;
    a->want_introduce = a->want_offer = false;
}

static void send_offer(struct approach *a)
{
    Control m = {.which_body = Control_signal_tag};
    Signal *s = &m.body.signal;
    memcpy(s->peer, a->config.peer, KEY_LEN);
    memcpy(s->conv, a->config.conv, CONV_LEN);
    s->sealed.size = (pb_size_t)seal_offer(a, s->sealed.bytes, sizeof(s->sealed.bytes));
    if (uplink_send(a->config.uplink, &m) == 0)
        a->want_offer = false;
}

/* --------------------------------------------------------------------- scheduling */

static void schedule(struct approach *a)
{
    uint64_t now_us = net_now_us();
    uint64_t at = UINT64_MAX;
    uint64_t ladder_us = a->config.client ? ladder_deadline_us(&a->ladder) : UINT64_MAX;
    uv_update_time(a->config.net->loop);
    uint64_t now = uv_now(a->config.net->loop);
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
        (void)uv_timer_stop(a->timer);
    else
        (void)uv_timer_start(a->timer, on_timer, at > now ? at - now : 1, 0);
}

/* Until the host answers, the introduction is repeated with growing pauses. */
static void plan_introduce_retry(struct approach *a)
{
    unsigned shift = a->introduce_tries < 4 ? a->introduce_tries : 4;
    unsigned ms = (unsigned)INTRODUCE_RETRY_FIRST_MS << shift;
    a->introduce_tries++;
    a->want_introduce = true;
    a->introduce_at_ms = uv_now(a->config.net->loop) +
                         (ms < INTRODUCE_RETRY_MAX_MS ? ms : INTRODUCE_RETRY_MAX_MS);
}

static void send_due(struct approach *a)
{
    uint64_t now = uv_now(a->config.net->loop);
    if (!uplink_is_up(a->config.uplink))
        return;
    if (a->want_introduce && a->config.client && now >= a->introduce_at_ms) {
        send_introduce(a);
        if (!a->answered)
            plan_introduce_retry(a);
    } else if (a->want_offer && now >= a->offer_at_ms &&
               (a->introduced || !a->config.client)) {
        send_offer(a);
    }
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
    for (int i = 0; i < 64 && !a->freed && ladder_next(&a->ladder, net_now_us(), &act);
         i++) {
        switch (act.type) {
        case LADDER_START:
            kind_table[act.kind]->start(a->kinds[act.kind]);
            break;
        case LADDER_STOP:
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
    uv_update_time(a->config.net->loop);
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

static void on_timer(uv_timer_t *t)
{
    if (t->data != NULL)
        run(t->data);
}

static void poke(struct approach *a)
{
    if (!a->busy && !a->freed)
        (void)uv_timer_start(a->timer, on_timer, 0, 0);
}

/* ------------------------------------------------------------- services to kinds */

const struct approach_config *approach_config_of(const struct approach *a)
{
    return &a->config;
}

const uint8_t *approach_check_key(const struct approach *a)
{
    return a->check_key;
}

void *approach_kind_state(struct approach *a, enum path_kind k)
{
    return a->kinds[k];
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
    ladder_on_started(&a->ladder, k, net_now_us());
    poke(a);
}

void approach_proven(struct approach *a, struct path *p)
{
    ladder_on_proven(&a->ladder, p->kind, p->id, p->rtt_us, net_now_us());
    poke(a);
}

void approach_failed(struct approach *a, enum path_kind k, const char *reason)
{
    log_debug("%s: %s", path_kind_name(k), reason);
    ladder_on_failed(&a->ladder, k, reason, net_now_us());
    poke(a);
}

void approach_lost(struct approach *a, struct path *p, const char *reason)
{
    log_debug("%s path %u lost: %s", path_kind_name(p->kind), p->id, reason);
    ladder_on_lost(&a->ladder, p->id, reason, net_now_us());
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
    a->offer_at_ms = uv_now(a->config.net->loop) + OFFER_DELAY_MS;
    if (!a->busy && !a->freed)
        schedule(a);
}

void approach_introduce_soon(struct approach *a)
{
    if (!a->config.client)
        return;
    a->want_introduce = true;
    a->introduce_at_ms = 0;
    poke(a);
}

void approach_carry(struct approach *a, const uint8_t *packet, size_t len)
{
    Control m = {.which_body = Control_carry_tag};
    if (len > sizeof(a->early))
        return;
    if (a->config.client && !a->introduced) { /* it travels with the introduction */
        if (a->early_len == 0) {
            memcpy(a->early, packet, len);
            a->early_len = len;
        }
        return;
    }
    memcpy(m.body.carry.peer, a->config.peer, KEY_LEN);
    memcpy(m.body.carry.conv, a->config.conv, CONV_LEN);
    m.body.carry.packet.size = (pb_size_t)len;
    memcpy(m.body.carry.packet.bytes, packet, len);
    if (uplink_send(a->config.uplink, &m) != 0)
        log_debug("a packet could not be carried by the broker");
}

/* --------------------------------------------------------------------- offers in */

int approach_open_offer(Offer *offer, const struct keypair *own,
                        const uint8_t from[static KEY_LEN], const uint8_t *sealed,
                        size_t len)
{
    uint8_t plain[1024];
    int n = key_open(plain, sizeof(plain), sealed, len, own, from);
    return n < 0 ? n : proto_decode_offer(offer, plain, (size_t)n);
}

/* Kinds that the peer does not allow are refused here with that reason. */
static void apply_peer_kinds(struct approach *a, const Offer *o)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        bool has = false;
        for (pb_size_t i = 0; i < o->kinds_count; i++)
            has = has || strcmp(o->kinds[i], path_kind_name((enum path_kind)k)) == 0;
        if (!has && allowed(a, (enum path_kind)k)) {
            kind_table[k]->stop(a->kinds[k]);
            ladder_refuse(&a->ladder, (enum path_kind)k,
                          "the other side does not allow it");
        }
    }
}

static void take_offer(struct approach *a, const Offer *o)
{
    if (a->config.client && o->fresh) {
        a->config.events->on_forgotten(a->config.ctx);
        return;
    }
    bool renewed = o->generation > a->peer_generation && a->peer_generation != 0;
    if (o->generation < a->peer_generation)
        return;
    a->peer_generation = o->generation;
    if (o->trouble > a->peer_trouble && a->established)
        a->config.events->on_trouble(a->config.ctx);
    a->peer_trouble = o->trouble;
    if (a->config.client && !a->answered) {
        a->answered = true;
        a->want_introduce = false;
        a->introduce_tries = 0;
    }
    if (a->config.client)
        apply_peer_kinds(a, o);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (allowed(a, (enum path_kind)k) && kind_table[k]->on_offer != NULL)
            kind_table[k]->on_offer(a->kinds[k], o, renewed);
}

static void open_and_take(struct approach *a, const uint8_t *sealed, size_t len)
{
    Offer o;
    if (approach_open_offer(&o, &a->config.net->own, a->config.peer, sealed, len) != 0)
        log_debug("dropped an offer that is not genuine");
    else
        take_offer(a, &o);
}

static void give_ticket(struct approach *a, const uint8_t *ticket, size_t len)
{
    if (len == TICKET_LEN && allowed(a, PATH_RELAY))
        kind_table[PATH_RELAY]->on_ticket(a->kinds[PATH_RELAY], ticket, len);
}

static void give_packet(struct approach *a, const uint8_t *packet, size_t len)
{
    if (len > 0 && allowed(a, PATH_RELAY))
        kind_table[PATH_RELAY]->on_carry(a->kinds[PATH_RELAY], packet, len);
}

void approach_on_control(struct approach *a, const Control *m)
{
    a->busy = true;
    switch (m->which_body) {
    case Control_introduce_tag: /* host: the client asks again */
        open_and_take(a, m->body.introduce.sealed.bytes, m->body.introduce.sealed.size);
        if (!a->freed) {
            give_ticket(a, m->body.introduce.ticket.bytes,
                        m->body.introduce.ticket.size);
            approach_offer_soon(a); /* our answer */
        }
        if (!a->freed)
            give_packet(a, m->body.introduce.early.bytes, m->body.introduce.early.size);
        break;
    case Control_ticket_tag:
        give_ticket(a, m->body.ticket.ticket, TICKET_LEN);
        break;
    case Control_signal_tag:
        open_and_take(a, m->body.signal.sealed.bytes, m->body.signal.sealed.size);
        break;
    case Control_carry_tag:
        give_packet(a, m->body.carry.packet.bytes, m->body.carry.packet.size);
        break;
    case Control_refuse_tag:
        if (a->config.client && m->body.refuse.code == REFUSE_OFFLINE) {
            a->answered = false; /* it may come back: ask until it answers */
            plan_introduce_retry(a);
        }
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
    a->began_us = net_now_us();
    randombytes_buf(&seed, sizeof(seed));
    ladder_init(&a->ladder, c->allowed, seed, a->began_us);
    a->timer = malloc(sizeof(*a->timer));
    if (a->timer == NULL) {
        free(a);
        return NULL;
    }
    (void)uv_timer_init(c->net->loop, a->timer);
    a->timer->data = a;
    return a;
}

static int make_kinds(struct approach *a)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        a->kinds[k] = kind_table[k]->new (a);
        if (a->kinds[k] == NULL)
            return POSTERN_ERR_NOMEM;
    }
    return 0;
}

int approach_new_client(struct approach **out, const struct approach_config *c)
{
    struct approach *a = approach_new(c);
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    randombytes_buf(a->check_key, sizeof(a->check_key));
    if (make_kinds(a) != 0) {
        approach_free(a);
        return POSTERN_ERR_NOMEM;
    }
    a->want_introduce = true;
    poke(a);
    *out = a;
    return 0;
}

int approach_new_host(struct approach **out, const struct approach_config *c,
                      const Offer *offer, const uint8_t *ticket, size_t ticket_len)
{
    if (offer->check_key.size != sizeof(((struct approach *)0)->check_key))
        return POSTERN_ERR_PROTO;
    struct approach *a = approach_new(c);
    if (a == NULL)
        return POSTERN_ERR_NOMEM;
    memcpy(a->check_key, offer->check_key.bytes, sizeof(a->check_key));
    a->peer_generation = offer->generation;
    if (make_kinds(a) != 0) {
        approach_free(a);
        return POSTERN_ERR_NOMEM;
    }
    *out = a;
    a->busy = true;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        bool has = false;
        for (pb_size_t i = 0; i < offer->kinds_count; i++)
            has =
                has || strcmp(offer->kinds[i], path_kind_name((enum path_kind)k)) == 0;
        if (!has)
            a->config.allowed &= ~(1u << k);
        if (allowed(a, (enum path_kind)k)) {
            kind_table[k]->start(a->kinds[k]);
            if (kind_table[k]->on_offer != NULL)
                kind_table[k]->on_offer(a->kinds[k], offer, false);
        }
    }
    give_ticket(a, ticket, ticket_len);
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
    a->timer->data = NULL;
    uv_close((uv_handle_t *)a->timer, free_handle);
    sodium_memzero(a->check_key, sizeof(a->check_key));
    free(a);
}

struct path *approach_first_path(struct approach *a)
{
    if (!allowed(a, PATH_RELAY))
        return NULL;
    for (size_t i = 0; i < sizeof(a->paths) / sizeof(a->paths[0]); i++)
        if (a->paths[i] != NULL && a->paths[i]->kind == PATH_RELAY)
            return a->paths[i];
    return NULL;
}

/* ------------------------------------------------------------------ owner's reports */

void approach_set_established(struct approach *a)
{
    a->established = true;
    a->early_len = 0;
}

void approach_on_path_used(struct approach *a, struct path *p)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (kind_table[k]->on_used != NULL)
            kind_table[k]->on_used(a->kinds[k], p);
}

void approach_on_path_dead(struct approach *a, struct path *p, const char *reason)
{
    approach_lost(a, p, reason);
    if (kind_table[p->kind]->on_dead != NULL)
        kind_table[p->kind]->on_dead(a->kinds[p->kind], p);
}

void approach_on_uplink(struct approach *a, bool up)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (kind_table[k]->on_uplink != NULL)
            kind_table[k]->on_uplink(a->kinds[k], up);
    if (up)
        poke(a);
}

void approach_tell_trouble(struct approach *a)
{
    a->trouble++;
    approach_offer_soon(a);
}

void approach_on_network_change(struct approach *a)
{
    a->generation++;
    if (a->config.client) {
        a->began_us = net_now_us();
        ladder_on_network_change(&a->ladder, net_now_us());
        poke(a);
        return;
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (allowed(a, (enum path_kind)k) && path_kind_is_direct((enum path_kind)k))
            kind_table[k]->start(a->kinds[k]);
    approach_offer_soon(a);
}

const struct ladder *approach_ladder(const struct approach *a)
{
    return &a->ladder;
}

const char *approach_reason(const struct approach *a, enum path_kind k,
                            char buf[static LADDER_REASON_LEN])
{
    return ladder_reason(&a->ladder, k, net_now_us(), buf);
}

uint64_t approach_elapsed_us(const struct approach *a)
{
    return net_now_us() - a->began_us;
}

const uint8_t *approach_conv(const struct approach *a)
{
    return a->config.conv;
}

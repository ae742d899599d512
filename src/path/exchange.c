/*
 * Offers out and in, sealed to the other device's key, and what the broker sends along
 * with them. Tells the kinds; knows no time.
 */
#include "path/exchange.h"

#include <string.h>

#include <sodium.h>

#include "io/log.h"

_Static_assert(PATH_KIND_COUNT <=
                   sizeof(((Offer *)NULL)->kinds) / sizeof(((Offer *)NULL)->kinds[0]),
               "an Offer names all kinds");

enum { OFFER_MAX = 4096 - SEAL_OVERHEAD };

/* ---------------------------------------------------------------------- offers out */

int approach_seal_offer(uint8_t *out, size_t cap, const Offer *offer,
                        const struct keypair *own, const uint8_t to[static KEY_LEN])
{
    uint8_t plain[OFFER_MAX], nonce[SEAL_NONCE_LEN];
    int n = proto_encode_offer(plain, sizeof(plain), offer);
    if (n < 0)
        return n;
    randombytes_buf(nonce, sizeof(nonce));
    return key_seal(out, cap, plain, (size_t)n, own, to, nonce);
}

static size_t seal_offer(struct approach *a, uint8_t *out, size_t cap)
{
    Offer o = Offer_init_zero;
    o.generation = a->generation;
    memcpy(o.conv, a->config.conv, CONV_LEN);
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
        if (!approach_allows(a, (enum path_kind)k))
            continue;
        (void)strncpy(o.kinds[o.kinds_count++], path_kind_name((enum path_kind)k),
                      sizeof(o.kinds[0]) - 1);
        if (kind_table[k]->fill_offer != NULL && a->kinds[k] != NULL)
            kind_table[k]->fill_offer(a->kinds[k], &o);
    }
    int n = approach_seal_offer(out, cap, &o, &a->config.net->own, a->config.peer);
    return n > 0 ? (size_t)n : 0;
}

void exchange_introduce(struct approach *a)
{
    Control m = {.which_body = Control_introduce_tag};
    Introduce *in = &m.body.introduce;
    memcpy(in->peer, a->config.peer, KEY_LEN);
    memcpy(in->conv, a->config.conv, CONV_LEN);
    in->sealed.size =
        (pb_size_t)seal_offer(a, in->sealed.bytes, sizeof(in->sealed.bytes));
    in->vouched_count = (pb_size_t)target_show(
        &a->target, in->vouched, sizeof(in->vouched) / sizeof(in->vouched[0]));
    in->early.size = (pb_size_t)a->early_len;
    memcpy(in->early.bytes, a->early, a->early_len);
    if (uplink_send(a->config.uplink, &m) != 0)
        return;
    a->introduced = true;
    a->refused_offline = false;
    a->want_introduce = a->want_offer = false;
}

void exchange_offer(struct approach *a)
{
    Control m = {.which_body = Control_signal_tag};
    Signal *s = &m.body.signal;
    memcpy(s->peer, a->config.peer, KEY_LEN);
    memcpy(s->conv, a->config.conv, CONV_LEN);
    s->sealed.size = (pb_size_t)seal_offer(a, s->sealed.bytes, sizeof(s->sealed.bytes));
    s->vouched_count = (pb_size_t)target_show(
        &a->target, s->vouched, sizeof(s->vouched) / sizeof(s->vouched[0]));
    if (uplink_send(a->config.uplink, &m) == 0)
        a->want_offer = false;
}

void exchange_accept(struct approach *a, const uint8_t *mark, size_t len)
{
    Control m = {.which_body = Control_accept_tag};
    Accept *ac = &m.body.accept;
    if (len > sizeof(ac->mark.bytes))
        return;
    ac->no_pair = !approach_allows(a, PATH_RELAY);
    memcpy(ac->peer, a->config.peer, KEY_LEN);
    memcpy(ac->conv, a->config.conv, CONV_LEN);
    ac->mark.size = (pb_size_t)len;
    memcpy(ac->mark.bytes, mark, len);
    if (uplink_send(a->config.uplink, &m) != 0)
        log_debug("the broker could not be told of a session");
}

/* ----------------------------------------------------------------------- offers in */

int approach_open_offer(Offer *offer, const struct keypair *own,
                        const uint8_t from[static KEY_LEN],
                        const uint8_t conv[static CONV_LEN], const uint8_t *sealed,
                        size_t len)
{
    uint8_t plain[OFFER_MAX];
    int n = key_open(plain, sizeof(plain), sealed, len, own, from);
    if (n >= 0)
        n = proto_decode_offer(offer, plain, (size_t)n);
    if (n < 0)
        return n;
    return memcmp(offer->conv, conv, CONV_LEN) == 0 ? 0 : POSTERN_ERR_PROTO;
}

bool exchange_names(const Offer *o, enum path_kind k)
{
    for (pb_size_t i = 0; i < o->kinds_count; i++)
        if (strcmp(o->kinds[i], path_kind_name(k)) == 0)
            return true;
    return false;
}

/* Kinds that the peer does not allow are refused here with that reason. */
static void apply_peer_kinds(struct approach *a, const Offer *o)
{
    a->peer_relays = exchange_names(o, PATH_RELAY);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        if (!exchange_names(o, (enum path_kind)k) &&
            approach_allows(a, (enum path_kind)k)) {
            if (a->kinds[k] != NULL)
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
    if (renewed && a->established)
        a->config.events->on_renewed(a->config.ctx);
    if (a->config.client && !a->answered) {
        a->answered = true;
        a->want_introduce = false;
        a->introduce_tries = 0;
    }
    if (a->refused_offline) /* it is back, and does not know that we asked */
        approach_introduce_soon(a);
    if (a->config.client)
        apply_peer_kinds(a, o);
    if (a->held != NULL)
        *a->held = *o;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (a->kinds[k] != NULL && kind_table[k]->on_offer != NULL &&
            !approach_holds(a, (enum path_kind)k))
            kind_table[k]->on_offer(a->kinds[k], o, renewed);
}

void exchange_take(struct approach *a, const uint8_t *sealed, size_t len)
{
    Offer o;
    if (approach_open_offer(&o, &a->config.net->own, a->config.peer, a->config.conv,
                            sealed, len) != 0)
        log_debug("dropped an offer that is not genuine");
    else
        take_offer(a, &o);
}

void exchange_ticket(struct approach *a, const Ticket *t)
{
    if (!approach_allows(a, PATH_RELAY))
        return;
    if (t->ticket.size == TICKET_LEN)
        kind_table[PATH_RELAY]->on_ticket(a->kinds[PATH_RELAY], t->ticket.bytes, NULL);
    else
        kind_table[PATH_RELAY]->on_ticket(a->kinds[PATH_RELAY], NULL, t->reason);
}

void exchange_packet(struct approach *a, const uint8_t *packet, size_t len)
{
    if (len > 0 && approach_allows(a, PATH_RELAY))
        kind_table[PATH_RELAY]->on_carry(a->kinds[PATH_RELAY], packet, len);
}

/*
 * The address is where the device's own connection comes from. A client that no host
 * has answered yet has nothing to predict for, and is granted nothing. Where addresses
 * are not to be told apart (--no-address-limits) each device has what it asks for.
 */
#include "broker/control_grants.h"

#include <stdlib.h>
#include <string.h>

#include "broker/conn.h"
#include "broker/control_internal.h"
#include "broker/grants.h"
#include "broker/shard.h"
#include "io/loop.h"

enum { UNANSWERED_WAIT_MS = 1000 };

struct asker {
    const uint8_t *key;
    bool host;
    struct addr from;
};

static void answer(struct shard *s, const struct asker *who, Control *m,
                   unsigned granted, uint32_t wait_ms)
{
    static const uint8_t nobody[KEY_LEN];
    memset(m->peer, 0, KEY_LEN);
    m->body.nat_sessions =
        (NatSessions){.granted = granted, .wait_ms = granted > 0 ? 0 : wait_ms};
    control_send(s,
                 &(struct route){
                     .to = who->key, .from = nobody, .to_host = who->host, .own = true},
                 m);
}

/* In the address's shard. */
static void arrived(struct shard *s, const struct asker *who, Control *m)
{
    const NatSessions *n = &m->body.nat_sessions;
    uint64_t device, now_us = loop_now_ms(s->loop) * 1000;
    uint32_t wait_ms = UNANSWERED_WAIT_MS;
    memcpy(&device, who->key, sizeof(device));
    device |= device == 0;
    if (s->grants == NULL && (s->grants = calloc(1, sizeof(*s->grants))) == NULL)
        return;
    if (n->returned > 0)
        grants_return(s->grants, &who->from, device, n->returned, now_us);
    if (n->wanted == 0)
        return;
    unsigned granted =
        grants_take(s->grants, &who->from, device, n->wanted, now_us, &wait_ms);
    answer(s, who, m, granted, wait_ms);
}

/* The hash of the address names it, as a key's does. */
static struct shard *shard_of(const struct hub *h, const struct addr *a)
{
    uint8_t block[KEY_LEN] = {a->family};
    memcpy(block + 1, a->ip, a->family == ADDR_V4 ? 4 : GRANTS_V6_BYTES);
    return hub_shard_of(h, block);
}

void grants_on_message(struct conn *c, Control *m)
{
    struct shard *s = c->shard;
    struct asker who = {
        .key = c->node.key, .host = c->state == CONN_HOST, .from = c->remote};
    uint8_t buf[PROTO_FRAME_MAX];
    if (who.from.family == ADDR_NONE)
        return; /* it was reset before it was welcomed */
    if (!who.host)
        conn_note_conv(c, m->conv, m->peer);
    if (s->hub->config->no_address_limits || (!who.host && !c->accepted)) {
        bool all = s->hub->config->no_address_limits;
        if (m->body.nat_sessions.wanted > 0)
            answer(s, &who, m, all ? m->body.nat_sessions.wanted : 0,
                   UNANSWERED_WAIT_MS);
        return;
    }
    struct shard *to = shard_of(s->hub, &who.from);
    if (to == s) {
        arrived(s, &who, m);
        return;
    }
    int n = proto_encode_control(buf, sizeof(buf), m);
    struct mail *mail = n < 0 ? NULL : mail_new(MAIL_GRANTS, buf, (size_t)n);
    if (mail != NULL) {
        memcpy(mail->from, c->node.key, KEY_LEN);
        mail->to_host = who.host;
        mail->remote = who.from;
        if (mailbox_post(to->mail, mail) == 0)
            return;
    }
    mail_free(mail);
    s->stats.dropped++;
}

void grants_on_mail(struct shard *s, const struct mail *mail)
{
    Control m;
    struct asker who = {.key = mail->from, .host = mail->to_host, .from = mail->remote};
    if (!s->stopping && proto_decode_control(&m, mail->bytes, mail->len) == 0)
        arrived(s, &who, &m);
}

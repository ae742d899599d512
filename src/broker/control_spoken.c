/*
 * The numbers (broker/numbers.h) are the first shard's. Who gives is a host of this
 * broker, on a connection as a client; who takes may be anybody, and says no more in a
 * second than he may introduce himself.
 */
#include "broker/control_spoken.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "broker/conn.h"
#include "broker/control.h"
#include "broker/control_internal.h"
#include "broker/numbers.h"
#include "broker/shard.h"
#include "io/loop.h"

static void refuse(struct shard *s, const uint8_t *to, const uint8_t *conv,
                   enum refuse_code code, const char *reason)
{
    static const uint8_t nobody[KEY_LEN];
    control_refuse(s, &(struct route){.to = nobody, .from = to, .to_host = true}, conv,
                   code, reason);
}

static void say(struct shard *s, const uint8_t *to, const uint8_t *from, Control *m)
{
    memcpy(m->peer, from, KEY_LEN);
    control_send(s, &(struct route){.to = to, .from = from}, m);
}

static struct number_asker asker_of(const uint8_t *taker, const Control *m)
{
    struct number_asker who;
    memcpy(who.taker, taker, KEY_LEN);
    memcpy(who.conv, m->conv, CONV_LEN);
    return who;
}

/* A number is wanted, or given back. */
static void serve_giver(struct shard *s, const uint8_t *giver,
                        const struct addr_place *place, Control *m)
{
    static const uint8_t nobody[KEY_LEN];
    Spoken *p = &m->body.spoken;
    uint64_t seed;
    if (p->ends) {
        numbers_end(s->numbers, giver, p->number);
        return;
    }
    randombytes_buf(&seed, sizeof(seed));
    p->number =
        numbers_take(s->numbers, giver, place, p->number, seed, loop_now_ms(s->loop));
    if (p->number == 0)
        refuse(s, giver, m->conv, REFUSE_LIMIT, "all numbers are taken just now");
    else
        say(s, giver, nobody, m);
}

static void ask_giver(struct shard *s, const uint8_t *from,
                      const struct addr_place *place, Control *m)
{
    struct number_asker who = asker_of(from, m);
    bool over;
    const uint8_t *giver = numbers_ask(s->numbers, m->body.spoken.number, &who, place,
                                       loop_now_ms(s->loop), &over);
    if (giver != NULL)
        say(s, giver, from, m);
    else if (over)
        refuse(s, from, m->conv, REFUSE_LIMIT,
               "that number was tried too often from your address");
    else
        refuse(s, from, m->conv, REFUSE_OFFLINE, "nobody has that number just now");
}

/* In the first shard. `place` counts where addresses do. */
static void arrived(struct shard *s, const uint8_t *from,
                    const struct addr_place *place, Control *m)
{
    const Spoken *p = &m->body.spoken;
    uint64_t now = loop_now_ms(s->loop);
    if (s->numbers == NULL && (s->numbers = calloc(1, sizeof(*s->numbers))) == NULL)
        return;
    if (p->packet.size == 0) {
        serve_giver(s, from, place, m);
    } else if (!sodium_is_zero(m->peer, KEY_LEN)) { /* the giver's answer */
        struct number_asker who = asker_of(m->peer, m);
        if (numbers_may_answer(s->numbers, from, p->number, &who, now))
            say(s, who.taker, from, m);
    } else {
        ask_giver(s, from, place, m);
    }
}

/* Strangers shall not use the numbers up. */
static bool may_have_number(const struct conn *c)
{
    const struct shard *s = c->shard;
    return s->hub->config->open || registry_is_enrolled(s->registry, c->node.key);
}

static bool may_say(struct conn *c)
{
    struct shard *s = c->shard;
    uint64_t now = loop_now_ms(s->loop);
    return admission_introduce(&s->admission, c->node.key, now) &&
           (s->hub->config->no_address_limits ||
            addr_limits_introduce(s->limits, &c->place, now));
}

void spoken_on_message(struct conn *c, Control *m)
{
    struct shard *s = c->shard, *first = s->hub->shards[0];
    uint8_t buf[PROTO_FRAME_MAX];
    const struct addr_place nowhere = {0};
    const struct addr_place *place =
        s->hub->config->no_address_limits ? &nowhere : &c->place;
    conn_note_conv(c, m->conv, m->peer);
    if (m->body.spoken.packet.size == 0 && !may_have_number(c)) {
        refuse(s, c->node.key, m->conv, REFUSE_DENIED,
               "only a host of this broker may have a number");
        return;
    }
    if (!may_say(c)) {
        refuse(s, c->node.key, m->conv, REFUSE_LIMIT, "too much is said at once");
        return;
    }
    if (first == s) {
        arrived(s, c->node.key, place, m);
        return;
    }
    int n = proto_encode_control(buf, sizeof(buf), m);
    struct mail *mail = n < 0 ? NULL : mail_new(MAIL_SPOKEN, buf, (size_t)n);
    if (mail != NULL) {
        memcpy(mail->from, c->node.key, KEY_LEN);
        mail->place = *place;
        if (mailbox_post(first->mail, mail) == 0)
            return;
    }
    mail_free(mail);
    s->stats.dropped++;
}

void spoken_on_mail(struct shard *s, const struct mail *mail)
{
    Control m;
    if (!s->stopping && proto_decode_control(&m, mail->bytes, mail->len) == 0)
        arrived(s, mail->from, &mail->place, &m);
}

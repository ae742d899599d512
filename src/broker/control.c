/*
 * The message table: message x permitted states x handler; what is not listed ends the
 * connection with Bye{PROTOCOL}. Boxes and packets of devices are carried unopened.
 */
#include "broker/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "broker/conn.h"
#include "broker/control_internal.h"
#include "broker/shard.h"
#include "broker/control_grants.h"
#include "broker/control_spoken.h"
#include "broker/usher.h"
#include "broker/vouch.h"
#include "core/familiar.h"
#include "io/channel.h"
#include "io/clock.h"
#include "io/loop.h"

enum { MESSAGE_MAX = PROTO_FRAME_MAX };

static void deliver(struct shard *s, const struct route *r, Control *m);

uint32_t control_busy_retry_ms(void)
{
    return LIMIT_BUSY_RETRY_MS + randombytes_uniform(LIMIT_BUSY_RETRY_MS);
}

static void send_on(struct shard *s, const struct route *r, Control *m)
{
    uint8_t buf[MESSAGE_MAX];
    struct shard *to = hub_shard_of(s->hub, r->to);
    if (to == s) {
        deliver(s, r, m);
        return;
    }
    int n = proto_encode_control(buf, sizeof(buf), m);
    struct mail *mail = n < 0 ? NULL : mail_new(MAIL_ROUTE, buf, (size_t)n);
    if (mail != NULL) {
        memcpy(mail->to, r->to, KEY_LEN);
        memcpy(mail->from, r->from, KEY_LEN);
        mail->to_host = r->to_host;
        mail->over = r->over;
        mail->badged = r->badged;
        mail->own = r->own;
        if (mailbox_post(to->mail, mail) == 0)
            return;
    }
    mail_free(mail);
    s->stats.dropped++;
    s->stats.hits[HIT_QUEUE]++;
}

void control_on_mail(struct shard *s, const struct mail *mail)
{
    Control m;
    struct route r = {.to = mail->to,
                      .from = mail->from,
                      .to_host = mail->to_host,
                      .over = mail->over,
                      .badged = mail->badged,
                      .own = mail->own};
    if (!s->stopping && proto_decode_control(&m, mail->bytes, mail->len) == 0)
        deliver(s, &r, &m);
}

/* Tells the sender of a routed message that it did not arrive. */
static void refuse(struct shard *s, const struct route *r, const uint8_t *conv,
                   enum refuse_code code, const char *reason)
{
    Control m = Control_init_zero;
    m.which_body = Control_refuse_tag;
    memcpy(m.peer, r->to, KEY_LEN);
    memcpy(m.conv, conv, CONV_LEN);
    m.body.refuse.code = code;
    (void)snprintf(m.body.refuse.reason, sizeof(m.body.refuse.reason), "%s", reason);
    s->stats.refused++;
    s->stats.refusals[code]++;
    send_on(s,
            &(struct route){
                .to = r->from, .from = r->to, .to_host = !r->to_host, .own = true},
            &m);
}

void control_send(struct shard *s, const struct route *r, Control *m)
{
    send_on(s, r, m);
}

void control_refuse(struct shard *s, const struct route *r, const uint8_t *conv,
                    enum refuse_code code, const char *reason)
{
    refuse(s, r, conv, code, reason);
}

/* The portal comes under the broker's own key, to all hosts. */
static bool is_portal(const struct shard *s, const uint8_t *key)
{
    return memcmp(key, s->hub->identity.key.pub, KEY_LEN) == 0;
}

static int open_mark(const struct shard *s, struct addr *from, uint64_t *age_ms,
                     const uint8_t *client, const uint8_t *host, const uint8_t *conv,
                     const void *mark, size_t len)
{
    struct mark_names n = {.client = client, .host = host, .conv = conv};
    return mark_open(from, age_ms, mark, len, s->hub->mark_secret, &n,
                     clock_us() / 1000, LIMIT_MARK_S * 1000);
}

/*
 * A host whose machine has reset its connection was killed, as it seems: but so does a
 * machine whose router forgot that connection and gives its port to the next one, to
 * whose first packet the broker answers as to a stranger's. A killed program has no
 * relay pair any more.
 */
static bool has_ended(struct shard *s, const uint8_t host[static KEY_LEN])
{
    enum { AT_ONCE_MS = 1000 }; /* lost packets are sent again in that time */
    uint64_t now_ms = loop_now_ms(s->loop);
    uint64_t at_ms = parted_at_ms(s->parted, host, now_ms);
    if (at_ms == 0)
        return false;
    /* What is seen of its pairs is soon forgotten there. */
    if (parted_how(s->parted, host) == PARTING_RESET &&
        relay_was_left(s->relay, host, at_ms, AT_ONCE_MS))
        parted_note(s->parted, host, PARTING_GUESSED, at_ms);
    return parted_how(s->parted, host) == PARTING_ENDED ||
           (parted_how(s->parted, host) == PARTING_GUESSED &&
            !relay_hears(s->relay, host));
}

/* What a client is told of a host that is not here: one that ended in order is gone,
 * one that is lost may live on. */
static void refuse_absent(struct shard *s, const struct route *r, const uint8_t *conv)
{
    if (r->to_host && has_ended(s, r->to))
        refuse(s, r, conv, REFUSE_ENDED, "the host has ended");
    else
        refuse(s, r, conv, REFUSE_OFFLINE, "the device is not connected here");
}

static void await_host(struct shard *s, const struct route *r, const uint8_t *conv)
{
    struct awaited_ask ask = {.at_ms = loop_now_ms(s->loop)};
    memcpy(ask.host, r->to, KEY_LEN);
    memcpy(ask.client, r->from, KEY_LEN);
    memcpy(ask.conv, conv, CONV_LEN);
    awaited_note(s->awaited, &ask);
}

/* The host has been welcomed: who asked for it in vain is told. */
static void host_back(struct shard *s, const uint8_t host[static KEY_LEN])
{
    struct awaited_ask ask;
    parted_forget(s->parted, host);
    while (awaited_take(s->awaited, host, loop_now_ms(s->loop), &ask))
        refuse(s, &(struct route){.to = host, .from = ask.client, .to_host = true},
               ask.conv, REFUSE_BACK, "the host is connected again");
}

/* The host lists this client, or accepted it before. */
static bool knows(struct shard *s, const struct conn *host, const uint8_t *client)
{
    return admission_knows(&s->admission, host->node.key, client) ||
           familiar_has(host->familiar, host->familiar_len, client);
}

static struct lobby_guest *as_guest(const Control *m)
{
    uint8_t buf[MESSAGE_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    return n < 0 ? NULL : lobby_guest_new(buf, (size_t)n);
}

/*
 * What a client says while its introduction waits goes behind that: the host would take
 * it for a session that it knows no more. Of Offers the last has all; of packets none
 * is missed.
 */
static bool waits_too(struct conn *host, const struct route *r, const Control *m)
{
    struct lobby_guest *g = usher_find(host->usher, r->from, m->conv);
    if (g != NULL && m->which_body == Control_signal_tag)
        lobby_guest_then(g, as_guest(m));
    return g != NULL;
}

/* Shows that he holds an invite which this host has open, as far as it says. */
static bool is_invited(const struct conn *host, const Introduce *i)
{
    return i->pass.size == INVITE_PASS_LEN &&
           familiar_has(host->familiar, host->familiar_len, i->pass.bytes);
}

/* He waits for his turn, which may be now. */
static void take_stranger(struct shard *s, struct conn *host, const struct route *r,
                          Control *m, const struct addr *from)
{
    Introduce *i = &m->body.introduce;
    uint8_t pass[KEY_LEN] = {0};
    bool invited = is_invited(host, i);
    if (invited)
        memcpy(pass, i->pass.bytes, sizeof(pass));
    i->pass.size = 0;
    struct lobby_guest *g = as_guest(m);
    if (g == NULL) {
        s->stats.dropped++;
        return;
    }
    memcpy(g->client, r->from, KEY_LEN);
    memcpy(g->conv, m->conv, CONV_LEN);
    g->from = *from;
    g->invited = invited;
    memcpy(g->pass, pass, sizeof(pass));
    struct usher_way way = conn_way(host);
    g = usher_take(&host->usher, &way, g);
    s->stats.hits[HIT_HOST] += g != NULL;
    if (g != NULL)
        refuse(s, &(struct route){.to = r->to, .from = g->client, .to_host = true},
               g->conv, REFUSE_LIMIT, "too many devices ask for this host just now");
    lobby_guest_free(g);
}

static void introduce_known(struct shard *s, struct conn *host, const struct route *r,
                            const Control *m)
{
    if (!s->hub->config->no_address_limits && !is_portal(s, r->from) &&
        !admission_pass(&s->admission, r->to, true, loop_now_ms(s->loop))) {
        s->stats.hits[HIT_HOST]++;
        refuse(s, r, m->conv, REFUSE_LIMIT,
               "too many devices ask for this host just now");
    } else if (conn_send(host, m) != 0) {
        s->stats.hits[HIT_QUEUE]++;
        refuse(s, r, m->conv, REFUSE_LIMIT, "the host does not keep up");
    } else {
        s->stats.introduced++;
    }
}

/* Runs at the host's shard. Nothing is made, nor remembered but who has asked when. */
static void deliver_introduce(struct shard *s, const struct route *r, Control *m)
{
    struct conn *host = conn_first(s, r->to, CONN_HOST);
    Introduce *i = &m->body.introduce;
    struct addr from;
    uint64_t age_ms;
    if (host != NULL && r->over && !r->badged && !is_invited(host, i)) {
        s->stats.hits[HIT_INTRODUCTIONS]++;
        refuse(s, r, m->conv, REFUSE_LIMIT, "too many introductions at once");
        return;
    }
    if (host == NULL) {
        await_host(s, r, m->conv);
        refuse_absent(s, r, m->conv);
        return;
    }
    if (open_mark(s, &from, &age_ms, r->from, r->to, m->conv, i->mark.bytes,
                  i->mark.size) != 0)
        return;                    /* it waited too long in the box */
    channel_insist(host->channel); /* whose router may let it through at any moment */
    if (r->badged)
        admission_recall(&s->admission, r->to, r->from);
    if (s->hub->config->no_address_limits || is_portal(s, r->from) ||
        knows(s, host, r->from))
        introduce_known(s, host, r, m);
    else
        take_stranger(s, host, r, m, &from);
    if (channel_is_stuck(host->channel)) {
        await_host(s, r, m->conv);
        refuse(s, r, m->conv, REFUSE_SILENT,
               "the host does not answer the broker just now");
    }
}

void control_none_waits(struct shard *s, const uint8_t host[static KEY_LEN],
                        struct usher *usher)
{
    struct lobby_guest *g;
    bool here = s->stopping || conn_first(s, host, CONN_HOST) != NULL;
    while ((g = usher_give_up(usher)) != NULL) {
        struct route r = {.to = host, .from = g->client, .to_host = true};
        if (!here) { /* else they ask again by themselves */
            await_host(s, &r, g->conv);
            refuse_absent(s, &r, g->conv);
        }
        lobby_guest_free(g);
    }
    usher_free(usher);
}

static void fill_ticket(Control *m, const uint8_t *peer, const uint8_t *conv,
                        const uint8_t *ticket, const char *why_none)
{
    Ticket *t = &m->body.ticket;
    *m = (Control)Control_init_zero;
    m->which_body = Control_ticket_tag;
    memcpy(m->peer, peer, KEY_LEN);
    memcpy(m->conv, conv, CONV_LEN);
    if (ticket != NULL) {
        t->ticket.size = TICKET_LEN;
        memcpy(t->ticket.bytes, ticket, TICKET_LEN);
    } else {
        (void)snprintf(t->reason, sizeof(t->reason),
                       "the broker has no free relay pair for %s", why_none);
    }
}

/* By it the client is known as this host's to a broker that was restarted. */
static void give_host_badge(struct conn *host, const uint8_t *client,
                            const uint8_t *conv)
{
    struct shard *s = host->shard;
    Control m = Control_init_zero;
    m.which_body = Control_badge_tag;
    memcpy(m.peer, host->node.key, KEY_LEN);
    memcpy(m.conv, conv, CONV_LEN);
    m.body.badge.badge.size = BADGE_HOST_LEN;
    badge_host_make(m.body.badge.badge.bytes, s->hub->host_badge_secret, host->node.key,
                    client, (uint64_t)time(NULL));
    send_on(s, &(struct route){.to = client, .from = host->node.key, .own = true}, &m);
}

/* The host lets this client in: now they get a pair if it is wanted, or are told why
 * not. */
static void handle_accept(struct conn *c, Control *m)
{
    struct shard *s = c->shard;
    const Accept *a = &m->body.accept;
    const uint8_t *host = c->node.key;
    struct relay_tickets t;
    struct addr from;
    const char *why = NULL;
    uint64_t age_ms;
    Control out;
    if (open_mark(s, &from, &age_ms, m->peer, host, m->conv, a->mark.bytes,
                  a->mark.size) != 0) {
        s->stats.dropped++;
        return;
    }
    bool portal = is_portal(s, m->peer);
    struct relay_ask ask = {
        .client = m->peer,
        .host = host,
        .conv = m->conv,
        .from = portal || s->hub->config->no_address_limits ? NULL : &from,
        .client_max = portal ? LIMIT_RELAYS_PER_HOST : LIMIT_RELAYS_PER_CLIENT};
    s->stats.accepted++;
    s->stats.without_pair += a->no_pair;
    histogram_note(&s->stats.introduction, age_ms * 1000);
    admission_accepted(&s->admission, host, m->peer, &from);
    if (a->listed && !portal)
        give_host_badge(c, m->peer, m->conv);
    if (a->no_pair) {
        bonds_note(&c->bonds, m->peer, m->conv);
        return;
    }
    bool given = relay_issue(s->relay, &ask, &t, &why) == 0;
    s->stats.hits[HIT_RELAYS] += !given;
    if (given) /* whose clients hear by the pair what becomes of the host */
        bonds_drop(&c->bonds, m->peer, m->conv);
    else
        bonds_note(&c->bonds, m->peer, m->conv);
    fill_ticket(&out, m->peer, m->conv, given ? t.host : NULL, why);
    if (conn_send(c, &out) != 0) {
        s->stats.dropped++;
        if (given)
            relay_revoke(s->relay, &t);
        return;
    }
    fill_ticket(&out, host, m->conv, given ? t.client : NULL, why);
    send_on(s, &(struct route){.to = m->peer, .from = host, .own = true}, &out);
}

/* A client hears for each session what became of its host. */
struct farewell {
    struct shard *shard;
    const uint8_t *host;
    enum host_end how;
};

static const struct {
    unsigned code;
    const char *reason;
} farewells[] = {
    [HOST_ENDED] = {REFUSE_GONE, "the host's connection to the broker has ended"},
    [HOST_KILLED] = {REFUSE_RESET, "the host's connection to the broker was reset"},
    [HOST_RESET] = {REFUSE_RESET, "the host's connection to the broker was reset"},
    [HOST_BROKE] = {REFUSE_BROKEN, "the host's connection to the broker broke"},
};

static void tell_gone(void *ctx, const uint8_t *client, const uint8_t *conv)
{
    const struct farewell *w = ctx;
    refuse(w->shard, &(struct route){.to = w->host, .from = client, .to_host = true},
           conv, farewells[w->how].code, farewells[w->how].reason);
}

static void tell_all_gone(struct shard *s, const uint8_t *host,
                          const struct bonds *bonds, enum host_end how)
{
    struct farewell w = {.shard = s, .host = host, .how = how};
    relay_each_of_host(s->relay, host, tell_gone, &w);
    for (uint32_t i = 0; i < bonds->count; i++)
        tell_gone(&w, bonds->list[i].client, bonds->list[i].conv);
}

void control_host_gone(struct shard *s, const uint8_t host[static KEY_LEN],
                       const struct bonds *bonds, enum host_end how)
{
    if (s->stopping)
        return;
    /* Whom a client hears to be killed it asks for, and hears that it has ended, if it
     * is not back by then. */
    if (how != HOST_BROKE)
        parted_note(s->parted, host,
                    how == HOST_ENDED    ? PARTING_ENDED
                    : how == HOST_KILLED ? PARTING_GUESSED
                                         : PARTING_RESET,
                    loop_now_ms(s->loop));
    tell_all_gone(s, host, bonds, how);
}

/* Nobody saw the process end whose sessions these were: they ask the new one. */
static void host_reborn(struct conn *c)
{
    struct bonds bonds = c->bonds;
    c->bonds = (struct bonds){0};
    tell_all_gone(c->shard, c->node.key, &bonds, HOST_ENDED);
    bonds_fini(&bonds);
}

/* The one of a client's connections that spoke last for this approach, if known. */
static struct conn *owner_of(struct shard *s, const struct route *r, const Control *m)
{
    struct conn *c = r->to_host ? NULL : conn_first(s, r->to, CONN_CLIENT);
    while (c != NULL && !convs_has(&c->convs, m->conv, r->from))
        c = conn_next(c);
    return c;
}

/* Whether the host may be spoken to so: in sessions that it has accepted, and a little
 * in others. */
static bool may_say(struct shard *s, struct conn *host, const struct route *r,
                    const Control *m)
{
    struct relay_ask names = {.client = r->from, .host = r->to, .conv = m->conv};
    size_t len = m->which_body == Control_carry_tag    ? m->body.carry.packet.size
                 : m->which_body == Control_signal_tag ? m->body.signal.sealed.size
                                                       : 0;
    return is_portal(s, r->from) || bonds_has(&host->bonds, r->from, m->conv) ||
           relay_knows(s->relay, &names) ||
           (channel_unread_bytes(host->channel) <= LIMIT_UNKNOWN_QUEUE_BYTES &&
            admission_say(&s->admission, r->to, knows(s, host, r->from), (uint32_t)len,
                          loop_now_ms(s->loop)));
}

/* What it costs on the line of who gets it. */
static uint32_t wire_bytes(const Control *m)
{
    size_t len = 0;
    switch (m->which_body) {
    case Control_carry_tag:
        len = m->body.carry.packet.size;
        break;
    case Control_signal_tag:
        len = m->body.signal.sealed.size +
              m->body.signal.vouched_count * sizeof(m->body.signal.vouched[0]);
        break;
    case Control_refuse_tag:
        len = strlen(m->body.refuse.reason);
        break;
    case Control_ticket_tag:
        len = m->body.ticket.ticket.size + strlen(m->body.ticket.reason);
        break;
    case Control_badge_tag:
        len = m->body.badge.badge.size;
        break;
    case Control_spoken_tag:
        len = m->body.spoken.packet.size;
        break;
    default:
        break;
    }
    return (uint32_t)(len + LIMIT_WIRE_BYTES * (1 + len / LIMIT_WIRE_EACH));
}

/*
 * Whether a host may speak to a client so: in approaches of which this connection of
 * the client has spoken to it, and a little in others, for a broker that began anew
 * knows none. What the broker says of a host is the host's doing too: it can be made to
 * say it again and again.
 */
static bool may_tell(struct shard *s, struct conn *client, const struct route *r,
                     const Control *m)
{
    uint64_t now_ms = loop_now_ms(s->loop);
    uint32_t bytes = wire_bytes(m);
    enum said said = m->which_body != Control_carry_tag              ? SAID_CONTROL
                     : m->body.carry.packet.size <= LIMIT_SAID_SMALL ? SAID_LITTLE
                                                                     : SAID_BULK;
    bool asked = convs_asked(&client->convs, m->conv, r->from, now_ms);
    if (is_portal(s, r->to))
        return true;
    if (m->which_body == Control_spoken_tag)
        return admission_tell_spoken(&s->admission, r->to, bytes, now_ms);
    if (asked && convs_take(&client->convs, r->from, said, bytes, now_ms))
        return true;
    if (asked || r->own)
        return admission_tell_asked(&s->admission, r->from, r->to, said, bytes, now_ms);
    return channel_unread_bytes(client->channel) <= LIMIT_UNKNOWN_QUEUE_BYTES &&
           admission_tell(&s->admission, r->to, bytes, now_ms);
}

/* Once in a connection: each shows a fresh one the next time. */
static void give_badge(struct conn *c)
{
    struct hub *h = c->shard->hub;
    uint8_t nonce[BADGE_NONCE_LEN];
    Control m = Control_init_zero;
    if (!c->keeps_badge || c->badged || is_portal(c->shard, c->node.key))
        return;
    randombytes_buf(nonce, sizeof(nonce));
    m.which_body = Control_badge_tag;
    m.body.badge.badge.size = BADGE_LEN;
    badge_make(m.body.badge.badge.bytes, h->badge_secret, nonce, c->node.key,
               (uint64_t)time(NULL));
    c->badged = conn_send(c, &m) == 0;
}

/*
 * To the connection whose approach it is; else to every one that the device has in that
 * role, which tell them apart by `conv`.
 */
static void deliver(struct shard *s, const struct route *r, Control *m)
{
    bool arrived = false;
    if (m->which_body == Control_introduce_tag) {
        deliver_introduce(s, r, m);
        return;
    }
    struct conn *owner = owner_of(s, r, m);
    struct conn *first = conn_first(s, r->to, r->to_host ? CONN_HOST : CONN_CLIENT);
    for (struct conn *c = owner != NULL ? owner : first; c != NULL;
         c = owner != NULL ? NULL : conn_next(c)) {
        arrived = true;
        if (m->which_body == Control_nat_sessions_tag) { /* the broker's own word */
            (void)!conn_send(c, m);
            continue;
        }
        if ((r->to_host && waits_too(c, r, m)) ||
            (m->which_body == Control_badge_tag && !c->keeps_badge))
            continue;
        if (r->to_host ? !may_say(s, c, r, m) : !may_tell(s, c, r, m)) {
            s->stats.dropped++;
            s->stats.hits[HIT_SAID]++;
            continue;
        }
        c->accepted = c->accepted || m->which_body != Control_refuse_tag;
        if (!r->to_host &&
            (m->which_body == Control_ticket_tag || m->which_body == Control_carry_tag))
            give_badge(c); /* which a host says only to whom it let in */
        if (conn_send(c, m) == 0)
            s->stats.routed++;
        else {
            s->stats.dropped++;
            s->stats.hits[HIT_QUEUE]++;
        }
    }
    if (!arrived && m->which_body == Control_signal_tag)
        refuse_absent(s, r, m->conv);
}

/* Replaces `peer` by the proven sender and sends the message on; `of` is what is known
 * of an introduction, else NULL. */
static void forward(struct conn *c, Control *m, const struct route *of)
{
    uint8_t to[KEY_LEN];
    if (c->state == CONN_CLIENT)
        conn_note_conv(c, m->conv, m->peer);
    memcpy(to, m->peer, KEY_LEN);
    memcpy(m->peer, c->node.key, KEY_LEN);
    send_on(c->shard,
            &(struct route){.to = to,
                            .from = c->node.key,
                            .to_host = c->state == CONN_CLIENT,
                            .over = of != NULL && of->over,
                            .badged = of != NULL && of->badged},
            m);
}

/* The sender's addresses, as far as they are known here to be its own. */
static void vouch(struct conn *c, Vouch *list, pb_size_t *count, size_t room)
{
    struct addr seen;
    channel_remote(c->channel, &seen);
    broker_vouch(c->shard->hub->secret, &seen, list, count, (pb_size_t)room);
}

/*
 * An address is held to its share here, before the message goes to another thread.
 * Above that (`over`) each key may try who shows a badge for that host, or the pass of
 * an invite, of which only the host's thread can tell whether it is good.
 */
static bool may_introduce(struct conn *c, const Introduce *i, bool badged, bool *over)
{
    struct shard *s = c->shard;
    uint64_t now = loop_now_ms(s->loop);
    *over = false;
    if (is_portal(s, c->node.key))
        return true;
    if (!admission_introduce(&s->admission, c->node.key, now))
        return false;
    *over = !s->hub->config->no_address_limits &&
            !addr_limits_introduce(s->limits, &c->place, now);
    return !*over || ((badged || i->pass.size == INVITE_PASS_LEN) &&
                      admission_show(&s->admission, c->node.key, now));
}

static void handle_introduce(struct conn *c, Control *m)
{
    Introduce *i = &m->body.introduce;
    struct route r = {.to = m->peer, .from = c->node.key, .to_host = true};
    struct mark_names n = {.client = c->node.key, .host = m->peer, .conv = m->conv};
    struct addr from;
    conn_note_conv(c, m->conv, m->peer); /* for a refusal, too */
    r.badged =
        badge_host_is(i->badge.bytes, i->badge.size, c->shard->hub->host_badge_secret,
                      m->peer, c->node.key, (uint64_t)time(NULL));
    i->badge.size = 0;
    if (!may_introduce(c, i, r.badged, &r.over)) {
        c->shard->stats.hits[HIT_INTRODUCTIONS]++;
        refuse(c->shard, &r, m->conv, REFUSE_LIMIT, "too many introductions at once");
        return;
    }
    vouch(c, i->vouched, &i->vouched_count, sizeof(i->vouched) / sizeof(i->vouched[0]));
    channel_remote(c->channel, &from);
    if (from.family == ADDR_NONE && !c->shard->hub->config->no_address_limits)
        return; /* it is reset already, and would be counted nowhere */
    i->mark.size = (pb_size_t)mark_make(i->mark.bytes, c->shard->hub->mark_secret, &n,
                                        &from, clock_us() / 1000);
    forward(c, m, &r);
}

static void handle_signal(struct conn *c, Control *m)
{
    Signal *s = &m->body.signal;
    vouch(c, s->vouched, &s->vouched_count, sizeof(s->vouched) / sizeof(s->vouched[0]));
    forward(c, m, NULL);
}

/* The client has given the approach up: its host has nothing more to say in it. */
static void handle_done(struct conn *c, Control *m)
{
    convs_forget(&c->convs, m->conv);
}

/* The host's No ends the pair too, if there is one. */
static void handle_refuse(struct conn *c, Control *m)
{
    relay_end(
        c->shard->relay,
        &(struct relay_ask){.client = m->peer, .host = c->node.key, .conv = m->conv});
    bonds_drop(&c->bonds, m->peer, m->conv);
    if (m->body.refuse.code == REFUSE_DENIED || m->body.refuse.code == REFUSE_REVOKED)
        admission_disown(&c->shard->admission, c->node.key, m->peer);
    forward(c, m, NULL);
}

static enum admission_role role_of(const struct conn *c)
{
    return c->state == CONN_HOST ? ADMISSION_HOST : ADMISSION_CLIENT;
}

/* Packets over the rate are lost, as on any path; the session sends them again. */
static void handle_carry(struct conn *c, Control *m)
{
    if (is_portal(c->shard, c->node.key) ||
        admission_carry(&c->shard->admission, c->node.key, role_of(c),
                        m->body.carry.packet.size, loop_now_ms(c->shard->loop)))
        forward(c, m, NULL);
    else {
        c->shard->stats.dropped++;
        c->shard->stats.hits[HIT_CARRY]++;
    }
}

static void handle_ping(struct conn *c, Control *m)
{
    Control answer = Control_init_zero;
    struct addr seen;
    answer.which_body = Control_pong_tag;
    answer.body.pong.nonce = m->body.ping.nonce;
    channel_remote(c->channel, &seen);
    answer.body.pong.proof.size = VOUCH_MARK_LEN;
    broker_proof(answer.body.pong.proof.bytes, c->shard->hub->secret, &seen,
                 c->node.key);
    if (conn_send(c, &answer) != 0) /* one that does not read gets no answer */
        c->shard->stats.dropped++;
}

/* What a host opens to people without a device: the portal's to judge. */
static void handle_portal(struct conn *c, Control *m)
{
    const struct broker_portal *p = c->shard->hub->config->portal;
    struct addr from;
    if (p == NULL)
        return;
    c->in_portal = true;
    channel_remote(c->channel, &from);
    p->on_host(p->ctx, c->node.key, &from, m);
}

static void add_stun(Welcome *w, const struct addr *a)
{
    size_t max = sizeof(w->stun) / sizeof(w->stun[0]);
    for (size_t i = 0; i < w->stun_count; i++)
        if (w->stun[i].port == a->port && w->stun[i].ip.size == addr_ip_len(a) &&
            memcmp(w->stun[i].ip.bytes, a->ip, addr_ip_len(a)) == 0)
            return;
    if (a->family == ADDR_NONE || w->stun_count >= max)
        return;
    StunServer *s = &w->stun[w->stun_count++];
    s->ip.size = (pb_size_t)addr_ip_len(a);
    memcpy(s->ip.bytes, a->ip, addr_ip_len(a));
    s->port = a->port;
}

/* After a restart: who is not here may just not be back yet. */
static uint32_t settles_ms(const struct hub *h)
{
    uint64_t now_ms = clock_us() / 1000;
    return h->settled_ms > now_ms ? (uint32_t)(h->settled_ms - now_ms) : 0;
}

/* The other port on which this device's own way here leads to STUN. */
static uint32_t second_port(const struct conn *c, const struct plan *p)
{
    for (size_t i = 0; i < p->site_count; i++)
        if (p->sites[i].bind.port == c->local.port)
            return p->sites[i].other_port;
    return 0;
}

static void welcome(struct conn *c)
{
    const struct plan *p = &c->shard->hub->plan;
    Control m = Control_init_zero;
    Welcome *w = &m.body.welcome;
    struct addr seen;
    m.which_body = Control_welcome_tag;
    w->time_s = (uint64_t)time(NULL);
    w->familiar = c->state == CONN_HOST;
    w->spoken = c->state == CONN_CLIENT;
    w->nat_sessions = true;
    w->settles_ms = settles_ms(c->shard->hub);
    w->stun_second = second_port(c, p);
    channel_remote(c->channel, &seen);
    c->remote = seen;
    w->seen_ip.size = (pb_size_t)addr_ip_len(&seen);
    memcpy(w->seen_ip.bytes, seen.ip, addr_ip_len(&seen));
    w->seen_port = seen.port;
    w->proof.size = VOUCH_MARK_LEN;
    broker_proof(w->proof.bytes, c->shard->hub->secret, &seen, c->node.key);
    size_t publics = p->public_count;
    for (size_t i = 0; i < publics; i++)
        add_stun(w, &p->publics[i]);
    if (c->shard->hub->config->public_name == NULL || publics == 0)
        add_stun(w, &c->local); /* it was just reached there */
    if (conn_send(c, &m) != 0)
        c->shard->stats.dropped++;
}

/* True when this device may publish services here. */
static bool may_host(struct conn *c, const Hello *h)
{
    struct shard *s = c->shard;
    if (s->hub->config->open)
        return true;
    if (h->token.size == LINK_SECRET_LEN &&
        sodium_memcmp(h->token.bytes, s->hub->identity.token, LINK_SECRET_LEN) == 0) {
        if (!registry_is_enrolled(s->registry, c->node.key) &&
            registry_enrol(s->registry, c->node.key, h->name, time(NULL)) != 0)
            log_error("cannot remember an enrolled host; check the disk of %s",
                      s->hub->state_dir);
        return true;
    }
    return registry_is_enrolled(s->registry, c->node.key);
}

/* Without it its clients are strangers until it has accepted them here. */
static void note_familiar(struct conn *c, const uint8_t *list, size_t len)
{
    uint8_t *own = len > 0 ? malloc(len) : NULL;
    if (own != NULL)
        memcpy(own, list, len);
    free(c->familiar);
    c->familiar = own;
    c->familiar_len = own != NULL ? len : 0;
}

static void handle_familiar(struct conn *c, Control *m)
{
    note_familiar(c, m->body.familiar.list.bytes, m->body.familiar.list.size);
}

static void handle_hello(struct conn *c, Control *m)
{
    const Hello *h = &m->body.hello;
    if (h->version != PROTO_VERSION) {
        char why[96];
        (void)snprintf(why, sizeof(why),
                       "this broker speaks version %d of the protocol", PROTO_VERSION);
        conn_bye(c, BYE_VERSION, 0, why);
        return;
    }
    if (h->host && !may_host(c, h)) {
        conn_bye(c, BYE_TOKEN, 0, "hosts need this broker's enrolment token");
        return;
    }
    if (h->yields && conn_replaces(c, h->host ? CONN_HOST : CONN_CLIENT)) {
        conn_bye(c, BYE_REPLACED, 0, "this device is connected elsewhere");
        return;
    }
    c->shard->stats.hellos++;
    c->accepted = is_portal(c->shard, c->node.key);
    if (h->process.size == sizeof(c->process))
        memcpy(&c->process, h->process.bytes, sizeof(c->process));
    if (h->host)
        note_familiar(c, h->familiar.bytes, h->familiar.size);
    bool reborn = conn_enter(c, h->host ? CONN_HOST : CONN_CLIENT);
    c->keeps_badge = h->keeps_badge;
    welcome(c);
    if (h->host)
        give_badge(c);
    if (reborn)
        host_reborn(c);
    if (h->host)
        host_back(c->shard, c->node.key);
}

struct rule {
    pb_size_t message;
    uint8_t states; /* enum conn_state, or-ed */
    void (*handle)(struct conn *c, Control *m);
};

/* clang-format off */
static const struct rule rules[] = {
    {Control_hello_tag,     CONN_GREETING,           handle_hello},
    {Control_introduce_tag, CONN_CLIENT,             handle_introduce},
    {Control_accept_tag,    CONN_HOST,               handle_accept},
    {Control_signal_tag,    CONN_CLIENT | CONN_HOST, handle_signal},
    {Control_carry_tag,     CONN_CLIENT | CONN_HOST, handle_carry},
    {Control_refuse_tag,    CONN_HOST,               handle_refuse},
    {Control_familiar_tag,  CONN_HOST,               handle_familiar},
    {Control_portal_begin_tag,   CONN_HOST,          handle_portal},
    {Control_portal_service_tag, CONN_HOST,          handle_portal},
    {Control_portal_account_tag, CONN_HOST,          handle_portal},
    {Control_portal_end_tag,     CONN_HOST,          handle_portal},
    {Control_spoken_tag,    CONN_CLIENT,             spoken_on_message},
    {Control_nat_sessions_tag, CONN_CLIENT | CONN_HOST, grants_on_message},
    {Control_done_tag,      CONN_CLIENT,             handle_done},
    {Control_ping_tag,      CONN_CLIENT | CONN_HOST, handle_ping},
};
/* clang-format on */

void control_on_message(struct conn *c, const uint8_t *msg, size_t len)
{
    Control m;
    c->heard_ms = loop_now_ms(c->shard->loop);
    if (!is_portal(c->shard, c->node.key) &&
        !admission_message(&c->shard->admission, c->node.key, role_of(c),
                           loop_now_ms(c->shard->loop))) {
        c->shard->stats.hits[HIT_MESSAGES]++;
        conn_bye(c, BYE_BUSY, control_busy_retry_ms(), "too many messages a second");
        return;
    }
    if (proto_decode_control(&m, msg, len) != 0) {
        conn_bye(c, BYE_PROTOCOL, 0, "a message could not be read");
        return;
    }
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].message == m.which_body && (rules[i].states & c->state) != 0) {
            rules[i].handle(c, &m);
            return;
        }
    }
    conn_bye(c, BYE_PROTOCOL, 0, "a message is not permitted now");
}

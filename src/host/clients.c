/*
 * The broker's word counts for nothing here: an Offer that was not sealed by a listed
 * key (or by the holder of an open invite) is refused before any socket is opened.
 */
#include "host/clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/access.h"
#include "host/clients_internal.h"
#include "host/portal_visits.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/statedir.h"
#include "path/offer.h"

enum {
    HELLO_TIMEOUT_MS = 60000,   /* an introduction that no session follows */
    HELLO_SILENT_MS = 30000,    /* and no packet either */
    JOIN_TIMEOUT_MS = 10000,    /* an invite that was named and not used */
    INVITEES_MAX = 64,          /* approaches by invite at the same time */
    INVITEE_PATIENCE_MS = 2000, /* then it makes way for another */
    /* Of the descriptors beside the program's own: connections to services have a
     * bound of their own; of what clients' paths take beside them, those who have not
     * joined yet may have some only. */
    YOUNG_MS = 2000,
    COMING_SOCKETS = 8, /* that one opens until its session stands */
    YOUNG_SOCKETS = 3,  /* and after that, while it is young */
    INVITEE_PERCENT = 25,
    LISTED_PERCENT = 45,
    MADE_ROOM_PERCENT = 50,
};

/* ---------------------------------------------------------------------- admission */

const char *clients_why_over(struct clients *cs, const uint8_t id[static INVITE_ID_LEN])
{
    struct roster_invite in = {0};
    int64_t now_s = statedir_now_s();
    int err = roster_invite_find(cs->host->roster, id, now_s, &in);
    sodium_memzero(in.secret, sizeof(in.secret));
    return invite_why_over(err == POSTERN_ERR_EXPIRED ? &in : NULL, now_s, cs->over);
}

/*
 * Who may be answered at all; 0, or the refusal's code with its words. `uses` is what
 * is left of the invite of who comes by one, else 0.
 */
static unsigned judge(struct clients *cs, const uint8_t *key, const Offer *o,
                      unsigned *uses, const char **reason)
{
    *uses = 0;
    struct roster_invite invite;
    bool broker = portal_has_key(cs->host, key);
    if (cs->host->to_agent) {
        *reason = "only its agent comes to this host";
        return broker ? 0 : REFUSE_DENIED;
    }
    if (broker) {
        *reason = "this host opens nothing to the portal";
        return access_is_open(cs->host->access) ? 0 : REFUSE_DENIED;
    }
    int err = roster_client_find(cs->host->roster, key, NULL);
    if (err == 0)
        return 0;
    if (err != POSTERN_ERR_NOTFOUND) {
        *reason = "the host cannot read its list of devices just now";
        return REFUSE_LIMIT;
    }
    if (roster_is_earlier(cs->host->roster, key)) {
        *reason = ROSTER_EARLIER;
        return REFUSE_DENIED;
    }
    if (o->invite_id.size == INVITE_ID_LEN) {
        if (roster_invite_find(cs->host->roster, o->invite_id.bytes, statedir_now_s(),
                               &invite) == 0) {
            *uses = invite.uses_left > 0 ? (unsigned)invite.uses_left : 1;
            sodium_memzero(&invite, sizeof(invite));
            return 0;
        }
        *reason = clients_why_over(cs, o->invite_id.bytes);
        return REFUSE_EXPIRED;
    }
    if (roster_is_revoked(cs->host->roster, key)) {
        *reason = "this device was removed by the host";
        return REFUSE_REVOKED;
    }
    *reason = "this device is not on the host's list";
    return REFUSE_DENIED;
}

/* Those who came by an invite (that one, or any) and have not joined; the oldest. */
static struct host_client *find_invitees(const struct clients *cs, const uint8_t *id,
                                         unsigned *count)
{
    struct host_client *oldest = NULL;
    *count = 0;
    for (struct host_client *c = cs->first; c != NULL; c = c->next) {
        if (c->dead || !c->unlisted ||
            (id != NULL && memcmp(c->invite_id, id, INVITE_ID_LEN) != 0))
            continue;
        (*count)++;
        if (oldest == NULL || c->since_ms < oldest->since_ms)
            oldest = c;
    }
    return oldest;
}

/* Makes room for one more who holds that invite, at the cost of who had time enough. */
static bool admit_invitee(struct clients *cs, const uint8_t *id, unsigned uses,
                          const struct addr *from)
{
    uint64_t now_ms = loop_now_ms(cs->host->loop);
    unsigned same, all;
    struct host_client *oldest_same = find_invitees(cs, id, &same);
    struct host_client *oldest = find_invitees(cs, NULL, &all);
    struct host_client *leaves = same >= invitees_at_once(uses) ? oldest_same
                                 : all >= INVITEES_MAX          ? oldest
                                                                : NULL;
    if ((leaves != NULL && (now_ms - leaves->since_ms < INVITEE_PATIENCE_MS ||
                            !invitees_has_turn(&cs->invitees, from, now_ms))) ||
        !invitees_take(&cs->invitees, id, uses, now_ms))
        return false;
    if (leaves != NULL) {
        invitees_note_turn(&cs->invitees, from, now_ms);
        host_client_end(leaves, REFUSE_LIMIT, "another device came with that invite");
    }
    return true;
}

/* Those who have just been let in open the sockets of their paths in the next seconds;
 * and so will the one who comes now. */
static long about_to_open(const struct clients *cs)
{
    long sockets = COMING_SOCKETS;
    uint64_t now_ms = loop_now_ms(cs->host->loop);
    for (const struct host_client *c = cs->first; /* the newest first */
         c != NULL && now_ms - c->since_ms < YOUNG_MS; c = c->next)
        sockets += tie_open_session(c->tie) != NULL ? YOUNG_SOCKETS : COMING_SOCKETS;
    return sockets;
}

static bool has_descriptors(const struct presence *p, unsigned percent)
{
    const struct clients *cs = p->host->clients;
    long apart = (long)service_streams_count(cs->host->streams) - about_to_open(cs);
    return net_has_descriptors(&p->endpoint.net, percent, apart);
}

/* Who only holds an invite shares a part with the others like him. */
static bool has_invitee_share(struct clients *cs)
{
    unsigned invitees;
    (void)find_invitees(cs, NULL, &invitees);
    return invitees == 0 ||
           (invitees + 1) * COMING_SOCKETS <= net_descriptors_share(INVITEE_PERCENT);
}

/* True: there is room for this one. `uses`: as judge. */
static bool admit(struct presence *p, const Control *m, const Offer *o, unsigned uses,
                  const char **reason)
{
    struct clients *cs = p->host->clients;
    const Introduce *in = &m->body.introduce;
    const uint8_t *key = m->peer;
    struct addr from = {0};
    if (in->vouched_count > 0 && /* the first is whence its connection comes */
        addr_from_bytes(&from, in->vouched[0].ip.bytes, in->vouched[0].ip.size, 0) != 0)
        from = (struct addr){0};
    *reason = "the host has no file descriptors left";
    if (uses > 0 && !has_invitee_share(cs))
        return false;
    if (!has_descriptors(p, LISTED_PERCENT) &&
        (!silence_make_room(cs, key, true) || !has_descriptors(p, MADE_ROOM_PERCENT)))
        return false;
    *reason = "that invite was tried too often; try again in a minute";
    if (uses > 0 && !admit_invitee(cs, o->invite_id.bytes, uses, &from))
        return false;
    *reason = "all sessions that this device may have at the host are in use";
    return silence_make_room(cs, key, false);
}

/* ------------------------------------------------------------------- introductions */

static Control answer_to(const Control *m)
{
    Control answer = Control_init_zero;
    memcpy(answer.peer, m->peer, KEY_LEN);
    memcpy(answer.conv, m->conv, CONV_LEN);
    return answer;
}

static void refuse(struct presence *p, const Control *in, unsigned code,
                   const char *reason)
{
    Control m = answer_to(in);
    m.which_body = Control_refuse_tag;
    m.body.refuse.code = code;
    p->host->figures.refused[code <= REFUSE_ENDED ? code : 0]++;
    (void)snprintf(m.body.refuse.reason, sizeof(m.body.refuse.reason), "%s", reason);
    if (uplink_send(p->endpoint.uplink, &m) != 0)
        log_debug("a refusal could not be sent");
}

void clients_by_kind(const struct clients *cs,
                     unsigned kinds[static PATH_KIND_COUNT + 1])
{
    memset(kinds, 0, (PATH_KIND_COUNT + 1) * sizeof(*kinds));
    for (const struct host_client *c = cs->first; c != NULL; c = c->next) {
        const struct path *p =
            host_client_is_open(c) ? session_path(tie_session(c->tie)) : NULL;
        if (!c->dead)
            kinds[p != NULL && p->kind < PATH_KIND_COUNT ? p->kind : PATH_KIND_COUNT]++;
    }
}

/* Of whom and of which approach `m` is. */
static struct host_client *find_client(const struct clients *cs, const Control *m)
{
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (!c->dead && memcmp(c->key, m->peer, KEY_LEN) == 0 &&
            memcmp(approach_conv(tie_approach(c->tie)), m->conv, CONV_LEN) == 0)
            return c;
    return NULL;
}

/* Tells a client, sealed, that its session is not known here any more. */
static void send_forgotten(struct presence *p, const Control *in)
{
    Control m = answer_to(in);
    if (!offer_forgotten(&m, &p->endpoint.net.own) ||
        uplink_send(p->endpoint.uplink, &m) != 0)
        log_debug("a client could not be told to begin anew");
}

/*
 * Each introduction opens sockets once. A conv that comes again when its client is gone
 * is a client that missed the end, or a broker that replays: neither gets more than an
 * answer. True when it was seen; remembers it.
 */
static bool conv_seen(struct clients *cs, const uint8_t conv[static CONV_LEN])
{
    for (size_t i = 0; i < CONVS_KEPT; i++)
        if (memcmp(cs->convs[i], conv, CONV_LEN) == 0)
            return true;
    memcpy(cs->convs[cs->conv_next++ % CONVS_KEPT], conv, CONV_LEN);
    return false;
}

static void on_newcomer(struct presence *p, const Control *m)
{
    struct clients *cs = p->host->clients;
    const Introduce *in = &m->body.introduce;
    const char *reason = "";
    Offer o;
    p->host->figures.introductions++;
    if (offer_open(&o, &p->endpoint.net.own, m->peer, m->conv, in->sealed.bytes,
                   in->sealed.size) != 0) {
        log_debug("dropped an introduction that is not genuine");
        return;
    }
    unsigned uses, code = judge(cs, m->peer, &o, &uses, &reason);
    if (code != 0 && (o.fresh || code == REFUSE_LIMIT)) {
        refuse(p, m, code, reason);
        return;
    }
    if (code != 0) { /* a refusal is the broker's word: by it no session ends */
        send_forgotten(p, m);
        return;
    }
    bool seen = conv_seen(cs, m->conv);
    if (!o.fresh || seen) {
        if (!o.fresh && seen) /* it was away for longer than we waited */
            silence_note_sleeper(cs, m->peer);
        send_forgotten(p, m);
        return;
    }
    if (!admit(p, m, &o, uses, &reason)) {
        refuse(p, m, REFUSE_LIMIT, reason);
        return;
    }
    struct host_client *c = host_client_new(p, m, &o, uses > 0);
    if (c == NULL) {
        refuse(p, m, REFUSE_LIMIT, "the host is out of memory");
        return;
    }
    approach_on_early(tie_approach(c->tie), in);
}

/* Of a session that this program does not know: it began after its client did. */
static void on_unknown(struct presence *p, const Control *m)
{
    const Signal *s = &m->body.signal;
    const char *reason = "";
    unsigned uses;
    Offer o;
    if (offer_open(&o, &p->endpoint.net.own, m->peer, m->conv, s->sealed.bytes,
                   s->sealed.size) == 0 &&
        judge(p->host->clients, m->peer, &o, &uses, &reason) == 0)
        send_forgotten(p, m);
}

void clients_on_control(struct presence *p, const Control *m)
{
    struct host_client *c = find_client(p->host->clients, m);
    if (c != NULL)
        approach_on_control(tie_approach(c->tie), m);
    else if (m->which_body == Control_introduce_tag)
        on_newcomer(p, m);
    else if (m->which_body == Control_signal_tag)
        on_unknown(p, m);
}

/* ------------------------------------------------------------------------- the end */

/*
 * Killed between its introduction and the end of the handshake, most likely. A living
 * client asks again within seconds, and begins anew after 12 s without an answer.
 */
static bool is_abandoned(const struct host_client *c, uint64_t now_ms)
{
    const struct session *session = tie_session(c->tie);
    uint64_t heard_ms =
        session != NULL ? session_heard_us(session) / 1000 : c->since_ms;
    uint64_t age_ms = now_ms - c->since_ms;
    return age_ms > (uint64_t)(c->unlisted ? JOIN_TIMEOUT_MS : HELLO_TIMEOUT_MS) ||
           (now_ms > heard_ms && now_ms - heard_ms > HELLO_SILENT_MS);
}

static void on_sweep(void *ctx)
{
    struct clients *cs = ctx;
    uint64_t now_ms = loop_now_ms(cs->host->loop);
    struct host_client *next;
    uint64_t now_us = clock_us();
    for (struct host_client *c = cs->first; c != NULL; c = next) {
        next = c->next;
        if (!c->dead && !host_client_is_open(c)) {
            c->dead = is_abandoned(c, now_ms);
        } else if (!c->dead && c->unlisted && now_ms - c->since_ms > JOIN_TIMEOUT_MS) {
            host_client_end(c, REFUSE_EXPIRED, "the invite was not used");
        } else if (!c->dead) {
            silence_check(c, now_us);
        }
        if (c->dead)
            host_client_free(c);
    }
}

/* ------------------------------------------------------------------ what all are told
 */

void clients_on_uplink(struct clients *cs, const struct presence *p, bool up)
{
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (c->presence == p && !c->dead)
            tie_on_uplink(c->tie, up);
}

void clients_on_network_change(struct clients *cs)
{
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (!c->dead)
            tie_on_network_change(c->tie);
}

void clients_on_presence_end(struct clients *cs, const struct presence *p)
{
    for (struct host_client *c = cs->first, *next; c != NULL; c = next) {
        next = c->next;
        if (c->presence != p)
            continue;
        host_client_end(c, 0, "the host's key was replaced");
        host_client_free(c);
    }
}

void clients_send_services(struct clients *cs)
{
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (c->who.member && host_client_is_open(c))
            host_client_send_services(c);
}

void clients_announce_key(struct clients *cs)
{
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (c->who.member && host_client_is_open(c))
            presence_announce(c->presence, tie_session(c->tie));
}

void clients_check(struct clients *cs)
{
    int64_t version = roster_version(cs->host->roster);
    if (version == cs->roster_version)
        return;
    cs->roster_version = version;
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (!c->dead && c->who.member && !c->who.portal && !c->who.agent &&
            roster_client_find(cs->host->roster, c->who.listed, NULL) ==
                POSTERN_ERR_NOTFOUND)
            host_client_end(c, REFUSE_REVOKED, "this device was removed by the host");
    clients_sweep_soon(cs);
}

unsigned clients_revoke(struct clients *cs, const uint8_t key[static KEY_LEN])
{
    unsigned n = 0;
    for (struct host_client *c = cs->first; c != NULL; c = c->next) {
        if (c->dead || memcmp(c->who.listed, key, KEY_LEN) != 0)
            continue;
        n += host_client_is_open(c);
        host_client_end(c, REFUSE_REVOKED, "this device was removed by the host");
    }
    clients_sweep_soon(cs);
    return n;
}

void clients_end_portal(struct clients *cs)
{
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (!c->dead && c->who.portal)
            host_client_end(c, REFUSE_DENIED, "this host opens nothing to the portal");
    clients_sweep_soon(cs);
}

bool clients_is_connected(const struct clients *cs, const uint8_t key[static KEY_LEN])
{
    for (const struct host_client *c = cs->first; c != NULL; c = c->next)
        if (host_client_is_open(c) && memcmp(c->who.listed, key, KEY_LEN) == 0)
            return true;
    return false;
}

static bool each_reason(const struct host_client *c,
                        bool (*each)(void *ctx, struct event *e, bool portal),
                        void *ctx)
{
    struct event e;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (host_client_rejected_event(&e, c, (enum path_kind)k) &&
            !each(ctx, &e, c->who.portal))
            return false;
    return true;
}

bool clients_each(struct clients *cs, bool reasons,
                  bool (*each)(void *ctx, struct event *e, bool portal), void *ctx)
{
    for (struct host_client *c = cs->first; c != NULL; c = c->next) {
        struct event e;
        if (c->dead || tie_session(c->tie) == NULL)
            continue;
        host_client_event(&e, c);
        if (!each(ctx, &e, c->who.portal) || (reasons && !each_reason(c, each, ctx)))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------------ the whole */

struct clients *clients_new(struct host *h)
{
    struct clients *cs = calloc(1, sizeof(*cs));
    if (cs == NULL)
        return NULL;
    cs->host = h;
    cs->roster_version = roster_version(h->roster);
    silence_init(cs);
    timer_init(&cs->sweep, h->loop, on_sweep, cs);
    timer_every(&cs->sweep, CLIENTS_SWEEP_MS, CLIENTS_SWEEP_MS);
    return cs;
}

size_t clients_count(const struct clients *cs)
{
    return cs->count;
}

void clients_close(struct clients *cs)
{
    if (cs == NULL)
        return;
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        host_client_end(c, 0, "the host stopped");
    while (cs->first != NULL)
        host_client_free(cs->first);
    timer_stop(&cs->sweep);
    free(cs);
}

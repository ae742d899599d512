/* One client of this host: what it says in its session, and what becomes of that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/access.h"
#include "host/clients_internal.h"
#include "host/portal_visits.h"
#include "host/via.h"
#include "io/audit.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/statedir.h"

bool host_client_is_open(const struct host_client *c)
{
    return !c->dead && tie_open_session(c->tie) != NULL;
}

/* --------------------------------------------------------------------- the session */

static bool on_authorize(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct host_client *c = ctx;
    struct roster_invite invite;
    if (c->who.agent)
        return true;
    if (c->who.portal)
        return access_is_open(c->host->access);
    if (roster_client_find(c->host->roster, peer, NULL) == 0)
        return true;
    bool good = c->has_invite && roster_invite_find(c->host->roster, c->invite_id,
                                                    statedir_now_s(), &invite) == 0;
    if (!good) /* what was good as it introduced itself has changed since */
        session_deny(tie_session(c->tie),
                     c->has_invite ? clients_why_over(c->all, c->invite_id)
                     : roster_is_revoked(c->host->roster, peer)
                         ? "this device was removed by the host"
                         : "this device is not on the host's list");
    return good;
}

/* `spent`: it is the answer to an invite that gave nothing. */
static void send_services(struct host_client *c, bool spent)
{
    const struct host *h = c->host;
    Meta *m = calloc(1, sizeof(*m));
    struct roster_client entry;
    bool listed = roster_client_find(h->roster, c->who.listed, &entry) == 0;
    if (m == NULL)
        return;
    m->which_body = Meta_services_tag;
    Services *list = &m->body.services;
    list->spent = spent;
    (void)snprintf(list->host_name, sizeof(list->host_name), "%s", h->settings.name);
    if (listed || c->who.agent) {
        const pb_size_t max = sizeof(list->services) / sizeof(list->services[0]);
        for (size_t i = 0; i < h->services.count && list->services_count < max; i++) {
            const struct service *sv = &h->services.items[i];
            if (!c->who.agent && !service_is_for(sv, entry.name, entry.allowed))
                continue;
            ServiceInfo *info = &list->services[list->services_count++];
            (void)snprintf(info->name, sizeof(info->name), "%s", sv->name);
            (void)snprintf(info->title, sizeof(info->title), "%s", sv->title);
            info->port = sv->port;
            info->udp = sv->udp;
        }
    }
    if (session_send_meta(tie_session(c->tie), m) != 0)
        log_debug("the list of services could not be sent");
    free(m);
}

void host_client_send_services(struct host_client *c)
{
    send_services(c, false);
}

static void send_denied(struct host_client *c, unsigned code, const char *reason)
{
    Meta m = {.which_body = Meta_denied_tag};
    m.body.denied.code = code;
    (void)snprintf(m.body.denied.reason, sizeof(m.body.denied.reason), "%s", reason);
    if (session_send_meta(tie_session(c->tie), &m) != 0)
        log_debug("a denial could not be sent");
}

/* As the list has it; false: it is not there, and keeps the short form of its key. */
static bool take_name(struct host_client *c)
{
    struct roster_client listed;
    if (c->who.agent)
        return true;
    if (c->who.portal ||
        roster_client_find(c->host->roster, c->who.listed, &listed) != 0)
        return false;
    (void)snprintf(c->name, sizeof(c->name), "%s", listed.name);
    return true;
}

static void became_member(struct host_client *c)
{
    if (!take_name(c))
        return;
    c->who.member = true;
    if (!c->who.agent)
        presence_note_used(c->host, c->who.listed);
}

static void tell_joined(struct host_client *c)
{
    struct event e;
    char key[KEY_TEXT_LEN];
    event_begin(&e, "joined");
    event_text(&e, "device", c->name);
    event_text(&e, "key", key_format(c->key, key));
    events_print(c->host->out, &e);
    const struct path *p = session_path(tie_session(c->tie));
    char from[ADDR_TEXT_LEN] = "", detail[KEY_TEXT_LEN + 32] = "";
    struct addr seen =
        approach_peer_seen(tie_approach(c->tie)); /* a relay's address tells nothing */
    if (seen.family != ADDR_NONE)
        (void)addr_format_ip(&seen, from);
    (void)snprintf(detail, sizeof(detail), "%s%s%s", key, p != NULL ? ", over " : "",
                   p != NULL ? path_kind_name(p->kind) : "");
    audit_note(c->host->audit, "joined", c->name, from, "", detail);
}

/* What is wrong at the host is no fault of the invite, which stays as good as it was.
 */
static void deny_join(struct host_client *c, const Join *j, int rc,
                      const struct fault *f)
{
    if (rc == POSTERN_ERR_EXPIRED || rc == POSTERN_ERR_NOTFOUND) {
        send_denied(c, REFUSE_EXPIRED, clients_why_over(c->all, j->invite_id));
    } else if (rc == POSTERN_ERR_DENIED) {
        send_denied(c, REFUSE_EXPIRED, "the invite does not let this device in");
    } else if (rc == POSTERN_ERR_KEY) {
        send_denied(c, REFUSE_DENIED, ROSTER_EARLIER);
    } else {
        log_fault(LOG_LEVEL_WARN, f);
        send_denied(c, REFUSE_LIMIT,
                    rc == POSTERN_ERR_FULL
                        ? "the host's disk is full: it cannot write this device down"
                        : "the host cannot write this device down");
    }
}

/* The joiner proves inside the session that it holds the invite's secret. */
static void on_join(struct host_client *c, const Join *j)
{
    struct clients *cs = c->all;
    struct roster_invite invite;
    struct fault f = {0};
    uint8_t exporter[32], proof[32];
    int rc =
        roster_invite_find(cs->host->roster, j->invite_id, statedir_now_s(), &invite);
    if (rc == 0 && session_exporter(tie_session(c->tie), exporter) == 0) {
        link_invite_proof(proof, invite.secret, exporter, sizeof(exporter));
        rc =
            sodium_memcmp(proof, j->proof, sizeof(proof)) == 0 ? 0 : POSTERN_ERR_DENIED;
    }
    if (rc == 0)
        rc = roster_invite_consume(cs->host->roster, j->invite_id, c->key, j->name,
                                   statedir_now_s(), &f);
    sodium_memzero(&invite, sizeof(invite));
    bool spent =
        (rc == POSTERN_ERR_EXPIRED || rc == POSTERN_ERR_NOTFOUND) && c->who.member;
    if (rc != 0 && !spent) { /* who used it itself, perhaps, is in */
        deny_join(c, j, rc, &f);
        return;
    }
    invitees_give_back(&cs->invitees, j->invite_id, loop_now_ms(cs->host->loop));
    became_member(c);
    c->unlisted = false;
    approach_admit(tie_approach(c->tie));
    if (!spent)
        tell_joined(c);
    /* The invite may be older than the key, or what the device knows of this host. */
    presence_announce(c->presence, tie_session(c->tie));
    presence_announce_earlier(c->host, tie_session(c->tie));
    send_services(c, spent);
}

/* All sessions of this device, not only the one that brought the new key. */
static void list_under(struct host_client *c, const uint8_t new_key[static KEY_LEN])
{
    uint8_t old[KEY_LEN];
    memcpy(old, c->who.listed, KEY_LEN);
    for (struct host_client *o = c->all->first; o != NULL; o = o->next)
        if (memcmp(o->who.listed, old, KEY_LEN) == 0)
            memcpy(o->who.listed, new_key, KEY_LEN);
}

/* A client's new key, signed by the one that this session proved. */
static void on_rotate(struct host_client *c, const Rotate *r)
{
    if (key_verify_rotation(r->signature, r->new_key, c->key) != 0) {
        send_denied(c, REFUSE_DENIED, "the new key is not signed by the old one");
        return;
    }
    if (r->proof.size != KEY_SIG_LEN ||
        key_verify_proof(r->proof.bytes, c->key, r->new_key) != 0) {
        send_denied(c, REFUSE_DENIED, "the new key is not this device's");
        return;
    }
    int err = portal_has_key(c->host, r->new_key) ||
                      memcmp(r->new_key, c->host->key.pub, KEY_LEN) == 0
                  ? POSTERN_ERR_INVALID /* which are never on the list */
                  : roster_rotate(c->host->roster, c->who.listed, r->new_key);
    if (err != 0) {
        send_denied(
            c, REFUSE_DENIED,
            err == POSTERN_ERR_DENIED    ? "this device's new key was removed"
            : err == POSTERN_ERR_INVALID ? "another device has the new key"
            : err == POSTERN_ERR_LIMIT
                ? "this device's key was changed too often: have it removed first"
                : "the new key could not be listed");
        return;
    }
    list_under(c, r->new_key);
    Meta m = {.which_body = Meta_rotate_tag, .body.rotate = *r}; /* the receipt */
    if (session_send_meta(tie_session(c->tie), &m) != 0)
        log_debug("the receipt of a new key could not be sent");
}

static void on_meta(void *ctx, const Meta *m)
{
    struct host_client *c = ctx;
    if (c->who.portal && m->which_body != Meta_ping_tag) {
        send_denied(c, REFUSE_DENIED, "the portal has no place on the list");
        return;
    }
    c->spoke = true;
    if (!c->who.member)
        became_member(c); /* the first frames may come before on_open is told */
    switch (m->which_body) {
    case Meta_join_tag:
        on_join(c, &m->body.join);
        break;
    case Meta_list_tag:
        if (c->who.member) {
            presence_announce(c->presence, tie_session(c->tie));
            host_client_send_services(c);
        } else {
            send_denied(c, REFUSE_DENIED, "this device has not joined this host");
        }
        break;
    case Meta_alive_tag:
        silence_on_alive(c, &m->body.alive);
        break;
    case Meta_rotate_tag:
        if (c->who.member)
            on_rotate(c, &m->body.rotate);
        break;
    case Meta_names_tag:
        if (c->who.agent)
            via_on_names(c->host, &m->body.names);
        break;
    case Meta_ping_tag: {
        Meta pong = {.which_body = Meta_pong_tag,
                     .body.pong.nonce = m->body.ping.nonce};
        if (session_send_meta(tie_session(c->tie), &pong) != 0)
            log_debug("a pong could not be sent");
        break;
    }
    default:
        break;
    }
}

static void on_open(void *ctx)
{
    struct host_client *c = ctx;
    struct host_figures *n = &c->host->figures;
    n->opened++;
    histogram_note(&n->opening, (loop_now_ms(c->host->loop) - c->since_ms) * 1000);
    became_member(c);
}

static void on_stream(void *ctx, struct stream *st)
{
    struct host_client *c = ctx;
    c->spoke = true;
    if (!c->who.member)
        became_member(c);
    service_stream_accept(c->host->streams, &c->who, st);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct host_client *c = ctx;
    log_debug("session of %s ended: %s (%s)", c->name, why, postern_strerror(err));
    c->dead = true;
    clients_sweep_soon(c->all);
}

static void on_refused(void *ctx, unsigned code, const char *reason)
{
    (void)ctx;
    log_debug("the broker refused: %s (%u)", reason, code);
}

static const struct tie_events tie_events = {
    .authorize = on_authorize,
    .on_open = on_open,
    .on_meta = on_meta,
    .on_close = on_close,
    .on_refused = on_refused,
    .on_stream = on_stream,
};

/* -------------------------------------------------------------- beginning and end */

struct host_client *host_client_new(struct presence *p, const Control *m,
                                    const Offer *o, bool unlisted)
{
    struct clients *cs = p->host->clients;
    struct host_client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->all = cs;
    c->host = p->host;
    c->presence = p;
    memcpy(c->key, m->peer, KEY_LEN);
    memcpy(c->who.listed, m->peer, KEY_LEN);
    key_short(c->key, c->name);
    c->who.agent = cs->host->to_agent;
    c->who.portal = !c->who.agent && portal_has_key(c->host, c->key);
    if (c->who.agent || c->who.portal)
        (void)snprintf(c->name, sizeof(c->name), c->who.agent ? "agent" : "portal");
    else if (!unlisted)
        (void)take_name(c); /* its Offer was sealed by the key of that name */
    c->has_invite = o->invite_id.size == INVITE_ID_LEN;
    if (c->has_invite)
        memcpy(c->invite_id, o->invite_id.bytes, INVITE_ID_LEN);
    c->unlisted = unlisted;
    c->since_ms = loop_now_ms(cs->host->loop);
    struct tie_config tc = {
        .endpoint = &p->endpoint,
        .approach = {.allowed = c->who.agent ? 1u << PATH_RELAY : c->host->paths,
                     .jit_window_ms = c->host->jit_window_ms,
                     .unlisted = unlisted},
        .events = &tie_events,
        .ctx = c};
    memcpy(tc.approach.peer, m->peer, KEY_LEN);
    memcpy(tc.approach.conv, m->conv, CONV_LEN);
    if (tie_new_host(&c->tie, &tc, o, &m->body.introduce) != 0) {
        free(c);
        return NULL;
    }
    c->who.tie = c->tie;
    struct holding *nobody;
    if (holdings_take(&cs->sessions, &c->held, c->key, &nobody) != 0) {
        tie_free(c->tie);
        free(c);
        return NULL;
    }
    c->next = cs->first;
    if (cs->first != NULL)
        cs->first->prev = c;
    cs->first = c;
    cs->count++;
    spare_count(&cs->host->spare);
    return c;
}

void host_client_end(struct host_client *c, unsigned code, const char *reason)
{
    tie_close(c->tie, code, reason);
    c->dead = true;
}

void host_client_free(struct host_client *c)
{
    struct clients *cs = c->all;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        cs->first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    cs->count--;
    enum path_kind kind = tie_way(c->tie)->kind;
    c->host->figures.ended[kind < PATH_KIND_COUNT ? kind : PATH_KIND_COUNT]++;
    holdings_give_back(&cs->sessions, &c->held);
    tie_free(c->tie);
    free(c);
}

void clients_sweep_soon(struct clients *cs)
{
    timer_every(&cs->sweep, 0, CLIENTS_SWEEP_MS);
}

/* Of the first direct kind that failed; NULL: none has. */
static const char *why_relayed(const struct host_client *c)
{
    const char *why = NULL;
    for (unsigned k = 0; why == NULL && k < PATH_KIND_COUNT; k++)
        if (path_kind_is_direct((enum path_kind)k))
            why = approach_failure(tie_approach(c->tie), (enum path_kind)k);
    return why;
}

void host_client_event(struct event *e, const struct host_client *c)
{
    struct path *p = session_path(tie_session(c->tie));
    event_begin(e, "session");
    event_text(e, "peer", c->name);
    event_text(e, "kind", path_kind_name(p != NULL ? p->kind : PATH_KIND_NONE));
    if (p != NULL) {
        event_addr(e, "local", &p->local);
        event_addr(e, "remote", &p->remote);
    }
    event_rtt(e, "rtt_ms", p != NULL ? session_rtt_us(tie_session(c->tie)) : 0);
    event_int(e, "streams", session_stream_count(tie_session(c->tie)));
    event_int(e, "sent_bytes", (int64_t)session_bytes_sent(tie_session(c->tie)));
    event_int(e, "received_bytes",
              (int64_t)session_bytes_received(tie_session(c->tie)));
    event_int(e, "silent_s", (int64_t)(silence_of(c, clock_us()) / 1000000));
    const char *why =
        p != NULL && !path_kind_is_direct(p->kind) ? why_relayed(c) : NULL;
    if (why != NULL)
        event_text(e, "why", why);
}

bool host_client_rejected_event(struct event *e, const struct host_client *c,
                                enum path_kind kind)
{
    const struct path *p = session_path(tie_session(c->tie));
    const char *why = approach_failure(tie_approach(c->tie), kind);
    if (why == NULL || (p != NULL && p->kind == kind))
        return false;
    event_begin(e, "rejected");
    event_text(e, "peer", c->name);
    event_text(e, "kind", path_kind_name(kind));
    event_text(e, "reason", why);
    return true;
}

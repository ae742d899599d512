/*
 * Clients of this host: from the introduction that the broker delivers, over the check
 * against the host's own list, to the session and its end. The broker's word counts
 * for nothing here: an Offer that was not sealed by a listed key (or by the holder of
 * an open invite) is refused before any socket is opened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/internal.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/statedir.h"
#include "path/offer.h"

static void refuse(struct face *face, const Introduce *in, unsigned code,
                   const char *reason)
{
    Control m = {.which_body = Control_refuse_tag};
    memcpy(m.body.refuse.peer, in->peer, KEY_LEN);
    memcpy(m.body.refuse.conv, in->conv, CONV_LEN);
    m.body.refuse.code = code;
    (void)snprintf(m.body.refuse.reason, sizeof(m.body.refuse.reason), "%s", reason);
    if (uplink_send(face->endpoint.uplink, &m) != 0)
        log_debug("a refusal could not be sent");
}

static struct guest *find_guest(const struct serve *s, const uint8_t *key,
                                const uint8_t *conv)
{
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (!g->dead && memcmp(g->key, key, KEY_LEN) == 0 &&
            memcmp(approach_conv(tie_approach(g->tie)), conv, CONV_LEN) == 0)
            return g;
    return NULL;
}

/* --------------------------------------------------------------------- the session */

static bool on_authorize(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct guest *g = ctx;
    struct roster_invite invite;
    if (g->agent)
        return true;
    if (g->portal)
        return caller_may_enter(g->serve);
    if (roster_client_find(g->serve->roster, peer, NULL) == 0)
        return true;
    return g->has_invite && roster_invite_find(g->serve->roster, g->invite_id,
                                               statedir_now_s(), &invite) == 0;
}

void guest_send_services(struct guest *g)
{
    struct serve *s = g->serve;
    Meta *m = calloc(1, sizeof(*m));
    struct roster_client c;
    bool listed = roster_client_find(s->roster, g->listed, &c) == 0;
    if (m == NULL)
        return;
    m->which_body = Meta_services_tag;
    Services *list = &m->body.services;
    (void)snprintf(list->host_name, sizeof(list->host_name), "%s", s->settings.name);
    if (listed || g->agent) {
        const pb_size_t max = sizeof(list->services) / sizeof(list->services[0]);
        for (size_t i = 0; i < s->services.count && list->services_count < max; i++) {
            const struct service *sv = &s->services.items[i];
            if (!g->agent && !service_is_for(sv, c.name, c.allowed))
                continue;
            ServiceInfo *info = &list->services[list->services_count++];
            (void)snprintf(info->name, sizeof(info->name), "%s", sv->name);
            info->port = sv->port;
            info->udp = sv->udp;
        }
    }
    if (session_send_meta(tie_session(g->tie), m) != 0)
        log_debug("the list of services could not be sent");
    free(m);
}

static void send_denied(struct guest *g, unsigned code, const char *reason)
{
    Meta m = {.which_body = Meta_denied_tag};
    m.body.denied.code = code;
    (void)snprintf(m.body.denied.reason, sizeof(m.body.denied.reason), "%s", reason);
    if (session_send_meta(tie_session(g->tie), &m) != 0)
        log_debug("a denial could not be sent");
}

/* As the list has it; false: it is not there, and keeps the short form of its key. */
static bool take_name(struct guest *g)
{
    struct roster_client c;
    if (g->agent)
        return true;
    if (g->portal || roster_client_find(g->serve->roster, g->listed, &c) != 0)
        return false;
    (void)snprintf(g->name, sizeof(g->name), "%s", c.name);
    return true;
}

static void became_member(struct guest *g)
{
    if (take_name(g))
        g->member = true;
}

static void tell_joined(struct guest *g)
{
    struct event e;
    char key[KEY_TEXT_LEN];
    event_begin(&e, "joined");
    event_text(&e, "device", g->name);
    event_text(&e, "key", key_format(g->key, key));
    events_print(g->serve->config->out, &e);
    const struct path *p = session_path(tie_session(g->tie));
    char from[ADDR_TEXT_LEN] = "", detail[KEY_TEXT_LEN + 32] = "";
    struct addr seen =
        approach_peer_seen(tie_approach(g->tie)); /* a relay's address tells nothing */
    if (seen.family != ADDR_NONE)
        (void)addr_format_ip(&seen, from);
    (void)snprintf(detail, sizeof(detail), "%s%s%s", key, p != NULL ? ", over " : "",
                   p != NULL ? path_kind_name(p->kind) : "");
    serve_audit(g->serve, "joined", g->name, from, "", detail);
}

/* What is wrong at the host is no fault of the invite, which stays as good as it was.
 */
static void deny_join(struct guest *g, int rc, const struct fault *f)
{
    if (rc == POSTERN_ERR_EXPIRED || rc == POSTERN_ERR_NOTFOUND) {
        send_denied(g, REFUSE_EXPIRED, "the invite has expired or was used already");
    } else if (rc == POSTERN_ERR_DENIED) {
        send_denied(g, REFUSE_EXPIRED, "the invite does not let this device in");
    } else {
        log_fault(LOG_LEVEL_WARN, f);
        send_denied(g, REFUSE_LIMIT,
                    rc == POSTERN_ERR_FULL
                        ? "the host's disk is full: it cannot write this device down"
                        : "the host cannot write this device down");
    }
}

/* The joiner proves inside the session that it holds the invite's secret. */
static void on_join(struct guest *g, const Join *j)
{
    struct serve *s = g->serve;
    struct roster_invite invite;
    struct fault f = {0};
    uint8_t exporter[32], proof[32];
    int rc = roster_invite_find(s->roster, j->invite_id, statedir_now_s(), &invite);
    if (rc == 0 && session_exporter(tie_session(g->tie), exporter) == 0) {
        link_invite_proof(proof, invite.secret, exporter, sizeof(exporter));
        rc =
            sodium_memcmp(proof, j->proof, sizeof(proof)) == 0 ? 0 : POSTERN_ERR_DENIED;
    }
    if (rc == 0)
        rc = roster_invite_consume(s->roster, j->invite_id, g->key, j->name,
                                   statedir_now_s(), &f);
    sodium_memzero(&invite, sizeof(invite));
    if ((rc == POSTERN_ERR_EXPIRED || rc == POSTERN_ERR_NOTFOUND) && g->member)
        rc = 0; /* it used that invite itself, and is in */
    if (rc != 0) {
        deny_join(g, rc, &f);
        return;
    }
    invitees_give_back(&s->invitees, j->invite_id, loop_now_ms(s->loop));
    became_member(g);
    g->unlisted = false;
    approach_admit(tie_approach(g->tie));
    tell_joined(g);
    guest_announce_rotation(g); /* the invite may be older than the key */
    guest_announce_earlier(g);  /* or what the device knows of this host */
    guest_send_services(g);
}

/* All sessions of this device, not only the one that brought the new key. */
static void list_under(struct guest *g, const uint8_t new_key[static KEY_LEN])
{
    uint8_t old[KEY_LEN];
    memcpy(old, g->listed, KEY_LEN);
    for (struct guest *o = g->serve->guests; o != NULL; o = o->next)
        if (memcmp(o->listed, old, KEY_LEN) == 0)
            memcpy(o->listed, new_key, KEY_LEN);
}

/* A client's new key, signed by the one that this session proved. */
static void on_rotate(struct guest *g, const Rotate *r)
{
    if (key_verify_rotation(r->signature, r->new_key, g->key) != 0 ||
        roster_rotate(g->serve->roster, g->listed, r->new_key) != 0) {
        send_denied(g, REFUSE_DENIED, "the new key is not signed by the old one");
        return;
    }
    list_under(g, r->new_key);
    Meta m = {.which_body = Meta_rotate_tag, .body.rotate = *r}; /* the receipt */
    if (session_send_meta(tie_session(g->tie), &m) != 0)
        log_debug("the receipt of a new key could not be sent");
}

static void on_meta(void *ctx, const Meta *m)
{
    struct guest *g = ctx;
    if (g->portal && m->which_body != Meta_ping_tag) {
        send_denied(g, REFUSE_DENIED, "the portal has no place on the list");
        return;
    }
    g->spoke = true;
    if (!g->member)
        became_member(g); /* the first frames may come before on_open is told */
    switch (m->which_body) {
    case Meta_join_tag:
        on_join(g, &m->body.join);
        break;
    case Meta_list_tag:
        if (g->member) {
            guest_announce_rotation(g);
            guest_send_services(g);
        } else {
            send_denied(g, REFUSE_DENIED, "this device has not joined this host");
        }
        break;
    case Meta_alive_tag:
        absent_on_alive(g, &m->body.alive);
        break;
    case Meta_rotate_tag:
        if (g->member)
            on_rotate(g, &m->body.rotate);
        break;
    case Meta_names_tag:
        if (g->agent)
            via_on_names(g->serve, &m->body.names);
        break;
    case Meta_ping_tag: {
        Meta pong = {.which_body = Meta_pong_tag,
                     .body.pong.nonce = m->body.ping.nonce};
        if (session_send_meta(tie_session(g->tie), &pong) != 0)
            log_debug("a pong could not be sent");
        break;
    }
    default:
        break;
    }
}

static void on_open(void *ctx)
{
    struct guest *g = ctx;
    became_member(g);
}

static void on_stream(void *ctx, struct stream *st)
{
    struct guest *g = ctx;
    g->spoke = true;
    if (!g->member)
        became_member(g);
    outlet_accept(g, st);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct guest *g = ctx;
    log_debug("session of %s ended: %s (%s)", g->name, why, postern_strerror(err));
    g->dead = true;
    guest_sweep_soon(g->serve);
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

/* -------------------------------------------------------------- before the session */

/*
 * Who may be answered at all; 0, or the refusal's code with its words. `uses` is what
 * is left of the invite of who comes by one, else 0.
 */
static unsigned judge(struct serve *s, const uint8_t *key, const Offer *o,
                      unsigned *uses, const char **reason)
{
    *uses = 0;
    struct roster_invite invite;
    bool broker = caller_is_broker(s, key);
    if (s->to_agent) {
        *reason = "only its agent comes to this host";
        return broker ? 0 : REFUSE_DENIED;
    }
    if (broker) {
        *reason = "this host opens nothing to the portal";
        return caller_may_enter(s) ? 0 : REFUSE_DENIED;
    }
    int err = roster_client_find(s->roster, key, NULL);
    if (err == 0)
        return 0;
    if (err != POSTERN_ERR_NOTFOUND) {
        *reason = "the host cannot read its list of devices just now";
        return REFUSE_LIMIT;
    }
    if (o->invite_id.size == INVITE_ID_LEN) {
        if (roster_invite_find(s->roster, o->invite_id.bytes, statedir_now_s(),
                               &invite) == 0) {
            *uses = invite.uses_left > 0 ? (unsigned)invite.uses_left : 1;
            sodium_memzero(&invite, sizeof(invite));
            return 0;
        }
        *reason = "the invite has expired or was used already";
        return REFUSE_EXPIRED;
    }
    if (roster_is_revoked(s->roster, key)) {
        *reason = "this device was removed by the host";
        return REFUSE_REVOKED;
    }
    *reason = "this device is not on the host's list";
    return REFUSE_DENIED;
}

/* Those who came by an invite (that one, or any) and have not joined; the oldest. */
static struct guest *find_invitees(const struct serve *s, const uint8_t *id,
                                   unsigned *count)
{
    struct guest *oldest = NULL;
    *count = 0;
    for (struct guest *g = s->guests; g != NULL; g = g->next) {
        if (g->dead || !g->unlisted ||
            (id != NULL && memcmp(g->invite_id, id, INVITE_ID_LEN) != 0))
            continue;
        (*count)++;
        if (oldest == NULL || g->since_ms < oldest->since_ms)
            oldest = g;
    }
    return oldest;
}

/* Makes room for one more who holds that invite, at the cost of who had time enough. */
static bool admit_invitee(struct serve *s, const uint8_t *id, unsigned uses,
                          const struct addr *from)
{
    uint64_t now_ms = loop_now_ms(s->loop);
    unsigned same, all;
    struct guest *oldest_same = find_invitees(s, id, &same);
    struct guest *oldest = find_invitees(s, NULL, &all);
    struct guest *leaves = same >= invitees_at_once(uses) ? oldest_same
                           : all >= INVITEES_MAX          ? oldest
                                                          : NULL;
    if ((leaves != NULL && (now_ms - leaves->since_ms < INVITEE_PATIENCE_MS ||
                            !invitees_has_turn(&s->invitees, from, now_ms))) ||
        !invitees_take(&s->invitees, id, uses, now_ms))
        return false;
    if (leaves != NULL) {
        invitees_note_turn(&s->invitees, from, now_ms);
        guest_close(leaves, REFUSE_LIMIT, "another device came with that invite");
    }
    return true;
}

/* Those who have just been let in open the sockets of their paths in the next seconds;
 * and so will the one who comes now. */
static long about_to_open(const struct serve *s)
{
    long sockets = COMING_SOCKETS;
    uint64_t now_ms = loop_now_ms(s->loop);
    for (const struct guest *g = s->guests; /* the newest first */
         g != NULL && now_ms - g->since_ms < YOUNG_MS; g = g->next)
        sockets += tie_open_session(g->tie) != NULL ? YOUNG_SOCKETS : COMING_SOCKETS;
    return sockets;
}

static bool has_descriptors(const struct face *face, unsigned percent)
{
    const struct serve *s = face->serve;
    long apart = (long)s->outlets.count - about_to_open(s);
    return net_has_descriptors(&face->endpoint.net, percent, apart);
}

/* Who only holds an invite shares a part with the others like him. */
static bool has_invitee_share(struct serve *s)
{
    unsigned invitees;
    (void)find_invitees(s, NULL, &invitees);
    return invitees == 0 ||
           (invitees + 1) * COMING_SOCKETS <= net_descriptors_share(INVITEE_PERCENT);
}

/* True: there is room for this one. `uses`: as judge. */
static bool admit(struct face *face, const Introduce *in, const Offer *o, unsigned uses,
                  const char **reason)
{
    struct serve *s = face->serve;
    const uint8_t *key = in->peer;
    struct addr from = {0};
    if (in->vouched_count > 0 && /* the first is whence its connection comes */
        addr_from_bytes(&from, in->vouched[0].ip.bytes, in->vouched[0].ip.size, 0) != 0)
        from = (struct addr){0};
    *reason = "the host has no file descriptors left";
    if (uses > 0 && !has_invitee_share(s))
        return false;
    if (!has_descriptors(face, LISTED_PERCENT) &&
        (!absent_make_room(s, key, true) || !has_descriptors(face, MADE_ROOM_PERCENT)))
        return false;
    *reason = "that invite was tried too often; try again in a minute";
    if (uses > 0 && !admit_invitee(s, o->invite_id.bytes, uses, &from))
        return false;
    *reason = "all sessions that this device may have at the host are in use";
    return absent_make_room(s, key, false);
}

static struct guest *guest_new(struct face *face, const Introduce *in, const Offer *o,
                               bool unlisted)
{
    struct serve *s = face->serve;
    struct guest *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return NULL;
    g->serve = s;
    g->face = face;
    memcpy(g->key, in->peer, KEY_LEN);
    memcpy(g->listed, in->peer, KEY_LEN);
    key_short(g->key, g->name);
    g->agent = s->to_agent;
    g->portal = !g->agent && caller_is_broker(s, g->key);
    if (g->agent || g->portal)
        (void)snprintf(g->name, sizeof(g->name), g->agent ? "agent" : "portal");
    else if (!unlisted)
        (void)take_name(g); /* its Offer was sealed by the key of that name */
    g->has_invite = o->invite_id.size == INVITE_ID_LEN;
    if (g->has_invite)
        memcpy(g->invite_id, o->invite_id.bytes, INVITE_ID_LEN);
    g->unlisted = unlisted;
    g->since_ms = loop_now_ms(s->loop);
    struct tie_config tc = {
        .endpoint = &face->endpoint,
        .approach = {.allowed = g->agent ? 1u << PATH_RELAY : s->config->paths,
                     .jit_window_ms = s->config->jit_window_ms,
                     .unlisted = unlisted},
        .events = &tie_events,
        .ctx = g};
    memcpy(tc.approach.peer, in->peer, KEY_LEN);
    memcpy(tc.approach.conv, in->conv, CONV_LEN);
    if (tie_new_host(&g->tie, &tc, o, in) != 0) {
        free(g);
        return NULL;
    }
    struct holding *nobody;
    if (holdings_take(&s->sessions, &g->held, g->key, &nobody) != 0) {
        tie_free(g->tie);
        free(g);
        return NULL;
    }
    g->next = s->guests;
    if (s->guests != NULL)
        s->guests->prev = g;
    s->guests = g;
    s->guest_count++;
    spare_count(&s->spare);
    return g;
}

/* Tells a client, sealed, that its session is not known here any more. */
static void send_forgotten(struct face *face, const Introduce *in)
{
    Control m = {.which_body = Control_signal_tag};
    Offer o = {.fresh = true};
    memcpy(o.conv, in->conv, CONV_LEN);
    size_t n =
        offer_seal(m.body.signal.sealed.bytes, sizeof(m.body.signal.sealed.bytes), &o,
                   &face->endpoint.net.own, in->peer);
    if (n == 0)
        return;
    m.body.signal.sealed.size = (pb_size_t)n;
    memcpy(m.body.signal.peer, in->peer, KEY_LEN);
    memcpy(m.body.signal.conv, in->conv, CONV_LEN);
    if (uplink_send(face->endpoint.uplink, &m) != 0)
        log_debug("a client could not be told to begin anew");
}

/*
 * Each introduction opens sockets once. A conv that comes again when its guest is gone
 * is a client that missed the end, or a broker that replays: neither gets more than an
 * answer. True when it was seen; remembers it.
 */
static bool conv_seen(struct serve *s, const uint8_t conv[static CONV_LEN])
{
    for (size_t i = 0; i < CONVS_KEPT; i++)
        if (memcmp(s->convs[i], conv, CONV_LEN) == 0)
            return true;
    memcpy(s->convs[s->conv_next++ % CONVS_KEPT], conv, CONV_LEN);
    return false;
}

void guest_on_introduce(struct face *face, const Control *m)
{
    struct serve *s = face->serve;
    const Introduce *in = &m->body.introduce;
    const char *reason = "";
    Offer o;
    struct guest *g = find_guest(s, in->peer, in->conv);
    if (g != NULL) {
        approach_on_control(tie_approach(g->tie), m);
        return;
    }
    if (approach_open_offer(&o, &face->endpoint.net.own, in->peer, in->conv,
                            in->sealed.bytes, in->sealed.size) != 0) {
        log_debug("dropped an introduction that is not genuine");
        return;
    }
    unsigned uses, code = judge(s, in->peer, &o, &uses, &reason);
    if (code != 0 && (o.fresh || code == REFUSE_LIMIT)) {
        refuse(face, in, code, reason);
        return;
    }
    if (code != 0) { /* a refusal is the broker's word: by it no session ends */
        send_forgotten(face, in);
        return;
    }
    bool seen = conv_seen(s, in->conv);
    if (!o.fresh || seen) {
        if (!o.fresh && seen) /* it was away for longer than we waited */
            absent_note_sleeper(s, in->peer);
        send_forgotten(face, in);
        return;
    }
    if (!admit(face, in, &o, uses, &reason)) {
        refuse(face, in, REFUSE_LIMIT, reason);
        return;
    }
    g = guest_new(face, in, &o, uses > 0);
    if (g == NULL) {
        refuse(face, in, REFUSE_LIMIT, "the host is out of memory");
        return;
    }
    if (in->early.size > 0) {
        Control carry = {.which_body = Control_carry_tag};
        carry.body.carry.packet.size = in->early.size;
        memcpy(carry.body.carry.packet.bytes, in->early.bytes, in->early.size);
        approach_on_control(tie_approach(g->tie), &carry);
    }
}

void guest_on_control(struct face *face, const Control *m)
{
    struct proto_way w;
    struct guest *g =
        proto_control_way(m, &w) ? find_guest(face->serve, w.peer, w.conv) : NULL;
    if (g != NULL)
        approach_on_control(tie_approach(g->tie), m);
}

/* ------------------------------------------------------------------------- the end */

void guest_close(struct guest *g, unsigned code, const char *reason)
{
    tie_close(g->tie, code, reason);
    g->dead = true;
}

void guest_free(struct guest *g)
{
    struct serve *s = g->serve;
    if (g->prev != NULL)
        g->prev->next = g->next;
    else
        s->guests = g->next;
    if (g->next != NULL)
        g->next->prev = g->prev;
    s->guest_count--;
    holdings_give_back(&s->sessions, &g->held);
    tie_free(g->tie);
    free(g);
}

void guest_sweep_soon(struct serve *s)
{
    timer_every(&s->sweep, 0, SWEEP_MS);
}

/*
 * Killed between its introduction and the end of the handshake, most likely. A living
 * client asks again within seconds, and begins anew after 12 s without an answer.
 */
static bool is_abandoned(const struct guest *g, uint64_t now_ms)
{
    const struct session *session = tie_session(g->tie);
    uint64_t heard_ms =
        session != NULL ? session_heard_us(session) / 1000 : g->since_ms;
    uint64_t age_ms = now_ms - g->since_ms;
    return age_ms > (uint64_t)(g->unlisted ? JOIN_TIMEOUT_MS : HELLO_TIMEOUT_MS) ||
           (now_ms > heard_ms && now_ms - heard_ms > HELLO_SILENT_MS);
}

void guest_sweep(struct serve *s, uint64_t now_ms)
{
    struct guest *next;
    uint64_t now_us = clock_us();
    for (struct guest *g = s->guests; g != NULL; g = next) {
        next = g->next;
        if (!g->dead && tie_open_session(g->tie) == NULL) {
            g->dead = is_abandoned(g, now_ms);
        } else if (!g->dead && g->unlisted && now_ms - g->since_ms > JOIN_TIMEOUT_MS) {
            guest_close(g, REFUSE_EXPIRED, "the invite was not used");
        } else if (!g->dead) {
            absent_check(g, now_us);
        }
        if (g->dead)
            guest_free(g);
    }
}

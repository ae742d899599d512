/*
 * Carries between an approach and its session. Decides nothing of paths (core/ladder
 * and core/paths do), and puts nothing into words for people.
 *
 * A tie is MEETING while it has no session. A client makes one on the first path that
 * may carry it, a host of the first packet on any: it is OPENING, and OPEN when both
 * have proven their keys. Given up before that it is LATE: nothing is begun any more,
 * but what is under way may open it yet. OVER, it waits to be freed.
 *
 *   MEETING ---> OPENING ---> OPEN ---> OVER; from MEETING and OPENING too
 *      |            |          ^
 *      +---> LATE <-+          |
 *             |                |
 *             +----------------+
 */
#include "session/tie.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/list.h"
#include "core/state.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/netmon.h"

enum tie_state { TIE_MEETING, TIE_OPENING, TIE_OPEN, TIE_LATE, TIE_OVER };

// clang-format off
static const uint8_t tie_next[] = {
    [TIE_MEETING] = 1u << TIE_OPENING | 1u << TIE_LATE | 1u << TIE_OVER,
    [TIE_OPENING] = 1u << TIE_OPEN | 1u << TIE_LATE | 1u << TIE_OVER,
    [TIE_OPEN]    = 1u << TIE_OVER,
    [TIE_LATE]    = 1u << TIE_OPEN | 1u << TIE_OVER,
    [TIE_OVER]    = 0,
};
// clang-format on

struct tie {
    struct endpoint *endpoint;
    const struct tie_events *events;
    void *ctx;
    bool client;
    enum tie_state state;
    uint8_t peer[KEY_LEN];
    struct approach *approach;
    struct session *session;
    uint64_t made_us;   /* what a session that has heard nothing yet says of that */
    struct tie_way way; /* used last */
};

/* --------------------------------------------------------------------- the session */

static bool on_authorize(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct tie *t = ctx;
    return t->events->authorize(t->ctx, peer);
}

static void note_way(struct tie *t, const struct path *path)
{
    t->way = (struct tie_way){.kind = path->kind, .remote = path->remote};
}

static void on_open(void *ctx)
{
    struct tie *t = ctx;
    if (t->state == TIE_OVER)
        return;
    STATE_GO(tie_next, t->state, TIE_OPEN);
    approach_set_established(t->approach);
    struct path *path = session_path(t->session);
    if (path != NULL)
        note_way(t, path);
    if (t->client && path != NULL) {
        path->rtt_us = session_rtt_us(t->session);
        approach_on_path_used(t->approach, path);
    }
    t->events->on_open(t->ctx);
}

static void on_stream(void *ctx, struct stream *st)
{
    struct tie *t = ctx;
    if (t->events->on_stream != NULL)
        t->events->on_stream(t->ctx, st);
}

static void on_meta(void *ctx, const Meta *m)
{
    struct tie *t = ctx;
    t->events->on_meta(t->ctx, m);
}

/*
 * At a host a change of path, or the death of one, may mean that a NAT has forgotten
 * the way to the broker as well, by which new clients come.
 */
static void on_used(void *ctx, struct path *path)
{
    struct tie *t = ctx;
    note_way(t, path);
    approach_on_path_used(t->approach, path);
    if (!t->client)
        uplink_refresh(t->endpoint->uplink);
    if (t->events->on_used != NULL)
        t->events->on_used(t->ctx, path);
}

static void bury(struct tie *t, struct path *path, uint64_t silent_us)
{
    char reason[96];
    (void)snprintf(reason, sizeof(reason), "nothing came through for %.1f s",
                   (double)silent_us / 1e6);
    path->silent = false;
    approach_on_path_dead(t->approach, path, reason);
}

/* It answers nothing; a path that answers may be dead to QUIC all the same. */
static bool kept_beside(struct tie *t, struct path *path)
{
    return t->session != NULL && session_silent_since_us(t->session) != 0 &&
           approach_on_path_silent(t->approach, path);
}

/*
 * Without the broker no other direct path can be found, but this one may answer again:
 * it is kept, and asked by the session like all that stand, until the broker is back.
 * A host's paths die as the client says.
 */
static void on_path_dead(void *ctx, struct path *path, uint64_t silent_us)
{
    struct tie *t = ctx;
    if (!t->client) {
        uplink_refresh(t->endpoint->uplink);
    } else if (path_kind_is_direct(path->kind) && !uplink_is_up(t->endpoint->uplink) &&
               netmon_way_of(&path->local, &path->remote) != NETMON_WAY_GONE) {
        path->silent = true;
        path->silent_since_us = clock_us() - silent_us;
    } else if (!kept_beside(t, path)) {
        bury(t, path, silent_us);
    }
}

static struct path *find_kept(const struct tie *t)
{
    LIST_EACH (struct path, p, approach_paths(t->approach), link)
        if (p->silent && path_kind_is_direct(p->kind))
            return p;
    return NULL;
}

static void bury_kept(struct tie *t)
{
    struct path *p;
    while ((p = find_kept(t)) != NULL)
        bury(t, p, clock_us() - p->silent_since_us);
}

static void on_path_rtt(void *ctx, struct path *path)
{
    struct tie *t = ctx;
    if (path->silent)
        approach_on_path_back(t->approach, path);
    approach_on_path_rtt(t->approach, path);
    if (t->events->on_answered != NULL)
        t->events->on_answered(t->ctx, path);
}

/* The connection to the broker is asked with them: the one thing that all ways share
 * may be a router that has forgotten them all. */
static void on_doubt(void *ctx)
{
    struct tie *t = ctx;
    uplink_suspect(t->endpoint->uplink);
}

/* Is it the peer, or the way to the broker? */
static void on_silent(void *ctx)
{
    struct tie *t = ctx;
    uplink_suspect(t->endpoint->uplink);
    if (tie_is_on(t))
        approach_ask(t->approach);
}

/* What stands there may lead nowhere; so may the way to the broker, by which others
 * are found. Relays are watched by who makes them. */
static void on_mute(void *ctx, struct path *path)
{
    struct tie *t = ctx;
    if (!tie_is_on(t) || !path_kind_is_direct(path->kind))
        return;
    uplink_suspect(t->endpoint->uplink);
    approach_again(t->approach, path->kind);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct tie *t = ctx;
    t->events->on_close(t->ctx, err, why);
}

static const struct session_events session_events = {
    .authorize = on_authorize,
    .on_open = on_open,
    .on_stream = on_stream,
    .on_meta = on_meta,
    .on_path = on_used,
    .on_path_dead = on_path_dead,
    .on_path_rtt = on_path_rtt,
    .on_doubt = on_doubt,
    .on_silent = on_silent,
    .on_mute = on_mute,
    .on_close = on_close,
};

static void began(struct tie *t)
{
    STATE_GO(tie_next, t->state, TIE_OPENING);
    t->made_us = session_heard_us(t->session);
    LIST_EACH (struct path, p, approach_paths(t->approach), link)
        session_add_path(t->session, p);
}

static struct session_config session_config_of(struct tie *t, uint32_t rtt_hint_us)
{
    return (struct session_config){.env = &t->endpoint->env,
                                   .events = &session_events,
                                   .ctx = t,
                                   .rtt_hint_us = rtt_hint_us};
}

static void open_session(struct tie *t, struct path *first)
{
    struct session_config sc = session_config_of(t, uplink_rtt_us(t->endpoint->uplink));
    if (session_new_client(&t->session, &sc, t->peer, first) == 0)
        began(t);
    else
        t->session = NULL;
}

/* Not before the broker's distance is known: it picks the congestion control. */
static void open_on_relay(struct tie *t)
{
    struct path *first = approach_first_path(t->approach);
    if (t->session == NULL && first != NULL && uplink_is_up(t->endpoint->uplink))
        open_session(t, first);
}

/* Host: the first packet on any path begins the session. */
static void on_first_packets(void *ctx, struct path *p, const uint8_t *buf, size_t len,
                             size_t segment_len)
{
    struct tie *t = ctx;
    struct session_config sc =
        session_config_of(t, uplink_min_rtt_us(t->endpoint->uplink));
    if (t->state != TIE_MEETING)
        return;
    if (session_new_server(&t->session, &sc, t->peer, p, buf,
                           len < segment_len ? len : segment_len) == 0) {
        began(t);
    } else {
        t->session = NULL;
        log_debug("a first packet was none");
    }
}

static void on_first_writable(void *ctx, struct path *p)
{
    (void)ctx, (void)p;
}

static const struct path_user first_user = {on_first_packets, on_first_writable};

/* -------------------------------------------------------------------- the approach */

static void on_path(void *ctx, struct path *p)
{
    struct tie *t = ctx;
    if (t->session != NULL) {
        session_add_path(t->session, p);
    } else if (!t->client) {
        p->user = &first_user;
        p->user_ctx = t;
    }
}

static void on_proven(void *ctx, struct path *p)
{
    struct tie *t = ctx;
    if (t->session != NULL && tie_is_on(t))
        session_on_proven(t->session, p);
}

static void on_select(void *ctx, struct path *p)
{
    struct tie *t = ctx;
    if (p == NULL || !tie_is_on(t))
        return;
    if (t->events->on_select != NULL)
        t->events->on_select(t->ctx, p);
    if (t->session == NULL)
        open_session(t, p);
    else
        session_use_path(t->session, p);
}

static void on_path_gone(void *ctx, struct path *p)
{
    struct tie *t = ctx;
    if (p->ended && tie_is_on(t) && t->events->on_path_ended != NULL)
        t->events->on_path_ended(t->ctx);
    if (t->session != NULL)
        session_remove_path(t->session, p);
    p->user = NULL;
}

static void on_refused(void *ctx, unsigned code, const char *reason)
{
    struct tie *t = ctx;
    t->events->on_refused(t->ctx, code, reason);
}

static void on_renewed(void *ctx)
{
    struct tie *t = ctx;
    if (tie_open_session(t) != NULL)
        session_doubt(t->session, true);
}

static void on_forgotten(void *ctx)
{
    struct tie *t = ctx;
    if (t->events->on_forgotten != NULL)
        t->events->on_forgotten(t->ctx);
}

static const struct approach_events approach_events = {
    .on_path = on_path,
    .on_proven = on_proven,
    .on_select = on_select,
    .on_path_gone = on_path_gone,
    .on_refused = on_refused,
    .on_renewed = on_renewed,
    .on_forgotten = on_forgotten,
};

/* ---------------------------------------------------------------------- life cycle */

static struct tie *tie_new(const struct tie_config *c, bool client,
                           struct approach_config *ac)
{
    struct tie *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return NULL;
    t->endpoint = c->endpoint;
    t->events = c->events;
    t->ctx = c->ctx;
    t->client = client;
    t->way.kind = PATH_KIND_NONE;
    memcpy(t->peer, c->approach.peer, KEY_LEN);
    *ac = c->approach;
    ac->net = &c->endpoint->net;
    ac->uplink = c->endpoint->uplink;
    ac->client = client;
    ac->events = &approach_events;
    ac->ctx = t;
    return t;
}

int tie_new_client(struct tie **out, const struct tie_config *c)
{
    struct approach_config ac;
    struct tie *t = tie_new(c, true, &ac);
    int rc = t != NULL ? approach_new_client(&t->approach, &ac) : POSTERN_ERR_NOMEM;
    if (rc != 0) {
        free(t);
        return rc;
    }
    open_on_relay(t);
    *out = t;
    return 0;
}

int tie_new_host(struct tie **out, const struct tie_config *c, const Offer *offer,
                 const Introduce *in)
{
    struct approach_config ac;
    struct tie *t = tie_new(c, false, &ac);
    int rc =
        t != NULL ? approach_new_host(&t->approach, &ac, offer, in) : POSTERN_ERR_NOMEM;
    if (rc != 0) {
        free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void tie_close(struct tie *t, uint64_t code, const char *reason)
{
    if (t->session != NULL)
        session_close(t->session, code, reason);
    STATE_GO(tie_next, t->state, TIE_OVER);
}

void tie_free(struct tie *t)
{
    if (t == NULL)
        return;
    STATE_GO(tie_next, t->state, TIE_OVER);
    if (t->session != NULL && session_is_ended_by_peer(t->session))
        approach_settle(t->approach);
    approach_free(t->approach); /* first: it takes the paths from the session */
    session_free(t->session);
    free(t);
}

void tie_give_up(struct tie *t, bool for_good)
{
    if (tie_is_on(t))
        STATE_GO(tie_next, t->state,
                 for_good || t->state == TIE_OPEN ? TIE_OVER : TIE_LATE);
}

struct approach *tie_approach(const struct tie *t)
{
    return t->approach;
}

const struct tie_way *tie_way(const struct tie *t)
{
    return &t->way;
}

struct session *tie_session(const struct tie *t)
{
    return t->session;
}

struct session *tie_open_session(const struct tie *t)
{
    return t->session != NULL && session_is_open(t->session) ? t->session : NULL;
}

bool tie_is_on(const struct tie *t)
{
    return t->state <= TIE_OPEN;
}

bool tie_is_open(const struct tie *t)
{
    return t->state == TIE_OPEN;
}

bool tie_is_over(const struct tie *t)
{
    return t->state == TIE_OVER;
}

struct path *tie_path(const struct tie *t)
{
    return t->state == TIE_OPEN ? session_path(t->session) : NULL;
}

uint64_t tie_heard_us(const struct tie *t)
{
    uint64_t us = t->session != NULL ? session_heard_us(t->session) : 0;
    return us != t->made_us ? us : 0;
}

void tie_on_uplink(struct tie *t, bool up)
{
    if (!tie_is_on(t))
        return;
    if (up && t->client) {
        bury_kept(t);
        open_on_relay(t);
    }
    approach_on_uplink(t->approach, up);
    if (up && tie_open_session(t) != NULL)
        session_doubt(t->session, false);
}

void tie_on_network_change(struct tie *t)
{
    if (!tie_is_on(t))
        return;
    approach_on_network_change(t->approach);
    if (tie_open_session(t) != NULL)
        session_doubt(t->session, true);
}

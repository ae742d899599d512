/*
 * Keeps a session to one host. Paths are the approach's business, bytes the session's;
 * here they are tied together, and their troubles put into words.
 */
#include "client/peer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/keepalive.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"

enum {
    RETRY_FATAL_MS = 30000,
    OPEN_TIMEOUT_MS = 12000, /* without a sign of the host; twice that the next time */
    OPEN_MAX_MS = 90000,     /* with signs of it: a machine may be busy */
    BACK_SPREAD_MS = 200,    /* all clients of a host hear at once that it is back */
    ASK_AGAIN_MS = 1000,
};

static const struct backoff_policy retry = {
    .first_ms = 300, .max_ms = 10000, .health_ms = 15000};

/* Its place went to another: soon back, it would take that one's, and so on for ever.
 * A connection that is to go through it ends the pause (peer_hurry). */
static const struct backoff_policy crowded = {
    .first_ms = 60000, .max_ms = 600000, .health_ms = 1200000};

static void begin(struct peer *p);
static void on_timer(void *ctx);

void peer_fault(struct peer *p, const struct fault *f, bool fatal)
{
    p->repeats = strcmp(p->last.what, f->what) == 0;
    p->last = *f;
    if (p->config.events->on_fault != NULL)
        p->config.events->on_fault(p->config.ctx, p, f, fatal);
}

void peer_restart(struct peer *p, const struct fault *f, bool fatal)
{
    if (p->restarting)
        return;
    p->restarting = true;
    p->lost = p->ready;
    p->ready = false;
    p->refused = fatal;
    p->over_us = clock_us();
    uint32_t ms = backoff_on_down(&p->backoff, clock_us() / 1000);
    if (fatal)
        ms = backoff_jitter_ms(&p->backoff, RETRY_FATAL_MS);
    else if (p->lost && f != NULL && f->code == POSTERN_ERR_LIMIT)
        ms = backoff_on_down(&p->crowded, clock_us() / 1000);
    timer_stop(&p->reject);
    if (p->lost) /* what was open through it is reset when that is said, not later */
        timer_start(&p->reject, 0);
    timer_start(&p->timer, ms);
    if (f != NULL)
        peer_fault(p, f, fatal);
}

/* Tells what this session has taught, when that is new. */
static void learn(struct peer *p, enum path_kind kind)
{
    struct peer_memory m = {.kind = kind};
    if (p->session == NULL || p->config.events->on_learned == NULL)
        return;
    m.keepalive_us = session_keepalive_learned(p->session);
    if (m.keepalive_us == 0)
        m.keepalive_us = p->memory.keepalive_us;
    if (m.kind == p->memory.kind && m.keepalive_us == p->memory.keepalive_us)
        return;
    p->memory = m;
    p->config.events->on_learned(p->config.ctx, p, &m);
}

static void drop(struct peer *p)
{
    if (p->ready)
        learn(p, p->memory.kind);
    session_free(p->session); /* first: it lets go of the paths */
    p->session = NULL;
    approach_free(p->approach);
    p->approach = NULL;
    p->used = NULL;
    live_release(p->live); /* last: others may say now that it is over */
    p->live = NULL;
    memset(p->paths, 0, sizeof(p->paths));
}

/* --------------------------------------------------------------------- the session */

/* The relay's two stages are one kind to people. */
static void tell_path(struct peer *p, const struct path *path)
{
    if (path == NULL || (path->kind == PATH_RELAY && p->told == PATH_RELAY))
        return;
    p->told = path->kind;
    p->told_id = path->id;
    p->moved_id = 0;
    p->told_elapsed_us = clock_us() - p->began_us;
    if (p->config.events->on_path != NULL)
        p->config.events->on_path(p->config.ctx, p, path, p->told_elapsed_us);
}

/* The broker's fault, while no kind can be tried for want of it; else NULL. */
static const struct fault *why_not_begun(const struct peer *p)
{
    return p->ready && !peer_is_silent(p)
               ? NULL
               : uplink_fault(p->config.endpoint->uplink, NULL);
}

/* Kinds that ended in a reason are told once an attempt. */
static void on_reject_tick(void *ctx)
{
    struct peer *p = ctx;
    char reason[LADDER_REASON_LEN];
    if (p != NULL && p->restarting && p->lost)
        drop(p);
    if (p == NULL || p->approach == NULL)
        return;
    peer_watch_silence(p);
    if (p->approach == NULL || p->restarting || why_not_begun(p) != NULL ||
        (p->ready && session_silent_since_us(p->session) != 0))
        return; /* in a network that carries nothing, no kind has a reason of its own */
    peer_run_trial(p);
    const struct ladder *l = approach_ladder(p->approach);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        bool ended = ladder_kind_ended(l, (enum path_kind)k);
        bool in_use = p->used != NULL && p->used->kind == (enum path_kind)k;
        if (!ended || in_use) {
            p->rejected[k] = false;
            continue;
        }
        bool direct_stands = p->used != NULL && path_kind_is_direct(p->used->kind);
        if (p->rejected[k] ||
            (direct_stands && ladder_rung_state(l, (enum path_kind)k) == RUNG_WAITING))
            continue;
        p->rejected[k] = true;
        if (p->config.events->on_rejected != NULL)
            p->config.events->on_rejected(
                p->config.ctx, p, (enum path_kind)k,
                approach_reason(p->approach, (enum path_kind)k, reason));
    }
}

static void on_open(void *ctx)
{
    struct peer *p = ctx;
    if (p->restarting && (p->refused || p->lost))
        return;
    /* What was given up and comes all the same is better than another try. */
    p->restarting = false;
    p->unanswered = false;
    timer_every(&p->reject, PEER_TICK_MS, PEER_TICK_MS);
    approach_set_established(p->approach);
    p->ready = true;
    p->last.what[0] = '\0'; /* what comes now is news */
    backoff_on_up(&p->backoff, clock_us() / 1000);
    backoff_on_up(&p->crowded, clock_us() / 1000);
    timer_stop(&p->timer);
    struct path *path = session_path(p->session);
    if (path != NULL) {
        p->used = path;
        path->rtt_us = session_rtt_us(p->session);
        approach_on_path_used(p->approach, path);
        tell_path(p, path);
    }
    session_keepalive_recall(p->session, p->memory.keepalive_us);
    session_keep_alive(p->session);
    peer_meta_begin(p);
    if (!p->config.joining && p->config.events->on_ready != NULL)
        p->config.events->on_ready(p->config.ctx, p);
}

static void on_stream(void *ctx, struct stream *st)
{
    (void)ctx, (void)st; /* hosts open none: it is reset */
}

static void on_session_path(void *ctx, struct path *path)
{
    struct peer *p = ctx;
    if (p->used == path)
        return;
    p->used = path;
    approach_on_path_used(p->approach, path);
    if (p->ready && !p->trial.running && path->id != p->told_id)
        tell_path(p, path); /* a trial is news when it is over, and kept */
    if (path_kind_is_direct(path->kind))
        learn(p, path->kind);
}

static void bury(struct peer *p, struct path *path, uint64_t silent_us)
{
    char reason[96];
    (void)snprintf(reason, sizeof(reason), "nothing came through for %.1f s",
                   (double)silent_us / 1e6);
    path->silent = false;
    approach_on_path_dead(p->approach, path, reason);
}

/*
 * Without the broker no other direct path can be found, but this one may answer again:
 * it is kept, and asked by the session like all that stand, until the broker is back.
 */
static void on_path_dead(void *ctx, struct path *path, uint64_t silent_us)
{
    struct peer *p = ctx;
    if (path_kind_is_direct(path->kind) && !uplink_is_up(p->config.endpoint->uplink) &&
        netmon_way_of(&path->local, &path->remote) != NETMON_WAY_GONE) {
        path->silent = true;
        path->silent_since_us = clock_us() - silent_us;
    } else {
        bury(p, path, silent_us);
    }
}

static void bury_kept(struct peer *p)
{
    for (int i = 0; i < PEER_PATHS_MAX && p->approach != NULL; i++)
        if (p->paths[i] != NULL && p->paths[i]->silent)
            bury(p, p->paths[i], clock_us() - p->paths[i]->silent_since_us);
}

/* Is it the host, or the way to the broker? */
static void on_silent(void *ctx)
{
    struct peer *p = ctx;
    uplink_suspect(p->config.endpoint->uplink);
    if (p->approach != NULL && !p->restarting)
        approach_ask(p->approach);
}

static void on_path_rtt(void *ctx, struct path *path, uint32_t rtt_us)
{
    struct peer *p = ctx;
    path->rtt_us = rtt_us;
    path->silent = false;
    approach_on_path_rtt(p->approach, path);
    if (p->ready && path == p->used && path->id == p->moved_id)
        tell_path(p, path);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct peer *p = ctx;
    struct fault f;
    bool denied = err == POSTERN_ERR_DENIED || strstr(why, "removed") != NULL;
    const struct fault *broker = why_not_begun(p);
    if (broker != NULL && err == POSTERN_ERR_CLOSED && !denied) { /* both lost it */
        f = *broker;
        peer_restart(p, &f, false);
        return;
    }
    const char *advice = ADVICE_RETRIED;
    if (denied)
        advice = "ask the host's owner for a new invite";
    else if (err == POSTERN_ERR_KEY)
        advice = "join again with a fresh link; do not go on if this is unexpected";
    (void)fault_set(&f, denied ? POSTERN_ERR_DENIED : err, advice, "%.64s: %.120s",
                    p->config.name, why);
    peer_restart(p, &f, denied || err == POSTERN_ERR_KEY);
}

static const struct session_events session_events = {
    .on_open = on_open,
    .on_stream = on_stream,
    .on_meta = peer_meta_take,
    .on_path = on_session_path,
    .on_path_dead = on_path_dead,
    .on_path_rtt = on_path_rtt,
    .on_silent = on_silent,
    .on_close = on_close,
};

static void open_session(struct peer *p, struct path *first)
{
    struct session_config sc = {.env = &p->config.endpoint->env,
                                .events = &session_events,
                                .ctx = p,
                                .rtt_hint_us =
                                    uplink_rtt_us(p->config.endpoint->uplink)};
    if (session_new_client(&p->session, &sc, p->config.key, first) != 0) {
        p->session = NULL;
        return;
    }
    p->made_us = session_heard_us(p->session);
    for (int i = 0; i < PEER_PATHS_MAX; i++)
        if (p->paths[i] != NULL)
            session_add_path(p->session, p->paths[i]);
}

/* -------------------------------------------------------------------- the approach */

static void on_path(void *ctx, struct path *path)
{
    struct peer *p = ctx;
    for (int i = 0; i < PEER_PATHS_MAX; i++) {
        if (p->paths[i] == NULL) {
            p->paths[i] = path;
            break;
        }
    }
    if (p->session != NULL)
        session_add_path(p->session, path);
}

static void on_select(void *ctx, struct path *path)
{
    struct peer *p = ctx;
    if (path == NULL || p->restarting)
        return;
    peer_end_trial(p);
    if (p->session == NULL)
        open_session(p, path);
    else
        session_use_path(p->session, path);
    if (p->ready && path == p->used && path->id != p->told_id)
        tell_path(p, path); /* it was tried, and stays */
}

static void on_path_gone(void *ctx, struct path *path)
{
    struct peer *p = ctx;
    for (int i = 0; i < PEER_PATHS_MAX; i++)
        if (p->paths[i] == path)
            p->paths[i] = NULL;
    if (p->used == path)
        p->used = NULL;
    if (path->kind == PATH_RELAY && path->ended)
        peer_on_pair_ended(p);
    if (p->session != NULL)
        session_remove_path(p->session, path);
}

/* It is asked on, and whoever waits is told what for. */
static void on_refused_silent(struct peer *p)
{
    struct fault f;
    if (p->restarting || (p->session != NULL && session_is_open(p->session)))
        return;
    (void)fault_set(&f, POSTERN_ERR_TIMEOUT, ADVICE_RETRIED,
                    "%.64s does not answer its broker: its NAT has forgotten the "
                    "connection (it is renewed within %u s), or its network is down",
                    p->config.name, (unsigned)(KEEPALIVE_HOST_US / 1000000) + 2);
    peer_fault(p, &f, false);
}

static void on_refused(void *ctx, unsigned code, const char *reason)
{
    struct peer *p = ctx;
    struct fault f;
    if (reason[0] == '\0')
        reason = "it was refused without a reason";
    switch (code) {
    case REFUSE_SILENT:
        on_refused_silent(p);
        return;
    case REFUSE_OFFLINE:
        (void)fault_set(&f, POSTERN_ERR_UNREACHABLE,
                        "start 'postern serve' there, or check that machine's network",
                        "%.64s is not online at its broker", p->config.name);
        break;
    case REFUSE_DENIED:
    case REFUSE_REVOKED:
    case REFUSE_EXPIRED:
        (void)fault_set(&f, POSTERN_ERR_DENIED, "ask the host's owner for a new invite",
                        "%.64s: %.160s", p->config.name, reason);
        break;
    default:
        (void)fault_set(&f, POSTERN_ERR_LIMIT, ADVICE_RETRIED, "%.64s: %.160s",
                        p->config.name, reason);
    }
    if (p->session != NULL && session_is_open(p->session)) {
        if (code == REFUSE_OFFLINE)
            p->signal_us = 0;
        if (code == REFUSE_GONE || code == REFUSE_BROKEN)
            peer_on_gone(p, code == REFUSE_GONE);
        log_debug("%s", f.what); /* it may live on a path, or be back in a while */
        return;
    }
    peer_restart(p, &f, f.code == POSTERN_ERR_DENIED);
}

static void on_renewed(void *ctx)
{
    struct peer *p = ctx;
    if (p->session != NULL && session_is_open(p->session))
        session_doubt(p->session, true);
}

static void on_forgotten(void *ctx)
{
    struct peer *p = ctx;
    struct fault f;
    (void)fault_set(
        &f, POSTERN_ERR_CLOSED, ADVICE_RETRIED,
        "%.64s does not know this session any more: it was restarted, or this "
        "device was removed or silent for too long; open connections through it are "
        "lost",
        p->config.name);
    backoff_reset(&p->backoff);
    peer_restart(p, &f, false);
}

static const struct approach_events approach_events = {
    .on_path = on_path,
    .on_select = on_select,
    .on_path_gone = on_path_gone,
    .on_refused = on_refused,
    .on_renewed = on_renewed,
    .on_forgotten = on_forgotten,
};

/* Not before the broker's distance is known: it picks the congestion control. */
static void open_on_relay(struct peer *p)
{
    struct path *first = approach_first_path(p->approach);
    if (p->session == NULL && first != NULL && uplink_is_up(p->config.endpoint->uplink))
        open_session(p, first);
}

/* When the host was last heard in this try, through the broker or on a path; or 0. */
static uint64_t heard_us(const struct peer *p)
{
    uint64_t us = p->session != NULL ? session_heard_us(p->session) : 0;
    if (us == p->made_us)
        us = 0;
    return us > p->signal_us ? us : p->signal_us;
}

static unsigned patience_ms(const struct peer *p)
{
    return p->unanswered ? 2 * OPEN_TIMEOUT_MS : OPEN_TIMEOUT_MS;
}

/*
 * Is the try under way to be left alone? What is under way at a busy host, or here, is
 * nearer to its end than another try would be.
 */
static bool advances(struct peer *p)
{
    uint64_t now_us = clock_us(), heard = heard_us(p);
    if (heard == 0) {
        p->unanswered = true;
        return false;
    }
    return now_us - heard < OPEN_TIMEOUT_MS * 1000ull &&
           now_us - p->began_us < OPEN_MAX_MS * 1000ull;
}

static void begin(struct peer *p)
{
    struct approach_config ac = {.net = &p->config.endpoint->net,
                                 .uplink = p->config.endpoint->uplink,
                                 .client = true,
                                 .allowed = p->config.paths,
                                 .jit_window_ms = p->config.jit_window_ms,
                                 .preferred = PATH_KIND_NONE,
                                 .events = &approach_events,
                                 .ctx = p};
    drop(p);
    memcpy(p->config.key, p->key, KEY_LEN);
    p->restarting = p->lost = false;
    p->ready = false;
    p->told = PATH_KIND_NONE;
    p->told_id = p->moved_id = 0;
    peer_reset_trial(p);
    p->gone_us = p->pair_ended_us = p->signal_us = 0;
    p->limit_s = p->told_limit_s = 0;
    p->told_silent = false;
    memset(p->rejected, 0, sizeof(p->rejected));
    p->began_us = clock_us();
    p->memory = (struct peer_memory){.kind = PATH_KIND_NONE};
    if (p->config.events->on_recall != NULL)
        p->config.events->on_recall(p->config.ctx, p, &p->memory);
    ac.preferred = p->memory.kind;
    memcpy(ac.peer, p->config.key, KEY_LEN);
    randombytes_buf(ac.conv, sizeof(ac.conv));
    if (p->config.state != NULL) /* before the host can know of it */
        p->live = live_hold(p->config.state, p->config.key, ac.conv);
    if (p->config.joining && !p->joined) {
        ac.has_invite = true;
        link_invite_id(ac.invite_id, p->config.secret);
    }
    if (approach_new_client(&p->approach, &ac) != 0) {
        p->approach = NULL;
        peer_restart(p, NULL, false);
        return;
    }
    open_on_relay(p);
    timer_start(&p->timer, patience_ms(p));
    timer_every(&p->reject, PEER_TICK_MS, PEER_TICK_MS);
}

/* The time for opening is over, or the pause before another try. */
static void on_timer(void *ctx)
{
    struct peer *p = ctx;
    struct fault f;
    if (p->restarting || p->approach == NULL) {
        begin(p);
        return;
    }
    if (p->ready) {
        peer_check_gone(p);
        return;
    }
    /* Without the broker its own fault was told. */
    if (!uplink_is_up(p->config.endpoint->uplink) ||
        (advances(p) && !peer_is_hopeless(p))) {
        timer_start(&p->timer, OPEN_TIMEOUT_MS);
        return;
    }
    peer_unanswered(p, &f);
    peer_restart(p, &f, false);
}

/* --------------------------------------------------------------------------- calls */

int peer_open(struct peer **out, const struct peer_config *c)
{
    struct peer *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return POSTERN_ERR_NOMEM;
    uint64_t seed;
    p->config = *c;
    memcpy(p->key, c->key, KEY_LEN);
    randombytes_buf(&seed, sizeof(seed));
    backoff_init(&p->backoff, &retry, seed);
    backoff_init(&p->crowded, &crowded, ~seed);
    timer_init(&p->timer, c->endpoint->net.loop, on_timer, p);
    timer_init(&p->reject, c->endpoint->net.loop, on_reject_tick, p);
    begin(p);
    *out = p;
    return 0;
}

void peer_close(struct peer *p)
{
    if (p == NULL)
        return;
    p->restarting = true;
    drop(p);
    timer_stop(&p->timer);
    timer_stop(&p->reject);
    free(p->services);
    sodium_memzero(p->config.secret, sizeof(p->config.secret));
    free(p);
}

void peer_on_uplink(struct peer *p, bool up)
{
    if (!up && p->gone_broken) /* the host finds no broker either: silence decides */
        p->gone_us = 0;
    if (p->approach != NULL && !p->restarting) {
        if (up) {
            bury_kept(p);
            open_on_relay(p);
        }
        approach_on_uplink(p->approach, up);
        if (up && p->session != NULL && session_is_open(p->session))
            session_doubt(p->session, false);
    }
    if (up && p->restarting) /* the pause was for the broker's absence */
        timer_start(&p->timer, 50);
}

/* We pause since the host was not there, and it is now. */
static bool is_back(const struct peer *p, const Control *m)
{
    return p->restarting && m->which_body == Control_refuse_tag &&
           m->body.refuse.code == REFUSE_BACK && peer_is_offline(p) &&
           memcmp(m->body.refuse.peer, p->config.key, KEY_LEN) == 0;
}

bool peer_owns(const struct peer *p, const Control *m)
{
    struct proto_way w;
    if (is_back(p, m))
        return true;
    return p->approach != NULL && !p->restarting &&
           m->which_body != Control_introduce_tag && proto_control_way(m, &w) &&
           memcmp(w.conv, approach_conv(p->approach), CONV_LEN) == 0 &&
           memcmp(w.peer, p->config.key, KEY_LEN) == 0;
}

void peer_on_control(struct peer *p, const Control *m)
{
    if (is_back(p, m)) {
        timer_start(&p->timer, randombytes_uniform(BACK_SPREAD_MS));
        return;
    }
    if (m->which_body == Control_signal_tag)
        p->signal_us = clock_us();
    approach_on_control(p->approach, m);
}

void peer_on_network_change(struct peer *p)
{
    if (p->approach == NULL || p->restarting)
        return;
    p->began_us = clock_us();
    p->memory = (struct peer_memory){.kind = PATH_KIND_NONE};
    memset(p->rejected, 0, sizeof(p->rejected));
    const struct path *used = p->used;
    struct addr local = used != NULL ? used->local : (struct addr){0};
    approach_on_network_change(p->approach);
    peer_reset_trial(p);
    if (p->session != NULL && session_is_open(p->session))
        session_doubt(p->session, true);
    if (p->ready && used != NULL && used == p->used &&
        !addr_equal(&local, &used->local))
        p->moved_id = used->id;
}

const struct fault *peer_broker_fault(const struct peer *p, bool *fatal)
{
    return uplink_fault(p->config.endpoint->uplink, fatal);
}

void peer_hurry(struct peer *p)
{
    uplink_hurry(p->config.endpoint->uplink);
    if (!p->restarting || peer_is_offline(p)) /* the broker says when it is back */
        return;
    uint64_t over_ms = (clock_us() - p->over_us) / 1000;
    uint64_t ms = over_ms < ASK_AGAIN_MS ? ASK_AGAIN_MS - over_ms : 0; /* in measure */
    if (ms < timer_due_in_ms(&p->timer))
        timer_start(&p->timer, ms);
}

bool peer_fault_repeats(const struct peer *p)
{
    return p->repeats;
}

bool peer_is_ready(const struct peer *p)
{
    return p->ready && !p->restarting;
}

const char *peer_name(const struct peer *p)
{
    return p->config.name;
}

const uint8_t *peer_key(const struct peer *p)
{
    return p->key;
}

const uint8_t *peer_own_key(const struct peer *p)
{
    return p->config.endpoint->net.own.pub;
}

void peer_rekey(struct peer *p, const uint8_t key[static KEY_LEN])
{
    memcpy(p->key, key, KEY_LEN);
}

struct session *peer_session(struct peer *p)
{
    return p->session;
}

const struct path *peer_path(const struct peer *p)
{
    return p->restarting ? NULL : p->used;
}

bool peer_path_elapsed(const struct peer *p, uint64_t *us)
{
    const struct path *path = peer_path(p);
    *us = p->told_elapsed_us;
    return path != NULL && path->id == p->told_id;
}

const Services *peer_services(const struct peer *p)
{
    return p->services;
}

const char *peer_reason(const struct peer *p, enum path_kind k,
                        char buf[static LADDER_REASON_LEN])
{
    const struct fault *broker = why_not_begun(p);
    bool off = p->approach != NULL &&
               ladder_rung_state(approach_ladder(p->approach), k) == RUNG_OFF;
    if (off) /* whatever the network does */
        (void)approach_reason(p->approach, k, buf);
    else if (broker != NULL)
        (void)snprintf(buf, LADDER_REASON_LEN, "not tried: %.200s", broker->what);
    else if (p->approach == NULL || p->restarting)
        (void)snprintf(buf, LADDER_REASON_LEN, "not tried: %.200s",
                       p->last.what[0] != '\0' ? p->last.what
                                               : "no attempt was made yet");
    else if (peer_is_offline(p) || peer_is_silent(p))
        (void)snprintf(buf, LADDER_REASON_LEN, "%.200s", p->last.what);
    else
        (void)approach_reason(p->approach, k, buf);
    return buf;
}

const char *peer_preference(const struct peer *p, char buf[static LADDER_REASON_LEN])
{
    buf[0] = '\0';
    if (p->approach != NULL)
        (void)ladder_preference(approach_ladder(p->approach), buf);
    return buf;
}

bool peer_kind_told_off(const struct peer *p, enum path_kind k)
{
    return p->approach != NULL && p->rejected[k] &&
           ladder_rung_state(approach_ladder(p->approach), k) == RUNG_OFF;
}

bool peer_kind_ended(const struct peer *p, enum path_kind k)
{
    return p->approach != NULL && ladder_kind_ended(approach_ladder(p->approach), k);
}

int peer_ping(struct peer *p, uint64_t nonce)
{
    Meta m = {.which_body = Meta_ping_tag, .body.ping.nonce = nonce};
    return peer_is_ready(p) ? session_send_meta(p->session, &m) : POSTERN_ERR_CLOSED;
}

int peer_call(struct peer *p, struct pump **out, const StreamOpen *open,
              const struct pump_events *events, void *ctx)
{
    uint8_t buf[PROTO_FRAME_HEADER + StreamOpen_size];
    if (!peer_is_ready(p) || peer_is_silent(p))
        return POSTERN_ERR_CLOSED;
    int n = proto_encode_frame(buf, sizeof(buf), StreamOpen_fields, open);
    if (n < 0)
        return n;
    return pump_open(out, p->session, events, ctx, buf, (size_t)n);
}

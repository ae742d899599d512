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
#include "core/patience.h"
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
    RENEWED_S = 5, /* a host's connection that its router forgot (docs/METHODS.md) */
};

static const struct backoff_policy retry = {
    .first_ms = 300, .max_ms = 10000, .health_ms = 15000};

/* Its place went to another: soon back, it would take that one's, and so on for ever.
 * A connection that is to go through it ends the pause (peer_hurry). */
static const struct backoff_policy crowded = {
    .first_ms = 60000, .max_ms = 600000, .health_ms = 1200000};

/* A host that is restarted several times is found at once each time; one that makes us
 * begin anew without end is not. */
static const struct pace_policy bidding = {.at_once = 12, .every_ms = 15000};

static void begin(struct peer *p);
static void on_timer(void *ctx);

static bool has_open_session(const struct peer *p)
{
    return p->tie != NULL && tie_open_session(p->tie) != NULL;
}

void peer_fault(struct peer *p, const struct fault *f, bool fatal)
{
    p->repeats = strcmp(p->told_fault, f->what) == 0;
    p->last = *f;
    p->comes_anew = false;
    if (p->config.events->on_fault != NULL)
        p->config.events->on_fault(p->config.ctx, p, f, fatal);
    if (!p->comes_anew) /* by another key, and nobody was told */
        (void)snprintf(p->told_fault, sizeof(p->told_fault), "%s", f->what);
}

/* Until another try. */
static void rest(struct peer *p, uint32_t ms)
{
    p->over_us = clock_us();
    timer_stop(&p->reject);
    timer_start(&p->timer, ms);
}

void peer_restart(struct peer *p, const struct fault *f, bool fatal)
{
    if (!peer_is_on(p))
        return;
    bool lost = peer_is_ready(p);
    tie_give_up(p->tie, fatal);
    uint32_t ms = backoff_on_down(&p->backoff, clock_us() / 1000);
    if (fatal)
        ms = backoff_jitter_ms(&p->backoff, RETRY_FATAL_MS);
    else if (p->soon)
        ms = backoff_jitter_ms(&p->backoff, retry.first_ms);
    else if (lost && f != NULL && f->code == POSTERN_ERR_LIMIT)
        ms = backoff_on_down(&p->crowded, clock_us() / 1000);
    p->soon = false;
    rest(p, ms);
    if (lost) /* what was open through it is reset when that is said, not later */
        timer_start(&p->reject, 0);
    if (f != NULL)
        peer_fault(p, f, fatal);
}

void peer_restart_soon(struct peer *p, const struct fault *f)
{
    p->soon = peer_is_on(p) && pace_take(&p->bidden, &bidding, clock_us() / 1000);
    peer_restart(p, f, false);
}

/* Tells what this session has taught, when that is new. */
static void learn(struct peer *p, enum path_kind kind)
{
    struct peer_memory m = {.kind = kind};
    if (peer_session(p) == NULL || p->config.events->on_learned == NULL)
        return;
    m.keepalive_us = session_keepalive_learned(peer_session(p));
    if (m.keepalive_us == 0)
        m.keepalive_us = p->memory.keepalive_us;
    if (m.kind == p->memory.kind && m.keepalive_us == p->memory.keepalive_us)
        return;
    p->memory = m;
    p->config.events->on_learned(p->config.ctx, p, &m);
}

static void drop(struct peer *p)
{
    if (peer_is_ready(p))
        learn(p, p->memory.kind);
    if (p->tie != NULL)
        tie_close(p->tie, 0, "closed");
    tie_free(p->tie);
    p->tie = NULL;
    p->tied = NULL;
    live_release(p->live); /* last: others may say now that it is over */
    p->live = NULL;
}

/* --------------------------------------------------------------------- the session */

/* The relay's two stages are one kind to people, while they start from one address. */
static void tell_path(struct peer *p, const struct path *path)
{
    if (path == NULL || (path->kind == PATH_RELAY && p->told == PATH_RELAY &&
                         addr_ip_equal(&path->local, &p->told_local)))
        return;
    p->told = path->kind;
    p->told_id = path->id;
    p->told_local = path->local;
    p->moved_id = 0;
    p->told_elapsed_us = clock_us() - p->began_us;
    if (p->config.events->on_path != NULL)
        p->config.events->on_path(p->config.ctx, p, path, p->told_elapsed_us);
}

/* The broker's fault, while no kind can be tried for want of it; else NULL. */
static const struct fault *why_not_begun(const struct peer *p)
{
    return peer_is_ready(p) && !peer_is_silent(p)
               ? NULL
               : uplink_fault(p->config.endpoint->uplink, NULL);
}

/* One reason of all, when each direct kind has had its turn. */
static void tell_relayed(struct peer *p)
{
    char reason[LADDER_REASON_LEN];
    enum path_kind k = peer_why_relayed(p, reason);
    bool direct = peer_path(p) != NULL && path_kind_is_direct(peer_path(p)->kind);
    p->told_relayed = p->told_relayed && !direct;
    for (unsigned i = 0; i < PATH_KIND_COUNT; i++)
        if (path_kind_is_direct((enum path_kind)i) && !p->rejected[i])
            return;
    if (k == PATH_KIND_NONE || p->told_relayed)
        return;
    p->told_relayed = true;
    if (p->config.events->on_relayed != NULL)
        p->config.events->on_relayed(p->config.ctx, p, k, reason);
}

/* Kinds that ended in a reason are told once an attempt. */
static void on_reject_tick(void *ctx)
{
    struct peer *p = ctx;
    char reason[LADDER_REASON_LEN];
    if (p != NULL && p->tie != NULL && tie_is_over(p->tie))
        drop(p);
    if (p == NULL || p->tie == NULL)
        return;
    peer_watch_silence(p);
    bool untried = !peer_is_ready(p) && !peer_has_broker(p);
    if (!peer_is_on(p) || untried || why_not_begun(p) != NULL ||
        (peer_is_ready(p) && session_silent_since_us(peer_session(p)) != 0))
        return; /* in a network that carries nothing, no kind has a reason of its own */
    peer_run_trial(p);
    const struct ladder *l = peer_ladder(p);
    const struct path *used = peer_path(p);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        bool ended = ladder_kind_ended(l, (enum path_kind)k);
        bool in_use = used != NULL && used->kind == (enum path_kind)k;
        if (!ended || in_use) {
            p->rejected[k] = false;
            continue;
        }
        bool direct_stands = used != NULL && path_kind_is_direct(used->kind);
        if (p->rejected[k] ||
            (direct_stands && ladder_rung_state(l, (enum path_kind)k) == RUNG_WAITING))
            continue;
        p->rejected[k] = true;
        if (p->config.events->on_rejected != NULL)
            p->config.events->on_rejected(
                p->config.ctx, p, (enum path_kind)k,
                approach_reason(tie_approach(p->tie), (enum path_kind)k, reason));
    }
    tell_relayed(p);
}

/* What was given up and comes all the same is better than another try. */
static void on_open(void *ctx)
{
    struct peer *p = ctx;
    p->unanswered = false;
    timer_every(&p->reject, PEER_TICK_MS, PEER_TICK_MS);
    p->last.what[0] = p->told_fault[0] = '\0'; /* what comes now is news */
    backoff_on_up(&p->backoff, clock_us() / 1000);
    backoff_on_up(&p->crowded, clock_us() / 1000);
    timer_stop(&p->timer);
    tell_path(p, peer_path(p));
    session_keepalive_recall(peer_session(p), p->memory.keepalive_us);
    session_keep_alive(peer_session(p));
    peer_meta_begin(p);
    if (!p->config.joining && p->config.events->on_ready != NULL)
        p->config.events->on_ready(p->config.ctx, p);
}

static void on_used(void *ctx, struct path *path)
{
    struct peer *p = ctx;
    if (peer_is_ready(p) && !p->trial.running && path->id != p->told_id)
        tell_path(p, path); /* a trial is news when it is over, and kept */
    if (path_kind_is_direct(path->kind))
        learn(p, path->kind);
}

static void on_answered(void *ctx, struct path *path)
{
    struct peer *p = ctx;
    if (path->id == p->moved_id && path == peer_path(p))
        tell_path(p, path);
    if (!p->held || !peer_is_ready(p) || peer_is_doubted(p))
        return;
    p->held = false;
    if (p->config.events->on_sure != NULL)
        p->config.events->on_sure(p->config.ctx, p);
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
    peer_restart(p, &f, patience_ends(f.code, PATIENCE_HOST));
}

static void on_select(void *ctx, struct path *path)
{
    struct peer *p = ctx;
    peer_end_trial(p);
    if (path->id != p->told_id && path == peer_path(p))
        tell_path(p, path); /* it was tried, and stays */
}

/* -------------------------------------------------------------------- the approach */

/* A broker that has just begun anew cannot know yet who is away. */
static void describe_offline(const struct peer *p, struct fault *f)
{
    static const char advice[] =
        "start 'postern serve' there, or check that machine's network; if its key was "
        "changed often meanwhile, ask for a new invite";
    if (uplink_settles_ms(p->config.endpoint->uplink) > 0)
        (void)fault_set(f, POSTERN_ERR_UNREACHABLE,
                        "start 'postern serve' there, or check that machine's network",
                        "%.64s is not back yet at its broker, which has just started",
                        p->config.name);
    else
        (void)fault_set(f, POSTERN_ERR_UNREACHABLE, advice,
                        "%.64s is not online at its broker", p->config.name);
}

/* It is asked on, and whoever waits is told what for. */
static void on_refused_silent(struct peer *p)
{
    struct fault f;
    if (!peer_is_on(p) || has_open_session(p))
        return;
    (void)fault_set(&f, POSTERN_ERR_TIMEOUT, ADVICE_RETRIED,
                    "%.64s does not answer its broker: its NAT has forgotten the "
                    "connection (it is renewed within %u s), or its network is down",
                    p->config.name, (unsigned)RENEWED_S);
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
    case REFUSE_ENDED:
        describe_offline(p, &f);
        break;
    case REFUSE_DENIED:
    case REFUSE_REVOKED:
    case REFUSE_EXPIRED:
        (void)fault_set(&f, POSTERN_ERR_DENIED, "ask the host's owner for a new invite",
                        "%.64s: %.160s", p->config.name, reason);
        break;
    case REFUSE_GONE: /* a restart, as a rule: soon back, and soon asked again */
    case REFUSE_BROKEN:
    case REFUSE_RESET:
        (void)fault_set(&f, POSTERN_ERR_CLOSED, ADVICE_RETRIED, "%.64s: %.160s",
                        p->config.name, reason);
        break;
    default:
        (void)fault_set(&f, POSTERN_ERR_LIMIT, ADVICE_RETRIED, "%.64s: %.160s",
                        p->config.name, reason);
    }
    if (has_open_session(p)) {
        if (code == REFUSE_GONE || code == REFUSE_BROKEN || code == REFUSE_RESET)
            peer_on_gone(p, code);
        else if (code == REFUSE_ENDED)
            peer_on_absent(p);
        log_debug("%s", f.what); /* it may live on a path, or be back in a while */
        return;
    }
    peer_restart(p, &f, patience_ends(f.code, PATIENCE_HOST));
}

static void on_forgotten(void *ctx)
{
    peer_on_forgotten(ctx);
}

static void on_path_ended(void *ctx)
{
    peer_on_path_ended(ctx);
}

static const struct tie_events tie_events = {
    .on_open = on_open,
    .on_meta = peer_meta_take,
    .on_close = on_close,
    .on_refused = on_refused,
    .on_used = on_used,
    .on_answered = on_answered,
    .on_select = on_select,
    .on_path_ended = on_path_ended,
    .on_forgotten = on_forgotten,
};

static unsigned opening_ms(const struct peer *p)
{
    unsigned line_ms = 4 * uplink_rtt_us(p->config.endpoint->uplink) / 1000;
    return (p->unanswered ? 2 * OPEN_TIMEOUT_MS : OPEN_TIMEOUT_MS) + line_ms;
}

/*
 * Is the try under way to be left alone? What is under way at a busy host, or here, is
 * nearer to its end than another try would be.
 */
static bool advances(struct peer *p)
{
    uint64_t now_us = clock_us(), heard = peer_heard_us(p);
    if (heard == 0) {
        p->unanswered = true;
        return false;
    }
    return now_us - heard < OPEN_TIMEOUT_MS * 1000ull &&
           now_us - p->began_us < OPEN_MAX_MS * 1000ull;
}

static void begin(struct peer *p)
{
    struct tie_config tc = {.endpoint = p->config.endpoint,
                            .approach = {.allowed = p->config.paths,
                                         .jit_window_ms = p->config.jit_window_ms,
                                         .brief = p->config.joining},
                            .events = &tie_events,
                            .ctx = p};
    struct approach_config *ac = &tc.approach;
    drop(p);
    memcpy(p->config.key, p->key, KEY_LEN);
    p->told = PATH_KIND_NONE;
    p->told_id = p->moved_id = 0;
    peer_reset_trial(p);
    p->gone_us = p->path_ended_us = 0;
    p->forgotten = false;
    p->limit_s = p->told_limit_s = 0;
    p->told_silent = false;
    memset(p->rejected, 0, sizeof(p->rejected));
    p->told_relayed = false;
    p->began_us = clock_us();
    p->memory = (struct peer_memory){.kind = PATH_KIND_NONE};
    if (p->config.events->on_recall != NULL)
        p->config.events->on_recall(p->config.ctx, p, &p->memory);
    ac->preferred = p->memory.kind;
    memcpy(ac->peer, p->config.key, KEY_LEN);
    ac->said = &p->said;
    randombytes_buf(ac->conv, sizeof(ac->conv));
    if (p->config.state != NULL) /* before the host can know of it */
        p->live = live_hold(p->config.state, p->config.key, ac->conv);
    if (p->config.joining && !p->joined) {
        ac->has_invite = true;
        link_invite_id(ac->invite_id, p->config.secret);
        link_invite_pass(ac->invite_pass, p->config.secret);
    }
    if (tie_new_client(&p->tie, &tc) != 0) {
        p->tie = NULL;
        rest(p, backoff_on_down(&p->backoff, clock_us() / 1000));
        return;
    }
    p->tied = tc.endpoint;
    timer_start(&p->timer, opening_ms(p));
    timer_every(&p->reject, PEER_TICK_MS, PEER_TICK_MS);
}

/* The time for opening is over, or the pause before another try. */
static void on_timer(void *ctx)
{
    struct peer *p = ctx;
    struct fault f;
    if (!peer_is_on(p)) {
        begin(p);
        return;
    }
    if (peer_is_ready(p)) {
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
    if (p->tie != NULL)
        tie_on_uplink(p->tie, up);
    if (up && !peer_is_on(p)) /* the pause was for the broker's absence */
        timer_start(&p->timer, 50);
    else if (up && !peer_is_ready(p)) /* from now on there is something to answer */
        timer_start(&p->timer, opening_ms(p));
}

/* We pause since the host was not there, and it is now. */
static bool is_back(const struct peer *p, const Control *m)
{
    return !peer_is_on(p) && m->which_body == Control_refuse_tag &&
           m->body.refuse.code == REFUSE_BACK && peer_is_offline(p) &&
           memcmp(m->peer, p->config.key, KEY_LEN) == 0;
}

bool peer_owns(const struct peer *p, const Control *m)
{
    return is_back(p, m) ||
           (peer_is_on(p) && memcmp(m->peer, p->config.key, KEY_LEN) == 0 &&
            memcmp(m->conv, approach_conv(tie_approach(p->tie)), CONV_LEN) == 0);
}

void peer_on_control(struct peer *p, const Control *m)
{
    if (peer_is_on(p))
        approach_on_control(tie_approach(p->tie), m);
    else if (timer_due_in_ms(&p->timer) > BACK_SPREAD_MS &&
             pace_take(&p->bidden, &bidding, clock_us() / 1000))
        timer_start(&p->timer, randombytes_uniform(BACK_SPREAD_MS));
}

void peer_on_network_change(struct peer *p)
{
    if (!peer_is_on(p))
        return;
    p->began_us = clock_us();
    p->memory = (struct peer_memory){.kind = PATH_KIND_NONE};
    memset(p->rejected, 0, sizeof(p->rejected));
    p->told_relayed = false;
    const struct path *used = peer_path(p);
    struct addr local = used != NULL ? used->local : (struct addr){0};
    tie_on_network_change(p->tie);
    peer_reset_trial(p);
    if (used != NULL && used == peer_path(p) && !addr_equal(&local, &used->local))
        p->moved_id = used->id;
}

const struct fault *peer_broker_fault(const struct peer *p, bool *fatal)
{
    return uplink_fault(p->config.endpoint->uplink, fatal);
}

void peer_hurry(struct peer *p)
{
    uplink_hurry(p->config.endpoint->uplink);
    if (peer_is_on(p) || peer_is_offline(p)) /* the broker says when it is back */
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

bool peer_has_broker(const struct peer *p)
{
    return uplink_is_up(p->config.endpoint->uplink);
}

bool peer_is_ready(const struct peer *p)
{
    return p->tie != NULL && tie_is_open(p->tie);
}

const struct fault *peer_why_none(const struct peer *p)
{
    if (peer_is_ready(p))
        return NULL;
    return p->last.what[0] != '\0' ? &p->last : peer_broker_fault(p, NULL);
}

const struct fault *peer_why_away(const struct peer *p)
{
    if (peer_is_ready(p) && peer_is_silent(p))
        return p->last.what[0] != '\0' ? &p->last : NULL;
    return peer_why_none(p);
}

bool peer_is_on(const struct peer *p)
{
    return p->tie != NULL && tie_is_on(p->tie);
}

uint64_t peer_signal_us(const struct peer *p)
{
    return approach_signal_us(tie_approach(p->tie));
}

const struct ladder *peer_ladder(const struct peer *p)
{
    return approach_ladder(tie_approach(p->tie));
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

void peer_come_as(struct peer *p, struct endpoint *endpoint,
                  const struct keypair *rotated)
{
    p->config.endpoint = endpoint;
    p->config.rotated = rotated;
    p->comes_anew = true;
    if (!peer_is_on(p))
        timer_start(&p->timer, 0);
}

bool peer_holds(const struct peer *p, const struct endpoint *endpoint)
{
    return p->config.endpoint == endpoint || p->tied == endpoint;
}

void peer_again(struct peer *p)
{
    if (peer_is_ready(p))
        return;
    if (peer_is_on(p))
        peer_restart(p, NULL, false);
    p->last = (struct fault){0};
    p->told_fault[0] = '\0';
    p->unanswered = false;
    backoff_reset(&p->backoff);
    timer_start(&p->timer, 0);
}

void peer_rekey(struct peer *p, const uint8_t key[static KEY_LEN])
{
    memcpy(p->key, key, KEY_LEN);
}

struct session *peer_session(const struct peer *p)
{
    return p->tie != NULL ? tie_session(p->tie) : NULL;
}

const struct path *peer_path(const struct peer *p)
{
    return p->tie != NULL ? tie_path(p->tie) : NULL;
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
    const struct path *used = peer_path(p);
    bool off = p->tie != NULL && ladder_rung_state(peer_ladder(p), k) == RUNG_OFF;
    if (off) /* whatever the network does */
        (void)approach_reason(tie_approach(p->tie), k, buf);
    else if (broker != NULL)
        (void)snprintf(buf, LADDER_REASON_LEN, "not tried: %s", broker->what);
    else if (!peer_is_on(p))
        (void)snprintf(buf, LADDER_REASON_LEN, "not tried: %s",
                       p->last.what[0] != '\0' ? p->last.what
                                               : "no attempt was made yet");
    else if (peer_is_offline(p) || peer_is_silent(p))
        (void)snprintf(buf, LADDER_REASON_LEN, "%s", p->last.what);
    else if (used != NULL && used->kind != k &&
             ladder_selected_kind(peer_ladder(p)) == k) /* chosen, and being proven */
        (void)snprintf(buf, LADDER_REASON_LEN,
                       "it works: used as soon as data was answered on it");
    else
        (void)approach_reason(tie_approach(p->tie), k, buf);
    return buf;
}

const char *peer_closing_reason(const struct peer *p, enum path_kind k,
                                char buf[static LADDER_REASON_LEN])
{
    bool cut = p->tie != NULL && peer_is_on(p) && !peer_is_offline(p) &&
               !peer_is_silent(p) && why_not_begun(p) == NULL &&
               (ladder_rung_state(peer_ladder(p), k) == RUNG_STARTING ||
                ladder_rung_state(peer_ladder(p), k) == RUNG_TRYING);
    return cut ? ladder_closing_reason(peer_ladder(p), k, clock_us(), buf)
               : peer_reason(p, k, buf);
}

enum path_kind peer_why_relayed(const struct peer *p,
                                char buf[static LADDER_REASON_LEN])
{
    const struct path *path = peer_path(p);
    if (!peer_is_ready(p) || peer_is_silent(p) || path == NULL ||
        path_kind_is_direct(path->kind))
        return PATH_KIND_NONE;
    enum path_kind k = ladder_telling_kind(peer_ladder(p));
    if (k != PATH_KIND_NONE)
        (void)snprintf(buf, LADDER_REASON_LEN, "%s",
                       ladder_last_reason(peer_ladder(p), k));
    return k;
}

bool peer_told_relayed(const struct peer *p)
{
    return p->told_relayed;
}

const char *peer_preference(const struct peer *p, char buf[static LADDER_REASON_LEN])
{
    buf[0] = '\0';
    if (p->tie != NULL)
        (void)ladder_preference(peer_ladder(p), buf);
    return buf;
}

bool peer_is_news(struct peer *p, enum path_kind k, const char *reason)
{
    bool news = strcmp(p->told_reason[k], reason) != 0;
    (void)snprintf(p->told_reason[k], sizeof(p->told_reason[k]), "%s", reason);
    return news;
}

bool peer_kind_ended(const struct peer *p, enum path_kind k)
{
    return p->tie != NULL && ladder_kind_ended(peer_ladder(p), k);
}

int peer_ping(struct peer *p, uint64_t nonce)
{
    Meta m = {.which_body = Meta_ping_tag, .body.ping.nonce = nonce};
    return peer_is_ready(p) ? session_send_meta(peer_session(p), &m)
                            : POSTERN_ERR_CLOSED;
}

int peer_call(struct peer *p, struct pump **out, const StreamOpen *open,
              const struct pump_events *events, void *ctx)
{
    uint8_t buf[PROTO_FRAME_HEADER + StreamOpen_size];
    p->held = peer_is_ready(p) && peer_is_doubted(p);
    if (!peer_is_ready(p) || peer_is_silent(p) || p->held)
        return POSTERN_ERR_CLOSED;
    int n = proto_encode_frame(buf, sizeof(buf), StreamOpen_fields, open);
    if (n < 0)
        return n;
    return pump_open(out, peer_session(p), events, ctx, buf, (size_t)n);
}

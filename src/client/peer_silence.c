/*
 * When nothing comes from the host any more: how long its session waits for it, and
 * what whoever waits is told, for a first session too. Knows times; paths and packets
 * are the session's.
 */
#include "client/peer_internal.h"

#include <stdio.h>

#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "path/uplink_words.h"

enum {
    /* For a probe's answer, once the broker has lost the host; beside round trips: the
     * probe's own, and over TCP those in which what was lost before it comes again. */
    GONE_MIN_MS = 250,
    GONE_ROUND_TRIPS = 4,
    GONE_MAX_MS = 2500,
    /* For a host whose router has forgotten its connections, and works: it finds out
     * by its next question to the broker, 5 s at most, and dials again. */
    RESET_MS = 8000,
    /* For one of whom the broker heard nothing for long: its access may come and go. */
    BROKEN_MS = 60000,
    TELL_S = 4, /* then people are told that nothing comes through */
    TELL_SLOW_S = 20,
    PRESENT_S = 30, /* a host that speaks to us through the broker all the while; or the
                     * broker is another than it was */
    AWAY_S = 180, /* one that the broker misses, or of whom nothing is known: as long as
                   * a router takes to start */
    CUT_OFF_S = 300, /* this machine has no network, or the broker is away */
    LONGEST_S = 600, /* whatever changes */
};

#define DOUBT_US 1000000u /* so long nothing came back */

static uint64_t seconds_us(unsigned s)
{
    return s * 1000000ull;
}

static bool is_lately(uint64_t us)
{
    return us != 0 && clock_us() - us < seconds_us(2);
}

/*
 * A program that is killed with something unread resets its connection to the broker,
 * as a router does; but what else it had over TCP (relay pair, direct path) may end in
 * order, and a router resets that too.
 */
void peer_on_path_ended(struct peer *p)
{
    p->path_ended_us = clock_us();
    if (p->gone_broken && is_lately(p->gone_us) && peer_session(p) != NULL)
        peer_on_gone(p, REFUSE_GONE);
}

/* What an answer to a probe may take now. */
static uint64_t probe_ms(const struct peer *p)
{
    uint64_t ms = GONE_MIN_MS +
                  GONE_ROUND_TRIPS * (uint64_t)session_rtt_us(peer_session(p)) / 1000;
    return ms < GONE_MAX_MS ? ms : GONE_MAX_MS;
}

void peer_on_absent(struct peer *p)
{
    if (p->gone_us != 0 && !p->gone_broken)
        return; /* that is being looked into */
    session_doubt(peer_session(p), true);
    p->gone_us = clock_us();
    p->gone_broken = false;
    timer_start(&p->timer, probe_ms(p));
}

static void end_forgotten(struct peer *p)
{
    struct fault f;
    (void)fault_set(
        &f, POSTERN_ERR_CLOSED, ADVICE_RETRIED,
        "%.64s does not know this session any more: it was restarted or gave it up, "
        "or this device was removed or silent for too long; open connections through "
        "it are lost",
        p->config.name);
    peer_restart_soon(p, &f);
}

void peer_on_forgotten(struct peer *p)
{
    uint64_t since_us = peer_is_ready(p) ? session_silent_since_us(peer_session(p)) : 0;
    if (!peer_is_ready(p) ||
        (since_us != 0 && clock_us() - since_us > 1000 * probe_ms(p))) {
        end_forgotten(p);
        return;
    }
    p->forgotten = true;
    peer_on_absent(p);
}

void peer_on_gone(struct peer *p, unsigned code)
{
    bool ended = code == REFUSE_GONE || is_lately(p->path_ended_us);
    uint64_t ms = ended ? probe_ms(p) : code == REFUSE_RESET ? RESET_MS : BROKEN_MS;
    uint64_t since_us = session_silent_since_us(peer_session(p));
    session_doubt(peer_session(p), true);
    /* Silent before: its network was cut, and now it comes back with a new connection.
     * Or it hung: whoever was reset and does not come back has ended. */
    if (code != REFUSE_RESET && since_us != 0 && clock_us() - since_us > seconds_us(1))
        return;
    p->gone_us = clock_us();
    p->gone_broken = !ended;
    timer_start(&p->timer, ms);
}

void peer_check_gone(struct peer *p)
{
    struct fault f;
    if (p->gone_us == 0 || session_answered_us(peer_session(p)) > p->gone_us ||
        peer_signal_us(p) > p->gone_us) {
        p->gone_us = 0;
        p->forgotten = false;
        return;
    }
    p->gone_us = 0;
    if (p->forgotten) {
        end_forgotten(p);
        return;
    }
    (void)fault_set(&f, POSTERN_ERR_CLOSED, ADVICE_RETRIED,
                    "%.64s has ended or lost its network; open connections through it "
                    "are lost",
                    p->config.name);
    peer_restart_soon(p, &f); /* soon asked for, it is announced when it is back */
}

/* On a full line answers wait: some round trips as they were of late say nothing. One
 * answer that was lost or late does not make a line a full one. */
static uint64_t tell_after_us(const struct peer *p)
{
    uint64_t usual = session_usual_rtt_us(peer_session(p));
    uint64_t late = uplink_late_us(p->config.endpoint->uplink);
    uint64_t us = seconds_us(TELL_S) + 4 * (usual > late ? usual : late);
    return us < seconds_us(TELL_SLOW_S) ? us : seconds_us(TELL_SLOW_S);
}

/* Once, and again where it turns out that it may take longer. */
static void tell_silence(struct peer *p, uint64_t since_us, uint64_t now_us)
{
    struct fault f;
    char advice[sizeof(f.advice)];
    bool broker = uplink_is_up(p->config.endpoint->uplink);
    if (now_us - since_us < tell_after_us(p) ||
        (p->told_silent && p->limit_s <= p->told_limit_s))
        return;
    p->told_silent = true;
    p->told_since_us = since_us;
    p->told_limit_s = p->limit_s;
    (void)snprintf(advice, sizeof(advice), "open connections wait for it, %u s at most",
                   p->limit_s);
    (void)fault_set(&f, POSTERN_ERR_TIMEOUT, advice,
                    broker ? "nothing comes from %.64s on any path: its network may be "
                             "away, or a line very slow"
                           : "nothing comes from %.64s on any path, and the broker "
                             "cannot be reached",
                    p->config.name);
    peer_fault(p, &f, false);
}

static void tell_heard(struct peer *p)
{
    approach_on_heard(tie_approach(p->tie));
    p->last.what[0] = p->told_fault[0] = '\0'; /* the next silence is news */
    if (p->config.events->on_heard != NULL)
        p->config.events->on_heard(
            p->config.ctx, p,
            (unsigned)((clock_us() - p->told_since_us) / seconds_us(1)));
}

/* How long a silence that began at `since_us` may last, as things are now. */
static unsigned limit_of(const struct peer *p, uint64_t since_us)
{
    bool fatal = false;
    struct uplink *u = p->config.endpoint->uplink;
    if (uplink_is_up(u))
        return peer_signal_us(p) > since_us ? PRESENT_S : AWAY_S;
    return uplink_fault(u, &fatal) != NULL && fatal ? PRESENT_S : CUT_OFF_S;
}

/*
 * Whoever is back after long, this side's network, the broker or the host, gets the
 * time that finding a way takes.
 */
static bool is_over(struct peer *p, uint64_t since_us, uint64_t now_us)
{
    unsigned limit_s = limit_of(p, since_us);
    if (limit_s != p->limit_s)
        p->turned_us = p->limit_s == 0 ? since_us : now_us;
    p->limit_s = limit_s;
    return now_us - since_us >= seconds_us(LONGEST_S) ||
           (now_us - since_us >= seconds_us(limit_s) &&
            now_us - p->turned_us >= seconds_us(PRESENT_S));
}

/* What is begun now may end with the session. */
bool peer_is_doubted(const struct peer *p)
{
    const struct session *s = peer_session(p);
    uint64_t since_us = session_silent_since_us(s);
    if (since_us != 0 && clock_us() - since_us > DOUBT_US)
        return true;
    return p->gone_us != 0 && session_answered_us(s) <= p->gone_us &&
           peer_signal_us(p) <= p->gone_us;
}

bool peer_is_offline(const struct peer *p)
{
    return !peer_is_ready(p) && p->last.code == POSTERN_ERR_UNREACHABLE;
}

bool peer_may_return(const struct peer *p, uint64_t within_us)
{
    const struct uplink *u = p->config.endpoint->uplink;
    return uplink_is_up(u) && (uplink_settles_ms(u) > 0 || uplink_up_us(u) < within_us);
}

bool peer_is_silent(const struct peer *p)
{
    return p->told_silent;
}

uint64_t peer_heard_us(const struct peer *p)
{
    uint64_t us = tie_heard_us(p->tie), signal_us = peer_signal_us(p);
    return us > signal_us ? us : signal_us;
}

bool peer_is_answered(const struct peer *p)
{
    return peer_is_on(p) && peer_heard_us(p) > p->began_us;
}

/*
 * Before a session is open nothing asks its path whether it lives, and what brings
 * nothing back may be this side's way to the broker: its router has forgotten the
 * connection. Where the broker does not answer either, another one is made, and over
 * that the host is asked again.
 */
static void doubt_broker(struct peer *p, uint64_t now_us)
{
    uint64_t since_us = peer_heard_us(p);
    if (since_us < p->began_us)
        since_us = p->began_us;
    if (since_us < p->doubted_us)
        since_us = p->doubted_us;
    if (now_us - since_us < DOUBT_US || !uplink_is_up(p->config.endpoint->uplink))
        return;
    p->doubted_us = now_us;
    uplink_suspect(p->config.endpoint->uplink);
}

void peer_watch_silence(struct peer *p)
{
    struct fault f;
    uint64_t since_us = peer_is_ready(p) ? session_silent_since_us(peer_session(p)) : 0;
    uint64_t now_us = clock_us();
    if (peer_is_on(p) && !peer_is_ready(p))
        doubt_broker(p, now_us);
    /* Something has come since; that all paths are asked may take longer. */
    if (since_us == 0 || (p->told_silent && since_us > p->told_since_us)) {
        bool heard = p->told_silent && peer_is_ready(p);
        p->told_silent = false;
        p->limit_s = p->told_limit_s = 0;
        if (heard)
            tell_heard(p);
    }
    if (since_us == 0)
        return;
    bool over = is_over(p, since_us, now_us);
    tell_silence(p, since_us, now_us);
    if (!over)
        return;
    (void)fault_set(&f, POSTERN_ERR_TIMEOUT, ADVICE_RETRIED,
                    "nothing came from %.64s on any path for %u s; open connections "
                    "through it are lost",
                    p->config.name, (unsigned)((now_us - since_us) / seconds_us(1)));
    peer_restart(p, &f, false);
}

/* ---------------------------------------------------------------- before a session */

/* The kind whose reason says most: the relay, where both sides allow it; else the
 * first direct one that was tried in vain, or is ruled out there. */
static enum path_kind telling_kind(const struct peer *p)
{
    const struct ladder *l = peer_ladder(p);
    bool relays = ladder_rung_state(l, PATH_RELAY) != RUNG_OFF;
    enum path_kind k = relays ? PATH_RELAY : ladder_telling_kind(l);
    for (unsigned i = 0; k == PATH_KIND_NONE && i < PATH_KIND_COUNT; i++)
        if ((p->config.paths >> i & 1) != 0)
            k = (enum path_kind)i;
    return k;
}

/* "relay: REASON", or that no kind is allowed on both sides. */
static const char *no_way_words(const struct peer *p,
                                char buf[static LADDER_REASON_LEN])
{
    const struct ladder *l = peer_ladder(p);
    bool possible = false;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        possible = possible || ladder_rung_state(l, (enum path_kind)k) != RUNG_OFF;
    enum path_kind k = telling_kind(p);
    if (!possible)
        (void)snprintf(
            buf, LADDER_REASON_LEN,
            "the two sides allow no path kind in common (--paths here and at "
            "'postern serve' there)");
    else
        (void)snprintf(buf, LADDER_REASON_LEN, "%s: %s", path_kind_name(k),
                       ladder_last_reason(l, k));
    return buf;
}

bool peer_is_hopeless(const struct peer *p)
{
    const struct ladder *l = peer_ladder(p);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if ((p->config.paths >> k & 1) != 0 &&
            (k == PATH_RELAY || !ladder_kind_failed(l, (enum path_kind)k)))
            return false;
    return true;
}

const char *peer_why_waiting(const struct peer *p, char buf[static LADDER_REASON_LEN])
{
    char why[LADDER_REASON_LEN];
    if (!peer_has_broker(p))
        uplink_describe_wait(p->config.endpoint->uplink, buf, LADDER_REASON_LEN);
    else if (peer_is_on(p) && peer_is_hopeless(p))
        words_cut(buf, LADDER_REASON_LEN,
                  snprintf(buf, LADDER_REASON_LEN, "no way to %.64s yet: %s",
                           p->config.name, no_way_words(p, why)));
    else if (p->last.what[0] != '\0') /* asked again, and it is as it was */
        (void)snprintf(buf, LADDER_REASON_LEN, "%s", p->last.what);
    else
        (void)snprintf(buf, LADDER_REASON_LEN, "%.64s has not answered yet",
                       p->config.name);
    return buf;
}

bool peer_explain(const struct peer *p, struct fault *f)
{
    bool known = peer_is_on(p) && peer_is_hopeless(p);
    if (known)
        peer_unanswered(p, f);
    return known;
}

void peer_unanswered(const struct peer *p, struct fault *f)
{
    const struct path *path =
        peer_session(p) != NULL ? session_path(peer_session(p)) : NULL;
    enum path_kind used =
        path != NULL ? path->kind : ladder_selected_kind(peer_ladder(p));
    if (used != PATH_KIND_NONE) {
        (void)fault_set(f, POSTERN_ERR_TIMEOUT, "check that the host's machine is well",
                        "%.64s did not answer: nothing came back over %s",
                        p->config.name, path_kind_name(used));
        return;
    }
    char why[LADDER_REASON_LEN];
    /* What is hopeless is not waited for once more, as something slow is. */
    (void)fault_set(
        f, peer_is_hopeless(p) ? POSTERN_ERR_UNREACHABLE : POSTERN_ERR_TIMEOUT,
        p->config.paths == PATH_KINDS_DEFAULT
            ? "check the host's network"
            : "check the host's network, or allow more --paths",
        "no way to %.64s was found: %s", p->config.name, no_way_words(p, why));
}

/*
 * `postern ping --all`: each path kind alone, one after the other, with what came of
 * it.
 */
#include "client/ping.h"

#include <stdio.h>

#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"

enum { TICK_MS = 50, KIND_MAX_MS = 12000, TELL_MS = 2000 };

/* What the time of --timeout did not reach says nothing of the kind. */
#define NO_TIME "not tried: no time left (--timeout)"

struct attempt_of_kind {
    struct client *client;
    struct peer *peer;
    enum path_kind kind;
    struct timer timer;
    uint64_t began_us, max_us;
    bool works, told;
    bool untried; /* or cut off before it had its time */
    uint64_t took_us;
    struct path path; /* as it was when it worked: for its addresses and round trip */
    char reason[LADDER_REASON_LEN];
};

/* Where no terminal shows what is tried. Before a session stands, that is told of. */
static void tell_slow(struct attempt_of_kind *s, uint64_t took_us)
{
    if (s->told || took_us < TELL_MS * 1000ull || !peer_is_ready(s->peer) ||
        log_shows_progress())
        return;
    s->told = true;
    log_warn("waiting: %s is still being tried, for %u s at most",
             path_kind_name(s->kind), (unsigned)(s->max_us / 1000000));
}

static void on_tick(void *ctx)
{
    struct attempt_of_kind *s = ctx;
    const struct path *p = peer_path(s->peer);
    uint64_t took_us = clock_us() - s->began_us;
    s->works = peer_is_ready(s->peer) && p != NULL && p->kind == s->kind;
    bool over = peer_has_broker(s->peer) && peer_kind_ended(s->peer, s->kind);
    if (!s->works && !over && took_us < s->max_us) {
        tell_slow(s, took_us);
        return;
    }
    if (!s->works && !peer_has_broker(s->peer)) { /* it says nothing of this kind */
        struct fault f;
        (void)fault_set(&f, POSTERN_ERR_TIMEOUT,
                        "see 'postern netcheck' for this network",
                        "%.64s did not answer in time", peer_name(s->peer));
        (void)peer_explain(s->peer, &f);
        client_stop(s->client, f.code, &f);
        return;
    }
    s->took_us = took_us;
    if (s->works)
        s->path = *p;
    else
        (void)peer_reason(s->peer, s->kind, s->reason);
    s->untried = !s->works && !over && s->max_us < KIND_MAX_MS * 1000ull;
    if (s->untried)
        (void)snprintf(s->reason, sizeof(s->reason), "%s", NO_TIME);
    client_stop(s->client, 0, NULL);
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct attempt_of_kind *s = ctx;
    (void)p;
    client_stop_unless(s->client, f, fatal);
}

static void tell(const struct ping_config *c, const struct attempt_of_kind *s)
{
    struct event e;
    event_begin(&e, "tried");
    event_text(&e, "peer", c->host);
    event_text(&e, "kind", path_kind_name(s->kind));
    event_text(&e, "result", s->works ? "works" : s->untried ? "untried" : "refused");
    if (s->works) {
        event_ms(&e, "elapsed_ms", s->took_us);
        event_rtt(&e, "rtt_ms", s->path.rtt_us);
        event_addr(&e, "remote", &s->path.remote);
    } else {
        event_text(&e, "reason", s->reason);
    }
    events_print(c->client.out, &e);
}

/* What came of each kind, for the table at the end. */
struct result {
    uint64_t took_us;
    uint32_t rtt_us;
    bool wanted, untried, works;
};

static const char *word_for(const struct result *r)
{
    return r->works ? "works" : r->untried ? "not tried" : "no";
}

static void tell_line(FILE *out, enum path_kind kind, const struct result *r)
{
    char took[24] = "", rtt[24] = "";
    if (r->works)
        (void)snprintf(took, sizeof(took), "%.2f s", (double)r->took_us / 1e6);
    if (r->works && r->rtt_us != 0)
        (void)snprintf(rtt, sizeof(rtt), "%.1f ms", (double)r->rtt_us / 1000);
    (void)fprintf(out, "  %-18s %-9s %8s %12s\n", path_kind_name(kind), word_for(r),
                  took, rtt);
}

/* People see it; programs have had an event for each. */
static void tell_table(const struct ping_config *c,
                       const struct result results[static PATH_KIND_COUNT])
{
    const struct events *out = c->client.out;
    if (out == NULL || out->json)
        return;
    (void)fprintf(out->out, "  %-18s %-9s %8s %12s\n", "path kind", "", "after",
                  "round trip");
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (results[k].wanted)
            tell_line(out->out, (enum path_kind)k, &results[k]);
}

/*
 * The relay goes along, since the first words travel by it; it is not what counts.
 * `ended`: a signal came, and nothing is tried any more. The kind has `max_us`.
 */
static int try_kind(const struct ping_config *c, enum path_kind kind, uint64_t max_us,
                    struct result *result, bool *ended, struct fault *f)
{
    static const struct client_events events = {.on_fault = on_fault};
    struct client_config cc = c->client;
    struct attempt_of_kind s = {.kind = kind, .max_us = max_us};
    cc.paths = 1u << kind | 1u << PATH_RELAY;
    cc.quiet = true;
    cc.soon = true;
    int rc = client_open(&s.client, &cc, &events, &s, f);
    if (rc != 0)
        return rc;
    timer_init(&s.timer, client_loop(s.client), on_tick, &s);
    s.began_us = clock_us();
    rc = client_peer(s.client, c->host, &s.peer, f);
    if (rc == 0) {
        log_progress("trying %s ...", path_kind_name(kind));
        timer_every(&s.timer, TICK_MS, TICK_MS);
        rc = client_run(s.client, f);
    }
    timer_stop(&s.timer);
    *ended = client_was_ended(s.client);
    client_close(s.client);
    if (rc == 0 && !*ended)
        tell(c, &s);
    *result = (struct result){s.took_us, s.path.rtt_us, true, s.untried, s.works};
    return rc;
}

/* The time that was given for all of them is over. */
static void pass_over(const struct ping_config *c, enum path_kind kind,
                      struct result *result)
{
    struct attempt_of_kind s = {.kind = kind, .untried = true, .reason = NO_TIME};
    tell(c, &s);
    *result = (struct result){.wanted = true, .untried = true};
}

/* What a kind may take, within the time for all. */
static uint64_t kind_us(uint64_t end_us)
{
    uint64_t now_us = clock_us(), max_us = KIND_MAX_MS * 1000ull;
    uint64_t left_us = end_us > now_us ? end_us - now_us : 0;
    return end_us != 0 && left_us < max_us ? left_us : max_us;
}

/* The surest and cheapest comes first; the others as they are preferred. */
static unsigned nth_kind(unsigned i)
{
    return i == 0 ? PATH_RELAY : i <= PATH_RELAY ? i - 1 : i;
}

int ping_all_run(const struct ping_config *c, struct fault *f)
{
    struct result results[PATH_KIND_COUNT] = {0};
    unsigned good = 0;
    uint64_t end_us = c->timeout_ms > 0 ? clock_us() + c->timeout_ms * 1000ull : 0;
    for (unsigned i = 0; i < PATH_KIND_COUNT; i++) {
        bool ended = false;
        unsigned k = nth_kind(i);
        if ((c->client.paths >> k & 1) == 0)
            continue;
        uint64_t max_us = kind_us(end_us);
        if (max_us == 0) {
            pass_over(c, (enum path_kind)k, &results[k]);
            continue;
        }
        int rc = try_kind(c, (enum path_kind)k, max_us, &results[k], &ended, f);
        if (rc != 0 || ended)
            return rc;
        good += results[k].works;
    }
    tell_table(c, results);
    if (good > 0)
        return 0;
    return fault_set(f, POSTERN_ERR_UNREACHABLE,
                     "see 'postern netcheck' for this network",
                     "no path kind reached %.64s", c->host);
}

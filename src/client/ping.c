/* Pings inside the session; ends when each path kind has ended in use or in a reason.
 */
#include "client/ping.h"

#include <stdio.h>

#include "client/client_words.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"

enum {
    INTERVAL_MS = 1000,
    FIRST_INTERVAL_MS = 100,
    SETTLE_MAX_MS = 9000,
    TICK_MS = 100,
    LOST_MS = 2000
};

struct ping {
    const struct ping_config *config;
    struct client *client;
    struct peer *peer;
    struct timer timer;
    unsigned sent, answered;
    uint64_t next_ms, began_ms, ready_ms;
    struct fault last; /* why there is no session */
};

/* Whether every allowed direct kind is in use or has a final word. */
static bool settled(struct ping *s)
{
    const struct path *p = peer_path(s->peer);
    if (p != NULL && path_kind_is_direct(p->kind))
        return true;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (path_kind_is_direct((enum path_kind)k) &&
            (s->config->client.paths >> k & 1) != 0 && !peer_kind_ended(s->peer, k))
            return false;
    return true;
}

static void on_pong(void *ctx, struct peer *p, uint64_t sent_us)
{
    struct ping *s = ctx;
    struct event e;
    const struct path *path = peer_path(p);
    s->answered++;
    event_begin(&e, "pong");
    event_text(&e, "peer", peer_name(p));
    event_int(&e, "seq", s->answered);
    event_ms(&e, "rtt_ms", clock_us() - sent_us);
    event_text(&e, "kind", path_kind_name(path != NULL ? path->kind : PATH_KIND_NONE));
    events_print(client_out(s->client), &e);
}

static void on_tick(void *ctx)
{
    struct ping *s = ctx;
    struct fault f;
    uint64_t now = loop_now_ms(client_loop(s->client));
    if (now - s->began_ms > s->config->timeout_ms) {
        if (s->answered > 0) {
            client_stop(s->client, 0, NULL);
            return;
        }
        (void)fault_set(&f, POSTERN_ERR_TIMEOUT,
                        "see 'postern netcheck' for this network",
                        "%.64s did not answer in time", s->config->host);
        if (s->last.what[0] != '\0')
            f = s->last;
        else
            (void)peer_explain(s->peer, &f);
        client_stop(s->client, f.code, &f);
        return;
    }
    if (!peer_is_ready(s->peer))
        return;
    if (s->ready_ms == 0)
        s->ready_ms = now;
    if (s->answered >= s->config->count &&
        (!s->config->settle || settled(s) || now - s->ready_ms > SETTLE_MAX_MS)) {
        client_stop(s->client, 0, NULL);
        return;
    }
    if (!s->config->settle && s->sent >= s->config->count && now < s->next_ms + LOST_MS)
        return; /* exactly so many, unless one is lost */
    if (now < s->next_ms || peer_ping(s->peer, clock_us()) != 0)
        return;
    s->sent++;
    s->next_ms = now + (s->sent < 3 ? FIRST_INTERVAL_MS : INTERVAL_MS);
}

static void on_ready(void *ctx, struct peer *p)
{
    struct ping *s = ctx;
    (void)p;
    s->next_ms = 0;
    s->last = (struct fault){0};
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct ping *s = ctx;
    (void)p;
    s->last = *f;
    if (fatal || s->answered == 0)
        client_stop_unless(s->client, f, fatal);
}

static void tell_rejected(struct ping *s, bool json)
{
    char reason[LADDER_REASON_LEN];
    struct event e;
    const struct path *p = peer_path(s->peer);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        if (p != NULL && p->kind == (enum path_kind)k)
            continue;
        (void)peer_closing_reason(s->peer, (enum path_kind)k, reason);
        if (!json && !peer_is_news(s->peer, (enum path_kind)k, reason))
            continue;
        client_rejected_event(&e, peer_name(s->peer), (enum path_kind)k, reason);
        events_print(client_out(s->client), &e);
    }
}

/* One reason, and the others where they are asked for. */
static void conclude(struct ping *s)
{
    char reason[LADDER_REASON_LEN];
    struct event e;
    struct events *out = client_out(s->client);
    bool json = out->json;
    if (json || s->config->client.unfold)
        tell_rejected(s, json);
    if (!peer_told_relayed(s->peer)) {
        enum path_kind k = peer_why_relayed(s->peer, reason);
        client_relayed_event(&e, peer_name(s->peer), k, reason);
        if (k != PATH_KIND_NONE)
            events_print(out, &e);
    }
    const struct path *path = peer_path(s->peer);
    bool direct = path != NULL && path_kind_is_direct(path->kind);
    if (!json && !direct && !s->config->client.unfold && s->config->settle)
        (void)fprintf(out->out, "Why not by another way: postern ping --why %.64s\n",
                      s->config->host);
}

int ping_run(const struct ping_config *c, struct fault *f)
{
    static const struct client_events events = {
        .on_ready = on_ready, .on_pong = on_pong, .on_fault = on_fault};
    struct ping s = {.config = c};
    struct client_config cc = c->client;
    cc.end_ms = c->timeout_ms;
    cc.soon = true;
    int rc = client_open(&s.client, &cc, &events, &s, f);
    if (rc != 0)
        return rc;
    timer_init(&s.timer, client_loop(s.client), on_tick, &s);
    s.began_ms = loop_now_ms(client_loop(s.client));
    rc = client_peer(s.client, c->host, &s.peer, f);
    if (rc == 0) {
        log_progress("looking for ways to %.64s ...", c->host);
        timer_every(&s.timer, 0, TICK_MS);
        rc = client_run(s.client, f);
    }
    if (rc == 0)
        conclude(&s);
    timer_stop(&s.timer);
    client_close(s.client);
    return rc;
}

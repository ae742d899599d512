/* See drain.h. */
#include "broker/drain.h"

#include <stdlib.h>
#include <unistd.h>

#include "io/lack.h"
#include "io/local.h"
#include "io/log.h"
#include "io/systemd.h"

enum { BEGIN_LOOK_MS = 5, RELAYED_LOOK_MS = 1000, WITHIN_S = 300 };

/* serving -> beginning (threads close) -> released (only relays) -> over */
enum drain_state { SERVING, BEGINNING, RELEASED };

struct drain {
    struct drain_config config;
    struct local_server *local;
    struct local_conn *asker; /* NULL: it went away */
    struct timer timer;
    enum drain_state state;
    uint64_t until_ms;
    uint32_t within_s;
};

/* The answer is the last thing: who reads it may start the next broker. */
static void release(struct drain *d)
{
    struct event e;
    size_t relayed = d->config.relayed(d->config.ctx);
    d->state = RELEASED;
    d->until_ms = loop_now_ms(d->config.loop) + d->within_s * 1000ull;
    d->config.release(d->config.ctx);
    log_warn(
        "it drains: the next broker may start; %zu relayed sessions go on, for %u s "
        "at most",
        relayed, d->within_s);
    systemd_status("drains: %zu relayed sessions", relayed);
    event_begin(&e, "draining");
    event_int(&e, "sessions", (int64_t)relayed);
    event_int(&e, "within_s", d->within_s);
    if (d->asker != NULL) {
        local_conn_say(d->asker, &e, true);
        local_conn_close(d->asker);
    }
    d->asker = NULL;
    local_server_close(d->local);
    d->local = NULL;
    timer_every(&d->timer, RELAYED_LOOK_MS, RELAYED_LOOK_MS);
}

static void on_timer(void *ctx)
{
    struct drain *d = ctx;
    if (d->state == BEGINNING) {
        if (d->config.has_begun(d->config.ctx))
            release(d);
        else
            timer_start(&d->timer, BEGIN_LOOK_MS);
        return;
    }
    size_t relayed = d->config.relayed(d->config.ctx);
    if (relayed > 0 && loop_now_ms(d->config.loop) < d->until_ms)
        return;
    if (relayed > 0)
        log_warn("%zu relayed sessions are cut off: their time is over", relayed);
    timer_stop(&d->timer);
    d->config.over(d->config.ctx);
}

static void on_request(void *ctx, struct local_conn *c, const LocalRequest *req, int fd)
{
    struct drain *d = ctx;
    struct fault f = {0};
    if (fd >= 0)
        (void)close(fd);
    if (req->op != LOCAL_DRAIN) {
        (void)fault_set(&f, POSTERN_ERR_INVALID, "update the older program",
                        "'postern broker' does not know this request");
        local_conn_finish(c, f.code, &f);
        return;
    }
    if (d->state != SERVING) {
        (void)fault_set(&f, POSTERN_ERR_INUSE, "wait for it", "this broker drains");
        local_conn_finish(c, f.code, &f);
        return;
    }
    long within_s = strtol(req->arg, NULL, 10);
    d->within_s = within_s > 0 ? (uint32_t)within_s : WITHIN_S;
    d->state = BEGINNING;
    d->asker = c;
    d->config.begin(d->config.ctx);
    timer_start(&d->timer, BEGIN_LOOK_MS);
}

static void on_gone(void *ctx, struct local_conn *c)
{
    struct drain *d = ctx;
    if (d->asker == c)
        d->asker = NULL;
}

int drain_open(struct drain **out, const struct drain_config *c, struct fault *f)
{
    static const struct local_events events = {on_request, on_gone, false};
    struct drain *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    d->config = *c;
    timer_init(&d->timer, c->loop, on_timer, d);
    int rc =
        local_server_open_if_room(&d->local, c->loop, c->socket_path, &events, d, f);
    if (rc != 0) {
        free(d);
        return rc;
    }
    *out = d;
    return 0;
}

void drain_close(struct drain *d)
{
    if (d == NULL)
        return;
    timer_stop(&d->timer);
    local_server_close(d->local);
    free(d);
}

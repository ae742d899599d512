/* See own_name.h. */
#include "broker/own_name.h"

#include "io/log.h"
#include "io/resolve.h"

enum { AGAIN_MS = 5000, AGAIN_MAX_MS = 300000 };

static void ask(struct own_name *n);

static const char *why(int err)
{
    switch (err) {
    case POSTERN_ERR_DNS:
        return "the DNS server does not answer";
    case POSTERN_ERR_NOTFOUND:
        return "there is no such name";
    default:
        return postern_strerror(err);
    }
}

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t count)
{
    struct own_name *n = ctx;
    n->asked = NULL;
    if (err == 0) {
        plan_take_public(n->plan, addrs, count);
        if (n->told)
            log_warn("the public name %s is resolved now", n->plan->host);
        return;
    }
    if (!n->told)
        log_warn("cannot resolve the public name %s (%s); it is asked for again, and "
                 "devices use the address at which they reached the broker",
                 n->plan->host, why(err));
    n->told = true;
    timer_start(&n->again, n->pause_ms);
    n->pause_ms = 2 * n->pause_ms < AGAIN_MAX_MS ? 2 * n->pause_ms : AGAIN_MAX_MS;
}

static void on_again(void *ctx)
{
    ask(ctx);
}

static void ask(struct own_name *n)
{
    if (resolve_start_apart(&n->asked, n->loop, n->plan->host, n->plan->port,
                            on_resolved, n) == 0)
        return;
    n->asked = NULL;
    timer_start(&n->again, AGAIN_MAX_MS);
}

void own_name_start(struct own_name *n, struct plan *plan, struct loop *loop)
{
    *n = (struct own_name){.loop = loop, .plan = plan, .pause_ms = AGAIN_MS};
    timer_init(&n->again, loop, on_again, n);
    if (plan->named)
        ask(n);
}

void own_name_stop(struct own_name *n)
{
    resolve_cancel(n->asked);
    n->asked = NULL;
    timer_stop(&n->again);
}

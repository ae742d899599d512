/* One choice, and a connection now and then to see whether the first way answers. */
#include "path/detour.h"

#include <stdlib.h>
#include <unistd.h>

#include "core/detour.h"
#include "io/clock.h"
#include "io/dial.h"
#include "io/egress.h"
#include "io/log.h"

enum { ASK_MS = 3000 };

struct detour {
    struct loop *loop;
    struct net_budget *budget;
    struct detour_plan plan;
    struct timer ask, tell;
    struct dial *dial;
    struct addr broker; /* that answered on the other one */
    unsigned first;     /* what the routes named when the other one was taken */
    loop_cb on_change;
    void *ctx;
};

static uint64_t now_ms(void)
{
    return clock_us() / 1000;
}

static void end_detour(struct detour *d)
{
    dial_cancel(d->dial);
    d->dial = NULL;
    timer_stop(&d->ask);
    egress_choose(0);
}

static void ask_later(struct detour *d)
{
    uint64_t now = now_ms(), at = detour_ask_ms(&d->plan);
    loop_refresh(d->loop);
    timer_start(&d->ask, at > now ? at - now : 0);
}

static void on_asked(void *ctx, int err, int fd)
{
    struct detour *d = ctx;
    d->dial = NULL;
    if (fd >= 0)
        (void)close(fd);
    if (!detour_on_asked(&d->plan, err == 0, now_ms())) {
        ask_later(d);
        return;
    }
    log_info("the first way to the Internet answers again: it is used again");
    end_detour(d);
    d->on_change(d->ctx);
}

static void on_ask(void *ctx)
{
    struct detour *d = ctx;
    if (dial_start(&d->dial, d->loop, &d->broker, 1, ASK_MS, on_asked, d) != 0) {
        d->dial = NULL;
        (void)!detour_on_asked(&d->plan, false, now_ms());
        ask_later(d);
    }
}

static void on_tell(void *ctx)
{
    struct detour *d = ctx;
    d->on_change(d->ctx);
}

int detour_open(struct detour **out, struct loop *loop, struct net_budget *b,
                loop_cb on_change, void *ctx)
{
    struct detour *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return POSTERN_ERR_NOMEM;
    d->loop = loop;
    d->budget = b;
    d->on_change = on_change;
    d->ctx = ctx;
    timer_init(&d->ask, loop, on_ask, d);
    timer_init(&d->tell, loop, on_tell, d);
    b->detour = d;
    *out = d;
    return 0;
}

void detour_close(struct detour *d)
{
    if (d == NULL)
        return;
    end_detour(d);
    timer_stop(&d->tell);
    d->budget->detour = NULL;
    free(d);
}

void detour_on_network_change(struct detour *d)
{
    if (d == NULL || egress_chosen() == 0)
        return;
    unsigned first = egress_by_routes(&d->broker);
    if (first == d->first && egress_leads(egress_chosen(), &d->broker)) {
        egress_choose(egress_chosen()); /* this machine's networks are others */
        return;
    }
    end_detour(d);
}

unsigned detour_other(const struct net_budget *b, const struct addr *to)
{
    struct addr far = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}};
    if (b->detour == NULL)
        return 0;
    return egress_other(to->family != ADDR_NONE ? to : &far);
}

void detour_take(struct net_budget *b, unsigned interface, const struct addr *to)
{
    struct detour *d = b->detour;
    if (d == NULL || interface == egress_chosen())
        return;
    d->first = egress_by_routes(to);
    d->broker = *to;
    end_detour(d);
    if (interface != d->first) {
        log_info("nothing comes by the first way to the Internet: another one is used "
                 "until it answers again");
        egress_choose(interface);
        detour_begin(&d->plan, now_ms());
        ask_later(d);
    }
    timer_start(&d->tell, 0);
}

/* One choice, and a connection now and then to see whether the first way answers. */
#include "path/detour.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/detour.h"
#include "io/clock.h"
#include "io/dial.h"
#include "io/egress.h"
#include "io/log.h"
#include "io/netmon.h"

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

static const struct addr far = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}};

unsigned detour_other(const struct net_budget *b, const struct addr *to)
{
    if (b->detour == NULL)
        return 0;
    return egress_other(to->family != ADDR_NONE ? to : &far);
}

enum detour_state detour_describe(const struct addr *to, struct fault *f)
{
    char one[NETMON_NAME_LEN], two[NETMON_NAME_LEN], cure[sizeof(f->advice)];
    const struct addr *there = to->family != ADDR_NONE ? to : &far;
    unsigned used = egress_chosen(), first = egress_by_routes(there);
    unsigned second = used != 0 ? used : egress_other(there);
    if (first == 0 || second == 0 || first == second)
        return DETOUR_NONE;
    egress_name(first, one, sizeof(one));
    egress_name(second, two, sizeof(two));
    if (used != 0) {
        (void)fault_set(f, POSTERN_ERR_TIMEOUT,
                        "look at what that is connected to; it is used again by itself "
                        "once it answers",
                        "the first way out, %s, is silent; %s is used", one, two);
        return DETOUR_USED;
    }
    if (there->family == ADDR_V4 && egress_is_strict(second)) {
        (void)snprintf(cure, sizeof(cure), "sysctl -w net.ipv4.conf.%s.rp_filter=2",
                       two);
        (void)fault_set(f, POSTERN_ERR_PERM, cure,
                        "%s cannot take the place of %s when that falls silent: "
                        "rp_filter=1 drops what comes back there",
                        two, one);
        return DETOUR_BLOCKED;
    }
    (void)fault_set(f, 0, "", "%s, and %s takes its place when it falls silent", one,
                    two);
    return DETOUR_READY;
}

static void tell_taken(const struct addr *to)
{
    struct fault f;
    if (detour_describe(to, &f) == DETOUR_USED)
        log_info("%s; %s", f.what, f.advice);
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
        egress_choose(interface);
        tell_taken(to);
        detour_begin(&d->plan, now_ms());
        ask_later(d);
    }
    timer_start(&d->tell, 0);
}

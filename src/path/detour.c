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
    unsigned first;     /* that was silent when the other one was taken */
    unsigned routed;    /* what the routes named then */
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
    egress_choose(0, 0);
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
    } else if (d->first != 0) {
        dial_go_by(d->dial, d->first); /* the routes may name the other one as well */
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
    if (egress_by_routes(&d->broker) == d->routed &&
        egress_leads(egress_chosen(), &d->broker)) {
        egress_choose(egress_chosen(),
                      d->first); /* this machine's networks are others */
        return;
    }
    end_detour(d);
}

static const struct addr far = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}};

unsigned detour_other(const struct net_budget *b, const struct addr *to,
                      const struct addr *local)
{
    if (b->detour == NULL)
        return 0;
    return egress_other(to->family != ADDR_NONE ? to : &far, egress_with(local));
}

enum detour_state detour_describe(const struct addr *to, struct fault *f)
{
    char one[NETMON_NAME_LEN], two[NETMON_NAME_LEN], cure[sizeof(f->advice)];
    const struct addr *there = to->family != ADDR_NONE ? to : &far;
    unsigned used = egress_chosen();
    unsigned first = used != 0 ? egress_left() : egress_by_routes(there);
    unsigned second = used != 0 ? used : egress_other(there, first);
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

bool detour_describe_silence(const struct addr *to, char *through, size_t through_cap,
                             char *cure, size_t cure_cap)
{
    char one[NETMON_NAME_LEN], two[NETMON_NAME_LEN];
    const struct addr *there = to->family != ADDR_NONE ? to : &far;
    unsigned first = egress_by_routes(there);
    egress_name(first, one, sizeof(one));
    if (egress_is_tunnel(first)) {
        (void)snprintf(through, through_cap, " through the tunnel %s", one);
        (void)snprintf(cure, cure_cap,
                       "look whether that VPN works, or end it: all that leaves this "
                       "machine goes there");
        return true;
    }
    unsigned used = egress_chosen() != 0 ? egress_chosen() : first;
    unsigned second = egress_other(there, used);
    if (used == 0 || second == 0)
        return false;
    egress_name(used, one, sizeof(one));
    egress_name(second, two, sizeof(two));
    (void)snprintf(through, through_cap, ", neither through %s nor through %s", one,
                   two);
    (void)snprintf(cure, cure_cap, "look at what %s and %s are connected to", one, two);
    return true;
}

static void tell_taken(const struct addr *to)
{
    struct fault f;
    if (detour_describe(to, &f) == DETOUR_USED)
        log_info("%s; %s", f.what, f.advice);
}

void detour_take(struct net_budget *b, unsigned interface, unsigned instead_of,
                 const struct addr *to)
{
    struct detour *d = b->detour;
    if (d == NULL || interface == egress_chosen())
        return;
    end_detour(d);
    d->routed = egress_by_routes(to);
    d->first = instead_of != 0 ? instead_of : d->routed;
    d->broker = *to;
    if (interface != d->routed || egress_is_spread(to)) {
        egress_choose(interface, d->first);
        tell_taken(to);
        detour_begin(&d->plan, now_ms());
        ask_later(d);
    }
    timer_start(&d->tell, 0);
}

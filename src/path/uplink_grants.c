/*
 * What the broker lets this device open in its NAT: asks, hears and gives back. Counts
 * nothing: that is the budget's (path/net_sessions.h).
 */
#include "path/uplink_internal.h"

#include <string.h>

#include "io/log.h"
#include "path/net_sessions.h"

static struct opener opener_of(const struct uplink *u)
{
    struct opener o = {.budget = u->config.net->budget};
    memcpy(&o.broker, u->config.broker.broker_key, sizeof(o.broker));
    return o;
}

void uplink_take_granting(struct uplink *u, bool grants)
{
    struct opener o = opener_of(u);
    net_sessions_granting(o.budget, o.broker, grants);
}

void uplink_take_grant(struct uplink *u, const Control *m)
{
    struct opener o = opener_of(u);
    const NatSessions *n = &m->body.nat_sessions;
    if (memcmp(m->conv, u->conv, CONV_LEN) != 0) /* another program's */
        return;
    log_debug("the broker grants %u sessions of our NAT, else in %u ms", n->granted,
              n->wait_ms);
    net_sessions_granted(&o, n->granted, n->wait_ms);
}

static int say(struct uplink *u, NatSessions n)
{
    Control m = {.which_body = Control_nat_sessions_tag, .body.nat_sessions = n};
    memcpy(m.conv, u->conv, CONV_LEN);
    return uplink_send(u, &m);
}

void uplink_want_sessions(struct uplink *u, const struct opener *o, unsigned wanted)
{
    unsigned n = net_sessions_wants(o, wanted);
    if (n == 0)
        return;
    (void)!say(u, (NatSessions){.wanted = n}); /* in vain: as if nobody answered */
    net_sessions_asked(o, n, uplink_rtt_us(u) / 1000);
}

void uplink_return_sessions(struct uplink *u)
{
    struct opener o = opener_of(u);
    unsigned left = u->config.net->predictions == 0 ? net_sessions_give_up(&o) : 0;
    if (left > 0 && say(u, (NatSessions){.returned = left}) == 0)
        log_debug("%u of the sessions that the broker granted are given back", left);
}

/* What others ask of an uplink: how it stands, where it leads, how far. Changes
 * nothing. */
#include "path/uplink_internal.h"

#include <string.h>
#include <time.h>

#include "io/clock.h"

bool uplink_takes_spoken(const struct uplink *u)
{
    return u->state == UPLINK_UP && u->takes_spoken;
}

bool uplink_takes_familiar(const struct uplink *u)
{
    return u->state == UPLINK_UP && u->takes_familiar;
}

bool uplink_is_up(const struct uplink *u)
{
    return u->state == UPLINK_UP;
}

uint64_t uplink_owes_us(const struct uplink *u)
{
    bool owes = u->state == UPLINK_UP && u->pinging && u->heard_us < u->pinged_us;
    return owes ? clock_us() - u->pinged_us : 0;
}

uint32_t uplink_settles_ms(const struct uplink *u)
{
    uint64_t now_us = clock_us();
    bool settles = u->state == UPLINK_UP && u->settled_us > now_us;
    return settles ? (uint32_t)((u->settled_us - now_us) / 1000) : 0;
}

uint64_t uplink_up_us(const struct uplink *u)
{
    return u->state == UPLINK_UP ? clock_us() - u->up_us : 0;
}

bool uplink_is_awaited(const struct uplink *u)
{
    bool soon = u->state == UPLINK_WAITING &&
                timer_due_in_ms(&u->timer) <= UPLINK_HURRY_MS + UPLINK_HURRY_MS / 4;
    return soon || u->state == UPLINK_TRYING || uplink_owes_us(u) > 0;
}

bool uplink_is_dialling(const struct uplink *u)
{
    return u->state == UPLINK_TRYING && !u->proxied && u->line != NULL &&
           !uplink_line_is_connected(u->line) && !uplink_line_is_connected(u->beside);
}

bool uplink_is_lan(const struct uplink *u)
{
    return u->config.lan;
}

const struct fault *uplink_fault(const struct uplink *u, bool *fatal)
{
    if (fatal != NULL)
        *fatal = u->fatal;
    return u->state != UPLINK_UP && u->fault.what[0] != '\0' ? &u->fault : NULL;
}

uint32_t uplink_rtt_us(const struct uplink *u)
{
    const struct line *l = u->line;
    return l != NULL && l->channel != NULL ? channel_rtt_us(l->channel) : 0;
}

uint32_t uplink_min_rtt_us(const struct uplink *u)
{
    const struct line *l = u->line;
    return l != NULL && l->channel != NULL ? channel_min_rtt_us(l->channel) : 0;
}

uint64_t uplink_late_us(const struct uplink *u)
{
    return lateness_us(&u->config.net->late, clock_us());
}

int uplink_reach(const struct uplink *u, struct reach **out, bool small,
                 unsigned timeout_ms, dial_cb cb, void *ctx)
{
    bool known = u->broker_addr.family != ADDR_NONE;
    struct reach_config rc = {
        .loop = u->config.net->loop,
        .via = u->proxied ? &u->proxy : NULL,
        .to = {.host = u->config.broker.host, .port = u->config.broker.port},
        .only = known ? &u->broker_addr : NULL,
        .timeout_ms = timeout_ms,
        .small = small};
    return reach_start(out, &rc, cb, ctx);
}

const struct addr *uplink_broker_addr(const struct uplink *u)
{
    return &u->broker_addr;
}

const uint8_t *uplink_broker_key(const struct uplink *u)
{
    return u->config.broker.broker_key;
}

void uplink_local(const struct uplink *u, struct addr *a)
{
    *a = (struct addr){0};
    if (u->line != NULL)
        *a = u->line->local;
}

const struct addr *uplink_seen(const struct uplink *u)
{
    return &u->seen;
}

size_t uplink_stun(const struct uplink *u, struct addr out[static UPLINK_STUN_MAX])
{
    memcpy(out, u->stun, u->stun_count * sizeof(out[0]));
    return u->stun_count;
}

const uint8_t *uplink_proof(const struct uplink *u)
{
    return u->proof;
}

int64_t uplink_clock_skew_s(const struct uplink *u)
{
    if (u->broker_began_s == 0)
        return 0;
    return u->broker_began_s + (int64_t)(clock_us() / 1000000) - (int64_t)time(NULL);
}

const struct link *uplink_link(const struct uplink *u)
{
    return &u->config.broker;
}

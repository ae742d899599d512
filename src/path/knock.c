/* The filter for one knock, asked for from the helper; sees no packet itself. */
#include "path/knock.h"

#include <stdio.h>
#include <string.h>

#include "io/log.h"
#include "io/netmon.h"

/* An address of ours that packets of one of theirs come to unchanged: a public one, or
 * one of the same network. */
static bool within_reach(const struct knock_terms *t)
{
    for (size_t i = 0; i < t->own_count; i++) {
        const struct addr *own = &t->own[i];
        enum addr_scope scope = addr_scope_of(own);
        for (size_t k = 0; k < t->peer_count; k++) {
            const struct addr *peer = &t->peers[k];
            if (own->family == peer->family && netmon_owns(own) &&
                (scope == ADDR_SCOPE_GLOBAL ||
                 (scope == ADDR_SCOPE_PRIVATE &&
                  memcmp(own->ip, peer->ip, own->family == ADDR_V4 ? 3 : 8) == 0)))
                return true;
        }
    }
    return false;
}

static bool is_far_reaching(const struct addr *a)
{
    enum addr_scope scope = addr_scope_of(a);
    return scope == ADDR_SCOPE_GLOBAL || scope == ADDR_SCOPE_PRIVATE;
}

static bool families_differ(const struct knock_terms *t)
{
    bool own[2] = {false, false}, peer[2] = {false, false};
    for (size_t i = 0; i < t->own_count; i++)
        own[t->own[i].family == ADDR_V6] |= is_far_reaching(&t->own[i]);
    for (size_t i = 0; i < t->peer_count; i++)
        peer[t->peers[i].family == ADDR_V6] |= is_far_reaching(&t->peers[i]);
    return (own[0] || own[1]) && (peer[0] || peer[1]) && !(own[0] && peer[0]) &&
           !(own[1] && peer[1]);
}

static void add_source(struct privilege_request *q, const struct addr *a)
{
    if (!is_far_reaching(a))
        return;
    for (unsigned i = 0; i < q->source_count; i++)
        if (addr_ip_equal(&q->sources[i], a))
            return;
    if (q->source_count < PRIVILEGE_SOURCES_MAX)
        q->sources[q->source_count++] = *a;
}

bool knock_begin(const struct knock_terms *t, uint32_t *serial, char *why, size_t cap,
                 helper_knock_cb cb, void *ctx)
{
    struct privilege_request q = {.tcp = t->tcp, .local.port = t->port};
    struct privilege_reply r;
    memcpy(q.id, t->id, sizeof(q.id));
    for (size_t i = 0; i < t->peer_count; i++)
        add_source(&q, &t->peers[i]);
    /* Privileges come last: they are no cure where there is a NAT. */
    if (t->peer_count == 0) {
        (void)snprintf(why, cap,
                       "the other side told no address that the internet knows");
    } else if (families_differ(t)) {
        (void)snprintf(why, cap,
                       "the two have no address family in common (IPv4, IPv6)");
    } else if (!within_reach(t)) {
        (void)snprintf(why, cap, "it is behind a NAT, which keeps a knock from it");
    } else if (!helper_can(PRIVILEGE_CAN_FILTER)) {
        (void)snprintf(why, cap, "%s", helper_missing());
    } else if (helper_knock_add(&q, &r, cb, ctx) != 0) {
        (void)snprintf(why, cap, "%s", r.reason);
    } else {
        *serial = q.serial;
        return true;
    }
    return false;
}

void knock_end(uint32_t *serial, enum path_kind kind)
{
    if (*serial == 0)
        return;
    uint64_t dropped = helper_knock_remove(*serial);
    *serial = 0;
    log_info("%s: the port is as it was; %llu packets of strangers were dropped",
             path_kind_name(kind), (unsigned long long)dropped);
}

/*
 * mapped: the host asks its router to let one UDP port in (PCP, NAT-PMP or UPnP-IGD),
 * for this client alone where the protocol can say so, and only as long as it is
 * needed. One mapping is enough, since the other side's packets then arrive; the client
 * asks its own router when the host's gives none.
 */
#include <stdio.h>

#include "io/log.h"
#include "path/udp_meet.h"

static bool begin_mapping(struct udp_meet *u, portmap_cb cb)
{
    struct addr local = {0};
    u->mapped = (struct addr){0};
    if (u->sockets[0] != NULL)
        udp_local(u->sockets[0], &local);
    return local.port != 0 &&
           portmap_open(&u->portmap, udp_meet_config(u)->net->loop, false, local.port,
                        &u->peer_seen, cb, u) == 0;
}

static void log_mapping(const struct addr *external, const char *words)
{
    char text[ADDR_TEXT_LEN];
    if (external != NULL)
        log_debug("mapped: %s by %s", addr_format(external, text), words);
    else
        log_debug("mapped: %s", words);
}

/* The host's router answered. Without a mapping there is still the client's router. */
static void on_host_mapped(void *ctx, const struct addr *external, const char *words)
{
    struct udp_meet *u = ctx;
    log_mapping(external, words);
    if (external != NULL)
        u->mapped = *external;
    else
        (void)snprintf(u->refused, sizeof(u->refused), "%s", words);
    udp_meet_ready(u);
}

static void on_client_mapped(void *ctx, const struct addr *external, const char *words)
{
    struct udp_meet *u = ctx;
    log_mapping(external, words);
    if (u->phase != UDP_MEET_WAITING)
        return;
    if (external == NULL) {
        char reason[400];
        (void)snprintf(reason, sizeof(reason),
                       "no router gives a mapping. Here: %s. At the host: %s", words,
                       u->refused);
        udp_meet_fail(u, reason);
        return;
    }
    u->mapped = *external;
    approach_offer_soon(u->approach);
    udp_meet_go(u); /* the host's checks come */
}

static void alone(struct udp_meet *u, const char *why)
{
    (void)snprintf(u->refused, sizeof(u->refused), "%s",
                   *why != '\0' ? why : "no reason was given");
    if (!begin_mapping(u, on_client_mapped))
        udp_meet_fail(u, "no UDP socket could be opened here");
}

static bool prepare(struct udp_meet *u)
{
    if (udp_meet_config(u)->client)
        return true;
    if (!begin_mapping(u, on_host_mapped))
        udp_meet_refuse(u, "no UDP socket could be opened there");
    return false; /* on_host_mapped goes on */
}

static size_t addresses(struct udp_meet *u,
                        struct udp_meet_address out[static UDP_MEET_PEERS_MAX])
{
    size_t n = 0;
    if (u->mapped.family != ADDR_NONE)
        out[n++] = (struct udp_meet_address){.addr = u->mapped};
    for (unsigned i = 0; i < u->reflexive.count && n < 2; i++)
        if (u->reflexive.bindings[i].done)
            out[n++] = (struct udp_meet_address){u->reflexive.bindings[i].mapped, true};
    return n;
}

static void end(struct udp_meet *u)
{
    portmap_close(u->portmap);
    u->portmap = NULL;
    u->mapped = (struct addr){0};
}

static const struct udp_meet_plan plan = {
    .kind = PATH_MAPPED,
    .prepare = prepare,
    .addresses = addresses,
    .alone = alone,
    .end = end,
};

const struct kind_ops mapped_kind = UDP_MEET_KIND(plan);

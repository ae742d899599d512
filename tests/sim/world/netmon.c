/* io/netmon.h: a machine's addresses and routes are the world's. */
#include "io/netmon.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "house_internal.h"
#include "loop_sim.h"

enum { QUIET_MS = 10, ADDRESSES_MAX = VNET_IFACES * VNET_ADDRS };

struct netmon {
    struct netmon *next;
    struct machine *machine;
    unsigned group;
    struct timer timer;
    uint8_t addresses[16], routes[16];
    netmon_cb on_change;
    void *ctx;
};

const char *netmon_reason_name(enum netmon_reason reason)
{
    static const char *const names[] = {"", "addresses", "routes", "resume"};
    return names[reason];
}

static size_t addresses_of(const struct vnet_node *node, struct addr *out, size_t max)
{
    size_t n = 0;
    for (int global = 1; global >= 0; global--)
        for (unsigned i = 0; i < node->iface_count; i++) {
            const struct vnet_iface *f = node->ifaces[i];
            for (unsigned k = 0; k < f->addr_count && n < max; k++) {
                struct addr a = f->addrs[k];
                a.port = 1;
                bool is_global = addr_scope_of(&a) == ADDR_SCOPE_GLOBAL;
                a.port = 0;
                if (!f->down && f->segment != NULL && is_global == (global == 1))
                    out[n++] = a;
            }
        }
    return n;
}

static void read_addresses(const struct vnet_node *node, uint8_t id[static 16])
{
    struct addr all[ADDRESSES_MAX] = {0};
    size_t n = addresses_of(node, all, ADDRESSES_MAX);
    (void)crypto_generichash(id, 16, (const uint8_t *)all, n * sizeof(all[0]), NULL, 0);
}

/* Default routes, and the prefixes of addresses. */
static void read_routes(const struct vnet_node *node, uint8_t id[static 16])
{
    uint8_t text[VNET_ROUTES][40] = {0};
    size_t n = 0;
    for (unsigned i = 0; i < node->route_count; i++) {
        const struct vnet_route *r = &node->routes[i];
        size_t bytes = (r->bits + 7) / 8;
        if (r->via->down || r->via->segment == NULL)
            continue;
        text[n][0] = (uint8_t)r->bits;
        memcpy(&text[n][1], r->to.ip, bytes);
        memcpy(&text[n][20], r->gateway.ip, 16);
        n++;
    }
    (void)crypto_generichash(id, 16, text[0], n * sizeof(text[0]), NULL, 0);
}

static void on_quiet(void *ctx)
{
    struct netmon *n = ctx;
    uint8_t addresses[16], routes[16];
    read_addresses(n->machine->node, addresses);
    read_routes(n->machine->node, routes);
    bool moved = memcmp(addresses, n->addresses, sizeof(addresses)) != 0;
    bool routed = memcmp(routes, n->routes, sizeof(routes)) != 0;
    memcpy(n->addresses, addresses, sizeof(addresses));
    memcpy(n->routes, routes, sizeof(routes));
    if (moved || routed)
        n->on_change(n->ctx, moved ? NETMON_ADDRESSES : NETMON_ROUTES);
}

static void on_wake(void *ctx);

struct monitor_wake {   /* changes come from outside of every loop */
    struct netmon base; /* first */
    struct wake wake;
};

static void on_wake(void *ctx)
{
    struct netmon *n = ctx;
    if (!timer_is_active(&n->timer))
        timer_start(&n->timer, QUIET_MS);
}

void machine_network_changed(struct machine *m)
{
    for (struct netmon *n = m->monitors; n != NULL; n = n->next)
        wake_up(&((struct monitor_wake *)(void *)n)->wake);
}

void monitors_kill(struct machine *m, unsigned group)
{
    struct netmon **at = &m->monitors;
    while (*at != NULL)
        if ((*at)->group == group)
            *at = (*at)->next;
        else
            at = &(*at)->next;
}

int netmon_open(struct netmon **out, struct loop *loop, netmon_cb on_change, void *ctx)
{
    struct monitor_wake *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return POSTERN_ERR_NOMEM;
    struct netmon *n = &w->base;
    n->machine = loop_machine(loop);
    n->group = group_now();
    n->on_change = on_change;
    n->ctx = ctx;
    if (wake_open(&w->wake, loop, on_wake, n) != 0) {
        free(w);
        return POSTERN_ERR_NOMEM;
    }
    wake_in_background(&w->wake);
    timer_init(&n->timer, loop, on_quiet, n);
    read_addresses(n->machine->node, n->addresses);
    read_routes(n->machine->node, n->routes);
    n->next = n->machine->monitors;
    n->machine->monitors = n;
    *out = n;
    return 0;
}

void netmon_close(struct netmon *n)
{
    if (n == NULL)
        return;
    struct netmon **at = &n->machine->monitors;
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    timer_stop(&n->timer);
    wake_close(&((struct monitor_wake *)(void *)n)->wake);
    free(n);
}

void netmon_network(uint8_t id[static NETMON_NETWORK_LEN])
{
    read_routes(machine_now()->node, id);
}

uint64_t netmon_way_out(void)
{
    uint8_t id[16];
    uint64_t name;
    read_routes(machine_now()->node, id);
    memcpy(&name, id, sizeof(name));
    return name;
}

size_t netmon_addresses(struct addr *out, size_t max, bool loopback)
{
    size_t n = addresses_of(machine_now()->node, out, max);
    if (loopback && n < max && addr_parse_ip(&out[n], "127.0.0.1") == 0)
        n++;
    return n;
}

bool netmon_dark(char name[static NETMON_NAME_LEN])
{
    name[0] = '\0';
    return false;
}

size_t netmon_candidates(struct addr *out, size_t max, bool loopback)
{
    return netmon_addresses(out, max, loopback);
}

bool netmon_owns(const struct addr *a)
{
    struct addr all[ADDRESSES_MAX];
    size_t n = netmon_addresses(all, ADDRESSES_MAX, false);
    for (size_t i = 0; i < n; i++)
        if (addr_ip_equal(&all[i], a))
            return true;
    return false;
}

bool netmon_leads_out(void)
{
    struct addr local, somewhere = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}};
    return netmon_source(&somewhere, &local);
}

bool netmon_source(const struct addr *remote, struct addr *local)
{
    return vnet_source(machine_now()->node, remote, local);
}

enum netmon_way netmon_way_of(const struct addr *local, const struct addr *remote)
{
    struct addr now, any_port = *local;
    any_port.port = 1;
    if (local->family == ADDR_NONE || addr_scope_of(&any_port) == ADDR_SCOPE_LOOPBACK)
        return NETMON_WAY_SAME;
    if (!vnet_owns(machine_now()->node, local))
        return NETMON_WAY_GONE;
    if (remote->family == ADDR_NONE)
        return NETMON_WAY_SAME;
    return netmon_owns(local) && netmon_source(remote, &now) &&
                   addr_ip_equal(&now, local)
               ? NETMON_WAY_SAME
               : NETMON_WAY_OTHER;
}

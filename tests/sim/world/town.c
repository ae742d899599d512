/* See town.h. */
#include "town.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static void open_home(struct town *t, struct town_home *h, unsigned number,
                      const struct nat_config *nat, const struct vnet_wire *wire)
{
    struct vnet *net = house_net(t->house);
    char text[32];
    h->router = vnet_node_add(net, "router", true);
    h->router->clamps = true;
    h->lan = vnet_segment_add(net);
    (void)snprintf(text, sizeof(text), "203.0.113.%u/24", number);
    h->outer = vnet_attach(h->router, t->internet, text, wire);
    (void)snprintf(text, sizeof(text), "192.168.%u.1/24", number);
    (void)vnet_attach(h->router, h->lan, text, NULL);
    vnet_set_nat(h->outer, nat);
}

static void plug(struct town_home *at, struct vnet_iface *device, unsigned number)
{
    char text[32];
    vnet_drop_addresses(device);
    vnet_plug(device, at->lan);
    (void)snprintf(text, sizeof(text), "192.168.%u.10/24", number);
    vnet_add_address(device, text);
    (void)snprintf(text, sizeof(text), "192.168.%u.1", number);
    vnet_add_route(device->node, "0.0.0.0/0", device, text);
}

static void move_in(struct town *t, struct town_home *h, const char *name,
                    unsigned number)
{
    h->machine = house_machine(t->house, name);
    h->device = vnet_attach(h->machine->node, NULL, NULL, NULL);
    plug(h, h->device, number);
}

struct town *town_new(uint64_t seed, const struct nat_config *host_nat,
                      const struct nat_config *client_nat, const struct vnet_wire *wire)
{
    static const struct vnet_wire usual = {.delay_us = 5000};
    struct town *t = calloc(1, sizeof(*t));
    assert(t != NULL);
    if (wire == NULL)
        wire = &usual;
    t->house = house_new(seed);
    t->internet = vnet_segment_add(house_net(t->house));
    t->broker = house_machine(t->house, "broker");
    struct vnet_iface *eth =
        vnet_attach(t->broker->node, t->internet, "203.0.113.10/24", &usual);
    vnet_add_address(eth, "203.0.113.11/24");
    house_name(t->house, "meet.example", "203.0.113.10");
    open_home(t, &t->host, 1, host_nat, wire);
    open_home(t, &t->client, 2, client_nat, wire);
    open_home(t, &t->cafe, 3, client_nat, wire);
    move_in(t, &t->host, "host", 1);
    move_in(t, &t->client, "client", 2);
    return t;
}

void town_free(struct town *t)
{
    if (t == NULL)
        return;
    house_free(t->house);
    free(t);
}

void town_roam(struct town *t)
{
    plug(&t->cafe, t->client.device, 3);
}

void town_flush(struct town_home *h)
{
    nat_flush(h->router->nat);
}

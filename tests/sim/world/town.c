/* See town.h. Home N has the networks 192.168.N.0/24 and 2001:db8:N::/64. */
#include "town.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    HOMES = 5,
    CARRIER = 4,
    USUAL_PLACE = 10, /* of a device in a home's network */
    GUESTS_PLACE = 11,
    BROKER = 10,
    STRANGER = 50,
    LIAR = 60,
    VISITOR = 70,
    INTRUDER = 80
};

struct text {
    char s[48];
};

static struct text text(const char *format, unsigned number)
{
    struct text t;
    (void)snprintf(t.s, sizeof(t.s), format, number);
    return t;
}

static struct text text2(const char *format, unsigned a, unsigned b)
{
    struct text t;
    (void)snprintf(t.s, sizeof(t.s), format, a, b);
    return t;
}

/* Every home's network is behind its router's address on the internet. */
static void route_homes(struct town *t, struct vnet_iface *from, unsigned own)
{
    for (unsigned n = 1; t->six && n <= HOMES; n++)
        if (n != own && n != CARRIER)
            vnet_add_route(from->node, text("2001:db8:%u::/64", n).s, from,
                           text("2001:db8:f::%u", n).s);
}

static struct vnet_iface *join_internet(struct town *t, struct vnet_node *node,
                                        unsigned number, const struct vnet_wire *wire)
{
    struct vnet_iface *i =
        vnet_attach(node, t->internet, text("203.0.113.%u/24", number).s, wire);
    if (t->six)
        vnet_add_address(i, text("2001:db8:f::%u/64", number).s);
    route_homes(t, i, number);
    return i;
}

/* Its IPv4 goes through the carrier's network and NAT. */
static struct vnet_iface *subscribe(struct town *t, struct town_home *h,
                                    const struct vnet_wire *wire)
{
    struct vnet_iface *line = vnet_attach(h->router, t->carrier_lan,
                                          text("100.64.0.%u/24", h->number).s, wire);
    vnet_add_route(h->router, "0.0.0.0/0", line, "100.64.0.1");
    if (!t->six)
        return line;
    struct vnet_iface *six = vnet_attach(h->router, t->internet, NULL, wire);
    vnet_add_address(six, text("2001:db8:f::%u/64", h->number).s);
    route_homes(t, six, h->number);
    return line;
}

static void open_home(struct town *t, struct town_home *h, unsigned number,
                      const struct nat_config *nat, const struct vnet_wire *wire)
{
    struct vnet *net = house_net(t->house);
    bool subscribes = t->carrier != NULL && (h == &t->client || h == &t->cafe);
    struct nat_config firewall = *nat;
    h->number = number;
    h->router = vnet_node_add(net, "router", true);
    h->lan = vnet_segment_add(net);
    struct vnet_iface *outer =
        subscribes ? subscribe(t, h, wire) : join_internet(t, h->router, number, wire);
    struct vnet_iface *six = h->router->ifaces[h->router->iface_count - 1];
    struct vnet_iface *inner =
        vnet_attach(h->router, h->lan, text("192.168.%u.1/24", number).s, NULL);
    vnet_set_nat(outer, ADDR_V4, nat);
    if (!t->six)
        return;
    firewall.translates = false;
    vnet_add_address(inner, text("2001:db8:%u::1/64", number).s);
    vnet_set_nat(six, ADDR_V6, &firewall);
}

static void open_carrier(struct town *t, const struct nat_config *nat)
{
    struct vnet *net = house_net(t->house);
    t->carrier = vnet_node_add(net, "carrier", true);
    t->carrier_lan = vnet_segment_add(net);
    struct vnet_iface *outer = join_internet(t, t->carrier, CARRIER, NULL);
    (void)vnet_attach(t->carrier, t->carrier_lan, "100.64.0.1/24", NULL);
    vnet_set_nat(outer, ADDR_V4, nat);
}

static void plug(const struct town *t, const struct town_home *at,
                 struct vnet_iface *device, unsigned place)
{
    unsigned n = at->number;
    vnet_drop_addresses(device);
    vnet_plug(device, at->lan);
    vnet_add_address(device, text2("192.168.%u.%u/24", n, place).s);
    vnet_add_route(device->node, "0.0.0.0/0", device, text("192.168.%u.1", n).s);
    if (!t->six)
        return;
    vnet_add_address(device, text2("2001:db8:%u::%u/64", n, place).s);
    vnet_add_route(device->node, "::/0", device, text("2001:db8:%u::1", n).s);
}

static void move_in(struct town *t, struct town_home *h, const char *name)
{
    h->machine = house_machine(t->house, name);
    h->device = vnet_attach(h->machine->node, NULL, NULL, NULL);
    plug(t, h, h->device, USUAL_PLACE);
}

static void open_broker(struct town *t, const struct vnet_wire *wire)
{
    t->broker = house_machine(t->house, "broker");
    struct vnet_iface *eth = join_internet(t, t->broker->node, BROKER, wire);
    vnet_add_address(eth, "203.0.113.11/24");
    house_name(t->house, "meet.example", "203.0.113.10");
    if (t->six)
        house_name(t->house, "meet.example", "2001:db8:f::10");
}

static const struct vnet_wire usual = {.delay_us = 5000};

static struct machine *open_other(struct town *t, const char *name, unsigned number)
{
    struct machine *m = house_machine(t->house, name);
    (void)join_internet(t, m->node, number, &usual);
    return m;
}

struct town *town_new(const struct town_config *c)
{
    const struct vnet_wire *wire = c->wire != NULL ? c->wire : &usual;
    struct town *t = calloc(1, sizeof(*t));
    assert(t != NULL);
    t->six = c->six;
    t->house = house_new(c->seed);
    t->internet = vnet_segment_add(house_net(t->house));
    open_broker(t, &usual);
    if (c->carrier)
        open_carrier(t, c->client_nat);
    open_home(t, &t->host, 1, c->host_nat, wire);
    open_home(t, &t->client, 2, c->client_nat, wire);
    open_home(t, &t->cafe, 3, c->client_nat, wire);
    open_home(t, &t->inn, 5, c->host_nat, wire);
    move_in(t, &t->host, "host");
    move_in(t, &t->client, "client");
    t->stranger = open_other(t, "stranger", STRANGER);
    t->liar = open_other(t, "liar", LIAR);
    t->visitor = open_other(t, "visitor", VISITOR);
    t->intruder = open_other(t, "intruder", INTRUDER);
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
    plug(t, &t->cafe, t->client.device, USUAL_PLACE);
}

void town_visit(struct town *t)
{
    plug(t, &t->host, t->client.device, GUESTS_PLACE);
}

void town_host_roams(struct town *t)
{
    plug(t, &t->inn, t->host.device, USUAL_PLACE);
}

void town_flush(struct town_home *h)
{
    vnet_flush(h->router);
}

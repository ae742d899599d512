/*
 * An internet under virtual time: nodes with interfaces, segments that join them, wires
 * with delay, loss and a rate, routes, NATs and firewalls, ICMP. Knows addresses and
 * packets; what a node does with what reaches it is known above (stack.h).
 *
 * Objects live until vnet_free. Callbacks come from vclock_step only.
 */
#ifndef POSTERN_SIM_NET_H
#define POSTERN_SIM_NET_H

#include "clock.h"
#include "nat.h"

enum {
    VNET_NODES = 32,
    VNET_SEGMENTS = 16,
    VNET_IFACES = 4,   /* of one node */
    VNET_ROUTES = 12,  /* of one node */
    VNET_ADDRS = 4,    /* of one interface */
    VNET_MEMBERS = 24, /* of one segment */
    VNET_TTL = 64,
    VNET_MTU = 1500,
    UDP4_OVERHEAD = 28,
    UDP6_OVERHEAD = 48,
    TCP4_OVERHEAD = 40,
    TCP6_OVERHEAD = 60,
};

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

enum vicmp {
    VICMP_NONE,
    VICMP_UNREACHABLE, /* no route, or no such host */
    VICMP_PORT,
    VICMP_TOO_BIG,
    VICMP_EXPIRED,
};

struct vpacket {
    struct valarm alarm; /* first: the network's */
    struct vnet_iface *at;
    enum vproto proto; /* of an ICMP error: of what it quotes */
    struct addr from, to;
    unsigned ttl;
    struct {
        uint32_t seq, ack, window;
        uint8_t flags;
        uint16_t mss; /* of a SYN */
    } tcp;
    struct {
        enum vicmp kind; /* VICMP_NONE: it is a packet */
        uint16_t mtu;
        struct addr from, to; /* of the packet that it is about */
        uint32_t seq;
    } icmp;
    size_t len; /* of data */
    uint8_t data[];
};

/* One direction. Zeroed: at once, always, 1500 bytes. */
struct vnet_wire {
    uint64_t delay_us, jitter_us; /* jitter keeps the order, unless it is reordered */
    unsigned loss_permille, double_permille, reorder_permille;
    unsigned udp_loss_permille; /* beside it, of UDP alone */
    uint64_t rate_bps;          /* 0: no limit */
    uint32_t queue_bytes;       /* 0: 256 KiB */
    uint16_t mtu;
    bool mtu_silent;           /* too large packets are dropped without a word */
    uint64_t free_us, last_us; /* the network's */
};

struct vnet_iface {
    struct vnet_node *node;
    struct vnet_segment *segment; /* NULL: no cable */
    bool down;
    struct addr addrs[VNET_ADDRS]; /* port 0 */
    unsigned bits[VNET_ADDRS], addr_count;
    struct vnet_wire out, in;
};

struct vnet_route {
    struct addr to;
    unsigned bits;
    struct vnet_iface *via;
    struct addr gateway; /* ADDR_NONE: on the segment */
};

struct vnet_node {
    struct vnet *net;
    char name[24];
    bool forwards, off; /* off: the power is */
    struct vnet_iface *ifaces[VNET_IFACES];
    unsigned iface_count;
    struct vnet_route routes[VNET_ROUTES];
    unsigned route_count;
    struct nat *nats[2];          /* of IPv4, of IPv6; NULL: none */
    struct vnet_iface *outers[2]; /* they stand between that one and all others */
    /* A packet for this node; borrowed. */
    void (*on_packet)(void *ctx, const struct vpacket *p);
    /* Addresses, cables or routes changed. */
    void (*on_change)(void *ctx);
    void *ctx;
};

struct vnet_segment {
    struct vnet_iface *members[VNET_MEMBERS];
    unsigned count;
    bool apart; /* routers on it do not reach each other */
};

struct vnet {
    struct vclock clock;
    struct vnet_node *nodes[VNET_NODES];
    struct vnet_segment *segments[VNET_SEGMENTS];
    unsigned node_count, segment_count;
    unsigned long sent, delivered, lost, filtered, unrouted, under_way;
    /* Sees each packet where it reaches a node; may be NULL. */
    void (*on_seen)(void *ctx, const struct vnet_iface *at, const struct vpacket *p);
    void *ctx;
};

struct vnet *vnet_new(uint64_t seed);
void vnet_free(struct vnet *n);

struct vnet_node *vnet_node_add(struct vnet *n, const char *name, bool forwards);
struct vnet_segment *vnet_segment_add(struct vnet *n);
/* `wire`, both ways, may be NULL. `address` "10.0.0.2/24", or NULL: none yet. The
 * network of the address is routed there. */
struct vnet_iface *vnet_attach(struct vnet_node *node, struct vnet_segment *s,
                               const char *address, const struct vnet_wire *wire);
void vnet_add_address(struct vnet_iface *i, const char *address);
void vnet_drop_addresses(struct vnet_iface *i);
/* Another segment; addresses are the caller's to change. NULL: pulls the cable. */
void vnet_plug(struct vnet_iface *i, struct vnet_segment *s);
void vnet_set_down(struct vnet_iface *i, bool down);
/* "0.0.0.0/0"; `gateway` NULL: on the segment. */
void vnet_add_route(struct vnet_node *node, const char *to, struct vnet_iface *via,
                    const char *gateway);
void vnet_drop_routes(struct vnet_iface *via);
/* The NAT or firewall of that family between `outer` and the node's other interfaces.
 */
void vnet_set_nat(struct vnet_iface *outer, enum addr_family family,
                  const struct nat_config *c);
/* It forgets all connections, as after a restart. */
void vnet_flush(struct vnet_node *node);

/* ----------------------------------------------------------------------- as a node */

bool vnet_owns(const struct vnet_node *node, const struct addr *a);
/* The route towards `to`, or NULL. */
const struct vnet_route *vnet_route_to(const struct vnet_node *node,
                                       const struct addr *to);
/* The address from which the node starts towards `to`, port 0; false: no way. */
bool vnet_source(const struct vnet_node *node, const struct addr *to,
                 struct addr *from);
/* Largest IP packet that its own interface towards `to` takes. */
uint16_t vnet_mtu(const struct vnet_node *node, const struct addr *to);

struct vpacket *vpacket_new(enum vproto proto, const struct addr *from,
                            const struct addr *to, const void *data, size_t len);
/* As IP counts it. */
size_t vpacket_size(const struct vpacket *p);
/* Takes `p`. False: this machine has no way there. */
bool vnet_send(struct vnet_node *node, struct vpacket *p);
/* An ICMP error about `p`, as from `node`. */
void vnet_complain(struct vnet_node *node, const struct vpacket *p, enum vicmp kind,
                   uint16_t mtu);

#endif

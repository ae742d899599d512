/*
 * Dumps of the kernel's routing tables over rtnetlink(7): one question, blocking for
 * at most a second. Reads what links and addresses say; what follows from it is the
 * caller's business.
 */
#ifndef POSTERN_IO_NETLINK_H
#define POSTERN_IO_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

#define NETLINK_KIND_LEN 16

/* One entry: its message type, and its body behind the header. */
typedef void (*netlink_cb)(void *ctx, uint16_t type, const uint8_t *body, size_t len);

/* `type` is RTM_GETADDR, RTM_GETROUTE or RTM_GETLINK. False when the kernel did not
 * answer. */
bool netlink_dump(uint16_t type, netlink_cb cb, void *ctx);

struct netlink_link {
    uint32_t index, master;      /* master 0: has none */
    bool runs;                   /* up, with a cable or a signal */
    char kind[NETLINK_KIND_LEN]; /* "bridge", "veth", "tun"; "": a card */
};

struct netlink_address {
    struct addr ip;            /* port 0 */
    uint32_t interface, flags; /* IFA_F_... */
    unsigned bits;             /* of its network */
};

/* The entry of the routing tables that a packet would follow. */
struct netlink_route {
    uint32_t table, priority;
    unsigned bits;  /* of the destination; 0: a default route */
    bool leads_out; /* to other machines */
    bool spread;    /* over several interfaces (ECMP) */
};

/*
 * Which entry the kernel follows from `from` (NULL: an address of its own choice)
 * through `interface` (0: any) to `to`, by rules and tables. False: by none; also
 * before Linux 4.13.
 */
bool netlink_route(const struct addr *to, const struct addr *from, unsigned interface,
                   struct netlink_route *out);

/* The body of an RTM_NEWLINK or RTM_DELLINK; of an RTM_NEWADDR or RTM_DELADDR. False
 * when it cannot be read. */
bool netlink_read_link(const uint8_t *body, size_t len, struct netlink_link *out);
bool netlink_read_address(const uint8_t *body, size_t len, struct netlink_address *out);

/* The entries of one datagram that the monitor's socket received. */
void netlink_each(const uint8_t *buf, size_t len, netlink_cb cb, void *ctx);

/*
 * Finds attribute `type` among those in `attrs`; returns its payload and sets `*len`,
 * or NULL.
 */
const uint8_t *netlink_attribute(const uint8_t *attrs, size_t attrs_len, uint16_t type,
                                 size_t *len);

/*
 * A non-blocking socket that hears of changes to links, addresses and routes, or a
 * negative enum postern_err.
 */
int netlink_monitor(void);

#endif

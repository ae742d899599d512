/*
 * Dumps of the kernel's routing tables over rtnetlink(7): one question, blocking for
 * at most a second. What the entries mean is the caller's business.
 */
#ifndef POSTERN_IO_NETLINK_H
#define POSTERN_IO_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One entry: its message type, and its body behind the header. */
typedef void (*netlink_cb)(void *ctx, uint16_t type, const uint8_t *body, size_t len);

/* `type` is RTM_GETADDR, RTM_GETROUTE or RTM_GETLINK. False when the kernel did not
 * answer. */
bool netlink_dump(uint16_t type, netlink_cb cb, void *ctx);

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

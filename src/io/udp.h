/*
 * UDP sockets with UDP_SEGMENT and UDP_GRO: one system call carries many packets. The
 * socket stays unconnected, so that the kernel never answers a stranger with ICMP. One
 * of IPv4 goes through a translator where its network has IPv6 only (io/nat64_way.h):
 * addresses are IPv4 all the same.
 */
#ifndef POSTERN_IO_UDP_H
#define POSTERN_IO_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

#define UDP_SCRATCH_BYTES (4 * 65536)

struct udp;

struct udp_events {
    /* A GRO batch from one sender, borrowed until the call returns. */
    void (*on_packets)(void *ctx, struct udp *u, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len);
    void (*on_writable)(void *ctx, struct udp *u);
};

/*
 * `at` gives family, address and port to bind (zeroes: any). `scratch` holds
 * UDP_SCRATCH_BYTES, is borrowed, and is shared by all sockets of a loop.
 */
MUST_CHECK int udp_open(struct udp **out, struct loop *loop, const struct addr *at,
                        uint8_t *scratch, const struct udp_events *events, void *ctx);
/* Sets what every UDP socket of ours has. */
void udp_prepare(int fd, enum addr_family family);
/* The same with a bound socket of another's making, which is taken over on success. */
MUST_CHECK int udp_adopt(struct udp **out, struct loop *loop, int fd,
                         enum addr_family family, uint8_t *scratch,
                         const struct udp_events *events, void *ctx);
/* From now on the kernel takes packets of that sender only. */
MUST_CHECK int udp_connect(struct udp *u, const struct addr *to);
/*
 * 0: taken (or lost, as UDP may). POSTERN_ERR_AGAIN: on_writable follows.
 * POSTERN_ERR_UNREACHABLE: this machine has no way there now.
 */
MUST_CHECK int udp_send(struct udp *u, const struct addr *to, const uint8_t *buf,
                        size_t len, size_t segment_len);
/* The bound address; the port is what was given by the kernel. */
void udp_local(const struct udp *u, struct addr *a);
/* Our address on the way to `to`, for people: what the routes say now. */
void udp_local_towards(const struct udp *u, const struct addr *to, struct addr *a);
/* Another owner: events go there from now on. */
void udp_set_user(struct udp *u, const struct udp_events *events, void *ctx);
/* May be called inside the events. NULL is fine. */
void udp_close(struct udp *u);

#endif

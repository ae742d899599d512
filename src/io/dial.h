/*
 * Outgoing TCP connections: tries several addresses, each a little after the one
 * before, the families in turn (RFC 8305, "happy eyeballs"), and hands over the first
 * that connects.
 */
#ifndef POSTERN_IO_DIAL_H
#define POSTERN_IO_DIAL_H

#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

#define DIAL_ADDRS_MAX 8
#define DIAL_KNOWN_MAX 4 /* of them, addresses known from earlier */
#define DIAL_STAGGER_MS 150
#define DIAL_OTHER_MS 40 /* the same over another interface: this one is silent */
/*
 * A name is waited for so long, whatever else was tried meanwhile: where the first two
 * servers of /etc/resolv.conf are dead, the resolver asks the third after 10 s.
 */
#define DIAL_NAME_MS 11000

struct dial;

/*
 * `fd` is a connected non-blocking socket and is the caller's, or -1 with `err`
 * POSTERN_ERR_REFUSED, _UNREACHABLE, _TIMEOUT, _NOTFOUND (no such name), _DNS (the name
 * was not resolved) or _IO: the reason of the first address. The handle is gone when
 * the callback begins.
 */
typedef void (*dial_cb)(void *ctx, int err, int fd);

/* Numeric addresses; the callback runs from the loop, never inside the call. */
MUST_CHECK int dial_start(struct dial **out, struct loop *loop,
                          const struct addr *addrs, size_t n, unsigned timeout_ms,
                          dial_cb cb, void *ctx);
/*
 * A name or numeric address, resolved first, which has a time of its own
 * (DIAL_NAME_MS); `timeout_ms` counts from its answer where that names other addresses.
 * Or the path of a socket that is a file (/run/x.sock), whatever the port.
 */
MUST_CHECK int dial_start_name(struct dial **out, struct loop *loop, const char *host,
                               uint16_t port, unsigned timeout_ms, dial_cb cb,
                               void *ctx);

/* What the name stands for, as of resolve_cb; once, before the dial's own callback. */
typedef void (*dial_resolved_cb)(void *ctx, int err, const struct addr *addrs,
                                 size_t n);

struct dial_known {
    const char *host; /* NULL: no name is looked up */
    uint16_t port;
    const struct addr *addrs; /* that worked before: tried at once, in this order */
    size_t count;
    const struct addr *doubtful;  /* tried only after all others; NULL: none */
    unsigned idle_ms;             /* for the name, where these failed; 0: as ever */
    dial_resolved_cb on_resolved; /* may be NULL */
};
/*
 * The same, where addresses are known from earlier: they are tried while the name is
 * looked up beside (in a thread of its own), and what that finds is tried after them.
 * `known` is copied.
 */
MUST_CHECK int dial_start_known(struct dial **out, struct loop *loop,
                                const struct dial_known *known, unsigned timeout_ms,
                                dial_cb cb, void *ctx);
/*
 * Right after the start: segments of so many bytes at most, both ways. What a path
 * swallows for its size, with no ICMP to say so, is swallowed for ever; the kernel does
 * not look for that by itself (tcp_mtu_probing is off), and a connection that stands
 * keeps its size.
 */
#define DIAL_SEGMENT 1160      /* an IPv4 packet of 1200 bytes, an IPv6 one of 1220 */
#define DIAL_SEGMENT_SMALL 536 /* an IPv4 packet of 576 (RFC 9293 section 3.7.1) */
void dial_limit_segments(struct dial *d, int bytes);
/*
 * Right after the start: it is to the Internet, by the way that is chosen
 * (io/egress.h); and each address over the interface `also` as well, a little later. 0:
 * not.
 */
void dial_go_out(struct dial *d, unsigned also);
/* Right after dial_start: through that interface alone. */
void dial_go_by(struct dial *d, unsigned interface);
/* The callback will not run. NULL is fine. */
void dial_cancel(struct dial *d);

#endif

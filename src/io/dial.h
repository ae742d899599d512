/*
 * Outgoing TCP connections: tries several addresses, each a little after the one
 * before (RFC 8305, "happy eyeballs"), and hands over the first that connects.
 */
#ifndef POSTERN_IO_DIAL_H
#define POSTERN_IO_DIAL_H

#include <stdint.h>
#include <uv.h>

#include "core/addr.h"
#include "core/err.h"

#define DIAL_ADDRS_MAX 8
#define DIAL_STAGGER_MS 250

struct dial;

/*
 * `fd` is a connected non-blocking socket and is the caller's, or -1 with `err`
 * POSTERN_ERR_REFUSED, _UNREACHABLE, _TIMEOUT, _NOTFOUND (name) or _IO: the reason of
 * the first address. The handle is gone when the callback begins.
 */
typedef void (*dial_cb)(void *ctx, int err, int fd);

/* Numeric addresses; the callback runs from the loop, never inside the call. */
MUST_CHECK int dial_start(struct dial **out, uv_loop_t *loop, const struct addr *addrs,
                          size_t n, unsigned timeout_ms, dial_cb cb, void *ctx);
/* A name or numeric address, resolved first. */
MUST_CHECK int dial_start_name(struct dial **out, uv_loop_t *loop, const char *host,
                               uint16_t port, unsigned timeout_ms, dial_cb cb,
                               void *ctx);
/* The callback will not run. NULL is fine. */
void dial_cancel(struct dial *d);

#endif

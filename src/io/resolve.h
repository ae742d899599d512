/* Names to addresses on the loop, with the system's resolver. */
#ifndef POSTERN_IO_RESOLVE_H
#define POSTERN_IO_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

#define RESOLVE_MAX 16

struct resolve;

/*
 * `err` is 0 and n > 0; or POSTERN_ERR_NOTFOUND (no such name), _DNS (the resolver did
 * not answer, or nobody is named to ask) or another error with n == 0. `addrs` is
 * borrowed until the callback returns, in the system's order of preference (RFC 6724),
 * without doubles. The handle is gone when the callback begins.
 */
typedef void (*resolve_cb)(void *ctx, int err, const struct addr *addrs, size_t n);

/*
 * `host` is a name, or a numeric address with or without brackets, which never
 * touches the resolver. The callback always runs from the loop, never inside the
 * call; not at all when starting fails.
 */
MUST_CHECK int resolve_start(struct resolve **out, struct loop *loop, const char *host,
                             uint16_t port, resolve_cb cb, void *ctx);
/*
 * The same in threads of its own, three at most, so that it waits for no other lookup:
 * the loop has threads for two, and a dead resolver holds one for 5 s and more. Of all
 * address families, whatever this machine has now; of one alone, where a DNS server
 * swallows questions for the other. The caller bounds how many run; one that is
 * cancelled goes on until the resolver gives up.
 */
MUST_CHECK int resolve_start_apart(struct resolve **out, struct loop *loop,
                                   const char *host, uint16_t port, resolve_cb cb,
                                   void *ctx);
/* The callback will not run. NULL is fine. */
void resolve_cancel(struct resolve *r);

/*
 * Without a loop, for a question at a program's start: says after a second what it
 * waits for, and waits for 3 s at most (POSTERN_ERR_DNS). How many there are, without
 * a port, or an error.
 */
MUST_CHECK int resolve_now(const char *host, struct addr out[static RESOLVE_MAX]);

/* Somebody to ask is named in /etc/resolv.conf. */
bool resolve_configured(void);

/* Splits "host:port", "[v6]:port" or "host" (then `port` is left alone). */
MUST_CHECK int resolve_split(const char *text, char *host, size_t cap, uint16_t *port);

#endif

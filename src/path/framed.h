/*
 * A path over a TCP connection: packets framed by 2 bytes of length, big-endian. Every
 * kind that ends in a connected TCP socket makes its paths here; how the socket came to
 * be connected, and to whom, is the kind's business.
 */
#ifndef POSTERN_PATH_FRAMED_H
#define POSTERN_PATH_FRAMED_H

#include "path/net.h"
#include "path/path.h"

struct framed;

/* The connection ended; free the path here or later. From the loop only. */
typedef void (*framed_broke_cb)(void *ctx, struct framed *f, const char *why);

/*
 * Takes over `fd`, connected and non-blocking, when it returns 0. The path's addresses
 * and round trip are those of the socket. `broke` runs at most once.
 */
MUST_CHECK int framed_new(struct framed **out, struct net *net, int fd,
                          enum path_kind kind, uint32_t path_id, framed_broke_cb broke,
                          void *ctx);
/* Closing it resets it. */
void framed_reset(struct framed *f);
/* Closes the connection. Fine inside any callback. NULL is fine. */
void framed_free(struct framed *f);
struct path *framed_path(struct framed *f);
/* TCP has sent the same again, more than once, and it is not acknowledged. */
bool framed_is_stuck(const struct framed *f);
/*
 * Nothing has come for a while, less than `since_us`, in which another connection to
 * the same machine was answered; and either TCP sends the same again and again, or all
 * that we said is acknowledged, and still nothing comes.
 */
bool framed_is_choked(const struct framed *f, uint64_t since_us);
/* For `ms` and three round trips something was under way, and nothing has come, not
 * even an acknowledgement. (TCP puts off sending again as long as more is written.) */
bool framed_is_unheard(const struct framed *f, unsigned ms);

#endif

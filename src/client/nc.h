/* `postern nc`: stdin and stdout as one connection to a service. */
#ifndef POSTERN_CLIENT_NC_H
#define POSTERN_CLIENT_NC_H

#include "client/client.h"

/* Ends when both directions have ended. */
MUST_CHECK int nc_run(const struct client_config *c, const char *host,
                      const char *service, struct fault *f);

/*
 * Between this process's stdin and stdout and a connected socket: two threads that
 * block, so that shared terminals and files keep their modes. `done_cb` runs on the
 * loop when stdout's side has ended.
 */
struct stdio_bridge;
MUST_CHECK int stdio_bridge_start(struct stdio_bridge **out, uv_loop_t *loop, int *fd,
                                  void (*on_done)(void *ctx), void *ctx);
/* Call after the loop has ended. NULL is fine. */
void stdio_bridge_free(struct stdio_bridge *b);

#endif

/*
 * Many sockets watched edge-triggered (epoll(7)) behind one handle of the loop: each
 * arrival is told once. Whoever only peeks at a socket, and leaves in it what another
 * shall read, is not woken again and again by the same bytes or by their end; and
 * whoever carries bytes registers each socket once, and back-pressure costs no system
 * call.
 */
#ifndef POSTERN_IO_EDGES_H
#define POSTERN_IO_EDGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/err.h"
#include "io/loop.h"

struct edges;

/*
 * Something arrived on the socket that was added with `item`. `ended`: its last word
 * too, or it failed. Any socket may be removed here, and the whole closed.
 */
typedef void (*edges_cb)(void *item, bool ended);

MUST_CHECK int edges_open(struct edges **out, struct loop *loop, edges_cb cb);
/* Memory goes when the loop next turns. NULL is fine. */
void edges_close(struct edges *e);
/* What is there already is told from the loop. `fd` stays the caller's. */
MUST_CHECK int edges_add(struct edges *e, int fd, void *item);
/* Before the descriptor is closed or handed on. */
void edges_remove(struct edges *e, int fd);

enum {
    EDGE_READ = 1, /* bytes or their end */
    EDGE_WRITE = 2,
    EDGE_BROKEN = 4
};

/* For those that carry: many arrivals are fetched by one system call. */
struct edges_bulk {
    struct loop *loop;
    /* `edges`: what came. May name an item whose socket was closed since the last
     * on_round. */
    void (*on_edge)(void *ctx, void *item, int edges);
    /* No earlier event names any item any more. */
    void (*on_round)(void *ctx);
    void *ctx;
};

/* Not to be closed inside its callbacks. */
MUST_CHECK int edges_open_bulk(struct edges **out, const struct edges_bulk *b);
/* Told of both directions, both of which are so at the start; closing `fd` removes it.
 */
MUST_CHECK int edges_add_both(struct edges *e, int fd, void *item);

/*
 * What stands in the socket from its beginning: more than 0 bytes, 0 when there is
 * nothing yet, or a negative error when it has ended or failed.
 */
MUST_CHECK ssize_t edges_peek(int fd, void *buf, size_t cap);

#endif

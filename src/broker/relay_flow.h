/*
 * One direction of a relayed pair: bytes from one TCP socket to another through a
 * kernel pipe, or through memory when no pipe of full size can be had. Both are
 * borrowed from a pool and only while bytes are held, so an idle pair costs neither.
 */
#ifndef POSTERN_BROKER_RELAY_FLOW_H
#define POSTERN_BROKER_RELAY_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RELAY_PIPE_BYTES = 256 * 1024,  /* most that a flow holds in a pipe */
    RELAY_BUFFER_BYTES = 64 * 1024, /* and in memory */
    RELAY_SPARE_PIPES = 32,         /* empty pipes that a pool keeps */
};

struct relay_pipe {
    int read_fd, write_fd;
};

/* Belongs to one thread. All zero is an empty pool. */
struct relay_pool {
    struct relay_pipe spare[RELAY_SPARE_PIPES];
    size_t spare_count;
    bool no_pipes;    /* refused last time: memory for now */
    uint64_t copied;  /* bytes that went through memory, for the counters */
    uint64_t spliced; /* bytes that went through pipes */
};

void relay_pool_fini(struct relay_pool *p);

struct relay_flow {
    int from_fd, to_fd; /* borrowed */
    bool readable;      /* from_fd may have more; set by its owner on an event */
    bool writable;      /* to_fd may take more; likewise */
    bool eof;           /* from_fd has said its last */
    bool done;          /* and to_fd was told */
    bool has_pipe;
    struct relay_pipe pipe;
    uint8_t *buffer;   /* owned */
    size_t held, from; /* bytes inside, and where they start in `buffer` */
};

enum relay_flow_result {
    RELAY_FLOW_WAIT,   /* everything possible now was done */
    RELAY_FLOW_MORE,   /* a fair share was moved; call again */
    RELAY_FLOW_FAILED, /* a socket failed: reset both */
};

/*
 * Moves what it can, clears `readable` or `writable` when the kernel says so, and
 * passes the end of the stream on. `*moved` grows by the bytes that left.
 */
enum relay_flow_result relay_flow_pump(struct relay_flow *f, struct relay_pool *p,
                                       uint64_t *moved);
/* Gives back what the flow holds. */
void relay_flow_fini(struct relay_flow *f, struct relay_pool *p);

#endif

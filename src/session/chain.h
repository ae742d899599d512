/*
 * A chain: a byte queue in blocks, addressed by stream offset. Bytes stay until they
 * are released, so that a sender can point into it until they are acknowledged.
 */
#ifndef POSTERN_SESSION_CHAIN_H
#define POSTERN_SESSION_CHAIN_H

#include <stdint.h>
#include <sys/uio.h>

#include "core/err.h"

#define CHAIN_BLOCK_BYTES 65536

struct block;

/* Blocks kept for the next user; bounded. One per loop. */
struct chain_pool {
    struct block *free;
    unsigned count;
    size_t used; /* blocks that chains hold */
};

struct chain {
    struct chain_pool *pool; /* borrowed */
    struct block *head, *tail;
    uint64_t start;     /* offset of the oldest byte kept */
    uint64_t end;       /* offset after the newest byte */
    uint32_t head_from; /* where `start` stands in head */
};

void chain_pool_fini(struct chain_pool *pool);
void chain_init(struct chain *c, struct chain_pool *pool);
/* Gives every block back; offsets stay. */
void chain_fini(struct chain *c);

/* Copies `len` bytes to the end. */
MUST_CHECK int chain_append(struct chain *c, const void *data, size_t len);
/*
 * Room at the end to read into: fills at most `max` iovecs (the last block's rest,
 * then fresh blocks) and returns how many; 0 when out of memory.
 */
size_t chain_reserve(struct chain *c, struct iovec *iov, size_t max);
/* `len` bytes of what was reserved were filled; the rest is given back. */
void chain_commit(struct chain *c, size_t len);
/* The bytes from `offset` on, as iovecs into the chain; returns how many. */
size_t chain_peek(const struct chain *c, uint64_t offset, struct iovec *iov,
                  size_t max);
/* Copies at most `cap` bytes from `offset` on; returns how many. */
size_t chain_copy(const struct chain *c, uint64_t offset, uint8_t *buf, size_t cap);
/* Forgets the bytes before `offset`. */
void chain_release(struct chain *c, uint64_t offset);

#endif

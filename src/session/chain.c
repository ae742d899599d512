/* Blocks in a list. Knows nothing of streams or sockets. */
#include "session/chain.h"

#include <stdlib.h>
#include <string.h>

enum { POOL_MAX_BLOCKS = 256 }; /* 16 MB for the next burst; the rest goes back */

struct block {
    struct block *next;
    uint32_t len;
    uint8_t data[CHAIN_BLOCK_BYTES];
};

static struct block *block_get(struct chain_pool *pool)
{
    struct block *b = pool->free;
    if (b != NULL) {
        pool->free = b->next;
        pool->count--;
    } else {
        b = malloc(sizeof(*b));
        if (b == NULL)
            return NULL;
    }
    b->next = NULL;
    b->len = 0;
    pool->used++;
    return b;
}

static void block_put(struct chain_pool *pool, struct block *b)
{
    pool->used--;
    if (pool->count >= POOL_MAX_BLOCKS) {
        free(b);
        return;
    }
    b->next = pool->free;
    pool->free = b;
    pool->count++;
}

void chain_pool_fini(struct chain_pool *pool)
{
    while (pool->free != NULL) {
        struct block *b = pool->free;
        pool->free = b->next;
        free(b);
    }
    pool->count = 0;
}

void chain_init(struct chain *c, struct chain_pool *pool)
{
    *c = (struct chain){.pool = pool};
}

void chain_fini(struct chain *c)
{
    while (c->head != NULL) {
        struct block *b = c->head;
        c->head = b->next;
        block_put(c->pool, b);
    }
    c->tail = NULL;
    c->start = c->end;
    c->head_from = 0;
}

/* Appends an empty block. */
static struct block *grow(struct chain *c)
{
    struct block *b = block_get(c->pool);
    if (b == NULL)
        return NULL;
    if (c->tail != NULL)
        c->tail->next = b;
    else
        c->head = b;
    c->tail = b;
    return b;
}

int chain_append(struct chain *c, const void *data, size_t len)
{
    const uint8_t *from = data;
    while (len > 0) {
        struct block *b = c->tail;
        if (b == NULL || b->len == CHAIN_BLOCK_BYTES)
            b = grow(c);
        if (b == NULL)
            return POSTERN_ERR_NOMEM;
        size_t room = CHAIN_BLOCK_BYTES - b->len;
        size_t n = len < room ? len : room;
        memcpy(b->data + b->len, from, n);
        b->len += (uint32_t)n;
        c->end += n;
        from += n;
        len -= n;
    }
    return 0;
}

size_t chain_reserve(struct chain *c, struct iovec *iov, size_t max)
{
    size_t n = 0;
    struct block *b = c->tail;
    if (b != NULL && b->len < CHAIN_BLOCK_BYTES && n < max)
        iov[n++] = (struct iovec){b->data + b->len, CHAIN_BLOCK_BYTES - b->len};
    while (n < max) {
        b = grow(c);
        if (b == NULL)
            break;
        iov[n++] = (struct iovec){b->data, CHAIN_BLOCK_BYTES};
    }
    return n;
}

void chain_commit(struct chain *c, size_t len)
{
    struct block **link = &c->head;
    struct block *last = NULL;
    c->end += len;
    /* Skip the blocks that were full before the reservation. */
    while (*link != NULL && (*link)->len == CHAIN_BLOCK_BYTES) {
        last = *link;
        link = &last->next;
    }
    while (*link != NULL && len > 0) {
        struct block *b = *link;
        size_t room = CHAIN_BLOCK_BYTES - b->len;
        size_t n = len < room ? len : room;
        b->len += (uint32_t)n;
        len -= n;
        last = b;
        link = &b->next;
    }
    if (*link != NULL && (*link)->len > 0) { /* partly filled before, nothing added */
        last = *link;
        link = &last->next;
    }
    while (*link != NULL) { /* reserved and not used */
        struct block *b = *link;
        *link = b->next;
        block_put(c->pool, b);
    }
    c->tail = last;
}

size_t chain_peek(const struct chain *c, uint64_t offset, struct iovec *iov, size_t max)
{
    uint64_t at = c->start;
    uint32_t from = c->head_from;
    size_t n = 0;
    for (struct block *b = c->head; b != NULL && n < max; b = b->next, from = 0) {
        uint64_t here = b->len - from;
        if (offset < at + here) {
            uint64_t skip = offset > at ? offset - at : 0;
            iov[n++] = (struct iovec){b->data + from + skip, here - skip};
        }
        at += here;
    }
    return n;
}

size_t chain_copy(const struct chain *c, uint64_t offset, uint8_t *buf, size_t cap)
{
    struct iovec iov[4];
    size_t have = 0;
    size_t count = chain_peek(c, offset, iov, 4);
    for (size_t i = 0; i < count && have < cap; i++) {
        size_t n = iov[i].iov_len < cap - have ? iov[i].iov_len : cap - have;
        memcpy(buf + have, iov[i].iov_base, n);
        have += n;
    }
    return have;
}

void chain_release(struct chain *c, uint64_t offset)
{
    while (c->head != NULL && c->start < offset) {
        struct block *b = c->head;
        uint64_t here = b->len - c->head_from;
        if (offset - c->start < here) {
            c->head_from += (uint32_t)(offset - c->start);
            c->start = offset;
            return;
        }
        c->start += here;
        c->head_from = 0;
        c->head = b->next;
        if (c->head == NULL)
            c->tail = NULL;
        block_put(c->pool, b);
    }
}

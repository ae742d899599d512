/* The cursors; each access checks what remains, then subtracts. */
#include "core/wire.h"

#include <string.h>

struct wire_reader wire_reader(const uint8_t *buf, size_t len)
{
    return (struct wire_reader){.at = buf, .left = len};
}

const uint8_t *wire_get_bytes(struct wire_reader *r, size_t len)
{
    if (r->failed || len > r->left) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += len;
    r->left -= len;
    return p;
}

static uint64_t get_be(struct wire_reader *r, size_t len)
{
    const uint8_t *p = wire_get_bytes(r, len);
    uint64_t v = 0;
    for (size_t i = 0; p != NULL && i < len; i++)
        v = v << 8 | p[i];
    return v;
}

uint8_t wire_get_u8(struct wire_reader *r)
{
    return (uint8_t)get_be(r, 1);
}

uint16_t wire_get_u16(struct wire_reader *r)
{
    return (uint16_t)get_be(r, 2);
}

uint32_t wire_get_u32(struct wire_reader *r)
{
    return (uint32_t)get_be(r, 4);
}

uint64_t wire_get_u64(struct wire_reader *r)
{
    return get_be(r, 8);
}

int wire_end(const struct wire_reader *r)
{
    return r->failed || r->left != 0 ? POSTERN_ERR_PROTO : 0;
}

struct wire_writer wire_writer(uint8_t *buf, size_t len)
{
    return (struct wire_writer){.at = buf, .left = len};
}

void wire_put_bytes(struct wire_writer *w, const void *bytes, size_t len)
{
    if (w->failed || len > w->left) {
        w->failed = true;
        return;
    }
    if (len > 0)
        memcpy(w->at, bytes, len);
    w->at += len;
    w->left -= len;
    w->used += len;
}

static void put_be(struct wire_writer *w, uint64_t v, size_t len)
{
    uint8_t b[8];
    for (size_t i = 0; i < len; i++)
        b[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
    wire_put_bytes(w, b, len);
}

void wire_put_u8(struct wire_writer *w, uint8_t v)
{
    put_be(w, v, 1);
}

void wire_put_u16(struct wire_writer *w, uint16_t v)
{
    put_be(w, v, 2);
}

void wire_put_u32(struct wire_writer *w, uint32_t v)
{
    put_be(w, v, 4);
}

void wire_put_u64(struct wire_writer *w, uint64_t v)
{
    put_be(w, v, 8);
}

/*
 * Sticky-error cursors over bytes: after the first failure reads give zero and
 * writes do nothing, so that a caller checks once, at the end. All integers are
 * big-endian.
 */
#ifndef POSTERN_CORE_WIRE_H
#define POSTERN_CORE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct wire_reader {
    const uint8_t *at; /* borrowed */
    size_t left;
    bool failed;
};

struct wire_writer {
    uint8_t *at; /* borrowed */
    size_t left;
    size_t used;
    bool failed;
};

struct wire_reader wire_reader(const uint8_t *buf, size_t len);
uint8_t wire_get_u8(struct wire_reader *r);
uint16_t wire_get_u16(struct wire_reader *r);
uint32_t wire_get_u32(struct wire_reader *r);
uint64_t wire_get_u64(struct wire_reader *r);
/* A view of the next `len` bytes inside the buffer, or NULL after a failure. */
const uint8_t *wire_get_bytes(struct wire_reader *r, size_t len);
/* 0 when nothing failed and nothing is left; POSTERN_ERR_PROTO otherwise. */
MUST_CHECK int wire_end(const struct wire_reader *r);

struct wire_writer wire_writer(uint8_t *buf, size_t len);
void wire_put_u8(struct wire_writer *w, uint8_t v);
void wire_put_u16(struct wire_writer *w, uint16_t v);
void wire_put_u32(struct wire_writer *w, uint32_t v);
void wire_put_u64(struct wire_writer *w, uint64_t v);
void wire_put_bytes(struct wire_writer *w, const void *bytes, size_t len);

#endif

/*
 * Early copies. QUIC repeats what was lost before it takes anything new, and so one
 * large stream that lost much makes every small one wait. What a small stream has to
 * say then leaves as well in a packet of its own beside QUIC, as often as need be,
 * until QUIC has brought it over. It is a copy only: QUIC carries every byte all the
 * same, and ends and resets are QUIC's alone. Who gets one hands out what is new in it,
 * and skips that when QUIC brings it.
 *
 * Here is what is copied when, what of a copy is new, and the packet. Knows offsets,
 * times and keys; neither streams nor paths. The first byte tells the packet from
 * QUIC's, from the probe (core/probe.h) and from what else goes over a path.
 *
 *   0      0x2c
 *   1-4    number: a counter of the sender, never 0, big-endian
 *   5-12   id of the stream
 *   13-20  offset of the first byte in the stream
 *   21-... 1 to 1,000 bytes
 *   last 16 tag: from byte 5 on sealed with ChaCha20-Poly1305 (RFC 8439), with the
 *          first 5 bytes as additional data and the number as nonce
 */
#ifndef POSTERN_CORE_COPIES_H
#define POSTERN_CORE_COPIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/replay.h"

#define COPY_FIRST_BYTE 0x2c
#define COPY_KEY_LEN 32
#define COPY_DATA_MAX 1000 /* what more waits in a stream is not small */
#define COPY_LEN_MIN 38
#define COPY_LEN_MAX 1037
#define COPY_AHEAD_MAX 4096 /* handed out before QUIC has brought it */

/* ------------------------------------------------------------------------ the packet
 */

struct copy {
    uint64_t stream, offset;
    size_t len; /* 1..COPY_DATA_MAX */
    uint8_t data[COPY_DATA_MAX];
};

/* `buf` has room for COPY_LEN_MAX; returns the packet's length. No number is used twice
 * with one key. */
size_t copy_seal(const struct copy *c, const uint8_t key[static COPY_KEY_LEN],
                 uint32_t number, uint8_t *buf);
/* 0, or POSTERN_ERR_PROTO when it is not a whole, authentic one; `c` is as it was then.
 */
MUST_CHECK int copy_open(struct copy *c, uint32_t *number,
                         const uint8_t key[static COPY_KEY_LEN], const uint8_t *buf,
                         size_t len);

/* ------------------------------------------------------------------ who gets copies */

/* Of one stream; all zero at its beginning. */
struct copies_in {
    uint64_t delivered; /* handed out, all before it */
    uint64_t carried;   /* brought by QUIC, all before it */
    bool over;          /* it has ended, was reset, or is not read any more */
};

/*
 * QUIC brings `len` bytes from `offset` on, in order and without a gap. How many of
 * them, the first, were handed out already; the others are handed out now.
 */
size_t copies_on_quic(struct copies_in *in, uint64_t offset, size_t len, bool fin);
/*
 * The same of a copy, which may bring anything: `len` where nothing of it may be handed
 * out.
 */
size_t copies_on_copy(struct copies_in *in, uint64_t offset, size_t len);

/* ---------------------------------------------------------------- who sends copies */

/* Of one stream; all zero at its beginning. */
struct copies_out {
    uint64_t since_us; /* when it was found to wait, or got on last; 0 it does not */
    uint64_t start;    /* the first byte that is not acknowledged, then */
    uint64_t copied_us, copied_end; /* the last copy: when, and up to where; 0 none */
    unsigned again;                 /* how often the same left after the first time */
};

/* Of all streams of a session; all zero at its beginning. */
struct copies_pace {
    uint64_t until_us;          /* there is trouble till then */
    uint64_t round_us;          /* when this round trip began */
    unsigned count;             /* packets in it */
    uint64_t filled_us, credit; /* bytes, in millionths */
};

/* There is trouble, and will be for so long at least. */
void copies_on_trouble(struct copies_pace *p, uint64_t for_us, uint64_t now_us);
static inline bool copies_in_trouble(const struct copies_pace *p, uint64_t now_us)
{
    return now_us < p->until_us;
}
/*
 * When the next copy of a stream is due whose bytes from `start` to `end` are not
 * acknowledged; UINT64_MAX: none is. `waits`: QUIC has not taken the last of them.
 * `left_us`: the first of them left then; 0 where that is not known. Told
 * again and again.
 */
uint64_t copies_due_us(struct copies_out *o, uint64_t start, uint64_t end, bool waits,
                       uint64_t left_us, uint64_t rtt_us, uint64_t now_us);
/* Another path: what left on the one before says nothing. */
void copies_on_path(struct copies_out *o);
/* It left, up to `end`. */
void copies_on_sent(struct copies_out *o, uint64_t end, uint64_t now_us);
/*
 * When one of `len` bytes may leave, now or later; `rate` of the path in bytes a
 * second, 0 where it is not known.
 */
uint64_t copies_free_us(struct copies_pace *p, size_t len, uint64_t rate,
                        uint64_t rtt_us, uint64_t now_us);
/* It does. */
void copies_spend(struct copies_pace *p, size_t len);

#endif

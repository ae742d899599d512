/*
 * Files on their way from one device to another (`postern send`, `postern receive`):
 * the frames of that conversation, names made safe, and the hash by which both ends
 * know that they have the same bytes. Knows no file and no socket.
 *
 *   sender                          receiver
 *   HELLO, FILE..., LISTED     ->
 *                              <-   HAVE for what is there in part or whole, READY
 *   SAME for each that may be whole
 *                              ->
 *                              <-   STORED or DIFFERS
 *   for each other: START, DATA and ZEROS, then END or ABORT
 *                              ->
 *                              <-   STORED for each; FAIL ends it all, at any time
 *
 * The receiver never shows a hash of what others put there: a sender could guess at it.
 *
 * A frame is its type (1 byte), the length of what follows (4), and that. Files are cut
 * into blocks; blocks of zeros are only counted.
 */
#ifndef POSTERN_CORE_TRANSFER_H
#define POSTERN_CORE_TRANSFER_H

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

enum {
    TRANSFER_VERSION = 1,
    TRANSFER_BLOCK = 1024 * 1024,
    TRANSFER_PATH_LEN = 1024, /* with NUL */
    TRANSFER_HEAD = 5,
    TRANSFER_FRAME_MAX = TRANSFER_BLOCK,
    TRANSFER_HASH_LEN = 32,
    TRANSFER_FILES_MAX = 200000,
};
#define TRANSFER_SIZE_MAX                                                              \
    (UINT64_C(1) << 46) /* 64 TiB: blocks of holes are counted, too */

enum transfer_type {
    TRANSFER_HELLO = 1, /* version u32; again, at any time: it lives */
    TRANSFER_FILE,      /* struct transfer_file */
    TRANSFER_LISTED,    /* u64: bytes that will be stored, holes left out */
    TRANSFER_HAVE, /* index u32; is one of that name and size there u8; of a part that
                  the sender sent: blocks u64, hash of them */
    TRANSFER_READY,
    TRANSFER_START,  /* index u32, from which block u64 */
    TRANSFER_DATA,   /* one block; only a file's last is shorter */
    TRANSFER_ZEROS,  /* u64 blocks of zeros */
    TRANSFER_END,    /* hash of it all */
    TRANSFER_SAME,   /* index u32, hash: is what is there the same? STORED or DIFFERS */
    TRANSFER_ABORT,  /* the file under way is not sent after all */
    TRANSFER_STORED, /* index u32, then its name there */
    TRANSFER_FAIL,   /* words for people */
    TRANSFER_DIFFERS, /* index u32 */
    TRANSFER_TYPE_END,
};

struct transfer_file {
    bool directory;
    uint16_t mode; /* permissions */
    uint64_t size;
    int64_t mtime_s;
    char path[TRANSFER_PATH_LEN]; /* with '/' between; relative */
};

/* A frame's head. */
void transfer_head(uint8_t head[static TRANSFER_HEAD], enum transfer_type type,
                   size_t len);
/* POSTERN_ERR_PROTO: no such type, or too long. */
MUST_CHECK int transfer_parse_head(const uint8_t head[static TRANSFER_HEAD],
                                   enum transfer_type *type, size_t *len);
/* The length written. */
size_t transfer_put_file(uint8_t *buf, size_t cap, const struct transfer_file *f);
/* The path as it came: transfer_clean_path before it is used. */
MUST_CHECK int transfer_get_file(struct transfer_file *f, const uint8_t *buf,
                                 size_t len);

/*
 * Makes a path that cannot leave the directory it is stored in, nor hide there: no
 * "..", no '/' in front, no control characters, no dot in front of the first name.
 * POSTERN_ERR_INVALID when nothing is left.
 */
MUST_CHECK int transfer_clean_path(char path[static TRANSFER_PATH_LEN]);
/* "photo.jpg" and 2: "photo (2).jpg", cut to fit a file's name. */
void transfer_number_name(char *out, size_t cap, const char *name, unsigned number);

/* How many blocks a file of that size has. */
uint64_t transfer_blocks(uint64_t size);
bool transfer_is_zero(const uint8_t *block, size_t len);

struct transfer_hash {
    crypto_generichash_state state;
};
void transfer_hash_begin(struct transfer_hash *h);
/* One block; one of zeros counts the same here and below. */
void transfer_hash_block(struct transfer_hash *h, const uint8_t *block, size_t len);
void transfer_hash_zeros(struct transfer_hash *h, uint64_t blocks);
/* Of the blocks so far, the last of which ends at `size`; `h` goes on. */
void transfer_hash_so_far(const struct transfer_hash *h, uint64_t size,
                          uint8_t out[static TRANSFER_HASH_LEN]);

#endif

/*
 * The directory that files are received into: a part of a file until it is whole, then
 * the file under a name that nothing had. Knows names and blocks, and no sender.
 */
#ifndef POSTERN_HOST_RECEIVE_STORE_H
#define POSTERN_HOST_RECEIVE_STORE_H

#include "core/transfer.h"

/* Where parts wait: in the directory itself, so that they can be renamed. */
#define STORE_PARTS ".postern-parts"

struct store {
    int dir;   /* -1: none is open */
    int parts; /* made when needed */
    /* Called now and then while much is read; NULL: not. */
    void (*alive)(void *ctx);
    void *ctx;
};

MUST_CHECK int store_open(struct store *s, const char *dir, struct fault *f);
/* Parts that nobody came back for go; and the place for them when it is empty. */
void store_tidy(struct store *s);
void store_close(struct store *s);
/* Bytes that may be written there. */
uint64_t store_room(const struct store *s);

/* A directory and those above it; no symbolic link is followed. */
MUST_CHECK int store_make_dir(struct store *s, const char *path);

/*
 * What is there of a file that `who` sends: one of its size and name, with
 * a number or without (`whole`), and a
 * part of his. How many blocks that has, and their hash; 0: none.
 */
uint64_t store_have(struct store *s, const char *who, const struct transfer_file *file,
                    bool *whole, uint8_t hash[static TRANSFER_HASH_LEN]);
/* One of its name, or that with a number, and its size has that hash: its path. */
bool store_is(struct store *s, const struct transfer_file *file,
              const uint8_t hash[static TRANSFER_HASH_LEN],
              char path[static TRANSFER_PATH_LEN]);

/* A file that is being written. */
struct store_part {
    struct transfer_hash hash;
    uint64_t blocks; /* written */
    int fd;          /* -1: none */
    char name[40];
};

/*
 * From block `from` on, of which there are as many; beside another that writes the same
 * file, in a part of its own. POSTERN_ERR_INUSE: a hundred do;
 * else what the kernel says, with errno.
 */
MUST_CHECK int store_begin(struct store *s, struct store_part *p, const char *who,
                           const struct transfer_file *file, uint64_t from);
/* POSTERN_ERR_FULL, _IO. */
MUST_CHECK int store_block(struct store_part *p, const uint8_t *data, size_t len);
void store_zeros(struct store_part *p, uint64_t blocks);
/*
 * It is whole if it is so long and has that hash: then it gets its name, or the next
 * that is free, which is written to `path`; `*there`: a file of these bytes had come by
 * that name meanwhile, and stays. POSTERN_ERR_CORRUPT: it is not, and is gone.
 */
MUST_CHECK int store_end(struct store *s, struct store_part *p,
                         const struct transfer_file *file,
                         const uint8_t hash[static TRANSFER_HASH_LEN],
                         char path[static TRANSFER_PATH_LEN], bool *there);
/* Leaves it for the next time; or, `forget`, takes it away. */
void store_leave(struct store *s, struct store_part *p, bool forget);

#endif

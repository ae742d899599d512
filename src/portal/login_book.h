/*
 * Who is logged in, on the disk, so that a broker that begins anew knows them: hashes
 * of cookies, names of accounts, and of each host the proof of the account's password.
 * Whether that account still holds is not known here. All of it may be called with
 * NULL, the book that could not be opened: then nothing is kept.
 */
#ifndef POSTERN_PORTAL_LOGIN_BOOK_H
#define POSTERN_PORTAL_LOGIN_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/key.h"

enum {
    LOGIN_HOSTS_MAX = 8, /* hosts on which one name may have the same password */
    LOGIN_HASH_LEN = 32,
};

struct login_book;

struct login_row {
    uint8_t cookie_hash[LOGIN_HASH_LEN];
    char account[64];
    int64_t since_s, used_s; /* of the wall's clock */
    size_t host_count;
    struct {
        uint8_t key[KEY_LEN], proof[LOGIN_HASH_LEN];
    } hosts[LOGIN_HOSTS_MAX];
};

/* portal.db in `dir`; NULL, which is said, where that cannot be. */
struct login_book *login_book_open(const char *dir);
void login_book_close(struct login_book *b);
void login_book_add(struct login_book *b, const struct login_row *row);
/* Has reached the disk when it returns; what cannot be taken out of the file goes with
 * the whole of it. */
void login_book_remove(struct login_book *b, const uint8_t hash[static LOGIN_HASH_LEN]);
void login_book_used(struct login_book *b, const uint8_t hash[static LOGIN_HASH_LEN],
                     int64_t used_s);
/*
 * Each that began after `since_s` and was used after `used_s`, the eldest first, at
 * most `max`; the others, and what is said to have begun later than `now_s`, are taken
 * out.
 */
struct login_span {
    int64_t since_s, used_s, now_s;
};
void login_book_each(struct login_book *b, const struct login_span *good, size_t max,
                     void (*take)(void *ctx, const struct login_row *row), void *ctx);

#endif

/*
 * The client's book: hosts that it joined, how to reach them, and the services they
 * showed last. Several processes use it at once. Time is wall clock seconds and an
 * argument.
 */
#ifndef POSTERN_CLIENT_BOOK_H
#define POSTERN_CLIENT_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"
#include "core/link.h"
#include "io/statedir.h"

#define BOOK_NAME_LEN 64
#define BOOK_SERVICE_MAX 64
#define BOOK_TITLE_LEN 48

struct book;

struct book_host {
    char name[BOOK_NAME_LEN]; /* unique in this book, a valid DNS label in lower case */
    uint8_t key[KEY_LEN];
    char broker[LINK_TEXT_LEN]; /* LINK_BROKER text, without a token */
    int64_t joined_s;
    uint8_t own_key[KEY_LEN];   /* the key by which this host knows us */
    uint8_t first_key[KEY_LEN]; /* its key when it was joined; read, never written */
};

struct book_service {
    char name[BOOK_NAME_LEN];
    char title[BOOK_TITLE_LEN]; /* for people; "": none */
    uint16_t port;
    bool udp;
};

/* Makes the book the first time; not where a running `up` goes by one that is gone. */
MUST_CHECK int book_open(struct book **out, const struct statedir *state,
                         struct fault *f);
/* The same, but makes none: POSTERN_ERR_NOTFOUND says that `host` is not in it. */
MUST_CHECK int book_open_known(struct book **out, const struct statedir *state,
                               const char *host, struct fault *f);
/* NULL is fine. */
void book_close(struct book *b);

/*
 * Adds a host, or renews it when its key is in the book (its name then stays).
 * h->name is made a valid label ("Anna's PC" becomes anna-s-pc) and gets the suffix
 * -2, -3... when another host has it; the name in use is written back to `h`.
 */
/* Writes as much as book_add does, and takes it back: whether there is room for it. */
MUST_CHECK int book_check_room(struct book *b, struct fault *f);
MUST_CHECK int book_add(struct book *b, struct book_host *h, struct fault *f);
/*
 * By name (any case, ".postern" at the end is ignored), or by four or more
 * characters of the key's text. POSTERN_ERR_NOTFOUND names the hosts that are known;
 * _INVALID when a key prefix fits several.
 */
MUST_CHECK int book_find(struct book *b, const char *name, struct book_host *h,
                         struct fault *f);
MUST_CHECK int book_find_key(struct book *b, const uint8_t key[static KEY_LEN],
                             struct book_host *h);
/* What an error of this book means, with what to do. Returns `err`. */
int book_fault(struct book *b, int err, struct fault *f);
MUST_CHECK int book_remove(struct book *b, const uint8_t key[static KEY_LEN]);
/* Sorted by name. Returns how many there are in all, or a negative error. */
MUST_CHECK int book_hosts(struct book *b, struct book_host *out, size_t max);

/* The host follows its key, after the caller verified the old key's signature. */
MUST_CHECK int book_rotate(struct book *b, const uint8_t old_key[static KEY_LEN],
                           const uint8_t new_key[static KEY_LEN]);
/* The host has acknowledged our new key. */
MUST_CHECK int book_set_own_key(struct book *b, const uint8_t key[static KEY_LEN],
                                const uint8_t own_key[static KEY_LEN]);

/* What worked towards a host from one network (io/netmon.h); at most 500 are kept. */
struct book_network {
    char kind[24];         /* the direct path kind that was used last; empty: none */
    uint64_t keepalive_us; /* silence that its NATs bear; 0: not known */
};
/* POSTERN_ERR_NOTFOUND: nothing is known; `out` is zeroed. */
MUST_CHECK int book_network_get(struct book *b, const uint8_t key[static KEY_LEN],
                                const uint8_t network[static 16],
                                struct book_network *out);
MUST_CHECK int book_network_set(struct book *b, const uint8_t key[static KEY_LEN],
                                const uint8_t network[static 16],
                                const struct book_network *n);

/* Replaces what is remembered of a host's services. */
MUST_CHECK int book_services_set(struct book *b, const uint8_t key[static KEY_LEN],
                                 const struct book_service *s, size_t n);
/* Returns how many were written to `out`, at most `max`, or a negative error. */
MUST_CHECK int book_services(struct book *b, const uint8_t key[static KEY_LEN],
                             struct book_service *out, size_t max);
/* Grows when another process changed the book. */
int64_t book_version(struct book *b);

#endif

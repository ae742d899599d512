/*
 * Who is logged in. A name may have accounts on several hosts with the same password:
 * one login opens them all. Cookies are kept as hashes, passwords not at all; what is
 * kept on the disk (login_book.h) outlives the broker.
 */
#ifndef POSTERN_PORTAL_LOGINS_H
#define POSTERN_PORTAL_LOGINS_H

#include "portal/asks.h"
#include "portal/login_book.h"

struct logins;

enum {
    LOGIN_TOKEN_TEXT_LEN = 53, /* base32 of 32 bytes, with NUL */
};

/* Somebody who logged in: one browser. logins.c alone writes here. */
struct login {
    struct list link;
    uint64_t id; /* never 0, never used again */
    uint8_t cookie_hash[LOGIN_HASH_LEN];
    char csrf[LOGIN_TOKEN_TEXT_LEN];
    char account[64];
    struct addr client; /* where it was last seen; its port is of no account */
    uint64_t since_ms, used_ms, kept_ms; /* `kept_ms`: the use that the disk knows */
    struct {
        uint32_t host; /* 0: not heard of since this broker began */
        uint8_t key[KEY_LEN];
        uint8_t proof[LOGIN_HASH_LEN]; /* another ends the access */
    } hosts[LOGIN_HOSTS_MAX];
    size_t host_count;
};

/* Those that an earlier broker with this key kept are there; without a state directory
 * (of the configuration) none are kept. */
MUST_CHECK int logins_new(struct logins **out, const struct rooms *rooms,
                          const struct keypair *broker);
/* Forgets all, and tells nobody: the next broker knows them. NULL is fine. */
void logins_free(struct logins *ls);
/* Ends those that have no account left, unless a host of theirs has not come back since
 * this broker began; and those that last too long. */
void logins_check(struct logins *ls);
void logins_sweep(struct logins *ls);

/*
 * Somebody whose password, and code where one is asked for, was right on these hosts.
 * `token` is the cookie. NULL when out of memory.
 */
const struct login *login_admit(struct logins *ls, const char *name,
                                const struct addr *from, const uint32_t *hosts,
                                size_t count, char token[static LOGIN_TOKEN_TEXT_LEN]);
void login_end(struct logins *ls, struct login *l, const char *why);
/* Seen now at `from`: what it opened follows it. */
void login_seen(struct logins *ls, struct login *l, const struct addr *from);

/* The one after `l`, the eldest first; NULL: the first, and after the last. */
struct login *logins_next(const struct logins *ls, const struct login *l);
/* Is anybody logged in at that address? */
bool logins_at(const struct logins *ls, const struct addr *from);
struct login *login_by_cookie(const struct logins *ls, const char *token);
struct login *login_by_id(const struct logins *ls, uint64_t id);
/* The account on that host if it still holds; NULL when it does not. */
struct portal_account *login_account(const struct login *l,
                                     const struct portal_host *h);
/* The same on the `i`th of its hosts, which goes to `h`. */
struct portal_account *login_account_at(const struct logins *ls, const struct login *l,
                                        size_t i, struct portal_host **h);
/* May it use that service there? */
bool login_may(const struct login *l, const struct portal_host *h, int service);
/* When it ends at the latest, from now. */
uint64_t login_rest_ms(const struct logins *ls, const struct login *l);

/* A secret for a browser, and the hash by which it is known again. */
void login_token_new(char text[static LOGIN_TOKEN_TEXT_LEN],
                     uint8_t hash[static LOGIN_HASH_LEN]);
bool login_token_hash(uint8_t hash[static LOGIN_HASH_LEN], const char *token);
/* Of an account's password as it is now: another password has another. */
void login_proof(uint8_t proof[static LOGIN_HASH_LEN], const struct portal_account *a);

#endif

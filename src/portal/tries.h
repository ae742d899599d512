/*
 * How often one may try to log in. Whoever logged in before is judged by his own count:
 * a browser by its cookie (devices.h), else an address by what is remembered of it.
 * Strangers share what they may guess of each account (core/strangers.h), so their
 * failures delay strangers only, and newcomers among these for seconds: who waits his
 * turn gets it (core/turns.h).
 */
#ifndef POSTERN_PORTAL_TRIES_H
#define POSTERN_PORTAL_TRIES_H

#include "portal/devices.h"

struct tries;

/*
 * Whom a try concerns: the accounts of that name, each by itself. Else who has one of
 * the same name on another host could forget the failures by logging in there.
 */
struct tried {
    char name[64];
    struct addr from;
    uint32_t hosts[LOGIN_HOSTS_MAX];
    enum { TRIED_BY_STRANGER, TRIED_BY_PLACE, TRIED_BY_DEVICE } by[LOGIN_HOSTS_MAX];
    size_t count;  /* 0: nobody is called so */
    bool code;     /* the password was right */
    bool newcomer; /* as core/turns.h has it */
    bool counted;  /* its address was, in this try, or is not asked */
    uint8_t device[DEVICE_NONCE_LEN];
};

/* `loop` and `devices` are borrowed. */
MUST_CHECK int tries_new(struct tries **out, struct loop *loop,
                         const struct devices *devices);
void tries_free(struct tries *ts); /* NULL is fine */
/* One more host, whose account `a` is; `name` and `from` are set. */
void tried_add(struct tries *ts, struct tried *t, const struct portal_host *h,
               const struct portal_account *a, const char *cookies);
/* By the browser or the address, on one of the hosts. */
bool tried_is_known(const struct tried *t);
/* How long this one must wait for what he did himself, and for what strangers did. */
uint64_t tries_own_wait_ms(struct tries *ts, const struct tried *t);
uint64_t tries_strangers_wait_ms(struct tries *ts, const struct tried *t);
void tries_failed(struct tries *ts, const struct tried *t);
void tries_succeeded(struct tries *ts, const struct tried *t);

#endif

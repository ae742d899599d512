/* What the operator of a broker has chosen, and who serves people beside it. */
#ifndef POSTERN_BROKER_BROKER_CONFIG_H
#define POSTERN_BROKER_BROKER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/key.h"
#include "core/proto.h"

struct addr;
struct broker;

/*
 * Who serves people without a device of theirs; all called on the broker's threads,
 * for one host always on the same.
 */
struct broker_portal {
    void *ctx;
    /* When the broker stands, before on_ready; and before it ends, if it started. */
    int (*start)(void *ctx, struct broker *b, struct fault *f);
    void (*stop)(void *ctx);
    /*
     * A TLS connection that is no device's; nothing was read from it. Owns `fd`.
     * `server_name` is what it asks for, in lower case, "" when it names nothing.
     */
    void (*on_tls)(void *ctx, int fd, const char *server_name);
    /* A Portal... message of a host that is present at `from`; both NULL: it is gone.
     */
    void (*on_host)(void *ctx, const uint8_t host[static KEY_LEN],
                    const struct addr *from, const Control *m);
};

#define BROKER_LISTEN_MAX 4
#define BROKER_THREADS_MAX 64
#define BROKER_DEFAULT_LISTEN "[::]:443" /* dual stack; 0.0.0.0 without IPv6 */

/* Everything is borrowed until broker_close or broker_run returns. */
struct broker_config {
    const char *const *listen; /* numeric "ADDR:PORT", TCP and UDP alike */
    size_t listen_count;       /* 0 means BROKER_DEFAULT_LISTEN */
    const char *public_name;   /* name or address, ":PORT" optional; NULL: found out */
    const char *state_dir;     /* as --state; NULL: where io/statedir.h finds it */
    bool open;                 /* hosts need no enrolment token */
    unsigned threads;          /* 0 means one per core */
    /* RFC 5780 second address: NULL finds one, "off", or numeric "ADDR:PORT". */
    const char *stun_alternate;
    const char *metrics;    /* where figures are shown (io/scrape.h); NULL: nowhere */
    bool no_address_limits; /* load tests: ten thousand devices from one address */
    const struct broker_portal *portal; /* NULL: such connections are refused */
    void *ctx;
    /* Called once, on the calling thread, when every socket is open. May be NULL. */
    void (*on_ready)(void *ctx, const char *link);
};

#endif

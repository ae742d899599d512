/*
 * The broker as one object: what a command needs to run it. How devices are served
 * is known to the worker threads behind it, not here.
 */
#ifndef POSTERN_BROKER_BROKER_H
#define POSTERN_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/key.h"
#include "core/proto.h"

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
    /* A Portal... message of a host that is present; NULL: it is gone. */
    void (*on_host)(void *ctx, const uint8_t host[static KEY_LEN], const Control *m);
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
    bool no_address_limits; /* load tests: ten thousand devices from one address */
    const struct broker_portal *portal; /* NULL: such connections are refused */
    void *ctx;
    /* Called once, on the calling thread, when every socket is open. May be NULL. */
    void (*on_ready)(void *ctx, const char *link);
};

/*
 * Opens state and sockets, starts the threads and calls on_ready. Fills `f` on
 * failure, when nothing is left behind. The threads log at the caller's log_level().
 * SIGPIPE is ignored from here on.
 */
MUST_CHECK int broker_open(struct broker **out, const struct broker_config *c,
                           struct fault *f);
/* The broker's link, with the enrolment token unless open; lives as long as `b`. */
const char *broker_link(const struct broker *b);
const struct keypair *broker_key(const struct broker *b); /* likewise */
/* The name or address by which others know it, and an address where it listens. */
const char *broker_public_name(const struct broker *b);
uint16_t broker_port(const struct broker *b);
void broker_local(const struct broker *b, struct addr *a);
/* The addresses it is bound to, from 0; false when there are no more. */
bool broker_bound(const struct broker *b, size_t i, struct addr *a, bool *dual_stack);
/* Says goodbye to every device, ends the threads and frees. NULL is fine. */
void broker_close(struct broker *b);

/* broker_open, then waits for a signal to stop (io/stop.h), then broker_close. */
MUST_CHECK int broker_run(const struct broker_config *c, struct fault *f);

#endif

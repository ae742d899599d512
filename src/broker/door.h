/*
 * Where TCP connections come in, one for each thread: accepts, looks at the first
 * bytes without consuming them, and hands the connection to whoever speaks that
 * protocol. What is silent or speaks nothing known is closed; so is who says his last
 * before he has said what he wants. When all places are taken the oldest silent one of
 * whose address has most makes room, and patience is shorter. A TLS connection whose
 * address has had its share waits in line (broker/porch.h); one with a badge in another
 * one, for what the thread has for these: whoever came first is next.
 */
#ifndef POSTERN_BROKER_DOOR_H
#define POSTERN_BROKER_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/limits.h"
#include "broker/plan.h"
#include "core/err.h"
#include "core/proto.h"
#include "io/loop.h"

struct door;

struct door_events {
    /*
     * A TLS connection, nothing read from it yet. Owns `fd`, and one connection that
     * was counted at the address. `device`: it showed the badge of that one; or NULL.
     */
    void (*on_tls)(void *ctx, int fd, const struct addr_place *place,
                   const uint8_t *device);
    /* One that is no device's, with the name that it asks for; NULL: they are on_tls.
     */
    void (*on_web)(void *ctx, int fd, const struct addr_place *place,
                   const char *server_name);
    /* A TLS connection that offers PROTO_ALPN_RELAY; the same. */
    void (*on_tls_relay)(void *ctx, int fd, const struct addr_place *place);
    /* A relay connection; its preface was read, nothing after it. Owns `fd`. */
    void (*on_relay)(void *ctx, int fd, const uint8_t ticket[static TICKET_LEN]);
    /* Whether that badge is good, and its device has not used its share up: `device`.
     */
    bool (*knows)(void *ctx, const uint8_t *badge, size_t len,
                  uint8_t device[static KEY_LEN]);
    /* Whether there are places for one more with a badge, beside its address's. */
    bool (*has_room)(void *ctx);
    /* Whether another handshake may begin, and none must end for it. */
    bool (*is_idle)(void *ctx);
    /* That address holds all that it may: true when one of it was made to end. */
    bool (*on_crowded)(void *ctx, const struct addr_place *place);
    /* No descriptor is left, nor a silent visitor: true when one was made free. */
    bool (*on_full)(void *ctx);
};

struct door_stats {
    uint64_t accepted, refused, silent, garbage;
    size_t visitors, in_line; /* now: that have not spoken; of those, in a line */
};

struct door_config {
    struct loop *loop;
    const struct plan *plan; /* borrowed, as all below */
    struct addr_limits *limits;
    size_t visitors_max;   /* at least 1 */
    size_t inner_max;      /* of them, those that came out of TLS; at least 1 */
    bool unlimited;        /* count addresses, refuse none */
    const uint8_t *secret; /* of marks: broker/vouch.h */
    const struct door_events *events;
    void *ctx;
};

MUST_CHECK int door_open(struct door **out, const struct door_config *c);
/*
 * What came out of a TLS relay connection: only a relay's preface is taken. Owns `fd`,
 * and one connection counted at `place`.
 */
void door_admit(struct door *d, int fd, const struct addr_place *place);
size_t door_inner(const struct door *d); /* of these, how many have not spoken yet */
/*
 * Tells who has not been served yet that the broker is busy, as far as that costs
 * nothing (a TLS alert), and closes.
 */
void door_say_busy(int fd);
/* Closes connections that have not said anything in time; call about once a second. */
void door_sweep(struct door *d);
/* NULL is fine. No event follows. */
void door_close(struct door *d);
void door_read_stats(const struct door *d, struct door_stats *out);

#endif

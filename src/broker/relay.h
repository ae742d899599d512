/*
 * Relayed pairs of one thread: tickets, the two connections that show them, and the
 * moving of bytes between these. The bytes are the devices' own end-to-end session;
 * nothing here can read them.
 */
#ifndef POSTERN_BROKER_RELAY_H
#define POSTERN_BROKER_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/key.h"
#include "core/metrics.h"
#include "core/proto.h"
#include "io/loop.h"

struct relay;

struct relay_stats {
    uint64_t pairs_joined, bytes_spliced, bytes_copied;
    uint64_t tickets_expired, tickets_unknown;
    size_t pairs_open, joined_open; /* now: all; those with both sides there */
    size_t moving;          /* of these, that moved something in the last seconds */
    struct histogram setup; /* from the tickets until then */
};

/*
 * `thread` stands in the first byte of each ticket, so that any thread can route it.
 * At most `pairs_max` pairs at once, those not joined yet included.
 */
MUST_CHECK int relay_open(struct relay **out, struct loop *loop, uint8_t thread,
                          size_t pairs_max);
/* Resets every pair. NULL is fine. Memory goes when the loop next turns. */
void relay_close(struct relay *r);

struct relay_tickets {
    uint8_t client[TICKET_LEN], host[TICKET_LEN];
};

/* Between whom, and where the client is; NULL: its address is not counted. */
struct relay_ask {
    const uint8_t *client, *host, *conv;
    const struct addr *from;
    uint32_t client_max; /* pairs that the client may have in this thread */
};

/*
 * Issues one ticket for each side of a new pair, good for LIMIT_TICKET_MS; a pair
 * that has the same names goes on until the new one is joined. Where a share is used up
 * its least pair makes room: one that waits, the oldest first, else one that was idle
 * for longest. POSTERN_ERR_LIMIT when all are in use, and then `*whose` says in words
 * for whom there is none.
 */
MUST_CHECK int relay_issue(struct relay *r, const struct relay_ask *ask,
                           struct relay_tickets *out, const char **whose);
/* The host has accepted that session, and it has a pair. */
bool relay_knows(const struct relay *r, const struct relay_ask *names);
/* Ends that pair, if there is one: the host refused. */
void relay_end(struct relay *r, const struct relay_ask *names);
/* Tells of each pair that this host has, and of those that broke in the last seconds.
 */
void relay_each_of_host(struct relay *r, const uint8_t host[static KEY_LEN],
                        void (*tell)(void *ctx, const uint8_t *client,
                                     const uint8_t *conv),
                        void *ctx);
/* This host has a pair, and has not ended its side of it. */
bool relay_hears(struct relay *r, const uint8_t host[static KEY_LEN]);
/*
 * Within `near_ms` of `at_ms` the machine of this host has ended a connection of a pair
 * by itself: in order, or by a reset that answers nothing of ours. No router does.
 */
bool relay_was_left(struct relay *r, const uint8_t host[static KEY_LEN], uint64_t at_ms,
                    uint64_t near_ms);
/* Takes back a pair whose tickets could not be delivered. */
void relay_revoke(struct relay *r, const struct relay_tickets *t);
/* A descriptor is needed for something better: true when a pair gave one. */
bool relay_make_room(struct relay *r);
/* The thread that issued `ticket`. */
static inline uint8_t relay_ticket_thread(const uint8_t ticket[static TICKET_LEN])
{
    return ticket[0];
}
/*
 * A connection has shown `ticket`; owns `fd` from here on. It is closed when the
 * ticket is unknown, expired or used; otherwise it waits for the other side.
 */
void relay_join(struct relay *r, int fd, const uint8_t ticket[static TICKET_LEN]);
/* No ticket that is out will be shown: ends the pairs that are not joined. */
void relay_end_waiting(struct relay *r);
/* Ends what has expired; call about once a second. */
void relay_sweep(struct relay *r);
void relay_read_stats(const struct relay *r, struct relay_stats *out);

#endif

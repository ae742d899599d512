/*
 * The keys under which a host is present at its broker. The newest is its identity; the
 * ones before it stay present so that clients who know only them come in and are told
 * the new one. Knows nothing of what clients may do.
 */
#ifndef POSTERN_HOST_PRESENCE_H
#define POSTERN_HOST_PRESENCE_H

#include "core/repeat.h"
#include "host/host.h"
#include "session/endpoint.h"

/* That somebody may know this host by: as many are kept, and each is present. */
enum { EARLIER_KEYS_MAX = 32, PRESENCES_MAX = 1 + EARLIER_KEYS_MAX };

/* Under one key. */
struct presence {
    struct host *host;
    struct endpoint endpoint;
    bool open;
    bool lost;           /* as the last event about its broker said */
    struct news why;     /* it is lost */
    bool retired;        /* an earlier key's: kept for clients who know no newer one */
    bool list_given;     /* to the portal on this connection: one that was not empty */
    bool list_due;       /* it could not be sent */
    uint8_t invites[32]; /* hash of those that its broker was told of */
};

struct presence_events {
    struct uplink_events uplink; /* `ctx` is the presence */
    /* It ends, and with it what goes by it. */
    void (*on_end)(struct presence *p);
};

/* h->presences is there from the start. */
MUST_CHECK int presences_open(struct host *h, const struct presence_events *events,
                              struct fault *f);
/*
 * Takes up a key that was made since; sessions under earlier keys go on. `changed`: the
 * newest is another.
 */
MUST_CHECK int presences_renew(struct presences *ps, bool *changed, struct fault *f);
/* The same when device.db is another file than before, and what it means is said. */
bool presences_keep(struct presences *ps);
/* NULL is fine. */
void presences_close(struct presences *ps);
/* The one after `p`, NULL: the first; NULL when there is none. */
struct presence *presences_next(struct presences *ps, const struct presence *p);

/*
 * Whom the host lists, and its open invites, for the broker: as of uplink_events; `ctx`
 * is the presence.
 */
size_t presence_familiar(void *ctx, uint8_t *list);
/* A listed device has come: it has a place in that list before those who did not. */
void presence_note_used(const struct host *h, const uint8_t key[static KEY_LEN]);
/* Tells the brokers when there are other invites than they know of. NULL is fine. */
void presences_tell_invites(struct presences *ps);
/* The newest key, for a client whose session proved that of `p`. */
void presence_announce(const struct presence *p, struct session *session);
/*
 * To who joins: each earlier key says that the newest follows it, also those that have
 * no presence any more. The device may have met this host under any of them.
 */
void presence_announce_earlier(const struct host *h, struct session *session);

#endif

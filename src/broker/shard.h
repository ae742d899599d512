/*
 * One thread of the broker and everything it owns. Shards share only what never
 * changes after the start (struct hub) and write to each other by mail. A device
 * belongs to the shard that the hash of its key names: its presence, its limits and
 * the relay pairs towards it are known there and nowhere else.
 */
#ifndef POSTERN_BROKER_SHARD_H
#define POSTERN_BROKER_SHARD_H

#include <pthread.h>
#include <stdbool.h>

#include "broker/admission.h"
#include "broker/awaited.h"
#include "broker/parted.h"
#include "broker/door.h"
#include "broker/figures.h"
#include "broker/mark.h"
#include "broker/keymap.h"
#include "broker/limits.h"
#include "core/badge.h"
#include "core/list.h"
#include "broker/mailbox.h"
#include "broker/plan.h"
#include "broker/registry.h"
#include "broker/relay.h"
#include "broker/stun_service.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/spare.h"

struct grants;
struct numbers;
struct shard;

struct hub {
    const struct broker_config *config; /* borrowed */
    const char *state_dir;
    struct plan plan;
    struct registry_identity identity;
    uint8_t secret[KEYMAP_SECRET_LEN]; /* of all keyed hashes; fresh at each start */
    uint8_t mark_secret[MARK_SECRET_LEN];
    /* Of the identity: the same after a restart. */
    uint8_t badge_secret[BADGE_SECRET_LEN], host_badge_secret[BADGE_SECRET_LEN];
    uint64_t settled_ms; /* who is not here by then is away; of clock_us */
    enum log_level log_level;
    size_t connections_max, pairs_max, visitors_max; /* of one shard */
    size_t handshakes_max, pipes_max;                /* likewise */
    unsigned count;
    struct shard *shards[BROKER_THREADS_MAX];
};

struct shard_stats {
    uint64_t handshakes, hellos, routed, dropped, introduced, accepted, refused;
    uint64_t without_pair;                                      /* of those accepted */
    uint64_t refusals[REFUSE_ENDED + 1], byes[BYE_REMOVED + 1]; /* by code */
    uint64_t hits[HIT_COUNT];
    struct histogram handshake, introduction;
};

struct shard {
    struct hub *hub;
    unsigned index;
    struct loop *loop;
    pthread_t thread;
    bool loop_ready, thread_ready;
    bool stopping, finished; /* serves no device any more; nor relays */
    bool drained;            /* other threads may ask: ports are closed */
    struct mailbox *mail;
    struct registry *registry;
    struct gnutls_certificate_credentials_st *credentials;
    struct gnutls_priority_st *priority;
    struct addr_limits *limits;
    struct admission admission;
    struct awaited *awaited; /* own allocation */
    struct grants *grants;   /* the same, once one was asked for */
    struct parted *parted;   /* the same */
    struct numbers *numbers; /* the same, of the first shard, once one was asked for */
    struct door *door;
    struct relay *relay;
    struct stun_service *stun;
    struct timer sweep;
    struct timer move; /* runs when connections wait in `moving` */
    struct list handshaking, greeting, ready, moving; /* struct conn, by start */
    struct keymap present;                            /* struct conn, by device key */
    size_t connections, hosts, clients;               /* all; those that are present */
    struct spare spare;                               /* of handshakes */
    struct shard_stats stats;
    struct figures shown; /* a copy for other threads, each second */
};

/*
 * Opens everything; runs on the caller's thread. On failure the shard must still be
 * freed with shard_free.
 */
MUST_CHECK int shard_open(struct shard *s, struct hub *hub, unsigned index,
                          struct fault *f);
MUST_CHECK int shard_start(struct shard *s);
/*
 * Asks the thread to send its devices away and to close its ports, and to go on only
 * with what it relays. Any thread; and whether that is done.
 */
void shard_drain(struct shard *s);
bool shard_is_drained(const struct shard *s);
/* Asks the thread to say goodbye to its devices and to end. Any thread. */
void shard_stop(struct shard *s);
/* Waits for the thread. Only then may other shards' mail be freed. */
void shard_wait(struct shard *s);
/* After all shards have ended. */
void shard_free(struct shard *s);

/* The shard that the device with this key belongs to. */
struct shard *hub_shard_of(const struct hub *h, const uint8_t key[static KEY_LEN]);

#endif

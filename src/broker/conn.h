/*
 * One control connection of a device, from the handshake to the end: its timeouts,
 * its move to the device's shard, and who is present. What messages do is known to
 * control.c.
 */
#ifndef POSTERN_BROKER_CONN_H
#define POSTERN_BROKER_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/bonds.h"
#include "broker/convs.h"
#include "broker/keymap.h"
#include "broker/limits.h"
#include "broker/usher.h"
#include "core/list.h"
#include "core/addr.h"
#include "core/proto.h"

struct channel;
struct mail;
struct shard;

/* Bits, so that a table can list several. */
enum conn_state {
    CONN_HANDSHAKE = 1, /* TLS, on the shard that accepted */
    CONN_MOVING = 2,    /* detached, about to be mailed */
    CONN_GREETING = 4,  /* at its own shard, Hello not seen yet */
    CONN_CLIENT = 8,    /* welcomed, and present as a client */
    CONN_HOST = 16,     /* welcomed, and present as a host */
};

struct conn {
    struct keymap_node node; /* the device's proven key; in the map when present */
    struct list link;        /* in the shard's list of its state */
    struct shard *shard;
    struct channel *channel; /* owned */
    uint64_t since_ms;       /* when this state began */
    uint64_t heard_ms;       /* the last message; 0: none yet */
    struct addr local;       /* where the device connected to */
    struct addr remote;      /* where from: when it was welcomed, since one that was
                                reset cannot be asked, and its last words count */
    struct addr_place place;
    uint8_t state;            /* enum conn_state */
    bool known;               /* it showed a badge, and its handshake is not over */
    bool keeps_badge, badged; /* it would keep one; and was given one */
    bool in_portal;           /* the portal knows this host */
    struct convs convs;       /* a client's */
    bool accepted;      /* a host has given this client a relay pair or an answer */
    struct bonds bonds; /* a host's */
    uint64_t process;   /* what it calls itself since it was started; 0: nothing */
    uint8_t *familiar;  /* a host's: of whom it lists (core/familiar.h); or NULL */
    size_t familiar_len;
    struct usher *usher; /* of strangers to a host; NULL: none has come yet */
};

/* A fresh TLS connection; owns `fd` and its count at the address. `device`: it showed
 * that one's badge, and goes last where others must; or NULL. */
void conn_accept(struct shard *s, int fd, const struct addr_place *place,
                 const uint8_t *device);
/* A channel from another shard; takes what `m` owns, leaves `m` to the caller. */
void conn_adopt(struct shard *s, struct mail *m);
/* Mails the connections that belong elsewhere; not inside a channel's callback. */
void conn_move_all(struct shard *s);
/*
 * All places are taken: ends what proved least among the oldest of one kind, the
 * address with most of them first: handshakes, then those that have not greeted, then
 * clients that no host ever answered. False when there is none.
 */
bool conn_make_room(struct shard *s);
/* The same of one address, but for `c` (or NULL): which is so for the longest. */
bool conn_make_room_at(struct shard *s, const struct addr_place *place,
                       const struct conn *c);
/* How many have begun and not greeted yet. */
size_t conn_begun(const struct shard *s);
/* Ends what is overdue. */
void conn_sweep(struct shard *s);
/* Sends Bye{SHUTDOWN} to all, with times to come back that are spread out; `soon`: the
 * next broker is about to start. */
void conn_end_all(struct shard *s, bool soon);

/* Whether conn_enter would end another connection of this device. */
bool conn_replaces(struct conn *c, enum conn_state state);
/*
 * Enters the map of present devices as `state`. An earlier connection of the same
 * host, or the longest silent of too many of the same client, gets Bye{REPLACED}. True:
 * that was another process of the host, whose bonds `c` has now.
 */
bool conn_enter(struct conn *c, enum conn_state state);
/* POSTERN_ERR_LIMIT when the device does not read fast enough. */
MUST_CHECK int conn_send(struct conn *c, const Control *m);
/* Sends Bye and ends. `c` is gone afterwards. */
void conn_bye(struct conn *c, enum bye_code code, uint32_t retry_ms,
              const char *reason);
/* Ends without a word. `c` is gone afterwards. */
void conn_end(struct conn *c);

/*
 * This client connection speaks for `conv` to that host (zeros: it does not know whose
 * key), and no other of its device's any more: one that did so before may be dead, its
 * machine being elsewhere now.
 */
void conn_note_conv(struct conn *c, const uint8_t conv[static CONV_LEN],
                    const uint8_t host[static KEY_LEN]);

/* The way to this host. */
struct usher_way conn_way(struct conn *c);

/* Walks the connections of a device in one role; NULL at the end. */
struct conn *conn_first(struct shard *s, const uint8_t key[static KEY_LEN],
                        enum conn_state state);
struct conn *conn_next(const struct conn *c);

#endif

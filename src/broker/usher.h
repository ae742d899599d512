/*
 * Leads strangers to one host, one after the other, as its connection takes them: the
 * lobby (broker/lobby.h) with a timer and the host's channel. Belongs to the host's
 * connection, or the one that replaces it.
 */
#ifndef POSTERN_BROKER_USHER_H
#define POSTERN_BROKER_USHER_H

#include "broker/lobby.h"

struct channel;
struct loop;
struct usher;

/* Where the host is: all but its key is borrowed. */
struct usher_way {
    struct loop *loop;
    struct channel *channel;
    struct admission *admission;
    uint64_t *introduced, *dropped; /* are counted */
    uint8_t host[KEY_LEN];
};

/*
 * A stranger wants to be introduced to this host: now, or when it is his turn. Takes
 * `g`. `*u` is made for the first. Returns who has no place among those that wait then,
 * to be freed by the caller.
 */
struct lobby_guest *usher_take(struct usher **u, const struct usher_way *way,
                               struct lobby_guest *g);
/* Of that client and approach, while it waits; NULL is fine, and the answer else. */
struct lobby_guest *usher_find(struct usher *u, const uint8_t client[static KEY_LEN],
                               const uint8_t conv[static CONV_LEN]);
/* Another connection leads to the host now. NULL is fine. */
void usher_move(struct usher *u, const struct usher_way *way);
/* Who waits when the host has gone: to be freed by the caller; NULL: nobody. */
struct lobby_guest *usher_give_up(struct usher *u);
/* NULL is fine. */
void usher_free(struct usher *u);

#endif

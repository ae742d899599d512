/*
 * Which hosts ended of late, in order or as it seems, for clients that could not be
 * told at that moment. Knows keys and times. Bounded: a place for each few keys, where
 * the last one stands.
 */
#ifndef POSTERN_BROKER_PARTED_H
#define POSTERN_BROKER_PARTED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/key.h"

#define PARTED_MAX 1024 /* of one thread */
#define PARTED_FOR_MS                                                                  \
    180000u /* as long as a client waits for a host that is silent                     \
             */

struct parted {
    struct {
        uint8_t host[KEY_LEN];
        uint64_t at_ms; /* 0: free */
        bool guessed;
    } places[PARTED_MAX];
};

/* `guessed`: from how its connection broke. */
void parted_note(struct parted *p, const uint8_t host[static KEY_LEN], bool guessed,
                 uint64_t now_ms);
/* It is connected again, or was not gone. */
void parted_forget(struct parted *p, const uint8_t host[static KEY_LEN]);
bool parted_lately(const struct parted *p, const uint8_t host[static KEY_LEN],
                   uint64_t now_ms);
/* Of one of those: so it was guessed. */
bool parted_is_guessed(const struct parted *p, const uint8_t host[static KEY_LEN]);

#endif

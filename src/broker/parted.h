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

enum parting {
    PARTING_ENDED,   /* in order */
    PARTING_GUESSED, /* from how its connection broke */
    PARTING_RESET,   /* that it did says nothing as yet: a router may have done it */
};

struct parted {
    struct {
        uint8_t host[KEY_LEN];
        uint64_t at_ms; /* 0: free */
        enum parting how;
    } places[PARTED_MAX];
};

void parted_note(struct parted *p, const uint8_t host[static KEY_LEN], enum parting how,
                 uint64_t now_ms);
/* It is connected again, or was not gone. */
void parted_forget(struct parted *p, const uint8_t host[static KEY_LEN]);
/* 0: not of late, or it was forgotten. */
uint64_t parted_at_ms(const struct parted *p, const uint8_t host[static KEY_LEN],
                      uint64_t now_ms);
/* Of one of those. */
enum parting parted_how(const struct parted *p, const uint8_t host[static KEY_LEN]);

#endif

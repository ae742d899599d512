/*
 * A client's introduction to a host by way of the broker: is it to be said, and was it
 * answered? Knows times; sends nothing.
 *
 * UNSAID, it waits for a broker. ASKED, it was said, and is said again in growing
 * pauses until the host's Offer comes: ANSWERED. When a pair broke, or the session is
 * to be asked about, it is said once more, and answered once more. VAIN: the broker did
 * not see the host; it is repeated likewise, and an Offer that comes all the same is of
 * a host that is back and does not know that it was asked: then at once.
 *
 *   UNSAID ---> ASKED <---> ANSWERED ---> VAIN
 *                 ^                        ^ |
 *                 +------------------------+-+
 */
#ifndef POSTERN_CORE_INTRODUCTION_H
#define POSTERN_CORE_INTRODUCTION_H

#include "core/backoff.h"

enum introduction_state {
    INTRODUCTION_UNSAID,
    INTRODUCTION_ASKED,
    INTRODUCTION_ANSWERED,
    INTRODUCTION_VAIN,
};

struct introduction {
    enum introduction_state state;
    uint64_t at_ms; /* when it is due, unless it is ANSWERED */
    struct backoff pauses;
};

/* Due at once. `seed`: as of backoff_init. */
void introduction_init(struct introduction *i, uint64_t seed);
/* UINT64_MAX: it is answered. */
uint64_t introduction_due_ms(const struct introduction *i);
/* It was due; `sent`: and could be. */
void introduction_on_sent(struct introduction *i, bool sent, uint64_t now_ms);
/* An Offer of the host's. */
void introduction_on_offer(struct introduction *i);
/* The broker made a pair, since the host accepted: as good an answer, where the session
 * stands already. */
void introduction_on_ticket(struct introduction *i);
/* The broker does not see the host. */
void introduction_on_offline(struct introduction *i, uint64_t now_ms);
/* Say it anew, at that time. */
void introduction_again(struct introduction *i, uint64_t at_ms);
/* The next pauses are short ones: the broker was away, or is another. */
void introduction_reset_pauses(struct introduction *i);
bool introduction_was_said(const struct introduction *i);
bool introduction_is_answered(const struct introduction *i);

#endif

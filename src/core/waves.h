/*
 * Sessions of one prediction are opened in waves that grow, and after each a canary
 * asks whether the NAT still takes new ones: a request from a fresh socket, and beside
 * it one from a socket that has its mapping already. When only the second is answered,
 * WAVES_TRIES times, the table is full. When neither is, nothing is known, and no wave
 * follows. Knows no socket, and time as a number of milliseconds.
 *
 *   OPENING --- all of a wave, or of all, are open ---> ASKING --- in vain ---> FULL or
 *      ^                                                  |                     UNKNOWN
 *      +------------------- the canary is answered -------+
 */
#ifndef POSTERN_CORE_WAVES_H
#define POSTERN_CORE_WAVES_H

#include <stdbool.h>
#include <stdint.h>

enum { WAVES_FIRST = 8, WAVES_LARGEST = 320, WAVES_TRIES = 3, WAVES_WAIT_MS = 150 };

enum waves_stage { WAVES_OPENING, WAVES_ASKING, WAVES_FULL, WAVES_UNKNOWN };

struct waves {
    enum waves_stage stage;
    unsigned number, opened; /* of waves before this one; in this one */
    unsigned tries, wait_ms;
    bool known_answered; /* the request beside the canary, in this stage */
    uint64_t due_ms;     /* ASKING: of the next try */
};

/* `rtt_ms`: to who answers the canary, as far as known. */
void waves_init(struct waves *w, unsigned rtt_ms);
/* Others have opened many lately: asks before the first wave. */
void waves_ask_first(struct waves *w, uint64_t now_ms);
/* One more session may be opened. */
bool waves_may_open(const struct waves *w);
/* How many may, before it asks. */
unsigned waves_room(const struct waves *w);
/* It was. */
void waves_opened(struct waves *w, uint64_t now_ms);
/* There are no more to open: asks all the same, but after a lone first wave. */
void waves_end(struct waves *w, uint64_t now_ms);
/* True: both requests are to be sent now. */
bool waves_asks(struct waves *w, uint64_t now_ms);
/* The canary was answered; `known`: the request beside it was. */
void waves_on_answer(struct waves *w, bool known);

#endif

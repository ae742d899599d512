/*
 * Sessions of one prediction are opened in waves that grow, and after each a canary
 * asks whether the NAT still takes new ones: a request from a fresh socket, and beside
 * it one from a socket that has its mapping already. When only the second is answered,
 * WAVES_TRIES times, the table is full. When neither is, nothing is known, and no wave
 * follows; and where none comes late either, the network cut this device off after so
 * many new sessions. Knows no socket, and time as a number of milliseconds.
 *
 *   OPENING --- all of a wave, or of all, are open ---> ASKING --- in vain ---> FULL or
 *      ^                                                  |                     UNKNOWN
 *      +------------------- the canary is answered -------+
 */
#ifndef POSTERN_CORE_WAVES_H
#define POSTERN_CORE_WAVES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    WAVES_FIRST = 8,
    WAVES_LARGEST = 320,
    WAVES_TRIES = 3,
    WAVES_WAIT_MS = 150,
    WAVES_HARM = 16, /* new sessions: who is cut off after more may be so for them */
    WAVES_RECENT_MS = 500, /* waves that began within it were opened in one second */
    WAVES_QUIET_MS = 1000, /* for late answers, after the last try */
};

enum waves_stage { WAVES_OPENING, WAVES_ASKING, WAVES_FULL, WAVES_UNKNOWN };

struct waves {
    enum waves_stage stage;
    unsigned number, opened; /* of waves before this one; in this one */
    unsigned tries, wait_ms;
    unsigned recent;     /* opened in the last second of opening */
    bool known_answered; /* the request beside the canary, in this stage */
    uint64_t due_ms; /* ASKING: of the next try; UNKNOWN: late answers came by then */
    uint64_t recent_ms; /* the first of them */
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
/* The last requests were not sent, or something else, or something late, was answered:
 * this device is not cut off. */
void waves_spare(struct waves *w);
/* After how many new sessions in a second it was, if after more than WAVES_HARM; once.
 * 0: it was not, or that is not known yet. */
unsigned waves_cut(struct waves *w, uint64_t now_ms);

#endif

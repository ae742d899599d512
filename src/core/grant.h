/*
 * What a broker lets this device open in its own NAT by port prediction: the broker
 * sees who else is behind that NAT (broker/grants.h keeps the sum). Asked for before a
 * prediction, and counted down as sessions are opened; what is left is given back when
 * none predicts. A broker that does not answer in time is not waited for: then a few
 * may be opened all the same, once a minute. Knows no connection, and time as a number.
 */
#ifndef POSTERN_CORE_GRANT_H
#define POSTERN_CORE_GRANT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    GRANT_LIFE_S = 20,         /* to be opened by then */
    GRANT_PATIENCE_MS = 500,   /* and two round trips: then nothing answers */
    GRANT_UNASKED = 256,       /* may be opened then */
    GRANT_UNASKED_S = 60,      /* and so many again */
    GRANT_WAIT_MAX_MS = 90000, /* a broker cannot put it off for longer */
};

/* All zero at first. */
struct grant {
    uint64_t asked_us;   /* an ask is out; 0: none */
    uint64_t late_us;    /* when it is, so that the answer is not waited for */
    uint64_t since_us;   /* what is left was granted then */
    uint64_t again_us;   /* not asked again before */
    uint64_t unasked_us; /* GRANT_UNASKED were opened without an answer; 0: never */
    unsigned left;
    unsigned asked;  /* for so many, by the ask that is out */
    unsigned passed; /* answers to come to what was given back before they came */
    bool refused;    /* the last answer: none */
};

/* How many are to be asked for now, so that `wanted` may be opened; 0: none. */
unsigned grant_wants(const struct grant *g, unsigned wanted, uint64_t now_us);
/* It was, for `n`, of a broker `rtt_ms` away. */
void grant_asked(struct grant *g, unsigned n, unsigned rtt_ms, uint64_t now_us);
/* The broker's answer; also one that was not waited for. */
void grant_on_answer(struct grant *g, unsigned granted, unsigned wait_ms,
                     uint64_t now_us);
/* An answer is waited for. */
bool grant_waits(const struct grant *g, uint64_t now_us);
/* So many may be opened now. */
unsigned grant_left(struct grant *g, uint64_t now_us);
/* So many of them are opened; so many were not. */
void grant_count(struct grant *g, unsigned n);
void grant_return(struct grant *g, unsigned n);
/* The connection is another one: what was asked for on the one before is not answered.
 */
void grant_renew(struct grant *g);
/* All that is left, and what an ask that is out may bring, to be given back. */
unsigned grant_give_up(struct grant *g, uint64_t now_us);
/* Refused: in how many ms it is worth to ask again; else 0. */
uint64_t grant_wait_ms(const struct grant *g, uint64_t now_us);

#endif

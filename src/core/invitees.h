/*
 * How often an open invite may be tried: about twice its uses at once, then slowly
 * again. Who holds an invite is nobody yet; what a try costs the host is bounded by the
 * number of people that its owner expects. Time is an argument.
 */
#ifndef POSTERN_CORE_INVITEES_H
#define POSTERN_CORE_INVITEES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/link.h"

enum {
    INVITEES_SLOTS = 64,
    INVITEES_SPARE = 2, /* tries beside two for each use */
    INVITEES_USES_MAX = 256,
    INVITEES_EVERY_MS = 10000, /* one more try after each */
    INVITEES_AT_ONCE = 16,
    INVITEES_TURNS = 128,     /* neighbourhoods remembered */
    INVITEES_TURN_MS = 10000, /* between two turns of one of them */
};

/* A neighbourhood: IPv4 /16, IPv6 /32; all zero when the address is not known. */
#define INVITEES_HOOD_LEN 5

/* All zero at first. With more invites than slots the least tried is forgotten. */
struct invitees {
    struct {
        uint8_t id[INVITE_ID_LEN];
        uint64_t spent_ms; /* when all tries are there again; 0: the slot is free */
    } slots[INVITEES_SLOTS];
    struct {
        uint8_t hood[INVITEES_HOOD_LEN];
        uint64_t had_ms; /* its last turn; 0: the entry is free */
    } turns[INVITEES_TURNS];
};

/* True: the invite with so many uses left may be tried now, and that counts. */
bool invitees_take(struct invitees *v, const uint8_t id[static INVITE_ID_LEN],
                   unsigned uses_left, uint64_t now_ms);
/* A device has joined by it: its tries count no more, as its use does not. */
void invitees_give_back(struct invitees *v, const uint8_t id[static INVITE_ID_LEN],
                        uint64_t now_ms);
/*
 * Where all places are taken one goes to who comes from a neighbourhood that had none
 * for INVITEES_TURN_MS: who holds an invite and only asks again and again cannot have
 * each place that another's patience frees. NULL is an unknown address.
 */
bool invitees_has_turn(const struct invitees *v, const struct addr *from,
                       uint64_t now_ms);
/* It got another's place; the neighbourhood whose turn is longest ago is forgotten. */
void invitees_note_turn(struct invitees *v, const struct addr *from, uint64_t now_ms);
/* How many devices may try it at the same time. */
unsigned invitees_at_once(unsigned uses_left);

#endif

/*
 * Looks on while a rig runs, and ends the process with the seed when something happens
 * that never may:
 *   - the host says anything but Refuse to a key that is not on its list, or sends it a
 *     packet;
 *   - the host has a door open (UDP, a listening port) while it serves nobody;
 *   - host or client send more to an address that has not answered than PROTOCOL
 *     states;
 *   - a session that has paths uses none of them before its handshake is over;
 *   - the reason that is given for a path kind speaks of more packets than left the
 *     machine, or of a symmetric NAT where none is.
 * It sees packets on the wire, and messages where they are encoded, before anything is
 * sealed. It also counts what was seen, for coverage.
 */
#ifndef POSTERN_SIM_GUARD_H
#define POSTERN_SIM_GUARD_H

#include "core/key.h"
#include "rig.h"

enum {
    GUARD_ADDRESSES = 64,
    GUARD_NAMES = 256,
    GUARD_ROWS = 16,
    GUARD_APPROACHES = 256
};

/* What happened in the runs of one hunt. */
struct seen {
    struct seen_name {
        char name[40];
        uint32_t allowed[GUARD_ROWS],
            came[GUARD_ROWS]; /* state tables: successors by state */
        unsigned rows;        /* 0: no table, a thing that was said */
        unsigned long count;
    } names[GUARD_NAMES];
};
/* Where it is counted; NULL: nowhere. */
void seen_to(struct seen *s);
/* A step of a machine whose allowed successors stand in a table (core/state.h). */
void seen_step(const char *table, const void *successors, size_t bytes, size_t size,
               unsigned from, unsigned to);
void seen_add(struct seen *to, const struct seen *from);
/* A report on stdout: rows and steps, and what was refused. */
void seen_tell(const struct seen *s);

struct guard_target {
    struct addr ip; /* port 0 */
    bool heard;
    uint64_t since_us, sent;
};

struct guard {
    struct rig *rig;
    struct guard_side {
        struct machine *machine;
        unsigned programs; /* that send at the same time, each with its own budget */
        struct guard_target targets[GUARD_ADDRESSES];
        unsigned count;
        unsigned long udp_left; /* packets that left it, but to the broker */
        bool symmetric;         /* a NAT that it has been behind, or may be */
    } sides[2];                 /* host, client */
    uint8_t stranger[KEY_LEN];
    bool knows_stranger;
    unsigned guests; /* approaches of the host */
    uint64_t served_us;
    /* Why the host's sessions may be doubted, and how often they were. */
    unsigned welcomes, renewals, doubts;
    struct guard_approach {
        uint8_t conv[CONV_LEN];
        uint64_t generation;
    } approaches[GUARD_APPROACHES]; /* by their first byte */
};

void guard_begin(struct guard *w, struct rig *r);
/* One program more connects from the client's machine. */
void guard_another(struct guard *w);
void guard_end(struct guard *w);
/* That key is not on the host's list. */
void guard_stranger(struct guard *w, const uint8_t key[static KEY_LEN]);
/* That process is over, or about to be: it serves nobody any more, and what it sent is
 * counted no more. */
void guard_host_ends(struct guard *w);
/* What that machine encodes is a liar's. */
void guard_liar(struct machine *m);

#endif

/*
 * What a NAT's behaviour means for direct paths, in one line for a person: how hard it
 * is, to whom it lets through, and what would make it easier. Knows what was measured;
 * measures nothing.
 */
#ifndef POSTERN_CORE_NATPROFILE_H
#define POSTERN_CORE_NATPROFILE_H

#include "core/natcheck.h"

#define NATPROFILE_WORDS_LEN 240

enum natprofile_ease {
    NATPROFILE_UNKNOWN,
    NATPROFILE_OPEN,     /* anybody's packets come in */
    NATPROFILE_EASY,     /* direct to most, at once */
    NATPROFILE_MIDDLING, /* direct to most, since its ports can be foreseen */
    NATPROFILE_HARD,     /* direct to those that are easy, by prediction */
    NATPROFILE_BLOCKED,  /* no UDP: what is direct goes over TCP */
};

struct natprofile {
    const struct natcheck_result *found;
    bool near_ports; /* servers saw ports that lie close together */
    bool low_ports;  /* this program may bind ports below 1024 */
    bool mapped;     /* the router lets a port in, and that leads here */
    bool carrier;    /* another NAT is beyond the router, or before this machine */
};

enum natprofile_ease natprofile_ease(const struct natprofile *p);
const char *natprofile_ease_name(enum natprofile_ease e); /* for --json */
const char *natprofile_words(const struct natprofile *p,
                             char buf[static NATPROFILE_WORDS_LEN]);
/* What would help; "" where nothing is needed. Static. */
const char *natprofile_needs(const struct natprofile *p);

#endif

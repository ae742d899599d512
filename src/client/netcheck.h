/* `postern netcheck`: what this network lets through, in words. */
#ifndef POSTERN_CLIENT_NETCHECK_H
#define POSTERN_CLIENT_NETCHECK_H

#include "core/link.h"
#include "io/events.h"
#include "path/detour.h"

/* A second way out of this machine, and how it stands. */
struct netcheck_way {
    enum detour_state state;
    struct fault words;
    unsigned interface; /* by which the broker answered; 0: as the routes say */
};

struct netcheck_config {
    const char *state; /* the directory, for where the broker was last */
    struct link broker;
    const struct keypair *key; /* borrowed */
    struct events *out;        /* borrowed; may be NULL */
    struct event *found;       /* borrowed: gets the event in place of `out`; or NULL */
    struct netcheck_way *way;  /* borrowed: filled, whatever comes of it; or NULL */
    struct addr *at;   /* borrowed: where the broker answered, or ADDR_NONE; or NULL */
    bool only_key;     /* over as soon as the broker has proven its key */
    unsigned limit_ms; /* 0: 12 s, or 140 s */
    bool deep;         /* hairpin, and how long a silent mapping lives: two minutes */
};

/* Prints one netcheck event and, for people, what it means. At most about limit_ms. */
MUST_CHECK int netcheck_run(const struct netcheck_config *c, struct fault *f);

#endif

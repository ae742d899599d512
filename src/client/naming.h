/*
 * Names that resolve: makes HOST.postern known to every program of this machine while
 * `up` runs, and takes that away again. Which hosts there are is told from above.
 */
#ifndef POSTERN_CLIENT_NAMING_H
#define POSTERN_CLIENT_NAMING_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"
#include "core/hosts_text.h"
#include "io/events.h"
#include "io/loop.h"
#include "io/statedir.h"

enum naming_way {
    NAMING_OFF,
    NAMING_AUTO,    /* what fits as root, nothing otherwise; never an error */
    NAMING_HOSTS,   /* a block in /etc/hosts */
    NAMING_RESOLVED /* systemd-resolved asks our DNS server for the domain */
};

struct naming;

/* "auto", "hosts", "resolved", "off"; POSTERN_ERR_USAGE with `f` filled. */
MUST_CHECK int naming_way_parse(enum naming_way *way, const char *text,
                                struct fault *f);

/* Before this process gives privileges up: it looks around with them. */
MUST_CHECK int naming_new(struct naming **out, enum naming_way way);
struct naming_config {
    const struct statedir *state;
    struct events *out;
    struct loop *loop;
    struct addr dns; /* of our DNS server; ADDR_NONE: there is none */
};

/*
 * Takes away what an `up` of this state directory left that was killed, and chooses.
 * That it works is said on `out` (event `names`) at the first naming_set. Fails where
 * the way was asked for by name and cannot be gone.
 */
MUST_CHECK int naming_start(struct naming *n, const struct naming_config *c,
                            struct fault *f);
/* Once who is asked for names is ready: says on `out` why it does nothing, if so. */
void naming_tell(struct naming *n);
/* All hosts that there are now; `list` is copied. */
void naming_set(struct naming *n, const struct hosts_name *list, size_t count);
/* Now and then: puts back what another program took away. */
void naming_tick(struct naming *n);
/* Undoes it. NULL is fine. */
void naming_free(struct naming *n);

/*
 * For who ended otherwise: as naming_start does it, and no more. With `all`, what those
 * of other state directories left as well, of which no `up` runs.
 */
MUST_CHECK int naming_clean(const struct statedir *state, bool all, struct fault *f);
/* The state directory of an `up` that does not run, whose names are still in
 * /etc/hosts; false: there is none that this user can see. */
bool naming_left(char owner[static STATEDIR_PATH_LEN]);

#endif

/* Names by systemd-resolved: our DNS server for one domain, at a link of its own. */
#ifndef POSTERN_CLIENT_NAMING_RESOLVED_H
#define POSTERN_CLIENT_NAMING_RESOLVED_H

#include "core/addr.h"
#include "core/err.h"
#include "io/loop.h"

struct naming_resolved;

struct naming_resolved_config {
    struct loop *loop;
    struct addr dns; /* where our server answers */
    /* From the loop, once: it works (NULL), or why not. */
    void (*on_done)(void *ctx, const struct fault *why);
    void *ctx;
};

/*
 * Makes the link by the privileged helper, and tells resolved by resolvectl(1).
 * POSTERN_ERR_NOTFOUND where it does not run, others with `f`: on_done never runs then.
 */
MUST_CHECK int naming_resolved_open(struct naming_resolved **out,
                                    const struct naming_resolved_config *c,
                                    struct fault *f);
/* The link goes, and what resolved knew by it. NULL is fine. */
void naming_resolved_close(struct naming_resolved *r);

#endif

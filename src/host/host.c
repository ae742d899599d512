/* What is worth an entry in the log of who came and what was done. */
#include "host/host.h"

#include <stdio.h>

#include "io/audit.h"
#include "io/statedir.h"

void host_audit(const struct host *h, const char *what, const char *who,
                const char *from, const char *object, const char *detail)
{
    struct audit_entry e = {.time_s = statedir_now_s()};
    (void)snprintf(e.what, sizeof(e.what), "%s", what);
    (void)snprintf(e.who, sizeof(e.who), "%s", who);
    (void)snprintf(e.from, sizeof(e.from), "%s", from);
    (void)snprintf(e.object, sizeof(e.object), "%s", object);
    (void)snprintf(e.detail, sizeof(e.detail), "%s", detail);
    audit_add(h->audit, &e);
}

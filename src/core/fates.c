/* Counts, and the words for what did not leave. */
#include "core/fates.h"

#include <stddef.h>

enum fate fate_of(int rc)
{
    switch (rc) {
    case POSTERN_ERR_UNREACHABLE:
        return FATE_STRANDED;
    case POSTERN_ERR_PERM:
        return FATE_BARRED;
    default:
        return FATE_LEFT;
    }
}

const char *fates_unsent(const struct fates *t)
{
    if (t->of[FATE_LEFT] > 0)
        return NULL;
    if (t->of[FATE_BARRED] > 0)
        return "nothing was sent: this machine's own firewall refuses to let it out";
    if (t->of[FATE_STRANDED] > 0)
        return "nothing was sent: this machine has no route to the other side's "
               "addresses";
    if (t->of[FATE_NAMED] > 0)
        return "nothing was sent: as many new addresses as peers may name in a minute "
               "were tried; it is tried again by itself";
    if (t->of[FATE_HELD] > 0)
        return "nothing was sent: as much as may be went to those addresses lately; "
               "it is tried again by itself";
    return NULL;
}

const char *fates_passed_over(const struct fates *t)
{
    return t->of[FATE_NAMED] > 0 && t->of[FATE_LEFT] > 0
               ? " (others had to wait: peers named too many in a minute)"
               : "";
}

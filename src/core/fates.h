/*
 * What became of the packets of one try: what left this machine, and what did not, and
 * why. Reasons are made of it, so that nobody is told of packets that never left.
 */
#ifndef POSTERN_CORE_FATE_H
#define POSTERN_CORE_FATE_H

#include "core/err.h"

enum fate {
    FATE_LEFT,
    FATE_HELD,     /* as much as may be went there already (core/budget.h) */
    FATE_NAMED,    /* as many new addresses as a peer may name (core/named.h) */
    FATE_STRANDED, /* this machine has no way there */
    FATE_BARRED,   /* its own firewall refuses it */
    FATE_COUNT,
};

struct fates {
    unsigned of[FATE_COUNT];
};

/* What a send that returned `rc` has come to. */
enum fate fate_of(int rc);
/* Why nothing left, or NULL: something did, or nothing was to be sent. */
const char *fates_unsent(const struct fates *t);
/* What is to be said of addresses that were passed over beside those that were tried;
 * or
 * "". */
const char *fates_passed_over(const struct fates *t);

#endif

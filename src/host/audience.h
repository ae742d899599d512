/* For whom a service is: names of devices and accounts of this host. */
#ifndef POSTERN_HOST_AUDIENCE_H
#define POSTERN_HOST_AUDIENCE_H

#include "host/roster.h"
#include "io/statedir.h"

/*
 * Is each name of the comma-separated list a device's or an account's? `unknown` gets
 * the first that is not, with POSTERN_ERR_NOTFOUND and `f` filled.
 */
MUST_CHECK int audience_check(const struct statedir *state, const char *audience,
                              char unknown[static ROSTER_NAME_LEN], struct fault *f);

#endif

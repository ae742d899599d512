/*
 * Root and whoever became it are two users with two state directories, and so two
 * devices. What a command needs may be the other one's, which it says in one line.
 */
#ifndef POSTERN_CLI_ELSEWHERE_H
#define POSTERN_CLI_ELSEWHERE_H

#include "cli/options.h"

/*
 * Before the command: where this user has none of what it needs and the other one has,
 * it is refused with `f`; what makes sense all the same is warned of. Nothing where
 * the directory was named.
 */
MUST_CHECK int elsewhere_check(const struct command *c, const struct options *o,
                               struct fault *f);

#endif

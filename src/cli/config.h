/* A file of options and services in place of a command line. */
#ifndef POSTERN_CLI_CONFIG_H
#define POSTERN_CLI_CONFIG_H

#include "cli/options.h"

/*
 * Takes up what the file says, a line each: NAME or NAME VALUE, with the names of the
 * command's options without their dashes, and `service SERVICE`; a line that begins
 * with # is none. What the command line gave goes before it. POSTERN_ERR_USAGE with the
 * number of the line where it is wrong.
 */
MUST_CHECK int config_read(struct options *o, const struct command *c, const char *file,
                           struct fault *f);

#endif

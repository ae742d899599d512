/* A file of options and services in place of a command line. */
#ifndef POSTERN_CLI_CONFIG_H
#define POSTERN_CLI_CONFIG_H

#include "cli/options.h"
#include "host/access.h"

/*
 * Takes up what the file says, a line each: NAME or NAME VALUE, with the names of the
 * command's options without their dashes, and `service SERVICE`; a line that begins
 * with # is none. What the command line gave goes before it. POSTERN_ERR_USAGE with the
 * number of the line where it is wrong.
 */
MUST_CHECK int config_read(struct options *o, const struct command *c, const char *file,
                           struct fault *f);
/* What is stored where the file would serve; asked once the file was read. */
struct config_known {
    int (*open)(struct config_known *k, const struct options *o, struct fault *f);
    struct access *access; /* of TLS; NULL: nothing */
    const char *services;  /* published before */
};

/*
 * The same for one that is only looked at: with the line, too, what `serve` would find
 * wrong as it starts. How many services the file names, or an error.
 */
MUST_CHECK int config_check(struct options *o, const struct command *c,
                            const char *file, struct config_known *k, struct fault *f);
/* The value of --absent, NULL too; -1 s for "default", which takes it back. */
MUST_CHECK int config_absent(int64_t *seconds, const char *text, struct fault *f);
/* --via beside what the agent has. */
MUST_CHECK int config_contradiction(struct fault *f);

#endif

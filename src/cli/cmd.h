/* The handlers of commands.c, one file each: cmd_NAME.c. */
#ifndef POSTERN_CLI_CMD_H
#define POSTERN_CLI_CMD_H

#include "cli/options.h"

int cmd_broker(const struct options *o, struct events *out, struct fault *f);
int cmd_invite(const struct options *o, struct events *out, struct fault *f);
int cmd_ls(const struct options *o, struct events *out, struct fault *f);
int cmd_revoke(const struct options *o, struct events *out, struct fault *f);
int cmd_keys(const struct options *o, struct events *out, struct fault *f);

/*
 * `serve --reload`: stores the services if any are given, and lets the running serve
 * read them again.
 */
int cmd_serve_reload(const struct options *o, struct events *out, struct fault *f);

#endif

/* What reaches a running serve from its own machine: signals and the local socket. */
#ifndef POSTERN_HOST_LOCAL_COMMANDS_H
#define POSTERN_HOST_LOCAL_COMMANDS_H

#include "host/host.h"

struct local_commands;

MUST_CHECK int local_commands_open(struct local_commands **out, struct host *h,
                                   const char *socket_path, struct fault *f);
/* In the directory that is there now. */
void local_commands_renew(struct local_commands *c);
/* NULL is fine. */
void local_commands_close(struct local_commands *c);

#endif

/* `postern connect`: options to connect_run. */
#include "cli/cmd.h"

#include "client/connect.h"

int cmd_connect(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    return connect_run(&c, o->args[0], o->arg_count > 1 ? o->args[1] : NULL, f);
}

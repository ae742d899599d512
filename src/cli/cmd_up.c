/* `postern up`: options to up_run. */
#include "cli/cmd.h"

#include "client/up.h"

int cmd_up(const struct options *o, struct events *out, struct fault *f)
{
    out->lasting = true;
    struct client_config c = cmd_client_config(o, out);
    return up_run(&c, f);
}

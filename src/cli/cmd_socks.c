/* `postern socks`: options to socks_run. */
#include "cli/cmd.h"

#include "client/socks.h"

int cmd_socks(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    return socks_run(&c, o->values[OPT_SOCKS_LISTEN].text, f);
}

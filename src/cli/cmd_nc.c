/* `postern nc`: options to nc_run, or the stanza for ssh's configuration. */
#include "cli/cmd.h"

#include <stdio.h>

#include "client/nc.h"

int cmd_nc(const struct options *o, struct events *out, struct fault *f)
{
    if (o->values[OPT_SSH_CONFIG].given) {
        const char *state = o->values[OPT_STATE].text;
        (void)printf("Host %s\n    ProxyCommand postern nc%s%s %%n %%p\n",
                     o->arg_count > 0 ? o->args[0] : "*.postern",
                     state != NULL ? " --state " : "", state != NULL ? state : "");
        return 0;
    }
    if (o->arg_count < 2)
        return fault_set(f, POSTERN_ERR_USAGE, "name them, as in: postern nc home 22",
                         "the host or the service is missing");
    struct client_config c = cmd_client_config(o, out);
    return nc_run(&c, o->args[0], o->args[1], f);
}

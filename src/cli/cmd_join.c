/* `postern join`: options to join_run. */
#include "cli/cmd.h"

#include "client/join.h"

struct client_config cmd_client_config(const struct options *o, struct events *out)
{
    const struct option_value *v = o->values;
    return (struct client_config){
        .state = v[OPT_STATE].text,
        .paths = options_kinds(o),
        .jit_window_ms = (unsigned)v[OPT_JIT_WINDOW].number,
        .out = out,
    };
}

int cmd_join(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    return join_run(&c, o->args[0], o->values[OPT_DEVICE_NAME].text, f);
}

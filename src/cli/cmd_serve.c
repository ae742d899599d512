/* `postern serve`: options to a struct serve_config. */
#include "cli/cmd.h"

#include "core/kinds.h"
#include "host/serve.h"

int cmd_serve(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    if (v[OPT_RELOAD].given)
        return cmd_serve_reload(o, out, f);
    struct serve_config c = {
        .state = v[OPT_STATE].text,
        .broker = v[OPT_BROKER].text,
        .name = v[OPT_NAME].text,
        .services = o->args,
        .service_count = o->arg_count,
        .tls = v[OPT_TLS].list,
        .tls_count = v[OPT_TLS].count,
        .tls_command = v[OPT_TLS_COMMAND].text,
        .paths = options_kinds(o),
        .jit_window_ms = (unsigned)v[OPT_JIT_WINDOW].number,
        .out = out,
    };
    return serve_run(&c, f);
}

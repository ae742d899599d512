/* `postern serve`: options to a struct serve_config. */
#include "cli/cmd.h"

#include <string.h>

#include "core/kinds.h"
#include "host/serve.h"

/* "default" takes an earlier word back. */
static int read_absent(int64_t *seconds, const char *text, struct fault *f)
{
    *seconds = text == NULL ? 0 : -1;
    if (text == NULL || strcmp(text, "default") == 0)
        return 0;
    if (options_parse_duration(seconds, text) == 0 && *seconds >= 10 &&
        *seconds <= 365 * 24 * 3600)
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE,
                     "use 10s to 365d, for example 5m, or 'default'",
                     "--absent does not take '%.60s'", text);
}

int cmd_serve(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    int64_t absent_s;
    if (v[OPT_AGENT_FORGET].given)
        return cmd_serve_forget(o, out, f);
    int rc = read_absent(&absent_s, v[OPT_ABSENT].text, f);
    if (rc != 0)
        return rc;
    if (v[OPT_RELOAD].given)
        return cmd_serve_reload(o, absent_s, out, f);
    if (v[OPT_VIA].given && (v[OPT_BROKER].given || v[OPT_AGENT].given))
        return fault_set(f, POSTERN_ERR_USAGE,
                         "give --via alone: the agent has the broker",
                         "--via contradicts --broker and --agent");
    struct serve_config c = {
        .absent_s = absent_s,
        .state = v[OPT_STATE].text,
        .broker = v[OPT_BROKER].text,
        .via = v[OPT_VIA].text,
        .agent = v[OPT_AGENT].text,
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
    out->lasting = true;
    return serve_run(&c, f);
}

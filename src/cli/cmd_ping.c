/* `postern ping`: options to ping_run. */
#include "cli/cmd.h"

#include "client/ping.h"

int cmd_ping(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct ping_config c = {
        .client = cmd_client_config(o, out),
        .host = o->args[0],
        .count = v[OPT_COUNT_PINGS].given ? (unsigned)v[OPT_COUNT_PINGS].number : 4,
        .settle = !v[OPT_COUNT_PINGS].given,
        .timeout_ms =
            v[OPT_TIMEOUT].given ? (unsigned)v[OPT_TIMEOUT].number * 1000 : 30000,
    };
    return v[OPT_ALL].given ? ping_all_run(&c, f) : ping_run(&c, f);
}

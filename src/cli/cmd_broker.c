/* `postern broker`: options to a struct broker_config, and the ready event. */
#include "cli/cmd.h"

#include "broker/broker.h"
#include "io/statedir.h"

static void on_ready(void *ctx, const char *link)
{
    struct event e;
    event_begin(&e, "ready");
    event_text(&e, "link", link);
    events_print(ctx, &e);
}

int cmd_broker(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct statedir state;
    int err = statedir_open(&state, v[OPT_STATE].text, f);
    if (err != 0)
        return err;
    struct broker_config c = {
        .listen = v[OPT_LISTEN].list,
        .listen_count = v[OPT_LISTEN].count,
        .public_name = v[OPT_PUBLIC].text,
        .state_dir = state.path,
        .open = v[OPT_OPEN].given,
        .threads = (unsigned)v[OPT_THREADS].number,
        .stun_alternate = v[OPT_STUN_ALTERNATE].text,
        .no_address_limits = v[OPT_NO_ADDRESS_LIMITS].given,
        .ctx = out,
        .on_ready = on_ready,
    };
    return broker_run(&c, f);
}

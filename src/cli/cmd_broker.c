/* `postern broker`: options to a struct broker_config, and the ready event. */
#include "cli/cmd.h"

#include "broker/broker.h"
#include "io/statedir.h"
#include "portal/portal.h"

struct teller {
    struct events *out;
    const struct portal *portal;
};

static void on_ready(void *ctx, const char *link)
{
    struct teller *t = ctx;
    struct event e;
    char url[300], print[PORTAL_FINGERPRINT_LEN];
    event_begin(&e, "ready");
    event_text(&e, "link", link);
    if (t->portal != NULL)
        event_text(&e, "portal", portal_url(t->portal, url, sizeof(url)));
    if (t->portal != NULL && portal_fingerprint(t->portal, print))
        event_text(&e, "fingerprint", print);
    events_print(t->out, &e);
}

int cmd_broker(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct statedir state;
    int err = statedir_open(&state, v[OPT_STATE].text, f);
    if (err != 0)
        return err;
    struct portal *portal = NULL;
    struct portal_config pc = {.state_dir = state.path,
                               .domain = v[OPT_DOMAIN].text,
                               .certificate = v[OPT_CERTIFICATE].text,
                               .key = v[OPT_KEY].text,
                               .idle_s = (uint32_t)v[OPT_IDLE].number,
                               .login_s = (uint32_t)v[OPT_LOGIN].number};
    if (pc.key != NULL && pc.certificate == NULL)
        return fault_set(f, POSTERN_ERR_USAGE, "name its --certificate too",
                         "a key alone is of no use");
    if (!v[OPT_NO_PORTAL].given && (err = portal_new(&portal, &pc, f)) != 0)
        return err;
    out->lasting = true;
    struct teller teller = {.out = out, .portal = portal};
    struct broker_config c = {
        .portal = portal != NULL ? portal_for_broker(portal) : NULL,
        .listen = v[OPT_LISTEN].list,
        .listen_count = v[OPT_LISTEN].count,
        .public_name = v[OPT_PUBLIC].text,
        .state_dir = state.path,
        .open = v[OPT_OPEN].given,
        .threads = (unsigned)v[OPT_THREADS].number,
        .stun_alternate = v[OPT_STUN_ALTERNATE].text,
        .no_address_limits = v[OPT_NO_ADDRESS_LIMITS].given,
        .ctx = &teller,
        .on_ready = on_ready,
    };
    err = broker_run(&c, f);
    portal_free(portal);
    return err;
}

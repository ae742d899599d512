/* `postern broker`: options to a struct broker_config, and the ready event. */
#include "cli/cmd.h"

#include <stdio.h>

#include "broker/broker.h"
#include "cli/daemon.h"
#include "io/scrape.h"
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

/* The broker that runs makes way; when this returns the next one may start. */
static int drain(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    char within[24] = "";
    const struct option_value *v = &o->values[OPT_WITHIN];
    int rc = statedir_open_known(&state, o->values[OPT_STATE].text, f);
    if (rc != 0)
        return rc;
    if (v->given)
        (void)snprintf(within, sizeof(within), "%lld", (long long)v->number);
    rc = daemon_ask(&state, "broker", LOCAL_DRAIN, within, out, NULL, f);
    if (rc == 0)
        return fault_set(f, POSTERN_ERR_NOTFOUND,
                         "name its state directory with --state, as its user",
                         "no broker runs with the state in %.200s", state.path);
    return rc > 0 ? 0 : rc;
}

int cmd_broker(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    if (o->arg_count > 0) /* there is one */
        return drain(o, out, f);
    if (v[OPT_WITHIN].given)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "use 'postern broker drain --within TIME'",
                         "--within is for drain");
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
    if (v[OPT_METRICS].given && scrape_check(v[OPT_METRICS].text, f) != 0)
        return POSTERN_ERR_USAGE;
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
        .metrics = v[OPT_METRICS].text,
        .no_address_limits = v[OPT_NO_ADDRESS_LIMITS].given,
        .ctx = &teller,
        .on_ready = on_ready,
    };
    err = broker_run(&c, f);
    portal_free(portal);
    return err;
}

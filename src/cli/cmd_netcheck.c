/* `postern netcheck`: finds the broker to ask, then netcheck_run. */
#include "cli/cmd.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/daemon.h"
#include "client/netcheck.h"
#include "host/roster.h"
#include "io/lack.h"

/* The broker of the first host joined, else the one that `serve` uses. */
static int stored_broker(const struct statedir *state, char link[static LINK_TEXT_LEN],
                         struct fault *f)
{
    struct book *b = NULL;
    struct roster *r = NULL;
    struct book_host h;
    int err = book_open(&b, state, f);
    if (err != 0)
        return err;
    int n = book_hosts(b, &h, 1);
    book_close(b);
    if (n > 0) {
        (void)snprintf(link, LINK_TEXT_LEN, "%s", h.broker);
        return 0;
    }
    struct roster_settings *s = calloc(1, sizeof(*s));
    err =
        s != NULL ? daemon_open_roster(&r, state, f) : fault_lack(f, POSTERN_ERR_NOMEM);
    if (err == 0 && roster_settings_get(r, s) == 0)
        (void)snprintf(link, LINK_TEXT_LEN, "%s", s->broker);
    else if (err == 0 || err == POSTERN_ERR_NOTFOUND)
        err = fault_set(f, POSTERN_ERR_NOTFOUND,
                        "give one with --broker LINK, or join a host first",
                        "no broker is known here");
    roster_close(r);
    free(s);
    return err;
}

int cmd_netcheck(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct keypair key;
    char link[LINK_TEXT_LEN] = "";
    struct netcheck_config c = {.out = out, .key = &key};
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    c.state = state.path;
    if (err == 0 && o->values[OPT_BROKER].given)
        (void)snprintf(link, sizeof(link), "%s", o->values[OPT_BROKER].text);
    else if (err == 0)
        err = stored_broker(&state, link, f);
    if (err == 0)
        err = o->values[OPT_BROKER].given ? link_parse_given(&c.broker, link, f)
                                          : link_parse(&c.broker, link, f);
    if (err == 0)
        err = link_check_broker(&c.broker, f);
    if (err == 0)
        err = statedir_key(&state, &key, f);
    return err == 0 ? netcheck_run(&c, f) : err;
}

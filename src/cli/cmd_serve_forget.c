/*
 * `postern serve --agent-forget`: first the list, which decides about what comes, then
 * the running serve, which ends what is.
 */
#include "cli/cmd.h"

#include <sodium.h>

#include "cli/daemon.h"
#include "host/lan.h"
#include "io/statedir.h"

enum { FORGET_TIMEOUT_MS = 5000 };

static int forget(struct roster *r, const struct statedir *state, const char *name,
                  struct events *out, struct fault *f)
{
    struct lan_host h;
    struct event e;
    LocalRequest req = LocalRequest_init_zero;
    LocalReply last = LocalReply_init_zero;
    struct json_value v;
    uint8_t fresh[LINK_SECRET_LEN];
    char ended[24] = "", key[KEY_TEXT_LEN];
    randombytes_buf(fresh, sizeof(fresh));
    int err = lan_host_forget(r, name, fresh, &h, f);
    sodium_memzero(fresh, sizeof(fresh));
    if (err != 0)
        return err;
    req.op = LOCAL_REVOKE;
    (void)snprintf(req.arg, sizeof(req.arg), "%s", key_format(h.key, key));
    err = daemon_ask(state, "serve", &req, FORGET_TIMEOUT_MS, NULL, &last, f);
    if (err != 0 && (err != POSTERN_ERR_NOTFOUND || f->what[0] != '\0')) {
        char done[sizeof(h.name) + 32];
        (void)snprintf(done, sizeof(done), "%s is off the list", h.name);
        return daemon_stored(err, done, f);
    }
    if (err == 0 && json_find(&v, last.json, "sessions") == 0 && v.type == JSON_NUMBER)
        json_value_words(&v, ended, sizeof(ended));
    event_begin(&e, "forgotten");
    event_text(&e, "name", h.name);
    event_text(&e, "key", key);
    if (ended[0] != '\0')
        json_raw(&e.json, "connections", ended);
    events_print(out, &e);
    return 0;
}

int cmd_serve_forget(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct roster *r = NULL;
    const char *name = o->values[OPT_AGENT_FORGET].text;
    int err = options_only(o, OPT_AGENT_FORGET, 0, "give it alone", f);
    if (err == 0 && o->arg_count > 0)
        return fault_set(f, POSTERN_ERR_USAGE, "give it alone",
                         "--agent-forget takes no service: '%.60s'", o->args[0]);
    if (err == 0)
        err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = daemon_open_roster(&r, &state, f);
    if (err == 0)
        err = forget(r, &state, name, out, f);
    roster_close(r);
    return err;
}

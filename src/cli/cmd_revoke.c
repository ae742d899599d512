/*
 * `postern revoke`: first the roster, which decides about what comes, then the running
 * serve, which ends what is.
 */
#include "cli/cmd.h"

#include <stdio.h>

#include "cli/daemon.h"
#include "host/roster.h"
#include "io/audit.h"
#include "io/statedir.h"

enum { REVOKE_TIMEOUT_MS = 5000 };

/* Returns 1 with the number of sessions, 0 when no serve runs, or a negative error. */
static int end_sessions(const struct statedir *state, const uint8_t key[static KEY_LEN],
                        char *sessions, size_t cap, struct fault *f)
{
    LocalRequest req = LocalRequest_init_zero;
    LocalReply last = LocalReply_init_zero;
    struct json_value v;
    char text[KEY_TEXT_LEN];
    req.op = LOCAL_REVOKE;
    (void)snprintf(req.arg, sizeof(req.arg), "%s", key_format(key, text));
    int err = daemon_ask(state, "serve", &req, REVOKE_TIMEOUT_MS, NULL, &last, f);
    if (err != 0)
        return err == POSTERN_ERR_NOTFOUND && f->what[0] == '\0' ? 0 : err;
    if (json_find(&v, last.json, "listed") == 0 && v.type == JSON_BOOL &&
        v.at[0] == 't')
        return fault_set(f, POSTERN_ERR_INUSE,
                         "restart 'postern serve' to end its sessions",
                         "the running 'postern serve' reads another list and still "
                         "lets it in");
    (void)snprintf(sessions, cap, "0");
    if (json_find(&v, last.json, "sessions") == 0 && v.type == JSON_NUMBER)
        json_value_words(&v, sessions, cap);
    return 1;
}

static int revoke_device(struct roster *r, const struct statedir *state,
                         const char *device, struct events *out, struct fault *f)
{
    struct roster_client c;
    struct event e;
    char sessions[24] = "", key[KEY_TEXT_LEN];
    int err = roster_revoke(r, device, &c, statedir_now_s(), f);
    if (err != 0)
        return err;
    struct audit_entry entry = {.time_s = statedir_now_s(), .what = "revoked"};
    (void)snprintf(entry.object, sizeof(entry.object), "%s", c.name);
    (void)snprintf(entry.detail, sizeof(entry.detail), "key %s",
                   key_format(c.key, key));
    audit_once(state->path, &entry);
    int ended = end_sessions(state, c.key, sessions, sizeof(sessions), f);
    if (ended < 0) {
        char done[sizeof(c.name) + 32];
        (void)snprintf(done, sizeof(done), "%s was taken off the list", c.name);
        return daemon_stored(ended, done, f);
    }
    event_begin(&e, "revoked");
    event_text(&e, "name", c.name);
    event_text(&e, "key", out->json ? key_format(c.key, key) : key_short(c.key, key));
    if (ended == 1)
        json_raw(&e.json, "sessions", sessions);
    events_print(out, &e);
    return 0;
}

int cmd_revoke(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct roster *r = NULL;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = daemon_open_roster(&r, &state, f);
    if (err == POSTERN_ERR_NOTFOUND) /* the advice is for the host's owner */
        return fault_set(f, err, "run this on the host, as the user who serves there",
                         "no device called '%.60s' may enter here: nothing was ever "
                         "published",
                         o->args[0]);
    if (err == 0)
        err = revoke_device(r, &state, o->args[0], out, f);
    roster_close(r);
    return err;
}

/*
 * `postern keys`: shows the device key and those before it, or makes a new one. How
 * peers follow is the running daemons' business; they are told to look again.
 */
#include "cli/cmd.h"

#include <sodium.h>
#include <string.h>

#include "cli/daemon.h"
#include "io/log.h"
#include "io/statedir.h"

enum { KEYS_OLD_MAX = 32 };

static void print_key(struct events *out, const uint8_t key[static KEY_LEN],
                      const char *state)
{
    char text[KEY_TEXT_LEN];
    struct event e;
    event_begin(&e, "key");
    event_text(&e, "key", key_format(key, text));
    event_text(&e, "state", state);
    events_print(out, &e);
}

static int show(const struct statedir *state, struct events *out, struct fault *f)
{
    struct keypair own, old[KEYS_OLD_MAX];
    int err = statedir_key(state, &own, f);
    if (err != 0)
        return err;
    int n = statedir_old_keys(state, old, KEYS_OLD_MAX, f);
    print_key(out, own.pub, "current");
    for (int i = 0; i < n; i++)
        print_key(out, old[i].pub, "replaced");
    sodium_memzero(&own, sizeof(own));
    sodium_memzero(old, sizeof(old));
    return n < 0 ? n : 0;
}

/* A daemon that does not run needs no word: it reads the key when it starts. */
static int tell_daemon(const struct statedir *state, const char *role, struct fault *f)
{
    int err = daemon_ask(state, role, LOCAL_RELOAD, NULL, NULL, NULL, f);
    return err < 0 ? daemon_stored(err, "the new key is stored", f) : 0;
}

/* One that runs and does not answer would go on with the old key: first that. */
static int check_daemon(const struct statedir *state, const char *role, struct fault *f)
{
    int err = daemon_ask(state, role, LOCAL_STATUS, NULL, NULL, NULL, f);
    return err < 0 ? daemon_unchanged(err, f) : 0;
}

/*
 * As many earlier keys as count: the oldest makes way for the one that goes now, and
 * nothing brings it back. So who rotates hears it one rotation before, too.
 */
static void warn_of_the_oldest(const struct statedir *state)
{
    struct keypair old[KEYS_OLD_MAX];
    char text[KEY_TEXT_LEN];
    bool serves = statedir_has(state->path, "host.db");
    int n = statedir_old_keys(state, old, KEYS_OLD_MAX, NULL);
    if (n == KEYS_OLD_MAX)
        log_warn("key %s counts no more, %d are newer: %s",
                 key_format(old[KEYS_OLD_MAX - 1].pub, text), KEYS_OLD_MAX + 1,
                 serves ? "a device that met this one then and not since must be "
                          "invited anew"
                        : "a host that met this device then and not since lets it in "
                          "by a new invite only");
    if (n >= KEYS_OLD_MAX - 1)
        log_warn("the next rotation ends key %s for good: first let %s",
                 key_format(old[KEYS_OLD_MAX - 2].pub, text),
                 serves ? "each device connect once that was away since"
                        : "this device connect once to each host that it did not meet "
                          "since");
    sodium_memzero(old, sizeof(old));
}

static int rotate(const struct statedir *state, struct events *out, struct fault *f)
{
    struct keypair before, fresh;
    char text[KEY_TEXT_LEN];
    struct event e;
    int err = check_daemon(state, "serve", f);
    if (err == 0)
        err = check_daemon(state, "up", f);
    if (err == 0)
        err = statedir_key(state, &before, f);
    if (err == 0)
        warn_of_the_oldest(state);
    if (err == 0)
        err = statedir_key_rotate(state, &fresh, statedir_now_s(), f);
    if (err != 0)
        return err;
    event_begin(&e, "rotated");
    event_text(&e, "key", key_format(fresh.pub, text));
    event_text(&e, "old", key_format(before.pub, text));
    events_print(out, &e);
    sodium_memzero(&before, sizeof(before));
    sodium_memzero(&fresh, sizeof(fresh));
    err = tell_daemon(state, "serve", f);
    int err_up = tell_daemon(state, "up", f);
    return err != 0 ? err : err_up;
}

int cmd_keys(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    const char *what = o->arg_count > 0 ? o->args[0] : "show";
    bool turn = strcmp(what, "rotate") == 0;
    if (!turn && strcmp(what, "show") != 0)
        return fault_set(f, POSTERN_ERR_USAGE, "say 'show' or 'rotate'",
                         "'postern keys' cannot '%.60s'", what);
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err != 0)
        return err;
    return turn ? rotate(&state, out, f) : show(&state, out, f);
}

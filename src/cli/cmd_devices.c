/*
 * Which devices may enter: `postern invite`, a fresh secret into the roster, and the
 * link that carries it; `postern revoke`, first the roster, which decides about what
 * comes, then the running serve, which ends what is. `serve --agent-forget` does the
 * same to a host of an agent's LAN.
 */
#include "cli/cmd.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/daemon.h"
#include "cli/published.h"
#include "core/span.h"
#include "host/invite.h"
#include "host/lan.h"
#include "host/roster.h"
#include "io/audit.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/qr.h"
#include "io/statedir.h"
#include "path/spoken_call.h"

enum {
    INVITE_DEFAULT_S = 3600,
    CODE_DEFAULT_S = 600,
    UNITLESS_LEAST_S = 60, /* less is no number of seconds that was meant */
    CODE_MAX_S = 3600,
    SKEW_WARN_S = 60
};

static void print_people(struct events *out, const char *text,
                         const struct roster_invite *in, bool draw)
{
    char until[64] = "?";
    struct tm tm;
    time_t at = (time_t)in->expires_s;
    if (localtime_r(&at, &tm) != NULL)
        (void)strftime(until, sizeof(until), "%F %T %Z", &tm);
    if (!draw || qr_print(out->out, text) != 0)
        return;
    (void)fprintf(out->out,
                  "On the other machine: postern join %s\n"
                  "Good until %s for %d device%s%s%s%s.\n",
                  text, until, in->uses_left, in->uses_left == 1 ? "" : "s",
                  in->allowed[0] ? ", for " : "", in->allowed,
                  in->allowed[0] ? " only" : "");
    (void)fflush(out->out);
}

static void print_invite(struct events *out, const struct link *l,
                         const struct roster_invite *in, bool qr)
{
    char text[LINK_TEXT_LEN];
    struct event e;
    link_format(l, text);
    invite_event(&e, in, text);
    events_print(out, &e);
    if (!out->json)
        print_people(out, text, in, qr || isatty(fileno(out->out)));
    sodium_memzero(text, sizeof(text));
}

static void read_text(const char *json, const char *name, char *buf, size_t cap)
{
    struct json_value v;
    buf[0] = '\0';
    if (json_find(&v, json, name) == 0 && v.type == JSON_TEXT)
        json_value_words(&v, buf, cap);
}

/* Invites end by the host's clock: once that is set right, at another time. */
static void warn_of_clock(const char *json)
{
    struct json_value v;
    char text[24] = "", span[SPAN_LEN], words[SPAN_CLOCKS_LEN];
    if (json_find(&v, json, "clock_skew_s") == 0)
        json_value_words(&v, text, sizeof(text));
    long long s = strtoll(text, NULL, 10);
    if (s >= SKEW_WARN_S || s <= -SKEW_WARN_S)
        log_warn("%s. The invite counts by this clock: where that is wrong, set it "
                 "right first, then make a new one; this one ends %s %s then",
                 span_clocks(s, words), span_apart(s, span),
                 s > 0 ? "sooner" : "later");
}

/* The `broker` event of a status, when it is not there, or has another time. */
static void warn_of_broker(void *ctx, const char *json)
{
    char event[16], state[16], why[200];
    (void)ctx;
    warn_of_clock(json);
    read_text(json, "event", event, sizeof(event));
    read_text(json, "state", state, sizeof(state));
    read_text(json, "reason", why, sizeof(why));
    if (strcmp(event, "broker") == 0 && strcmp(state, "online") != 0)
        log_warn("'postern serve' is without its broker now, for which who joins must "
                 "wait%s%s",
                 why[0] != '\0' ? ": " : "", why);
}

/* Who joins is let in by `serve`, and waits for it. */
static void warn_of_none(const struct statedir *state)
{
    struct statedir_holder h;
    if (!statedir_held(state, "serve", &h))
        log_warn("no 'postern serve' runs here now: who joins must wait for it");
    else
        daemon_each(state, "serve", LOCAL_STATUS, warn_of_broker, NULL);
}

/* Its broker shall know of the invite; without this it does a few seconds later. */
static void tell_serve(const struct statedir *state)
{
    struct fault unheard = {0};
    (void)!daemon_ask(state, "serve", LOCAL_LIST, NULL, NULL, NULL, &unheard);
}

/* ------------------------------------------------------------- a code to be said */

struct teller {
    struct events *out;
    const struct roster_invite *in;
    int64_t life_s;
};

static void tell_code(void *ctx, const struct spoken_code *c)
{
    const struct teller *t = ctx;
    char broker[LINK_HOST_LEN + 16], lasts[32];
    struct event e;
    bool v6 = strchr(c->host, ':') != NULL, usual = c->port == LINK_DEFAULT_PORT;
    int n = snprintf(broker, sizeof(broker), v6 ? "[%s]" : "%s", c->host);
    if (!usual)
        (void)snprintf(broker + n, sizeof(broker) - (size_t)n, ":%u", c->port);
    bool hours = t->life_s % 3600 == 0, minutes = t->life_s % 60 == 0;
    (void)snprintf(lasts, sizeof(lasts), "%lld %s",
                   (long long)(t->life_s / (hours     ? 3600
                                            : minutes ? 60
                                                      : 1)),
                   hours     ? "h"
                   : minutes ? "min"
                             : "s");
    event_begin(&e, "code");
    event_text(&e, "code", c->words);
    event_text(&e, "broker", broker);
    event_text(&e, "lasts", lasts);
    event_int(&e, "expires_s", t->in->expires_s);
    event_text(&e, "services", t->in->allowed[0] ? t->in->allowed : NULL);
    events_print(t->out, &e);
}

static void tell_wrong(void *ctx, unsigned left)
{
    (void)ctx;
    if (left > 0)
        log_warn("somebody tried the code with other words; it bears %u more", left);
}

static int give_by_code(const struct link *l, const struct roster_invite *in,
                        const struct link *broker, const struct keypair *own,
                        int64_t life_s, struct events *out, struct fault *f)
{
    char text[LINK_TEXT_LEN];
    struct teller t = {.out = out, .in = in, .life_s = life_s};
    struct spoken_give g = {.broker = broker,
                            .own = own,
                            .gift = text,
                            .limit_s = (unsigned)life_s,
                            .on_code = tell_code,
                            .on_wrong = tell_wrong,
                            .ctx = &t};
    struct event e;
    link_format(l, text);
    int err = spoken_give(&g, f);
    sodium_memzero(text, sizeof(text));
    if (err != 0)
        return err;
    event_begin(&e, "given");
    events_print(out, &e);
    return 0;
}

/* How long the invite lives. */
static int64_t life_of(const struct option_value *v)
{
    return v[OPT_EXPIRES].given  ? v[OPT_EXPIRES].number
           : v[OPT_SPOKEN].given ? CODE_DEFAULT_S
                                 : INVITE_DEFAULT_S;
}

/* Who writes 1 for an hour or a day would give a link that is over at once. */
static int check_life(const struct option_value *v, struct fault *f)
{
    const char *text = v[OPT_EXPIRES].text;
    if (!v[OPT_EXPIRES].given || v[OPT_EXPIRES].number >= UNITLESS_LEAST_S ||
        text[strspn(text, "0123456789")] != '\0')
        return 0;
    char advice[96];
    (void)snprintf(advice, sizeof(advice),
                   "give it a unit: --expires %.8sm, %.8sh or %.8sd", text, text, text);
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "a link that is good for %.8s s is of no use", text);
}

static int check_code_options(const struct option_value *v, struct fault *f)
{
    int err = check_life(v, f);
    if (err != 0 || !v[OPT_SPOKEN].given)
        return err;
    if (v[OPT_USES].given || v[OPT_QR].given)
        return fault_set(f, POSTERN_ERR_USAGE, "leave it out, or give a link",
                         "a code is said to one person: --%s does not go with it",
                         v[OPT_USES].given ? "uses" : "qr");
    if (life_of(v) > CODE_MAX_S)
        return fault_set(f, POSTERN_ERR_USAGE, "give a shorter time, or a link",
                         "a code lasts an hour at most");
    return 0;
}

static int invite(struct roster *r, const struct statedir *state,
                  const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct roster_settings *settings = calloc(1, sizeof(*settings));
    struct service_list services = {0};
    struct invite_config c = {.services = v[OPT_SERVICES].text,
                              .published = &services,
                              .life_s = life_of(v),
                              .uses =
                                  v[OPT_USES].given ? (int32_t)v[OPT_USES].number : 1,
                              .now_s = statedir_now_s()};
    struct roster_invite in;
    struct link broker, l;
    struct keypair own;
    int err = settings == NULL ? fault_lack(f, POSTERN_ERR_NOMEM)
                               : published_read(r, settings, &services, &broker, f);
    bool heard = err == 0 && published_add_running(state, &services);
    if (err == 0)
        err = statedir_key(state, &own, f);
    if (err == 0) {
        c.broker = &broker;
        c.host_key = own.pub;
        err = invite_make(r, &c, &in, &l, f);
    }
    if (err == 0) {
        struct audit_entry entry;
        invite_audit(&entry, &c, &in);
        audit_once(state->path, &entry);
        if (heard)
            warn_of_none(state);
        if (!v[OPT_SPOKEN].given)
            print_invite(out, &l, &in, v[OPT_QR].given);
        if (heard)
            tell_serve(state);
        if (v[OPT_SPOKEN].given)
            err = give_by_code(&l, &in, &broker, &own, c.life_s, out, f);
    }
    sodium_memzero(&own, sizeof(own));
    service_list_fini(&services);
    free(settings);
    return err;
}

/* It is written down when the broker has answered for the first time. */
static bool knows_nothing(struct roster *r)
{
    struct roster_settings *s = calloc(1, sizeof(*s));
    bool none =
        r == NULL || (s != NULL && roster_settings_get(r, s) == POSTERN_ERR_NOTFOUND);
    free(s);
    return none;
}

int cmd_invite(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct roster *r = NULL;
    int err = check_code_options(o->values, f);
    if (err == 0)
        err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = daemon_open_roster(&r, &state, f);
    if (err == 0)
        err = invite(r, &state, o, out, f);
    struct statedir_holder h;
    bool waits = err == POSTERN_ERR_NOTFOUND && knows_nothing(r) &&
                 statedir_held(&state, "serve", &h);
    roster_close(r);
    if (waits)
        return fault_set(
            f, err, "see what it says; once its broker has answered, run this again",
            "the first 'postern serve' here (process %ld) still waits for "
            "its broker, of which an invite speaks",
            h.pid);
    return err;
}

/*
 * 1 with the number of connections that ended, 0 when no serve runs, or a negative
 * error: it was `done` before. `listed`: it is there still for that serve.
 */
static int end_sessions(const struct statedir *state, const uint8_t key[static KEY_LEN],
                        char ended[static 24], bool *listed, struct fault *f)
{
    LocalReply last = LocalReply_init_zero;
    struct json_value v;
    char text[KEY_TEXT_LEN];
    int rc =
        daemon_ask(state, "serve", LOCAL_REVOKE, key_format(key, text), NULL, &last, f);
    *listed = rc == 1 && json_find(&v, last.json, "listed") == 0 &&
              v.type == JSON_BOOL && v.at[0] == 't';
    (void)snprintf(ended, 24, "0");
    if (rc == 1 && json_find(&v, last.json, "sessions") == 0 && v.type == JSON_NUMBER)
        json_value_words(&v, ended, 24);
    return rc;
}

static int revoke_device(struct roster *r, const struct statedir *state,
                         const char *device, struct events *out, struct fault *f)
{
    struct roster_client c;
    struct event e;
    char sessions[24], key[KEY_TEXT_LEN];
    bool listed;
    int err = roster_revoke(r, device, &c, statedir_now_s(), f);
    if (err != 0)
        return err;
    struct audit_entry entry = {.time_s = statedir_now_s(), .what = "revoked"};
    (void)snprintf(entry.object, sizeof(entry.object), "%s", c.name);
    (void)snprintf(entry.detail, sizeof(entry.detail), "key %s",
                   key_format(c.key, key));
    audit_once(state->path, &entry);
    int ended = end_sessions(state, c.key, sessions, &listed, f);
    if (listed)
        ended = fault_set(f, POSTERN_ERR_INUSE,
                          "restart 'postern serve' to end its sessions",
                          "the running 'postern serve' reads another list and still "
                          "lets it in");
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

static int forget(struct roster *r, const struct statedir *state, const char *name,
                  struct events *out, struct fault *f)
{
    struct lan_host h;
    struct event e;
    uint8_t fresh[LINK_SECRET_LEN];
    char ended[24], key[KEY_TEXT_LEN];
    bool listed;
    randombytes_buf(fresh, sizeof(fresh));
    int err = lan_host_forget(r, name, fresh, &h, f);
    sodium_memzero(fresh, sizeof(fresh));
    if (err != 0)
        return err;
    int told = end_sessions(state, h.key, ended, &listed, f);
    if (told < 0) {
        char done[sizeof(h.name) + 32];
        (void)snprintf(done, sizeof(done), "%s is off the list", h.name);
        return daemon_stored(told, done, f);
    }
    event_begin(&e, "forgotten");
    event_text(&e, "name", h.name);
    event_text(&e, "key", key_format(h.key, key));
    if (told == 1)
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

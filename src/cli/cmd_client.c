/* The commands of who uses hosts: options to a call of client/. */
#include "cli/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "cli/daemon.h"
#include "client/call.h"
#include "client/connect.h"
#include "client/join.h"
#include "client/nc.h"
#include "client/netcheck.h"
#include "client/ping.h"
#include "client/socks.h"
#include "client/up.h"
#include "host/lan.h"
#include "host/roster.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/scrape.h"
#include "path/spoken_call.h"

struct client_config cmd_client_config(const struct options *o, struct events *out)
{
    const struct option_value *v = o->values;
    return (struct client_config){
        .state = v[OPT_STATE].text,
        .paths = options_kinds(o),
        .wait_ms = (unsigned)v[OPT_WAIT].number * 1000,
        .jit_window_ms = (unsigned)v[OPT_JIT_WINDOW].number,
        .out = out,
    };
}

/* The broker of a code that was said without one: there is no other for most people. */
static int find_broker(struct spoken_code *c, const char *dir, struct fault *f)
{
    struct statedir state;
    struct link l;
    char link[LINK_TEXT_LEN] = "";
    int err = statedir_open(&state, dir, f);
    if (err == 0)
        err = cmd_stored_broker(&state, link, f);
    if (err == POSTERN_ERR_USAGE || (err == 0 && link_parse(&l, link, NULL) != 0))
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "add the broker's name: postern join NUMBER-WORD-WORD@BROKER",
            "the code does not say at which broker, and none is known here");
    if (err == 0) {
        memcpy(c->host, l.host, sizeof(c->host));
        c->port = l.port;
    }
    return err;
}

enum { CODE_MAX = 120 }; /* what is longer was meant as a link */

static int no_code(struct fault *f)
{
    return fault_set(f, POSTERN_ERR_USAGE,
                     "copy the whole link, which begins with postern://, or write the "
                     "code as in 7-crossover-clockwork@meet.example.org",
                     "this is not a Postern link, and no code");
}

/* What was given, or the link that stands behind a code. */
static int settle_code(const char **text, char gift[static LINK_TEXT_LEN],
                       const char *dir, struct fault *f)
{
    struct spoken_code c;
    struct link l;
    bool is_link = link_parse(&l, *text, NULL) == 0;
    sodium_memzero(&l, sizeof(l));
    if (is_link)
        return 0;
    int err = spoken_parse(&c, *text, f);
    if (err == POSTERN_ERR_NOTFOUND)
        return strchr(*text, '/') != NULL || strlen(*text) > CODE_MAX ? 0 : no_code(f);
    if (err == 0 && c.host[0] == '\0')
        err = find_broker(&c, dir, f);
    if (err == 0) {
        log_progress("asking the other side by %s ...", c.host);
        err = spoken_take(&c, gift, f);
    }
    *text = gift;
    sodium_memzero(&c, sizeof(c));
    return err;
}

int cmd_join(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    char gift[LINK_TEXT_LEN];
    const char *text = o->args[0];
    int err = settle_code(&text, gift, c.state, f);
    if (err == 0)
        err = join_run(&c, text, o->values[OPT_DEVICE_NAME].text, f);
    sodium_memzero(gift, sizeof(gift));
    return err;
}

/* First the book, which decides; then the running `up`, which ends what is. */
int cmd_leave(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct book *b = NULL;
    struct book_host h;
    struct event e;
    char key[KEY_TEXT_LEN];
    int err = statedir_open_known(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = book_open_known(&b, &state, o->args[0], f);
    if (err == 0)
        err = book_find(b, o->args[0], &h, f);
    if (err == 0 && (err = book_remove(b, h.key)) != 0)
        err = book_fault(b, err, f);
    book_close(b);
    if (err != 0)
        return err;
    int told = daemon_ask(&state, "up", LOCAL_RELOAD, NULL, NULL, NULL, f);
    if (told < 0)
        return daemon_stored(told, "the host is forgotten", f);
    event_begin(&e, "unjoined");
    event_text(&e, "host", h.name);
    event_text(&e, "key", key_format(h.key, key));
    events_print(out, &e);
    return 0;
}

int cmd_connect(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    struct connect_config what = {.words = o->args, .count = o->arg_count};
    return connect_run(&c, &what, f);
}

/* HOST:SERVICE, as `connect` has it, is two words here: ssh gives them so. */
static int missing_service(const struct options *o, struct fault *f)
{
    char advice[200] = "name them, as in: postern nc home 22";
    const char *word = o->arg_count > 0 ? o->args[0] : "", *colon = strchr(word, ':');
    if (colon != NULL && colon > word && colon[1] != '\0')
        (void)snprintf(advice, sizeof(advice), "write it as: postern nc %.*s %.60s",
                       colon - word < 60 ? (int)(colon - word) : 60, word, colon + 1);
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "the host or the service is missing");
}

int cmd_nc(const struct options *o, struct events *out, struct fault *f)
{
    if (o->values[OPT_SSH_CONFIG].given)
        return cmd_ssh_config(o, out, f);
    if (o->values[OPT_INSTALL].given)
        return fault_set(f, POSTERN_ERR_USAGE, "add --ssh-config",
                         "--install alone says not what");
    if (o->arg_count < 2 || o->args[0][0] == '\0')
        return missing_service(o, f);
    int err = call_check_service(o->args[1], f);
    if (err != 0)
        return err;
    struct client_config c = cmd_client_config(o, out);
    return nc_run(&c, o->args[0], o->args[1], -1, f);
}

int cmd_socks(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    return socks_run(&c, o->values[OPT_SOCKS_LISTEN].text, f);
}

/* Not under one that runs: it would put them back. */
static int clean_names(const struct options *o, struct fault *f)
{
    struct statedir state;
    struct statedir_holder h;
    int err = options_only(o, OPT_CLEAN_NAMES, 0, "give it alone", f);
    if (err == 0)
        err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0 && statedir_held(&state, "up", &h))
        err = fault_set(f, POSTERN_ERR_INUSE, "end it: then they go by themselves",
                        "the names are those of a running 'postern up'");
    return err == 0 ? naming_clean(&state, !o->values[OPT_STATE].given, f) : err;
}

int cmd_up(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    const char *env = getenv("POSTERN_NAMES");
    const char *way = v[OPT_NAMES].given              ? v[OPT_NAMES].text
                      : env != NULL && env[0] != '\0' ? env
                                                      : "auto";
    enum naming_way names;
    if (v[OPT_CLEAN_NAMES].given)
        return clean_names(o, f);
    if (naming_way_parse(&names, way, f) != 0)
        return POSTERN_ERR_USAGE;
    if (v[OPT_METRICS].given && scrape_check(v[OPT_METRICS].text, f) != 0)
        return POSTERN_ERR_USAGE;
    out->lasting = true;
    struct client_config c = cmd_client_config(o, out);
    return up_run(&c, names, v[OPT_METRICS].text, f);
}

/* Where only one was joined, no other can be meant; else they are named. */
static int only_host(char name[static BOOK_NAME_LEN], const char *dir, struct fault *f)
{
    enum { NAMED = 8 };
    struct statedir state;
    struct book *b = NULL;
    struct book_host *hosts = calloc(NAMED, sizeof(*hosts));
    char names[200] = "see 'postern ls'";
    struct fault unread;
    int n = 0;
    if (hosts != NULL && statedir_find(&state, dir) == 0 &&
        statedir_has(state.path, "book.db") && book_open(&b, &state, &unread) == 0)
        n = book_hosts(b, hosts, NAMED);
    for (int i = 0, at = 0;
         hosts != NULL && i < n && i < NAMED && at < (int)sizeof(names); i++)
        at += snprintf(names + at, sizeof(names) - (size_t)at, "%s%.63s",
                       i == 0 ? "one of: " : ", ", hosts[i].name);
    if (hosts != NULL && n == 1)
        (void)snprintf(name, BOOK_NAME_LEN, "%s", hosts[0].name);
    book_close(b);
    free(hosts);
    if (n == 1)
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE, names,
                     "an argument is missing: name the host");
}

int cmd_ping(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    const char *host = o->arg_count > 0 ? o->args[0] : v[OPT_WHY].text;
    char only[BOOK_NAME_LEN];
    if (host == NULL) {
        int err = only_host(only, v[OPT_STATE].text, f);
        if (err != 0)
            return err;
        host = only;
    }
    if (v[OPT_WHY].given && strcasecmp(host, v[OPT_WHY].text) != 0)
        return fault_set(f, POSTERN_ERR_USAGE, "see 'postern ping --help'",
                         "two hosts are named");
    struct ping_config c = {
        .client = cmd_client_config(o, out),
        .host = host,
        .count = v[OPT_COUNT_PINGS].given ? (unsigned)v[OPT_COUNT_PINGS].number : 4,
        .settle = !v[OPT_COUNT_PINGS].given,
        .timeout_ms = v[OPT_TIMEOUT].given ? (unsigned)v[OPT_TIMEOUT].number * 1000
                      : v[OPT_ALL].given   ? 0 /* each kind has its own */
                                           : 30000,
    };
    c.client.unfold = v[OPT_WHY].given;
    return v[OPT_ALL].given ? ping_all_run(&c, f) : ping_run(&c, f);
}

/* None is stored: what runs here may know one, which has to be named all the same. */
static int tell_no_broker(const struct statedir *state, struct roster *r,
                          struct fault *f)
{
    struct statedir_holder h;
    char agent[LINK_TEXT_LEN];
    if (r != NULL && lan_agent_find(r, NULL, agent) == 0)
        return fault_set(f, POSTERN_ERR_USAGE, "name one with --broker LINK",
                         "no broker is known here: this host hands its services to an "
                         "agent, which knows one");
    if (statedir_held(state, "broker", &h))
        return fault_set(f, POSTERN_ERR_USAGE,
                         "name it with --broker and the link that it printed",
                         "no broker is joined or served by here; one runs here itself "
                         "(process %ld)",
                         h.pid);
    return fault_set(f, POSTERN_ERR_USAGE,
                     "join a host, serve, or name one with --broker LINK",
                     "no broker is known here");
}

int cmd_stored_broker(const struct statedir *state, char link[static LINK_TEXT_LEN],
                      struct fault *f)
{
    struct book *b = NULL;
    struct roster *r = NULL;
    struct book_host h;
    int n = 0;
    int err = statedir_check_beside(state, "up", "book.db", f);
    if (err == 0 && statedir_has(state->path, "book.db"))
        err = book_open(&b, state, f);
    if (err != 0)
        return err;
    if (b != NULL)
        n = book_hosts(b, &h, 1);
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
    if (link[0] == '\0' && (err == 0 || err == POSTERN_ERR_NOTFOUND))
        err = tell_no_broker(state, r, f);
    roster_close(r);
    free(s);
    return err;
}

void cmd_key_or_any(const struct statedir *state, struct keypair *key)
{
    uint8_t seed[KEY_LEN];
    if (state == NULL || !statedir_has(state->path, "device.db") ||
        statedir_key(state, key, NULL) != 0) {
        randombytes_buf(seed, sizeof(seed));
        keypair_from_seed(key, seed);
    }
}

int cmd_netcheck(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct keypair key;
    char link[LINK_TEXT_LEN] = "";
    struct netcheck_config c = {.out = out, .key = &key};
    int err = statedir_open_known(&state, o->values[OPT_STATE].text, f);
    c.state = state.path;
    c.deep = o->values[OPT_DEEP].given;
    if (err == 0 && o->values[OPT_BROKER].given)
        (void)snprintf(link, sizeof(link), "%s", o->values[OPT_BROKER].text);
    else if (err == 0)
        err = cmd_stored_broker(&state, link, f);
    if (err == POSTERN_ERR_USAGE && o->passed_over == LINK_INVITE)
        return fault_set(f, err, LINK_WAS_INVITE, "no broker is known here");
    if (err == 0)
        err = o->values[OPT_BROKER].given ? link_parse_given(&c.broker, link, f)
                                          : link_parse(&c.broker, link, f);
    if (err == 0)
        err = link_check_broker(&c.broker, f);
    if (err == 0)
        cmd_key_or_any(&state, &key);
    return err == 0 ? netcheck_run(&c, f) : err;
}

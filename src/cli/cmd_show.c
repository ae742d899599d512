/* The commands that only show: `ls`, what is stored here, and `log`, the audit log.
 * They do not touch the network. */
#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/daemon.h"
#include "client/book.h"
#include "host/roster.h"
#include "host/service.h"
#include "io/audit.h"
#include "io/lack.h"
#include "io/ready.h"
#include "io/statedir.h"

static void print_key(struct event *e, const uint8_t key[static KEY_LEN], bool json)
{
    char text[KEY_TEXT_LEN];
    event_text(e, "key", json ? key_format(key, text) : key_short(key, text));
}

static int print_host(struct book *b, const struct book_host *h, struct events *out)
{
    struct book_service services[BOOK_SERVICE_MAX];
    struct event e;
    int titled = 0, n = book_services(b, h->key, services, BOOK_SERVICE_MAX);
    if (n < 0)
        return n;
    event_begin(&e, "host");
    event_text(&e, "name", h->name);
    print_key(&e, h->key, out->json);
    event_int(&e, "joined_s", h->joined_s);
    json_array_begin(&e.json, "services");
    for (int i = 0; i < n && e.json.used < EVENT_TEXT_LEN - 100; i++)
        event_text(&e, NULL, services[i].name);
    json_array_end(&e.json);
    for (int i = 0; i < n && e.json.used < EVENT_TEXT_LEN - 300; i++) {
        char text[BOOK_NAME_LEN + BOOK_TITLE_LEN + 4];
        if (services[i].title[0] == '\0')
            continue;
        if (titled++ == 0)
            json_array_begin(&e.json, "titles");
        (void)snprintf(text, sizeof(text), "%s: %s", services[i].name,
                       services[i].title);
        event_text(&e, NULL, text);
    }
    if (titled > 0)
        json_array_end(&e.json);
    events_print(out, &e);
    return 0;
}

static int list_hosts(const struct statedir *state, struct events *out, struct fault *f)
{
    struct book *b = NULL;
    struct book_host *hosts = NULL;
    int err = statedir_check_beside(state, "up", "book.db", f);
    if (err == 0 && statedir_has(state->path, "book.db"))
        err = book_open(&b, state, f);
    if (err != 0)
        return err;
    int n = b != NULL ? book_hosts(b, NULL, 0) : 0;
    if (n > 0)
        hosts = calloc((size_t)n, sizeof(*hosts));
    if (hosts != NULL) {
        int now = book_hosts(b, hosts, (size_t)n); /* another process may add one */
        n = now < n ? now : n;
        for (int i = 0; i < n && err == 0; i++)
            err = print_host(b, &hosts[i], out);
    } else {
        err = n > 0 ? fault_lack(f, POSTERN_ERR_NOMEM) : n;
    }
    struct stat st;
    bool there = stat(state->path, &st) == 0;
    if (n == 0 && !out->json && !there)
        (void)fprintf(out->out, "There is no %s yet.\n", state->path);
    if (n == 0 && !out->json)
        (void)fprintf(out->out,
                      "No host joined yet: postern join LINK, with the link that "
                      "'postern invite' prints there.\n");
    free(hosts);
    book_close(b);
    return err;
}

struct listing {
    struct events *out;
    bool told;
};

static void on_status(void *ctx, const char *json)
{
    struct listing *l = ctx;
    struct json_value v;
    char event[16];
    if (json_find(&v, json, "event") != 0)
        return;
    json_value_words(&v, event, sizeof(event));
    if (strcmp(event, "publishes") != 0)
        return;
    events_print_json(l->out, json);
    l->told = true;
}

/* What this device publishes itself, if it does: as it is now, or will be. */
static void list_published(const struct statedir *state, struct events *out)
{
    struct listing l = {.out = out};
    struct roster *r = NULL;
    struct service_list services = {0};
    struct fault ignored = {0};
    struct event e;
    if (!statedir_has(state->path, "host.db"))
        return;
    daemon_each(state, "serve", LOCAL_STATUS, on_status, &l);
    struct roster_settings *s = l.told ? NULL : calloc(1, sizeof(*s));
    if (s != NULL && roster_open(&r, state->path, &ignored) == 0 &&
        roster_settings_get(r, s) == 0 &&
        service_list_parse_lines(&services, s->services, &ignored) == 0) {
        service_list_event(&e, &services, s->name, "while 'postern serve' runs");
        events_print(out, &e);
    }
    service_list_fini(&services);
    roster_close(r);
    free(s);
}

static void print_client(const struct roster_client *c, struct events *out)
{
    struct event e;
    event_begin(&e, "client");
    event_text(&e, "name", c->name);
    print_key(&e, c->key, out->json);
    event_int(&e, "added_s", c->added_s);
    event_text(&e, "services", c->allowed[0] ? c->allowed : NULL);
    events_print(out, &e);
}

static int list_devices(const struct statedir *state, struct events *out,
                        struct fault *f)
{
    struct roster *r = NULL;
    struct roster_client *clients = NULL;
    int err = statedir_check_beside(state, "serve", "host.db", f);
    if (err == 0 && statedir_has(state->path, "host.db"))
        err = roster_open(&r, state->path, f);
    if (err != 0)
        return err;
    int n = r != NULL ? roster_clients_all(r, &clients) : 0;
    for (int i = 0; i < n; i++)
        print_client(&clients[i], out);
    err = n == POSTERN_ERR_NOMEM ? fault_lack(f, n) : n;
    if (n == 0 && !out->json)
        (void)fprintf(out->out, "No device may enter yet: 'postern invite' makes a "
                                "link for one.\n");
    free(clients);
    roster_close(r);
    return err < 0 ? err : 0;
}

int cmd_ls(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    int err = statedir_open_known(&state, o->values[OPT_STATE].text, f);
    if (err != 0)
        return err;
    if (o->values[OPT_DEVICES].given)
        return list_devices(&state, out, f);
    err = list_hosts(&state, out, f);
    if (err == 0)
        list_published(&state, out);
    return err;
}

enum { LOG_DEFAULT = 50, LOG_MAX = 20000, LOG_BATCH = 1000, FOLLOW_MS = 500 };

static void print_entries(const struct audit_entry *entries, int n, struct events *out)
{
    for (int i = n - 1; i >= 0; i--) {
        struct event e;
        audit_event(&e, &entries[i]);
        events_print(out, &e);
    }
}

/* "15m" ago, or a day or minute of UTC. */
static int parse_since(const char *text, int64_t *since_s, struct fault *f)
{
    struct tm tm = {0};
    int64_t ago;
    if (options_parse_duration(&ago, text) == 0) {
        *since_s = statedir_now_s() - ago;
        return 0;
    }
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    if (end != NULL && *end == 'T')
        end = strptime(end, "T%H:%M", &tm);
    if (end != NULL && *end == ':')
        end = strptime(end, ":%S", &tm);
    if (end != NULL && *end == 'Z')
        end++;
    if (end == NULL || *end != '\0')
        return fault_set(f, POSTERN_ERR_USAGE,
                         "write it as 15m, 7d, 2026-01-31 or 2026-01-31T12:00",
                         "'%.60s' is not a time that --since takes", text);
    *since_s = timegm(&tm);
    return 0;
}

/* False when nobody reads what it prints. */
static bool pause_following(void)
{
    struct timespec pause = {.tv_nsec = FOLLOW_MS * 1000000l};
    struct ready gone = {.fd = STDOUT_FILENO};
    (void)nanosleep(&pause, NULL);
    return ready_wait(&gone, 1, 0) != 1;
}

/* Until the command is ended, or its output cannot be written any more. */
static int follow(struct audit *a, struct audit_filter *filter,
                  struct audit_entry *entries, struct events *out)
{
    for (;;) {
        int n = audit_find(a, filter, entries, LOG_BATCH, &filter->after);
        if (n < 0 || out->failed != 0)
            return n < 0 ? n : 0;
        print_entries(entries, n, out);
        if (!pause_following())
            return 0;
    }
}

static void tell_none(const struct options *o, struct events *out)
{
    bool chosen = o->values[OPT_SINCE].given || o->values[OPT_WHO].given;
    if (out->json)
        return;
    (void)fprintf(out->out,
                  chosen ? "Nothing of that is logged%s.\n"
                         : "Nothing is logged yet%s.\n",
                  o->values[OPT_FOLLOW_LOG].given ? "; waiting for what comes" : "");
    (void)fflush(out->out);
}

static int print_log(const struct options *o, struct audit *a,
                     struct audit_filter *filter, bool told, struct events *out)
{
    const struct option_value *count = &o->values[OPT_COUNT_LOG];
    size_t max = count->given                 ? (size_t)count->number
                 : o->values[OPT_SINCE].given ? LOG_MAX
                                              : LOG_DEFAULT;
    struct audit_entry *entries =
        calloc(max > LOG_BATCH ? max : LOG_BATCH, sizeof(*entries));
    if (entries == NULL)
        return POSTERN_ERR_NOMEM;
    int n = audit_find(a, filter, entries, max, &filter->after);
    print_entries(entries, n, out);
    if (n == 0 && !told)
        tell_none(o, out);
    if (n >= 0 && o->values[OPT_FOLLOW_LOG].given)
        n = follow(a, filter, entries, out);
    free(entries);
    return n < 0 ? n : 0;
}

int cmd_log(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *since = &o->values[OPT_SINCE];
    const struct option_value *who = &o->values[OPT_WHO];
    struct audit_filter filter = {.who = who->given ? who->text : NULL};
    struct statedir state;
    struct audit *a = NULL;
    int err = since->given ? parse_since(since->text, &filter.since_s, f) : 0;
    if (err == 0)
        err = statedir_open_known(&state, o->values[OPT_STATE].text, f);
    bool told = err == 0 && !statedir_has(state.path, "audit.db");
    if (told)
        tell_none(o, out);
    while (err == 0 && !statedir_has(state.path, "audit.db")) { /* and makes none */
        if (!o->values[OPT_FOLLOW_LOG].given || !pause_following())
            return 0;
    }
    if (err == 0)
        err = audit_open(&a, state.path, f);
    if (err == 0) {
        err = print_log(o, a, &filter, told, out);
        if (err != 0)
            err = fault_set(f, err, "check the state directory",
                            "the audit log cannot be read: %s", postern_strerror(err));
    }
    audit_close(a);
    return err;
}

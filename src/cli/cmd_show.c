/* The commands that only show: `ls`, what is stored here; `log`, the audit log;
 * `status`, what the running daemons of this state directory say. None touches the
 * network. */
#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>

#include "cli/daemon.h"
#include "client/book.h"
#include "core/json.h"
#include "host/roster.h"
#include "io/audit.h"
#include "io/lack.h"
#include "io/statedir.h"

static const char *const roles[] = {"serve", "up"};

static void print_key(struct event *e, const uint8_t key[static KEY_LEN], bool json)
{
    char text[KEY_TEXT_LEN];
    event_text(e, "key", json ? key_format(key, text) : key_short(key, text));
}

static int print_host(struct book *b, const struct book_host *h, struct events *out)
{
    struct book_service services[BOOK_SERVICE_MAX];
    struct event e;
    int n = book_services(b, h->key, services, BOOK_SERVICE_MAX);
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
    events_print(out, &e);
    return 0;
}

static int list_hosts(const struct statedir *state, struct events *out, struct fault *f)
{
    struct book *b = NULL;
    struct book_host *hosts = NULL;
    int err = book_open(&b, state, f);
    if (err != 0)
        return err;
    int n = book_hosts(b, NULL, 0);
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
    if (n == 0 && !out->json)
        (void)fprintf(out->out,
                      "No host joined yet: postern join LINK, with the link that "
                      "'postern invite' prints there.\n");
    free(hosts);
    book_close(b);
    return err;
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
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err != 0)
        return err;
    return o->values[OPT_DEVICES].given ? list_devices(&state, out, f)
                                        : list_hosts(&state, out, f);
}

enum { LOG_DEFAULT = 50 };

static int print_log(struct audit *a, size_t max, struct events *out)
{
    struct audit_entry *entries = calloc(max, sizeof(*entries));
    int n = entries == NULL ? POSTERN_ERR_NOMEM : audit_list(a, entries, max);
    for (int i = n - 1; i >= 0; i--) {
        struct event e;
        audit_event(&e, &entries[i]);
        events_print(out, &e);
    }
    if (n == 0 && !out->json)
        (void)fprintf(out->out, "Nothing is logged yet.\n");
    free(entries);
    return n < 0 ? n : 0;
}

int cmd_log(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *count = &o->values[OPT_COUNT_LOG];
    struct statedir state;
    struct audit *a = NULL;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = audit_open(&a, state.path, f);
    if (err == 0) {
        err = print_log(a, count->given ? (size_t)count->number : LOG_DEFAULT, out);
        if (err != 0)
            err = fault_set(f, err, "check the state directory",
                            "the audit log cannot be read: %s", postern_strerror(err));
    }
    audit_close(a);
    return err;
}

/* Whether a daemon has its broker, or its agent, as its status says. */
struct health {
    bool lacks;
    char reason[128];
};

static void note_health(void *ctx, const char *json)
{
    struct health *h = ctx;
    struct json_value v;
    char words[16] = "";
    if (json_find(&v, json, "event") == 0)
        json_value_words(&v, words, sizeof(words));
    if (strcmp(words, "broker") != 0 && strcmp(words, "agent") != 0)
        return;
    if (json_find(&v, json, "state") == 0)
        json_value_words(&v, words, sizeof(words));
    if (strcmp(words, "online") == 0)
        return;
    h->lacks = true;
    if (json_find(&v, json, "reason") == 0 && v.type == JSON_TEXT)
        json_value_words(&v, h->reason, sizeof(h->reason));
}

static int check_status(const struct statedir *state, struct fault *f)
{
    enum { ANSWER_MS = 3000 };
    bool any = false;
    for (size_t i = 0; i < 2; i++) {
        struct health h = {.reason = "it is being looked for"};
        int runs = daemon_probe(state, roles[i], ANSWER_MS, note_health, &h, f);
        if (runs < 0)
            return runs;
        if (h.lacks)
            return fault_set(f, POSTERN_ERR_UNREACHABLE,
                             "'postern doctor' looks for the cause",
                             "'postern %s' has no broker now: %s", roles[i], h.reason);
        any = any || runs;
    }
    if (!any)
        return fault_set(f, POSTERN_ERR_NOTFOUND, "start one of them",
                         "neither 'postern serve' nor 'postern up' runs with %s",
                         state->path);
    return 0;
}

int cmd_status(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    bool any = false;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0 && o->values[OPT_CHECK].given)
        return check_status(&state, f);
    for (size_t i = 0; err == 0 && i < 2; i++) {
        struct event e;
        int runs =
            daemon_ask(&state, roles[i], LOCAL_STATUS, LOCAL_ARG_NOW, out, NULL, f);
        if (runs < 0)
            return runs;
        any = any || runs;
        event_begin(&e, "daemon");
        event_text(&e, "role", roles[i]);
        event_bool(&e, "running", runs);
        events_print(out, &e);
    }
    if (err == 0 && !any && !out->json)
        (void)fprintf(
            out->out,
            "neither 'postern serve' nor 'postern up' runs with %s (others are "
            "not asked); 'postern ls' shows what is stored\n",
            state.path);
    return err;
}

/*
 * `postern serve`: options to a struct serve_config; with --reload or --add, new
 * settings into the roster, and a word to the daemon.
 */
#include "cli/cmd.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/config.h"
#include "cli/daemon.h"
#include "cli/published.h"
#include "cli/serve_beside.h"
#include "cli/serve_words.h"
#include "core/kinds.h"
#include "host/certs.h"
#include "host/lan.h"
#include "host/roster.h"
#include "host/serve.h"
#include "host/via.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/scrape.h"
#include "io/statedir.h"

/* Adds the SERVICE texts as lines, after all of them were parsed together. */
static int join_services(const char *const *texts, size_t count, char *lines,
                         size_t cap, struct fault *f)
{
    struct service_list parsed;
    size_t used = strlen(lines);
    for (size_t i = 0; i < count; i++) {
        int n =
            snprintf(lines + used, cap - used, "%s%s", used > 0 ? "\n" : "", texts[i]);
        if ((size_t)n >= cap - used)
            return fault_set(f, POSTERN_ERR_LIMIT, "name fewer",
                             "the list of services is too long");
        used += (size_t)n;
    }
    if (service_list_parse_lines(&parsed, lines, f) != 0)
        return POSTERN_ERR_USAGE;
    service_list_fini(&parsed);
    return 0;
}

/* `absent_s` as in struct serve_config. */
static int store_settings(const struct statedir *state, const char *const *texts,
                          size_t count, bool add, int64_t absent_s, struct fault *f)
{
    struct roster *r = NULL;
    struct roster_settings *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int err = daemon_open_roster(&r, state, f);
    if (err == 0) {
        err = roster_settings_get(r, s);
        if (err == POSTERN_ERR_NOTFOUND)
            (void)fault_set(f, err,
                            "run 'postern serve --broker LINK SERVICE...' first",
                            "nothing is published here yet");
        if (!add && count > 0)
            s->services[0] = '\0';
        if (absent_s != 0)
            s->absent_s = absent_s > 0 ? absent_s : 0;
        if (err == 0 && count > 0)
            err = join_services(texts, count, s->services, sizeof(s->services), f);
        if (err == 0)
            err = roster_settings_set(r, s, f);
    }
    roster_close(r);
    free(s);
    return err;
}

/* --tls and --tls-command, for the services that are stored by now. */
static int store_tls(const struct statedir *state, const struct options *o,
                     struct fault *f)
{
    const struct option_value *tls = &o->values[OPT_TLS];
    struct roster_settings *s = calloc(1, sizeof(*s));
    struct service_list published = {0};
    struct roster *r = NULL;
    struct access *a = NULL;
    struct link broker;
    char agent[LINK_TEXT_LEN];
    int err =
        s == NULL ? fault_lack(f, POSTERN_ERR_NOMEM) : daemon_open_roster(&r, state, f);
    if (err == 0)
        err = daemon_open_access(&a, state, f);
    if (err == 0 && lan_agent_find(r, NULL, agent) == 0)
        err = via_check_tls(tls->list, tls->count, o->values[OPT_TLS_COMMAND].text, f);
    if (err == 0)
        err = published_read(r, s, &published, &broker, f);
    if (err == 0)
        err = certs_settle(a, &published, tls->list, tls->count,
                           o->values[OPT_TLS_COMMAND].text, f);
    service_list_fini(&published);
    access_close(a);
    roster_close(r);
    free(s);
    return err;
}

/* ------------------------------------------------------------ beside one that runs */

/* What is to be stored. */
struct change {
    const char *const *texts;
    size_t count;
    bool add;
    int64_t absent_s;          /* as in struct serve_config */
    const struct options *tls; /* of which --tls and --tls-command count; may be NULL */
};

/* What was stored before it. */
struct before {
    struct roster_settings settings;
    struct access_tls tls[CERTS_MAX];
    int tls_count;
    char tls_command[ACCESS_COMMAND_LEN];
};

static struct change change_of(const struct options *o, const char *const *texts,
                               size_t count, int64_t absent_s)
{
    bool tls = o->values[OPT_TLS].given || o->values[OPT_TLS_COMMAND].given;
    return (struct change){texts, count, o->values[OPT_ADD].given, absent_s,
                           tls ? o : NULL};
}

static int remember(const struct statedir *state, bool tls, struct before *b,
                    struct fault *f)
{
    struct roster *r = NULL;
    struct access *a = NULL;
    int err = daemon_open_roster(&r, state, f);
    if (err == 0)
        err = roster_settings_get(r, &b->settings);
    if (err == POSTERN_ERR_NOTFOUND && r != NULL)
        (void)fault_set(f, err, "run 'postern serve --broker LINK SERVICE...' first",
                        "nothing is published here yet");
    else if (err != 0 && r != NULL)
        err = roster_fault(r, err, f);
    if (err == 0 && tls)
        err = daemon_open_access(&a, state, f);
    if (err == 0 && tls)
        err = b->tls_count = access_tls(a, b->tls, CERTS_MAX);
    if (err >= 0 && tls)
        err = access_tls_command(a, b->tls_command);
    if (err < 0 && a != NULL)
        err = access_fault(a, err, f);
    access_close(a);
    roster_close(r);
    return err;
}

static int put_back(const struct statedir *state, bool tls, const struct before *b)
{
    struct roster *r = NULL;
    struct access *a = NULL;
    int err = daemon_open_roster(&r, state, NULL);
    if (err == 0)
        err = roster_settings_set(r, &b->settings, NULL);
    if (err == 0 && tls)
        err = daemon_open_access(&a, state, NULL);
    if (err == 0 && tls)
        err = access_set_tls(a, b->tls, (size_t)b->tls_count, NULL);
    if (err == 0 && tls)
        err = access_set_tls_command(a, b->tls_command, NULL);
    access_close(a);
    roster_close(r);
    return err;
}

/* All of it, or nothing. */
static int store(const struct statedir *state, const struct change *c, struct before *b,
                 struct fault *f)
{
    int err = remember(state, c->tls != NULL, b, f);
    if (err != 0)
        return err;
    if (c->count > 0 || c->absent_s != 0)
        err = store_settings(state, c->texts, c->count, c->add, c->absent_s, f);
    if (err == 0 && c->tls != NULL)
        err = store_tls(state, c->tls, f);
    if (err != 0)
        (void)!put_back(state, c->tls != NULL, b);
    return err;
}

/* The running serve does it; that none runs is an error. */
static int must_ask(const struct statedir *state, enum local_op op, struct events *out,
                    struct fault *f)
{
    int err = daemon_ask(state, "serve", op, NULL, out, NULL, f);
    if (err == 0)
        return fault_set(f, POSTERN_ERR_NOTFOUND,
                         statedir_has(state->path, "host.db")
                             ? "start it with 'postern serve', then run this again"
                             : "start it: 'postern serve --broker LINK SERVICE...', "
                               "with the link that 'postern broker' printed",
                         "no 'postern serve' runs with %.200s", state->path);
    return err < 0 ? err : 0;
}

/* The serve did not take it up: it reads again what was there before, if it does. */
static int take_back(const struct statedir *state, bool tls, const struct before *b,
                     int err, struct fault *f)
{
    struct fault again = {0};
    if (put_back(state, tls, b) != 0)
        return daemon_stored(err, "it is stored", f);
    (void)!daemon_ask(state, "serve", LOCAL_RELOAD, NULL, NULL, NULL, &again);
    return daemon_unchanged(err, f);
}

/* What would not be taken up is not stored: whether it answers is asked first. */
static int change(const struct statedir *state, const struct change *c,
                  struct events *out, struct fault *f)
{
    if (c->count == 0 && c->absent_s == 0 && c->tls == NULL)
        return must_ask(state, LOCAL_RELOAD, out, f);
    struct before *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int err = must_ask(state, LOCAL_LIST, NULL, f);
    if (err != 0)
        err = daemon_unchanged(err, f);
    else if ((err = store(state, c, b, f)) == 0 &&
             (err = must_ask(state, LOCAL_RELOAD, out, f)) != 0)
        err = take_back(state, c->tls != NULL, b, err, f);
    free(b);
    return err;
}

int cmd_serve_services(const struct statedir *state, const char *const *texts,
                       size_t count, bool add, struct events *out, struct fault *f)
{
    struct change c = {.texts = texts, .count = count, .add = add};
    return change(state, &c, out, f);
}

/* What is there already is no mistake; another of the same name is one. */
static int only_fresh(const struct statedir *state, struct serve_asked *asked,
                      struct fault *f)
{
    struct serve_beside *b = calloc(1, sizeof(*b));
    int rc = 0;
    if (b == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    serve_beside_sort(b, state, asked->texts, asked->count);
    if (b->clash != NULL)
        rc = fault_set(f, b->why.code, b->why.advice, "%s", b->why.what);
    for (size_t i = 0; rc == 0 && i < b->known_count; i++)
        log_warn("'%.80s' is published already", b->known[i]);
    if (rc == 0) {
        memcpy(asked->texts, b->fresh, sizeof(asked->texts));
        asked->count = b->fresh_count;
    }
    free(b);
    return rc;
}

/* As at a start: what does not answer is best mended while one stands there. */
static void tell_named(const struct serve_asked *asked, struct events *out)
{
    struct service_list named = {0};
    if (service_list_parse(&named, asked->texts, asked->count, NULL) == 0)
        serve_tell_ready(out, &named, NULL);
    service_list_fini(&named);
}

static int reload(const struct options *o, struct serve_asked *asked, int64_t absent_s,
                  struct events *out, struct fault *f)
{
    struct statedir state;
    bool add = o->values[OPT_ADD].given;
    if (o->values[OPT_CONFIG].given)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "send SIGHUP to the 'postern serve' that was started with it",
                         "--config does nothing with %s", add ? "--add" : "--reload");
    if (add && asked->count == 0)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "name it, as in: postern serve --add web=8080",
                         "nothing is named that is to be published too");
    int err =
        options_only(o, add ? OPT_ADD : OPT_RELOAD,
                     OPTION_BIT(OPT_RELOAD) | OPTION_BIT(OPT_TLS) |
                         OPTION_BIT(OPT_TLS_COMMAND) | OPTION_BIT(OPT_ABSENT),
                     "end 'postern serve' and start it with what is to be another", f);
    if (err == 0)
        err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0 && add)
        err = only_fresh(&state, asked, f);
    struct change c = change_of(o, asked->texts, asked->count, absent_s);
    if (err == 0)
        err = change(&state, &c, out, f);
    if (err == 0)
        tell_named(asked, out);
    return err;
}

/* A mistake is told before anything is waited for, such as the lock of another serve.
 */
static int check_services(const char *const *texts, size_t count, struct fault *f)
{
    struct service_list list;
    int rc = service_list_parse(&list, texts, count, f);
    service_list_fini(&list);
    return rc == 0 || rc == POSTERN_ERR_NOMEM ? rc : POSTERN_ERR_USAGE;
}

/* It speaks to the serve that runs. */
static bool is_beside(const struct options *o)
{
    return o->values[OPT_RELOAD].given || o->values[OPT_ADD].given;
}

/* What its options and services say, as far as it can be known beforehand. */
static int check(const struct options *o, int64_t *absent_s, struct fault *f)
{
    const struct option_value *v = o->values;
    int rc = config_absent(absent_s, v[OPT_ABSENT].text, f);
    if (rc == 0 && v[OPT_VIA].given && !is_beside(o) &&
        (v[OPT_BROKER].given || v[OPT_AGENT].given))
        rc = config_contradiction(f);
    return rc != 0 || !o->args_of_file ? rc : check_services(o->args, o->arg_count, f);
}

struct serving {
    struct events *out;
    const struct options *o;
};

static void on_ready(void *ctx, const struct service_list *published, struct roster *r)
{
    serve_tell_ready(((struct serving *)ctx)->out, published, r);
}

static int store_file(const struct statedir *state, const struct options *o,
                      size_t services, int64_t absent_s, struct fault *f)
{
    struct change c = change_of(o, o->args, services, absent_s);
    struct before *b = calloc(1, sizeof(*b));
    int rc = b == NULL ? fault_lack(f, POSTERN_ERR_NOMEM) : store(state, &c, b, f);
    free(b);
    return rc;
}

/* The file again: its services, --tls and --absent, as --reload takes them. */
static int on_hangup(void *ctx, struct fault *f)
{
    const struct options *now = ((struct serving *)ctx)->o;
    const struct command *c = command_find("serve");
    struct statedir state;
    struct options o;
    int64_t absent_s = 0;
    int rc = options_parse(&o, c, 0, NULL, f);
    if (rc == 0)
        rc = config_read(&o, c, now->values[OPT_CONFIG].text, f);
    if (rc == 0)
        rc = check(&o, &absent_s, f);
    if (rc == 0)
        rc = statedir_open(&state, now->values[OPT_STATE].text, f);
    if (rc == 0)
        rc = store_file(&state, &o, now->args_of_file ? o.arg_count : 0, absent_s, f);
    options_fini(&o);
    return rc;
}

/* Who names services beside a serve that runs wants it to publish them. */
static void advise_reload(const struct serve_asked *asked, const char *option,
                          struct fault *f)
{
    struct statedir state;
    char stop[81];
    struct serve_beside *b = calloc(1, sizeof(*b));
    if (b != NULL && statedir_find(&state, option) == 0) {
        (void)snprintf(stop, sizeof(stop), "%.80s", f->advice);
        serve_beside_sort(b, &state, asked->texts, asked->count);
        serve_beside_advise(b, option, stop, f->advice, sizeof(f->advice));
    }
    free(b);
}

static int serve(const struct options *o, const struct serve_asked *asked,
                 int64_t absent_s, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct serving serving = {.out = out, .o = o};
    if (v[OPT_METRICS].given && scrape_check(v[OPT_METRICS].text, f) != 0)
        return POSTERN_ERR_USAGE;
    struct serve_config c = {
        .absent_s = absent_s,
        .state = v[OPT_STATE].text,
        .broker = v[OPT_BROKER].text,
        .was_invite = o->passed_over == LINK_INVITE,
        .via = v[OPT_VIA].text,
        .agent = v[OPT_AGENT].text,
        .metrics = v[OPT_METRICS].text,
        .name = v[OPT_NAME].text,
        .services = asked->texts,
        .service_count = asked->count,
        .tls = v[OPT_TLS].list,
        .tls_count = v[OPT_TLS].count,
        .tls_command = v[OPT_TLS_COMMAND].text,
        .paths = options_kinds(o),
        .jit_window_ms = (unsigned)v[OPT_JIT_WINDOW].number,
        .out = out,
        .on_ready = on_ready,
        .on_hangup = v[OPT_CONFIG].given ? on_hangup : NULL,
        .ctx = &serving,
    };
    out->lasting = true;
    int rc = serve_run(&c, f);
    if (rc == POSTERN_ERR_INUSE && asked->count > 0)
        advise_reload(asked, c.state, f);
    return rc;
}

/* `serve home 22`: a service that is a mere word was meant for the host's name. */
static void look_for_name(const char *word, struct fault *f)
{
    struct service s;
    struct fault why = *f, ignored = {0};
    char advice[160];
    if (strncmp(f->advice, "did you mean", 12) != 0 &&
        word[strcspn(word, "=:,/.@")] == '\0' && service_parse(&s, word, NULL) != 0 &&
        serve_check_name(word, &ignored) == 0) {
        (void)snprintf(advice, sizeof(advice), "for the host's name write --name %.63s",
                       word);
        (void)fault_set(f, why.code, advice, "%s", why.what);
    }
}

/* `serve LINK 22`. */
static bool is_link(const char *word)
{
    return strncasecmp(word, "postern:", 8) == 0;
}

int cmd_serve(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct serve_asked asked;
    int64_t absent_s;
    if (v[OPT_AGENT_FORGET].given)
        return cmd_serve_forget(o, out, f);
    int rc = check(o, &absent_s, f);
    if (rc == 0 && o->arg_count > 0 && is_link(o->args[0]))
        rc = fault_set(f, POSTERN_ERR_USAGE,
                       "write it as --broker LINK, and the services behind it",
                       "a link is no service");
    if (rc != 0)
        return rc;
    rc = serve_ask(&asked, o->args, o->arg_count, f);
    if (rc == 0)
        rc = check_services(asked.texts, asked.count, f);
    if (rc == POSTERN_ERR_USAGE && !v[OPT_NAME].given && o->arg_count > 1)
        look_for_name(o->args[0], f);
    if (rc == 0)
        rc = is_beside(o) ? reload(o, &asked, absent_s, out, f)
                          : serve(o, &asked, absent_s, out, f);
    serve_asked_free(&asked);
    return rc;
}

struct known {
    struct config_known config; /* first */
    const struct options *o;    /* of `check` */
    struct roster *roster;
    struct roster_settings settings;
};

/* Reads what is stored with it, as far as that is there. */
static int open_known(struct config_known *config, const struct options *file,
                      struct fault *f)
{
    struct known *k = (struct known *)config;
    struct statedir state;
    const char *dir = k->o->values[OPT_STATE].text;
    int rc = statedir_open_known(&state,
                                 dir != NULL ? dir : file->values[OPT_STATE].text, f);
    if (rc == 0 && statedir_has(state.path, "access.db"))
        rc = access_open(&config->access, state.path, f);
    if (rc == 0 && statedir_has(state.path, "host.db"))
        rc = roster_open(&k->roster, state.path, f);
    if (rc == 0 && k->roster != NULL &&
        roster_settings_get(k->roster, &k->settings) != 0)
        k->settings = (struct roster_settings){0};
    config->services = k->settings.services;
    return rc;
}

/* What `serve` needs, named or known from before. */
static int check_whole(const struct known *k, const struct options *file,
                       struct fault *f)
{
    const struct option_value *v = file->values;
    char agent[LINK_TEXT_LEN];
    bool to_agent = k->roster != NULL && !v[OPT_AGENT].given &&
                    lan_agent_find(k->roster, NULL, agent) == 0;
    if (!v[OPT_BROKER].given && !v[OPT_VIA].given && !to_agent &&
        k->settings.broker[0] == '\0' && k->o->passed_over != LINK_BROKER &&
        k->o->passed_over != LINK_AGENT)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "add a line 'broker LINK' or 'broker @FILE', or set "
                         "POSTERN_LINK, here too",
                         "%.120s: no broker is given and none was used here before",
                         k->o->args[0]);
    if (file->arg_count == 0 && k->settings.services[0] == '\0' && !v[OPT_AGENT].given)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "add a line for each, as in: service web=8080",
                         "%.120s: no service is named and none was published here "
                         "before",
                         k->o->args[0]);
    return 0;
}

/* How many services it names, or an error. */
static int check_file(struct options *file, const struct options *o, struct fault *f)
{
    struct known *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    k->o = o;
    k->config.open = open_known;
    int count = config_check(file, command_find("serve"), o->args[0], &k->config, f);
    int rc = count < 0 ? count : check_whole(k, file, f);
    access_close(k->config.access);
    roster_close(k->roster);
    free(k);
    return rc != 0 ? rc : count;
}

/* They are stored together. */
static int check_length(const struct options *file, struct fault *f)
{
    struct roster_settings *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int rc =
        join_services(file->args, file->arg_count, s->services, sizeof(s->services), f);
    free(s);
    return rc;
}

int cmd_check(const struct options *o, struct events *out, struct fault *f)
{
    struct options file;
    struct event e;
    int64_t absent_s;
    if (is_link(o->args[0])) {
        memset((char *)(uintptr_t)o->args[0], '*', strlen(o->args[0])); /* as argv is */
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "name the file of options, which may have a line 'broker LINK'",
            "a link is no file of options");
    }
    int rc = options_parse(&file, command_find("serve"), 0, NULL, f), count = 0;
    if (rc == 0)
        count = rc = check_file(&file, o, f);
    if (rc >= 0)
        rc = check(&file, &absent_s, f);
    if (rc == 0)
        rc = check_length(&file, f);
    event_begin(&e, "checked");
    event_text(&e, "file", o->args[0]);
    event_int(&e, "services", count);
    options_fini(&file);
    if (rc == 0)
        events_print(out, &e);
    return rc;
}

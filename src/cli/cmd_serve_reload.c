/* `postern serve --reload`: new services into the roster, and a word to the daemon. */
#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>

#include "cli/daemon.h"
#include "cli/published.h"
#include "host/certs.h"
#include "host/lan.h"
#include "host/roster.h"
#include "host/via.h"
#include "io/lack.h"
#include "io/statedir.h"

enum { RELOAD_TIMEOUT_MS = 10000 };

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

int cmd_serve_services(const struct statedir *state, const char *const *texts,
                       size_t count, bool add, struct events *out, struct fault *f)
{
    LocalRequest req = LocalRequest_init_zero;
    LocalReply last = LocalReply_init_zero;
    int err = count > 0 ? store_settings(state, texts, count, add, 0, f) : 0;
    if (err != 0)
        return err;
    req.op = LOCAL_RELOAD;
    err = daemon_ask(state, "serve", &req, RELOAD_TIMEOUT_MS, out, &last, f);
    if (err == POSTERN_ERR_NOTFOUND && f->what[0] == '\0')
        return fault_set(f, err, "start it with 'postern serve'",
                         "no 'postern serve' runs with %.200s", state->path);
    return err;
}

int cmd_serve_reload(const struct options *o, int64_t absent_s, struct events *out,
                     struct fault *f)
{
    struct statedir state;
    int err = options_only(
        o, OPT_RELOAD,
        OPTION_BIT(OPT_TLS) | OPTION_BIT(OPT_TLS_COMMAND) | OPTION_BIT(OPT_ABSENT),
        "end 'postern serve' and start it with what is to be another", f);
    if (err == 0)
        err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0 && (o->arg_count > 0 || absent_s != 0))
        err = store_settings(&state, o->args, o->arg_count, false, absent_s, f);
    if (err == 0 && (o->values[OPT_TLS].given || o->values[OPT_TLS_COMMAND].given))
        err = store_tls(&state, o, f);
    return err != 0 ? err : cmd_serve_services(&state, NULL, 0, false, out, f);
}

/*
 * `postern status`: for programs every event of the running daemons, for people a line
 * for each session, and the reasons behind it where they are asked for. What is healthy
 * is decided here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/cmd.h"
#include "cli/daemon.h"
#include "core/guess.h"

enum { HEARD_S = 60 }; /* an idle client may be silent for so long, and live */

struct view {
    struct events *out;
    const char *role, *why; /* NULL: no reasons; else of this host or device */
    bool told, folded, found, reasoned;
    bool has_path;      /* the host or device that is spoken of */
    struct guess meant; /* of those that are here, where `why` is none of them */
    struct fault ill;   /* the first thing that is not as it should be */
};

static void field(const char *json, const char *name, char *buf, size_t cap)
{
    struct json_value v;
    buf[0] = '\0';
    if (json_find(&v, json, name) == 0 && v.type != JSON_NULL)
        json_value_words(&v, buf, cap);
}

/* The first one counts. */
static void note_ill(struct view *w, const char *what, const char *why,
                     const char *cure)
{
    if (w->ill.code == 0)
        (void)fault_set(&w->ill, POSTERN_ERR_UNREACHABLE,
                        cure[0] != '\0' ? cure : "'postern doctor' looks for the cause",
                        "%.100s%s%.180s", what, why[0] != '\0' ? ": " : "", why);
}

static void judge(struct view *w, const char *event, const char *json)
{
    char state[16], name[64], reason[200], cure[200], what[160];
    field(json, "state", state, sizeof(state));
    field(json, "reason", reason, sizeof(reason));
    field(json, "do", cure, sizeof(cure));
    field(json, "name", name, sizeof(name));
    if (strcmp(event, "broker") == 0 || strcmp(event, "agent") == 0) {
        (void)snprintf(what, sizeof(what), "%s is without its %s", w->role, event);
        if (strcmp(state, "online") != 0)
            note_ill(w, what, reason, cure);
    } else if (strcmp(event, "host") == 0 && strcmp(state, "online") != 0) {
        (void)snprintf(what, sizeof(what), "there is no session to %s", name);
        note_ill(w, what, reason, cure);
    }
}

/* One that was killed has no live path, whatever the last one was. */
static bool tell_silent(struct view *w, const char *json)
{
    char silent[24], name[64], kind[32], streams[24];
    field(json, "silent_s", silent, sizeof(silent));
    field(json, "peer", name, sizeof(name));
    field(json, "kind", kind, sizeof(kind));
    field(json, "streams", streams, sizeof(streams));
    long long s = strtoll(silent, NULL, 10);
    if (s < HEARD_S)
        return false;
    (void)fprintf(w->out->out, "%s: last heard %lld %s ago%s%s, %s stream(s)\n", name,
                  s < 7200 ? s / 60 : s / 3600, s < 7200 ? "min" : "h",
                  kind[0] != '\0' ? ", then by " : "", kind, streams);
    return true;
}

/* A path that there is not is left out for people. */
static const char *without_path(const char *json, char buf[static EVENT_TEXT_LEN])
{
    static const char none[] = ",\"kind\":\"none\"";
    const char *at = strstr(json, none);
    if (at == NULL)
        return json;
    (void)snprintf(buf, EVENT_TEXT_LEN, "%.*s%s", (int)(at - json), json,
                   at + strlen(none));
    return buf;
}

static void tell_person(struct view *w, const char *event, const char *json)
{
    char peer[64], without[EVENT_TEXT_LEN];
    field(json, "peer", peer, sizeof(peer));
    if (peer[0] == '\0')
        field(json, "name", peer, sizeof(peer));
    bool asked = w->why != NULL && strcasecmp(peer, w->why) == 0;
    bool reasons = strcmp(event, "path") == 0 || strcmp(event, "rejected") == 0;
    bool broker = strcmp(event, "broker") == 0 || strcmp(event, "agent") == 0;
    if (!w->told)
        (void)fprintf(w->out->out, "%s runs\n", w->role);
    w->told = true;
    if (!reasons)
        w->has_path = strcmp(event, "session") == 0;
    else if (strcmp(event, "path") == 0)
        w->has_path = true;
    w->folded = w->folded || (reasons && !asked && w->has_path);
    w->found = w->found || asked;
    w->reasoned = w->reasoned || (reasons && asked);
    if ((reasons && !asked) || (w->why != NULL && !asked && !broker))
        return;
    if (strcmp(event, "session") != 0 || !tell_silent(w, json))
        events_print_json(
            w->out, strcmp(event, "host") == 0 ? without_path(json, without) : json);
}

static void on_reply(void *ctx, const char *json)
{
    struct view *w = ctx;
    char event[32], peer[64];
    field(json, "event", event, sizeof(event));
    judge(w, event, json);
    field(json, strcmp(event, "host") == 0 ? "name" : "peer", peer, sizeof(peer));
    guess_offer(&w->meant, peer);
    if (!w->out->json)
        tell_person(w, event, json);
    else if (w->why == NULL || peer[0] == '\0' || strcasecmp(peer, w->why) == 0)
        events_print_json(w->out, json);
    w->found = w->found || (w->why != NULL && strcasecmp(peer, w->why) == 0);
}

static int show_role(struct view *w, const struct statedir *state, struct fault *f)
{
    struct event e;
    w->told = false;
    int runs =
        daemon_ask_each(state, w->role, LOCAL_STATUS, LOCAL_ARG_NOW, on_reply, w, f);
    if (runs < 0)
        return runs;
    if (w->out->json) {
        event_begin(&e, "daemon");
        event_text(&e, "role", w->role);
        event_bool(&e, "running", runs);
        events_print(w->out, &e);
    } else if (runs && !w->told) {
        (void)fprintf(w->out->out, "%s runs\n", w->role);
    }
    return runs;
}

static int conclude(const struct options *o, struct view *w, bool any,
                    const struct statedir *state, struct fault *f)
{
    char advice[160];
    struct statedir_holder h;
    if (!any && !w->out->json)
        (void)fprintf(w->out->out,
                      "neither 'postern serve' nor 'postern up' runs with %s (others "
                      "are not asked)%s; 'postern ls' shows what is stored\n",
                      state->path,
                      statedir_held(state, "broker", &h) ? ", but 'postern broker' does"
                                                         : "");
    guess_advice(&w->meant, advice, sizeof(advice), "see 'postern status'");
    if (any && w->why != NULL && !w->found)
        return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                         "there is no host and no device '%.63s' here now", w->why);
    if (w->folded && w->why == NULL && !w->out->json)
        (void)fprintf(w->out->out,
                      "Why by this path and not by another: postern status "
                      "--why HOST\n");
    if (w->found && !w->reasoned && !w->out->json) /* a device, at its host */
        (void)fprintf(w->out->out,
                      "Why not by another path is known there: postern ping --why HOST "
                      "on %.63s\n",
                      w->why);
    if (!o->values[OPT_CHECK].given)
        return 0;
    if (!any)
        return fault_set(f, POSTERN_ERR_CLOSED, "start one of them",
                         "neither 'postern serve' nor 'postern up' runs");
    if (w->ill.code != 0)
        *f = w->ill;
    return w->ill.code;
}

int cmd_status(const struct options *o, struct events *out, struct fault *f)
{
    static const char *const roles[] = {"serve", "up"};
    const struct option_value *why = &o->values[OPT_WHY];
    struct view w = {.out = out, .why = why->given ? why->text : NULL};
    struct statedir state;
    bool any = false;
    guess_begin(&w.meant, w.why != NULL ? w.why : "");
    int err = statedir_open_known(&state, o->values[OPT_STATE].text, f);
    for (size_t i = 0; err == 0 && i < 2; i++) {
        w.role = roles[i];
        int runs = show_role(&w, &state, f);
        if (runs < 0)
            return runs;
        any = any || runs;
    }
    return err != 0 ? err : conclude(o, &w, any, &state, f);
}

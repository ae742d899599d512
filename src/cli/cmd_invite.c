/*
 * `postern invite`: a fresh secret into the roster, and the link that carries it. The
 * serve that runs here reads the roster and needs no message.
 */
#include "cli/cmd.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/json.h"
#include "core/proto.h"
#include "host/roster.h"
#include "io/local.h"
#include "io/qr.h"
#include "io/statedir.h"

enum { INVITE_DEFAULT_S = 3600, REPLY_MS = 5000 };

/* ----------------------------------------------------------- what is published now
 */

static void words_of(const char *json, const char *member, char *buf, size_t cap)
{
    struct json_value v;
    buf[0] = '\0';
    if (json_find(&v, json, member) == 0 && v.type != JSON_NULL)
        json_value_words(&v, buf, cap);
}

/* A `service` event as far as it is needed: its name, port and instances. */
static void take_service(struct service_list *l, const char *json)
{
    struct service s = {.target_count = 0};
    char word[16], instances[SERVICE_TARGET_MAX * SERVICE_NAME_LEN];
    words_of(json, "name", s.name, sizeof(s.name));
    words_of(json, "port", word, sizeof(word));
    s.port = (uint16_t)strtoul(word, NULL, 10);
    words_of(json, "protocol", word, sizeof(word));
    s.udp = strcmp(word, "udp") == 0;
    words_of(json, "instances", instances, sizeof(instances));
    char *rest = instances, *name;
    while ((name = strsep(&rest, ", ")) != NULL && s.target_count < SERVICE_TARGET_MAX)
        if (name[0] != '\0')
            (void)snprintf(s.targets[s.target_count++].name, SERVICE_NAME_LEN, "%.63s",
                           name);
    if (s.name[0] != '\0' && service_list_add(l, &s, NULL) != 0)
        return; /* more than a host publishes: it is not ours to say */
}

/*
 * With what programs and other hosts publish through the running serve; false when none
 * runs.
 */
static bool ask_host(struct service_list *l, const struct statedir *state)
{
    char path[STATEDIR_SOCKET_LEN];
    LocalRequest req = {.op = LOCAL_LIST};
    LocalReply r = LocalReply_init_zero;
    int fd;
    statedir_socket(state, "serve", path);
    if (local_dial(path, &fd) != 0)
        return false;
    int err = local_send(fd, &req, -1);
    while (err == 0 && (err = local_recv(fd, &r, REPLY_MS)) == 0 && r.code == 0) {
        if (r.json[0] != '\0')
            take_service(l, r.json);
        if (r.last)
            break;
    }
    (void)close(fd);
    return err == 0 && r.code == 0;
}

/* What this host publishes, and through which broker. */
static int read_settings(struct roster *r, struct roster_settings *s,
                         struct service_list *services, struct link *broker,
                         struct fault *f)
{
    int err = roster_settings_get(r, s);
    if (err == POSTERN_ERR_NOTFOUND)
        return fault_set(f, err, "run 'postern serve --broker LINK SERVICE...' first",
                         "nothing is published here yet");
    if (err != 0)
        return fault_set(f, err, "check the state directory and try again",
                         "this host's settings cannot be read: %s",
                         postern_strerror(err));
    if (s->broker[0] == '\0')
        return fault_set(f, POSTERN_ERR_NOTFOUND, "run 'postern invite' at the agent",
                         "this host hands its services to an agent");
    err = link_parse(broker, s->broker, f);
    return err != 0 ? err : service_list_parse_lines(services, s->services, f);
}

/* Copies the list without spaces; every item must be published. */
static int check_services(const char *list, const struct service_list *published,
                          char allowed[ROSTER_ALLOWED_LEN], struct fault *f)
{
    size_t used = 0;
    allowed[0] = '\0';
    while (list != NULL && *list != '\0') {
        char name[SERVICE_NAME_LEN];
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,");
        if (len == 0)
            break;
        (void)snprintf(name, sizeof(name), "%.*s", (int)len, list);
        const struct service *s =
            len < sizeof(name) ? service_find(published, name) : NULL;
        if (s == NULL)
            return fault_set(f, POSTERN_ERR_NOTFOUND,
                             "use a name or port that 'postern serve' was given",
                             "this host publishes no service '%s'", name);
        const char *instance = name + strcspn(name, "/"); /* with its slash */
        if (used + strlen(s->name) + strlen(instance) + 2 > ROSTER_ALLOWED_LEN)
            return fault_set(f, POSTERN_ERR_LIMIT, "name fewer",
                             "the list of services is too long");
        used += (size_t)snprintf(allowed + used, ROSTER_ALLOWED_LEN - used, "%s%s%s",
                                 used > 0 ? "," : "", s->name, instance);
        list += len;
    }
    return 0;
}

static void print_people(struct events *out, const char *text,
                         const struct roster_invite *in, bool draw)
{
    char until[32] = "?";
    struct tm tm;
    time_t at = (time_t)in->expires_s;
    if (localtime_r(&at, &tm) != NULL)
        (void)strftime(until, sizeof(until), "%F %T", &tm);
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
    event_begin(&e, "invite");
    event_text(&e, "link", text);
    event_int(&e, "expires_s", in->expires_s);
    event_int(&e, "uses", in->uses_left);
    event_text(&e, "services", in->allowed[0] ? in->allowed : NULL);
    events_print(out, &e);
    if (!out->json)
        print_people(out, text, in, qr || isatty(fileno(out->out)));
    sodium_memzero(text, sizeof(text));
}

static int invite(struct roster *r, const struct statedir *state,
                  const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct roster_settings *settings = calloc(1, sizeof(*settings));
    struct service_list services = {0}, live = {0};
    struct roster_invite in = {.uses_left = 1};
    struct link l;
    struct keypair own;
    int64_t now_s = statedir_now_s();
    int err = settings == NULL ? POSTERN_ERR_NOMEM
                               : read_settings(r, settings, &services, &l, f);
    if (err == 0)
        err = check_services(v[OPT_SERVICES].text,
                             ask_host(&live, state) ? &live : &services, in.allowed, f);
    if (err == 0)
        err = statedir_key(state, &own, f);
    if (err == 0) {
        if (v[OPT_USES].given)
            in.uses_left = (int32_t)v[OPT_USES].number;
        in.expires_s =
            now_s + (v[OPT_EXPIRES].given ? v[OPT_EXPIRES].number : INVITE_DEFAULT_S);
        randombytes_buf(in.secret, sizeof(in.secret));
        err = roster_invite_new(r, &in, now_s, f);
    }
    if (err == 0) {
        l.type = LINK_INVITE;
        memcpy(l.host_key, own.pub, KEY_LEN);
        memcpy(l.secret, in.secret, LINK_SECRET_LEN);
        print_invite(out, &l, &in, v[OPT_QR].given);
    }
    sodium_memzero(&own, sizeof(own));
    service_list_fini(&services);
    service_list_fini(&live);
    free(settings);
    return err;
}

int cmd_invite(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct roster *r = NULL;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = roster_open(&r, state.path, f);
    if (err == 0)
        err = invite(r, &state, o, out, f);
    roster_close(r);
    return err;
}

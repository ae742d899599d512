/*
 * `postern access`: first access.db, which decides about what comes, then the running
 * serve, which ends what is and tells the broker.
 */
#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/daemon.h"
#include "cli/password.h"
#include "cli/published.h"
#include "host/access.h"
#include "io/audit.h"
#include "io/lack.h"
#include "io/qr.h"
#include "io/statedir.h"

struct run {
    const struct options *o;
    struct events *out;
    struct fault *f;
    struct statedir state;
    struct access *access;
    const char *name;                /* the second word */
    char portal[LINK_HOST_LEN + 24]; /* its address, once it is known */
};

/* ------------------------------------------------------------------------ printing */

static void yes_or_nothing(struct run *r, struct event *e, const char *name, bool v,
                           const char *words)
{
    if (r->out->json)
        event_bool(e, name, v);
    else
        event_text(e, name, v ? words : NULL);
}

/* As the broker says it (portal_url): it is found where the broker is. */
static void learn_portal(struct run *r, const struct link *broker)
{
    bool v6 = strchr(broker->host, ':') != NULL;
    char port[8] = "";
    if (broker->port != 443)
        (void)snprintf(port, sizeof(port), ":%u", broker->port);
    (void)snprintf(r->portal, sizeof(r->portal), "https://%s%s%s%s/", v6 ? "[" : "",
                   broker->host, v6 ? "]" : "", port);
}

static void print_account(struct run *r, const struct access_account *a,
                          const char *uri)
{
    struct event e;
    char until[AUDIT_TIME_LEN];
    event_begin(&e, "account");
    event_text(&e, "name", a->name);
    event_text(&e, "services", a->services);
    yes_or_nothing(r, &e, "code", a->code, "with one-time codes");
    yes_or_nothing(r, &e, "owner", a->owner, "owner");
    audit_time(a->expires_s, until);
    bool over = a->expires_s != 0 && a->expires_s <= statedir_now_s();
    yes_or_nothing(r, &e, "expired", over, until);
    event_text(&e, "expires",
               a->expires_s != 0 && (r->out->json || !over) ? until : NULL);
    if (uri != NULL)
        event_text(&e, "uri", uri);
    if (r->portal[0] != '\0')
        event_text(&e, "portal", r->portal);
    events_print(r->out, &e);
    sodium_memzero(&e, sizeof(e));
}

/* What an account that was just made or changed means, for people. */
static void explain(struct run *r, const struct access_account *a, const char *uri,
                    bool fresh)
{
    FILE *out = r->out->out;
    if (r->out->json)
        return;
    bool draw = r->o->values[OPT_QR].given || isatty(fileno(out)) == 1;
    if (uri != NULL && draw && qr_print(out, uri) == 0)
        (void)fprintf(out,
                      "Scan it with an authenticator app; it is not shown again.\n");
    if (a->owner)
        (void)fprintf(out,
                      "An owner sees devices, makes invites and revokes through the "
                      "portal. Whoever runs the broker\nsees what is typed there, and "
                      "could then act as the owner too.\n");
    if (r->portal[0] != '\0' && fresh)
        (void)fprintf(
            out,
            "Next: %s logs in with a browser at %s while 'postern serve' runs "
            "here.\nWhere the broker has no certificate of a public authority the "
            "browser "
            "warns at first: its operator\nsees at its start with what to compare it, "
            "and "
            "'postern doctor' says which it has.\n",
            a->name, r->portal);
    (void)fflush(out);
}

/* ----------------------------------------------------------------- parts of a verb */

static void audit(struct run *r, const char *what, const char *object,
                  const char *detail)
{
    struct audit_entry e = {.time_s = statedir_now_s()};
    (void)snprintf(e.what, sizeof(e.what), "%s", what);
    (void)snprintf(e.object, sizeof(e.object), "%.100s", object);
    (void)snprintf(e.detail, sizeof(e.detail), "%.120s", detail);
    audit_once(r->state.path, &e);
}

/* A serve that does not run needs no word. */
static int tell_serve(struct run *r)
{
    int err = daemon_ask(&r->state, "serve", LOCAL_RELOAD, NULL, NULL, NULL, r->f);
    return err < 0 ? daemon_stored(err, "it is stored", r->f) : 0;
}

/* What is published, by programs too; `host` gets what people call this host. */
static int read_published(struct run *r, struct service_list *published,
                          char host[ROSTER_NAME_LEN])
{
    struct roster *roster = NULL;
    struct roster_settings *settings = calloc(1, sizeof(*settings));
    struct link broker;
    int err = settings == NULL ? fault_lack(r->f, POSTERN_ERR_NOMEM)
                               : daemon_open_roster(&roster, &r->state, r->f);
    if (err == 0)
        err = published_read(roster, settings, published, &broker, r->f);
    if (err == 0) {
        (void)snprintf(host, ROSTER_NAME_LEN, "%s", settings->name);
        learn_portal(r, &broker);
        published_add_running(&r->state, published);
    }
    roster_close(roster);
    free(settings);
    return err;
}

/* `list` as names, or "all". */
static int choose_services(struct run *r, const struct service_list *published,
                           const char *list, char services[ROSTER_ALLOWED_LEN])
{
    if (strcmp(list, ACCESS_ALL) == 0) {
        (void)snprintf(services, ROSTER_ALLOWED_LEN, ACCESS_ALL);
        return 0;
    }
    int err = service_choose(published, list, services, ROSTER_ALLOWED_LEN, r->f);
    if (err != 0 || services[0] != '\0')
        return err;
    return fault_set(r->f, POSTERN_ERR_USAGE, "name some, comma-separated, or 'all'",
                     "--services names no service");
}

static int take_password(struct run *r, struct access_account *a)
{
    char password[ACCESS_PASSWORD_MAX + 1];
    int err = password_read(password, sizeof(password), ACCESS_PASSWORD_MIN,
                            r->o->values[OPT_PASSWORD_FILE].text, r->f);
    if (err == 0 && access_hash(a->hash, password) != 0)
        err = fault_lack(r->f, POSTERN_ERR_NOMEM);
    sodium_memzero(password, sizeof(password));
    return err;
}

/* The options that `add` and `set` share. `uri` is filled when a secret was made. */
static int take_options(struct run *r, struct access_account *a,
                        char uri[static TOTP_URI_LEN])
{
    const struct option_value *v = r->o->values;
    char host[ROSTER_NAME_LEN];
    struct service_list published = {0};
    uri[0] = '\0';
    int err = read_published(r, &published, host);
    if (err == 0 && v[OPT_ACCOUNT_SERVICES].given)
        err = choose_services(r, &published, v[OPT_ACCOUNT_SERVICES].text, a->services);
    service_list_fini(&published);
    if (err != 0)
        return err;
    if (v[OPT_ACCOUNT_EXPIRES].given)
        a->expires_s = statedir_now_s() + v[OPT_ACCOUNT_EXPIRES].number;
    a->owner = a->owner || v[OPT_OWNER].given;
    if (!v[OPT_CODE].given)
        return 0;
    a->code = true;
    randombytes_buf(a->totp, sizeof(a->totp));
    err = totp_uri(uri, TOTP_URI_LEN, a->totp, sizeof(a->totp), a->name, host);
    return err == 0 ? 0
                    : fault_set(r->f, err, "give the host a shorter name",
                                "the code's link is too long");
}

/* Stores it, logs it, shows it, and tells the serve that runs. */
static int store(struct run *r, const struct access_account *a, bool change,
                 const char *uri)
{
    int err = access_put(r->access, a, change, r->f);
    if (err != 0)
        return err;
    audit(r, change ? "account-changed" : "account-added", a->name, a->services);
    print_account(r, a, uri[0] != '\0' ? uri : NULL);
    explain(r, a, uri[0] != '\0' ? uri : NULL, !change);
    return tell_serve(r);
}

/* --------------------------------------------------------------------------- verbs */

static int add(struct run *r)
{
    struct access_account a = {0};
    char uri[TOTP_URI_LEN] = "";
    if (!r->o->values[OPT_ACCOUNT_SERVICES].given)
        return fault_set(r->f, POSTERN_ERR_USAGE,
                         "add --services web,cam or --services all",
                         "no services were named for '%.60s'", r->name);
    if (strlen(r->name) >= sizeof(a.name))
        return fault_set(r->f, POSTERN_ERR_USAGE, "use at most 63 characters",
                         "the account's name is too long");
    (void)snprintf(a.name, sizeof(a.name), "%s", r->name);
    int err =
        access_check_new(r->access, a.name, r->f); /* before a password is typed */
    if (err == 0)
        err = take_options(r, &a, uri);
    if (err == 0)
        err = take_password(r, &a);
    if (err == 0)
        err = store(r, &a, false, uri);
    sodium_memzero(&a, sizeof(a));
    sodium_memzero(uri, sizeof(uri));
    return err;
}

static int passwd(struct run *r)
{
    struct access_account a;
    int err = access_find(r->access, r->name, &a, r->f);
    if (err == 0)
        err = take_password(r, &a);
    if (err == 0)
        err = store(r, &a, true, "");
    sodium_memzero(&a, sizeof(a));
    return err;
}

static int set(struct run *r)
{
    const struct option_value *v = r->o->values;
    struct access_account a;
    char uri[TOTP_URI_LEN] = "";
    if (!v[OPT_ACCOUNT_SERVICES].given && !v[OPT_ACCOUNT_EXPIRES].given &&
        !v[OPT_CODE].given && !v[OPT_OWNER].given)
        return fault_set(r->f, POSTERN_ERR_USAGE,
                         "add --services, --expires, --code or --owner",
                         "nothing to change was given");
    int err = access_find(r->access, r->name, &a, r->f);
    if (err == 0)
        err = take_options(r, &a, uri);
    if (err == 0)
        err = store(r, &a, true, uri);
    sodium_memzero(&a, sizeof(a));
    sodium_memzero(uri, sizeof(uri));
    return err;
}

static int remove_account(struct run *r)
{
    struct event e;
    int err = access_remove(r->access, r->name, r->f);
    if (err != 0)
        return err;
    audit(r, "account-removed", r->name, "");
    event_begin(&e, "removed");
    event_text(&e, "name", r->name);
    events_print(r->out, &e);
    return tell_serve(r);
}

/* A service that is published no more can be made private all the same. */
static int find_service(struct run *r, bool open, char name[SERVICE_NAME_LEN])
{
    struct service_list published = {0};
    char host[ROSTER_NAME_LEN];
    int err = read_published(r, &published, host);
    const struct service *s = err == 0 ? service_find(&published, r->name) : NULL;
    (void)snprintf(name, SERVICE_NAME_LEN, "%s", s != NULL ? s->name : r->name);
    if (err == 0 && open && s == NULL)
        err = service_unknown(&published, r->name, r->f);
    if (err == 0 && open && strchr(r->name, '/') != NULL)
        err = fault_set(r->f, POSTERN_ERR_USAGE,
                        "publish it as a service of its own, and make that public",
                        "one instance alone is not made public: '%.60s' is all of its "
                        "service's",
                        s->name);
    if (err == 0 && open && s->udp)
        err = fault_set(r->f, POSTERN_ERR_INVALID, "make an account for it instead",
                        "'%s' is UDP, and only TLS names a service", s->name);
    service_list_fini(&published);
    if (err == 0 || open)
        return err;
    *r->f = (struct fault){0};
    return 0;
}

static int set_public(struct run *r, bool open)
{
    char name[SERVICE_NAME_LEN];
    struct event e;
    bool changed = false;
    int err = find_service(r, open, name);
    if (err == 0)
        err = access_set_public(r->access, name, open, &changed, r->f);
    if (err == 0 && !open && !changed)
        err = fault_set(r->f, POSTERN_ERR_NOTFOUND,
                        "'postern access' lists those that are",
                        "no service '%.60s' is public", name);
    if (err != 0)
        return err;
    if (changed)
        audit(r, open ? "public" : "private", name, "");
    event_begin(&e, open ? "public" : "private");
    event_text(&e, "service", name);
    events_print(r->out, &e);
    return tell_serve(r);
}

static int make_public(struct run *r)
{
    return set_public(r, true);
}

static int make_private(struct run *r)
{
    return set_public(r, false);
}

static int list(struct run *r)
{
    struct access_account *accounts = calloc(ACCESS_ACCOUNTS_MAX, sizeof(*accounts));
    char(*publics)[SERVICE_NAME_LEN] = calloc(SERVICE_MAX, sizeof(*publics));
    int n = POSTERN_ERR_NOMEM, p = 0;
    if (accounts != NULL && publics != NULL) {
        n = access_accounts(r->access, accounts, ACCESS_ACCOUNTS_MAX);
        p = access_publics(r->access, publics, SERVICE_MAX);
    }
    for (int i = 0; i < n && i < ACCESS_ACCOUNTS_MAX; i++)
        print_account(r, &accounts[i], NULL);
    for (int i = 0; i < p && i < SERVICE_MAX; i++) {
        struct event e;
        event_begin(&e, "public");
        event_text(&e, "service", publics[i]);
        events_print(r->out, &e);
    }
    if (n == 0 && p == 0 && !r->out->json)
        (void)fprintf(
            r->out->out,
            "Nobody may come in through the portal yet: %s'postern access add "
            "NAME --services LIST' makes an account.\n",
            statedir_has(r->state.path, "host.db")
                ? ""
                : "first run 'postern serve --broker LINK SERVICE...', then ");
    if (accounts != NULL)
        sodium_memzero(accounts, ACCESS_ACCOUNTS_MAX * sizeof(*accounts));
    free(accounts);
    free(publics);
    int err = n < 0 ? n : p < 0 ? p : 0;
    return access_fault(r->access, err, r->f);
}

struct verb {
    const char *word;
    const char *object; /* what its second word is; NULL: it has none */
    option_set options; /* of those that the command has */
    int (*run)(struct run *r);
};

#define MAKING                                                                         \
    (OPTION_BIT(OPT_ACCOUNT_SERVICES) | OPTION_BIT(OPT_ACCOUNT_EXPIRES) |              \
     OPTION_BIT(OPT_CODE) | OPTION_BIT(OPT_OWNER) | OPTION_BIT(OPT_QR))

static const struct verb verbs[] = {
    {"ls", NULL, 0, list},
    {"add", "account", MAKING | OPTION_BIT(OPT_PASSWORD_FILE), add},
    {"passwd", "account", OPTION_BIT(OPT_PASSWORD_FILE), passwd},
    {"set", "account", MAKING, set},
    {"remove", "account", 0, remove_account},
    {"public", "service", 0, make_public},
    {"private", "service", 0, make_private},
};

static int check_line(const struct verb *v, const struct options *o, struct fault *f)
{
    static const struct {
        enum option_id id;
        const char *name;
    } own[] = {{OPT_ACCOUNT_SERVICES, "services"},
               {OPT_ACCOUNT_EXPIRES, "expires"},
               {OPT_CODE, "code"},
               {OPT_OWNER, "owner"},
               {OPT_QR, "qr"},
               {OPT_PASSWORD_FILE, "password-file"}};
    if ((v->object != NULL) != (o->arg_count == 2))
        return v->object != NULL
                   ? fault_set(f, POSTERN_ERR_USAGE, "name it behind the word",
                               "'postern access %s' needs the %s", v->word, v->object)
                   : fault_set(f, POSTERN_ERR_USAGE, "see 'postern access --help'",
                               "'postern access %s' takes no name", v->word);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (o->values[own[i].id].given && (v->options & OPTION_BIT(own[i].id)) == 0)
            return fault_set(f, POSTERN_ERR_USAGE, "see 'postern access --help'",
                             "'postern access %s' takes no --%s", v->word, own[i].name);
    return 0;
}

int cmd_access(const struct options *o, struct events *out, struct fault *f)
{
    const char *word = o->arg_count > 0 ? o->args[0] : "ls";
    const struct verb *v = NULL;
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verbs[i].word, word) == 0)
            v = &verbs[i];
    if (v == NULL)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "say add, passwd, set, remove, public, private or ls",
                         "'postern access' cannot '%.60s'", word);
    struct run r = {.o = o, .out = out, .f = f};
    r.name = o->arg_count > 1 ? o->args[1] : "";
    int err = check_line(v, o, f);
    if (err == 0)
        err = statedir_open(&r.state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = daemon_open_access(&r.access, &r.state, f);
    if (err == 0)
        err = v->run(&r);
    access_close(r.access);
    return err;
}

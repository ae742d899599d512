/*
 * `postern complete -- WORD...`, which shells ask on Tab: what the last WORD may
 * become, a line each, and behind a tab what it is. From the tables of commands and
 * options, and from what lies in the state directory: hosts, services, devices,
 * accounts. Makes nothing, warns of nothing and asks nobody; what cannot be read is not
 * offered. A line
 * ":files", ":dirs" or ":commands" leaves it to the shell.
 */
#include "cli/complete.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/options.h"
#include "client/book.h"
#include "core/kinds.h"
#include "host/access.h"
#include "host/roster.h"
#include "io/log.h"
#include "io/statedir.h"

struct line {
    const char *const *words; /* all behind `complete --` */
    size_t count;
    const char *last;       /* what of the last word is compared */
    int kept;               /* bytes of the last word before that, which stay */
    struct statedir *state; /* NULL: there is none */
    FILE *out;
};

static void offer(const struct line *l, const char *name, const char *what)
{
    if (strncasecmp(name, l->last, strlen(l->last)) != 0)
        return;
    (void)fprintf(l->out, "%.*s%s\t%s\n", l->kept, l->words[l->count - 1], name, what);
}

/* From here on only what stands behind the last `at` of the word is compared. */
static void cut_at(struct line *l, char at)
{
    const char *word = l->words[l->count - 1], *last = strrchr(word, at);
    if (last == NULL || last < l->last)
        return;
    l->last = last + 1;
    l->kept = (int)(l->last - word);
}

static void offer_commands(const struct line *l)
{
    for (const struct command *c = commands; c->name != NULL; c++)
        offer(l, c->name, c->summary);
}

static void offer_options(const struct line *l, const struct command *c)
{
    for (size_t id = 0; id < OPTION_COUNT; id++) {
        const struct option_row *row = option_of(c, id);
        char name[48], what[160];
        if (row == NULL)
            continue;
        (void)snprintf(name, sizeof(name), "--%s", row->name);
        (void)snprintf(what, sizeof(what), "%.*s", (int)strcspn(row->help, "\n"),
                       row->help);
        offer(l, name, what);
    }
}

static void offer_kinds(const struct line *l)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        offer(l, path_kind_name((enum path_kind)k), "path kind");
}

static void each_host(const struct line *l,
                      void (*each)(const struct line *l, struct book *b,
                                   const struct book_host *h, const char *arg),
                      const char *arg)
{
    struct book *b = NULL;
    struct fault f;
    if (l->state == NULL || !statedir_has(l->state->path, "book.db") ||
        book_open(&b, l->state, &f) != 0)
        return;
    int n = book_hosts(b, NULL, 0);
    struct book_host *hosts = n > 0 ? calloc((size_t)n, sizeof(*hosts)) : NULL;
    int now = hosts != NULL ? book_hosts(b, hosts, (size_t)n) : 0;
    for (int i = 0; i < now && i < n; i++)
        each(l, b, &hosts[i], arg);
    free(hosts);
    book_close(b);
}

static void offer_host(const struct line *l, struct book *b, const struct book_host *h,
                       const char *behind)
{
    char name[BOOK_NAME_LEN + 2];
    (void)b;
    (void)snprintf(name, sizeof(name), "%s%s", h->name, behind);
    offer(l, name, "host joined");
}

static void offer_services_of(const struct line *l, struct book *b,
                              const struct book_host *h, const char *host)
{
    struct book_service s[BOOK_SERVICE_MAX];
    char what[BOOK_NAME_LEN + 40];
    if (strcasecmp(h->name, host) != 0)
        return;
    int n = book_services(b, h->key, s, BOOK_SERVICE_MAX);
    for (int i = 0; i < n; i++) {
        (void)snprintf(what, sizeof(what), "%s port %u of %s", s[i].udp ? "UDP" : "TCP",
                       s[i].port, h->name);
        offer(l, s[i].name, what);
    }
}

/* HOST: at first, then its services. */
static void offer_target(struct line *l)
{
    char host[BOOK_NAME_LEN];
    const char *colon = strchr(l->last, ':');
    if (colon == NULL) {
        each_host(l, offer_host, ":");
        return;
    }
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - l->last), l->last);
    cut_at(l, ':');
    each_host(l, offer_services_of, host);
}

static struct roster *open_roster(const struct line *l)
{
    struct roster *r = NULL;
    struct fault f;
    if (l->state == NULL || !statedir_has(l->state->path, "host.db") ||
        roster_open_known(&r, l->state->path, &f) != 0)
        return NULL;
    return r;
}

static void offer_devices(const struct line *l)
{
    struct roster *r = open_roster(l);
    struct roster_client *clients = NULL;
    int n = r != NULL ? roster_clients_all(r, &clients) : 0;
    for (int i = 0; i < n; i++)
        offer(l, clients[i].name, "device that may enter");
    free(clients);
    roster_close(r);
}

/* What this host publishes. */
static void offer_own_services(const struct line *l)
{
    struct roster *r = open_roster(l);
    struct roster_settings *s = calloc(1, sizeof(*s));
    if (r != NULL && s != NULL && roster_settings_get(r, s) == 0) {
        struct service_list list;
        if (service_list_parse_lines(&list, s->services, NULL) == 0) {
            for (size_t i = 0; i < list.count; i++)
                offer(l, list.items[i].name, "service of this host");
            service_list_fini(&list);
        }
    }
    free(s);
    roster_close(r);
}

static void offer_accounts(const struct line *l)
{
    struct access *a = NULL;
    struct fault f;
    if (l->state == NULL || !statedir_has(l->state->path, "access.db") ||
        access_open(&a, l->state->path, &f) != 0)
        return;
    struct access_account *all = calloc(ACCESS_ACCOUNTS_MAX, sizeof(*all));
    int n = all != NULL ? access_accounts(a, all, ACCESS_ACCOUNTS_MAX) : 0;
    for (int i = 0; i < n && i < ACCESS_ACCOUNTS_MAX; i++)
        offer(l, all[i].name, "account");
    free(all);
    access_close(a);
}

static void offer_verbs(const struct line *l, const char *verbs)
{
    for (const char *at = verbs; *at != '\0'; at += strlen(at) + 1)
        offer(l, at, "");
}

/* `before`: the arguments before this one. */
static void offer_argument(struct line *l, enum argument what, const char *before)
{
    switch (what) {
    case ARGUMENT_OTHER:
    case ARGUMENT_LINK:
        return;
    case ARGUMENT_HOST:
        each_host(l, offer_host, "");
        return;
    case ARGUMENT_SERVICE:
        each_host(l, offer_services_of, before);
        return;
    case ARGUMENT_HOST_SERVICE:
        offer_target(l);
        return;
    case ARGUMENT_DEVICE:
        offer_devices(l);
        return;
    case ARGUMENT_PROGRAM:
        (void)fprintf(l->out, ":commands\n");
        return;
    case ARGUMENT_FILE_OR_HOST:
        each_host(l, offer_host, "");
        (void)fprintf(l->out, ":files\n");
        return;
    case ARGUMENT_FILE:
        (void)fprintf(l->out, ":files\n");
        return;
    case ARGUMENT_DIR:
        (void)fprintf(l->out, ":dirs\n");
        return;
    case ARGUMENT_KEYS_VERB:
        offer_verbs(l, "show\0rotate\0");
        return;
    case ARGUMENT_ACCESS_VERB:
        offer_verbs(l, "add\0passwd\0set\0remove\0public\0private\0ls\0");
        return;
    case ARGUMENT_ACCESS_NAME:
        if (strcmp(before, "public") == 0 || strcmp(before, "private") == 0)
            offer_own_services(l);
        else if (strcmp(before, "add") != 0)
            offer_accounts(l);
        return;
    case ARGUMENT_SERVICE_VERB:
        offer_verbs(l, "install\0remove\0status\0");
        return;
    case ARGUMENT_ROLE:
        offer_verbs(l, "serve\0up\0broker\0");
        return;
    }
}

static void offer_value(struct line *l, size_t id, const struct option_row *row)
{
    if (strcmp(row->value, "FILE") == 0)
        (void)fprintf(l->out, ":files\n");
    else if (strcmp(row->value, "DIR") == 0)
        (void)fprintf(l->out, ":dirs\n");
    cut_at(l, ',');
    if (row->type == OPTION_KINDS)
        offer_kinds(l);
    if (id == OPT_SERVICES || id == OPT_ACCOUNT_SERVICES || id == OPT_TLS)
        offer_own_services(l);
    if (id == OPT_FOR) {
        offer_devices(l);
        offer_accounts(l);
    }
}

/* The option that `word` names, or OPTION_COUNT. */
static size_t option_named(const struct command *c, const char *word)
{
    size_t len = strcspn(word, "=");
    for (size_t id = 0; id < OPTION_COUNT; id++) {
        const struct option_row *row = option_of(c, id);
        if (row != NULL && strncmp(word, "--", 2) == 0 &&
            strlen(row->name) == len - 2 && strncmp(word + 2, row->name, len - 2) == 0)
            return id;
        if (row != NULL && row->letter != 0 && word[0] == '-' &&
            word[1] == row->letter && word[2] == '\0')
            return id;
    }
    return OPTION_COUNT;
}

static bool takes_next(const struct command *c, size_t id)
{
    const struct option_row *row = id < OPTION_COUNT ? option_of(c, id) : NULL;
    return row != NULL && row->value != NULL && row->type != OPTION_MAYBE &&
           row->type != OPTION_MAYBE_TIME;
}

static void complete_command(struct line *l, const struct command *c)
{
    const char *word = l->words[l->count - 1], *before = "";
    size_t args = 0;
    bool ended = false;
    for (size_t i = 1; i + 1 < l->count; i++) {
        const char *at = l->words[i];
        size_t id = ended ? OPTION_COUNT : option_named(c, at);
        if (!ended && strcmp(at, "--") == 0) {
            ended = true;
        } else if (takes_next(c, id) && strchr(at, '=') == NULL) {
            if (++i + 1 == l->count) {
                offer_value(l, id, option_of(c, id));
                return;
            }
        } else if (ended || at[0] != '-') {
            before = at;
            args++;
            ended = ended || args == c->rest;
        }
    }
    size_t id = ended ? OPTION_COUNT : option_named(c, word);
    if (takes_next(c, id) && strchr(word, '=') != NULL) {
        cut_at(l, '=');
        offer_value(l, id, option_of(c, id));
    } else if (!ended && word[0] == '-') {
        offer_options(l, c);
    } else if (args < COMMAND_ARGUMENTS) {
        offer_argument(l, c->arguments[args], before);
    } else if (c->arguments[COMMAND_ARGUMENTS - 1] == ARGUMENT_FILE_OR_HOST) {
        offer_argument(l, ARGUMENT_FILE_OR_HOST, before);
    }
}

static const char *state_named(const struct line *l)
{
    for (size_t i = 1; i + 1 < l->count; i++) {
        if (strcmp(l->words[i], "--state") == 0 && i + 2 < l->count)
            return l->words[i + 1];
        if (strncmp(l->words[i], "--state=", 8) == 0)
            return l->words[i] + 8;
    }
    return NULL;
}

void complete_print(FILE *out, const char *const *words, size_t count)
{
    struct statedir state;
    struct line l = {.words = words, .count = count, .out = out};
    if (count == 0)
        return;
    log_set_level(LOG_LEVEL_ERROR);
    l.last = words[count - 1];
    if (statedir_find(&state, state_named(&l)) == 0)
        l.state = &state;
    if (count == 1) {
        offer_commands(&l);
        offer_verbs(&l, "help\0version\0--help\0--version\0");
        return;
    }
    const struct command *c = command_find(words[0]);
    if (c != NULL)
        complete_command(&l, c);
    else if (strcmp(words[0], "help") == 0 && count == 2)
        offer_commands(&l);
}

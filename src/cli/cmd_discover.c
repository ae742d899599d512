/* `postern discover`: what listens here, who holds it, and whether it is published. */
#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/daemon.h"
#include "cli/published.h"
#include "core/json.h"
#include "core/proto.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/sockdiag.h"
#include "io/statedir.h"

/* Who holds each socket that is shown takes a look at every descriptor of the machine.
 */
enum {
    SHOWN_MAX = 512,
    SAME_PLACE_MAX = 64,
    PUBLISHED_MAX = 64,
    CHOICES_MAX = 64,
    FOLLOW_S = 1
};

struct published {
    uint16_t port;
    bool udp;
    char name[64];
};

struct discovery {
    struct sockdiag_socket *found;
    size_t count, room;
    struct published published[PUBLISHED_MAX];
    size_t published_count;
};

static void on_socket(void *ctx, const struct sockdiag_socket *s)
{
    struct discovery *d = ctx;
    if (d->count == d->room) {
        size_t room = d->room > 0 ? 2 * d->room : 64;
        struct sockdiag_socket *more = realloc(d->found, room * sizeof(*more));
        if (more == NULL)
            return; /* what was found is of use too */
        d->found = more;
        d->room = room;
    }
    d->found[d->count++] = *s;
}

/* What the running serve publishes. */
static void take_service(void *ctx, const char *json)
{
    struct discovery *d = ctx;
    struct json_value v;
    struct published *p = &d->published[d->published_count];
    char word[64];
    if (d->published_count == PUBLISHED_MAX || json_find(&v, json, "name") != 0)
        return;
    json_value_words(&v, p->name, sizeof(p->name));
    if (json_find(&v, json, "port") != 0)
        return;
    json_value_words(&v, word, sizeof(word));
    p->port = (uint16_t)strtoul(word, NULL, 10);
    if (json_find(&v, json, "protocol") != 0)
        return;
    json_value_words(&v, word, sizeof(word));
    p->udp = strcmp(word, "udp") == 0;
    d->published_count++;
}

/* What the next serve will publish, where none runs; nothing was stored: nothing. */
static void take_stored(struct discovery *d, const struct statedir *state)
{
    struct roster_settings *s = calloc(1, sizeof(*s));
    struct service_list stored = {0};
    struct roster *r = NULL;
    if (s != NULL && daemon_open_roster(&r, state, NULL) == 0 &&
        roster_settings_get(r, s) == 0 &&
        service_list_parse_lines(&stored, s->services, NULL) == 0)
        for (size_t i = 0; i < stored.count && i < PUBLISHED_MAX; i++) {
            struct published *p = &d->published[d->published_count++];
            p->port = stored.items[i].port;
            p->udp = stored.items[i].udp;
            (void)snprintf(p->name, sizeof(p->name), "%.63s", stored.items[i].name);
        }
    service_list_fini(&stored);
    roster_close(r);
    free(s);
}

/* By protocol, port and address. */
static int by_place(const void *a, const void *b)
{
    const struct sockdiag_socket *x = a, *y = b;
    if (x->tcp != y->tcp)
        return x->tcp ? -1 : 1;
    if (x->local.port != y->local.port)
        return (int)x->local.port - (int)y->local.port;
    return memcmp(x->local.ip, y->local.ip, sizeof(x->local.ip));
}

static const char *service_of(const struct discovery *d,
                              const struct sockdiag_socket *s)
{
    for (size_t i = 0; i < d->published_count; i++)
        if (d->published[i].port == s->local.port && d->published[i].udp != s->tcp)
            return d->published[i].name;
    return NULL;
}

static void print(const struct discovery *d, const struct sockdiag_socket *s, int pid,
                  const char *program, struct events *out)
{
    struct event e;
    event_begin(&e, "listening");
    event_addr(&e, "local", &s->local);
    event_text(&e, "protocol", s->tcp ? "tcp" : "udp");
    event_text(&e, "program", program[0] != '\0' ? program : NULL);
    if (pid != 0)
        event_int(&e, "pid", pid);
    event_text(&e, "service", service_of(d, s));
    events_print(out, &e);
}

/* Threads and workers of one program that share a place (SO_REUSEPORT) are one line. */
static void print_all(const struct discovery *d, struct events *out)
{
    char told[SAME_PLACE_MAX]
             [16]; /* the programs of the place that has its lines now */
    size_t told_count = 0, shown = d->count < SHOWN_MAX ? d->count : SHOWN_MAX;
    for (size_t i = 0; i < shown; i++) {
        const struct sockdiag_socket *s = &d->found[i];
        char program[16];
        int pid;
        bool again = false;
        if (i == 0 || by_place(s, s - 1) != 0)
            told_count = 0;
        if (!sockdiag_owner(s->inode, &pid, program)) {
            pid = 0;
            program[0] = '\0';
        }
        for (size_t k = 0; k < told_count && !again; k++)
            again = strcmp(told[k], program) == 0;
        if (again)
            continue;
        if (told_count < SAME_PLACE_MAX)
            memcpy(told[told_count++], program, sizeof(program));
        print(d, s, pid, program, out);
    }
    if (shown < d->count)
        log_warn("%zu more sockets listen than are shown; 'postern discover PORT' "
                 "publishes any of them",
                 d->count - shown);
}

/* ---------------------------------------------------------------------- publishing */

struct choice {
    char texts[CHOICES_MAX][128]; /* SERVICE */
    const char *list[CHOICES_MAX];
    size_t count;
};

/* A listener as SERVICE: its own address where loopback would not reach it. */
static void choose(struct choice *c, const struct sockdiag_socket *s, const char *name)
{
    static const uint8_t any[16];
    struct addr a = s->local;
    char target[ADDR_TEXT_LEN];
    if (c->count == CHOICES_MAX)
        return;
    bool near =
        memcmp(a.ip, any, sizeof(any)) == 0 || addr_scope_of(&a) == ADDR_SCOPE_LOOPBACK;
    if (near)
        (void)snprintf(target, sizeof(target), "%u", a.port);
    else
        (void)addr_format(&a, target);
    char *text = c->texts[c->count];
    (void)snprintf(text, sizeof(c->texts[0]), "%.40s%s%s%s", name,
                   *name != '\0' ? "=" : "", s->tcp ? "" : "udp:", target);
    c->list[c->count++] = text;
}

/* PORT, udp:PORT, or either with NAME= in front. */
static int choose_named(struct discovery *d, struct choice *c, const char *text,
                        struct fault *f)
{
    char name[64] = "";
    const char *equals = strchr(text, '='), *port = equals != NULL ? equals + 1 : text;
    bool udp = strncmp(port, "udp:", 4) == 0;
    char *end;
    unsigned long n = strtoul(udp ? port + 4 : port, &end, 10);
    if (equals != NULL)
        (void)snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
    if (*end != '\0' || n == 0 || n > 65535)
        return fault_set(f, POSTERN_ERR_USAGE, "write it as 22, web=8080 or dns=udp:53",
                         "'%.60s' is not a port of this machine", text);
    for (size_t i = 0; i < d->count; i++) {
        if (d->found[i].local.port != n || d->found[i].tcp == udp)
            continue;
        if (service_of(d, &d->found[i]) != NULL)
            return fault_set(f, POSTERN_ERR_INUSE, "see 'postern discover'",
                             "port %lu is published already, as %s", n,
                             service_of(d, &d->found[i]));
        choose(c, &d->found[i], name);
        return 0;
    }
    return fault_set(f, POSTERN_ERR_NOTFOUND,
                     "see 'postern discover' for what does; 'postern serve' publishes "
                     "what does not listen yet",
                     "nothing listens on %s port %lu here", udp ? "UDP" : "TCP", n);
}

/* On the terminal, for each that is not published. */
static int ask(struct discovery *d, struct choice *c, struct fault *f)
{
    FILE *tty = fopen("/dev/tty", "r+e");
    char text[ADDR_TEXT_LEN], line[64], program[16];
    int pid;
    if (tty == NULL)
        return fault_set(f, POSTERN_ERR_USAGE, "name the ports instead",
                         "there is no terminal to ask on");
    for (size_t i = 0; i < d->count; i++) {
        struct sockdiag_socket *s = &d->found[i];
        if (service_of(d, s) != NULL ||
            (i > 0 && s->local.port == d->found[i - 1].local.port &&
             s->tcp == d->found[i - 1].tcp))
            continue; /* the same on IPv6 */
        if (!sockdiag_owner(s->inode, &pid, program))
            program[0] = '\0';
        if (strcmp(program, "postern") == 0)
            continue; /* paths of ours, no service */
        (void)fprintf(tty, "%s on %s %s. Publish it? [n; y; name] ",
                      program[0] != '\0' ? program : "a program",
                      s->tcp ? "TCP" : "UDP", addr_format(&s->local, text));
        (void)fflush(tty);
        if (fgets(line, sizeof(line), tty) == NULL)
            break;
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0' || strcmp(line, "n") == 0 || strcmp(line, "no") == 0)
            continue;
        bool plain = strcmp(line, "y") == 0 || strcmp(line, "yes") == 0;
        choose(c, s, plain ? "" : line);
    }
    (void)fclose(tty);
    return 0;
}

static int publish(struct discovery *d, const struct statedir *state,
                   const struct options *o, struct events *out, struct fault *f)
{
    struct choice *c = calloc(1, sizeof(*c));
    int rc = 0;
    if (c == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    for (size_t i = 0; i < o->arg_count && rc == 0; i++)
        rc = choose_named(d, c, o->args[i], f);
    if (rc == 0 && o->values[OPT_ASK].given)
        rc = ask(d, c, f);
    if (rc == 0 && c->count > 0)
        rc = cmd_serve_services(state, c->list, c->count, true, out, f);
    free(c);
    return rc;
}

/* --------------------------------------------------------------------- from now on */

static bool look(struct discovery *d, const struct statedir *state)
{
    d->count = d->published_count = 0;
    if (!sockdiag_listeners(on_socket, d))
        return false;
    daemon_each(state, "serve", LOCAL_LIST, take_service, d);
    if (d->published_count == 0)
        take_stored(d, state);
    if (d->count > 0)
        qsort(d->found, d->count, sizeof(d->found[0]), by_place);
    return true;
}

static bool has_place(const struct discovery *d, const struct sockdiag_socket *s)
{
    return d->count > 0 &&
           bsearch(s, d->found, d->count, sizeof(d->found[0]), by_place) != NULL;
}

/* A path of ours is no service. */
static bool is_ours(const struct sockdiag_socket *s)
{
    char program[16];
    int pid;
    return sockdiag_owner(s->inode, &pid, program) && strcmp(program, "postern") == 0;
}

/* In `now` and in the look before, but not in `known`, which gets it. */
static void take_new(struct discovery *fresh, struct discovery *known,
                     const struct discovery *before, const struct discovery *now)
{
    size_t had = known->count;
    fresh->count = 0;
    for (size_t i = 0; i < now->count; i++) {
        const struct sockdiag_socket *s = &now->found[i];
        if (!has_place(before, s) || (i > 0 && by_place(s, s - 1) == 0) ||
            (had > 0 && bsearch(s, known->found, had, sizeof(*s), by_place) != NULL))
            continue;
        on_socket(known, s);
        if (!is_ours(s))
            on_socket(fresh, s);
    }
    for (size_t i = 0; i < known->count;) /* what is gone may come again */
        if (has_place(now, &known->found[i]))
            i++;
        else
            known->found[i] = known->found[--known->count];
    if (known->count > 0)
        qsort(known->found, known->count, sizeof(known->found[0]), by_place);
    memcpy(fresh->published, now->published, sizeof(fresh->published));
    fresh->published_count = now->published_count;
}

/*
 * Until a signal ends the command. What does not listen in two looks in a row is no
 * server: most sockets of UDP are of somebody who asks.
 */
static int follow(struct discovery *known, const struct statedir *state,
                  const struct options *o, struct events *out, struct fault *f)
{
    struct discovery *d = calloc(3, sizeof(*d)); /* fresh, and two looks in turn */
    int rc = 0;
    if (d == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    for (unsigned turn = 0; rc == 0; turn++) {
        struct discovery *fresh = &d[0], *now = &d[1 + turn % 2];
        (void)nanosleep(&(struct timespec){.tv_sec = FOLLOW_S}, NULL);
        if (!look(now, state))
            continue;
        take_new(fresh, known, &d[1 + (turn + 1) % 2], now);
        print_all(fresh, out);
        if (fresh->count > 0 && o->values[OPT_ASK].given)
            rc = publish(fresh, state, o, out, f);
    }
    for (size_t i = 0; i < 3; i++)
        free(d[i].found);
    free(d);
    return rc;
}

int cmd_discover(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    bool follows = o->values[OPT_FOLLOW].given;
    struct discovery *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int rc =
        follows && o->arg_count > 0
            ? fault_set(f, POSTERN_ERR_USAGE, "give one of them",
                        "--follow waits for what is not known yet, and takes no ports")
            : statedir_open(&state, o->values[OPT_STATE].text, f);
    if (rc == 0 && !look(d, &state))
        rc = fault_set(f, POSTERN_ERR_IO, "is sock_diag in this kernel?",
                       "the kernel does not say what listens here");
    if (rc == 0) {
        if (o->arg_count > 0 || (o->values[OPT_ASK].given && !follows))
            rc = publish(d, &state, o, out, f);
        if (o->arg_count == 0 && rc == 0)
            print_all(d, out);
        if (d->count == 0 && !out->json && rc == 0)
            (void)fprintf(out->out, "Nothing listens on this machine.\n");
    }
    if (rc == 0 && follows)
        rc = follow(d, &state, o, out, f);
    free(d->found);
    free(d);
    return rc;
}

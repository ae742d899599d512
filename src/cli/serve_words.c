/*
 * The words around `postern serve`. They look at what listens on this machine and ask
 * the resolver; they connect nothing.
 */
#include "cli/serve_words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/addr.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/resolve.h"
#include "io/sockdiag.h"

bool serve_doubts(const char *text, struct service *s,
                  char meant[static SERVICE_MEANT_LEN])
{
    struct addr found[RESOLVE_MAX];
    const struct service_target *t = &s->targets[0];
    if (service_parse(s, text, NULL) != 0 || strpbrk(text, "=,") != NULL ||
        strpbrk(t->host, ".:") != NULL || resolve_now(t->host, found) >= 0)
        return false;
    (void)snprintf(meant, SERVICE_MEANT_LEN, "%.60s=%s%u", t->host,
                   s->udp ? "udp:" : "", s->port);
    return true;
}

void serve_warn_of_protocol(const char *text)
{
    struct service s;
    if (strncasecmp(text, "udp=", 4) == 0 && service_parse(&s, text, NULL) == 0 &&
        !s.udp)
        log_warn("'%.80s' is a TCP service that is called 'udp'; for UDP write udp:%u",
                 text, s.port);
}

/* Enter is yes. False without a terminal, too. */
static bool is_meant(const char *text, const char *meant, const struct service *s)
{
    char line[16];
    FILE *tty = isatty(STDIN_FILENO) == 1 ? fopen("/dev/tty", "r+e") : NULL;
    if (tty == NULL) {
        log_warn("'%.80s' is port %u of a machine called '%.60s', which is not known "
                 "here; did you mean %s?",
                 text, s->port, s->targets[0].host, meant);
        return false;
    }
    (void)fprintf(tty,
                  "'%.80s' is port %u of a machine called '%.60s', which is not known "
                  "here.\nPublish port %u of this machine as %.60s (%s)? [Y/n] ",
                  text, s->port, s->targets[0].host, s->port, s->targets[0].host,
                  meant);
    (void)fflush(tty);
    bool yes =
        fgets(line, sizeof(line), tty) != NULL && strchr("yY\n", line[0]) != NULL;
    (void)fclose(tty);
    return yes;
}

int serve_ask(struct serve_asked *a, const char *const *texts, size_t count,
              struct fault *f)
{
    struct service s;
    char meant[SERVICE_MEANT_LEN];
    *a = (struct serve_asked){0};
    if (count > SERVICE_MAX)
        return fault_set(f, POSTERN_ERR_USAGE, "name fewer",
                         "a host publishes at most %d services", SERVICE_MAX);
    for (size_t i = 0; i < count; i++) {
        a->texts[a->count++] = texts[i];
        serve_warn_of_protocol(texts[i]);
        if (!serve_doubts(texts[i], &s, meant) || !is_meant(texts[i], meant, &s))
            continue;
        char *copy = strdup(meant);
        if (copy == NULL)
            return fault_lack(f, POSTERN_ERR_NOMEM);
        a->owned[a->owned_count++] = copy;
        a->texts[i] = copy;
    }
    return 0;
}

void serve_asked_free(struct serve_asked *a)
{
    for (size_t i = 0; i < a->owned_count; i++)
        free(a->owned[i]);
    a->owned_count = 0;
}

/* -------------------------------------------------------------------- when it serves
 */

struct search {
    const struct service_list *published;
    bool found[SERVICE_MAX];
};

static bool is_here(const struct service_target *t)
{
    return t->by == 0 &&
           (strcmp(t->host, "127.0.0.1") == 0 || strcmp(t->host, "localhost") == 0 ||
            strcmp(t->host, "::1") == 0);
}

/* Whether a socket at `local` hears what is sent to this machine's own address. */
static bool hears_itself(const struct addr *local)
{
    static const uint8_t zero[16] = {0};
    size_t len = local->family == ADDR_V4 ? 4 : 16;
    bool any = memcmp(local->ip, zero, len) == 0;
    bool self = local->family == ADDR_V4
                    ? local->ip[0] == 127
                    : memcmp(local->ip, zero, 15) == 0 && local->ip[15] == 1;
    return any || self;
}

static void on_listener(void *ctx, const struct sockdiag_socket *socket)
{
    struct search *s = ctx;
    for (size_t i = 0; i < s->published->count && i < SERVICE_MAX; i++) {
        const struct service *at = &s->published->items[i];
        for (size_t k = 0; k < at->target_count; k++)
            if (at->udp == !socket->tcp && is_here(&at->targets[k]) &&
                at->targets[k].port == socket->local.port &&
                hears_itself(&socket->local))
                s->found[i] = true;
    }
}

static void tell_rest(FILE *out, const struct service *s)
{
    (void)fprintf(out, "%s%s%s%s%s\n", s->audience[0] ? "  for " : "", s->audience,
                  s->title[0] ? "  (" : "", s->title, s->title[0] ? ")" : "");
}

/* The n-th target; not ::1 of a port of this machine, which is the same place. */
static void tell_target(FILE *out, const struct service *s, size_t n)
{
    const struct service_target *t = &s->targets[n];
    const char *between = n == 0 ? "" : ", else ";
    bool v6 = strchr(t->host, ':') != NULL;
    if (n > 0 && is_here(t) && is_here(&s->targets[n - 1]) &&
        t->port == s->targets[n - 1].port)
        return;
    if (t->host[0] == '/')
        (void)fprintf(out, "%s%s", between, t->host);
    else
        (void)fprintf(out, "%s%s%s%s:%u", between, v6 ? "[" : "", t->host,
                      v6 ? "]" : "", t->port);
}

static void tell_service(FILE *out, const struct service *s, bool looked, bool found)
{
    const struct service_target *t = &s->targets[0];
    if (t->host[0] == '/') {
        (void)fprintf(out, "  %-12s %s%s", s->name, t->host,
                      access(t->host, F_OK) == 0 ? "" : "  is not there yet");
        tell_rest(out, s);
        return;
    }
    (void)fprintf(out, "  %-12s %s ", s->name, s->udp ? "udp" : "tcp");
    for (size_t i = 0; i < s->target_count; i++)
        tell_target(out, s, i);
    if (is_here(t) && looked)
        (void)fprintf(out, "  %s",
                      found ? "answers" : "nothing listens there yet: start it");
    else if (!is_here(t) && !s->udp)
        (void)fprintf(out, "  on another machine: 'postern doctor' tries it");
    tell_rest(out, s);
}

static void tell_who(FILE *out, struct roster *r)
{
    struct roster_client *clients = NULL;
    int n = roster_clients_all(r, &clients);
    if (n == 0)
        (void)fprintf(out, "Nobody may come in yet. Next: 'postern invite' here, and "
                           "'postern join LINK' on the other machine.\n");
    for (int i = 0; i < n && i < 5; i++)
        (void)fprintf(out, "%s%s", i == 0 ? "For " : ", ", clients[i].name);
    if (n > 5)
        (void)fprintf(out, " and %d more", n - 5);
    if (n > 0)
        (void)fprintf(out, ". One more device: 'postern invite'.\n");
    free(clients);
}

void serve_tell_ready(void *ctx, const struct service_list *published, struct roster *r)
{
    struct events *out = ctx;
    struct search s = {.published = published};
    if (out->json)
        return;
    bool looked = sockdiag_listeners(on_listener, &s);
    for (size_t i = 0; i < published->count && i < SERVICE_MAX; i++)
        tell_service(out->out, &published->items[i], looked, s.found[i]);
    if (r != NULL)
        tell_who(out->out, r);
    (void)fflush(out->out);
}

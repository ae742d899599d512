/*
 * `postern open`: a web service of a host in the browser. Which of its services that
 * is, and whether it speaks TLS, is guessed from names and ports, as people do.
 */
#include "cli/cmd.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/book.h"
#include "client/connect.h"

struct opening {
    struct events *out;
    bool tls;
};

static bool is_one_of(const char *name, const char *const *list)
{
    while (*list != NULL && strcmp(name, *list) != 0)
        list++;
    return *list != NULL;
}

static bool looks_like_tls(const struct book_service *s)
{
    return s->port == 443 || s->port == 8443 || s->port == 9443 ||
           strstr(s->name, "https") != NULL;
}

static bool looks_like_web(const struct book_service *s)
{
    static const char *const names[] = {"web", "www", "http", "https", NULL};
    static const uint16_t ports[] = {80, 8000, 8008, 8080, 8081, 3000, 5000, 8888};
    bool web = is_one_of(s->name, names) || looks_like_tls(s);
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
        web = web || s->port == ports[i];
    return web && !s->udp;
}

/* By name, else by port; NULL: the book does not know it, but the host may. */
static const struct book_service *named(const struct book_service *list, int n,
                                        const char *text)
{
    char name[BOOK_NAME_LEN], port[16];
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, "/"), text);
    for (int i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    for (int i = 0; i < n; i++) {
        (void)snprintf(port, sizeof(port), "%s%u",
                       strncmp(name, "udp:", 4) == 0 && list[i].udp ? "udp:" : "",
                       list[i].port);
        if (strcmp(port, name) == 0)
            return &list[i];
    }
    return NULL;
}

static void add_name(char *list, size_t cap, const char *name)
{
    size_t used = strlen(list);
    for (const char *at = used > 0 ? ", " : ""; *at != '\0' && used + 1 < cap; at++)
        list[used++] = *at;
    for (const char *at = name; *at != '\0' && used + 1 < cap; at++)
        list[used++] = *at;
    list[used] = '\0';
}

/* The one that is a web page, or the only one that may be. */
static int choose(const struct book_service **out, const struct book_service *list,
                  int n, const char *host, struct fault *f)
{
    const struct book_service *maybe = NULL;
    char all[200] = "";
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (looks_like_web(&list[i])) {
            *out = &list[i];
            return 0;
        }
        add_name(all, sizeof(all), list[i].name);
        if (!list[i].udp && list[i].port != 22) {
            maybe = &list[i];
            count++;
        }
    }
    *out = maybe;
    if (count == 1)
        return 0;
    char advice[160];
    (void)snprintf(advice, sizeof(advice), "name one, as in: postern open %.60s:web",
                   host);
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "none of the services of %.60s looks like a web page: %s", host,
                     n > 0 ? all : "it has shown none yet");
}

/* Where somebody sits before a screen; its words go to stderr, as stdout has events. */
static bool start_browser(const char *url)
{
    static const char *const screens[] = {"WAYLAND_DISPLAY", "DISPLAY", "BROWSER",
                                          NULL};
    char program[] = "xdg-open", target[96];
    char *argv[] = {program, target, NULL};
    posix_spawn_file_actions_t files;
    const char *const *screen = screens;
    pid_t pid;
    while (*screen != NULL && getenv(*screen) == NULL)
        screen++;
    if (*screen == NULL || posix_spawn_file_actions_init(&files) != 0)
        return false;
    (void)snprintf(target, sizeof(target), "%s", url);
    bool started =
        posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO) == 0 &&
        posix_spawnp(&pid, program, &files, NULL, argv, environ) == 0;
    (void)posix_spawn_file_actions_destroy(&files);
    return started;
}

static void on_local(void *ctx, const struct addr *at)
{
    struct opening *o = ctx;
    struct event e;
    char url[96], text[ADDR_TEXT_LEN];
    (void)snprintf(url, sizeof(url), "%s://%s/", o->tls ? "https" : "http",
                   addr_format(at, text));
    event_begin(&e, "open");
    event_text(&e, "url", url);
    event_text(&e, "browser", start_browser(url) ? "xdg-open" : NULL);
    events_print(o->out, &e);
}

/* By its number here, or by its name where the book does not know it. */
static bool is_ssh(const struct book_service *s, const char *text)
{
    return s != NULL ? s->port == 22 && !s->udp
                     : strcmp(text, "22") == 0 || strcmp(text, "ssh") == 0;
}

static int refuse_ssh(const char *host, struct fault *f)
{
    char advice[160];
    (void)snprintf(advice, sizeof(advice), "log in there: postern ssh %.60s", host);
    return fault_set(f, POSTERN_ERR_USAGE, advice, "port 22 is ssh's, and no web page");
}

/* A browser speaks TCP; what the book does not know says so by its name. */
static int refuse_udp(const char *host, const char *text, struct fault *f)
{
    char advice[200];
    (void)snprintf(advice, sizeof(advice), "forward it: postern connect %.60s:%.60s",
                   host, text);
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "'%.60s' is a UDP service, and no web page", text);
}

static bool is_udp(const struct book_service *s, const char *text)
{
    return s != NULL ? s->udp : strncmp(text, "udp:", 4) == 0;
}

int cmd_open(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    struct opening opening = {.out = out};
    struct statedir state;
    struct book *book = NULL;
    struct book_host host;
    struct book_service list[BOOK_SERVICE_MAX];
    const struct book_service *service = NULL;
    const char *colon = strchr(o->args[0], ':');
    char name[128], target[2 * BOOK_NAME_LEN + 64];
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(o->args[0], ":"),
                   o->args[0]);
    int n = 0, rc = statedir_open_known(&state, o->values[OPT_STATE].text, f);
    if (rc == 0)
        rc = book_open_known(&book, &state, name, f);
    if (rc == 0)
        rc = book_find(book, name, &host, f);
    if (rc == 0)
        n = book_services(book, host.key, list, BOOK_SERVICE_MAX);
    book_close(book);
    if (rc == 0 && colon != NULL)
        service = named(list, n, colon + 1);
    else if (rc == 0)
        rc = choose(&service, list, n, host.name, f);
    if (rc == 0 && colon != NULL && is_ssh(service, colon + 1))
        rc = refuse_ssh(host.name, f);
    if (rc == 0 && colon != NULL && is_udp(service, colon + 1))
        rc = refuse_udp(host.name, service != NULL ? service->name : colon + 1, f);
    if (rc != 0)
        return rc;
    opening.tls = service != NULL && looks_like_tls(service);
    (void)snprintf(target, sizeof(target), "%s:%.120s", host.name,
                   colon != NULL ? colon + 1 : service->name);
    const char *words[] = {target};
    struct connect_config what = {
        .words = words, .count = 1, .on_local = on_local, .ctx = &opening};
    return connect_run(&c, &what, f);
}

/* Connections of one question each; see scrape.h. */
#include "io/scrape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/addr.h"
#include "core/http_ask.h"
#include "core/list.h"
#include "io/acceptor.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/procstat.h"
#include "io/sock.h"
#include "io/sockfile.h"

enum {
    ASKERS_MAX = 8,
    ASKER_MS = 5000,
    TEXT_MAX = 128 * 1024,
    HEAD_MAX = 256,
    KEEP_DESCRIPTORS = 16,
};

struct asker {
    struct list link; /* by start */
    struct scrape *scrape;
    struct watch watch;
    struct timer timer;
    int fd;
    size_t have; /* of the question */
    char *answer;
    size_t len, sent;
    char question[HTTP_ASK_MAX];
};

struct scrape {
    struct scrape_config config;
    struct acceptor *acceptor;
    struct list askers;
    size_t count;
    struct sockfile file;
    bool is_file;
};

static void asker_free(struct asker *a)
{
    list_remove(&a->link);
    a->scrape->count--;
    timer_stop(&a->timer);
    watch_close(&a->watch);
    close(a->fd);
    free(a->answer);
    free(a);
}

static void on_late(void *ctx)
{
    asker_free(ctx);
}

static void add_process(struct metrics *m, const struct scrape_config *c)
{
    struct procstat_own own;
    procstat_own(&own);
    metrics_family(m, "postern_build_info", METRIC_GAUGE,
                   "1, with the version and the role of this program.");
    metrics_label(m, "version", POSTERN_VERSION);
    metrics_label(m, "role", c->role);
    metrics_count(m, 1);
    metrics_family(m, "postern_ready", METRIC_GAUGE,
                   "1 when it can do its work, as /readyz says.");
    metrics_count(m, c->why_not_ready(c->ctx) == NULL);
    metrics_one(m, "process_resident_memory_bytes", METRIC_GAUGE,
                "Memory that this process has.", (double)own.resident_bytes);
    metrics_one(m, "process_cpu_seconds_total", METRIC_COUNTER,
                "Processor time, of the system's too.", own.cpu_s);
    metrics_one(m, "process_start_time_seconds", METRIC_GAUGE,
                "When it was started, since 1970.", (double)own.started_s);
    metrics_one(m, "process_open_fds", METRIC_GAUGE, "Descriptors that are open.",
                own.descriptors);
    metrics_one(m, "process_max_fds", METRIC_GAUGE, "Descriptors that it may have.",
                (double)own.descriptors_max);
}

/* The answer's text, in place behind the room of its head; the length. */
static size_t figures(const struct scrape_config *c, char *text, int *status)
{
    struct metrics m = metrics_writer(text, TEXT_MAX);
    add_process(&m, c);
    c->add(c->ctx, &m);
    int n = metrics_end(&m);
    *status = n < 0 ? 500 : 200;
    if (n < 0)
        log_error("the figures do not fit into one answer; report this");
    return n < 0 ? (size_t)snprintf(text, TEXT_MAX, "too many figures\n") : (size_t)n;
}

static const char *words_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

static size_t write_text(const struct scrape_config *c, enum http_ask ask,
                         const char *path, char *text, int *status)
{
    const char *why = c->why_not_ready(c->ctx);
    *status = 200;
    if (ask == HTTP_ASK_BAD || ask == HTTP_ASK_LONG || ask == HTTP_ASK_METHOD) {
        *status = ask == HTTP_ASK_BAD ? 400 : ask == HTTP_ASK_LONG ? 431 : 405;
        return (size_t)snprintf(text, TEXT_MAX, "%s\n", words_of(*status));
    }
    if (strcmp(path, "/metrics") == 0)
        return figures(c, text, status);
    if (strcmp(path, "/healthz") == 0 || (strcmp(path, "/readyz") == 0 && why == NULL))
        return (size_t)snprintf(text, TEXT_MAX, "ok\n");
    *status = strcmp(path, "/readyz") == 0 ? 503 : 404;
    return (size_t)snprintf(text, TEXT_MAX, "%s\n",
                            *status == 503 ? why
                                           : "here are /metrics, /healthz and /readyz");
}

/* False: no memory. */
static bool prepare(struct asker *a, enum http_ask ask, const char *path)
{
    char head[HEAD_MAX];
    int status;
    a->answer = malloc(HEAD_MAX + TEXT_MAX);
    if (a->answer == NULL)
        return false;
    size_t len =
        write_text(&a->scrape->config, ask, path, a->answer + HEAD_MAX, &status);
    size_t n = (size_t)snprintf(
        head, sizeof(head),
        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s"
        "Connection: close\r\n\r\n",
        status, words_of(status), METRICS_TYPE, len,
        status == 405 ? "Allow: GET, HEAD\r\n" : "");
    memmove(a->answer + n, a->answer + HEAD_MAX, len);
    memcpy(a->answer, head, n);
    a->len = n + (ask == HTTP_ASK_HEAD ? 0 : len);
    return true;
}

/* After the answer only the end is waited for: closed before, it might reset it. */
static void answer(struct asker *a)
{
    while (a->sent < a->len) {
        ssize_t n = sock_write(a->fd, a->answer + a->sent, a->len - a->sent);
        if (n == POSTERN_ERR_AGAIN) {
            watch_for(&a->watch, WATCH_WRITE);
            return;
        }
        if (n <= 0) {
            asker_free(a);
            return;
        }
        a->sent += (size_t)n;
    }
    sock_end_writing(a->fd);
    watch_for(&a->watch, WATCH_READ);
}

static void on_ready(void *ctx, int events)
{
    struct asker *a = ctx;
    char path[HTTP_ASK_PATH_LEN];
    (void)events;
    if (a->sent < a->len) {
        answer(a);
        return;
    }
    char *to = a->len > 0 ? a->question : a->question + a->have; /* or is passed over */
    size_t room = a->len > 0 ? HTTP_ASK_MAX : HTTP_ASK_MAX - a->have;
    ssize_t n = sock_read(a->fd, to, room);
    if (n == POSTERN_ERR_AGAIN || (n > 0 && a->len > 0))
        return;
    if (n <= 0) {
        asker_free(a);
        return;
    }
    a->have += (size_t)n;
    enum http_ask ask = http_ask_read(path, a->question, a->have);
    if (ask == HTTP_ASK_MORE)
        return;
    if (prepare(a, ask, path))
        answer(a);
    else
        asker_free(a);
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct scrape *s = ctx;
    struct asker *a = calloc(1, sizeof(*a));
    (void)from;
    if (a == NULL ||
        watch_start(&a->watch, s->config.loop, fd, WATCH_READ, on_ready, a) != 0) {
        free(a);
        close(fd);
        return;
    }
    if (s->count >= ASKERS_MAX)
        asker_free(LIST_FIRST(&s->askers, struct asker, link));
    a->scrape = s;
    a->fd = fd;
    list_push(&s->askers, &a->link);
    s->count++;
    timer_init(&a->timer, s->config.loop, on_late, a);
    timer_start(&a->timer, ASKER_MS);
}

static bool is_path(const char *at)
{
    return at[0] == '/';
}

int scrape_check(const char *at, struct fault *f)
{
    struct addr a;
    if (is_path(at) || (addr_parse(&a, at) == 0 && a.port != 0))
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE,
                     "use --metrics 127.0.0.1:9440, or the path of a socket",
                     "\"%.100s\" is not an address to show figures at", at);
}

/* A descriptor, or the error with its words. */
static int listen_there(struct scrape *s, struct fault *f)
{
    struct addr a;
    struct sock_options o = {.backlog = ASKERS_MAX};
    const char *at = s->config.at;
    s->is_file = is_path(at);
    int fd = -1, rc = s->is_file ? 0 : addr_parse(&a, at);
    if (rc == 0)
        fd = s->is_file ? sockfile_listen(at, ASKERS_MAX, true, &s->file)
                        : sock_listen(&a, &o);
    if (fd < 0)
        return fault_set(f, POSTERN_ERR_IO,
                         "give another one with --metrics, or leave it out",
                         "cannot show figures at %.100s: %s", at, strerror(errno));
    if (!s->is_file && addr_scope_of(&a) != ADDR_SCOPE_LOOPBACK)
        log_warn("figures are shown at %s to everybody who reaches it, in clear; a "
                 "loopback address or a firewall keeps others away",
                 at);
    return fd;
}

int scrape_open(struct scrape **out, const struct scrape_config *c, struct fault *f)
{
    struct scrape *s = calloc(1, sizeof(*s));
    int rc = scrape_check(c->at, f);
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    s->config = *c;
    list_init(&s->askers);
    int fd = rc == 0 ? listen_there(s, f) : rc;
    if (fd < 0) {
        free(s);
        return fd;
    }
    struct acceptor_config ac = {.loop = c->loop,
                                 .fd = fd,
                                 .who = "the port of the figures",
                                 .on_connection = on_connection,
                                 .keep = KEEP_DESCRIPTORS,
                                 .ctx = s};
    if (acceptor_open(&s->acceptor, &ac) != 0) {
        free(s);
        return fault_lack(f, POSTERN_ERR_NOMEM);
    }
    *out = s;
    return 0;
}

void scrape_close(struct scrape *s)
{
    if (s == NULL)
        return;
    acceptor_close(s->acceptor);
    while (!list_empty(&s->askers))
        asker_free(LIST_FIRST(&s->askers, struct asker, link));
    if (s->is_file && sockfile_is(s->config.at, &s->file))
        (void)unlink(s->config.at);
    free(s);
}

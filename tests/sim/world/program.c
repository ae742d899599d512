/* See program.h. Programs here block, as simple programs do. */
#include "program.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/options.h"
#include "core/rng.h"
#include "io/log.h"

/* ------------------------------------------------------------------------ commands */

static void *run_command(void *arg)
{
    struct program *p = arg;
    struct events out = {.json = true, .out = p->out};
    struct options o;
    const struct command *c = command_find(p->args[0]);
    assert(c != NULL);
    log_set_level(getenv("WORLD_DEBUG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
    p->result = options_parse(&o, c, p->arg_count - 1, p->args + 1, &p->fault);
    if (p->result == 0)
        p->result = c->run(&o, &out, &p->fault);
    options_fini(&o);
    if (p->result != 0)
        events_fault(&out, &p->fault);
    if (p->is_piped) /* as its exit closes it; threads may still hold it */
        (void)shutdown(STDIN_FILENO, SHUT_RDWR);
    return NULL;
}

static void start(struct program *p, struct machine *m, const char *state,
                  const char *format, va_list ap)
{
    *p = (struct program){0};
    int n = vsnprintf(p->line, sizeof(p->line), format, ap);
    bool up =
        strncmp(p->line, "up", 2) == 0; /* the real machine's names stay its own */
    (void)snprintf(p->line + n, sizeof(p->line) - (size_t)n, " --json --state %s%s",
                   state, up ? " --names off" : "");
    char *rest = NULL;
    for (char *w = strtok_r(p->line, " ", &rest); w != NULL;
         w = strtok_r(NULL, " ", &rest)) {
        assert(p->arg_count < PROGRAM_ARGS - 1);
        p->args[p->arg_count++] = w;
    }
    p->out = open_memstream(&p->text, &p->text_len);
    assert(p->out != NULL);
    p->task = task_start(m, run_command, p);
}

void program_start(struct program *p, struct machine *m, const char *state,
                   const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    start(p, m, state, format, ap);
    va_end(ap);
}

int program_start_piped(struct program *p, struct machine *m, const char *state,
                        const char *format, ...)
{
    int fds[2];
    va_list ap;
    va_start(ap, format);
    start(p, m, state, format, ap);
    va_end(ap);
    p->is_piped = true;
    (void)file_pair(fds);
    group_stdio(m, task_group(p->task), fds[0]);
    return fds[1];
}

void program_exit(struct program *p, struct machine *m)
{
    unsigned group = task_group(p->task);
    program_fini(p);
    group_kill(m, group);
}

void program_fini(struct program *p)
{
    (void)task_join(p->task);
    (void)fclose(p->out);
    free(p->text);
}

void program_kill(struct program *p, struct machine *m)
{
    group_kill(m, task_group(p->task));
    (void)fclose(p->out);
    free(p->text);
}

/* The next line of that event from `at` on, or NULL. */
static const char *find_event(const char *at, const char *event)
{
    char begin[64];
    (void)snprintf(begin, sizeof(begin), "{\"event\":\"%s\"", event);
    while (at != NULL && strncmp(at, begin, strlen(begin)) != 0) {
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    return at;
}

/* A field of the event in that line. */
static bool find_field(const char *line, const char *field,
                       char value[static PROGRAM_FIELD])
{
    char key[64];
    (void)snprintf(key, sizeof(key), "\"%s\":", field);
    const char *at = strstr(line, key), *end = strchr(line, '\n');
    if (at == NULL || (end != NULL && at > end))
        return false;
    at += strlen(key);
    at += *at == '"';
    (void)snprintf(value, PROGRAM_FIELD, "%.*s", (int)strcspn(at, "\",}\n"), at);
    return true;
}

static const char *next_line(const char *line)
{
    const char *end = strchr(line, '\n');
    return end != NULL ? end + 1 : NULL;
}

bool program_said(const struct program *p, const char *event, const char *field,
                  char value[static PROGRAM_FIELD])
{
    const char *line = find_event(p->text != NULL ? p->text : "", event);
    return line != NULL && (field == NULL || find_field(line, field, value));
}

bool program_said_last(const struct program *p, const char *event, const char *field,
                       char value[static PROGRAM_FIELD])
{
    const char *last = NULL, *line = p->text != NULL ? p->text : "";
    while ((line = find_event(line, event)) != NULL) {
        last = line;
        line = next_line(line);
    }
    return last != NULL && find_field(last, field, value);
}

bool program_said_of(const struct program *p, const char *event, const char *key,
                     const char *is, const char *field,
                     char value[static PROGRAM_FIELD])
{
    const char *line = p->text != NULL ? p->text : "";
    while ((line = find_event(line, event)) != NULL) {
        if (find_field(line, key, value) && strcmp(value, is) == 0)
            return find_field(line, field, value);
        line = next_line(line);
    }
    return false;
}

unsigned program_count(const struct program *p, const char *event, const char *text)
{
    unsigned n = 0;
    const char *line = p->text != NULL ? p->text : "";
    while ((line = find_event(line, event)) != NULL) {
        const char *end = strchrnul(line, '\n'), *hit = strstr(line, text);
        n += hit != NULL && hit < end;
        line = *end != '\0' ? end + 1 : NULL;
    }
    return n;
}

/* ------------------------------------------------------------------ plain programs */

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

struct echo_conn {
    struct echo *echo;
    int fd;
};

static void *run_echo_conn(void *arg)
{
    struct echo_conn *c = arg;
    uint8_t buf[16384];
    ssize_t n;
    bool used = false;
    while ((n = recv(c->fd, buf, sizeof(buf), 0)) > 0) {
        c->echo->used += !used;
        used = true;
        for (ssize_t at = 0, w; at < n; at += w)
            if ((w = send(c->fd, buf + at, (size_t)(n - at), MSG_NOSIGNAL)) <= 0)
                goto out;
    }
out:
    (void)close(c->fd);
    c->echo->open--;
    free(c);
    return NULL;
}

static void *run_echo(void *arg)
{
    struct echo *e = arg;
    struct sockaddr_in at = loopback(e->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;
    rc = bind(fd, (struct sockaddr *)&at, sizeof(at));
    assert(rc == 0);
    rc = listen(fd, 8);
    assert(rc == 0);
    while (!e->stop) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 100) != 1)
            continue;
        struct echo_conn *c = calloc(1, sizeof(*c));
        assert(c != NULL);
        c->echo = e;
        c->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        e->accepted++;
        e->open++;
        task_detach(task_start(machine_now(), run_echo_conn, c));
    }
    (void)close(fd);
    return NULL;
}

void echo_start(struct echo *e, struct machine *m, uint16_t port)
{
    *e = (struct echo){.port = port};
    e->task = task_start(m, run_echo, e);
}

/* What a stream has from there on. */
static void fill(uint64_t seed, size_t at, uint8_t *buf, size_t len)
{
    uint8_t word[8];
    for (size_t i = 0; i < len; i++) {
        if (i == 0 || (at + i) % sizeof(word) == 0) {
            uint64_t rng = seed ^ (at + i) / sizeof(word) * 0x9e3779b97f4a7c15u;
            uint64_t w = rng_next(&rng);
            memcpy(word, &w, sizeof(w));
        }
        buf[i] = word[(at + i) % sizeof(word)];
    }
}

enum { TALKER_READ = 16384 };

/* As SOCKS5 has it (RFC 1928), without a password. 0, or an errno. */
static int ask_proxy(int fd, const char *host, uint16_t port)
{
    uint8_t buf[300] = {5, 1, 0, 5, 1, 0, 3};
    size_t len = strlen(host), head = 3, want = 2 + 10, got = 0;
    buf[head + 4] = (uint8_t)len;
    memcpy(buf + head + 5, host, len);
    buf[head + 5 + len] = (uint8_t)(port >> 8);
    buf[head + 6 + len] = (uint8_t)port;
    if (send(fd, buf, head + 7 + len, MSG_NOSIGNAL) < 0)
        return errno;
    while (got < want) {
        ssize_t n = recv(fd, buf + got, want - got, 0);
        if (n <= 0)
            return n == 0 ? EPIPE : errno;
        got += (size_t)n;
        if (got > 3 && buf[3] != 0)
            return EHOSTUNREACH;
    }
    return 0;
}

struct talk {
    struct talker *t;
    int fd;
    bool writer_over;
};

static void *run_writer(void *arg)
{
    struct talk *k = arg;
    struct talker *t = k->t;
    uint8_t buf[8000];
    while (t->sent < t->bytes && t->error == 0) {
        size_t n = t->bytes - t->sent < sizeof(buf) ? t->bytes - t->sent : sizeof(buf);
        fill(t->seed, t->sent, buf, n);
        for (size_t at = 0; at < n && t->error == 0;) {
            ssize_t w = send(k->fd, buf + at, n - at, MSG_NOSIGNAL);
            if (w <= 0)
                t->error = errno;
            else
                at += (size_t)w;
        }
        t->sent += n;
        if (t->pause_ms > 0)
            (void)usleep(t->pause_ms * 1000);
        while (house_now_us(house_now()) < t->silent_us && t->error == 0)
            (void)usleep(1000000);
    }
    (void)shutdown(k->fd, SHUT_WR);
    k->writer_over = true;
    return NULL;
}

/* 0, or what was wrong. */
static int compare(struct talker *t, const uint8_t *buf, size_t len)
{
    uint8_t is[TALKER_READ];
    uint64_t now = house_now_us(house_now());
    uint64_t since = t->last_us > t->silent_us ? t->last_us : t->silent_us;
    if (now > since && now - since > t->longest_us)
        t->longest_us = now - since;
    t->last_us = now;
    fill(t->seed, t->got, is, len);
    if (memcmp(buf, is, len) != 0)
        return EILSEQ;
    t->got += len;
    return 0;
}

void *talker_run(struct talker *t)
{
    struct talk k = {.t = t, .fd = t->fd};
    struct sockaddr_in at = loopback(t->port);
    uint8_t buf[TALKER_READ];
    ssize_t n = 0;
    if (t->ip != 0)
        at.sin_addr.s_addr = htonl(t->ip);
    t->last_us = house_now_us(house_now());
    if (k.fd == 0) {
        k.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(k.fd, (struct sockaddr *)&at, sizeof(at)) != 0)
            t->error = errno;
        else if (t->host != NULL)
            t->error = ask_proxy(k.fd, t->host, t->service);
    }
    struct task *writer = task_start(machine_now(), run_writer, &k);
    while (t->error == 0 && (n = recv(k.fd, buf, sizeof(buf), 0)) > 0)
        t->error = compare(t, buf, (size_t)n);
    if (n < 0 && t->error == 0)
        t->error = errno;
    if (n == 0 && t->got != t->bytes && t->error == 0)
        t->error = EPIPE; /* an end before the end */
    if (t->error != 0)
        (void)shutdown(k.fd, SHUT_RDWR);
    (void)task_join(writer);
    (void)close(k.fd);
    return NULL;
}

static void *run_talker(void *arg)
{
    return talker_run(arg);
}

void talker_start(struct talker *t, struct machine *m)
{
    t->task = task_start(m, run_talker, t);
}

/* ----------------------------------------------------------------------------- UDP */

enum { QUESTION = 16, ASK_MS = 500 };

static void *run_udp_echo(void *arg)
{
    struct udp_echo *e = arg;
    struct sockaddr_in at = loopback(e->port), from;
    uint8_t buf[2048];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = bind(fd, (struct sockaddr *)&at, sizeof(at));
    assert(rc == 0);
    while (!e->stop) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        socklen_t len = sizeof(from);
        if (poll(&p, 1, 100) != 1)
            continue;
        ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
        if (n > 0)
            (void)sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len);
    }
    (void)close(fd);
    return NULL;
}

void udp_echo_start(struct udp_echo *e, struct machine *m, uint16_t port)
{
    *e = (struct udp_echo){.port = port};
    e->task = task_start(m, run_udp_echo, e);
}

static void write_question(uint8_t buf[static QUESTION], uint32_t number)
{
    uint64_t rng = number, w = rng_next(&rng);
    memset(buf, 0, QUESTION);
    memcpy(buf, &number, sizeof(number));
    memcpy(buf + 8, &w, sizeof(w));
}

static void hear(struct asker *a, const uint8_t *buf, ssize_t len)
{
    uint8_t is[QUESTION];
    uint32_t number = UINT32_MAX;
    if (len == QUESTION)
        memcpy(&number, buf, sizeof(number));
    write_question(is, number);
    if (number > a->asked || memcmp(is, buf, QUESTION) != 0) {
        a->wrong++;
        return;
    }
    a->answered++;
    a->answered_us = house_now_us(house_now());
}

/* No answer, or a refusal by the machine, is none: it asks again. */
static void *run_asker(void *arg)
{
    struct asker *a = arg;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(a->ip);
    while (!a->stop) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint8_t buf[2048];
        write_question(buf, ++a->asked);
        (void)sendto(fd, buf, QUESTION, 0, (struct sockaddr *)&at, sizeof(at));
        (void)usleep(ASK_MS * 1000);
        while (poll(&p, 1, 0) == 1) {
            ssize_t n = recv(fd, buf, sizeof(buf), 0);
            if (n >= 0)
                hear(a, buf, n);
        }
        while (house_now_us(house_now()) < a->silent_us && !a->stop)
            (void)usleep(1000000);
    }
    (void)close(fd);
    return NULL;
}

void asker_start(struct asker *a, struct machine *m)
{
    a->task = task_start(m, run_asker, a);
}

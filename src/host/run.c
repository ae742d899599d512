/*
 * The supervisor of `postern run`: one poll loop over the catcher, a signal descriptor
 * and a second's tick. Publishing is a connection to the serving process, held as long
 * as the program's socket lives.
 */
#include "host/run.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host/audience.h"
#include "host/service.h"
#include "io/catcher.h"
#include "io/lack.h"
#include "io/local.h"
#include "io/log.h"
#include "io/ready.h"
#include "io/sockdiag.h"
#include "io/statedir.h"

enum {
    SERVING_MAX = 64,
    TICK_MS = 1000,
    SERVE_START_MS = 20000,
    REPLY_MS = 2000,
    HANGS_MS = 20000, /* a host that took longer is left alone so long */
    ASKED_MAX = 256,
    AGAIN_MS = 1000, /* our own serving process, after it ended ... */
    AGAIN_MAX_MS = 32000,
    HEALTHY_MS = 60000, /* ... and after it lived that long anew from the least */
    LEFT_OUT_MAX = 16,
};

struct serving {
    bool used, seen, tcp;
    bool listed; /* the kernel lists it under its own cookie */
    uint64_t cookie;
    int conn; /* to the serving process; -1: its twin is published, or none serves */
    bool refused; /* that was told */
    char name[SERVICE_NAME_LEN], program[sizeof(((struct caught *)NULL)->program)];
    char audience[SERVICE_AUDIENCE_LEN];
    struct addr local;
};

struct run {
    const struct run_config *config;
    struct statedir state;
    struct catcher *catcher;
    struct serving serving[SERVING_MAX];
    uint16_t left_out[LEFT_OUT_MAX]; /* ports of which that was told */
    size_t left_out_count;
    pid_t host;    /* our own serving process, or 0 */
    int host_word; /* from where its struct fault comes when it fails, or -1 */
    bool own_host; /* it is ours to start again */
    bool away;     /* that no host publishes was told */
    int64_t host_since, host_again; /* ms: when it began; when it may again */
    int64_t again_ms, publish_again;
    char why[sizeof(((struct fault *)NULL)->what)]; /* told last, of our host's end */
    int signals, status;
    bool program_ended;
};

/* ------------------------------------------------------------------------- signals */

static int64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The reason of our serving process that has ended, if it gave one. */
static bool read_host_word(const struct run *r, struct fault *f)
{
    return read(r->host_word, f, sizeof(*f)) == (ssize_t)sizeof(*f);
}

/* It is started again in a while; the same reason is told once. */
static void on_host_end(struct run *r)
{
    struct fault why;
    int64_t now = now_ms();
    bool healthy = now - r->host_since >= HEALTHY_MS;
    int64_t longer = 2 * r->again_ms > AGAIN_MAX_MS ? AGAIN_MAX_MS : 2 * r->again_ms;
    r->host = 0;
    r->again_ms = healthy || r->again_ms == 0 ? AGAIN_MS : longer;
    r->host_again = now + r->again_ms;
    if (read_host_word(r, &why) && strcmp(why.what, r->why) != 0) {
        (void)snprintf(r->why, sizeof(r->why), "%s", why.what);
        events_fault(r->config->out, &why);
    }
}

static void reap(struct run *r)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == r->host) {
            on_host_end(r);
        } else if (pid == catcher_pid(r->catcher)) {
            r->program_ended = true;
            r->status =
                WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
}

/* True when the program has ended, or was told to. */
static bool on_signal(struct run *r)
{
    struct signalfd_siginfo info;
    if (read(r->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return false;
    if (info.ssi_signo == SIGCHLD)
        reap(r);
    else if (!r->program_ended) /* ours are the program's too */
        (void)kill(catcher_pid(r->catcher), (int)info.ssi_signo);
    return r->program_ended || info.ssi_signo != SIGCHLD;
}

/* ---------------------------------------------------------------------- publishing */

static void tell(struct run *r, const char *what, const struct serving *s,
                 const char *program)
{
    struct event e;
    service_event(&e, what, s->name, s->local.port, !s->tcp);
    event_addr(&e, "listens", &s->local);
    if (program != NULL)
        event_text(&e, "program", program);
    events_print(r->config->out, &e);
}

/* The program's name made fit for a service, or nothing when little is left of it. */
static void name_from(char *out, size_t cap, const char *program)
{
    size_t n = 0;
    bool letter = false;
    for (; *program != '\0' && n + 1 < cap; program++) {
        unsigned char c = (unsigned char)*program;
        bool fit = isalnum(c) || (n > 0 && (c == '-' || c == '_' || c == '.'));
        if (!fit)
            continue;
        letter = letter || !isdigit(c);
        out[n++] = (char)tolower(c);
    }
    out[letter ? n : 0] = '\0';
}

enum scope { SCOPE_ONE, SCOPE_ALL, SCOPE_LOOPBACK };

static enum scope scope_of(const struct addr *a)
{
    static const uint8_t any[16], loopback6[16] = {[15] = 1};
    if (memcmp(a->ip, any, sizeof(any)) == 0)
        return SCOPE_ALL;
    if (a->family == ADDR_V4 ? a->ip[0] == 127
                             : memcmp(a->ip, loopback6, sizeof(loopback6)) == 0)
        return SCOPE_LOOPBACK;
    return SCOPE_ONE;
}

/* SERVICE of docs/CLI.md: where it listens, reached from this machine. */
static void service_text(char *out, size_t cap, const struct serving *s)
{
    struct addr at = s->local;
    char text[ADDR_TEXT_LEN];
    bool all = scope_of(&at) == SCOPE_ALL;
    if (all && at.family == ADDR_V4)
        memcpy(at.ip, (const uint8_t[]){127, 0, 0, 1}, 4);
    else if (all)
        at.ip[15] = 1;
    (void)snprintf(out, cap, "%.40s%s%s%s", s->name, s->name[0] != '\0' ? "=" : "",
                   s->tcp ? "" : "udp:", addr_format(&at, text));
    if (all && s->tcp && at.family == ADDR_V6) { /* most take IPv4 there as well */
        size_t used = strlen(out);
        (void)snprintf(out + used, cap - used, ",127.0.0.1:%u", at.port);
    }
}

/* 0; 1: the host refuses it, which was told; else there is no host that answers. */
static int publish(struct run *r, struct serving *s)
{
    LocalRequest req = {.op = LOCAL_PUBLISH};
    LocalReply reply = LocalReply_init_zero;
    char path[STATEDIR_SOCKET_LEN];
    statedir_socket(&r->state, "serve", path);
    service_text(req.service, sizeof(req.service), s);
    (void)snprintf(req.arg, sizeof(req.arg), "%s", s->program);
    (void)snprintf(req.host, sizeof(req.host), "%s", s->audience);
    int rc = local_dial(path, &s->conn);
    if (rc != 0) {
        s->conn = -1;
        return rc;
    }
    rc = local_send(s->conn, &req, -1);
    if (rc == 0)
        rc = local_recv(s->conn, &reply, REPLY_MS);
    if (rc == 0 && reply.code != 0) {
        if (!s->refused)
            log_error("%s is not published: %s; %s", s->program, reply.reason,
                      reply.advice);
        s->refused = true;
        rc = 1;
    }
    if (rc != 0) {
        close(s->conn);
        s->conn = -1;
        return rc;
    }
    const char *at = strstr(reply.json, "\"service\":\"");
    size_t len = at != NULL ? strcspn(at + 11, "\"") : 0;
    if (len > 0 && len < sizeof(s->name))
        (void)snprintf(s->name, sizeof(s->name), "%.*s", (int)len, at + 11);
    return 0;
}

/* One line from the terminal; false when there is none, or the program is to end. */
static bool read_line(struct run *r, FILE *tty, char *line, size_t cap)
{
    struct ready p[2] = {{.fd = fileno(tty), .wanted = WATCH_READ},
                         {.fd = r->signals, .wanted = WATCH_READ}};
    (void)fflush(tty);
    do {
        (void)!ready_wait(p, 2, -1);
        if (p[1].is != 0 && on_signal(r))
            return false;
    } while (p[0].is == 0);
    if (fgets(line, (int)cap, tty) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    return true;
}

static bool is_name(FILE *tty, const char *name)
{
    struct fault f;
    int rc = service_name_check(name, &f);
    if (rc != 0)
        (void)fprintf(tty, "%s; %s. [name; n]\n", f.what, f.advice);
    return rc == 0;
}

/* Each name is a device's or an account's of this host. */
static bool is_known(struct run *r, FILE *tty, const char *audience)
{
    char unknown[ROSTER_NAME_LEN];
    struct fault f;
    int rc = audience_check(&r->state, audience, unknown, &f);
    if (rc == POSTERN_ERR_NOTFOUND)
        (void)fprintf(tty, "No device and no account is called '%s'.\n", unknown);
    return rc == 0;
}

/* The name: an empty line takes the one that is offered, "n" none. */
static bool ask_name(struct run *r, FILE *tty, char *name, size_t cap)
{
    char line[ASKED_MAX];
    do {
        if (!read_line(r, tty, line, sizeof(line)) || strcmp(line, "n") == 0 ||
            strcmp(line, "no") == 0)
            return false;
        if (line[0] == '\0' || strcmp(line, "y") == 0 || strcmp(line, "yes") == 0)
            return true;
    } while (!is_name(tty, line));
    (void)snprintf(name, cap, "%.63s", line); /* it is no longer */
    return true;
}

/*
 * On the terminal: the name, then for whom: an empty line is as the lists say. Each
 * question is a line of its own, as others write there too.
 */
static bool ask(struct run *r, const struct caught *c, char *name, size_t cap,
                char audience[static SERVICE_AUDIENCE_LEN])
{
    char text[ADDR_TEXT_LEN];
    FILE *tty = fopen("/dev/tty", "r+e");
    if (tty == NULL)
        return false;
    (void)fprintf(tty,
                  "%s (pid %d) listens on %s %s. Publish it? [name, default %s; n]\n",
                  c->program, (int)c->pid, c->tcp ? "TCP" : "UDP",
                  addr_format(&c->local, text), *name != '\0' ? name : "its port");
    bool yes = ask_name(r, tty, name, cap);
    do {
        if (!yes || r->config->audience != NULL)
            break;
        (void)fprintf(tty, "For whom? [names of devices or accounts; empty: all whose "
                           "list has it]\n");
        yes = read_line(r, tty, audience, SERVICE_AUDIENCE_LEN);
    } while (yes && !is_known(r, tty, audience));
    (void)fclose(tty);
    return yes;
}

static bool wanted(const struct run *r, uint16_t port)
{
    for (size_t i = 0; i < r->config->only_count; i++)
        if (r->config->only[i] == port)
            return true;
    return r->config->only == NULL;
}

/* Once a port: a misprint in --only would be met by silence else. */
static void tell_left_out(struct run *r, const struct caught *c)
{
    char text[ADDR_TEXT_LEN];
    for (size_t i = 0; i < r->left_out_count; i++)
        if (r->left_out[i] == c->local.port)
            return;
    if (!c->tcp || wanted(r, c->local.port) || r->left_out_count == LEFT_OUT_MAX)
        return;
    r->left_out[r->left_out_count++] = c->local.port;
    log_warn(
        "%s (pid %d) listens on %s, which --only does not name: it is not published",
        c->program, (int)c->pid, addr_format(&c->local, text));
}

static struct serving *find(struct run *r, uint64_t cookie)
{
    for (int i = 0; i < SERVING_MAX; i++)
        if (r->serving[i].used && r->serving[i].cookie == cookie)
            return &r->serving[i];
    return NULL;
}

/*
 * Many programs open one socket for IPv4 and one for IPv6, or one for each of their
 * workers (SO_REUSEPORT): that is one service.
 */
static bool are_twins(const struct addr *a, const struct addr *b)
{
    return addr_equal(a, b) || (a->port == b->port && a->family != b->family &&
                                scope_of(a) != SCOPE_ONE && scope_of(a) == scope_of(b));
}

static const struct serving *twin_of(const struct run *r, const struct addr *local,
                                     bool tcp, const char *program)
{
    for (int i = 0; i < SERVING_MAX; i++) {
        const struct serving *s = &r->serving[i];
        if (s->used && s->conn >= 0 && s->tcp == tcp && are_twins(&s->local, local) &&
            strcmp(s->program, program) == 0)
            return s;
    }
    return NULL;
}

static void withdraw(struct run *r, struct serving *s)
{
    if (s->conn >= 0) {
        close(s->conn);
        tell(r, "withdrawn", s, NULL);
    }
    *s = (struct serving){.conn = -1};
}

static void tell_away(struct run *r, const char *how)
{
    if (!r->away)
        log_warn("%s %s: nothing is published until it is back%s",
                 r->own_host ? "the serving process" : "the running 'postern serve'",
                 how, r->own_host ? "; it is started again" : "");
    r->away = true;
}

/* False when no host answers; whom that one refuses may find room in the next. */
static bool publish_and_tell(struct run *r, struct serving *s)
{
    if (now_ms() < r->publish_again)
        return false;
    int rc = publish(r, s);
    if (rc == 0) {
        s->refused = false;
        tell(r, "published", s, s->program);
    }
    if (rc == POSTERN_ERR_TIMEOUT) /* the program's calls wait that long */
        r->publish_again = now_ms() + HANGS_MS;
    if (rc < 0)
        tell_away(r, rc == POSTERN_ERR_TIMEOUT ? "does not answer" : "ended");
    else
        r->away = false;
    return rc >= 0;
}

/* Its host has ended: then the connection to it has, too. */
static void look_at_host(struct run *r, struct serving *s)
{
    struct ready p = {.fd = s->conn, .wanted = WATCH_READ}; /* it says no more */
    if (s->conn < 0 || ready_wait(&p, 1, 0) != 1)
        return;
    (void)close(s->conn);
    s->conn = -1;
    tell_away(r, "ended");
}

/* The person's word is asked for while the program's call waits. */
static void on_server(struct run *r, struct caught *c)
{
    struct serving *s = find(r, c->cookie);
    char name[SERVICE_NAME_LEN], audience[SERVICE_AUDIENCE_LEN] = "";
    bool known = s != NULL; /* it listens again, with another backlog */
    for (int i = 0; i < SERVING_MAX && s == NULL; i++)
        if (!r->serving[i].used)
            s = &r->serving[i];
    name_from(name, sizeof(name) - 8, c->program);
    if (r->config->audience != NULL)
        (void)snprintf(audience, sizeof(audience), "%s", r->config->audience);
    const struct serving *twin = twin_of(r, &c->local, c->tcp, c->program);
    tell_left_out(r, c);
    bool yes =
        !known && s != NULL && wanted(r, c->local.port) &&
        (twin != NULL || !r->config->ask || ask(r, c, name, sizeof(name), audience));
    if ((c->tcp && catcher_allow(r->catcher, c) != 0) || !yes)
        return;
    *s = (struct serving){.used = true,
                          .seen = true,
                          .tcp = c->tcp,
                          .cookie = c->cookie,
                          .conn = -1,
                          .local = c->local};
    (void)snprintf(s->name, sizeof(s->name), "%s", twin != NULL ? twin->name : name);
    (void)snprintf(s->program, sizeof(s->program), "%s", c->program);
    (void)snprintf(s->audience, sizeof(s->audience), "%s",
                   twin != NULL ? twin->audience : audience);
    if (twin == NULL)
        (void)publish_and_tell(r, s);
}

/* ---------------------------------------------------------------------- who serves */

static bool host_answers(struct run *r)
{
    char path[STATEDIR_SOCKET_LEN];
    int fd;
    statedir_socket(&r->state, "serve", path);
    if (local_dial(path, &fd) != 0)
        return false;
    close(fd);
    return true;
}

/* Why it ended goes to `tell`: this process has one line for it, and no word of ours.
 */
_Noreturn static void run_host(const struct run_config *c, int tell)
{
    struct fault f = {0};
    sigset_t none;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setpgid(0, 0); /* a key pressed for the program is not for this */
    int rc = serve_run(&c->serve, &f);
    if (rc != 0)
        (void)!write(tell, &f, sizeof(f)); /* fits into a pipe at once */
    _exit(rc == 0 ? 0 : rc == POSTERN_ERR_USAGE ? 2 : 1);
}

/* One of our own. It may fail for want of processes or descriptors. */
static int start_host(struct run *r)
{
    int word[2];
    r->host_since = now_ms();
    r->host_again = r->host_since + AGAIN_MAX_MS; /* if it cannot even begin */
    if (pipe2(word, O_CLOEXEC | O_NONBLOCK) != 0)
        return POSTERN_ERR_LIMIT;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        catcher_close(r->catcher); /* the program's calls are not for this */
        run_host(r->config, word[1]);
    }
    (void)close(word[1]);
    if (r->host_word >= 0)
        (void)close(r->host_word);
    r->host_word = word[0];
    r->host = pid > 0 ? pid : 0;
    return pid > 0 ? 0 : POSTERN_ERR_LIMIT;
}

/* The running host, or one of our own until the program ends. */
static int find_host(struct run *r, struct fault *f)
{
    if (host_answers(r))
        return 0;
    r->own_host = true;
    if (start_host(r) != 0)
        return fault_lack(f, POSTERN_ERR_LIMIT);
    for (int64_t end = now_ms() + SERVE_START_MS; now_ms() < end;) {
        int status;
        struct timespec pause = {.tv_nsec = 20000000};
        if (host_answers(r))
            return 0;
        if (waitpid(r->host, &status, WNOHANG) == r->host) {
            r->host = 0;
            if (read_host_word(r, f))
                return f->code;
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    return fault_set(f, POSTERN_ERR_CLOSED, "run it again with --verbose",
                     "the host that would publish the program did not start");
}

/* ------------------------------------------------------------------------ the loop */

static void on_socket(void *ctx, const struct sockdiag_socket *sock)
{
    struct run *r = ctx;
    struct serving *s = find(r, sock->cookie);
    if (s != NULL)
        s->seen = s->listed = true;
    /* Multipath TCP is listed as the TCP socket inside it, which has another cookie. */
    for (int i = 0; i < SERVING_MAX && s == NULL; i++)
        if (r->serving[i].used && !r->serving[i].listed &&
            r->serving[i].tcp == sock->tcp &&
            addr_equal(&r->serving[i].local, &sock->local))
            r->serving[i].seen = true;
}

/* What the program closed is published no more. */
static void sweep(struct run *r)
{
    for (int i = 0; i < SERVING_MAX; i++)
        r->serving[i].seen = false;
    if (!sockdiag_listeners(on_socket, r))
        return;
    for (int i = 0; i < SERVING_MAX; i++)
        if (r->serving[i].used && !r->serving[i].seen)
            withdraw(r, &r->serving[i]);
}

/* What is not: its twin has gone, or the host that published it ended. */
static void publish_rest(struct run *r)
{
    bool answers = true;
    for (int i = 0; i < SERVING_MAX; i++)
        look_at_host(r, &r->serving[i]);
    if (r->own_host && r->host == 0 && now_ms() >= r->host_again && !host_answers(r))
        start_host(r);
    for (int i = 0; i < SERVING_MAX && answers; i++) {
        struct serving *s = &r->serving[i];
        if (s->used && s->conn < 0 && twin_of(r, &s->local, s->tcp, s->program) == NULL)
            answers = publish_and_tell(r, s);
    }
}

static void supervise(struct run *r)
{
    int64_t sweep_at = now_ms() + TICK_MS;
    bool left = true;
    while (left) {
        struct ready p[2] = {{.fd = catcher_fd(r->catcher), .wanted = WATCH_READ},
                             {.fd = r->signals, .wanted = WATCH_READ}};
        int64_t wait = sweep_at - now_ms();
        (void)!ready_wait(p, 2, wait > 0 ? (int)wait : 0);
        if (p[1].is != 0)
            (void)on_signal(r);
        if (p[0].is != 0) {
            struct caught c;
            int rc = catcher_next(r->catcher, &c);
            left = rc != POSTERN_ERR_CLOSED;
            if (rc == 1)
                on_server(r, &c);
        }
        if (now_ms() >= sweep_at) {
            sweep(r);
            publish_rest(r);
            sweep_at = now_ms() + TICK_MS;
        }
    }
    for (int i = 0; i < 100 && !r->program_ended; i++) { /* nobody left: its status */
        struct ready p = {.fd = r->signals, .wanted = WATCH_READ};
        reap(r);
        if (!r->program_ended)
            (void)!ready_wait(&p, 1, 20);
    }
}

/* `before`: the program's mask, as it was ours. */
static int watch_signals(sigset_t *before)
{
    struct sigaction hup;
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    if (sigaction(SIGHUP, NULL, &hup) != 0 || hup.sa_handler != SIG_IGN)
        (void)sigaddset(&set, SIGHUP); /* nohup: blocked it would be ours again */
    (void)sigprocmask(SIG_BLOCK, &set, before);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int check_audience(struct run *r, struct fault *f)
{
    char unknown[ROSTER_NAME_LEN];
    const char *audience = r->config->audience;
    if (strlen(audience) >= SERVICE_AUDIENCE_LEN)
        return fault_set(f, POSTERN_ERR_LIMIT, "name fewer", "the list is too long");
    return audience_check(&r->state, audience, unknown, f);
}

int run_program(const struct run_config *c, int *status, struct fault *f)
{
    struct run *r = calloc(1, sizeof(*r));
    sigset_t signals;
    struct catcher_config cc = {.argv = c->argv,
                                .loopback = c->loopback,
                                .stdout_to_stderr = c->out->json,
                                .signals = &signals};
    if (r == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    r->config = c;
    r->host_word = r->signals = -1;
    for (int i = 0; i < SERVING_MAX; i++)
        r->serving[i].conn = -1;
    int rc = statedir_open(&r->state, c->serve.state, f);
    if (rc == 0 && c->audience != NULL)
        rc = check_audience(r, f);
    if (rc == 0)
        rc = find_host(r, f);
    if (rc == 0) { /* before it lives: it must not be left alone */
        r->signals = watch_signals(&signals);
        rc = catcher_start(&r->catcher, &cc, f);
    }
    if (rc == 0) {
        supervise(r);
        *status = r->status;
    }
    if (r->signals >= 0)
        close(r->signals);
    for (int i = 0; i < SERVING_MAX; i++)
        if (r->serving[i].used)
            withdraw(r, &r->serving[i]);
    if (r->host > 0) {
        (void)kill(r->host, SIGTERM);
        (void)waitpid(r->host, NULL, 0);
    }
    if (r->host_word >= 0)
        (void)close(r->host_word);
    catcher_close(r->catcher);
    free(r);
    return rc;
}

/* One stream between a service and this process's standard files. */
#include "client/nc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "client/call.h"
#include "client/share.h"
#include "core/guess.h"
#include "io/lack.h"
#include "io/local_fault.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/ready.h"
#include "io/sock.h"
#include "io/stdfd.h"

enum {
    COPY_BYTES = 256 * 1024,
    THREAD_STACK = 256 * 1024,
    /* Nobody reads stdout any more: so long may stdin be silent, or the stream stuck.
     */
    PAUSE_MS = 1000,
    STUCK_MS = 10000,
    SENT_MS = 1000, /* from "all is sent" to the end */
    TICK_MS = 50,
};

enum bridge_end {
    BRIDGE_DRAINED, /* stdout got the stream to its end */
    BRIDGE_BROKEN,  /* a write to stdout failed: `error` */
    BRIDGE_LEFT,    /* nobody reads stdout, and stdin has ended or pauses */
    BRIDGE_UNREAD,  /* stdin failed before its end: `error` */
    BRIDGE_END_COUNT
};

/*
 * Between this process's stdin and stdout and a connected socket: two threads that
 * block, so that shared terminals and files keep their modes. They may block until the
 * process ends, and so the last of the three that leaves frees this. What they report
 * is under the lock.
 */
struct stdio_bridge {
    int fd;                 /* the threads' end of the pair */
    int wake;               /* a flag: nobody reads stdout any more */
    atomic_bool stdin_over; /* with it the process ends, and so its sockets */
    pthread_mutex_t lock;
    unsigned holders; /* the two threads and the loop's side */
    struct wake done; /* closed when the loop's side is gone */
    bool ended[BRIDGE_END_COUNT];
    int error[BRIDGE_END_COUNT]; /* of errno */
    void (*on_end)(void *ctx, enum bridge_end how, int error);
    void *ctx;
};

static void let_go(struct stdio_bridge *b)
{
    (void)pthread_mutex_lock(&b->lock);
    bool last = --b->holders == 0;
    (void)pthread_mutex_unlock(&b->lock);
    if (!last)
        return;
    (void)close(b->fd);
    (void)close(b->wake);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}

/* The last thing that a thread does with it. */
static void leave(struct stdio_bridge *b, enum bridge_end how, int error)
{
    (void)pthread_mutex_lock(&b->lock);
    b->ended[how] = true;
    b->error[how] = error;
    if (wake_is_open(&b->done))
        wake_up(&b->done);
    (void)pthread_mutex_unlock(&b->lock);
    let_go(b);
}

static void on_done(void *ctx)
{
    struct stdio_bridge *b = ctx;
    for (int how = 0; wake_is_open(&b->done) && how < BRIDGE_END_COUNT; how++) {
        (void)pthread_mutex_lock(&b->lock);
        bool ended = b->ended[how];
        b->ended[how] = false;
        (void)pthread_mutex_unlock(&b->lock);
        if (ended)
            b->on_end(b->ctx, (enum bridge_end)how, b->error[how]);
    }
}

/* ------------------------------------------------------------------ stdin's thread */

/*
 * Waits for `events` of `fd`. Once nobody reads stdout, for `patience_ms` at most:
 * false when that is over.
 */
static bool wait_for(struct stdio_bridge *b, int fd, int events, int patience_ms)
{
    struct ready p[2] = {{.fd = fd, .wanted = events},
                         {.fd = b->wake, .wanted = WATCH_READ}};
    for (;;) {
        int n = ready_wait(p, 2, p[1].fd < 0 ? patience_ms : -1);
        if (n < 0 && n != POSTERN_ERR_AGAIN)
            return false;
        if (n == 0 || (n > 0 && p[0].is != 0))
            return n > 0;
        if (n > 0)
            p[1].fd = -1;
    }
}

static bool unread(const struct stdio_bridge *b)
{
    struct ready p = {.fd = b->wake, .wanted = WATCH_READ};
    return ready_wait(&p, 1, 0) == 1;
}

static bool send_all(struct stdio_bridge *b, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = sock_write(b->fd, buf, len);
        if (n == POSTERN_ERR_AGAIN && wait_for(b, b->fd, WATCH_WRITE, STUCK_MS))
            continue;
        if (n <= 0)
            return false;
        buf += n;
        len -= (size_t)n;
    }
    return true;
}

/*
 * What ends stdin without an error: a terminal that hung up, also before it was looked
 * at, and a descriptor that is not for reading, which is how nohup says "no input".
 */
static bool is_end(int err)
{
    return err == EBADF || (err == EIO && (isatty(STDIN_FILENO) || errno == EIO));
}

/* 0 at its end, or where nobody takes it any more; else what failed, of errno. */
static int copy_stdin(struct stdio_bridge *b, uint8_t *buf)
{
    while (wait_for(b, STDIN_FILENO, WATCH_READ, PAUSE_MS)) {
        ssize_t n = read(STDIN_FILENO, buf, COPY_BYTES);
        int err = n < 0 ? errno : 0;
        if (err == EINTR || err == EAGAIN)
            continue;
        if (err != 0)
            return is_end(err) ? 0 : err;
        if (n == 0 || !send_all(b, buf, (size_t)n))
            break;
    }
    return 0;
}

static void *copy_in(void *arg)
{
    struct stdio_bridge *b = arg;
    uint8_t *buf = malloc(COPY_BYTES);
    int err = buf != NULL ? copy_stdin(b, buf) : ENOMEM;
    free(buf);
    if (err != 0) { /* half of it is no whole: the stream gets no end */
        leave(b, BRIDGE_UNREAD, err);
        return NULL;
    }
    atomic_store(&b->stdin_over, true);
    sock_end_writing(b->fd);
    if (!unread(b)) /* it may come to that later */
        (void)wait_for(b, -1, 0, 0);
    leave(b, BRIDGE_LEFT, 0);
    return NULL;
}

/* ----------------------------------------------------------------- stdout's thread */

/*
 * Its reader sees the end; the number stays taken, so that nothing else gets it. A
 * socket that is stdin as well (of `postern send`, inetd, socat) stays open by that:
 * its end is said.
 */
static void end_stdout(const struct stdio_bridge *b)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (!atomic_load(&b->stdin_over) && stdfd_is_stdin(STDOUT_FILENO))
        sock_end_writing(STDOUT_FILENO);
    if (null < 0 || dup2(null, STDOUT_FILENO) < 0)
        (void)close(STDOUT_FILENO);
    if (null >= 0)
        (void)close(null);
}

/* 0, or why stdout takes no more. */
static int write_all(const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, buf, len);
        if (n < 0 && errno == EAGAIN) { /* another program made it so */
            struct ready p = {.fd = STDOUT_FILENO, .wanted = WATCH_WRITE};
            (void)!ready_wait(&p, 1, -1);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        buf += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Waits for bytes of the stream, and tells stdin's thread when nobody wants them. */
static void wait_stream(struct stdio_bridge *b, bool *watched)
{
    struct ready p[2] = {{.fd = b->fd, .wanted = WATCH_READ},
                         {.fd = *watched ? STDOUT_FILENO : -1}};
    while (ready_wait(p, 2, -1) < 0 || p[0].is == 0) {
        if (p[1].fd < 0 || p[1].is == 0)
            continue;
        p[1].fd = -1;
        *watched = false;
        ready_flag_raise(b->wake);
    }
}

static void *copy_out(void *arg)
{
    struct stdio_bridge *b = arg;
    uint8_t *buf = malloc(COPY_BYTES);
    bool any = false, watched = true;
    int err = buf != NULL ? 0 : ENOMEM;
    while (err == 0) {
        wait_stream(b, &watched);
        ssize_t n = sock_read(b->fd, buf, COPY_BYTES);
        if (n == POSTERN_ERR_AGAIN)
            continue;
        if (n <= 0)
            break;
        any = true;
        err = stdfd_was_closed(STDOUT_FILENO) ? EBADF : write_all(buf, (size_t)n);
    }
    free(buf);
    /* Not before the words why nothing came: then the stream broke, both ways. */
    if (err == 0 && (any || !sock_is_over(b->fd)))
        end_stdout(b);
    leave(b, err == 0 ? BRIDGE_DRAINED : BRIDGE_BROKEN, err);
    return NULL;
}

/* ---------------------------------------------------------------------- the bridge */

/* With a small stack: where there is little room to map, `nc` is no worse than others.
 */
static bool start_thread(void *(*run)(void *), struct stdio_bridge *b)
{
    pthread_attr_t attr;
    pthread_t thread;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, THREAD_STACK);
    int rc = pthread_create(&thread, &attr, run, b);
    (void)pthread_attr_destroy(&attr);
    return rc == 0;
}

/* `*fd` is the caller's. `on_end` runs on the loop, once for each. */
static int bridge_start(struct stdio_bridge **out, struct loop *loop, int *fd,
                        void (*on_end)(void *ctx, enum bridge_end how, int error),
                        void *ctx)
{
    int pair[2];
    struct stdio_bridge *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return POSTERN_ERR_NOMEM;
    b->wake = ready_flag_open();
    if (b->wake < 0 || wake_open(&b->done, loop, on_done, b) != 0 ||
        sock_pair(pair) != 0) {
        int err = errno; /* for fault_lack */
        if (b->wake >= 0)
            (void)close(b->wake);
        wake_close(&b->done);
        free(b);
        errno = err;
        return POSTERN_ERR_NOMEM;
    }
    (void)pthread_mutex_init(&b->lock, NULL);
    b->holders = 3;
    b->fd = pair[1];
    b->on_end = on_end;
    b->ctx = ctx;
    *fd = pair[0];
    *out = b;
    if (!start_thread(copy_in, b))
        leave(b, BRIDGE_UNREAD, ENOMEM);
    if (!start_thread(copy_out, b))
        leave(b, BRIDGE_BROKEN, ENOMEM);
    return 0;
}

static void bridge_close(struct stdio_bridge *b)
{
    if (b == NULL)
        return;
    (void)pthread_mutex_lock(&b->lock);
    wake_close(&b->done);
    (void)pthread_mutex_unlock(&b->lock);
    sock_end(b->fd); /* ends the threads, where nothing else holds them */
    let_go(b);
}

/* ------------------------------------------------------------------------- the run */

struct nc {
    struct client *client;
    struct calls *calls;
    struct call *call; /* NULL: none, or `up` has it */
    struct peer *peer;
    struct stdio_bridge *bridge;
    struct timer tick; /* stdin is at its end and nobody reads stdout */
    unsigned ticks, sent_ticks;
    char host[64];
    const char *service;
    bool started, answered, ended, drained, broken;
    int opened;         /* raised when it is; or -1 */
    bool lost;          /* with the daemon that had it */
    struct fault cause; /* what broke it, where that is not the service */
};

static void finish(struct nc *s)
{
    struct fault f;
    if (!s->ended || !s->drained)
        return;
    if (s->lost)
        (void)fault_set(&f, POSTERN_ERR_CLOSED, "start it again, and try again",
                        "the connection to %s is lost: 'postern up' ended", s->host);
    else if (s->cause.what[0] != '\0')
        f = s->cause;
    else if (s->broken)
        (void)fault_set(&f, POSTERN_ERR_CLOSED,
                        "what came may not be all: check the service, and try again",
                        "the connection to %s was broken before its end", s->host);
    client_stop(s->client, s->broken ? f.code : 0, s->broken ? &f : NULL);
}

static const char *advice_for(unsigned code)
{
    switch (code) {
    case STREAM_NOTFOUND:
        return "see 'postern ls' for what it publishes";
    case STREAM_DENIED:
        return "ask the host's owner for a new invite";
    case SHARE_LOST:
        return "try again: without it this command connects by itself";
    default:
        return "check the service on the host";
    }
}

static bool is_called(const struct book_service *s, const char *word)
{
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", (unsigned)s->port);
    return strcasecmp(s->name, word) == 0 || strcmp(port, word) == 0;
}

/* Among the services that the host showed last there may be the one that was meant. */
static void service_advice(struct nc *s, unsigned code, char *out, size_t cap)
{
    struct book_host h;
    struct book_service list[BOOK_SERVICE_MAX];
    struct book *b = client_book(s->client);
    struct guess g;
    guess_begin(&g, s->service);
    if (code == STREAM_NOTFOUND && book_find(b, s->host, &h, NULL) == 0) {
        int n = book_services(b, h.key, list, BOOK_SERVICE_MAX);
        for (int i = 0; i < n; i++) {
            if (list[i].udp && is_called(&list[i], s->service)) {
                (void)snprintf(out, cap, "forward it: postern connect %.63s:%.63s",
                               s->host, list[i].name);
                return;
            }
            guess_offer(&g, list[i].name);
        }
    }
    guess_advice(&g, out, cap, advice_for(code));
}

static void take_answer(struct nc *s, unsigned code, const char *reason,
                        const char *known)
{
    struct fault f;
    size_t len = strlen(s->host);
    s->answered = true;
    if (code == STREAM_OK && s->opened >= 0)
        ready_flag_raise(s->opened);
    if (code == STREAM_OK)
        return;
    char advice[200];
    (void)snprintf(advice, sizeof(advice), "%s", known);
    if (known[0] == '\0')
        service_advice(s, code, advice, sizeof(advice));
    /* What a host says of itself is said by the name that it has here. */
    bool named = known[0] != '\0' ||
                 (code != STREAM_NOTFOUND && code != STREAM_DENIED) ||
                 strncmp(reason, s->host, len) == 0;
    (void)fault_set(&f,
                    code == STREAM_REFUSED    ? POSTERN_ERR_REFUSED
                    : code == STREAM_NOTFOUND ? POSTERN_ERR_NOTFOUND
                                              : POSTERN_ERR_UNREACHABLE,
                    advice, "%.63s%s%.300s", named ? "" : s->host, named ? "" : ": ",
                    reason);
    client_stop(s->client, f.code, &f);
}

static void on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    take_answer(ctx, code, reason, call_advice(c));
}

static void on_end(void *ctx, struct call *c)
{
    struct nc *s = ctx;
    s->call = NULL;
    s->ended = true;
    s->broken = call_code(c) != 0;
    const struct fault *why = peer_why_none(s->peer);
    if (s->broken && why != NULL)
        s->cause = *why;
    finish(s);
}

static void on_shared_wait(void *ctx, const char *why)
{
    (void)ctx;
    log_warn("waiting: %s", why);
}

static void on_wait(void *ctx, struct call *c, const char *why)
{
    (void)c;
    on_shared_wait(ctx, why);
}

static void on_shared_answer(void *ctx, unsigned code, const char *reason,
                             const char *advice)
{
    take_answer(ctx, code, reason, advice);
}

static void on_shared_news(void *ctx, const char *what)
{
    (void)ctx;
    log_warn("%s", what);
}

static void on_shared_end(void *ctx, unsigned code, const char *reason,
                          const char *advice)
{
    struct nc *s = ctx;
    struct fault f;
    if (code == STREAM_TIMEOUT) { /* nobody will end it in order */
        (void)fault_set(&f, POSTERN_ERR_TIMEOUT, "start it again, and try again",
                        "the connection to %s is lost: %.200s", s->host, reason);
        client_stop(s->client, f.code, &f);
        return;
    }
    s->ended = true;
    s->broken = code != STREAM_OK;
    s->lost = code == SHARE_LOST;
    if (s->broken && advice[0] != '\0')
        (void)fault_set(&s->cause, POSTERN_ERR_CLOSED, advice, "%s", reason);
    finish(s);
}

/* What stdin said goes out before the connection is given up. */
static void on_tick(void *ctx)
{
    struct nc *s = ctx;
    bool sent =
        s->call != NULL ? call_is_sent(s->call) : sock_unsent(s->bridge->fd) == 0;
    s->sent_ticks = sent ? s->sent_ticks + 1 : 0;
    if (s->sent_ticks > SENT_MS / TICK_MS || ++s->ticks > STUCK_MS / TICK_MS)
        client_stop(s->client, 0, NULL);
}

static void fail_output(struct nc *s, int error)
{
    struct fault f;
    if (error == ENOMEM) {
        client_stop(s->client, fault_lack(&f, POSTERN_ERR_NOMEM), &f);
        return;
    }
    (void)fault_set(&f, error == ENOSPC ? POSTERN_ERR_FULL : POSTERN_ERR_IO,
                    error == EBADF ? "send it to /dev/null where nobody wants it"
                                   : "free some space or send it elsewhere",
                    "cannot write the output: %s",
                    error == EBADF ? "stdout was closed" : strerror(error));
    client_stop(s->client, f.code, &f);
}

/* With this process the stream ends, in disorder. */
static void fail_input(struct nc *s, int error)
{
    struct fault f;
    if (error == ENOMEM) {
        client_stop(s->client, fault_lack(&f, POSTERN_ERR_NOMEM), &f);
        return;
    }
    (void)fault_set(&f, POSTERN_ERR_IO,
                    "the service got only a part: check what is read, and try again",
                    "standard input: %s", strerror(error));
    client_stop(s->client, f.code, &f);
}

static void on_bridge_end(void *ctx, enum bridge_end how, int error)
{
    struct nc *s = ctx;
    if (how == BRIDGE_DRAINED) {
        s->drained = true;
        finish(s);
    } else if (how == BRIDGE_LEFT) {
        timer_every(&s->tick, TICK_MS, TICK_MS);
    } else if (how == BRIDGE_UNREAD) {
        fail_input(s, error);
    } else if (error == EPIPE) {
        client_stop(s->client, 0, NULL);
    } else {
        fail_output(s, error);
    }
}

static const struct share_events share_events = {.on_answer = on_shared_answer,
                                                 .on_wait = on_shared_wait,
                                                 .on_news = on_shared_news,
                                                 .on_end = on_shared_end};

static int start_shared(struct nc *s)
{
    int fd = -1;
    int rc = bridge_start(&s->bridge, client_loop(s->client), &fd, on_bridge_end, s);
    if (rc == 0)
        rc = share_open(client_shares(s->client), client_statedir(s->client),
                        client_loop(s->client), s->host, s->service, fd, &share_events,
                        s);
    s->started = rc == 0;
    return rc;
}

static void on_ready(void *ctx, struct peer *p)
{
    struct nc *s = ctx;
    struct call_config cc = {.peer = p,
                             .service = s->service,
                             .patient = true,
                             .on_answer = on_answer,
                             .on_wait = on_wait,
                             .on_end = on_end,
                             .ctx = s};
    struct fault f;
    if (s->started)
        return;
    s->started = true;
    if (bridge_start(&s->bridge, client_loop(s->client), &cc.fd, on_bridge_end, s) !=
            0 ||
        call_start(&s->call, s->calls, &cc) != 0) {
        (void)fault_lack(&f, POSTERN_ERR_NOMEM);
        client_stop(s->client, f.code, &f);
    }
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct nc *s = ctx;
    (void)p;
    if (fatal || !s->started)
        client_stop_unless(s->client, f, fatal);
    else if (s->ended || !peer_is_ready(s->peer))
        client_stop(s->client, f->code, f); /* the one stream is lost */
    else if (s->answered) /* it waits; before that, the call says how it is */
        log_warn("%s; %s", f->what, f->advice);
}

static void on_heard(void *ctx, struct peer *p, const char *what)
{
    (void)p;
    on_shared_news(ctx, what);
}

int nc_run(const struct client_config *c, const char *host, const char *service,
           int opened, struct fault *f)
{
    static const struct client_events events = {
        .on_ready = on_ready, .on_fault = on_fault, .on_heard = on_heard};
    struct client_config cc = *c;
    struct nc s = {.service = service, .opened = opened};
    (void)snprintf(s.host, sizeof(s.host), "%.63s", host);
    cc.quiet = true; /* stdout carries the connection */
    int rc = client_open(&s.client, &cc, &events, &s, f);
    if (rc != 0)
        return rc;
    timer_init(&s.tick, client_loop(s.client), on_tick, &s);
    rc = calls_new(&s.calls, client_loop(s.client));
    if (rc != 0)
        (void)fault_lack(f, rc);
    struct book_host h;
    if (rc == 0)
        rc = book_find(client_book(s.client), s.host, &h, f);
    if (rc == 0) {
        memcpy(s.host, h.name, sizeof(s.host));
        /* Who waits for a host does so with a session of his own: the daemon's patience
         * has an end, also where it has only begun and knows nothing yet. */
        if (c->paths == PATH_KINDS_DEFAULT && client_finds_up(s.client) &&
            (c->wait_ms == 0 || share_reaches(client_statedir(s.client), h.name))) {
            rc = start_shared(&s);
            if (rc == POSTERN_ERR_NOMEM)
                (void)fault_lack(f, rc);
            else if (rc != 0)
                (void)local_fault(client_statedir(s.client), "up", rc, f);
        } else {
            rc = client_peer(s.client, s.host, &s.peer, f);
        }
    }
    if (rc == 0)
        rc = client_run(s.client, f);
    calls_free(s.calls);
    bridge_close(s.bridge);
    timer_stop(&s.tick);
    client_close(s.client);
    return rc;
}

/* The commands' side of the daemon's local socket. */
#include "client/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/proto.h"
#include "io/local.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/ready.h"
#include "io/sock.h"

enum {
    REPLY_MS = 2000,
    ALIVE_MS = 5000,
    /* For the daemon's first word, which it says after 5 s at most, and then for the
       next, which it says every 2 s: then its user is told, and then ended. */
    WORD_MS = 6500,
    LAST_WORD_MS = 3500,
    STRIKES_MAX = 7,   /* for one that is stuck, as on a dead disk: 30 s in all */
    BUSY_STRIKES = 16, /* for one that goes on, among a crowd: a minute */
    BUSY_TOLD = 3,     /* of a stream that stands: such an outage is told after 13 s */
    BUSY_FINDS = 12,   /* of ALIVE_MS each */
    ANSWER_MS = 20000, /* for the host's answer, once the daemon said that it waits */
};

struct shared {
    struct list link;
    const struct statedir *state;
    int fd;
    int passed; /* the connection itself, so that it can be ended; -1 once answered */
    struct watch watch;
    struct timer timer; /* until the daemon's next word */
    const struct share_events *events;
    void *ctx;
    bool answered, told;
    bool watches; /* no stream of its own: nothing is given up */
    bool silence_told;
    unsigned strikes; /* how often the daemon's silence was seen */
    uint64_t turns;   /* of the daemon, at the last look */
};

enum silence {
    SILENCE_STUCK,   /* it does nothing at all */
    SILENCE_STOPPED, /* there is a cure for that */
    SILENCE_BUSY,    /* it goes on, or would if it got a processor: a matter of time */
};

/* What keeps the daemon from answering. `turns`: as they were at the last look. */
static enum silence look_at(const struct statedir *state, uint64_t *turns, char *buf,
                            size_t cap)
{
    struct statedir_holder h;
    (void)statedir_held(state, "up", &h);
    bool goes_on = h.runs || h.turns != *turns;
    *turns = h.turns;
    if (h.stopped)
        (void)snprintf(buf, cap,
                       "'postern up' does not answer: it is stopped ('kill -CONT %ld' "
                       "lets it go on)",
                       h.pid);
    else
        (void)snprintf(buf, cap, "%s",
                       goes_on ? "'postern up' is busy, or this machine is"
                               : "'postern up' does not answer: it is stuck");
    return h.stopped ? SILENCE_STOPPED : goes_on ? SILENCE_BUSY : SILENCE_STUCK;
}

static uint64_t turns_of_up(const struct statedir *state)
{
    struct statedir_holder h;
    (void)statedir_held(state, "up", &h);
    return h.turns;
}

static int dial_up(const struct statedir *state, int *fd)
{
    char path[STATEDIR_SOCKET_LEN];
    statedir_socket(state, "up", path);
    return local_dial(path, fd);
}

int share_find(const struct statedir *state)
{
    LocalRequest req = LocalRequest_init_zero;
    LocalReply r = LocalReply_init_zero;
    char why[160];
    int fd;
    req.op = LOCAL_STATUS;
    int rc = dial_up(state, &fd);
    if (rc != 0)
        return rc;
    /* The kernel takes connections for a stopped program, too: only words are life. */
    uint64_t turns = turns_of_up(state);
    rc = local_send(fd, &req, -1);
    if (rc == 0)
        rc = local_recv(fd, &r, ALIVE_MS);
    for (int i = 1; rc == POSTERN_ERR_TIMEOUT && i < BUSY_FINDS &&
                    look_at(state, &turns, why, sizeof(why)) == SILENCE_BUSY;
         i++) {
        if (i == 1) /* to connect alone would cost the machine more */
            log_warn("waiting: %s", why);
        rc = local_recv(fd, &r, ALIVE_MS);
    }
    close(fd);
    return rc;
}

static void let_go(struct shared *s)
{
    timer_stop(&s->timer);
    if (s->passed >= 0)
        close(s->passed);
    s->passed = -1;
}

static void shared_free(struct shared *s)
{
    let_go(s);
    list_remove(&s->link);
    watch_close(&s->watch);
    timer_stop(&s->timer);
    close(s->fd);
    free(s);
}

static void tell_wait(struct shared *s, const char *why)
{
    if (!s->told && s->events->on_wait != NULL)
        s->events->on_wait(s->ctx, why);
    s->told = true;
}

static void tell_news(struct shared *s, const char *what)
{
    if (s->events->on_news != NULL)
        s->events->on_news(s->ctx, what);
}

/* The last that is said of it: `s` is gone. */
static void end(struct shared *s, unsigned code, const char *reason, const char *advice)
{
    const struct share_events *events = s->events;
    bool answered = s->answered;
    void *ctx = s->ctx;
    shared_free(s);
    if (answered && events->on_end != NULL)
        events->on_end(ctx, code, reason, advice);
    else if (!answered && events->on_answer != NULL)
        events->on_answer(ctx, code, reason, advice);
}

static void tell_silence(struct shared *s, enum silence how, const char *why)
{
    if (!s->answered) {
        tell_wait(s, why);
    } else if (!s->silence_told && (how != SILENCE_BUSY || s->strikes >= BUSY_TOLD)) {
        s->silence_told = true;
        tell_news(s, why);
    }
}

static bool is_given_up(const struct shared *s, enum silence how)
{
    if (how == SILENCE_BUSY)
        return !s->watches && s->strikes >= BUSY_STRIKES;
    if (!s->answered)
        return s->told;
    return !s->watches && s->strikes > 0 &&
           (how == SILENCE_STOPPED || s->strikes >= STRIKES_MAX);
}

/* The daemon is silent, with the connection in its hands. */
static void on_timer(void *k)
{
    struct shared *s = k;
    char why[160];
    struct ready word = {.fd = s->fd, .wanted = WATCH_READ};
    timer_start(&s->timer, LAST_WORD_MS);
    if (ready_wait(&word, 1, 0) == 1) /* it is this program that did not run */
        return;
    enum silence how = look_at(s->state, &s->turns, why, sizeof(why));
    if (is_given_up(s, how)) {
        if (s->passed >= 0)
            sock_end(s->passed);
        end(s, s->answered ? STREAM_TIMEOUT : SHARE_LOST, why, "");
        return;
    }
    s->strikes++;
    tell_silence(s, how, why);
}

/* While the stream stands: it lives, and perhaps has news of the host. */
static void on_word(struct shared *s, const LocalReply *r)
{
    timer_start(&s->timer, WORD_MS);
    if (s->silence_told)
        tell_news(s, "'postern up' answers again");
    s->silence_told = false;
    s->strikes = 0;
    char news[sizeof(r->reason) + sizeof(r->advice) + 2];
    (void)snprintf(news, sizeof(news), "%s%s%s", r->reason,
                   r->advice[0] != '\0' ? "; " : "", r->advice);
    if (news[0] != '\0')
        tell_news(s, news);
}

static void on_reply(void *k, int events)
{
    struct shared *s = k;
    LocalReply r = LocalReply_init_zero;
    (void)events;
    int rc = local_recv(s->fd, &r, REPLY_MS);
    unsigned code = r.code;
    const char *reason = r.reason;
    if (rc == 0 && s->answered && !r.last) {
        on_word(s, &r);
        return;
    }
    if (rc == 0 && r.waits && !s->answered) {
        timer_start(&s->timer, ANSWER_MS);
        tell_wait(s, reason);
        return;
    }
    if (rc != 0) {
        code = SHARE_LOST;
        reason = "'postern up' ended";
    } else if ((int32_t)r.code < 0 || r.code > STREAM_LIMIT) {
        code = STREAM_UNREACHABLE; /* the daemon's own fault */
    }
    if (s->answered || s->events->on_end == NULL || code != STREAM_OK) {
        end(s, code, reason, r.advice);
        return;
    }
    let_go(s);
    s->answered = true; /* and its end is waited for */
    s->strikes = 0;
    timer_start(&s->timer, WORD_MS);
    if (s->events->on_answer != NULL)
        s->events->on_answer(s->ctx, code, reason, "");
}

void share_forget(struct share_list *list)
{
    while (!list_empty(&list->all))
        shared_free(LIST_FIRST(&list->all, struct shared, link));
}

/* Asks, with `fd` or -1; what comes back is the list's. */
static int ask(struct shared **out, struct share_list *list,
               const struct statedir *state, struct loop *loop, const LocalRequest *req,
               int fd)
{
    struct shared *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    int rc = dial_up(state, &s->fd);
    if (rc != 0) {
        free(s);
        return rc;
    }
    rc = local_send(s->fd, req, fd);
    if (rc == 0)
        rc = watch_start(&s->watch, loop, s->fd, WATCH_READ, on_reply, s);
    if (rc != 0) {
        close(s->fd);
        free(s);
        return rc;
    }
    list_push(&list->all, &s->link);
    s->state = state;
    s->turns = turns_of_up(state);
    s->passed = fd;
    timer_init(&s->timer, loop, on_timer, s);
    loop_refresh(loop);
    timer_start(&s->timer, WORD_MS);
    *out = s;
    return 0;
}

int share_open(struct share_list *list, const struct statedir *state, struct loop *loop,
               const char *host, const char *service, int fd,
               const struct share_events *events, void *ctx)
{
    LocalRequest req = {.op = LOCAL_OPEN, .until_end = events->on_end != NULL};
    struct shared *s;
    (void)snprintf(req.host, sizeof(req.host), "%s", host);
    (void)snprintf(req.service, sizeof(req.service), "%s", service);
    int rc = ask(&s, list, state, loop, &req, fd);
    if (rc != 0)
        return rc;
    s->events = events;
    s->ctx = ctx;
    return 0;
}

int share_watch(struct share_list *list, const struct statedir *state,
                struct loop *loop, const char *host, const struct share_events *events,
                void *ctx)
{
    LocalRequest req = {.op = LOCAL_WATCH};
    struct shared *s;
    (void)snprintf(req.host, sizeof(req.host), "%s", host);
    int rc = ask(&s, list, state, loop, &req, -1);
    if (rc != 0)
        return rc;
    s->events = events;
    s->ctx = ctx;
    s->answered = s->watches = true;
    return 0;
}

/* Asks the daemon one thing of `host`; the descriptor that it answers at, or -1: there
 * is no daemon. The caller closes it. */
static int ask_daemon(const struct statedir *state, enum local_op op, const char *host)
{
    LocalRequest req = {.op = op};
    int fd;
    (void)snprintf(req.host, sizeof(req.host), "%s", host);
    if (dial_up(state, &fd) != 0)
        return -1;
    if (local_send(fd, &req, -1) == 0)
        return fd;
    close(fd);
    return -1;
}

void share_tell_joined(const struct statedir *state, const char *host)
{
    LocalReply r = LocalReply_init_zero;
    int fd = ask_daemon(state, LOCAL_RELOAD, host);
    if (fd < 0)
        return;
    (void)!local_recv(fd, &r, REPLY_MS);
    close(fd);
}

/* The reason of each kind that is not in use is for programs, and for --why. */
static bool is_for(const struct events *out, const char *json)
{
    return json[0] != '\0' &&
           (out == NULL || out->json || strstr(json, "\"event\":\"rejected\"") == NULL);
}

/* Prints what the daemon says of its paths to `host` to `out`, if any; does it reach
 * it?
 */
static bool ask_status(const struct statedir *state, const char *host,
                       struct events *out)
{
    LocalReply r = LocalReply_init_zero;
    bool reaches = false;
    int fd = ask_daemon(state, LOCAL_STATUS, host);
    if (fd < 0)
        return false;
    while (local_recv(fd, &r, REPLY_MS) == 0 && !r.last) {
        if (strstr(r.json, "\"event\":\"host\"") != NULL)
            reaches = strstr(r.json, "\"state\":\"online\"") != NULL;
        else if (is_for(out, r.json))
            events_print_json(out, r.json);
    }
    close(fd);
    return reaches;
}

bool share_reaches(const struct statedir *state, const char *host)
{
    return ask_status(state, host, NULL);
}

void share_print_paths(const struct statedir *state, const char *host,
                       struct events *out)
{
    (void)ask_status(state, host, out);
}

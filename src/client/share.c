/* The commands' side of the daemon's local socket. */
#include "client/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/proto.h"
#include "io/local.h"
#include "io/loop.h"
#include "io/sock.h"

enum {
    REPLY_MS = 2000,
    ALIVE_MS = 5000,
    /* For the daemon's first word, which it says after 5 s at most: then its user is
       told, and then ended. */
    WORD_MS = 6500,
    LAST_WORD_MS = 3500,
    ANSWER_MS = 20000 /* for the host's answer, once the daemon said that it waits */
};

struct shared {
    struct list link;
    int fd;
    int passed; /* the connection itself, so that it can be ended; -1 once answered */
    struct watch watch;
    struct timer timer; /* until the answer */
    share_cb cb, on_end;
    share_wait_cb on_wait;
    void *ctx;
    bool answered, told;
};

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
    int fd;
    req.op = LOCAL_STATUS;
    int rc = dial_up(state, &fd);
    if (rc != 0)
        return rc;
    /* The kernel takes connections for a stopped program, too: only words are life. */
    rc = local_send(fd, &req, -1);
    if (rc == 0)
        rc = local_recv(fd, &r, ALIVE_MS);
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
    if (!s->told && s->on_wait != NULL)
        s->on_wait(s->ctx, why);
    s->told = true;
}

/* The daemon is stopped or stuck, with the connection in its hands. */
static void on_timer(void *k)
{
    struct shared *s = k;
    if (!s->told) {
        timer_start(&s->timer, LAST_WORD_MS);
        tell_wait(s, "'postern up' does not answer");
        return;
    }
    share_cb cb = s->cb;
    void *ctx = s->ctx;
    sock_end(s->passed);
    shared_free(s);
    if (cb != NULL)
        cb(ctx, STREAM_TIMEOUT, "'postern up' does not answer: it is stopped or stuck");
}

static void on_reply(void *k, int events)
{
    struct shared *s = k;
    LocalReply r = LocalReply_init_zero;
    (void)events;
    int rc = local_recv(s->fd, &r, REPLY_MS);
    unsigned code = r.code;
    const char *reason = r.reason;
    if (rc == 0 && r.waits && !s->answered) {
        timer_start(&s->timer, ANSWER_MS);
        tell_wait(s, reason);
        return;
    }
    if (rc != 0) {
        code = STREAM_UNREACHABLE;
        reason = "'postern up' ended";
    } else if ((int32_t)r.code < 0 || r.code > STREAM_LIMIT) {
        code = STREAM_UNREACHABLE; /* the daemon's own fault */
    }
    share_cb cb = s->answered ? s->on_end : s->cb;
    void *ctx = s->ctx;
    if (!s->answered && s->on_end != NULL && code == STREAM_OK) {
        s->answered = true; /* and its end is waited for */
        let_go(s);
    } else {
        shared_free(s);
    }
    if (cb != NULL)
        cb(ctx, code, reason);
}

void share_forget(struct share_list *list)
{
    while (!list_empty(&list->all))
        shared_free(LIST_FIRST(&list->all, struct shared, link));
}

int share_open(struct share_list *list, const struct statedir *state, struct loop *loop,
               const char *host, const char *service, int fd, share_cb cb,
               share_cb on_end, share_wait_cb on_wait, void *ctx)
{
    LocalRequest req = LocalRequest_init_zero;
    struct shared *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    req.op = LOCAL_OPEN;
    (void)snprintf(req.host, sizeof(req.host), "%s", host);
    (void)snprintf(req.service, sizeof(req.service), "%s", service);
    req.until_end = on_end != NULL;
    int rc = dial_up(state, &s->fd);
    if (rc != 0) {
        free(s);
        return rc;
    }
    rc = local_send(s->fd, &req, fd);
    if (rc == 0)
        rc = watch_start(&s->watch, loop, s->fd, WATCH_READ, on_reply, s);
    if (rc != 0) {
        close(s->fd);
        free(s);
        return rc;
    }
    list_push(&list->all, &s->link);
    s->passed = fd;
    s->cb = cb;
    s->on_end = on_end;
    s->on_wait = on_wait;
    s->ctx = ctx;
    timer_init(&s->timer, loop, on_timer, s);
    loop_refresh(loop);
    timer_start(&s->timer, WORD_MS);
    return 0;
}

void share_print_paths(const struct statedir *state, const char *host,
                       struct events *out)
{
    LocalRequest req = LocalRequest_init_zero;
    LocalReply r = LocalReply_init_zero;
    int fd;
    req.op = LOCAL_STATUS;
    (void)snprintf(req.host, sizeof(req.host), "%s", host);
    if (dial_up(state, &fd) != 0)
        return;
    if (local_send(fd, &req, -1) == 0) {
        while (local_recv(fd, &r, REPLY_MS) == 0 && !r.last)
            if (strstr(r.json, "\"event\":\"host\"") == NULL)
                events_print_json(out, r.json);
    }
    close(fd);
}

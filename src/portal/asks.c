/* Questions to hosts, each a call without a service; see asks.h. */
#include "portal/asks.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "io/loop.h"
#include "io/sock.h"
#include "portal/visitor.h"

enum {
    ANSWER_MAX = 256 * 1024, /* a long audit log; no host may fill our memory */
    ANSWER_END_MS = 1000,    /* for what is in the socket when its call has ended */
    NOTE_MS = 10000,
    NOTES_MAX = 512,
};

struct asks {
    struct loop *loop;
    struct list all; /* struct ask */
    bool closed;
};

struct ask {
    struct list link;
    struct watch watch;
    struct timer timer;
    struct call *call; /* NULL when it has ended */
    int fd;
    bool eof;
    unsigned code;
    char reason[160];
    char *text;
    size_t len;
    ask_cb cb;
    void *ctx;
};

static void finish(struct ask *a, unsigned code, const char *reason)
{
    list_remove(&a->link);
    if (a->call != NULL)
        call_forget(a->call);
    a->call = NULL;
    watch_close(&a->watch);
    timer_stop(&a->timer);
    close(a->fd);
    a->cb(a->ctx, code, reason, a->text != NULL ? a->text : "");
    free(a->text);
    free(a);
}

/* True when it is over, and freed. */
static bool finish_if_over(struct ask *a)
{
    if (a->call != NULL || (a->code == 0 && !a->eof))
        return false;
    finish(a, a->code, a->code != 0 ? a->reason : "");
    return true;
}

static void on_answer(void *ctx, struct call *c, unsigned code, const char *reason)
{
    struct ask *a = ctx;
    (void)c;
    a->code = code;
    (void)snprintf(a->reason, sizeof(a->reason), "%s", reason);
}

static void on_end(void *ctx, struct call *c)
{
    struct ask *a = ctx;
    (void)c;
    a->call = NULL;
    timer_start(&a->timer, a->eof || a->code != 0 ? 0 : ANSWER_END_MS);
}

static void on_readable(void *ctx, int events)
{
    struct ask *a = ctx;
    char buf[16384];
    (void)events;
    ssize_t n = sock_read(a->fd, buf, sizeof(buf));
    if (n == POSTERN_ERR_AGAIN)
        return;
    if (n <= 0) {
        a->eof = true;
        watch_for(&a->watch, 0);
        (void)finish_if_over(a);
        return;
    }
    char *grown = a->len + (size_t)n > ANSWER_MAX
                      ? NULL
                      : realloc(a->text, a->len + (size_t)n + 1);
    if (grown == NULL) {
        finish(a, STREAM_LIMIT, "the host's answer is too long");
        return;
    }
    memcpy(grown + a->len, buf, (size_t)n);
    a->text = grown;
    a->len += (size_t)n;
    a->text[a->len] = '\0';
}

static void on_timer(void *ctx)
{
    struct ask *a = ctx;
    if (!finish_if_over(a))
        finish(a, STREAM_TIMEOUT, "the host did not answer in time");
}

int ask_start(struct asks *as, struct portal_host *h, const char *account,
              const struct addr *from, enum portal_ask what, const char *arg,
              unsigned timeout_ms, ask_cb cb, void *ctx)
{
    int fds[2];
    struct ask *a = as->closed || !host_reach(h) ? NULL : calloc(1, sizeof(*a));
    if (a == NULL || sock_pair(fds) != 0) {
        free(a);
        return POSTERN_ERR_NOMEM;
    }
    a->fd = fds[0];
    a->cb = cb;
    a->ctx = ctx;
    int rc = watch_start(&a->watch, as->loop, a->fd, WATCH_READ, on_readable, a);
    if (rc != 0) {
        close(fds[0]);
        close(fds[1]);
        free(a);
        return rc;
    }
    timer_init(&a->timer, as->loop, on_timer, a);
    list_push(&as->all, &a->link);
    sock_end_writing(a->fd); /* the question is all in the Visit */
    timer_start(&a->timer, timeout_ms);
    Visit v;
    visitor_visit(&v, account, from);
    v.ask = what;
    (void)snprintf(v.arg, sizeof(v.arg), "%s", arg);
    struct call_config cc = {.service = "",
                             .visit = &v,
                             .fd = fds[1],
                             .on_answer = on_answer,
                             .on_end = on_end,
                             .ctx = a};
    if (host_call(h, &a->call, &cc) != 0) {
        a->call = NULL;
        a->code = STREAM_LIMIT; /* told from the loop */
        timer_start(&a->timer, 0);
    }
    return 0;
}

static void on_noted(void *ctx, unsigned code, const char *reason, const char *text)
{
    (void)ctx, (void)text;
    if (code != 0)
        log_debug("a host's log was not told: %s", reason);
}

void ask_note(struct asks *as, struct portal_host *h, const char *account,
              const struct addr *from, const char *what, const char *object)
{
    char arg[128];
    if (!h->online || as->closed)
        return;
    if (host_calls(h) > NOTES_MAX)
        return; /* it does not answer, and strangers make notes too */
    (void)snprintf(arg, sizeof(arg), "%s%s%s", what, *object != '\0' ? " " : "",
                   object);
    if (ask_start(as, h, account, from, PORTAL_ASK_NOTE, arg, NOTE_MS, on_noted,
                  NULL) != 0)
        log_debug("a host's log was not told");
}

int asks_new(struct asks **out, struct loop *loop)
{
    struct asks *as = calloc(1, sizeof(*as));
    if (as == NULL)
        return POSTERN_ERR_NOMEM;
    as->loop = loop;
    list_init(&as->all);
    *out = as;
    return 0;
}

void asks_close(struct asks *as)
{
    if (as == NULL)
        return;
    as->closed = true;
    while (!list_empty(&as->all))
        finish(LIST_FIRST(&as->all, struct ask, link), STREAM_TIMEOUT,
               "the broker is stopping");
}

void asks_free(struct asks *as)
{
    free(as);
}

/*
 * Questions to a host inside its session: one call each, whose bytes are the answer.
 * What the answer means is the asker's business.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop_uv.h"
#include "portal/internal.h"

enum { ANSWER_MAX = 256 * 1024, NOTE_MS = 10000, NOTES_MAX = 512 };

struct ask {
    struct ask *next, **at;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles; /* not closed yet */
    struct portal *portal;
    struct call *call; /* NULL when it has ended */
    int fd;
    bool over, eof;
    unsigned code;
    char reason[160];
    char *text;
    size_t len;
    ask_cb cb;
    void *ctx;
};

static void on_closed(uv_handle_t *h)
{
    struct ask *a = h->data;
    if (--a->handles > 0)
        return;
    free(a->text);
    free(a);
}

static void finish(struct ask *a, unsigned code, const char *reason)
{
    if (a->over)
        return;
    a->over = true;
    *a->at = a->next;
    if (a->next != NULL)
        a->next->at = a->at;
    if (a->call != NULL)
        call_forget(a->call);
    a->call = NULL;
    (void)uv_poll_stop(&a->poll);
    close(a->fd);
    uv_close((uv_handle_t *)&a->poll, on_closed);
    uv_close((uv_handle_t *)&a->timer, on_closed);
    a->cb(a->ctx, code, reason, a->text != NULL ? a->text : "");
}

static void maybe_finish(struct ask *a)
{
    if (a->code != 0 && a->call == NULL)
        finish(a, a->code, a->reason);
    else if (a->eof && a->call == NULL)
        finish(a, 0, "");
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
    (void)uv_timer_start(&a->timer, a->timer.timer_cb,
                         a->eof || a->code != 0 ? 0 : 1000, 0);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct ask *a = poll->data;
    char buf[16384];
    (void)status, (void)events;
    ssize_t n = recv(a->fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (n < 0 && status == 0)
        return;
    if (n <= 0) {
        a->eof = true;
        (void)uv_poll_stop(poll);
        maybe_finish(a);
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

static void on_timer(uv_timer_t *t)
{
    struct ask *a = t->data;
    maybe_finish(a);
    if (!a->over)
        finish(a, STREAM_TIMEOUT, "the host did not answer in time");
}

int ask_start(struct portal_host *h, const char *account, const char *visitor,
              enum portal_ask what, const char *arg, unsigned timeout_ms, ask_cb cb,
              void *ctx)
{
    struct portal *p = h->portal;
    struct peer *peer = p->stopping ? NULL : host_peer(h);
    int fds[2];
    struct ask *a = calloc(1, sizeof(*a));
    if (a == NULL || peer == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
        free(a);
        return POSTERN_ERR_NOMEM;
    }
    a->portal = p;
    a->fd = fds[0];
    a->cb = cb;
    a->ctx = ctx;
    if (uv_poll_init(loop_uv(p->loop), &a->poll, a->fd) != 0) {
        close(fds[0]);
        close(fds[1]);
        free(a);
        return POSTERN_ERR_IO;
    }
    (void)uv_timer_init(loop_uv(p->loop), &a->timer);
    a->handles = 2;
    a->next = p->asks;
    a->at = &p->asks;
    if (a->next != NULL)
        a->next->at = &a->next;
    p->asks = a;
    a->poll.data = a->timer.data = a;
    (void)shutdown(a->fd, SHUT_WR); /* the question is all in the Visit */
    (void)uv_poll_start(&a->poll, UV_READABLE, on_readable);
    (void)uv_timer_start(&a->timer, on_timer, timeout_ms, 0);
    Visit v = {.ask = what};
    (void)snprintf(v.account, sizeof(v.account), "%s", account);
    (void)snprintf(v.visitor, sizeof(v.visitor), "%s", visitor);
    (void)snprintf(v.arg, sizeof(v.arg), "%s", arg);
    struct call_config cc = {.peer = peer,
                             .service = "",
                             .visit = &v,
                             .fd = fds[1],
                             .on_answer = on_answer,
                             .on_end = on_end,
                             .ctx = a};
    if (call_start(&a->call, p->calls, &cc) != 0) {
        a->call = NULL;
        a->code = STREAM_LIMIT; /* told from the loop */
        (void)uv_timer_start(&a->timer, on_timer, 0, 0);
    }
    return 0;
}

static void on_noted(void *ctx, unsigned code, const char *reason, const char *text)
{
    (void)ctx, (void)text;
    if (code != 0)
        log_debug("a host's log was not told: %s", reason);
}

void host_note(struct portal_host *h, const char *account, const struct addr *from,
               const char *what, const char *object)
{
    char arg[128], visitor[ADDR_TEXT_LEN];
    if (!h->online || h->portal->stopping)
        return;
    if (h->peer != NULL && calls_of_peer(h->portal->calls, h->peer) > NOTES_MAX)
        return; /* it does not answer, and strangers make notes too */
    (void)snprintf(arg, sizeof(arg), "%s%s%s", what, *object != '\0' ? " " : "",
                   object);
    if (ask_start(h, account, addr_format(from, visitor), PORTAL_ASK_NOTE, arg, NOTE_MS,
                  on_noted, NULL) != 0)
        log_debug("a host's log was not told");
}

void asks_close(struct portal *p)
{
    while (p->asks != NULL)
        finish(p->asks, STREAM_TIMEOUT, "the broker is stopping");
}

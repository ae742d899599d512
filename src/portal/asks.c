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
    KEPT_HOST_MAX = 32, /* for a host that is away */
    KEPT_MAX = 512,
    KEPT_LOOK_MS = 1000,
    KEPT_AT_ONCE = 4,
};

struct asks {
    struct loop *loop;
    struct hosts *hosts;
    struct list all;   /* struct ask */
    struct list kept;  /* struct kept_note, the eldest first */
    struct timer look; /* whether their hosts are back; runs while there are any */
    size_t kept_count;
    bool closed;
};

/* For a host that is away, whose list still lets its people in. */
struct kept_note {
    struct list link;
    uint32_t host;
    uint64_t at_ms;
    char account[64], arg[128];
    struct addr from;
    bool refused;
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

static int start(struct asks *as, struct portal_host *h, const Visit *v,
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
    struct call_config cc = {.service = "",
                             .visit = v,
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

int ask_start(struct asks *as, struct portal_host *h, const char *account,
              const struct addr *from, enum portal_ask what, const char *arg,
              unsigned timeout_ms, ask_cb cb, void *ctx)
{
    Visit v;
    visitor_visit(&v, account, from);
    v.ask = what;
    (void)snprintf(v.arg, sizeof(v.arg), "%s", arg);
    return start(as, h, &v, timeout_ms, cb, ctx);
}

static void on_noted(void *ctx, unsigned code, const char *reason, const char *text)
{
    (void)ctx, (void)text;
    if (code != 0)
        log_debug("a host's log was not told: %s", reason);
}

static void drop_kept(struct asks *as, struct kept_note *k)
{
    list_remove(&k->link);
    as->kept_count--;
    free(k);
}

/* Room for one more of that host's: a try that failed goes before what succeeded. */
static void make_room(struct asks *as, uint32_t host)
{
    struct kept_note *eldest = NULL, *failed = NULL, *any = NULL;
    size_t own = 0;
    LIST_EACH (struct kept_note, k, &as->kept, link) {
        any = any != NULL ? any : k;
        if (k->host != host)
            continue;
        own++;
        eldest = eldest != NULL ? eldest : k;
        if (failed == NULL && k->refused)
            failed = k;
    }
    struct kept_note *goes = failed != NULL ? failed : eldest;
    if (own < KEPT_HOST_MAX)
        goes = as->kept_count >= KEPT_MAX ? any : NULL;
    if (goes != NULL)
        drop_kept(as, goes);
}

static void keep_note(struct asks *as, const struct portal_host *h, const char *account,
                      const struct addr *from, const char *what, const char *object)
{
    make_room(as, h->number);
    struct kept_note *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return;
    k->host = h->number;
    k->at_ms = loop_now_ms(as->loop);
    k->from = *from;
    k->refused = strcmp(what, "refused") == 0;
    (void)snprintf(k->account, sizeof(k->account), "%s", account);
    (void)snprintf(k->arg, sizeof(k->arg), "%s%s%.60s", what,
                   *object != '\0' ? " " : "", object);
    list_push(&as->kept, &k->link);
    as->kept_count++;
    if (!timer_is_active(&as->look))
        timer_every(&as->look, KEPT_LOOK_MS, KEPT_LOOK_MS);
}

static void send_kept(struct asks *as, struct portal_host *h, const struct kept_note *k)
{
    Visit v;
    visitor_visit(&v, k->account, &k->from);
    v.ask = PORTAL_ASK_NOTE;
    v.ago_s = (uint32_t)((loop_now_ms(as->loop) - k->at_ms) / 1000) + 1;
    (void)snprintf(v.arg, sizeof(v.arg), "%s", k->arg);
    if (start(as, h, &v, NOTE_MS, on_noted, NULL) != 0)
        log_debug("a host's log was not told");
}

/* A few at once; a host that is forgotten, or never comes back, is told nothing. */
static void on_look(void *ctx)
{
    struct asks *as = ctx;
    size_t sent = 0;
    LIST_EACH_REMOVABLE (struct kept_note, k, next, &as->kept, link) {
        struct portal_host *h = host_by_number(as->hosts, k->host);
        if (h != NULL && (!h->online || sent >= KEPT_AT_ONCE))
            continue;
        if (h != NULL) {
            send_kept(as, h, k);
            sent++;
        }
        drop_kept(as, k);
    }
    if (as->kept_count == 0)
        timer_stop(&as->look);
}

void ask_note(struct asks *as, struct portal_host *h, const char *account,
              const struct addr *from, const char *what, const char *object)
{
    char arg[128];
    if (as->closed)
        return;
    if (!h->online) {
        keep_note(as, h, account, from, what, object);
        return;
    }
    if (host_calls(h) > NOTES_MAX)
        return; /* it does not answer, and strangers make notes too */
    (void)snprintf(arg, sizeof(arg), "%s%s%s", what, *object != '\0' ? " " : "",
                   object);
    if (ask_start(as, h, account, from, PORTAL_ASK_NOTE, arg, NOTE_MS, on_noted,
                  NULL) != 0)
        log_debug("a host's log was not told");
}

int asks_new(struct asks **out, struct loop *loop, struct hosts *hosts)
{
    struct asks *as = calloc(1, sizeof(*as));
    if (as == NULL)
        return POSTERN_ERR_NOMEM;
    as->loop = loop;
    as->hosts = hosts;
    list_init(&as->all);
    list_init(&as->kept);
    timer_init(&as->look, loop, on_look, as);
    *out = as;
    return 0;
}

void asks_close(struct asks *as)
{
    if (as == NULL)
        return;
    as->closed = true;
    timer_stop(&as->look);
    while (!list_empty(&as->kept))
        drop_kept(as, LIST_FIRST(&as->kept, struct kept_note, link));
    while (!list_empty(&as->all))
        finish(LIST_FIRST(&as->all, struct ask, link), STREAM_TIMEOUT,
               "the broker is stopping");
}

void asks_free(struct asks *as)
{
    free(as);
}

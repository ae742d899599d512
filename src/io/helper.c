/*
 * The pair of sockets to the helper, and when another helper is started in the place of
 * one that was lost; decides nothing. One lock guards all of it but the knocks that are
 * waited for, which belong to the thread of the loop, like the loop's own. No callback
 * is called with the lock held.
 *
 * Whoever finds that a helper ended or does not answer shuts its pair down; the loop
 * sees that end and does the rest.
 */
#include "io/helper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/backoff.h"
#include "io/caps.h"
#include "io/fdpass.h"
#include "io/keeper.h"
#include "io/log.h"
#include "io/loop.h"

enum {
    ANSWER_MS = 2000,
    GATE_ANSWER_MS = 5000, /* it may run other programs */
    EVENTS_MAX = 64
};

static const struct backoff_policy restart = {
    .first_ms = 1000, .max_ms = 60000, .health_ms = 90000};

struct knock_watch {
    uint32_t serial; /* 0: free */
    bool lost;       /* with its helper */
    helper_knock_cb cb;
    void *ctx;
};

static struct {
    unsigned users;
    struct keeper keeper;
    int fd;         /* to the helper; -1: none */
    bool greeted;   /* it answers, as far as known */
    bool stood;     /* it has answered, and its end is still to be told */
    bool gated;     /* one of them had gates */
    bool told_lost; /* the log has that line and not the other one yet */
    uint32_t can, last_serial;
    struct loop *loop; /* while there are users */
    struct watch answers, kept[KEEPERS];
    struct timer again; /* a helper is to be started, or to have answered */
    struct backoff backoff;
    struct wake late; /* events that came while an answer was waited for */
    struct knock_watch watches[PRIVILEGE_KNOCKS_MAX];
    struct privilege_reply events[EVENTS_MAX];
    size_t event_count;
    char why[256];
} helper = {.keeper.fds = {-1, -1}, .fd = -1};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list watches = {&watches, &watches}; /* the loop's thread's */

/* ------------------------------------------------------------------- lost and back */

/* With the lock, by any thread: it is asked for nothing more. */
static void give_up(const char *why)
{
    if (helper.greeted)
        (void)snprintf(helper.why, sizeof(helper.why),
                       "%s; it is started again by itself", why);
    helper.greeted = false;
    helper.can = 0;
    if (helper.fd >= 0)
        (void)shutdown(helper.fd, SHUT_RDWR);
}

/* With the lock. After a pause that grows something is tried again. */
static void plan(void)
{
    if (helper.loop == NULL || timer_is_active(&helper.again))
        return;
    loop_refresh(helper.loop);
    timer_start(&helper.again,
                backoff_on_down(&helper.backoff, loop_now_ms(helper.loop)));
}

/* With the lock, from the loop: the pair has ended. */
static void clear_away(void)
{
    give_up("the privileged helper ended");
    watch_close(&helper.answers);
    close(helper.fd);
    helper.fd = -1;
    keeper_end(&helper.keeper);
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX; i++)
        helper.watches[i].lost = helper.watches[i].serial != 0;
    timer_stop(&helper.again);
    plan();
    if (helper.stood && !helper.told_lost)
        log_warn("%s; until then nothing begins that needs it", helper.why);
    helper.told_lost = helper.told_lost || helper.stood;
    helper.stood = false; /* whoever gave it up before, it is told once */
}

static int watch_keepers(void);

static void on_keeper(void *ctx, int ready)
{
    struct privilege_reply r;
    (void)ctx, (void)ready;
    (void)pthread_mutex_lock(&lock);
    if (keeper_is_gone(&helper.keeper)) {
        if (watch_keepers() != 0)
            log_debug("the privileged helper's keeper cannot be watched");
        plan();
    }
    for (int i = 0; i < KEEPERS; i++) /* they have nothing to say */
        (void)!recv(helper.keeper.fds[i], &r, sizeof(r), MSG_DONTWAIT);
    (void)pthread_mutex_unlock(&lock);
}

/* Those that live, from now on. */
static int watch_keepers(void)
{
    int rc = 0;
    for (int i = 0; i < KEEPERS; i++)
        watch_close(&helper.kept[i]);
    keeper_settle(&helper.keeper);
    for (int i = 0; i < KEEPERS && rc == 0; i++) {
        if (helper.keeper.fds[i] < 0)
            continue;
        rc = watch_start(&helper.kept[i], helper.loop, helper.keeper.fds[i], WATCH_READ,
                         on_keeper, NULL);
        if (rc == 0)
            watch_in_background(&helper.kept[i]);
    }
    return rc;
}

/* True: there is one again. */
static bool take_hello(const struct privilege_reply *r)
{
    if (r->version != PRIVILEGE_VERSION) {
        give_up("");
        (void)snprintf(helper.why, sizeof(helper.why),
                       "the privileged helper is of another version; restart this "
                       "program");
        return false;
    }
    timer_stop(&helper.again);
    helper.greeted = helper.stood = true;
    helper.can = r->can;
    helper.why[0] = '\0';
    backoff_on_up(&helper.backoff, loop_now_ms(helper.loop));
    if (helper.can == 0)
        keeper_explain(helper.why, sizeof(helper.why));
    if (helper.told_lost)
        log_warn("the privileged helper runs again");
    helper.told_lost = false;
    if (keeper_is_gone(&helper.keeper))
        plan(); /* it starts another */
    return helper.can != 0;
}

/* -------------------------------------------------------------------------- events */

static void tell(const struct privilege_reply *r)
{
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX; i++) {
        struct knock_watch *w = &helper.watches[i];
        if (r->op == PRIVILEGE_KNOCK_SEEN && w->serial == r->serial && r->serial != 0) {
            w->cb(w->ctx, &r->from);
            return;
        }
    }
}

static void on_late(void *ctx)
{
    struct privilege_reply events[EVENTS_MAX];
    (void)ctx;
    (void)pthread_mutex_lock(&lock);
    size_t n = helper.event_count;
    memcpy(events, helper.events, n * sizeof(events[0]));
    helper.event_count = 0;
    (void)pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < n; i++)
        tell(&events[i]);
}

static void keep_event(const struct privilege_reply *r)
{
    if (helper.event_count < EVENTS_MAX)
        helper.events[helper.event_count++] = *r;
    if (wake_is_open(&helper.late))
        wake_up(&helper.late);
}

static void tell_lost(void)
{
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX; i++) {
        struct knock_watch w = helper.watches[i];
        if (!w.lost)
            continue;
        helper.watches[i] = (struct knock_watch){0};
        w.cb(w.ctx, NULL);
    }
}

static void tell_back(void)
{
    LIST_EACH (struct helper_watch, w, &watches, link)
        w->on_back(w->ctx);
}

void helper_watch(struct helper_watch *w, void (*on_back)(void *ctx), void *ctx)
{
    *w = (struct helper_watch){.on_back = on_back, .ctx = ctx};
    list_push(&watches, &w->link);
}

void helper_unwatch(struct helper_watch *w)
{
    if (w->on_back != NULL)
        list_remove(&w->link);
    w->on_back = NULL;
}

static void on_answer(void *ctx, int ready)
{
    struct privilege_reply r = {0};
    bool back = false;
    int fd;
    (void)ctx, (void)ready;
    (void)pthread_mutex_lock(&lock); /* or an answer for another thread is taken */
    ssize_t n = fdpass_recv(helper.fd, &r, sizeof(r), MSG_DONTWAIT, &fd);
    bool over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (over)
        clear_away();
    else if (n == (ssize_t)sizeof(r) && r.op == PRIVILEGE_HELLO)
        back = take_hello(&r);
    (void)pthread_mutex_unlock(&lock);
    if (back)
        tell_back();
    if (fd >= 0) /* of a request that was given up */
        close(fd);
    if (n == (ssize_t)sizeof(r))
        tell(&r);
    if (over) {
        on_late(NULL);
        tell_lost();
    }
}

/* ------------------------------------------------------------------------ requests */

/* With the lock. False, and it is given up, when no answer came. */
static bool await_answer(const struct privilege_request *q,
                         struct privilege_reply *reply, int *fd)
{
    int limit_ms = q->op == PRIVILEGE_GATE ? GATE_ANSWER_MS : ANSWER_MS;
    for (;;) {
        struct pollfd p = {.fd = helper.fd, .events = POLLIN};
        int ready = poll(&p, 1, limit_ms);
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t n =
            ready > 0 ? fdpass_recv(helper.fd, reply, sizeof(*reply), MSG_DONTWAIT, fd)
                      : 0;
        if (n == (ssize_t)sizeof(*reply) && reply->op == q->op &&
            reply->serial == q->serial)
            return true;
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        if (n != (ssize_t)sizeof(*reply)) {
            give_up(ready > 0 ? "the privileged helper ended"
                              : "the privileged helper did not answer");
            return false;
        }
        keep_event(reply);
    }
}

static bool send_request(const struct privilege_request *q, int give)
{
    if (!helper.greeted)
        return false;
    if (fdpass_send(helper.fd, q, sizeof(*q), give) == (ssize_t)sizeof(*q))
        return true;
    give_up(errno == EAGAIN ? "the privileged helper did not answer"
                            : "the privileged helper ended");
    return false;
}

/* With the lock. */
static int ask_locked(const struct privilege_request *q, int give,
                      struct privilege_reply *reply, int *fd)
{
    int got = -1;
    *reply = (struct privilege_reply){0};
    if (!send_request(q, give) || !await_answer(q, reply, &got)) {
        *reply = (struct privilege_reply){.err = POSTERN_ERR_PERM};
        (void)snprintf(reply->reason, sizeof(reply->reason), "%s", helper_missing());
        return POSTERN_ERR_PERM;
    }
    reply->reason[sizeof(reply->reason) - 1] = '\0';
    helper.gated = helper.gated || (q->op == PRIVILEGE_GATE && reply->err == 0);
    if (fd != NULL && reply->err == 0 && got >= 0)
        *fd = got;
    else if (got >= 0)
        close(got);
    if (fd != NULL && reply->err == 0 && got < 0)
        return POSTERN_ERR_PROTO;
    return reply->err;
}

static int ask(const struct privilege_request *q, int give,
               struct privilege_reply *reply, int *fd)
{
    (void)pthread_mutex_lock(&lock);
    int rc = ask_locked(q, give, reply, fd);
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

static uint32_t next_serial(void)
{
    (void)pthread_mutex_lock(&lock);
    uint32_t serial = ++helper.last_serial;
    (void)pthread_mutex_unlock(&lock);
    return serial;
}

/* ---------------------------------------------------------------- starting, ending */

/* With the lock. The answer comes to on_answer, or never: on_again. */
static int begin(void)
{
    struct privilege_request q = {.op = PRIVILEGE_HELLO,
                                  .serial = ++helper.last_serial,
                                  .after_gates = helper.gated};
    int fd = -1;
    int rc = keeper_start(&helper.keeper, &fd);
    if (rc == 0 && fdpass_send(fd, &q, sizeof(q), -1) != (ssize_t)sizeof(q))
        rc = POSTERN_ERR_IO;
    if (rc == 0)
        rc = watch_start(&helper.answers, helper.loop, fd, WATCH_READ, on_answer, NULL);
    if (rc != 0) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    watch_in_background(&helper.answers);
    helper.fd = fd;
    loop_refresh(helper.loop);
    timer_start(&helper.again, ANSWER_MS);
    return 0;
}

/* With the lock: the helper starts another keeper. */
static void restore_keeper(void)
{
    struct privilege_request q = {.op = PRIVILEGE_KEEPER,
                                  .serial = ++helper.last_serial};
    struct privilege_reply r;
    int theirs = -1;
    if (!keeper_is_gone(&helper.keeper))
        return;
    int rc = keeper_replace(&helper.keeper, &theirs);
    if (rc == 0)
        rc = ask_locked(&q, theirs, &r, NULL);
    if (theirs >= 0)
        close(theirs);
    if (rc == 0)
        rc = watch_keepers();
    log_debug("the privileged helper's keeper ended; %s",
              rc == 0 ? "it has another" : "another could not be started");
    if (rc == 0 && !keeper_is_gone(&helper.keeper))
        backoff_on_up(&helper.backoff, loop_now_ms(helper.loop));
    else
        plan();
}

static void on_again(void *ctx)
{
    (void)ctx;
    (void)pthread_mutex_lock(&lock);
    int rc = watch_keepers();
    if (helper.fd < 0)
        rc = begin();
    else if (!helper.greeted)
        (void)shutdown(helper.fd, SHUT_RDWR); /* it did not answer */
    else
        restore_keeper();
    if (rc == POSTERN_ERR_CLOSED) {
        (void)snprintf(
            helper.why, sizeof(helper.why),
            "the privileged helper ended, and so did what starts it; restart "
            "this program to have it again");
        log_warn("%s", helper.why);
    } else if (rc != 0) {
        plan();
    }
    (void)pthread_mutex_unlock(&lock);
}

static void detach(void)
{
    watch_close(&helper.answers);
    for (int i = 0; i < KEEPERS; i++)
        watch_close(&helper.kept[i]);
    wake_close(&helper.late);
    timer_stop(&helper.again);
    helper.loop = NULL;
    helper.event_count = 0;
    memset(helper.watches, 0, sizeof(helper.watches));
}

/* With the lock: what there is, on this loop. */
static int attach(struct loop *loop)
{
    helper.loop = loop;
    timer_init(&helper.again, loop, on_again, NULL);
    int rc = wake_open(&helper.late, loop, on_late, NULL);
    if (rc == 0)
        wake_in_background(&helper.late);
    if (rc == 0)
        rc = watch_keepers();
    if (rc == 0 && helper.fd >= 0) {
        rc = watch_start(&helper.answers, loop, helper.fd, WATCH_READ, on_answer, NULL);
        if (rc == 0)
            watch_in_background(&helper.answers);
        if (rc == 0 && !helper.greeted)
            timer_start(&helper.again, ANSWER_MS);
    }
    if (rc != 0)
        detach();
    return rc;
}

/* With the lock: this once the answer is waited for, as all depends on it. */
static void start_first(struct loop *loop)
{
    struct privilege_reply r = {0};
    uint64_t seed = 0;
    int fd = -1;
    (void)!getrandom(&seed, sizeof(seed), 0);
    backoff_init(&helper.backoff, &restart, seed);
    if (attach(loop) != 0 || begin() != 0)
        return;
    struct pollfd p = {.fd = helper.fd, .events = POLLIN};
    int n;
    do /* a signal that ends the program is no silence of the helper's */
        n = poll(&p, 1, GATE_ANSWER_MS);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        if (fdpass_recv(helper.fd, &r, sizeof(r), MSG_DONTWAIT, &fd) ==
                (ssize_t)sizeof(r) &&
            r.op == PRIVILEGE_HELLO)
            (void)take_hello(&r);
        if (fd >= 0)
            close(fd);
        return;
    }
    (void)snprintf(helper.why, sizeof(helper.why),
                   "the privileged helper does not answer; it is started again by "
                   "itself");
    log_warn("%s; until then nothing begins that needs it", helper.why);
    helper.told_lost = true;
}

void helper_forgo(void)
{
    if (caps_have(CAPS_NET_ADMIN) || caps_have(CAPS_NET_RAW))
        caps_keep(CAPS_CHOWN | CAPS_DAC_OVERRIDE | CAPS_DAC_READ_SEARCH | CAPS_FOWNER |
                  CAPS_NET_BIND_SERVICE);
}

static void open_locked(struct loop *loop)
{
    if (helper.users++ > 0)
        return;
    if (helper.keeper.fds[0] >= 0) { /* of an earlier user, maybe on another loop */
        if (attach(loop) == 0 && helper.fd < 0)
            plan();
        return;
    }
    int rc = keeper_open(&helper.keeper, helper.why, sizeof(helper.why));
    if (rc == POSTERN_ERR_NOTFOUND || rc == POSTERN_ERR_PERM) {
        helper_forgo();
        return;
    }
    if (rc == 0)
        start_first(loop);
    log_debug("privileged helper: %s", helper.can != 0 ? "running" : helper.why);
    caps_keep(CAPS_CHOWN | CAPS_DAC_OVERRIDE | CAPS_DAC_READ_SEARCH | CAPS_FOWNER |
              CAPS_NET_BIND_SERVICE);
}

void helper_open(struct loop *loop)
{
    (void)pthread_mutex_lock(&lock);
    open_locked(loop);
    (void)pthread_mutex_unlock(&lock);
}

void helper_close(void)
{
    (void)pthread_mutex_lock(&lock);
    if (helper.users > 0 && --helper.users == 0)
        detach();
    (void)pthread_mutex_unlock(&lock);
}

bool helper_can(uint32_t can)
{
    (void)pthread_mutex_lock(&lock);
    bool yes = helper.fd >= 0 && (helper.can & can) == can;
    (void)pthread_mutex_unlock(&lock);
    return yes;
}

const char *helper_missing(void)
{
    return helper.why[0] != '\0' ? helper.why
                                 : "the privileged helper may not do that here";
}

int helper_ask(struct privilege_request *q, struct privilege_reply *reply, int *fd)
{
    q->serial = next_serial();
    return ask(q, -1, reply, fd);
}

void helper_enlarge(int fd)
{
    struct privilege_request q = {.op = PRIVILEGE_BUFFERS, .serial = next_serial()};
    struct privilege_reply r;
    if (helper_can(PRIVILEGE_CAN_FILTER))
        (void)ask(&q, fd, &r, NULL);
}

int helper_low_port(const struct addr *local, bool tcp)
{
    struct privilege_request q = {
        .op = PRIVILEGE_LOW_PORT, .local = *local, .tcp = tcp};
    struct privilege_reply r;
    int fd = -1;
    return helper_can(PRIVILEGE_CAN_BIND) && helper_ask(&q, &r, &fd) == 0 ? fd : -1;
}

int helper_knock_add(struct privilege_request *q, struct privilege_reply *reply,
                     helper_knock_cb cb, void *ctx)
{
    struct knock_watch *w = NULL;
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX && w == NULL; i++)
        if (helper.watches[i].serial == 0)
            w = &helper.watches[i];
    if (w == NULL) {
        *reply = (struct privilege_reply){0};
        (void)snprintf(reply->reason, sizeof(reply->reason),
                       "%d knocks are waited for already", PRIVILEGE_KNOCKS_MAX);
        return POSTERN_ERR_LIMIT;
    }
    q->op = PRIVILEGE_KNOCK_ADD;
    int rc = helper_ask(q, reply, NULL);
    if (rc == 0)
        *w = (struct knock_watch){.serial = q->serial, .cb = cb, .ctx = ctx};
    return rc;
}

uint64_t helper_knock_remove(uint32_t serial)
{
    struct privilege_request q = {.op = PRIVILEGE_KNOCK_REMOVE, .serial = serial};
    struct privilege_reply r;
    bool known = false;
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX; i++) {
        if (helper.watches[i].serial == serial && serial != 0) {
            known = !helper.watches[i].lost;
            helper.watches[i] = (struct knock_watch){0};
        }
    }
    return known && ask(&q, -1, &r, NULL) == 0 ? r.dropped : 0;
}

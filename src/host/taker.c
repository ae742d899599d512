/* Two sockets to `serve`: the request that publishes, and the one that brings them. */
#include "host/taker.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "core/json.h"
#include "core/proto.h"
#include "io/fdpass.h"
#include "io/lack.h"
#include "io/local.h"
#include "io/local_fault.h"
#include "io/log.h"
#include "io/sock.h"

enum {
    WHO_LEN = 64,
    REPLY_MS = 5000,
    BURST = 16,
    AGAIN_MS = 500,
    REMIND_MS = 30000,
    REMIND_MAX_MS = 300000
};

struct taker {
    int conn, bringer;
    struct watch conn_watch, bringer_watch;
    struct timer again;
    struct loop *loop;
    const struct statedir *state;
    const char *service, *program;
    bool told;                  /* why the next `serve` does not take it */
    uint64_t since_ms, told_ms; /* of the wait */
    unsigned pause_ms;          /* until it is told again */
    const struct taker_events *events;
    void *ctx;
};

int taker_give(int taker, const char *who)
{
    int pair[2];
    char name[WHO_LEN] = "";
    if (sock_pair(pair) != 0)
        return -1;
    (void)snprintf(name, sizeof(name), "%s", who);
    bool given = fdpass_send(taker, name, sizeof(name), pair[1]) == sizeof(name);
    (void)close(pair[1]);
    if (given)
        return pair[0];
    (void)close(pair[0]);
    return -1;
}

static void on_bringer(void *ctx, int events)
{
    struct taker *t = ctx;
    (void)events;
    for (int i = 0; i < BURST; i++) {
        char who[WHO_LEN];
        int fd = -1;
        ssize_t n = fdpass_recv(t->bringer, who, sizeof(who), 0, &fd);
        if (fd < 0) {
            if (n == 0)
                watch_close(&t->bringer_watch); /* the other one says so */
            return;
        }
        who[sizeof(who) - 1] = '\0';
        if (n == (ssize_t)sizeof(who))
            t->events->on_connection(t->ctx, fd, who);
        else
            (void)close(fd);
    }
}

/* Under its own name, and no other's: who sends asks for that. */
static int check_name(const char *json, const char *service, struct fault *f)
{
    struct json_value v;
    char name[WHO_LEN] = "";
    size_t len = strcspn(service, "=");
    if (json_find(&v, json, "service") == 0)
        json_value_words(&v, name, sizeof(name));
    if (strlen(name) == len && strncmp(name, service, len) == 0)
        return 0;
    return fault_set(f, POSTERN_ERR_INUSE, "end the other one first",
                     "this host publishes a service '%.*s' already", (int)len, service);
}

static int publish(struct taker *t, int give, struct fault *f)
{
    LocalRequest req = {.op = LOCAL_PUBLISH};
    LocalReply reply = LocalReply_init_zero;
    char path[STATEDIR_SOCKET_LEN];
    statedir_socket(t->state, "serve", path);
    (void)snprintf(req.service, sizeof(req.service), "%s", t->service);
    (void)snprintf(req.arg, sizeof(req.arg), "%s", t->program);
    int err = local_dial(path, &t->conn);
    if (err == POSTERN_ERR_NOTFOUND) {
        t->conn = -1;
        int deaf = local_fault_deaf(t->state, "serve", f);
        if (deaf != 0)
            return deaf;
        return fault_set(f, err,
                         statedir_has(t->state->path, "host.db")
                             ? "start it first: postern serve"
                             : "start it first: 'postern serve --broker LINK 22', with "
                               "the link that 'postern broker' printed",
                         "no 'postern serve' runs here, through which others come");
    }
    if (err != 0)
        t->conn = -1;
    if (err == 0)
        err = local_send(t->conn, &req, give);
    if (err == 0)
        err = local_recv(t->conn, &reply, REPLY_MS);
    if (err != 0)
        return local_fault(t->state, "serve", err, f);
    if (reply.code != 0)
        return fault_set(f, (int)reply.code, reply.advice, "%s", reply.reason);
    return check_name(reply.json, t->service, f);
}

static void let_go(struct taker *t)
{
    watch_close(&t->conn_watch);
    watch_close(&t->bringer_watch);
    if (t->conn >= 0)
        (void)close(t->conn);
    if (t->bringer >= 0)
        (void)close(t->bringer);
    t->conn = t->bringer = -1;
}

static void on_conn(void *ctx, int events)
{
    struct taker *t = ctx;
    (void)events;
    let_go(t);
    t->told = false;
    log_warn("the running 'postern serve' ended: '%s' waits until it is back",
             t->program);
    t->since_ms = t->told_ms = loop_now_ms(t->loop);
    t->pause_ms = REMIND_MS;
    timer_start(&t->again, AGAIN_MS);
}

static int start(struct taker *t, struct fault *f)
{
    int pair[2];
    if (sock_pair(pair) != 0)
        return fault_lack(f, POSTERN_ERR_LIMIT);
    t->bringer = pair[0];
    int err = publish(t, pair[1], f);
    (void)close(pair[1]);
    if (err == 0 &&
        (watch_start(&t->conn_watch, t->loop, t->conn, WATCH_READ, on_conn, t) != 0 ||
         watch_start(&t->bringer_watch, t->loop, t->bringer, WATCH_READ, on_bringer,
                     t) != 0))
        err = fault_lack(f, POSTERN_ERR_LIMIT);
    if (err != 0)
        let_go(t);
    return err;
}

/* Who looks later shall see it, too: ever more seldom. */
static void remind(struct taker *t)
{
    uint64_t now_ms = loop_now_ms(t->loop);
    if (now_ms - t->told_ms < t->pause_ms)
        return;
    t->told_ms = now_ms;
    t->pause_ms = 2 * t->pause_ms < REMIND_MAX_MS ? 2 * t->pause_ms : REMIND_MAX_MS;
    log_warn(
        "'%s' has waited for %u s now for 'postern serve', which does not run here",
        t->program, (unsigned)((now_ms - t->since_ms) / 1000));
}

static void on_again(void *ctx)
{
    struct taker *t = ctx;
    struct fault f = {0};
    int err = start(t, &f);
    if (err == 0) {
        t->events->on_back(t->ctx);
        return;
    }
    /* a `serve` that starts or ends may refuse; that is not news */
    if ((err == POSTERN_ERR_INUSE || err == POSTERN_ERR_TIMEOUT) && !t->told) {
        log_warn("%s; %s", f.what, f.advice);
        t->told = true;
    }
    if (err == POSTERN_ERR_NOTFOUND)
        remind(t);
    timer_start(&t->again, AGAIN_MS);
}

int taker_open(struct taker **out, struct loop *loop, const struct statedir *state,
               const char *service, const char *program,
               const struct taker_events *events, void *ctx, struct fault *f)
{
    struct taker *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    t->conn = t->bringer = -1;
    t->loop = loop;
    t->state = state;
    t->service = service;
    t->program = program;
    t->events = events;
    t->ctx = ctx;
    timer_init(&t->again, loop, on_again, t);
    int err = start(t, f);
    if (err != 0)
        taker_close(t);
    else
        *out = t;
    return err;
}

void taker_close(struct taker *t)
{
    if (t == NULL)
        return;
    timer_stop(&t->again);
    let_go(t);
    free(t);
}

/* One request to a running daemon and its replies; the operations' meaning is theirs.
 */
#include "cli/daemon.h"

#include <stdio.h>
#include <unistd.h>

#include "io/local.h"
#include "io/local_fault.h"
#include "io/log.h"
#include "io/ready.h"

enum {
    LOOK_MS = 250, /* then it is looked whether it is stopped at all */
    WORD_MS = 2000,
    TIMEOUT_MS = 5000,
    RELOAD_TIMEOUT_MS = 10000
};

/*
 * One reply. One that is stopped does nothing until somebody lets it go on, and is not
 * waited for; who waits for another for longer than WORD_MS is told what for.
 */
static int recv_told(int fd, const struct statedir *s, const char *role, int timeout_ms,
                     LocalReply *r)
{
    struct ready first = {.fd = fd, .wanted = WATCH_READ};
    struct statedir_holder h;
    struct fault why;
    if (ready_wait(&first, 1, LOOK_MS) != 0)
        return local_recv(fd, r, timeout_ms);
    (void)statedir_held(s, role, &h);
    if (h.stopped)
        return POSTERN_ERR_TIMEOUT;
    if (ready_wait(&first, 1, WORD_MS - LOOK_MS) != 0)
        return local_recv(fd, r, timeout_ms);
    (void)local_fault_silent(s, role, POSTERN_ERR_TIMEOUT, &why);
    log_warn("waiting: %s", why.what);
    return local_recv(fd, r, timeout_ms - WORD_MS);
}

/* Who gets the json of replies; NULL: nobody. */
struct reader {
    void (*each)(void *ctx, const char *json);
    void *ctx;
};

static int read_replies(int fd, const struct statedir *s, const char *role,
                        int timeout_ms, const struct reader *to, LocalReply *last,
                        struct fault *f)
{
    do {
        int err = recv_told(fd, s, role, timeout_ms, last);
        if (err != 0)
            return local_fault(s, role, err, f);
        if (last->code != 0)
            return fault_set(f, (int)last->code, last->advice, "%s", last->reason);
        if (to->each != NULL && last->json[0] != '\0')
            to->each(to->ctx, last->json);
    } while (!last->last);
    return 0;
}

/* 1: `fd` talks to the daemon of that role; 0: there is none; or its fault. */
static int dial(const struct statedir *s, const char *role, int *fd, struct fault *f)
{
    char path[STATEDIR_SOCKET_LEN];
    statedir_socket(s, role, path);
    int err = local_dial(path, fd);
    if (err == POSTERN_ERR_NOTFOUND)
        return local_fault_deaf(s, role, f);
    return err != 0 ? local_fault(s, role, err, f) : 1;
}

static int ask(const struct statedir *s, const char *role, enum local_op op,
               const char *arg, const struct reader *to, LocalReply *last,
               struct fault *f)
{
    LocalRequest req = {.op = op};
    LocalReply r = LocalReply_init_zero;
    int fd, timeout_ms = op == LOCAL_RELOAD ? RELOAD_TIMEOUT_MS : TIMEOUT_MS;
    (void)snprintf(req.arg, sizeof(req.arg), "%s", arg != NULL ? arg : "");
    int err = dial(s, role, &fd, f);
    if (err <= 0)
        return err;
    err = local_send(fd, &req, -1);
    err = err != 0
              ? local_fault(s, role, err, f)
              : read_replies(fd, s, role, timeout_ms, to, last != NULL ? last : &r, f);
    (void)close(fd);
    return err != 0 ? err : 1;
}

static void print_reply(void *ctx, const char *json)
{
    events_print_json(ctx, json);
}

int daemon_ask(const struct statedir *s, const char *role, enum local_op op,
               const char *arg, struct events *out, LocalReply *last, struct fault *f)
{
    struct reader to = {out != NULL ? print_reply : NULL, out};
    return ask(s, role, op, arg, &to, last, f);
}

int daemon_ask_each(const struct statedir *s, const char *role, enum local_op op,
                    const char *arg, void (*each)(void *ctx, const char *json),
                    void *ctx, struct fault *f)
{
    struct reader to = {each, ctx};
    return ask(s, role, op, arg, &to, NULL, f);
}

int daemon_stored(int err, const char *what, struct fault *f)
{
    struct fault why = *f;
    return fault_set(f, err, why.advice, "%.100s, but %.200s", what, why.what);
}

int daemon_unchanged(int err, struct fault *f)
{
    struct fault why = *f;
    return fault_set(f, err, why.advice, "nothing is changed: %.280s", why.what);
}

void daemon_each(const struct statedir *s, const char *role, enum local_op op,
                 void (*each)(void *ctx, const char *json), void *ctx)
{
    char path[STATEDIR_SOCKET_LEN];
    LocalRequest req = {.op = op};
    LocalReply r = LocalReply_init_zero;
    struct fault why;
    int fd;
    statedir_socket(s, role, path);
    int err = local_dial(path, &fd);
    if (err == 0) {
        err = local_send(fd, &req, -1);
        do {
            if (err == 0)
                err = recv_told(fd, s, role, TIMEOUT_MS, &r);
            if (err == 0 && r.code == 0 && r.json[0] != '\0')
                each(ctx, r.json);
        } while (err == 0 && r.code == 0 && !r.last);
        (void)close(fd);
    }
    if (err != POSTERN_ERR_TIMEOUT)
        return;
    (void)local_fault_silent(s, role, err, &why);
    log_warn("%s; going on without it", why.what);
}

int daemon_probe(const struct statedir *s, const char *role, int timeout_ms,
                 void (*each)(void *ctx, const char *json), void *ctx, struct fault *f)
{
    LocalRequest req = {.op = LOCAL_STATUS};
    LocalReply r = LocalReply_init_zero;
    struct statedir_holder h;
    int fd;
    if (statedir_held(s, role, &h) && h.stopped)
        return local_fault_silent(s, role, POSTERN_ERR_TIMEOUT, f);
    int err = dial(s, role, &fd, f);
    if (err <= 0)
        return err;
    err = local_send(fd, &req, -1);
    while (err == 0 && !r.last) {
        err = local_recv(fd, &r, timeout_ms);
        if (err == 0 && r.code == 0 && r.json[0] != '\0')
            each(ctx, r.json);
    }
    (void)close(fd);
    return err != 0 ? local_fault(s, role, err, f) : 1;
}

int daemon_open_roster(struct roster **out, const struct statedir *s, struct fault *f)
{
    int err = statedir_check_beside(s, "serve", "host.db", f);
    return err != 0 ? err : roster_open_known(out, s->path, f);
}

int daemon_open_access(struct access **out, const struct statedir *s, struct fault *f)
{
    int err = statedir_check_beside(s, "serve", "access.db", f);
    return err != 0 ? err : access_open(out, s->path, f);
}

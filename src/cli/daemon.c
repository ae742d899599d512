/* One request to a running daemon and its replies; the operations' meaning is theirs.
 */
#include "cli/daemon.h"

#include <stdio.h>
#include <unistd.h>

#include "io/local.h"

enum { EACH_TIMEOUT_MS = 5000 };

/* One that does not answer: stopped from its terminal, or stuck. */
static int silent_fault(const struct statedir *s, const char *role, int err,
                        struct fault *f)
{
    struct statedir_holder h;
    char advice[64] = "end it and start it again";
    (void)statedir_held(s, role, &h);
    if (!h.stopped)
        return fault_set(f, err, advice, "the running 'postern %s' does not answer",
                         role);
    (void)snprintf(advice, sizeof(advice), "let it go on with 'kill -CONT %ld'", h.pid);
    return fault_set(f, err, advice,
                     "the running 'postern %s' is stopped (process %ld) and does not "
                     "answer",
                     role, h.pid);
}

/* It runs, and there is no socket: none fits in a full directory, or it was deleted. */
static int deaf_fault(const struct statedir *s, const char *role, int err,
                      struct fault *f)
{
    struct statedir_holder h;
    if (!statedir_held(s, role, &h))
        return err;
    return fault_set(f, POSTERN_ERR_CLOSED, "end it and start it again",
                     "'postern %s' runs (process %ld) and cannot be asked: its socket "
                     "is not there",
                     role, h.pid);
}

static int daemon_fault(const struct statedir *s, const char *role, int err,
                        struct fault *f)
{
    switch (err) {
    case POSTERN_ERR_PERM:
        return fault_set(f, err, "run this as the user who started it",
                         "the running 'postern %s' belongs to another user", role);
    case POSTERN_ERR_TIMEOUT:
        return silent_fault(s, role, err, f);
    case POSTERN_ERR_PROTO:
        return fault_set(f, err, "restart it, so that both are the same version",
                         "the answer of the running 'postern %s' makes no sense", role);
    default:
        return fault_set(f, err, "try again",
                         "the running 'postern %s' ended before it answered", role);
    }
}

static int read_replies(int fd, const struct statedir *s, const char *role,
                        int timeout_ms, struct events *out, LocalReply *last,
                        struct fault *f)
{
    do {
        int err = local_recv(fd, last, timeout_ms);
        if (err != 0)
            return daemon_fault(s, role, err, f);
        if (last->code != 0)
            return fault_set(f, -(int)last->code, last->advice, "%s", last->reason);
        if (out != NULL && last->json[0] != '\0')
            events_print_json(out, last->json);
    } while (!last->last);
    return 0;
}

int daemon_ask(const struct statedir *s, const char *role, const LocalRequest *req,
               int timeout_ms, struct events *out, LocalReply *last, struct fault *f)
{
    char path[STATEDIR_SOCKET_LEN];
    int fd;
    statedir_socket(s, role, path);
    int err = local_dial(path, &fd);
    if (err == POSTERN_ERR_NOTFOUND)
        return deaf_fault(s, role, err, f);
    if (err != 0)
        return daemon_fault(s, role, err, f);
    err = local_send(fd, req, -1);
    err = err != 0 ? daemon_fault(s, role, err, f)
                   : read_replies(fd, s, role, timeout_ms, out, last, f);
    (void)close(fd);
    return err;
}

void daemon_each(const struct statedir *s, const char *role, enum local_op op,
                 void (*each)(void *ctx, const char *json), void *ctx)
{
    char path[STATEDIR_SOCKET_LEN];
    LocalRequest req = {.op = op};
    LocalReply r = LocalReply_init_zero;
    int fd;
    statedir_socket(s, role, path);
    if (local_dial(path, &fd) != 0)
        return;
    if (local_send(fd, &req, -1) == 0)
        while (local_recv(fd, &r, EACH_TIMEOUT_MS) == 0 && r.code == 0) {
            if (r.json[0] != '\0')
                each(ctx, r.json);
            if (r.last)
                break;
        }
    (void)close(fd);
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

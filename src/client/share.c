/* The commands' side of the daemon's local socket. */
#include "client/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/proto.h"
#include "io/local.h"

enum { REPLY_MS = 2000, ALIVE_MS = 5000 };

struct shared {
    int fd;
    uv_poll_t *poll;
    share_cb cb, on_end;
    void *ctx;
    bool answered;
};

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static int dial_up(const struct statedir *state, int *fd)
{
    char path[STATEDIR_SOCKET_LEN];
    statedir_socket(state, "up", path);
    return local_dial(path, fd);
}

bool share_available(const struct statedir *state)
{
    LocalRequest req = LocalRequest_init_zero;
    LocalReply r = LocalReply_init_zero;
    int fd;
    req.op = LOCAL_STATUS;
    if (dial_up(state, &fd) != 0)
        return false;
    /* The kernel takes connections for a stopped program, too: only words are life. */
    bool alive = local_send(fd, &req, -1) == 0 && local_recv(fd, &r, ALIVE_MS) == 0;
    close(fd);
    return alive;
}

static void on_reply(uv_poll_t *poll, int status, int events)
{
    struct shared *s = poll->data;
    LocalReply r = LocalReply_init_zero;
    (void)status, (void)events;
    int rc = local_recv(s->fd, &r, REPLY_MS);
    unsigned code = r.code;
    const char *reason = r.reason;
    if (rc != 0) {
        code = STREAM_UNREACHABLE;
        reason = "'postern up' ended";
    } else if ((int32_t)r.code < 0 || r.code > STREAM_LIMIT) {
        code = STREAM_UNREACHABLE; /* the daemon's own fault */
    }
    share_cb cb = s->answered ? s->on_end : s->cb;
    if (!s->answered && s->on_end != NULL && code == STREAM_OK) {
        s->answered = true; /* and its end is waited for */
    } else {
        (void)uv_poll_stop(poll);
        uv_close((uv_handle_t *)poll, free_handle);
        close(s->fd);
        poll->data = NULL;
    }
    if (cb != NULL)
        cb(s->ctx, code, reason);
    if (poll->data == NULL)
        free(s);
}

int share_open(const struct statedir *state, uv_loop_t *loop, const char *host,
               const char *service, int fd, share_cb cb, share_cb on_end, void *ctx)
{
    LocalRequest req = LocalRequest_init_zero;
    struct shared *s = calloc(1, sizeof(*s));
    uv_poll_t *poll = malloc(sizeof(*poll));
    int rc = POSTERN_ERR_NOMEM;
    if (s == NULL || poll == NULL)
        goto out;
    req.op = LOCAL_OPEN;
    (void)snprintf(req.host, sizeof(req.host), "%s", host);
    (void)snprintf(req.service, sizeof(req.service), "%s", service);
    req.until_end = on_end != NULL;
    rc = dial_up(state, &s->fd);
    if (rc != 0)
        goto out;
    rc = local_send(s->fd, &req, fd);
    if (rc == 0 && uv_poll_init(loop, poll, s->fd) != 0)
        rc = POSTERN_ERR_IO;
    if (rc != 0) {
        close(s->fd);
        goto out;
    }
    s->poll = poll;
    s->cb = cb;
    s->on_end = on_end;
    s->ctx = ctx;
    poll->data = s;
    (void)uv_poll_start(poll, UV_READABLE, on_reply);
    close(fd);
    return 0;
out:
    free(poll);
    free(s);
    return rc;
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

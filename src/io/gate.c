/* A gate's socket to the privileged helper, on a loop; see gate.h. */
#include "io/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/helper.h"
#include "io/log.h"
#include "io/loop_uv.h"

enum { READS = 64 }; /* SYNs at one go, so that nobody else on the loop starves */

struct gate {
    uv_poll_t poll;
    int fd;
    gate_syn_cb on_syn;
    gate_lost_cb on_lost;
    void *ctx;
    bool closed; /* inside a callback, too */
};

static void on_closed(uv_handle_t *h)
{
    struct gate *g = h->data;
    close(g->fd);
    free(g);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct gate *g = poll->data;
    struct privilege_syn s;
    ssize_t n = -1;
    (void)status, (void)events;
    for (int i = 0; i < READS && !g->closed; i++) {
        n = recv(g->fd, &s, sizeof(s), MSG_DONTWAIT);
        if (n != (ssize_t)sizeof(s))
            break;
        g->on_syn(g->ctx, s.id, &s.from);
    }
    if (g->closed || n == (ssize_t)sizeof(s) ||
        (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    (void)uv_poll_stop(&g->poll);
    log_debug("a gate is lost: the privileged helper ended");
    if (g->on_lost != NULL)
        g->on_lost(g->ctx);
}

int gate_open(struct gate **out, struct loop *loop, uint16_t port, gate_syn_cb on_syn,
              gate_lost_cb on_lost, void *ctx, struct fault *fault)
{
    struct privilege_request q = {.op = PRIVILEGE_GATE,
                                  .local = {.family = ADDR_V4, .port = port}};
    struct privilege_reply r = {0};
    struct gate *g = calloc(1, sizeof(*g));
    int rc, fd = -1;
    *out = NULL;
    if (g == NULL)
        return fault_set(fault, POSTERN_ERR_NOMEM, NULL, "out of memory");
    if (!helper_can(PRIVILEGE_CAN_FILTER)) {
        free(g);
        return fault_set(fault, POSTERN_ERR_PERM, helper_missing(),
                         "connections to port %u cannot be held", port);
    }
    rc = helper_ask(&q, &r, &fd);
    if (rc == 0 && uv_poll_init(loop_uv(loop), &g->poll, fd) != 0) {
        close(fd);
        rc = POSTERN_ERR_NOMEM;
    }
    if (rc != 0) {
        free(g);
        return fault_set(fault, rc, "see docs/SECURITY.md, Privileges",
                         "connections to port %u cannot be held: %s", port,
                         r.reason[0] != '\0' ? r.reason : postern_strerror(rc));
    }
    g->poll.data = g;
    g->fd = fd;
    g->on_syn = on_syn;
    g->on_lost = on_lost;
    g->ctx = ctx;
    (void)uv_poll_start(&g->poll, UV_READABLE, on_poll);
    *out = g;
    return 0;
}

void gate_verdict(struct gate *g, uint64_t id, enum gate_verdict verdict)
{
    struct privilege_verdict v = {.id = id, .verdict = verdict};
    /* Where it does not fit the SYN stays held, and is dropped in the end. */
    (void)!send(g->fd, &v, sizeof(v), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void gate_close(struct gate *g)
{
    if (g == NULL || g->closed)
        return;
    g->closed = true;
    (void)uv_poll_stop(&g->poll);
    (void)shutdown(g->fd, SHUT_RDWR);
    uv_close((uv_handle_t *)&g->poll, on_closed);
}

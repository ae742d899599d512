/* A gate's socket to the privileged helper, on a loop; see gate.h. */
#include "io/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/helper.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"

enum { READS = 64 }; /* SYNs at one go, so that nobody else on the loop starves */

struct gate {
    struct watch watch;
    int fd;
    gate_syn_cb on_syn;
    gate_lost_cb on_lost;
    void *ctx;
    bool *gone; /* of the callback that runs */
};

static void on_ready(void *ctx, int events)
{
    struct gate *g = ctx;
    struct privilege_syn s;
    bool gone = false;
    ssize_t n = -1;
    (void)events;
    g->gone = &gone;
    for (int i = 0; i < READS; i++) {
        n = recv(g->fd, &s, sizeof(s), MSG_DONTWAIT);
        if (n != (ssize_t)sizeof(s))
            break;
        g->on_syn(g->ctx, s.id, &s.from);
        if (gone)
            return;
    }
    g->gone = NULL;
    if (n == (ssize_t)sizeof(s) || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    watch_for(&g->watch, 0);
    log_debug("a gate is lost: the privileged helper ended");
    if (g->on_lost != NULL)
        g->on_lost(g->ctx);
}

int gate_open(struct gate **out, struct loop *loop, const struct addr *local,
              gate_syn_cb on_syn, gate_lost_cb on_lost, void *ctx, struct fault *fault)
{
    struct privilege_request q = {.op = PRIVILEGE_GATE, .local = *local};
    struct privilege_reply r = {0};
    struct gate *g = calloc(1, sizeof(*g));
    int rc, fd = -1;
    *out = NULL;
    if (g == NULL)
        return fault_lack(fault, POSTERN_ERR_NOMEM);
    if (!helper_can(PRIVILEGE_CAN_FILTER)) {
        free(g);
        return fault_set(fault, POSTERN_ERR_PERM, helper_missing(),
                         "connections to port %u cannot be held", local->port);
    }
    rc = helper_ask(&q, &r, &fd);
    if (rc == 0) {
        rc = watch_start(&g->watch, loop, fd, WATCH_READ, on_ready, g);
        if (rc != 0)
            close(fd);
    }
    if (rc != 0) {
        free(g);
        return fault_set(fault, rc, "see docs/SECURITY.md, Privileges",
                         "connections to port %u cannot be held: %s", local->port,
                         r.reason[0] != '\0' ? r.reason : postern_strerror(rc));
    }
    g->fd = fd;
    g->on_syn = on_syn;
    g->on_lost = on_lost;
    g->ctx = ctx;
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
    if (g == NULL)
        return;
    if (g->gone != NULL)
        *g->gone = true;
    watch_close(&g->watch);
    (void)shutdown(g->fd, SHUT_RDWR);
    close(g->fd);
    free(g);
}

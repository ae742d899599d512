/*
 * postern-helper: the one process that uses privileges. It takes typed requests from
 * the program that started it, over a socket that nobody else can reach, and ends with
 * it. The program started its keeper (keeper_process.c), which starts it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/parts.h"
#include "io/caps.h"
#include "io/fdpass.h"
#include "io/stdfd.h"

static uint32_t able(void)
{
    return (caps_have(CAPS_NET_ADMIN) ? PRIVILEGE_CAN_FILTER : 0) |
           (caps_have(CAPS_NET_RAW) ? PRIVILEGE_CAN_RAW : 0) |
           (caps_have(CAPS_NET_BIND_SERVICE) ? PRIVILEGE_CAN_BIND : 0);
}

static void serve(const struct privilege_request *q, struct privilege_reply *r,
                  int given, int *fd)
{
    switch ((enum privilege_op)q->op) {
    case PRIVILEGE_HELLO:
        r->version = PRIVILEGE_VERSION;
        r->can = able();
        break;
    case PRIVILEGE_KNOCK_ADD:
        (void)knock_add(q, r);
        break;
    case PRIVILEGE_KNOCK_REMOVE:
        (void)knock_remove(q, r);
        break;
    case PRIVILEGE_SEQUENCED:
        (void)socket_sequenced(q, r, fd);
        break;
    case PRIVILEGE_TRANSPARENT:
        (void)socket_transparent(q, r, fd);
        break;
    case PRIVILEGE_LOW_PORT:
        (void)socket_low_port(q, r, fd);
        break;
    case PRIVILEGE_BUFFERS:
        (void)socket_buffers(given, r);
        break;
    case PRIVILEGE_ARRANGE:
        (void)arranged_begin(q, r, fd);
        break;
    case PRIVILEGE_ARRANGE_ANSWER:
        (void)arranged_answer(q, r);
        break;
    case PRIVILEGE_GATE:
        (void)gate_add(q, r, fd);
        break;
    case PRIVILEGE_NAMES_LINK:
        (void)names_link(r, fd);
        break;
    case PRIVILEGE_KEEPER:
        (void)keeper_start(given, r);
        break;
    case PRIVILEGE_KNOCK_SEEN:
    case PRIVILEGE_START: /* of the keeper */
    case PRIVILEGE_END:
    case PRIVILEGE_OP_COUNT:
    default: /* edge.c lets none of these in */
        (void)refuse(r, POSTERN_ERR_DENIED, "the helper knows no request %u", q->op);
        break;
    }
}

static void answer(const struct privilege_reply *r, int fd)
{
    (void)!fdpass_send(PRIVILEGE_FD, r, sizeof(*r), fd);
}

static void on_knock(uint32_t serial, const struct addr *from)
{
    struct privilege_reply r = {
        .op = PRIVILEGE_KNOCK_SEEN, .serial = serial, .from = *from};
    answer(&r, -1);
}

/* False when the program is gone. */
static bool take_request(void)
{
    struct privilege_request q = {0};
    int given, fd = -1;
    ssize_t n = fdpass_recv(PRIVILEGE_FD, &q, sizeof(q), 0, &given);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    struct privilege_reply r = {.op = q.op, .serial = q.serial};
    const char *no = edge_check(&q, given_kind(given), EDGE_HELPER);
    if (n != (ssize_t)sizeof(q))
        (void)refuse(&r, POSTERN_ERR_PROTO, "the program and its helper differ");
    else if (no != NULL)
        (void)refuse(&r, POSTERN_ERR_DENIED, "the helper refuses request %u: %s", q.op,
                     no);
    else
        serve(&q, &r, given, &fd);
    answer(&r, fd);
    if (fd >= 0)
        close(fd);
    if (given >= 0)
        close(given);
    if (r.op == PRIVILEGE_HELLO && r.err == 0 && q.after_gates)
        gate_tidy(); /* nobody waits for that */
    return true;
}

/*
 * It ends with its program, and cleans up: not by what is meant for that and reaches
 * all of its group, a key or a service manager's SIGTERM, which would be a loss to it.
 */
static void ignore_signals(void)
{
    static const int numbers[] = {SIGINT, SIGHUP, SIGTERM, SIGPIPE};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        (void)signal(numbers[i], SIG_IGN);
}

int main(int argc, char **argv)
{
    stdfd_fill();
    int type = 0;
    socklen_t len = sizeof(type);
    if (getsockopt(PRIVILEGE_FD, SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
        type != SOCK_SEQPACKET) {
        (void)fprintf(stderr, "postern-helper: postern starts this by itself; "
                              "there is nothing to run by hand\n");
        return 2;
    }
    caps_keep(PRIVILEGE_CAPS);
    if (keeper_is_named(argc > 0 ? argv[0] : NULL))
        return keeper_run();
    ignore_signals();
    (void)fcntl(PRIVILEGE_FD, F_SETFD, FD_CLOEXEC);
    bool go_on = true;
    while (go_on) {
        struct pollfd p[2 + GATE_POLL_MAX] = {{.fd = PRIVILEGE_FD, .events = POLLIN},
                                              {.fd = knock_fd(), .events = POLLIN}};
        size_t gates = gate_poll(p + 2);
        if (poll(p, 2 + gates, gate_timeout_ms()) < 0 && errno != EINTR)
            break;
        if (p[1].revents != 0)
            knock_read(on_knock);
        gate_serve(p + 2, gates);
        go_on = p[0].revents == 0 || take_request();
    }
    gate_end();
    return 0;
}

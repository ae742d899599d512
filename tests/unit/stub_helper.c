/*
 * A postern-helper for test_helper.c: the real keeper, and a helper that does nothing
 * but what it is told by the field `sequence` of a request, enum stub in stub_helper.h.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "helper/parts.h"
#include "io/fdpass.h"
#include "stub_helper.h"

int refuse(struct privilege_reply *r, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(r->reason, sizeof(r->reason), fmt, ap);
    va_end(ap);
    r->err = err;
    return err;
}

int main(int argc, char **argv)
{
    struct privilege_request q;
    int given;
    if (keeper_is_named(argc > 0 ? argv[0] : NULL))
        return keeper_run();
    while (fdpass_recv(PRIVILEGE_FD, &q, sizeof(q), 0, &given) == (ssize_t)sizeof(q)) {
        struct privilege_reply r = {.op = q.op, .serial = q.serial};
        r.version = PRIVILEGE_VERSION;
        r.can = PRIVILEGE_CAN_FILTER | PRIVILEGE_CAN_RAW | PRIVILEGE_CAN_BIND;
        r.dropped = (uint64_t)getpid();
        if (q.sequence == STUB_DIE)
            (void)raise(SIGKILL);
        if (q.sequence == STUB_STOP)
            (void)raise(SIGSTOP);
        if (q.op == PRIVILEGE_KEEPER)
            (void)keeper_start(given, &r);
        if (given >= 0)
            close(given);
        (void)!fdpass_send(PRIVILEGE_FD, &r, sizeof(r), -1);
    }
    return 0;
}

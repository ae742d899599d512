/* What machines of the world do not have: privileges, gates, routers that map ports. */
#include <stdio.h>

#include "io/gate.h"
#include "io/gateway.h"
#include "io/helper.h"
#include "io/sockdiag.h"

void helper_open(struct loop *loop)
{
    (void)loop;
}

void helper_close(void)
{
}

void helper_watch(struct helper_watch *w, void (*on_back)(void *ctx), void *ctx)
{
    (void)w, (void)on_back, (void)ctx;
}

void helper_unwatch(struct helper_watch *w)
{
    (void)w;
}

bool helper_can(uint32_t can)
{
    return can == 0;
}

void helper_forgo(void)
{
}

const char *helper_missing(void)
{
    return "this machine has no helper";
}

int helper_ask(struct privilege_request *q, struct privilege_reply *reply, int *fd)
{
    (void)q, (void)reply, (void)fd;
    return POSTERN_ERR_PERM;
}

void helper_enlarge(int fd)
{
    (void)fd;
}

int helper_low_port(const struct addr *local, bool tcp)
{
    (void)local, (void)tcp;
    return -1;
}

int helper_knock_add(struct privilege_request *q, struct privilege_reply *reply,
                     helper_knock_cb cb, void *ctx)
{
    (void)q, (void)reply, (void)cb, (void)ctx;
    return POSTERN_ERR_PERM;
}

uint64_t helper_knock_remove(uint32_t serial)
{
    (void)serial;
    return 0;
}

int gate_open(struct gate **out, struct loop *loop, const struct addr *local,
              gate_syn_cb on_syn, gate_lost_cb on_lost, void *ctx, struct fault *fault)
{
    (void)out, (void)loop, (void)local, (void)on_syn, (void)on_lost, (void)ctx;
    return fault_set(fault, POSTERN_ERR_PERM, "go on without", "no gates here");
}

void gate_verdict(struct gate *g, uint64_t id, enum gate_verdict verdict)
{
    (void)g, (void)id, (void)verdict;
}

void gate_close(struct gate *g)
{
    (void)g;
}

void gateway_map(struct gateway_mapping *m)
{
    m->by = GATEWAY_NONE;
    (void)snprintf(m->reason, sizeof(m->reason), "the router maps no ports");
}

void gateway_unmap(const struct gateway_mapping *m)
{
    (void)m;
}

const char *gateway_protocol_name(enum gateway_protocol p)
{
    (void)p;
    return "none";
}

bool sockdiag_listeners(sockdiag_cb cb, void *ctx)
{
    (void)cb, (void)ctx;
    return false;
}

bool sockdiag_owner(uint32_t inode, int *pid, char name[static 16])
{
    (void)inode, (void)pid, (void)name;
    return false;
}

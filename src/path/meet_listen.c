/*
 * The temporary port of a meeting: for addresses that the peer named, and closed by the
 * first other one that touches it. What its connections say is attempt.c's.
 */
#include "path/meet_state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/acceptor.h"
#include "io/linger.h"
#include "io/log.h"
#include "io/tcp.h"

void meet_close_listeners(struct meet *m)
{
    for (int i = 0; i < FAMILIES; i++) {
        acceptor_close(m->listeners[i]);
        m->listeners[i] = NULL;
    }
}

static bool is_expected(const struct meet *m, const struct addr *from)
{
    for (size_t i = 0; i < m->peer_count; i++)
        if (m->peers[i].family == from->family &&
            memcmp(m->peers[i].ip, from->ip, sizeof(from->ip)) == 0)
            return true;
    return false;
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct meet *m = ctx;
    struct greeting_terms terms = meet_terms(m);
    struct attempt **slot = meet_free_slot(m);
    if (!is_expected(m, from)) {
        linger_break(fd);
        if (m->plan->lasts)
            return;
        m->stranger = true;
        meet_close_listeners(m);
        return;
    }
    if (slot == NULL || attempt_accepted(slot, meet_config(m)->net, fd, &terms,
                                         meet_on_attempt, m) != 0) {
        if (slot != NULL)
            *slot = NULL;
        linger_break(fd);
    }
}

void meet_open_listeners(struct meet *m)
{
    static const enum addr_family family_of[FAMILIES] = {ADDR_V4, ADDR_V6};
    for (int i = 0; i < FAMILIES; i++) {
        struct addr local;
        if (!tcp_port_local(m->port, family_of[i], &local))
            continue;
        struct acceptor_config c = {.loop = meet_config(m)->net->loop,
                                    .fd = tcp_bind(&local),
                                    .who = path_kind_name(m->plan->kind),
                                    .on_connection = on_connection,
                                    .ctx = m};
        bool listens = c.fd >= 0 && tcp_listen(c.fd) == 0;
        if (!listens && c.fd >= 0)
            close(c.fd);
        if (!listens || acceptor_open(&m->listeners[i], &c) != 0)
            log_debug("%s: cannot listen", path_kind_name(m->plan->kind));
    }
}

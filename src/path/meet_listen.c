/*
 * The temporary port of a meeting: for addresses that the peer named, and closed by the
 * first other one that touches it. What its connections say is attempt.c's.
 */
#include "path/meet_state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/log.h"
#include "io/loop_uv.h"
#include "io/sockaddr.h"
#include "io/tcp.h"

static void free_handle(uv_handle_t *h)
{
    free(h);
}

void meet_close_listeners(struct meet *m)
{
    for (int i = 0; i < FAMILIES; i++) {
        struct listener *l = &m->listeners[i];
        if (l->poll != NULL) {
            (void)uv_poll_stop(l->poll);
            l->poll->data = NULL;
            uv_close((uv_handle_t *)l->poll, free_handle);
            l->poll = NULL;
        }
        if (l->fd >= 0)
            close(l->fd);
        l->fd = -1;
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

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct meet *m = poll->data;
    struct addr from;
    (void)status, (void)events;
    if (m == NULL)
        return;
    int listener = -1;
    for (int i = 0; i < FAMILIES; i++)
        if (m->listeners[i].poll == poll)
            listener = m->listeners[i].fd;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct greeting_terms terms = meet_terms(m);
    struct attempt **slot = meet_free_slot(m);
    if (sockaddr_remote(fd, &from) != 0 || !is_expected(m, &from)) {
        tcp_abort(fd);
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
        tcp_abort(fd);
    }
}

void meet_open_listeners(struct meet *m)
{
    static const enum addr_family family_of[FAMILIES] = {ADDR_V4, ADDR_V6};
    for (int i = 0; i < FAMILIES; i++) {
        struct listener *l = &m->listeners[i];
        struct addr local;
        if (!tcp_port_local(m->port, family_of[i], &local))
            continue;
        l->fd = tcp_bind(&local);
        l->poll = malloc(sizeof(*l->poll));
        if (l->fd < 0 || l->poll == NULL || tcp_listen(l->fd) != 0 ||
            uv_poll_init(loop_uv(meet_config(m)->net->loop), l->poll, l->fd) != 0) {
            log_debug("%s: cannot listen", path_kind_name(m->plan->kind));
            free(l->poll);
            l->poll = NULL;
            if (l->fd >= 0)
                close(l->fd);
            l->fd = -1;
            continue;
        }
        l->poll->data = m;
        (void)uv_poll_start(l->poll, UV_READABLE, on_listener);
    }
}

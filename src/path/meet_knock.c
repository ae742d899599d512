/*
 * What a host may have to ask for before its port is told: a filter or a mapping.
 *
 * tcp-knock inside a meeting (US20050238034): the host's packet filter waits at a
 * closed port for a SYN from the client's address with the number that the host gave
 * out; it is reported and dropped, and the host connects to where it came from.
 */
#include "path/meet_state.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/wire.h"
#include "io/helper.h"
#include "io/log.h"
#include "io/sock.h"
#include "io/tcp.h"
#include "path/knock.h"

static void on_knock(void *ctx, const struct addr *from)
{
    struct meet *m = ctx;
    char text[ADDR_TEXT_LEN];
    if (from == NULL) {
        m->knock = 0;
        if ((m->phase == MEETING || m->phase == WAITING) && !m->knocked)
            meet_refuse(m, helper_missing());
        return;
    }
    log_debug("tcp-knock: seen from %s", addr_format(from, text));
    if (m->phase != MEETING && m->phase != WAITING)
        return;
    m->knocked = true;
    m->peers[0] = *from;
    m->peer_count = 1;
    m->syns[0] = 0;
    m->busy = true;
    meet_connect_all(m, 0);
    m->busy = false;
}

/* A port that nothing here uses: the one of our addresses has a connection. */
static bool free_port(uint16_t *port)
{
    struct addr any = {.family = ADDR_V4}, bound;
    int fd = tcp_bind(&any);
    bool good = fd >= 0 && sock_local(fd, &bound) == 0;
    if (good)
        *port = bound.port;
    if (fd >= 0)
        close(fd);
    return good;
}

static void on_mapped(void *ctx, const struct addr *external, const char *words)
{
    struct meet *m = ctx;
    char text[ADDR_TEXT_LEN];
    if (m->phase != GATHERING)
        return;
    if (external == NULL) {
        meet_refuse(m, words);
        return;
    }
    log_debug("mapped-tcp: %s by %s", addr_format(external, text), words);
    m->mapped = *external;
    meet_on_addresses(m);
}

bool meet_map(struct meet *m)
{
    struct addr local, peer = {0};
    for (size_t i = 0; i < m->peer_count && peer.family == ADDR_NONE; i++)
        if (m->peers[i].family == ADDR_V4 &&
            addr_scope_of(&m->peers[i]) == ADDR_SCOPE_GLOBAL)
            peer = m->peers[i];
    if (tcp_port_local(m->port, ADDR_V4, &local) &&
        portmap_open(&m->portmap, meet_config(m)->net->loop, true, local.port, &peer,
                     on_mapped, m) == 0)
        return true;
    (void)snprintf(m->refused, sizeof(m->refused), "no TCP port could be opened there");
    return false;
}

bool meet_knock_open(struct meet *m)
{
    struct tcp_candidate own[TCP_PORT_CANDIDATES_MAX];
    struct knock_terms t = {.tcp = true};
    size_t n = tcp_port_candidates(m->port, own);
    for (size_t i = 0; i < n && i < KNOCK_ADDRESSES_MAX; i++)
        t.own[t.own_count++] = own[i].addr;
    for (size_t i = 0; i < m->peer_count && i < MEET_PEERS_MAX; i++)
        t.peers[t.peer_count++] = m->peers[i];
    meet_release(m);
    if (!free_port(&t.port)) {
        (void)snprintf(m->refused, sizeof(m->refused), "no port there is free");
        return false;
    }
    m->sequence = 1 + randombytes_uniform(UINT32_MAX - 1);
    struct wire_writer w = wire_writer(t.id, sizeof(t.id));
    wire_put_u32(&w, m->sequence); /* its first bytes, as on the wire */
    if (!knock_begin(&t, &m->knock, m->refused, sizeof(m->refused), on_knock, m))
        return false;
    m->knock_port = t.port;
    return true;
}

void meet_release(struct meet *m)
{
    portmap_close(m->portmap);
    m->portmap = NULL;
    m->mapped = (struct addr){0};
    knock_end(&m->knock, m->plan->kind);
    m->knock_port = 0;
}

int meet_sequenced_socket(const struct addr *local, uint32_t sequence)
{
    struct privilege_request q = {
        .op = PRIVILEGE_SEQUENCED, .local = *local, .sequence = sequence};
    struct privilege_reply r;
    int fd = -1;
    int rc = helper_ask(&q, &r, &fd);
    if (rc != 0)
        log_debug("a SYN of our own number: %s", r.reason);
    return rc == 0 ? fd : rc;
}

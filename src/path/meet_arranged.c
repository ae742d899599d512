/*
 * The arranged connection inside a meeting (firewalled-pair-central-station, figures 5
 * and 6): each side told the other its first sequence number beforehand. The opener's
 * SYN dies on the way and opens its NAT; the other's SYN is swallowed by that NAT,
 * where inbound SYNs are; the opener answers it all the same, again and again for a
 * while.
 */
#include "path/meet_state.h"

#include <string.h>
#include <unistd.h>

#include "io/helper.h"
#include "io/log.h"
#include "io/sock.h"

enum { ANSWERS_MAX = 6, ARRANGED_HOPS = 2, STEP_SEQUENCE = 1 << 20 };

bool meet_can_arrange(const struct meet *m)
{
    return m->sequence != 0 && m->peer_sequence != 0 && !m->symmetric &&
           !m->peer_symmetric && helper_can(PRIVILEGE_CAN_FILTER | PRIVILEGE_CAN_RAW);
}

/* Our address on the way to `to`, with the port that was told. */
static bool local_towards(const struct meet *m, const struct addr *to,
                          struct addr *local)
{
    struct addr bound;
    if (!tcp_port_local(m->port, (enum addr_family)to->family, &bound) ||
        sock_source_for(to, local) != 0)
        return false;
    local->port = bound.port;
    return true;
}

void meet_arrange(struct meet *m)
{
    struct greeting_terms terms = meet_terms(m);
    m->arranged_count = m->answers = 0;
    for (size_t i = 0; i < m->peer_count; i++) {
        struct privilege_request *q = &m->arranged[m->arranged_count];
        struct attempt **slot = meet_free_slot(m);
        struct privilege_reply r;
        int fd = -1;
        *q = (struct privilege_request){.op = PRIVILEGE_ARRANGE,
                                        .remote = m->peers[i],
                                        .sequence = meet_next_sequence(m, m->sequence),
                                        .peer_sequence =
                                            meet_next_sequence(m, m->peer_sequence),
                                        .ways = tcp_port_ways(m->port),
                                        .peer_ways = m->peer_ways,
                                        .hops = ARRANGED_HOPS};
        if (slot == NULL || m->syns[i] >= MEET_SYNS_MAX ||
            addr_scope_of(&m->peers[i]) == ADDR_SCOPE_LOOPBACK ||
            !local_towards(m, &m->peers[i], &q->local) ||
            !target_may_send(m->approach, &m->peers[i], 1))
            continue;
        m->syns[i]++;
        if (helper_ask(q, &r, &fd) != 0) {
            log_debug("arranged: %s", r.reason);
            continue;
        }
        if (attempt_awaited(slot, meet_config(m)->net, fd, &terms, meet_on_attempt,
                            m) != 0) {
            close(fd);
            *slot = NULL;
            continue;
        }
        q->op = PRIVILEGE_ARRANGE_ANSWER;
        m->arranged_count++;
    }
}

bool meet_arranged_answer(struct meet *m)
{
    struct privilege_reply r;
    for (unsigned i = 0; i < m->arranged_count; i++)
        if (target_may_send(m->approach, &m->arranged[i].remote, 1) &&
            helper_ask(&m->arranged[i], &r, NULL) != 0)
            log_debug("arranged: %s", r.reason);
    return ++m->answers < ANSWERS_MAX && m->arranged_count > 0;
}

uint32_t meet_next_sequence(const struct meet *m, uint32_t first)
{
    return first + m->step * STEP_SEQUENCE;
}

void meet_arranged_connect(struct meet *m)
{
    struct greeting_terms terms = meet_terms(m);
    for (size_t i = 0; i < m->peer_count; i++) {
        struct addr local;
        struct attempt **slot = meet_free_slot(m);
        if (slot == NULL || m->syns[i] >= MEET_SYNS_MAX ||
            !tcp_port_local(m->port, (enum addr_family)m->peers[i].family, &local) ||
            !target_may_send(m->approach, &m->peers[i], meet_syn_cost(m)))
            continue;
        m->syns[i]++;
        int fd = meet_sequenced_socket(&local, meet_next_sequence(m, m->sequence));
        if (fd < 0)
            continue;
        m->told[slot - m->attempts] = true;
        if (attempt_connect_on(slot, meet_config(m)->net, fd, &m->peers[i], 0, &terms,
                               meet_on_attempt, m) != 0) {
            close(fd);
            *slot = NULL;
        }
    }
}

bool meet_arranged_agrees(struct meet *m, int fd)
{
    uint32_t told = tcp_port_ways(m->port) & m->peer_ways & TCP_WAYS_FLAGS;
    uint32_t has = tcp_ways_of(fd) & TCP_WAYS_FLAGS;
    if (has != told)
        log_debug("arranged: SYNs lose options on the way: %#x of %#x", has, told);
    m->strips = m->strips || has != told;
    return has == told;
}

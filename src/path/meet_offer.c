/* What the two sides of a meeting by TCP tell each other. */
#include <stdio.h>
#include <string.h>

#include "path/meet_state.h"

void meet_fill_offer(void *k, Offer *o)
{
    struct meet *m = k;
    struct tcp_candidate found[TCP_PORT_CANDIDATES_MAX];
    const pb_size_t max = sizeof(o->meets) / sizeof(o->meets[0]);
    if ((!m->port_done && m->refused[0] == '\0') || o->meets_count == max)
        return;
    Meet *out = &o->meets[o->meets_count++];
    (void)snprintf(out->kind, sizeof(out->kind), "%s", path_kind_name(m->plan->kind));
    out->round = m->round;
    out->symmetric = m->symmetric;
    out->low = m->low;
    out->sequence = m->sequence;
    out->step_ms = m->step_ms;
    (void)snprintf(out->refused, sizeof(out->refused), "%s", m->refused);
    if (!m->port_done)
        return;
    out->ways = tcp_port_ways(m->port);
    size_t n = tcp_port_candidates(m->port, found);
    if (m->mapped.family != ADDR_NONE) {
        found[0].addr = m->mapped;
        n = 1;
    }
    const size_t room = sizeof(out->candidates) / sizeof(out->candidates[0]);
    for (size_t i = 0; i < n && i < room; i++) {
        Candidate *c = &out->candidates[out->candidates_count++];
        c->port = m->knock_port != 0 ? m->knock_port : found[i].addr.port;
        c->ip.size = (pb_size_t)addr_ip_len(&found[i].addr);
        memcpy(c->ip.bytes, found[i].addr.ip, c->ip.size);
    }
}

/* Only addresses that somebody may be asked to connect to. */
static bool is_fit(const struct meet *m, const struct addr *a)
{
    return addr_scope_of(a) != ADDR_SCOPE_LINK && target_fits(m->approach, a);
}

static void take_peers(struct meet *m, const Meet *in)
{
    m->peer_count = 0;
    m->peer_round = in->round;
    m->peer_symmetric = in->symmetric;
    m->peer_low = in->symmetric && in->low;
    m->peer_sequence = in->sequence;
    m->peer_ways = in->ways & TCP_WAYS_ALL;
    if ((m->peer_ways & TCP_WAYS_SCALE_MASK) > TCP_WAYS_SCALE_MAX)
        m->peer_ways = 0;
    for (pb_size_t i = 0; i < in->candidates_count && m->peer_count < MEET_PEERS_MAX;
         i++) {
        const Candidate *c = &in->candidates[i];
        struct addr a;
        if (addr_from_bytes(&a, c->ip.bytes, c->ip.size, c->port) == 0 && is_fit(m, &a))
            m->peers[m->peer_count++] = a;
    }
}

static void host_cannot(struct meet *m, const Meet *in)
{
    char reason[200];
    (void)snprintf(reason, sizeof(reason), "the host cannot: %s", in->refused);
    meet_fail(m, reason);
}

static void on_host_offer(struct meet *m, const Meet *in)
{
    bool again = in->round == m->peer_round;
    if (in->round != m->round)
        return; /* of a round that is over */
    if (!again)
        take_peers(m, in);
    if (in->refused[0] != '\0' && (!again || m->phase == MEETING))
        host_cannot(m, in); /* or cannot any more */
    else if (!again)
        meet_begin(m);
}

void meet_on_offer(void *k, const Offer *o, bool renewed)
{
    struct meet *m = k;
    const Meet *in = NULL;
    (void)renewed;
    for (pb_size_t i = 0; i < o->meets_count; i++)
        if (strcmp(o->meets[i].kind, path_kind_name(m->plan->kind)) == 0)
            in = &o->meets[i];
    if (in == NULL)
        return;
    if (meet_config(m)->client) {
        on_host_offer(m, in);
    } else if (in->round > m->round) {
        m->round = in->round;
        take_peers(m, in);
        meet_set_step(m, in->step_ms);
        meet_begin_round(m);
    }
}

/* Sessions in one array, found by either end: one is an inner endpoint, its outer one,
 * one remote endpoint. Sessions of one mapping share the outer endpoint. See nat.h. */
#include "nat.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum {
    FIRST_PORT = 1024,
    LOW_FIRST = 600, /* where netfilter puts 512-1023 */
    LOW_COUNT = 424,
    RANGE_DEFAULT = 64,
    TRIES = 4096,
    SECOND = 1000000,
};

struct nat_session {
    enum vproto proto;
    struct addr inner, remote, outer;
    struct addr first; /* the remote for which its mapping was made */
    uint32_t next_inner, next_outer;
    unsigned out_flags, in_flags; /* of enum nat_tcp, ever seen */
    bool answered;
    uint64_t last_us;
};

void nat_init(struct nat *n, const struct nat_config *c)
{
    *n = (struct nat){.c = *c};
    struct nat_config *d = &n->c;
    d->port_first = d->port_first == 0 ? FIRST_PORT : d->port_first;
    d->port_last = d->port_last == 0 ? 65535 : d->port_last;
    d->step = d->step == 0 ? 1 : d->step;
    d->udp_us = d->udp_us == 0 ? (uint64_t)120 * SECOND : d->udp_us;
    d->udp_first_us = d->udp_first_us == 0 ? d->udp_us : d->udp_first_us;
    d->tcp_us = d->tcp_us == 0 ? (uint64_t)7440 * SECOND : d->tcp_us;
    if (d->tcp_transitory_us == 0)
        d->tcp_transitory_us = (uint64_t)240 * SECOND;
    d->range_size = d->range_size == 0 ? RANGE_DEFAULT : d->range_size;
    d->ban_us = d->ban_us == 0 ? (uint64_t)60 * SECOND : d->ban_us;
    n->next_port = d->port_first;
}

void nat_fini(struct nat *n)
{
    free(n->sessions);
    n->sessions = NULL;
    nat_flush(n);
    n->room = 0;
    n->none_dies_before_us = 0;
}

void nat_flush(struct nat *n)
{
    n->count = 0;
    n->known_count = 0;
    memset(n->inner, 0, sizeof(n->inner));
    memset(n->outer, 0, sizeof(n->outer));
}

bool nat_owns(const struct nat *n, const struct addr *a)
{
    bool owns = n->c.translates && addr_ip_equal(&n->c.ext, a);
    for (unsigned i = 0; i < n->c.more_count; i++)
        owns = owns || addr_ip_equal(&n->c.more[i], a);
    return owns;
}

/* ------------------------------------------------------------------ who is how busy */

/* What is kept of that address; a new entry takes the place of the oldest. */
static struct nat_known *known(struct nat *n, const struct addr *ip)
{
    for (unsigned i = 0; i < n->known_count; i++)
        if (addr_ip_equal(&n->known[i].ip, ip))
            return &n->known[i];
    if (n->known_count == NAT_KNOWN) {
        n->known_count--;
        memmove(n->known, n->known + 1, n->known_count * sizeof(n->known[0]));
    }
    n->known[n->known_count] = (struct nat_known){.ip = *ip, .at = UINT32_MAX};
    return &n->known[n->known_count++];
}

static bool counts(const struct nat *n)
{
    const struct nat_config *c = &n->c;
    return (c->sessions_each | c->new_per_s | c->ban_new_per_s | c->ban_unanswered |
            c->ban_unexpected) != 0;
}

static bool is_banned(struct nat *n, const struct addr *ip, uint64_t now_us)
{
    for (unsigned i = 0; i < n->known_count; i++)
        if (addr_ip_equal(&n->known[i].ip, ip))
            return now_us < n->known[i].banned_us;
    return false;
}

static void ban(struct nat *n, struct nat_known *k, uint64_t now_us)
{
    k->banned_us = now_us + n->c.ban_us;
    k->unexpected = 0;
    n->banned++;
}

/* One more session from within; false: not that one. */
static bool may_begin(struct nat *n, const struct addr *inner, uint64_t now_us)
{
    const struct nat_config *c = &n->c;
    if (!counts(n))
        return true;
    struct nat_known *k = known(n, inner);
    if (now_us - k->second_us >= SECOND) {
        k->second_us = now_us;
        k->begun = 0;
    }
    k->begun++;
    if ((c->ban_new_per_s > 0 && k->begun > c->ban_new_per_s) ||
        (c->ban_unanswered > 0 && k->unanswered >= c->ban_unanswered)) {
        ban(n, k, now_us);
        return false;
    }
    return (c->new_per_s == 0 || k->begun <= c->new_per_s) &&
           (c->sessions_each == 0 || k->sessions < c->sessions_each);
}

static void note_unexpected(struct nat *n, const struct addr *from, uint64_t now_us)
{
    if (n->c.ban_unexpected == 0)
        return;
    struct nat_known *k = known(n, from);
    if (++k->unexpected >= n->c.ban_unexpected)
        ban(n, k, now_us);
}

static void note_begin(struct nat *n, const struct nat_session *s)
{
    if (!counts(n))
        return;
    struct nat_known *k = known(n, &s->inner);
    k->sessions++;
    k->unanswered += !s->answered;
}

static void note_answer(struct nat *n, struct nat_session *s)
{
    if (!s->answered && counts(n)) {
        struct nat_known *k = known(n, &s->inner);
        k->unanswered -= k->unanswered > 0;
    }
    s->answered = true;
}

static void note_gone(struct nat *n, const struct nat_session *s)
{
    if (!counts(n))
        return;
    struct nat_known *k = known(n, &s->inner);
    k->sessions -= k->sessions > 0;
    k->unanswered -= k->unanswered > 0 && !s->answered;
}

/* ----------------------------------------------------------------------- their lives
 */

static uint32_t *bucket(uint32_t table[static NAT_BUCKETS], enum vproto proto,
                        const struct addr *a)
{
    uint32_t h = a->port * 40503u + a->ip[3] * 31u + a->ip[15] * 7u + (uint32_t)proto;
    return &table[(h ^ h >> 10) % NAT_BUCKETS];
}

static void chain(struct nat *n, size_t at)
{
    struct nat_session *s = &n->sessions[at];
    uint32_t *in = bucket(n->inner, s->proto, &s->inner);
    uint32_t *out = bucket(n->outer, s->proto, &s->outer);
    s->next_inner = *in;
    s->next_outer = *out;
    *in = *out = (uint32_t)at + 1;
}

/* The last moment of its life, unless something comes. */
static uint64_t end_of(const struct nat *n, const struct nat_session *s)
{
    uint64_t limit = s->answered ? n->c.udp_us : n->c.udp_first_us;
    if (s->proto == VPROTO_TCP) {
        unsigned seen = s->out_flags | s->in_flags;
        if ((seen & NAT_TCP_RST) != 0 && n->c.rst_closes)
            return 0;
        bool ends = (seen & (NAT_TCP_FIN | NAT_TCP_RST)) != 0;
        limit = s->answered && !ends ? n->c.tcp_us : n->c.tcp_transitory_us;
    }
    return s->last_us + limit;
}

static bool is_alive(const struct nat *n, const struct nat_session *s, uint64_t now_us)
{
    return now_us <= end_of(n, s);
}

/* It is new, or its life may have become shorter. */
static void note_end(struct nat *n, const struct nat_session *s)
{
    uint64_t end = end_of(n, s);
    if (end < n->none_dies_before_us)
        n->none_dies_before_us = end;
}

static void sweep(struct nat *n, uint64_t now_us)
{
    size_t kept = 0;
    if (now_us <= n->none_dies_before_us)
        return;
    n->none_dies_before_us = UINT64_MAX;
    memset(n->inner, 0, sizeof(n->inner));
    memset(n->outer, 0, sizeof(n->outer));
    for (size_t i = 0; i < n->count; i++) {
        if (!is_alive(n, &n->sessions[i], now_us)) {
            note_gone(n, &n->sessions[i]);
            continue;
        }
        note_end(n, &n->sessions[i]);
        n->sessions[kept] = n->sessions[i];
        chain(n, kept++);
    }
    n->count = kept;
}

size_t nat_sessions(const struct nat *n, uint64_t now_us)
{
    size_t alive = 0;
    for (size_t i = 0; i < n->count; i++)
        alive += is_alive(n, &n->sessions[i], now_us);
    return alive;
}

/* ------------------------------------------------------------------------- mappings */

/* A mapping from `inner` towards `to` may be shared with that session. */
static bool is_same_mapping(const struct nat *n, const struct nat_session *s,
                            const struct addr *to)
{
    switch (n->c.mapping) {
    case NAT_MAPPING_ADDRESS_DEPENDENT:
        return addr_ip_equal(&s->first, to);
    case NAT_MAPPING_ADDRESS_PORT_DEPENDENT:
        return addr_equal(&s->first, to);
    default:
        return true;
    }
}

static bool is_free(struct nat *n, enum vproto proto, const struct addr *outer,
                    const struct addr *to)
{
    for (uint32_t i = *bucket(n->outer, proto, outer); i != 0;) {
        const struct nat_session *s = &n->sessions[i - 1];
        if (s->proto == proto && addr_equal(&s->outer, outer) &&
            (!n->c.overloads || addr_equal(&s->remote, to)))
            return false;
        i = s->next_outer;
    }
    return true;
}

static uint16_t any_port(const struct nat *n, const struct addr *from, uint64_t *rng)
{
    if (n->c.keeps_low && from->port < FIRST_PORT)
        return (uint16_t)(LOW_FIRST + rng_below(rng, LOW_COUNT));
    unsigned ports = n->c.port_last - n->c.port_first + 1u;
    return (uint16_t)(n->c.port_first + rng_below(rng, ports));
}

static uint16_t try_port(struct nat *n, const struct addr *from, unsigned attempt,
                         uint64_t *rng)
{
    const struct nat_config *c = &n->c;
    unsigned ports = c->port_last - c->port_first + 1u;
    unsigned size = c->range_size < ports ? c->range_size : ports;
    unsigned block = (from->ip[3] * 7u + from->ip[2] * 3u) % (ports / size);
    switch (c->ports) {
    case NAT_PORTS_PRESERVED:
        if (attempt == 0)
            return from->port;
        break;
    case NAT_PORTS_SEQUENTIAL:
        n->next_port = (uint16_t)(c->port_first +
                                  (n->next_port - c->port_first + c->step) % ports);
        return n->next_port;
    case NAT_PORTS_RANGE:
        return (uint16_t)(c->port_first + block * size + attempt % size);
    case NAT_PORTS_RANGE_RANDOM:
        return (uint16_t)(c->port_first + block * size + rng_below(rng, size));
    case NAT_PORTS_RANDOM:
        break;
    }
    return any_port(n, from, rng);
}

/* Of the pool; without one there is no choice, and nothing is drawn. */
static struct addr choose_address(struct nat *n, const struct addr *from, uint64_t *rng)
{
    unsigned count = n->c.more_count + 1;
    if (count == 1)
        return n->c.ext;
    struct nat_known *k = known(n, from);
    if (k->at == UINT32_MAX || n->c.pool_arbitrary)
        k->at = (unsigned)rng_below(rng, count);
    return k->at == 0 ? n->c.ext : n->c.more[k->at - 1];
}

/* False: no port is left. */
static bool choose_outer(struct nat *n, enum vproto proto, const struct addr *from,
                         const struct addr *to, struct addr *outer, uint64_t *rng)
{
    unsigned tries = n->c.ports == NAT_PORTS_RANGE ? n->c.range_size : TRIES;
    *outer = choose_address(n, from, rng);
    for (unsigned i = 0; i < tries; i++) {
        outer->port = try_port(n, from, i, rng);
        if (outer->port != 0 && is_free(n, proto, outer, to))
            return true;
    }
    return false;
}

static struct nat_session *add(struct nat *n, const struct nat_session *s)
{
    if (n->c.sessions_max > 0 && n->count >= n->c.sessions_max) {
        n->refused++;
        return NULL;
    }
    if (n->count == n->room) {
        n->room = n->room == 0 ? 64 : 2 * n->room;
        n->sessions = realloc(n->sessions, n->room * sizeof(*n->sessions));
        assert(n->sessions != NULL);
    }
    n->sessions[n->count] = *s;
    chain(n, n->count);
    note_end(n, s);
    note_begin(n, s);
    return &n->sessions[n->count++];
}

/* ------------------------------------------------------------------------- outwards */

/* The session of that pair; else `mapping` is one whose outer end it may share. */
static struct nat_session *find_out(struct nat *n, enum vproto proto,
                                    const struct addr *from, const struct addr *to,
                                    const struct nat_session **mapping)
{
    *mapping = NULL;
    for (uint32_t i = *bucket(n->inner, proto, from); i != 0;) {
        struct nat_session *s = &n->sessions[i - 1];
        if (s->proto == proto && addr_equal(&s->inner, from)) {
            if (addr_equal(&s->remote, to))
                return s;
            if (is_same_mapping(n, s, to))
                *mapping = s;
        }
        i = s->next_inner;
    }
    return NULL;
}

/* The session of that pair, made anew where there is none. NULL: refused. */
static struct nat_session *session_out(struct nat *n, enum vproto proto,
                                       const struct addr *from, const struct addr *to,
                                       unsigned flags, uint64_t now_us, uint64_t *rng)
{
    struct nat_session new = {.proto = proto,
                              .inner = *from,
                              .remote = *to,
                              .first = *to,
                              .outer = *from,
                              .last_us = now_us};
    const struct nat_session *mapping;
    struct nat_session *s = find_out(n, proto, from, to, &mapping);
    if (s != NULL)
        return s;
    /* Segments of a connection that it does not know do not open one (RFC 5382
     * permits either; this is what iptables' INVALID rules do). */
    if (proto == VPROTO_TCP && (flags & NAT_TCP_SYN) == 0)
        return NULL;
    if (!may_begin(n, from, now_us))
        return NULL;
    if (n->c.translates && mapping != NULL) {
        new.outer = mapping->outer;
        new.first = mapping->first;
    } else if (n->c.translates && !choose_outer(n, proto, from, to, &new.outer, rng)) {
        return NULL;
    }
    return add(n, &new);
}

bool nat_out(struct nat *n, enum vproto proto, struct addr *from, const struct addr *to,
             unsigned tcp_flags, uint64_t now_us, uint64_t *rng)
{
    if (proto == VPROTO_UDP && n->c.blocks_udp)
        return false;
    sweep(n, now_us);
    if (is_banned(n, from, now_us) || is_banned(n, to, now_us))
        return false;
    struct nat_session *s = session_out(n, proto, from, to, tcp_flags, now_us, rng);
    if (s == NULL)
        return false;
    if ((tcp_flags & NAT_TCP_SYN) != 0 && (s->out_flags & NAT_TCP_FIN) != 0)
        s->out_flags = s->in_flags = 0; /* the same pair anew */
    s->out_flags |= tcp_flags;
    s->last_us = now_us;
    note_end(n, s);
    *from = s->outer;
    return true;
}

/* -------------------------------------------------------------------------- inwards */

static bool is_permitted(const struct nat *n, const struct nat_session *s,
                         const struct addr *from)
{
    switch (n->c.filtering) {
    case NAT_FILTERING_ENDPOINT_INDEPENDENT:
        return true;
    case NAT_FILTERING_ADDRESS_DEPENDENT:
        return addr_ip_equal(&s->remote, from);
    default:
        return addr_equal(&s->remote, from);
    }
}

/* The pair's own session before any other that would let it in. */
static struct nat_session *session_in(struct nat *n, enum vproto proto,
                                      const struct addr *from, const struct addr *to,
                                      uint64_t now_us)
{
    struct nat_session *found = NULL;
    for (uint32_t i = *bucket(n->outer, proto, to); i != 0;) {
        struct nat_session *s = &n->sessions[i - 1];
        i = s->next_outer;
        if (s->proto != proto || !addr_equal(&s->outer, to) ||
            !is_alive(n, s, now_us) || !is_permitted(n, s, from))
            continue;
        if (addr_equal(&s->remote, from))
            return s;
        if (found == NULL)
            found = s;
    }
    return found;
}

bool nat_in(struct nat *n, enum vproto proto, const struct addr *from, struct addr *to,
            unsigned tcp_flags, uint64_t now_us)
{
    if (proto == VPROTO_UDP && n->c.blocks_udp)
        return false;
    if (n->c.drops_syn && (tcp_flags & (NAT_TCP_SYN | NAT_TCP_ACK)) == NAT_TCP_SYN)
        return false;
    if (is_banned(n, from, now_us))
        return false;
    struct nat_session *s = session_in(n, proto, from, to, now_us);
    if (s == NULL) {
        note_unexpected(n, from, now_us);
        return false;
    }
    if (is_banned(n, &s->inner, now_us))
        return false;
    if (!addr_equal(&s->remote, from)) { /* a new pair of that mapping */
        struct nat_session new = *s;
        new.remote = *from;
        new.out_flags = new.in_flags = 0;
        new.answered = false;
        s = add(n, &new);
        if (s == NULL)
            return false;
    }
    s->in_flags |= tcp_flags;
    note_answer(n, s);
    if (proto == VPROTO_TCP || n->c.inbound_refreshes)
        s->last_us = now_us;
    note_end(n, s);
    *to = s->inner;
    return true;
}

bool nat_inner_of(const struct nat *n, enum vproto proto, const struct addr *ext,
                  const struct addr *remote, uint64_t now_us, struct addr *inner)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct nat_session *s = &n->sessions[i];
        if (s->proto == proto && is_alive(n, s, now_us) && addr_equal(&s->outer, ext) &&
            addr_equal(&s->remote, remote)) {
            *inner = s->inner;
            return true;
        }
    }
    return false;
}

bool nat_outer_of(const struct nat *n, enum vproto proto, const struct addr *inner,
                  const struct addr *remote, uint64_t now_us, struct addr *ext)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct nat_session *s = &n->sessions[i];
        if (s->proto == proto && is_alive(n, s, now_us) &&
            addr_equal(&s->inner, inner) && addr_equal(&s->remote, remote)) {
            *ext = s->outer;
            return true;
        }
    }
    return false;
}

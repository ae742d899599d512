/* Sessions in one array: one is an inner endpoint, its outer port, one remote endpoint.
 * Sessions of one mapping share the port. See nat.h. */
#include "nat.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum {
    FIRST_PORT = 1024,
    PORTS = 65536 - FIRST_PORT,
    RANGE_DEFAULT = 64,
    SECOND = 1000000,
};

struct nat_session {
    enum vproto proto;
    struct addr inner, remote;
    struct addr first; /* the remote for which its mapping was made */
    uint16_t port;
    unsigned out_flags, in_flags; /* of enum nat_tcp, ever seen */
    bool answered;
    uint64_t last_us;
};

void nat_init(struct nat *n, const struct nat_config *c)
{
    *n = (struct nat){.c = *c, .next_port = FIRST_PORT};
    if (n->c.udp_us == 0)
        n->c.udp_us = (uint64_t)120 * SECOND;
    if (n->c.tcp_us == 0)
        n->c.tcp_us = (uint64_t)7440 * SECOND;
    if (n->c.tcp_transitory_us == 0)
        n->c.tcp_transitory_us = (uint64_t)240 * SECOND;
    if (n->c.range_size == 0)
        n->c.range_size = RANGE_DEFAULT;
}

void nat_fini(struct nat *n)
{
    free(n->sessions);
    n->sessions = NULL;
    n->count = n->room = 0;
    n->none_dies_before_us = 0;
}

void nat_flush(struct nat *n)
{
    n->count = 0;
    memset(n->recent, 0xff, sizeof(n->recent));
}

/* The last moment of its life, unless something comes. */
static uint64_t end_of(const struct nat *n, const struct nat_session *s)
{
    uint64_t limit = n->c.udp_us;
    if (s->proto == VPROTO_TCP) {
        bool ends = ((s->out_flags | s->in_flags) & (NAT_TCP_FIN | NAT_TCP_RST)) != 0;
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
    for (size_t i = 0; i < n->count; i++) {
        if (!is_alive(n, &n->sessions[i], now_us))
            continue;
        note_end(n, &n->sessions[i]);
        n->sessions[kept++] = n->sessions[i];
    }
    if (kept < n->count) /* others stand where they stood */
        memset(n->recent, 0xff, sizeof(n->recent));
    n->count = kept;
}

size_t nat_sessions(const struct nat *n, uint64_t now_us)
{
    size_t alive = 0;
    for (size_t i = 0; i < n->count; i++)
        alive += is_alive(n, &n->sessions[i], now_us);
    return alive;
}

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

static bool is_port_free(const struct nat *n, enum vproto proto, uint16_t port)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->sessions[i].proto == proto && n->sessions[i].port == port)
            return false;
    return true;
}

static uint16_t try_port(struct nat *n, const struct addr *from, unsigned attempt,
                         uint64_t *rng)
{
    unsigned size = n->c.range_size, blocks = PORTS / size;
    switch (n->c.ports) {
    case NAT_PORTS_PRESERVED:
        if (attempt == 0)
            return from->port;
        break;
    case NAT_PORTS_SEQUENTIAL:
        n->next_port = n->next_port == 65535 ? FIRST_PORT : n->next_port + 1;
        return n->next_port;
    case NAT_PORTS_RANGE: {
        unsigned block = (from->ip[3] * 7u + from->ip[2] * 3u) % blocks;
        return (uint16_t)(FIRST_PORT + block * size + attempt % size);
    }
    case NAT_PORTS_RANDOM:
        break;
    }
    return (uint16_t)(FIRST_PORT + rng_below(rng, PORTS));
}

/* 0: there is none. */
static uint16_t choose_port(struct nat *n, enum vproto proto, const struct addr *from,
                            uint64_t *rng)
{
    unsigned attempts = n->c.ports == NAT_PORTS_RANGE ? n->c.range_size : 4096;
    for (unsigned i = 0; i < attempts; i++) {
        uint16_t port = try_port(n, from, i, rng);
        if (port != 0 && is_port_free(n, proto, port))
            return port;
    }
    return 0;
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
    note_end(n, s);
    return &n->sessions[n->count++];
}

static bool is_pair(const struct nat_session *s, enum vproto proto,
                    const struct addr *from, const struct addr *to)
{
    return s->proto == proto && addr_equal(&s->inner, from) &&
           addr_equal(&s->remote, to);
}

/* Where the session of that pair was last. */
static size_t *recent(struct nat *n, const struct addr *from, const struct addr *to)
{
    return &n->recent[(from->port * 31u + to->port * 7u + from->ip[3] + to->ip[3]) %
                      NAT_RECENT];
}

/* The session of that pair, made anew where there is none. NULL: refused. */
static struct nat_session *session_out(struct nat *n, enum vproto proto,
                                       const struct addr *from, const struct addr *to,
                                       unsigned flags, uint64_t now_us, uint64_t *rng)
{
    struct nat_session new = {
        .proto = proto, .inner = *from, .remote = *to, .first = *to, .last_us = now_us};
    size_t *hint = recent(n, from, to);
    if (*hint < n->count && is_pair(&n->sessions[*hint], proto, from, to))
        return &n->sessions[*hint];
    for (size_t i = 0; i < n->count; i++) {
        struct nat_session *s = &n->sessions[i];
        if (s->proto != proto || !addr_equal(&s->inner, from))
            continue;
        if (addr_equal(&s->remote, to)) {
            *hint = i;
            return s;
        }
        if (is_same_mapping(n, s, to))
            new.port = s->port;
    }
    /* Segments of a connection that it does not know do not open one (RFC 5382
     * permits either; this is what iptables' INVALID rules do). */
    if (proto == VPROTO_TCP && (flags & NAT_TCP_SYN) == 0)
        return NULL;
    if (!n->c.translates)
        new.port = from->port;
    else if (new.port == 0 && (new.port = choose_port(n, proto, from, rng)) == 0)
        return NULL;
    return add(n, &new);
}

bool nat_out(struct nat *n, enum vproto proto, struct addr *from, const struct addr *to,
             unsigned tcp_flags, uint64_t now_us, uint64_t *rng)
{
    if (proto == VPROTO_UDP && n->c.blocks_udp)
        return false;
    sweep(n, now_us);
    struct nat_session *s = session_out(n, proto, from, to, tcp_flags, now_us, rng);
    if (s == NULL)
        return false;
    if ((tcp_flags & NAT_TCP_SYN) != 0 && (s->out_flags & NAT_TCP_FIN) != 0)
        s->out_flags = s->in_flags = 0; /* the same pair anew */
    s->out_flags |= tcp_flags;
    s->last_us = now_us;
    note_end(n, s);
    if (n->c.translates) {
        *from = n->c.ext;
        from->port = s->port;
    }
    return true;
}

static bool is_hit(const struct nat *n, const struct nat_session *s, enum vproto proto,
                   const struct addr *to)
{
    if (s->proto != proto)
        return false;
    return n->c.translates ? s->port == to->port : addr_equal(&s->inner, to);
}

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
static struct nat_session *session_in(const struct nat *n, enum vproto proto,
                                      const struct addr *from, const struct addr *to,
                                      uint64_t now_us)
{
    struct nat_session *found = NULL;
    for (size_t i = 0; i < n->count; i++) {
        struct nat_session *s = &n->sessions[i];
        if (!is_alive(n, s, now_us) || !is_hit(n, s, proto, to) ||
            !is_permitted(n, s, from))
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
    struct nat_session *s = session_in(n, proto, from, to, now_us);
    if (s == NULL)
        return false;
    struct addr inner = s->inner;
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
    s->answered = true;
    if (proto == VPROTO_TCP || n->c.inbound_refreshes)
        s->last_us = now_us;
    note_end(n, s);
    *to = inner;
    return true;
}

bool nat_inner_of(const struct nat *n, enum vproto proto, const struct addr *ext,
                  const struct addr *remote, uint64_t now_us, struct addr *inner)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct nat_session *s = &n->sessions[i];
        if (is_alive(n, s, now_us) && is_hit(n, s, proto, ext) &&
            addr_equal(&s->remote, remote)) {
            *inner = s->inner;
            return true;
        }
    }
    return false;
}

/* STUN binding requests from the sockets of one approach. */
#include "path/reflexive.h"

#include <sodium.h>

#include "path/kind.h"

enum {
    TRIES = 5,
    RTO_MS = 250, /* doubles (RFC 8489 section 6.2.1, with a shorter start) */
    BLOCKED_AFTER = 4,
    FAIR_TRIES = 2, /* when another has answered */
    SECOND_TRIES = 3
};

static bool is_over(const struct binding *b)
{
    return b->done || b->tries >= (b->follows ? SECOND_TRIES : TRIES);
}

static void add(struct reflexive *r, unsigned sock, const struct addr *server,
                struct udp *const sockets[], uint64_t now_ms)
{
    if (r->count == REFLEXIVE_MAX || sockets[sock] == NULL)
        return;
    for (unsigned i = 0; i < r->count; i++)
        if (r->bindings[i].sock == sock && addr_equal(&r->bindings[i].server, server))
            return;
    struct binding *b = &r->bindings[r->count++];
    *b = (struct binding){.sock = sock, .server = *server, .due_ms = now_ms};
    randombytes_buf(b->txid, sizeof(b->txid));
}

void reflexive_begin(struct reflexive *r, const struct addr *servers, size_t n,
                     bool maps, struct udp *const sockets[], uint64_t now_ms)
{
    r->count = 0;
    r->maps = maps;
    r->asked_again = false;
    for (size_t i = 0; i < n; i++)
        add(r, servers[i].family == ADDR_V6 ? 1 : 0, &servers[i], sockets, now_ms);
}

void reflexive_send(struct reflexive *r, struct approach *a,
                    struct udp *const sockets[], uint64_t now_ms)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    const uint8_t *proof = uplink_proof(approach_config_of(a)->uplink);
    for (unsigned i = 0; i < r->count; i++) {
        struct binding *b = &r->bindings[i];
        if (is_over(b) || now_ms < b->due_ms || sockets[b->sock] == NULL)
            continue;
        int n = stun_build_marked_request(buf, sizeof(buf), b->txid, proof);
        if (n > 0 && target_may_ask(a, &b->server, 1)) {
            int rc = udp_send(sockets[b->sock], &b->server, buf, (size_t)n, (size_t)n);
            b->stranded = rc == POSTERN_ERR_UNREACHABLE || rc == POSTERN_ERR_PERM;
            b->left += !b->stranded;
        }
        b->due_ms = now_ms + ((uint64_t)RTO_MS << b->tries);
        b->tries++;
    }
}

/*
 * The same address and another port, and another address: what the NAT shows to each
 * tells its mapping. An address in another kind of network says nothing of it.
 */
static void follow(struct reflexive *r, const struct binding *b,
                   const struct addr *other, struct udp *const sockets[],
                   uint64_t now_ms)
{
    struct addr second = b->server, third = *other;
    unsigned sock = b->sock, before = r->count;
    bool known = other->family != b->server.family ||
                 addr_scope_of(other) != addr_scope_of(&b->server);
    for (unsigned i = 0; i < r->count; i++)
        known = known || (r->bindings[i].sock == sock &&
                          addr_ip_equal(&r->bindings[i].server, other));
    third.port = b->server.port;
    second.port = other->port;
    add(r, sock, &second, sockets, now_ms);
    if (!known)
        add(r, sock, &third, sockets, now_ms);
    for (unsigned i = before; i < r->count; i++)
        r->bindings[i].follows = true;
}

static const struct binding *first_done(const struct reflexive *r);
static bool is_comparable(const struct binding *first, const struct binding *b);

/*
 * Another port than before, in an answer that had to be asked for again: perhaps the
 * NAT forgot everything in between, which looks like one that gives each destination a
 * port of its own. What answered before is asked once more, and tells which it was.
 */
static void ask_again(struct reflexive *r, const struct binding *late, uint64_t now_ms)
{
    const struct binding *first = first_done(r);
    if (r->asked_again || late->tries < 2 || first == NULL ||
        !is_comparable(first, late) || addr_equal(&first->mapped, &late->mapped))
        return;
    r->asked_again = true;
    for (unsigned i = 0; i < r->count; i++) {
        struct binding *b = &r->bindings[i];
        if (b == late || b->sock != late->sock || !b->done)
            continue;
        b->done = false;
        b->tries = 0;
        b->due_ms = now_ms;
        randombytes_buf(b->txid, sizeof(b->txid)); /* not the old answer, doubled */
    }
}

uint64_t reflexive_deadline_ms(const struct reflexive *r)
{
    uint64_t at = UINT64_MAX;
    for (unsigned i = 0; i < r->count; i++) {
        const struct binding *b = &r->bindings[i];
        if (!is_over(b) && b->due_ms < at)
            at = b->due_ms;
    }
    return at;
}

bool reflexive_on_packet(struct reflexive *r, struct approach *a, unsigned sock,
                         const struct addr *from, const uint8_t *buf, size_t len,
                         struct udp *const sockets[], uint64_t now_ms)
{
    struct stun_message m;
    if (stun_parse(&m, buf, len) != 0)
        return false;
    for (unsigned i = 0; i < r->count; i++) {
        struct binding *b = &r->bindings[i];
        if (b->done || b->sock != sock || !addr_equal(&b->server, from) ||
            !stun_is_response_to(&m, b->txid) || m.mapped.family == ADDR_NONE)
            continue;
        b->done = true;
        b->mapped = m.mapped;
        target_answered(a, from);
        target_seen(a, &m.mapped, m.has_mark ? m.mark : NULL);
        if (m.other.family != ADDR_NONE && sock != REFLEXIVE_SAMPLE && r->maps &&
            !b->follows)
            follow(r, &(struct binding){.sock = sock, .server = b->server}, &m.other,
                   sockets, now_ms);
        ask_again(r, b, now_ms);
        return true;
    }
    return false;
}

bool reflexive_ask_sample(struct reflexive *r, struct udp *const sockets[],
                          uint64_t now_ms)
{
    for (unsigned i = 0; i < r->count; i++) {
        if (r->bindings[i].sock != 0 || !r->bindings[i].done)
            continue;
        add(r, REFLEXIVE_SAMPLE, &r->bindings[i].server, sockets, now_ms);
        return reflexive_sample(r) != NULL;
    }
    return false;
}

const struct binding *reflexive_sample(const struct reflexive *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->bindings[i].sock == REFLEXIVE_SAMPLE)
            return &r->bindings[i];
    return NULL;
}

size_t reflexive_ports(const struct reflexive *r, uint16_t out[static REFLEXIVE_MAX])
{
    size_t n = 0;
    for (unsigned i = 0; i < r->count; i++)
        if (r->bindings[i].done && r->bindings[i].mapped.family == ADDR_V4)
            out[n++] = r->bindings[i].mapped.port;
    return n;
}

bool reflexive_is_changed(const struct reflexive *r, uint16_t port)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->bindings[i].done && r->bindings[i].sock == 0 &&
            r->bindings[i].mapped.port != port)
            return true;
    return false;
}

static bool waits(const struct reflexive *r, unsigned tries)
{
    for (unsigned i = 0; i < r->count; i++)
        if (!is_over(&r->bindings[i]) && !r->bindings[i].stranded &&
            r->bindings[i].tries < tries)
            return true;
    return false;
}

bool reflexive_waits(const struct reflexive *r)
{
    return waits(r, TRIES);
}

bool reflexive_is_worth_waiting(const struct reflexive *r)
{
    bool answered = false;
    for (unsigned i = 0; i < r->count; i++)
        answered = answered || r->bindings[i].done;
    return waits(r, answered ? FAIR_TRIES + 1 : TRIES);
}

/* The first that answered our IPv4 socket. A server on this side of the NAT says
 * nothing about it: only those of one scope are held against each other. */
static const struct binding *first_done(const struct reflexive *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->bindings[i].done && r->bindings[i].sock == 0)
            return &r->bindings[i];
    return NULL;
}

const struct addr *reflexive_server(const struct reflexive *r)
{
    const struct binding *first = first_done(r);
    return first != NULL ? &first->server : NULL;
}

static bool is_comparable(const struct binding *first, const struct binding *b)
{
    return b->sock == 0 && b != first &&
           addr_scope_of(&first->server) == addr_scope_of(&b->server);
}

bool reflexive_is_one_sided(const struct reflexive *r)
{
    const struct binding *first = first_done(r);
    for (unsigned i = 0; i < r->count && first != NULL; i++)
        if (is_comparable(first, &r->bindings[i]) && r->bindings[i].done &&
            !addr_ip_equal(&first->server, &r->bindings[i].server))
            return false;
    return first != NULL;
}

enum nat_mapping reflexive_mapping(const struct reflexive *r)
{
    const struct binding *first = first_done(r);
    enum nat_mapping mapping = NAT_MAPPING_UNKNOWN;
    bool may_change = false;
    for (unsigned i = 0; i < r->count && first != NULL; i++) {
        const struct binding *b = &r->bindings[i];
        if (!is_comparable(first, b))
            continue;
        bool elsewhere = !addr_ip_equal(&first->server, &b->server);
        if (!b->done) {
            may_change = may_change || (elsewhere && !is_over(b) && !b->stranded);
        } else if (addr_equal(&first->mapped, &b->mapped)) {
            if (mapping == NAT_MAPPING_UNKNOWN)
                mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT;
        } else if (!elsewhere) {
            return NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
        } else {
            mapping = NAT_MAPPING_ADDRESS_DEPENDENT;
        }
    }
    return mapping == NAT_MAPPING_ENDPOINT_INDEPENDENT && may_change
               ? NAT_MAPPING_UNKNOWN
               : mapping;
}

unsigned reflexive_asked(const struct reflexive *r)
{
    unsigned left = 0;
    for (unsigned i = 0; i < r->count; i++)
        left += r->bindings[i].left;
    return left;
}

enum punch_udp reflexive_udp(const struct reflexive *r)
{
    bool waiting = false, sent = false;
    for (unsigned i = 0; i < r->count; i++) {
        if (r->bindings[i].done)
            return PUNCH_UDP_OK;
        waiting = waiting || r->bindings[i].tries < BLOCKED_AFTER;
        sent = sent || r->bindings[i].left > 0;
    }
    return sent && !waiting ? PUNCH_UDP_BLOCKED : PUNCH_UDP_UNKNOWN;
}

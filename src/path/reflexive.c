/* STUN binding requests from the sockets of one approach. */
#include "path/reflexive.h"

#include <sodium.h>

enum {
    TRIES = 5,
    RTO_MS = 250, /* doubles (RFC 8489 section 6.2.1, with a shorter start) */
    BLOCKED_AFTER = 4,
    FAIR_TRIES = 2 /* when another has answered */
};

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
                     struct udp *const sockets[], uint64_t now_ms)
{
    r->count = 0;
    for (size_t i = 0; i < n; i++)
        add(r, servers[i].family == ADDR_V6 ? 1 : 0, &servers[i], sockets, now_ms);
}

void reflexive_send(struct reflexive *r, struct approach *a,
                    struct udp *const sockets[], uint64_t now_ms)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    for (unsigned i = 0; i < r->count; i++) {
        struct binding *b = &r->bindings[i];
        if (b->done || b->tries >= TRIES || now_ms < b->due_ms ||
            sockets[b->sock] == NULL)
            continue;
        int n = stun_build_marked_request(buf, sizeof(buf), b->txid);
        if (n > 0 && target_may_ask(a, &b->server, 1)) {
            int rc = udp_send(sockets[b->sock], &b->server, buf, (size_t)n, (size_t)n);
            b->stranded = rc == POSTERN_ERR_UNREACHABLE || rc == POSTERN_ERR_PERM;
            b->left += !b->stranded;
        }
        b->due_ms = now_ms + ((uint64_t)RTO_MS << b->tries);
        b->tries++;
    }
}

uint64_t reflexive_deadline_ms(const struct reflexive *r)
{
    uint64_t at = UINT64_MAX;
    for (unsigned i = 0; i < r->count; i++) {
        const struct binding *b = &r->bindings[i];
        if (!b->done && b->tries < TRIES && b->due_ms < at)
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
        if (m.other.family != ADDR_NONE && sock != REFLEXIVE_SAMPLE) {
            /* The same address, another port: shows the mapping. */
            struct addr second = b->server;
            second.port = m.other.port;
            add(r, sock, &second, sockets, now_ms);
        }
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
        if (!r->bindings[i].done && !r->bindings[i].stranded &&
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

enum nat_mapping reflexive_mapping(const struct reflexive *r)
{
    const struct binding *first = NULL;
    for (unsigned i = 0; i < r->count; i++) {
        const struct binding *b = &r->bindings[i];
        if (!b->done || b->sock != 0)
            continue;
        /* A server on this side of the NAT says nothing about it. */
        if (first != NULL && addr_scope_of(&first->server) != addr_scope_of(&b->server))
            continue;
        if (first != NULL)
            return addr_equal(&first->mapped, &b->mapped)
                       ? NAT_MAPPING_ENDPOINT_INDEPENDENT
                       : NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
        first = b;
    }
    return NAT_MAPPING_UNKNOWN;
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

/*
 * The edge of the helper and of its keeper: one table says of each request which fields
 * it may fill, with what, and what comes along. What is not allowed there is refused
 * before anything acts on it. Knows no socket; whether an address is this machine's, or
 * a port is free, is for those who act.
 */
#include "helper/edge.h"

#include <string.h>

enum place {
    PLACE_NONE,  /* all zero */
    PLACE_PORT,  /* a port alone */
    PLACE_WHERE, /* an address, or any of its family */
    PLACE_ANYWHERE /* the one or the other */,
    PLACE_OWN,  /* one address that packets may come from */
    PLACE_PEER, /* one address of another machine */
};

/* Which of the other fields may be filled. */
enum {
    FIELD_TCP = 1,
    FIELD_AFTER_GATES = 2,
    FIELD_SOURCES = 4,
    FIELD_ID = 8,
    FIELD_SEQUENCE = 16,
    FIELD_PEER_SEQUENCE = 32,
    FIELD_HOPS = 64,
    FIELD_WAYS = 128,
};

enum { PORT_LAST = 65535, ORDINARY_FIRST = 1024, LOW_FIRST = 512 };
enum { ARRANGED = FIELD_SEQUENCE | FIELD_PEER_SEQUENCE | FIELD_HOPS | FIELD_WAYS };

struct rule {
    uint8_t asked;         /* enum edge_asked; 0: nobody is asked that */
    uint8_t local, remote; /* enum place */
    uint8_t given;         /* enum edge_given */
    uint8_t fields;
    bool any_port;                  /* 0, which is the kernel's to choose, too */
    uint16_t port_first, port_last; /* of `local` */
};

static const struct rule rules[PRIVILEGE_OP_COUNT] = {
    [PRIVILEGE_HELLO] = {.asked = EDGE_HELPER, .fields = FIELD_AFTER_GATES},
    [PRIVILEGE_KNOCK_ADD] = {.asked = EDGE_HELPER,
                             .local = PLACE_PORT,
                             .port_first = ORDINARY_FIRST,
                             .port_last = PORT_LAST,
                             .fields = FIELD_TCP | FIELD_SOURCES | FIELD_ID},
    [PRIVILEGE_KNOCK_REMOVE] = {.asked = EDGE_HELPER},
    [PRIVILEGE_SEQUENCED] = {.asked = EDGE_HELPER,
                             .local = PLACE_WHERE,
                             .any_port = true,
                             .port_first = ORDINARY_FIRST,
                             .port_last = PORT_LAST,
                             .fields = FIELD_SEQUENCE},
    [PRIVILEGE_TRANSPARENT] = {.asked = EDGE_HELPER,
                               .local = PLACE_PEER,
                               .remote = PLACE_PEER,
                               .port_first = 1,
                               .port_last = PORT_LAST},
    [PRIVILEGE_LOW_PORT] = {.asked = EDGE_HELPER,
                            .local = PLACE_WHERE,
                            .port_first = LOW_FIRST,
                            .port_last = ORDINARY_FIRST - 1,
                            .fields = FIELD_TCP},
    [PRIVILEGE_BUFFERS] = {.asked = EDGE_HELPER, .given = EDGE_GIVEN_UDP},
    [PRIVILEGE_ARRANGE] = {.asked = EDGE_HELPER,
                           .local = PLACE_OWN,
                           .remote = PLACE_PEER,
                           .port_first = ORDINARY_FIRST,
                           .port_last = PORT_LAST,
                           .fields = ARRANGED},
    [PRIVILEGE_ARRANGE_ANSWER] = {.asked = EDGE_HELPER,
                                  .local = PLACE_OWN,
                                  .remote = PLACE_PEER,
                                  .port_first = ORDINARY_FIRST,
                                  .port_last = PORT_LAST,
                                  .fields = ARRANGED},
    [PRIVILEGE_GATE] = {.asked = EDGE_HELPER,
                        .local = PLACE_ANYWHERE,
                        .port_first = 1,
                        .port_last = PORT_LAST},
    [PRIVILEGE_START] = {.asked = EDGE_KEEPER, .given = EDGE_GIVEN_PAIR},
    [PRIVILEGE_END] = {.asked = EDGE_KEEPER},
    [PRIVILEGE_NAMES_LINK] = {.asked = EDGE_HELPER},
    [PRIVILEGE_KEEPER] = {.asked = EDGE_HELPER, .given = EDGE_GIVEN_PAIR},
};

/* Nothing stands where the address has no room for it. */
static bool is_clean(const struct addr *a)
{
    static const uint8_t zero[sizeof(a->ip)], mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (a->family == ADDR_V6 && memcmp(a->ip, mapped, sizeof(mapped)) == 0)
        return false; /* that is an IPv4 address */
    bool link = a->family == ADDR_V6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
    size_t len = addr_ip_len(a);
    return (a->family == ADDR_NONE || len > 0) &&
           memcmp(a->ip + len, zero, sizeof(zero) - len) == 0 &&
           (a->scope == 0 || link);
}

/* By its class alone, whatever its port is. */
static bool is_peer(const struct addr *given)
{
    struct addr a = *given;
    a.port = 1;
    enum addr_scope scope = addr_scope_of(&a);
    return is_clean(given) &&
           (scope == ADDR_SCOPE_GLOBAL || scope == ADDR_SCOPE_PRIVATE);
}

static bool is_own(const struct addr *a)
{
    enum addr_scope scope = addr_scope_of(a);
    return scope != ADDR_SCOPE_UNUSABLE && scope != ADDR_SCOPE_LOOPBACK;
}

static bool is_place(const struct addr *a, enum place place)
{
    if (!is_clean(a))
        return false;
    switch (place) {
    case PLACE_NONE:
        return a->family == ADDR_NONE && a->port == 0;
    case PLACE_PORT:
        return a->family == ADDR_NONE;
    case PLACE_WHERE:
        return a->family != ADDR_NONE;
    case PLACE_ANYWHERE:
        return true;
    case PLACE_OWN:
        return is_own(a);
    case PLACE_PEER:
        return is_peer(a) && a->port != 0;
    }
    return false;
}

static bool is_port(const struct rule *r, uint16_t port)
{
    return r->local == PLACE_NONE || (r->any_port && port == 0) ||
           (port >= r->port_first && port <= r->port_last);
}

static bool are_sources(const struct privilege_request *q, bool allowed)
{
    unsigned n = q->source_count;
    if (allowed ? n == 0 || n > PRIVILEGE_SOURCES_MAX : n != 0)
        return false;
    for (unsigned i = 0; i < PRIVILEGE_SOURCES_MAX; i++)
        if (i < n ? !is_peer(&q->sources[i]) : !is_place(&q->sources[i], PLACE_NONE))
            return false;
    return true;
}

static bool are_ways(uint32_t ways)
{
    return (ways & ~(uint32_t)TCP_WAYS_ALL) == 0 &&
           (ways & TCP_WAYS_SCALE_MASK) <= TCP_WAYS_SCALE_MAX;
}

static bool is_flag(uint8_t value, bool allowed)
{
    return value <= (allowed ? 1 : 0);
}

static bool are_fields(const struct privilege_request *q, unsigned may)
{
    static const uint8_t zero[PRIVILEGE_KNOCK_ID_LEN];
    return is_flag(q->tcp, (may & FIELD_TCP) != 0) &&
           is_flag(q->after_gates, (may & FIELD_AFTER_GATES) != 0) &&
           ((may & FIELD_ID) != 0 || memcmp(q->id, zero, sizeof(zero)) == 0) &&
           ((may & FIELD_SEQUENCE) != 0 || q->sequence == 0) &&
           ((may & FIELD_PEER_SEQUENCE) != 0 || q->peer_sequence == 0) &&
           q->hops <= ((may & FIELD_HOPS) != 0 ? UINT8_MAX : 0) &&
           ((may & FIELD_WAYS) != 0 ? are_ways(q->ways) && are_ways(q->peer_ways)
                                    : q->ways == 0 && q->peer_ways == 0);
}

const char *edge_check(const struct privilege_request *q, enum edge_given given,
                       enum edge_asked asked)
{
    const struct rule *r = q->op < PRIVILEGE_OP_COUNT ? &rules[q->op] : &rules[0];
    if (r->asked != asked)
        return "this request is not known here";
    if (given != r->given)
        return r->given == EDGE_GIVEN_NONE
                   ? "nothing may come along with this request"
                   : "what has to come along with this request is missing or another";
    if (!is_place(&q->local, r->local))
        return "no usable address of this machine";
    if (!is_port(r, q->local.port))
        return "that port is not given by this request";
    if (!is_place(&q->remote, r->remote) ||
        (r->remote != PLACE_NONE && q->remote.family != q->local.family))
        return "no usable address of a peer";
    if (!are_sources(q, (r->fields & FIELD_SOURCES) != 0))
        return "no usable sources";
    if (!are_fields(q, r->fields))
        return "a field has a value that it cannot have";
    return NULL;
}

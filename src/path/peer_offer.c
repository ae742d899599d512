/* Reads candidates; one of another family or scope than is asked for is passed over. */
#include "path/peer_offer.h"

#include <string.h>

#include "path/reflexive.h"
#include "path/target.h"

void peer_offer_keep(struct peer_offer *p, const Offer *o)
{
    memcpy(p->candidates, o->candidates, sizeof(p->candidates));
    p->count = o->candidates_count;
    p->generation = o->generation;
    p->mapping = o->mapping;
    p->filtering = o->filtering;
    p->low_ports = o->low_ports;
    p->complete = o->complete;
    p->doubtful = o->doubtful;
    p->spent = o->spent;
}

static bool read_address(const Candidate *c, struct addr *a)
{
    return addr_from_bytes(a, c->ip.bytes, c->ip.size, c->port) == 0;
}

enum punch_udp peer_offer_udp(const struct peer_offer *p)
{
    bool global = false;
    if (p->mapping != NAT_MAPPING_UNKNOWN)
        return PUNCH_UDP_OK;
    for (pb_size_t i = 0; i < p->count; i++) {
        const Candidate *c = &p->candidates[i];
        struct addr a;
        if (c->type == CAND_REFLEXIVE)
            return PUNCH_UDP_OK;
        global =
            global || (read_address(c, &a) && addr_scope_of(&a) == ADDR_SCOPE_GLOBAL);
    } /* one of its own is not told again as what STUN saw */
    return p->complete && !global ? PUNCH_UDP_BLOCKED : PUNCH_UDP_UNKNOWN;
}

/* What the outside has seen of its socket. */
static struct predict_near near_of(const struct peer_offer *p)
{
    uint16_t ports[REFLEXIVE_MAX];
    size_t n = 0;
    for (pb_size_t i = 0; i < p->count && n < REFLEXIVE_MAX; i++) {
        const Candidate *c = &p->candidates[i];
        if ((c->type == CAND_REFLEXIVE || c->type == CAND_SAMPLE) && c->ip.size == 4)
            ports[n++] = (uint16_t)c->port;
    }
    return predict_observe(ports, p->low_ports ? 0 : n);
}

struct predict_side peer_offer_side(const struct peer_offer *p)
{
    return (struct predict_side){(enum nat_mapping)p->mapping, p->low_ports, near_of(p),
                                 p->doubtful};
}

size_t peer_offer_targets(const struct peer_offer *p, struct approach *approach,
                          struct addr out[static PREDICT_TARGETS_MAX])
{
    size_t n = 0;
    for (pb_size_t i = 0; i < p->count && n < PREDICT_TARGETS_MAX; i++) {
        struct addr a;
        if (p->candidates[i].type != CAND_SAMPLE &&
            read_address(&p->candidates[i], &a) && a.family == ADDR_V4 &&
            target_may_be_swept(approach, &a))
            out[n++] = a;
    }
    return n;
}

void peer_offer_add(const struct peer_offer *p, struct approach *approach,
                    struct punch *checks)
{
    for (pb_size_t i = 0; i < p->count; i++) {
        const Candidate *c = &p->candidates[i];
        struct addr a;
        if (c->type != CAND_SAMPLE && read_address(c, &a) && target_fits(approach, &a))
            (void)!punch_add_remote(checks, (enum cand_type)c->type, &a);
    }
    if (p->complete)
        punch_set_remote_complete(checks);
}

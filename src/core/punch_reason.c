/*
 * The words for an approach's outcome, from its counts and the caller's hints. Decides
 * nothing: reading them never changes what the checks do.
 */
#include <stdio.h>

#include "core/punch.h"

static bool changes_port(enum nat_mapping m)
{
    return m == NAT_MAPPING_ADDRESS_DEPENDENT ||
           m == NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
}

/* What the known NAT behaviours explain, or NULL. */
static const char *nat_words(const struct punch_hint *h)
{
    bool own = changes_port(h->own_mapping), peer = changes_port(h->peer_mapping);
    if (own && peer)
        return "the NATs of both sides give each destination a new port (symmetric)";
    if (own && h->peer_filtering == NAT_FILTERING_ADDRESS_PORT_DEPENDENT)
        return "this side's NAT gives each destination a new port (symmetric) and the "
               "other's filters by port";
    if (own)
        return "this side's NAT gives each destination a new port (symmetric)";
    if (peer && h->own_filtering == NAT_FILTERING_ADDRESS_PORT_DEPENDENT)
        return "the other side's NAT gives each destination a new port (symmetric) and "
               "this one's filters by port";
    if (peer)
        return "the other side's NAT gives each destination a new port (symmetric)";
    return NULL;
}

static void failed_words(struct punch *p)
{
    bool inbound = false, have4 = false;
    for (unsigned i = 0; i < p->pair_count; i++)
        inbound |= p->pairs[i].valid_inbound;
    for (unsigned s = 0; s < PUNCH_MAX_SOCKETS; s++)
        have4 |= p->families[s] == ADDR_V4;
    const char *nat = nat_words(&p->hint);
    const char *text = NULL;
    if (p->remote_count == 0)
        text = "the peer gave no address to try";
    else if (p->pair_count == 0)
        text = have4 ? "the peer has no address of a family that we have (no IPv4)"
                     : "the peer has no address of a family that we have";
    else if (p->died)
        text = "the path that was found went silent";
    else if (inbound)
        text = "the peer's checks arrive here, but no answer comes to ours: packets "
               "towards it are lost";
    else if (p->hint.own_udp == PUNCH_UDP_BLOCKED)
        text = "UDP seems blocked here: the broker's STUN did not answer";
    if (text != NULL)
        (void)snprintf(p->reason, sizeof(p->reason), "%s", text);
    else
        (void)snprintf(p->reason, sizeof(p->reason),
                       "no answer to %u checks of %u %s%s%s", p->requests_sent,
                       p->remote_count, p->remote_count == 1 ? "address" : "addresses",
                       nat ? ": " : "", nat ? nat : "");
}

static void proven_words(struct punch *p)
{
    char at[ADDR_TEXT_LEN];
    const struct punch_pair *best = punch_best(p);
    if (best == NULL)
        return;
    (void)snprintf(p->reason, sizeof(p->reason), "%s answers in %.1f ms",
                   addr_format(&best->remote, at), (double)best->rtt_us / 1000.0);
}

const char *punch_reason(struct punch *p)
{
    switch (p->state) {
    case PUNCH_IDLE:
        (void)snprintf(p->reason, sizeof(p->reason), "not started");
        break;
    case PUNCH_CHECKING:
        (void)snprintf(p->reason, sizeof(p->reason),
                       "being tried: %u checks sent to %u %s, no answer yet",
                       p->requests_sent, p->remote_count,
                       p->remote_count == 1 ? "address" : "addresses");
        break;
    case PUNCH_PROVEN:
        proven_words(p);
        break;
    case PUNCH_FAILED:
        failed_words(p);
        break;
    }
    return p->reason;
}

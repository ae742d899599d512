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

/* Why there was nobody to ask; NULL: there was. */
static const char *nobody_words(const struct punch *p)
{
    bool have4 = false;
    for (unsigned s = 0; s < PUNCH_MAX_SOCKETS; s++)
        have4 |= p->families[s] == ADDR_V4;
    if (p->remote_count == 0)
        return p->hint.peer_told
                   ? "the other side told only addresses of its own network; how the "
                     "outside sees it is not known, since the broker's STUN has not "
                     "answered it"
                   : "the other side told no address to try";
    if (p->pair_count == 0)
        return have4 ? "the peer has no address of a family that we have (no IPv4)"
                     : "the peer has no address of a family that we have";
    return p->died ? "the path that was found went silent" : fates_unsent(&p->fates);
}

/* "12 checks of 3 addresses" */
static const char *asked_words(const struct punch *p, char *buf, size_t cap)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->remote_count; i++)
        n += p->remotes[i].asked;
    (void)snprintf(buf, cap, "%u checks of %u %s%s", p->fates.of[FATE_LEFT], n,
                   n == 1 ? "address" : "addresses", fates_passed_over(&p->fates));
    return buf;
}

/* Nothing by UDP at all; whether the broker's STUN answers others shows where it ends.
 */
static void blocked_words(struct punch *p, const char *asked)
{
    bool elsewhere = p->hint.peer_udp == PUNCH_UDP_OK;
    bool checked = p->fates.of[FATE_LEFT] > 0;
    (void)snprintf(p->reason, sizeof(p->reason),
                   "no UDP comes back to this side: no answer to %u requests to the "
                   "broker's STUN%s%s%s; this network%s blocks or loses UDP, "
                   "or too many ask from its address",
                   p->hint.own_asked, elsewhere ? ", which answers the other side" : "",
                   checked ? ", nor to " : "", checked ? asked : "",
                   elsewhere ? "" : " or the broker's");
}

/* Something was sent, and nothing came of it: who else answered, and who did not? */
static void unanswered_words(struct punch *p, const char *asked)
{
    bool inbound = false;
    const char *nat = nat_words(&p->hint);
    for (unsigned i = 0; i < p->pair_count; i++)
        inbound |= p->pairs[i].valid_inbound;
    if (inbound)
        (void)snprintf(p->reason, sizeof(p->reason),
                       "the other side's checks arrive here, but no answer to %s: "
                       "what goes there is dropped on the way, or the answers are",
                       asked);
    else if (p->hint.own_udp == PUNCH_UDP_BLOCKED)
        blocked_words(p, asked);
    else if (p->hint.peer_udp == PUNCH_UDP_BLOCKED && nat == NULL)
        (void)snprintf(p->reason, sizeof(p->reason),
                       "no answer to %s: the other side's network blocks or loses UDP, "
                       "as the broker's STUN answers here and not there",
                       asked);
    else
        (void)snprintf(p->reason, sizeof(p->reason), "no answer to %s%s%s", asked,
                       nat ? ": " : "", nat ? nat : "");
}

static void failed_words(struct punch *p)
{
    char asked[128];
    const char *text = nobody_words(p);
    (void)asked_words(p, asked, sizeof(asked));
    if (p->remote_count == 0 && p->hint.own_udp == PUNCH_UDP_BLOCKED)
        blocked_words(p, asked); /* why else nobody was told a way */
    else if (text != NULL)
        (void)snprintf(p->reason, sizeof(p->reason), "%s", text);
    else
        unanswered_words(p, asked);
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
    char asked[128];
    switch (p->state) {
    case PUNCH_IDLE:
        (void)snprintf(p->reason, sizeof(p->reason), "not started");
        break;
    case PUNCH_CHECKING:
        (void)snprintf(p->reason, sizeof(p->reason), "being tried: %s, no answer yet",
                       asked_words(p, asked, sizeof(asked)));
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

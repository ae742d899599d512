/*
 * What udp-punch keeps of the peer's newest Offer: where the peer may be reached and
 * what its NAT does, as it says itself. Sends nothing; path/target.h says what may be
 * sent where.
 */
#ifndef POSTERN_PATH_PEER_OFFER_H
#define POSTERN_PATH_PEER_OFFER_H

#include "core/predict.h"
#include "core/proto.h"
#include "core/punch.h"
#include "path/approach.h"
#include "path/prediction.h"

struct peer_offer {
    Candidate candidates[sizeof(((Offer *)NULL)->candidates) / sizeof(Candidate)];
    pb_size_t count;
    uint32_t generation, mapping, filtering; /* enum nat_mapping, enum nat_filtering */
    bool low_ports, complete, doubtful, spent;
};

void peer_offer_keep(struct peer_offer *p, const Offer *o);
/* Whether the broker's STUN answered the peer, as its Offer shows. */
enum punch_udp peer_offer_udp(const struct peer_offer *p);
/* Its part in a prediction. */
struct predict_side peer_offer_side(const struct peer_offer *p);
/*
 * Where the peer is seen from outside, IPv4: without a NAT that is its own address. The
 * broker must say so too.
 */
size_t peer_offer_targets(const struct peer_offer *p, struct approach *approach,
                          struct addr out[static PREDICT_TARGETS_MAX]);
/* The checks' remote addresses, of which those that the approach allows; and that it
 * has told all. */
void peer_offer_add(const struct peer_offer *p, struct approach *approach,
                    struct punch *checks);

#endif

/*
 * Offers as they travel. Who opens one is approach_open_offer (path/approach.h), since
 * a host does so before there is an approach.
 */
#ifndef POSTERN_PATH_OFFER_H
#define POSTERN_PATH_OFFER_H

#include "core/key.h"
#include "core/kinds.h"
#include "core/proto.h"

/* Returns the length; 0 where it could not be sealed. */
size_t offer_seal(uint8_t *out, size_t cap, const Offer *o, const struct keypair *own,
                  const uint8_t to[static KEY_LEN]);
/* The sender may use that kind: says so; which it says so of, as a mask. */
void offer_name(Offer *o, enum path_kind k);
uint32_t offer_kinds(const Offer *o);

#endif

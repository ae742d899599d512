/* Offers as they travel: encoded, and sealed to one device. */
#ifndef POSTERN_PATH_OFFER_H
#define POSTERN_PATH_OFFER_H

#include "core/key.h"
#include "core/kinds.h"
#include "core/proto.h"

/* Returns the length; 0 where it could not be sealed. */
size_t offer_seal(uint8_t *out, size_t cap, const Offer *o, const struct keypair *own,
                  const uint8_t to[static KEY_LEN]);
/* POSTERN_ERR_PROTO when it is not genuine or of another conv. */
MUST_CHECK int offer_open(Offer *o, const struct keypair *own,
                          const uint8_t from[static KEY_LEN],
                          const uint8_t conv[static CONV_LEN], const uint8_t *sealed,
                          size_t len);
/* The sender may use that kind: says so; which it says so of, as a mask. */
void offer_name(Offer *o, enum path_kind k);
uint32_t offer_kinds(const Offer *o);

#endif

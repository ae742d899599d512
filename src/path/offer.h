/*
 * Offers as they travel: sealed by one device for another. Nobody above path/ seals or
 * opens a box; what a host or an agent says and reads before there is an approach is
 * said and read here.
 */
#ifndef POSTERN_PATH_OFFER_H
#define POSTERN_PATH_OFFER_H

#include "core/addr.h"
#include "core/key.h"
#include "core/kinds.h"
#include "core/proto.h"

/* Returns the length; 0 where it could not be sealed. */
size_t offer_seal(uint8_t *out, size_t cap, const Offer *o, const struct keypair *own,
                  const uint8_t to[static KEY_LEN]);
/* POSTERN_ERR_PROTO when it is not genuine, or of another conv. */
MUST_CHECK int offer_open(Offer *offer, const struct keypair *own,
                          const uint8_t from[static KEY_LEN],
                          const uint8_t conv[static CONV_LEN], const uint8_t *sealed,
                          size_t len);
/* The sender may use that kind: says so; which it says so of, as a mask. */
void offer_name(Offer *o, enum path_kind k);
uint32_t offer_kinds(const Offer *o);

/*
 * For a message whose `peer` and `conv` are set. The first makes it a Signal that tells
 * a client that its session is not known here; false: it could not be sealed. The
 * second makes it an Introduce to a host, as a broker delivers it, for a session over
 * the relay alone; `fresh`: there is none yet. The third says that such a host's Signal
 * tells what the first one does.
 */
bool offer_forgotten(Control *m, const struct keypair *own);
void offer_introduce(Control *m, const struct keypair *own,
                     const uint8_t host[static KEY_LEN], bool fresh);
bool offer_says_forgotten(const Control *m, const struct keypair *own,
                          const uint8_t host[static KEY_LEN]);

/* One more of our addresses, as far as there is room. */
void offer_add(Offer *o, enum cand_type type, const struct addr *a);
bool offer_has(const Offer *o, const struct addr *a);

#endif

/*
 * What the broker says of a device's addresses to those it writes to: where its control
 * connection comes from, and what its STUN marked (core/vouch_mark.h). The other side
 * sends little to an address that nobody vouches for.
 */
#ifndef POSTERN_BROKER_VOUCH_H
#define POSTERN_BROKER_VOUCH_H

#include "core/proto.h"
#include "core/vouch_mark.h"

/* A mark for what arrived from `a` now; `secret` is of this run of the broker. */
void broker_mark(uint8_t mark[static VOUCH_MARK_LEN], const uint8_t *secret,
                 const struct addr *a);
/* A proof for the device whose connection comes from `a`; and whether one is true. */
void broker_proof(uint8_t proof[static VOUCH_MARK_LEN], const uint8_t *secret,
                  const struct addr *a, const uint8_t key[static KEY_LEN]);
bool broker_proves(const uint8_t proof[static VOUCH_MARK_LEN], const uint8_t *secret,
                   const struct addr *a, uint32_t *device);
/*
 * Replaces the list that the device at `seen` sent by what is true of it. `max` is the
 * room in `list`.
 */
void broker_vouch(const uint8_t *secret, const struct addr *seen, Vouch *list,
                  pb_size_t *count, pb_size_t max);

#endif

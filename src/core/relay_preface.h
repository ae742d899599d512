/*
 * What a relay connection says first, in clear, before the end-to-end session starts
 * inside it: 24 bytes "PSTN", version 1, type 1, two reserved zero bytes, the ticket.
 * The broker answers RELAY_WAITING at once when the ticket is good and the other side
 * is still to come, and RELAY_JOINED when both sides of the pair have come; from then
 * on every byte belongs to the two devices.
 */
#ifndef POSTERN_CORE_RELAY_PREFACE_H
#define POSTERN_CORE_RELAY_PREFACE_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/proto.h"

#define RELAY_PREFACE_LEN (8 + TICKET_LEN)
#define RELAY_PREFACE_FIRST 'P' /* first byte, for telling protocols apart */
#define RELAY_JOINED 0x01
#define RELAY_WAITING 0x02

void relay_preface_encode(uint8_t out[static RELAY_PREFACE_LEN],
                          const uint8_t ticket[static TICKET_LEN]);
/*
 * Copies the ticket out of a whole preface; POSTERN_ERR_PROTO when `len` is not
 * RELAY_PREFACE_LEN or anything in it is not as above.
 */
MUST_CHECK int relay_preface_parse(uint8_t ticket[static TICKET_LEN],
                                   const uint8_t *buf, size_t len);

#endif

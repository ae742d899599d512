/* What the broker does with each message of a device, and how messages are routed. */
#ifndef POSTERN_BROKER_CONTROL_H
#define POSTERN_BROKER_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/key.h"

struct bonds;
struct conn;
struct mail;
struct shard;
struct usher;

/* `c` may be gone afterwards. */
void control_on_message(struct conn *c, const uint8_t *msg, size_t len);
/* A message routed here by another shard; `m` stays the caller's. */
void control_on_mail(struct shard *s, const struct mail *m);
/*
 * What became of a host's connection: its process has ended; or was killed, as it
 * seems, with something unread, and its machine has reset it; or nobody knows.
 */
enum host_end { HOST_ENDED, HOST_KILLED, HOST_RESET, HOST_BROKE };
/* Tells the clients that have relay pairs with it, and those with whom it was bound
 * without one. */
void control_host_gone(struct shard *s, const uint8_t host[static KEY_LEN],
                       const struct bonds *bonds, enum host_end how);
/*
 * This host's connection has ended: whoever waited for it there hears that it is not
 * here. Frees `usher`.
 */
void control_none_waits(struct shard *s, const uint8_t host[static KEY_LEN],
                        struct usher *usher);
/* What Bye{BUSY} tells: spread out, so that those refused do not come back at once. */
uint32_t control_busy_retry_ms(void);

#endif

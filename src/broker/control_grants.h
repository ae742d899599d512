/* NatSessions: a device asks what it may open in the NAT before it, and is answered by
 * the shard that keeps the sum of its outside address (broker/grants.h). */
#ifndef POSTERN_BROKER_CONTROL_GRANTS_H
#define POSTERN_BROKER_CONTROL_GRANTS_H

#include "core/proto.h"

struct conn;
struct mail;
struct shard;

/* Of a device that was welcomed. */
void grants_on_message(struct conn *c, Control *m);
/* From another shard, to the address's. */
void grants_on_mail(struct shard *s, const struct mail *mail);

#endif

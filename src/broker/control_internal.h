/* How what one device says gets to another, for the broker's files that carry it. */
#ifndef POSTERN_BROKER_CONTROL_INTERNAL_H
#define POSTERN_BROKER_CONTROL_INTERNAL_H

#include <stdbool.h>

#include "core/proto.h"

struct shard;

/* A message on its way: to a device in a role, from a device whose key is proven. */
struct route {
    const uint8_t *to, *from; /* keys */
    bool to_host;
    bool over; /* an introduction above its address's share: none who proves nothing */
    bool badged; /* an introduction that showed a badge for that host */
    bool own;    /* what the broker itself says of `from` */
};

/* To the shard of `to`, and there to its connections. */
void control_send(struct shard *s, const struct route *r, Control *m);
/* Tells the sender of a routed message that it did not arrive. */
void control_refuse(struct shard *s, const struct route *r, const uint8_t *conv,
                    enum refuse_code code, const char *reason);

#endif

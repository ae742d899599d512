/* What the broker does for spoken codes: gives numbers, and carries what is said for
 * one between who has it and who asks for it. It reads none of that. */
#ifndef POSTERN_BROKER_CONTROL_SPOKEN_H
#define POSTERN_BROKER_CONTROL_SPOKEN_H

#include "core/proto.h"

struct conn;
struct mail;
struct shard;

/* Of a client. */
void spoken_on_message(struct conn *c, Control *m);
/* From another shard, to the first. */
void spoken_on_mail(struct shard *s, const struct mail *mail);

#endif

/*
 * Datagrams that a local program sent before the host answered its flow: kept in order,
 * bounded, and sent once it has.
 */
#ifndef POSTERN_CLIENT_EARLY_H
#define POSTERN_CLIENT_EARLY_H

#include <stddef.h>
#include <stdint.h>

struct call;

/* Zeroed at first. */
struct early {
    struct early_datagram *head, *tail; /* owned */
    unsigned count;
    size_t bytes;
};

/* Copies it; what does not fit is lost, as UDP may lose it. */
void early_keep(struct early *e, const uint8_t *data, size_t len);
/* Sends all and forgets them. */
void early_send(struct early *e, struct call *c);
/* Forgets them. */
void early_drop(struct early *e);

#endif

/*
 * A round trip passes before the host has answered, and a game or a call sends a
 * hundred packets a second: what came first must not be lost just because it did. Large
 * ones are bounded by their bytes, so that many flows hold little. Knows nothing of who
 * sent them.
 */
#include "client/early.h"

#include <stdlib.h>
#include <string.h>

#include "client/call.h"

enum { KEPT_MAX = 128, KEPT_BYTES_MAX = 64 * 1024 };

struct early_datagram {
    struct early_datagram *next;
    size_t len;
    uint8_t data[];
};

void early_keep(struct early *e, const uint8_t *data, size_t len)
{
    if (e->count >= KEPT_MAX || len > KEPT_BYTES_MAX - e->bytes)
        return;
    struct early_datagram *d = malloc(sizeof(*d) + len);
    if (d == NULL)
        return;
    d->next = NULL;
    d->len = len;
    memcpy(d->data, data, len);
    if (e->tail != NULL)
        e->tail->next = d;
    else
        e->head = d;
    e->tail = d;
    e->count++;
    e->bytes += len;
}

void early_send(struct early *e, struct call *c)
{
    for (const struct early_datagram *d = e->head; d != NULL; d = d->next)
        (void)!call_send_datagram(c, d->data, d->len);
    early_drop(e);
}

void early_drop(struct early *e)
{
    while (e->head != NULL) {
        struct early_datagram *d = e->head;
        e->head = d->next;
        free(d);
    }
    *e = (struct early){0};
}

/* The relay preface's bytes; what a ticket admits to is not known here. */
#include "core/relay_preface.h"

#include <string.h>

#include "core/wire.h"

enum { RELAY_VERSION = 1, RELAY_TYPE_PAIR = 1 };

static const uint8_t magic[4] = {RELAY_PREFACE_FIRST, 'S', 'T', 'N'};

void relay_preface_encode(uint8_t out[static RELAY_PREFACE_LEN],
                          const uint8_t ticket[static TICKET_LEN])
{
    struct wire_writer w = wire_writer(out, RELAY_PREFACE_LEN);
    wire_put_bytes(&w, magic, sizeof(magic));
    wire_put_u8(&w, RELAY_VERSION);
    wire_put_u8(&w, RELAY_TYPE_PAIR);
    wire_put_u16(&w, 0);
    wire_put_bytes(&w, ticket, TICKET_LEN);
}

int relay_preface_parse(uint8_t ticket[static TICKET_LEN], const uint8_t *buf,
                        size_t len)
{
    struct wire_reader r = wire_reader(buf, len);
    const uint8_t *m = wire_get_bytes(&r, sizeof(magic));
    uint8_t version = wire_get_u8(&r);
    uint8_t type = wire_get_u8(&r);
    uint16_t reserved = wire_get_u16(&r);
    const uint8_t *t = wire_get_bytes(&r, TICKET_LEN);
    if (wire_end(&r) != 0 || memcmp(m, magic, sizeof(magic)) != 0 ||
        version != RELAY_VERSION || type != RELAY_TYPE_PAIR || reserved != 0)
        return POSTERN_ERR_PROTO;
    memcpy(ticket, t, TICKET_LEN);
    return 0;
}

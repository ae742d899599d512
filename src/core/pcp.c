/* PCP's bytes. */
#include "core/pcp.h"

#include <string.h>

#include "core/wire.h"

enum {
    VERSION = 2,
    OPCODE_MAP = 1,
    ANSWER_BIT = 0x80,
    OPTION_FILTER = 3,
    FILTER_LEN = 20,
    PREFIX_ALL = 128, /* of the address as an IPv6 one */
    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
};

/* An IPv4 address travels as ::ffff:a.b.c.d (section 5). */
static void put_ip(struct wire_writer *w, const struct addr *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (a->family == ADDR_V4)
        wire_put_bytes(w, mapped, sizeof(mapped));
    wire_put_bytes(w, a->ip, a->family == ADDR_V4 ? 4 : 16);
}

size_t pcp_encode_map(const struct pcp_map *m, uint8_t buf[static PCP_REQUEST_MAX])
{
    const struct addr any = {.family = m->client.family};
    struct wire_writer w = wire_writer(buf, PCP_REQUEST_MAX);
    wire_put_u8(&w, VERSION);
    wire_put_u8(&w, OPCODE_MAP);
    wire_put_u16(&w, 0);
    wire_put_u32(&w, m->lifetime_s);
    put_ip(&w, &m->client);
    wire_put_bytes(&w, m->nonce, PCP_NONCE_LEN);
    wire_put_u8(&w, m->tcp ? PROTOCOL_TCP : PROTOCOL_UDP);
    wire_put_u8(&w, 0);
    wire_put_u16(&w, 0);
    wire_put_u16(&w, m->client.port);
    wire_put_u16(&w, m->lifetime_s != 0 ? m->client.port : 0); /* suggested */
    put_ip(&w, &any);
    if (m->peer.family != ADDR_NONE) {
        wire_put_u8(&w, OPTION_FILTER);
        wire_put_u8(&w, 0);
        wire_put_u16(&w, FILTER_LEN);
        wire_put_u8(&w, 0);
        wire_put_u8(&w, PREFIX_ALL);
        wire_put_u16(&w, 0); /* any port of the peer's */
        put_ip(&w, &m->peer);
    }
    return w.used;
}

int pcp_decode_map(struct pcp_answer *a, const struct pcp_map *m, const uint8_t *buf,
                   size_t len)
{
    struct wire_reader r = wire_reader(buf, len);
    *a = (struct pcp_answer){0};
    uint8_t version = wire_get_u8(&r);
    uint8_t opcode = wire_get_u8(&r);
    (void)wire_get_u8(&r);
    a->result = wire_get_u8(&r);
    if (r.failed || opcode != (OPCODE_MAP | ANSWER_BIT))
        return POSTERN_ERR_PROTO;
    if (version != VERSION) { /* of a NAT-PMP server: RFC 6886 section 3.5 */
        a->result = PCP_UNSUPP_VERSION;
        return 0;
    }
    a->lifetime_s = wire_get_u32(&r);
    (void)wire_get_bytes(&r, 4 + 12); /* epoch, reserved */
    if (a->result != PCP_SUCCESS)
        return r.failed ? POSTERN_ERR_PROTO : 0;
    const uint8_t *nonce = wire_get_bytes(&r, PCP_NONCE_LEN);
    uint8_t protocol = wire_get_u8(&r);
    (void)wire_get_bytes(&r, 3);
    uint16_t internal = wire_get_u16(&r);
    uint16_t external = wire_get_u16(&r);
    const uint8_t *ip = wire_get_bytes(&r, 16);
    if (r.failed || memcmp(nonce, m->nonce, PCP_NONCE_LEN) != 0 ||
        protocol != (m->tcp ? PROTOCOL_TCP : PROTOCOL_UDP) ||
        internal != m->client.port)
        return POSTERN_ERR_PROTO;
    return addr_from_bytes(&a->external, ip, 16, external) == 0 ? 0 : POSTERN_ERR_PROTO;
}

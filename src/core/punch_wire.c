/* Bytes of a check and their MAC; no state and no meaning. */
#include "core/punch_wire.h"

#include <sodium.h>
#include <string.h>

#include "core/key.h"
#include "core/wire.h"

enum { FLAG_RESPONSE = 0x01, FLAG_CONTROLLING = 0x02, MAC_LEN = 16 };
enum { ID_AT = 6, ID_LEN = 8, SEEN_AT = 15 /* behind the family */ };

/* As STUN does (RFC 8489 section 14.2): a NAT that changes what looks like one of its
 * addresses among the data finds none. */
static void mask_seen(uint8_t *buf, size_t body)
{
    for (size_t i = SEEN_AT; i < body; i++)
        buf[i] ^= (uint8_t)(buf[ID_AT + (i - SEEN_AT + 2) % ID_LEN] ^ 0x2a);
}

size_t punch_check_encode(const struct punch_check *c,
                          const uint8_t key[static PUNCH_KEY_LEN],
                          uint8_t buf[static PUNCH_PACKET_MAX])
{
    uint8_t hash[32];
    struct wire_writer w = wire_writer(buf, PUNCH_PACKET_MAX);
    wire_put_u8(&w, PUNCH_FIRST_BYTE);
    wire_put_u8(&w, (uint8_t)((c->response ? FLAG_RESPONSE : 0) |
                              (c->controlling ? FLAG_CONTROLLING : 0)));
    wire_put_u32(&w, c->generation);
    wire_put_u64(&w, c->id);
    if (c->response) {
        wire_put_u8(&w, c->seen.family);
        wire_put_u16(&w, c->seen.port);
        wire_put_bytes(&w, c->seen.ip, addr_ip_len(&c->seen));
        mask_seen(buf, w.used);
    }
    key_hash(hash, buf, w.used, key, PUNCH_KEY_LEN);
    wire_put_bytes(&w, hash, MAC_LEN);
    return w.used;
}

static void get_seen(struct wire_reader *r, struct addr *seen)
{
    uint8_t family = wire_get_u8(r);
    uint16_t port = wire_get_u16(r);
    size_t ip_len = family == ADDR_V4 ? 4 : 16;
    const uint8_t *ip = wire_get_bytes(r, ip_len);
    if (ip == NULL || (family != ADDR_V4 && family != ADDR_V6) ||
        addr_from_bytes(seen, ip, ip_len, port) != 0)
        r->failed = true;
}

int punch_check_decode(struct punch_check *c, const uint8_t key[static PUNCH_KEY_LEN],
                       const uint8_t *buf, size_t len)
{
    struct punch_check r = {0};
    uint8_t hash[32], plain[PUNCH_PACKET_MAX];
    if (len < PUNCH_REQUEST_LEN || len > PUNCH_PACKET_MAX || buf[0] != PUNCH_FIRST_BYTE)
        return POSTERN_ERR_PROTO;
    size_t body = len - MAC_LEN;
    key_hash(hash, buf, body, key, PUNCH_KEY_LEN);
    if (sodium_memcmp(hash, buf + body, MAC_LEN) != 0)
        return POSTERN_ERR_PROTO;
    memcpy(plain, buf, body);
    mask_seen(plain, body);
    struct wire_reader in = wire_reader(plain, body);
    (void)wire_get_u8(&in);
    uint8_t flags = wire_get_u8(&in);
    r.response = (flags & FLAG_RESPONSE) != 0;
    r.controlling = (flags & FLAG_CONTROLLING) != 0;
    r.generation = wire_get_u32(&in);
    r.id = wire_get_u64(&in);
    if (r.response)
        get_seen(&in, &r.seen);
    if ((flags & ~(FLAG_RESPONSE | FLAG_CONTROLLING)) != 0 || wire_end(&in) != 0)
        return POSTERN_ERR_PROTO;
    *c = r;
    return 0;
}

/* Bytes of a probe and their MAC; no state and no meaning. */
#include "core/probe.h"

#include <sodium.h>
#include <string.h>

#include "core/key.h"
#include "core/wire.h"

enum { MAC_LEN = 16, BODY_LEN = PROBE_LEN_MIN - MAC_LEN, FLAGS_ALL = 0x1f };

void probe_encode(const struct path_probe *p, const uint8_t key[static PROBE_KEY_LEN],
                  uint8_t *buf)
{
    uint8_t hash[32];
    struct wire_writer w = wire_writer(buf, BODY_LEN);
    wire_put_u8(&w, PROBE_FIRST_BYTE);
    wire_put_u8(&w, p->flags);
    wire_put_u16(&w, p->len);
    wire_put_u32(&w, p->txn);
    wire_put_u32(&w, p->use);
    key_hash(hash, buf, BODY_LEN, key, PROBE_KEY_LEN);
    memcpy(buf + BODY_LEN, hash, MAC_LEN);
    memset(buf + PROBE_LEN_MIN, 0, (size_t)p->len - PROBE_LEN_MIN);
}

int probe_decode(struct path_probe *p, const uint8_t key[static PROBE_KEY_LEN],
                 const uint8_t *buf, size_t len)
{
    struct path_probe r;
    uint8_t hash[32];
    if (len < PROBE_LEN_MIN || len > PROBE_LEN_MAX || buf[0] != PROBE_FIRST_BYTE)
        return POSTERN_ERR_PROTO;
    key_hash(hash, buf, BODY_LEN, key, PROBE_KEY_LEN);
    if (sodium_memcmp(hash, buf + BODY_LEN, MAC_LEN) != 0)
        return POSTERN_ERR_PROTO;
    struct wire_reader in = wire_reader(buf, BODY_LEN);
    (void)wire_get_u8(&in);
    r.flags = wire_get_u8(&in);
    r.len = wire_get_u16(&in);
    r.txn = wire_get_u32(&in);
    r.use = wire_get_u32(&in);
    if (wire_end(&in) != 0 || r.len != len || (r.flags & ~FLAGS_ALL) != 0)
        return POSTERN_ERR_PROTO;
    *p = r;
    return 0;
}

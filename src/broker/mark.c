/* BLAKE2b over the names, the time and the address; see mark.h. */
#include "broker/mark.h"

#include <string.h>

#include <sodium.h>

#include "core/wire.h"

enum { MAC_LEN = 16, TIME_LEN = 8 };

/* `body` is the time and the address, as they stand in the mark behind the MAC. */
static void mac_of(uint8_t mac[static MAC_LEN], const uint8_t *secret,
                   const struct mark_names *n, const uint8_t *body, size_t len)
{
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, secret, MARK_SECRET_LEN, MAC_LEN);
    (void)crypto_generichash_update(&h, n->client, KEY_LEN);
    (void)crypto_generichash_update(&h, n->host, KEY_LEN);
    (void)crypto_generichash_update(&h, n->conv, CONV_LEN);
    (void)crypto_generichash_update(&h, body, len);
    (void)crypto_generichash_final(&h, mac, MAC_LEN);
}

size_t mark_make(uint8_t out[static MARK_MAX],
                 const uint8_t secret[static MARK_SECRET_LEN],
                 const struct mark_names *n, const struct addr *from, uint64_t now_ms)
{
    struct wire_writer w = wire_writer(out + MAC_LEN, MARK_MAX - MAC_LEN);
    size_t len = TIME_LEN + addr_ip_len(from);
    wire_put_u64(&w, now_ms);
    wire_put_bytes(&w, from->ip, addr_ip_len(from));
    mac_of(out, secret, n, out + MAC_LEN, len);
    return MAC_LEN + len;
}

int mark_open(struct addr *from, uint64_t *age_ms, const uint8_t *mark, size_t len,
              const uint8_t secret[static MARK_SECRET_LEN], const struct mark_names *n,
              uint64_t now_ms, uint64_t max_age_ms)
{
    uint8_t mac[MAC_LEN];
    *from = (struct addr){0};
    if (len < MAC_LEN + TIME_LEN || len > MARK_MAX)
        return POSTERN_ERR_DENIED;
    mac_of(mac, secret, n, mark + MAC_LEN, len - MAC_LEN);
    struct wire_reader r = wire_reader(mark + MAC_LEN, len - MAC_LEN);
    *age_ms = now_ms - wire_get_u64(&r);
    if (sodium_memcmp(mac, mark, MAC_LEN) != 0 || *age_ms > max_age_ms)
        return POSTERN_ERR_DENIED;
    size_t ip_len = r.left;
    const uint8_t *ip = wire_get_bytes(&r, ip_len);
    if (ip_len > 0 && addr_from_bytes(from, ip, ip_len, 0) != 0)
        return POSTERN_ERR_DENIED;
    return 0;
}

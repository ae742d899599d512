/* The messages of RFC 1928; what is reached is not known here. */
#include "core/socks_wire.h"

#include <string.h>

#include "core/wire.h"

enum { VERSION = 5, ATYP_V4 = 1, ATYP_NAME = 3, ATYP_V6 = 4 };

int socks_parse_greeting(const uint8_t *buf, size_t len, bool *no_auth)
{
    struct wire_reader r = wire_reader(buf, len);
    uint8_t version = wire_get_u8(&r);
    if (!r.failed && version != VERSION)
        return POSTERN_ERR_PROTO;
    uint8_t count = wire_get_u8(&r);
    const uint8_t *methods = wire_get_bytes(&r, count);
    if (r.failed)
        return 0;
    *no_auth = count > 0 && memchr(methods, 0, count) != NULL;
    return 2 + count;
}

/* Address type, address and port. 0 when more bytes are needed. */
static int read_target(struct wire_reader *r, struct socks_target *t)
{
    uint8_t type = wire_get_u8(r);
    struct addr a;
    size_t len = type == ATYP_V4 ? 4 : type == ATYP_V6 ? 16 : 0;
    if (r->failed)
        return 0;
    if (type == ATYP_NAME)
        len = wire_get_u8(r);
    else if (len == 0)
        return POSTERN_ERR_INVALID;
    const uint8_t *bytes = wire_get_bytes(r, len);
    t->port = wire_get_u16(r);
    if (r->failed)
        return 0;
    if (type == ATYP_NAME) {
        if (len == 0 || memchr(bytes, 0, len) != NULL)
            return POSTERN_ERR_INVALID;
        memcpy(t->host, bytes, len);
        t->host[len] = '\0';
    } else {
        char text[ADDR_TEXT_LEN];
        if (addr_from_bytes(&a, bytes, len, t->port) != 0)
            return POSTERN_ERR_INVALID;
        addr_format_ip(&a, text);
        memcpy(t->host, text, strlen(text) + 1);
    }
    return 1;
}

int socks_parse_request(const uint8_t *buf, size_t len, uint8_t *command,
                        struct socks_target *t)
{
    struct wire_reader r = wire_reader(buf, len);
    uint8_t version = wire_get_u8(&r);
    if (!r.failed && version != VERSION)
        return POSTERN_ERR_PROTO;
    *command = wire_get_u8(&r);
    (void)wire_get_u8(&r);
    if (r.failed)
        return 0;
    int rc = read_target(&r, t);
    return rc == 1 ? (int)(len - r.left) : rc;
}

size_t socks_build_reply(uint8_t out[static SOCKS_REPLY_MAX], enum socks_code code,
                         const struct addr *bound)
{
    static const struct addr none = {.family = ADDR_V4};
    const struct addr *a = bound->family == ADDR_NONE ? &none : bound;
    struct wire_writer w = wire_writer(out, SOCKS_REPLY_MAX);
    wire_put_u8(&w, VERSION);
    wire_put_u8(&w, (uint8_t)code);
    wire_put_u8(&w, 0);
    wire_put_u8(&w, a->family == ADDR_V6 ? ATYP_V6 : ATYP_V4);
    wire_put_bytes(&w, a->ip, addr_ip_len(a));
    wire_put_u16(&w, a->port);
    return w.used;
}

int socks_parse_udp(const uint8_t *buf, size_t len, struct socks_target *t)
{
    struct wire_reader r = wire_reader(buf, len);
    (void)wire_get_u16(&r);
    uint8_t fragment = wire_get_u8(&r);
    if (r.failed || fragment != 0 || read_target(&r, t) != 1)
        return POSTERN_ERR_PROTO;
    return (int)(len - r.left);
}

int socks_build_udp(uint8_t out[static SOCKS_UDP_HEADER_MAX],
                    const struct socks_target *t)
{
    struct wire_writer w = wire_writer(out, SOCKS_UDP_HEADER_MAX);
    struct addr a;
    wire_put_u16(&w, 0);
    wire_put_u8(&w, 0);
    if (addr_parse_ip(&a, t->host) == 0) {
        wire_put_u8(&w, a.family == ADDR_V6 ? ATYP_V6 : ATYP_V4);
        wire_put_bytes(&w, a.ip, addr_ip_len(&a));
    } else {
        wire_put_u8(&w, ATYP_NAME);
        wire_put_u8(&w, (uint8_t)strlen(t->host));
        wire_put_bytes(&w, t->host, strlen(t->host));
    }
    wire_put_u16(&w, t->port);
    return w.failed ? POSTERN_ERR_LIMIT : (int)w.used;
}

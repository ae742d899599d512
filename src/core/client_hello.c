/* The ClientHello's extensions that matter here; the rest is stepped over. */
#include "core/client_hello.h"

#include <string.h>

#include "core/badge.h"
#include "core/wire.h"

enum {
    RECORD_HANDSHAKE = 22,
    RECORD_HEADER = 5,
    MESSAGE_CLIENT_HELLO = 1,
    MESSAGE_HEADER = 4,
    RANDOM_LEN = 32,
    EXTENSION_SERVER_NAME = 0,
    EXTENSION_ALPN = 16,
    NAME_HOST = 0,
};

static struct wire_reader part(struct wire_reader *r, size_t len)
{
    const uint8_t *at = wire_get_bytes(r, len);
    return wire_reader(at, at != NULL ? len : 0);
}

static bool take_name(struct client_hello *h, struct wire_reader r)
{
    struct wire_reader list = part(&r, wire_get_u16(&r));
    while (list.left > 0 && !list.failed) {
        uint8_t type = wire_get_u8(&list);
        size_t len = wire_get_u16(&list);
        const uint8_t *name = wire_get_bytes(&list, len);
        if (name == NULL || type != NAME_HOST || h->server_name[0] != '\0')
            continue;
        if (len == 0 || len > SERVER_NAME_MAX)
            return false;
        for (size_t i = 0; i < len; i++) {
            if (name[i] <= ' ' || name[i] > '~') /* it goes into logs */
                return false;
            h->server_name[i] =
                (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + ('a' - 'A')
                                                        : name[i]);
        }
        h->server_name[len] = '\0';
    }
    return !list.failed && !r.failed;
}

static bool take_protocols(struct client_hello *h, struct wire_reader r)
{
    size_t len = wire_get_u16(&r);
    h->protocols = wire_get_bytes(&r, len);
    h->protocols_len = h->protocols != NULL ? len : 0;
    return !r.failed;
}

static bool take_extensions(struct client_hello *h, struct wire_reader r)
{
    while (r.left > 0 && !r.failed) {
        uint16_t type = wire_get_u16(&r);
        struct wire_reader body = part(&r, wire_get_u16(&r));
        if (type == BADGE_EXTENSION) {
            h->badge = body.at;
            h->badge_len = body.left;
        }
        if ((type == EXTENSION_SERVER_NAME && !take_name(h, body)) ||
            (type == EXTENSION_ALPN && !take_protocols(h, body)))
            return false;
    }
    return !r.failed;
}

int client_hello_parse(struct client_hello *h, const uint8_t *buf, size_t len)
{
    *h = (struct client_hello){0};
    if (len < RECORD_HEADER + MESSAGE_HEADER)
        return RECORD_HEADER + MESSAGE_HEADER;
    size_t record = (size_t)buf[3] << 8 | buf[4];
    size_t message = (size_t)buf[6] << 16 | (size_t)buf[7] << 8 | buf[8];
    if (buf[0] != RECORD_HANDSHAKE || buf[1] != 3 || buf[5] != MESSAGE_CLIENT_HELLO ||
        record + RECORD_HEADER > CLIENT_HELLO_MAX || message + MESSAGE_HEADER > record)
        return POSTERN_ERR_PROTO;
    if (len < RECORD_HEADER + record)
        return (int)(RECORD_HEADER + record);
    struct wire_reader r = wire_reader(buf + RECORD_HEADER + MESSAGE_HEADER, message);
    (void)wire_get_u16(&r);
    (void)wire_get_bytes(&r, RANDOM_LEN);
    (void)wire_get_bytes(&r, wire_get_u8(&r));  /* session id */
    (void)wire_get_bytes(&r, wire_get_u16(&r)); /* cipher suites */
    (void)wire_get_bytes(&r, wire_get_u8(&r));  /* compression methods */
    if (r.failed)
        return POSTERN_ERR_PROTO;
    if (r.left == 0)
        return 0; /* no extensions at all */
    struct wire_reader extensions = part(&r, wire_get_u16(&r));
    return !r.failed && take_extensions(h, extensions) ? 0 : POSTERN_ERR_PROTO;
}

bool client_hello_offers(const struct client_hello *h, const char *protocol)
{
    struct wire_reader r = wire_reader(h->protocols, h->protocols_len);
    size_t want = strlen(protocol);
    while (r.left > 0 && !r.failed) {
        size_t len = wire_get_u8(&r);
        const uint8_t *at = wire_get_bytes(&r, len);
        if (at != NULL && len == want && memcmp(at, protocol, want) == 0)
            return true;
    }
    return false;
}

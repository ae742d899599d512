/* Text and classes of addresses; no socket, no resolver. */
#include "core/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t addr_ip_len(const struct addr *a)
{
    return a->family == ADDR_V4 ? 4 : a->family == ADDR_V6 ? 16 : 0;
}

bool addr_ip_equal(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, addr_ip_len(a)) == 0;
}

bool addr_prefix_equal(const struct addr *a, const struct addr *b, unsigned bits)
{
    size_t whole = bits / 8, rest = bits % 8;
    if (a->family != b->family || whole + (rest != 0) > addr_ip_len(a) ||
        memcmp(a->ip, b->ip, whole) != 0)
        return false;
    return rest == 0 || (a->ip[whole] ^ b->ip[whole]) >> (8 - rest) == 0;
}

bool addr_place_equal(const struct addr *a, const struct addr *b)
{
    return a->family != ADDR_NONE &&
           addr_prefix_equal(a, b, a->family == ADDR_V4 ? 32 : 64);
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    return a->port == b->port && addr_ip_equal(a, b);
}

const char *addr_format_ip(const struct addr *a, char buf[static ADDR_TEXT_LEN])
{
    if (a->family == ADDR_NONE || inet_ntop(a->family == ADDR_V4 ? AF_INET : AF_INET6,
                                            a->ip, buf, ADDR_TEXT_LEN) == NULL)
        (void)snprintf(buf, ADDR_TEXT_LEN, "none");
    return buf;
}

const char *addr_format(const struct addr *a, char buf[static ADDR_TEXT_LEN])
{
    char ip[ADDR_TEXT_LEN];
    addr_format_ip(a, ip);
    if (a->family == ADDR_NONE)
        (void)snprintf(buf, ADDR_TEXT_LEN, "none");
    else
        (void)snprintf(buf, ADDR_TEXT_LEN,
                       a->family == ADDR_V4 ? "%.45s:%u" : "[%.45s]:%u", ip, a->port);
    return buf;
}

int addr_parse_ip(struct addr *a, const char *text)
{
    struct addr r = {0};
    if (inet_pton(AF_INET, text, r.ip) == 1)
        r.family = ADDR_V4;
    else if (inet_pton(AF_INET6, text, r.ip) == 1)
        r.family = ADDR_V6;
    else
        return POSTERN_ERR_INVALID;
    *a = r;
    return 0;
}

static int parse_port(const char *text, uint16_t *port)
{
    char *end = NULL;
    if (*text < '0' || *text > '9')
        return POSTERN_ERR_INVALID;
    unsigned long v = strtoul(text, &end, 10);
    if (*end != '\0' || v > 65535)
        return POSTERN_ERR_INVALID;
    *port = (uint16_t)v;
    return 0;
}

int addr_parse(struct addr *a, const char *text)
{
    char host[ADDR_TEXT_LEN];
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return POSTERN_ERR_INVALID;
    const char *from = text;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        from++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        return POSTERN_ERR_INVALID; /* a bare IPv6 address has no port */
    }
    if (len >= sizeof(host))
        return POSTERN_ERR_INVALID;
    memcpy(host, from, len);
    host[len] = '\0';
    struct addr r;
    uint16_t port;
    if (addr_parse_ip(&r, host) != 0 || parse_port(colon + 1, &port) != 0)
        return POSTERN_ERR_INVALID;
    r.port = port;
    *a = r;
    return 0;
}

int addr_from_bytes(struct addr *a, const uint8_t *ip, size_t len, uint32_t port)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if ((len != 4 && len != 16) || port > 65535)
        return POSTERN_ERR_INVALID;
    struct addr r = {.port = (uint16_t)port};
    if (len == 16 && memcmp(ip, mapped, sizeof(mapped)) == 0) {
        ip += 12;
        len = 4;
    }
    r.family = len == 4 ? ADDR_V4 : ADDR_V6;
    memcpy(r.ip, ip, len);
    *a = r;
    return 0;
}

static enum addr_scope scope_v4(const uint8_t *ip)
{
    if (ip[0] == 0 || ip[0] >= 224)
        return ADDR_SCOPE_UNUSABLE;
    if (ip[0] == 127)
        return ADDR_SCOPE_LOOPBACK;
    if (ip[0] == 169 && ip[1] == 254)
        return ADDR_SCOPE_LINK;
    if (ip[0] == 10 || (ip[0] == 172 && (ip[1] & 0xf0) == 16) ||
        (ip[0] == 192 && ip[1] == 168) || (ip[0] == 100 && (ip[1] & 0xc0) == 64))
        return ADDR_SCOPE_PRIVATE;
    return ADDR_SCOPE_GLOBAL;
}

enum addr_scope addr_scope_of(const struct addr *a)
{
    static const uint8_t zero[15];
    if (a->family == ADDR_NONE || a->port == 0)
        return ADDR_SCOPE_UNUSABLE;
    if (a->family == ADDR_V4)
        return scope_v4(a->ip);
    if (memcmp(a->ip, zero, 15) == 0)
        return a->ip[15] == 1 ? ADDR_SCOPE_LOOPBACK : ADDR_SCOPE_UNUSABLE;
    if (a->ip[0] == 0xff)
        return ADDR_SCOPE_UNUSABLE;
    if (a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80)
        return ADDR_SCOPE_LINK;
    if ((a->ip[0] & 0xfe) == 0xfc)
        return ADDR_SCOPE_PRIVATE;
    return ADDR_SCOPE_GLOBAL;
}

static bool is_local_use(const struct addr *a)
{
    static const struct {
        uint8_t ip[4];
        uint8_t bits;
    } ranges[] = {
        {{192, 0, 0, 0}, 24},   /* RFC 6890: 464XLAT's 192.0.0.4 among them */
        {{192, 88, 99, 0}, 24}, /* RFC 7526 */
        {{198, 18, 0, 0}, 15}, /* RFC 2544: benchmarks, and fake addresses of proxies */
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        struct addr range = {.family = ADDR_V4};
        memcpy(range.ip, ranges[i].ip, 4);
        if (addr_prefix_equal(a, &range, ranges[i].bits))
            return true;
    }
    return false;
}

bool addr_is_of_internet(const struct addr *a, const struct addr *broker)
{
    return !is_local_use(a) || is_local_use(broker);
}

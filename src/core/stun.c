/* The STUN codec and the rules of a binding server; see stun.h. */
#include "core/stun.h"

#include <string.h>

#include "core/wire.h"

#define STUN_COOKIE 0x2112a442u
#define STUN_FINGERPRINT_XOR 0x5354554eu /* RFC 8489 section 14.7 */

enum stun_attr {
    ATTR_MAPPED_ADDRESS = 0x0001,
    ATTR_CHANGE_REQUEST = 0x0003,
    ATTR_USERNAME = 0x0006,
    ATTR_MESSAGE_INTEGRITY = 0x0008,
    ATTR_ERROR_CODE = 0x0009,
    ATTR_UNKNOWN_ATTRIBUTES = 0x000a,
    ATTR_REALM = 0x0014,
    ATTR_NONCE = 0x0015,
    ATTR_MESSAGE_INTEGRITY_SHA256 = 0x001c,
    ATTR_PASSWORD_ALGORITHM = 0x001d,
    ATTR_USERHASH = 0x001e,
    ATTR_XOR_MAPPED_ADDRESS = 0x0020,
    ATTR_PADDING = 0x0026,
    ATTR_RESPONSE_PORT = 0x0027,
    ATTR_SOFTWARE = 0x8022,
    ATTR_FINGERPRINT = 0x8028,
    ATTR_RESPONSE_ORIGIN = 0x802b,
    ATTR_OTHER_ADDRESS = 0x802c,
    ATTR_MARK = 0xff50, /* not assigned; who does not know it reads over it */
};

enum { ATTR_HEADER_LEN = 4, FINGERPRINT_LEN = 8, CHANGE_IP = 4, CHANGE_PORT = 2 };

/* CRC-32 of ITU V.42, as FINGERPRINT wants it; messages are short, so bit by bit. */
static uint32_t crc32_of(const uint8_t *buf, size_t len)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < len; i++) {
        crc ^= buf[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

bool stun_is_message(const uint8_t *buf, size_t len)
{
    struct wire_reader r = wire_reader(buf, len);
    uint16_t type = wire_get_u16(&r);
    uint16_t body = wire_get_u16(&r);
    uint32_t cookie = wire_get_u32(&r);
    return !r.failed && (type & 0xc000) == 0 && cookie == STUN_COOKIE &&
           body % 4 == 0 && len == (size_t)body + STUN_HEADER_LEN;
}

/* The XOR of an address covers the cookie and the transaction id (section 14.2). */
static void xor_address(struct addr *a, const uint8_t txid[static STUN_TXID_LEN])
{
    static const uint8_t cookie[4] = {0x21, 0x12, 0xa4, 0x42};
    a->port ^= (uint16_t)(STUN_COOKIE >> 16);
    for (size_t i = 0; i < addr_ip_len(a); i++)
        a->ip[i] ^= i < 4 ? cookie[i] : txid[i - 4];
}

static int get_address(struct addr *a, struct wire_reader *v, const uint8_t *txid)
{
    struct addr raw = {0};
    (void)wire_get_u8(v);
    uint8_t family = wire_get_u8(v);
    raw.port = wire_get_u16(v);
    size_t len = family == 1 ? 4 : family == 2 ? 16 : 0;
    const uint8_t *ip = wire_get_bytes(v, len);
    if (len == 0 || wire_end(v) != 0)
        return POSTERN_ERR_PROTO;
    raw.family = family == 1 ? ADDR_V4 : ADDR_V6;
    memcpy(raw.ip, ip, len);
    if (txid != NULL)
        xor_address(&raw, txid);
    if (a->family == ADDR_NONE)
        *a = raw;
    return 0;
}

static void note_unknown(struct stun_message *m, uint16_t attr)
{
    if (m->unknown_count < STUN_UNKNOWN_MAX)
        m->unknown[m->unknown_count++] = attr;
}

static int get_error(struct stun_message *m, struct wire_reader *v)
{
    (void)wire_get_u16(v);
    uint8_t class = wire_get_u8(v) & 7;
    uint8_t number = wire_get_u8(v);
    if (v->failed || class < 3 || class > 6 || number > 99)
        return POSTERN_ERR_PROTO;
    if (m->error_code == 0)
        m->error_code = (uint16_t)(class * 100 + number);
    return 0;
}

static int get_change(struct stun_message *m, struct wire_reader *v)
{
    uint32_t flags = wire_get_u32(v);
    m->change_ip = (flags & CHANGE_IP) != 0;
    m->change_port = (flags & CHANGE_PORT) != 0;
    return wire_end(v);
}

static int get_response_port(struct stun_message *m, struct wire_reader *v)
{
    m->response_port = wire_get_u16(v);
    if (v->left == 2) /* the draft's form carries two reserved bytes */
        (void)wire_get_u16(v);
    return wire_end(v);
}

static int get_mark(struct stun_message *m, struct wire_reader *v)
{
    const uint8_t *mark = wire_get_bytes(v, STUN_MARK_LEN);
    if (wire_end(v) == 0 && !m->has_mark) { /* of another length it is not ours */
        m->has_mark = true;
        memcpy(m->mark, mark, STUN_MARK_LEN);
    }
    return 0;
}

static int get_listed_unknown(struct stun_message *m, struct wire_reader *v)
{
    while (!v->failed && v->left > 0)
        note_unknown(m, wire_get_u16(v));
    return wire_end(v);
}

static int get_attr(struct stun_message *m, uint16_t attr, struct wire_reader *v,
                    struct addr *plain)
{
    switch (attr) {
    case ATTR_XOR_MAPPED_ADDRESS:
        return get_address(&m->mapped, v, m->txid);
    case ATTR_MAPPED_ADDRESS:
        return get_address(plain, v, NULL);
    case ATTR_OTHER_ADDRESS:
        return get_address(&m->other, v, NULL);
    case ATTR_RESPONSE_ORIGIN:
        return get_address(&m->origin, v, NULL);
    case ATTR_CHANGE_REQUEST:
        return get_change(m, v);
    case ATTR_RESPONSE_PORT:
        return get_response_port(m, v);
    case ATTR_PADDING:
        m->padding_len = (uint16_t)v->left;
        return 0;
    case ATTR_MARK:
        return get_mark(m, v);
    case ATTR_ERROR_CODE:
        return get_error(m, v);
    case ATTR_UNKNOWN_ATTRIBUTES:
        return get_listed_unknown(m, v);
    case ATTR_USERNAME:
    case ATTR_MESSAGE_INTEGRITY:
    case ATTR_REALM:
    case ATTR_NONCE:
    case ATTR_MESSAGE_INTEGRITY_SHA256:
    case ATTR_PASSWORD_ALGORITHM:
    case ATTR_USERHASH:
        return 0; /* known to RFC 8489, of no use to an open binding server */
    default:
        if (attr < 0x8000)
            note_unknown(m, attr);
        return 0;
    }
}

int stun_parse(struct stun_message *m, const uint8_t *buf, size_t len)
{
    memset(m, 0, sizeof(*m));
    if (len > STUN_MESSAGE_MAX || !stun_is_message(buf, len))
        return POSTERN_ERR_PROTO;
    struct wire_reader r = wire_reader(buf, len);
    struct addr plain = {0};
    m->type = wire_get_u16(&r);
    (void)wire_get_u16(&r);
    (void)wire_get_u32(&r);
    memcpy(m->txid, wire_get_bytes(&r, STUN_TXID_LEN), STUN_TXID_LEN);
    while (r.left > 0) {
        size_t at = len - r.left;
        uint16_t attr = wire_get_u16(&r);
        uint16_t attr_len = wire_get_u16(&r);
        struct wire_reader v = wire_reader(r.at, attr_len);
        (void)wire_get_bytes(&r, padded(attr_len));
        if (r.failed)
            return POSTERN_ERR_PROTO;
        if (attr == ATTR_FINGERPRINT) { /* must be the last one */
            uint32_t crc = wire_get_u32(&v);
            if (wire_end(&v) != 0 || r.left != 0 ||
                crc != (crc32_of(buf, at) ^ STUN_FINGERPRINT_XOR))
                return POSTERN_ERR_PROTO;
            m->fingerprint = true;
        } else if (get_attr(m, attr, &v, &plain) != 0) {
            return POSTERN_ERR_PROTO;
        }
    }
    if (m->mapped.family == ADDR_NONE)
        m->mapped = plain;
    return 0;
}

static void put_attr(struct wire_writer *w, uint16_t attr, size_t len)
{
    wire_put_u16(w, attr);
    wire_put_u16(w, (uint16_t)len);
}

static void put_zero(struct wire_writer *w, size_t len)
{
    for (size_t i = 0; i < len; i++)
        wire_put_u8(w, 0);
}

static void put_address(struct wire_writer *w, uint16_t attr, const struct addr *a,
                        const uint8_t *txid)
{
    if (a->family == ADDR_NONE)
        return;
    struct addr x = *a;
    if (txid != NULL)
        xor_address(&x, txid);
    put_attr(w, attr, 4 + addr_ip_len(a));
    wire_put_u8(w, 0);
    wire_put_u8(w, a->family == ADDR_V4 ? 1 : 2);
    wire_put_u16(w, x.port);
    wire_put_bytes(w, x.ip, addr_ip_len(a));
}

/* ERROR-CODE with an empty reason, and the attributes that a 420 complains of. */
static void put_error(struct wire_writer *w, const struct stun_message *m)
{
    put_attr(w, ATTR_ERROR_CODE, 4);
    wire_put_u16(w, 0);
    wire_put_u8(w, (uint8_t)(m->error_code / 100));
    wire_put_u8(w, (uint8_t)(m->error_code % 100));
    if (m->unknown_count == 0)
        return;
    put_attr(w, ATTR_UNKNOWN_ATTRIBUTES, m->unknown_count * 2u);
    for (size_t i = 0; i < m->unknown_count; i++)
        wire_put_u16(w, m->unknown[i]);
    put_zero(w, m->unknown_count % 2 * 2u);
}

static void put_software(struct wire_writer *w, const char *text)
{
    size_t len = strnlen(text, 127); /* section 14.14 */
    put_attr(w, ATTR_SOFTWARE, len);
    wire_put_bytes(w, text, len);
    put_zero(w, padded(len) - len);
}

static void put_body(struct wire_writer *w, const struct stun_message *m)
{
    put_address(w, ATTR_XOR_MAPPED_ADDRESS, &m->mapped, m->txid);
    put_address(w, ATTR_RESPONSE_ORIGIN, &m->origin, NULL);
    put_address(w, ATTR_OTHER_ADDRESS, &m->other, NULL);
    if (m->error_code != 0)
        put_error(w, m);
    if (m->change_ip || m->change_port) {
        put_attr(w, ATTR_CHANGE_REQUEST, 4);
        wire_put_u32(w, (m->change_ip ? CHANGE_IP : 0u) |
                            (m->change_port ? CHANGE_PORT : 0u));
    }
    if (m->response_port != 0) {
        put_attr(w, ATTR_RESPONSE_PORT, 2);
        wire_put_u16(w, m->response_port);
        put_zero(w, 2);
    }
    if (m->has_mark) {
        put_attr(w, ATTR_MARK, STUN_MARK_LEN);
        wire_put_bytes(w, m->mark, STUN_MARK_LEN);
    }
    if (m->software != NULL)
        put_software(w, m->software);
    if (m->padding_len != 0) {
        put_attr(w, ATTR_PADDING, m->padding_len);
        put_zero(w, padded(m->padding_len));
    }
}

int stun_build(uint8_t *buf, size_t cap, const struct stun_message *m)
{
    struct wire_writer w =
        wire_writer(buf, cap < STUN_MESSAGE_MAX ? cap : STUN_MESSAGE_MAX);
    wire_put_u16(&w, m->type);
    wire_put_u16(&w, 0); /* length, below */
    wire_put_u32(&w, STUN_COOKIE);
    wire_put_bytes(&w, m->txid, STUN_TXID_LEN);
    put_body(&w, m);
    if (m->fingerprint && w.left < FINGERPRINT_LEN)
        w.failed = true;
    if (w.failed)
        return POSTERN_ERR_LIMIT;
    size_t all = w.used + (m->fingerprint ? FINGERPRINT_LEN : 0u);
    struct wire_writer head = wire_writer(buf + 2, 2);
    wire_put_u16(&head, (uint16_t)(all - STUN_HEADER_LEN));
    if (m->fingerprint) { /* the checksum covers the final length */
        uint32_t crc = crc32_of(buf, w.used) ^ STUN_FINGERPRINT_XOR;
        put_attr(&w, ATTR_FINGERPRINT, 4);
        wire_put_u32(&w, crc);
    }
    return (int)w.used;
}

int stun_build_request(uint8_t *buf, size_t cap,
                       const uint8_t txid[static STUN_TXID_LEN], bool change_ip,
                       bool change_port)
{
    struct stun_message m = {.type = STUN_BINDING_REQUEST,
                             .change_ip = change_ip,
                             .change_port = change_port,
                             .fingerprint = true};
    memcpy(m.txid, txid, STUN_TXID_LEN);
    return stun_build(buf, cap, &m);
}

int stun_build_marked_request(uint8_t *buf, size_t cap,
                              const uint8_t txid[static STUN_TXID_LEN],
                              const uint8_t proof[static STUN_MARK_LEN])
{
    struct stun_message m = {
        .type = STUN_BINDING_REQUEST, .has_mark = true, .fingerprint = true};
    memcpy(m.txid, txid, STUN_TXID_LEN);
    memcpy(m.mark, proof, STUN_MARK_LEN);
    return stun_build(buf, cap, &m);
}

bool stun_is_response_to(const struct stun_message *m,
                         const uint8_t txid[static STUN_TXID_LEN])
{
    return (m->type == STUN_BINDING_SUCCESS || m->type == STUN_BINDING_ERROR) &&
           memcmp(m->txid, txid, STUN_TXID_LEN) == 0;
}

/* Fills `r` with an error when the request asks for what this site cannot do. */
static bool answer_error(struct stun_message *r, const struct stun_message *q,
                         const struct stun_site *site)
{
    bool has_ip =
        site->other.family != ADDR_NONE && !addr_ip_equal(&site->other, &site->at);
    bool has_port = site->other.family != ADDR_NONE;
    if (q->unknown_count > 0) {
        memcpy(r->unknown, q->unknown, sizeof(r->unknown));
        r->unknown_count = q->unknown_count;
    } else if ((q->change_ip && !has_ip) || (q->change_port && !has_port)) {
        r->unknown[r->unknown_count++] = ATTR_CHANGE_REQUEST;
    }
    if (r->unknown_count > 0)
        r->error_code = 420;
    else if (q->padding_len != 0 && q->response_port != 0)
        r->error_code = 400; /* RFC 5780 section 7.6: never both */
    return r->error_code != 0;
}

bool stun_answer(struct stun_answer *a, uint8_t out[static STUN_MESSAGE_MAX],
                 const uint8_t *req, size_t len, const struct addr *source,
                 const struct stun_site *site)
{
    struct stun_message q, r = {.type = STUN_BINDING_SUCCESS};
    if (stun_parse(&q, req, len) != 0 || q.type != STUN_BINDING_REQUEST)
        return false;
    memcpy(r.txid, q.txid, STUN_TXID_LEN);
    r.fingerprint = q.fingerprint;
    a->from = site->at;
    a->to = *source;
    if (answer_error(&r, &q, site)) {
        r.type = STUN_BINDING_ERROR;
    } else {
        if (q.change_ip)
            memcpy(a->from.ip, site->other.ip, sizeof(a->from.ip));
        if (q.change_port)
            a->from.port = site->other.port;
        if (q.response_port != 0)
            a->to.port = q.response_port;
        r.mapped = *source;
        r.origin = a->from;
        r.other = site->other;
        r.has_mark = q.has_mark && site->mark != NULL;
        if (r.has_mark)
            memcpy(r.mark, site->mark, STUN_MARK_LEN);
        /* Padding fills the answer up to the request's size and never beyond. */
        int bare = stun_build(out, STUN_MESSAGE_MAX, &r);
        if (q.padding_len != 0 && bare > 0 && len > (size_t)bare + ATTR_HEADER_LEN)
            r.padding_len = (uint16_t)(len - (size_t)bare - ATTR_HEADER_LEN);
    }
    int n = stun_build(out, STUN_MESSAGE_MAX, &r);
    a->len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* One question in, one answer out; labels only, no compression is read. */
#include "core/dns.h"

#include <stdio.h>
#include <ctype.h>
#include <string.h>

#include "core/wire.h"

enum { HEADER_LEN = 12, LABEL_MAX = 63, FLAG_RESPONSE = 0x8000, FLAG_RD = 0x0100 };

/* Reads labels into dotted text; false when they are too long or no plain text. */
static bool read_name(struct wire_reader *r, char name[static DNS_NAME_LEN])
{
    size_t used = 0;
    for (;;) {
        uint8_t len = wire_get_u8(r);
        if (r->failed || len > LABEL_MAX)
            return false;
        if (len == 0)
            break;
        const uint8_t *label = wire_get_bytes(r, len);
        if (label == NULL || used + len + 2 > DNS_NAME_LEN)
            return false;
        if (used > 0)
            name[used++] = '.';
        for (size_t i = 0; i < len; i++) {
            uint8_t c = label[i];
            if (c <= ' ' || c == 0x7f || c == '.')
                return false;
            if (c > '~') /* in no name of ours, and it wants an answer */
                c = '?';
            name[used++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
        }
    }
    name[used] = '\0';
    return true;
}

int dns_parse(struct dns_question *q, const uint8_t *buf, size_t len)
{
    struct wire_reader r = wire_reader(buf, len);
    *q = (struct dns_question){0};
    q->id = wire_get_u16(&r);
    q->flags = wire_get_u16(&r);
    uint16_t questions = wire_get_u16(&r);
    (void)wire_get_bytes(&r, 6); /* the other counts: an EDNS record may follow */
    if (r.failed || (q->flags & FLAG_RESPONSE) != 0 || (q->flags & 0x7800) != 0 ||
        questions != 1 || !read_name(&r, q->name))
        return POSTERN_ERR_PROTO;
    q->type = wire_get_u16(&r);
    uint16_t class = wire_get_u16(&r);
    if (r.failed || class != 1)
        return POSTERN_ERR_PROTO;
    q->question_len = len - r.left - HEADER_LEN;
    return 0;
}

int dns_answer(uint8_t *out, size_t cap, const struct dns_question *q,
               const uint8_t *query, enum dns_rcode rcode, const struct addr *addr,
               uint32_t ttl_s)
{
    struct wire_writer w = wire_writer(out, cap);
    bool record = rcode == DNS_NOERROR && addr != NULL && addr->family == ADDR_V4 &&
                  (q->type == DNS_A || q->type == DNS_ANY);
    wire_put_u16(&w, q->id);
    wire_put_u16(&w, (uint16_t)(FLAG_RESPONSE | 0x0400 | (q->flags & FLAG_RD) | 0x0080 |
                                (unsigned)rcode)); /* authoritative */
    wire_put_u16(&w, 1);
    wire_put_u16(&w, record ? 1 : 0);
    wire_put_u16(&w, 0);
    wire_put_u16(&w, 0);
    wire_put_bytes(&w, query + HEADER_LEN, q->question_len);
    if (record) {
        wire_put_u16(&w, 0xc000 | HEADER_LEN); /* the name: see the question */
        wire_put_u16(&w, DNS_A);
        wire_put_u16(&w, 1);
        wire_put_u32(&w, ttl_s);
        wire_put_u16(&w, 4);
        wire_put_bytes(&w, addr->ip, 4);
    }
    return w.failed ? POSTERN_ERR_LIMIT : (int)w.used;
}

void dns_label(const char *name, char *label, size_t cap)
{
    size_t n = 0;
    for (; *name != '\0' && n + 1 < cap; name++) {
        if (isalnum((unsigned char)*name))
            label[n++] = (char)tolower((unsigned char)*name);
        else if (n > 0 && label[n - 1] != '-')
            label[n++] = '-';
    }
    while (n > 0 && label[n - 1] == '-')
        n--;
    label[n] = '\0';
    if (n == 0)
        (void)snprintf(label, cap, "host");
}

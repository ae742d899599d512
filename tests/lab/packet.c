/* Offsets and sums of RFC 791, 768, 9293 and 792. See packet.h. */
#include "packet.h"

#include <string.h>

enum {
    IP_MIN = 20,
    ICMP_HEAD = 8,
    ICMP_UNREACHABLE = 3,
    ICMP_EXPIRED = 11,
    TCP_MIN = 20,
    UDP_HEAD = 8,
    P_ICMP = 1,
    P_TCP = 6,
    P_UDP = 17,
};

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

static uint32_t add_sum(uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += get16(p + i);
    return len % 2 == 0 ? sum : sum + ((uint32_t)p[len - 1] << 8);
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static struct addr end_of(const uint8_t *ip, const uint8_t *port)
{
    struct addr a = {.family = ADDR_V4, .port = port == NULL ? 0 : get16(port)};
    memcpy(a.ip, ip, 4);
    return a;
}

/* Of an IP header: its length; 0: it is none, or of a fragment. */
static size_t head_of(const uint8_t *ip, size_t len)
{
    size_t head = len < IP_MIN ? 0 : (size_t)(ip[0] & 15) * 4;
    if (head < IP_MIN || head + UDP_HEAD > len || ip[0] >> 4 != 4)
        return 0;
    return (get16(ip + 6) & 0x3fff) == 0 ? head : 0;
}

static bool parse_error(struct packet *p)
{
    const uint8_t *icmp = p->ip + p->head;
    p->about = p->ip + p->head + ICMP_HEAD;
    size_t left = p->len - p->head - ICMP_HEAD, head = head_of(p->about, left);
    if ((icmp[0] != ICMP_UNREACHABLE && icmp[0] != ICMP_EXPIRED) || head == 0 ||
        (p->about[9] != P_UDP && p->about[9] != P_TCP))
        return false;
    p->is_error = true;
    p->proto = p->about[9] == P_UDP ? VPROTO_UDP : VPROTO_TCP;
    p->about_from = end_of(p->about + 12, p->about + head);
    p->about_to = end_of(p->about + 16, p->about + head + 2);
    return true;
}

bool packet_parse(struct packet *p, uint8_t *buf, size_t len)
{
    *p = (struct packet){.ip = buf, .head = head_of(buf, len)};
    if (p->head == 0 || get16(buf + 2) > len || get16(buf + 2) < p->head + UDP_HEAD)
        return false;
    p->len = get16(buf + 2);
    const uint8_t *l4 = buf + p->head;
    bool ports = buf[9] == P_UDP || buf[9] == P_TCP;
    p->from = end_of(buf + 12, ports ? l4 : NULL);
    p->to = end_of(buf + 16, ports ? l4 + 2 : NULL);
    if (buf[9] == P_ICMP)
        return parse_error(p);
    p->proto = buf[9] == P_UDP ? VPROTO_UDP : VPROTO_TCP;
    if (buf[9] == P_TCP && p->len < p->head + TCP_MIN)
        return false;
    if (buf[9] == P_TCP)
        p->flags = ((l4[13] & 1) != 0 ? NAT_TCP_FIN : 0u) |
                   ((l4[13] & 2) != 0 ? NAT_TCP_SYN : 0u) |
                   ((l4[13] & 4) != 0 ? NAT_TCP_RST : 0u) |
                   ((l4[13] & 16) != 0 ? NAT_TCP_ACK : 0u);
    return ports;
}

/* All sums anew: what was wrong before is right afterwards, which no test minds. */
static void set_sums(uint8_t *ip, size_t head, size_t len)
{
    uint8_t *l4 = ip + head;
    size_t l4_len = len - head;
    put16(ip + 10, 0);
    put16(ip + 10, fold(add_sum(0, ip, head)));
    if (ip[9] == P_ICMP) {
        put16(l4 + 2, 0);
        put16(l4 + 2, fold(add_sum(0, l4, l4_len)));
        return;
    }
    uint8_t *at = l4 + (ip[9] == P_UDP ? 6 : 16);
    if (ip[9] == P_UDP && get16(at) == 0)
        return; /* it has none */
    put16(at, 0);
    uint32_t sum = add_sum(ip[9] + (uint32_t)l4_len, ip + 12, 8);
    uint16_t folded = fold(add_sum(sum, l4, l4_len));
    put16(at, folded == 0 && ip[9] == P_UDP ? 0xffff : folded);
}

static void set_ends(uint8_t *ip, size_t head, const struct addr *from,
                     const struct addr *to)
{
    memcpy(ip + 12, from->ip, 4);
    memcpy(ip + 16, to->ip, 4);
    if (ip[9] == P_ICMP)
        return;
    put16(ip + head, from->port);
    put16(ip + head + 2, to->port);
}

void packet_set(struct packet *p, const struct addr *from, const struct addr *to)
{
    p->from = *from;
    p->to = *to;
    set_ends(p->ip, p->head, from, to);
    set_sums(p->ip, p->head, p->len);
}

void packet_set_about(struct packet *p, const struct addr *from, const struct addr *to)
{
    size_t head = (size_t)(p->about[0] & 15) * 4;
    p->about_from = *from;
    p->about_to = *to;
    set_ends(p->about, head, from, to);
    put16(p->about + 10, 0);
    put16(p->about + 10, fold(add_sum(0, p->about, head)));
}

void packet_damage(struct packet *p, const struct addr *a, const struct addr *b)
{
    size_t head =
        p->proto == VPROTO_UDP ? UDP_HEAD : (size_t)(p->ip[p->head + 12] >> 4) * 4;
    for (size_t i = p->head + head; i + 4 <= p->len; i++)
        if (memcmp(p->ip + i, a->ip, 4) == 0)
            memcpy(p->ip + i, b->ip, 4);
    set_sums(p->ip, p->head, p->len);
}

static size_t make_rst(uint8_t *out, const struct packet *p)
{
    const uint8_t *tcp = p->ip + p->head;
    size_t data = p->len - p->head - (size_t)(tcp[12] >> 4) * 4;
    uint32_t after = get32(tcp + 4) + (uint32_t)data +
                     ((p->flags & (NAT_TCP_SYN | NAT_TCP_FIN)) != 0);
    uint8_t *rst = out + IP_MIN;
    out[9] = P_TCP;
    put32(rst + 4, (p->flags & NAT_TCP_ACK) != 0 ? get32(tcp + 8) : 0);
    put32(rst + 8, (p->flags & NAT_TCP_ACK) != 0 ? 0 : after);
    rst[12] = 5 << 4;
    rst[13] = (p->flags & NAT_TCP_ACK) != 0 ? 4 : 4 | 16;
    return IP_MIN + TCP_MIN;
}

size_t packet_refuse(uint8_t out[static PACKET_REFUSAL_MAX], const struct packet *p,
                     enum answer how)
{
    size_t len;
    if (how == ANSWER_NONE || p->is_error || (p->flags & NAT_TCP_RST) != 0 ||
        (how == ANSWER_RST && p->proto != VPROTO_TCP))
        return 0;
    memset(out, 0, PACKET_REFUSAL_MAX);
    out[0] = 0x45;
    out[8] = 64;
    if (how == ANSWER_RST) {
        len = make_rst(out, p);
    } else { /* port unreachable, with the header and eight bytes */
        size_t quote = p->head + 8;
        if (IP_MIN + ICMP_HEAD + quote > PACKET_REFUSAL_MAX)
            return 0;
        out[9] = P_ICMP;
        out[IP_MIN] = ICMP_UNREACHABLE;
        out[IP_MIN + 1] = 3;
        memcpy(out + IP_MIN + ICMP_HEAD, p->ip, quote);
        len = IP_MIN + ICMP_HEAD + quote;
    }
    put16(out + 2, (uint32_t)len);
    set_ends(out, IP_MIN, &p->to, &p->from);
    set_sums(out, IP_MIN, len);
    return len;
}

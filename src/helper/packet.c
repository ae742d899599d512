/* Reads the headers of a packet that the kernel has checked already. */
#include <netinet/in.h>
#include <string.h>

#include "helper/parts.h"

enum { IPV4_MIN = 20, IPV6_LEN = 40, PORTS_LEN = 4, SEQUENCE_LEN = 8 };

bool packet_parse(struct packet *p, const uint8_t *bytes, size_t len)
{
    size_t at;
    uint8_t protocol;
    *p = (struct packet){0};
    if (len >= IPV4_MIN && bytes[0] >> 4 == 4) {
        at = (size_t)(bytes[0] & 15) * 4;
        protocol = bytes[9];
        p->from.family = ADDR_V4;
        memcpy(p->from.ip, bytes + 12, 4);
        memcpy(p->to.ip, bytes + 16, 4);
    } else if (len >= IPV6_LEN && bytes[0] >> 4 == 6) {
        at = IPV6_LEN;
        protocol = bytes[6];
        p->from.family = ADDR_V6;
        memcpy(p->from.ip, bytes + 8, 16);
        memcpy(p->to.ip, bytes + 24, 16);
    } else {
        return false;
    }
    p->tcp = protocol == IPPROTO_TCP;
    if ((!p->tcp && protocol != IPPROTO_UDP) ||
        at + (p->tcp ? SEQUENCE_LEN : PORTS_LEN) > len)
        return false;
    const uint8_t *t = bytes + at;
    p->from.port = (uint16_t)(t[0] << 8 | t[1]);
    p->to.family = p->from.family;
    p->to.port = (uint16_t)(t[2] << 8 | t[3]);
    if (p->tcp)
        p->sequence =
            (uint32_t)t[4] << 24 | (uint32_t)t[5] << 16 | (uint32_t)t[6] << 8 | t[7];
    return p->from.port != 0;
}

/*
 * A hostile device: the real program, but that every Offer which it seals names victims
 * as its own addresses. Linked with --wrap=proto_encode_offer, and as `postern`
 * otherwise.
 *
 * VICTIMS in the environment: a /16, as spread.h; without it the program is honest.
 */
#include <stdlib.h>
#include <string.h>

#include "core/proto.h"
#include "spread.h"

int __real_proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m);
int __wrap_proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m);

static void lie(Candidate *c, const struct addr *net, unsigned i)
{
    struct addr a = i % 3 < 2 ? spread_vouched(net, i / 3) : spread_other(net);
    *c = (Candidate){.type = i % 2 == 0 ? CAND_REFLEXIVE : CAND_HOST,
                     .port = 1024 + 3000 * i,
                     .ip.size = (pb_size_t)addr_ip_len(&a)};
    memcpy(c->ip.bytes, a.ip, c->ip.size);
}

int __wrap_proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m)
{
    const char *victims = getenv("VICTIMS");
    struct addr net;
    if (victims == NULL || addr_parse_ip(&net, victims) != 0)
        return __real_proto_encode_offer(buf, cap, m);
    Offer *o = malloc(sizeof(*o));
    if (o == NULL)
        return -1;
    *o = *m;
    o->mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
    for (o->candidates_count = 0; o->candidates_count < 16; o->candidates_count++)
        lie(&o->candidates[o->candidates_count], &net, o->candidates_count);
    for (unsigned k = 0; k < o->meets_count; k++) {
        Meet *meet = &o->meets[k];
        for (meet->candidates_count = 0; meet->candidates_count < 6;
             meet->candidates_count++)
            lie(&meet->candidates[meet->candidates_count], &net,
                meet->candidates_count);
    }
    int n = __real_proto_encode_offer(buf, cap, o);
    free(o);
    return n;
}

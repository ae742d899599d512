/* What is sealed is one Offer and nothing else. */
#include "path/offer.h"

#include <string.h>

#include <sodium.h>

_Static_assert(PATH_KIND_COUNT <=
                   sizeof(((Offer *)NULL)->kinds) / sizeof(((Offer *)NULL)->kinds[0]),
               "an Offer names all kinds");

enum { OFFER_MAX = 4096 - SEAL_OVERHEAD };

void offer_name(Offer *o, enum path_kind k)
{
    (void)strncpy(o->kinds[o->kinds_count++], path_kind_name(k),
                  sizeof(o->kinds[0]) - 1);
}

int offer_open(Offer *offer, const struct keypair *own,
               const uint8_t from[static KEY_LEN], const uint8_t conv[static CONV_LEN],
               const uint8_t *sealed, size_t len)
{
    uint8_t plain[OFFER_MAX];
    int n = key_open(plain, sizeof(plain), sealed, len, own, from);
    if (n >= 0)
        n = proto_decode_offer(offer, plain, (size_t)n);
    if (n < 0)
        return n;
    return memcmp(offer->conv, conv, CONV_LEN) == 0 ? 0 : POSTERN_ERR_PROTO;
}

uint32_t offer_kinds(const Offer *o)
{
    uint32_t mask = 0;
    for (pb_size_t i = 0; i < o->kinds_count; i++) {
        enum path_kind k = path_kind_from_name(o->kinds[i]);
        mask |= k != PATH_KIND_NONE ? 1u << k : 0;
    }
    return mask;
}

size_t offer_seal(uint8_t *out, size_t cap, const Offer *o, const struct keypair *own,
                  const uint8_t to[static KEY_LEN])
{
    uint8_t plain[OFFER_MAX], nonce[SEAL_NONCE_LEN];
    int n = proto_encode_offer(plain, sizeof(plain), o);
    if (n < 0)
        return 0;
    randombytes_buf(nonce, sizeof(nonce));
    n = key_seal(out, cap, plain, (size_t)n, own, to, nonce);
    return n > 0 ? (size_t)n : 0;
}

bool offer_forgotten(Control *m, const struct keypair *own)
{
    Offer o = {.fresh = true};
    Signal *s = &m->body.signal;
    m->which_body = Control_signal_tag;
    memcpy(o.conv, m->conv, CONV_LEN);
    s->sealed.size = (pb_size_t)offer_seal(s->sealed.bytes, sizeof(s->sealed.bytes), &o,
                                           own, m->peer);
    return s->sealed.size > 0;
}

void offer_introduce(Control *m, const struct keypair *own,
                     const uint8_t host[static KEY_LEN], bool fresh)
{
    Offer o = {.generation = 1, .fresh = fresh};
    Introduce *in = &m->body.introduce;
    m->which_body = Control_introduce_tag;
    memcpy(o.conv, m->conv, CONV_LEN);
    o.check_key.size = sizeof(o.check_key.bytes);
    randombytes_buf(o.check_key.bytes, sizeof(o.check_key.bytes));
    offer_name(&o, PATH_RELAY);
    in->sealed.size = (pb_size_t)offer_seal(in->sealed.bytes, sizeof(in->sealed.bytes),
                                            &o, own, host);
}

bool offer_says_forgotten(const Control *m, const struct keypair *own,
                          const uint8_t host[static KEY_LEN])
{
    Offer o;
    const Signal *s = &m->body.signal;
    return offer_open(&o, own, host, m->conv, s->sealed.bytes, s->sealed.size) == 0 &&
           o.fresh;
}

void offer_add(Offer *o, enum cand_type type, const struct addr *a)
{
    const pb_size_t max = sizeof(o->candidates) / sizeof(o->candidates[0]);
    if (o->candidates_count >= max)
        return;
    Candidate *c = &o->candidates[o->candidates_count++];
    c->type = type;
    c->port = a->port;
    c->ip.size = (pb_size_t)addr_ip_len(a);
    memcpy(c->ip.bytes, a->ip, c->ip.size);
}

bool offer_has(const Offer *o, const struct addr *a)
{
    for (pb_size_t i = 0; i < o->candidates_count; i++) {
        const Candidate *c = &o->candidates[i];
        struct addr b;
        if (addr_from_bytes(&b, c->ip.bytes, c->ip.size, c->port) == 0 &&
            addr_equal(a, &b))
            return true;
    }
    return false;
}

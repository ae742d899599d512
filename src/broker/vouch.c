/* Marks out and marks in; keeps nothing. */
#include "broker/vouch.h"

#include <string.h>

#include "io/clock.h"

static uint64_t now_s(void)
{
    return clock_ns() / 1000000000; /* one clock for all threads */
}

void broker_mark(uint8_t mark[static VOUCH_MARK_LEN], const uint8_t *secret,
                 const struct addr *a)
{
    vouch_mark(mark, secret, a, now_s());
}

void broker_proof(uint8_t proof[static VOUCH_MARK_LEN], const uint8_t *secret,
                  const struct addr *a, const uint8_t key[static KEY_LEN])
{
    vouch_proof(proof, secret, a, key, now_s());
}

bool broker_proves(const uint8_t proof[static VOUCH_MARK_LEN], const uint8_t *secret,
                   const struct addr *a, uint32_t *device)
{
    return vouch_proves(proof, secret, a, now_s(), device);
}

static void put(Vouch *v, const struct addr *a)
{
    *v = (Vouch){.port = a->port, .ip.size = (pb_size_t)addr_ip_len(a)};
    memcpy(v->ip.bytes, a->ip, v->ip.size);
}

void broker_vouch(const uint8_t *secret, const struct addr *seen, Vouch *list,
                  pb_size_t *count, pb_size_t max)
{
    pb_size_t n = 0;
    Vouch shown[8];
    pb_size_t shown_count = *count < 8 ? *count : 8;
    memcpy(shown, list, shown_count * sizeof(*shown));
    if (seen->family != ADDR_NONE)
        put(&list[n++], seen);
    for (pb_size_t i = 0; i < shown_count && n < max; i++) {
        const Vouch *v = &shown[i];
        struct addr a;
        if (addr_from_bytes(&a, v->ip.bytes, v->ip.size, v->port) == 0 &&
            vouch_check(v->mark.bytes, v->mark.size, secret, &a, now_s()))
            put(&list[n++], &a);
    }
    *count = n;
}

/* Public keys are random already: two of their bytes choose the place. */
#include "broker/parted.h"

#include <string.h>

static unsigned place_of(const uint8_t *host)
{
    return (host[0] | (unsigned)host[1] << 8) % PARTED_MAX;
}

static bool stands(const struct parted *p, const uint8_t *host)
{
    unsigned at = place_of(host);
    return p->places[at].at_ms != 0 && memcmp(p->places[at].host, host, KEY_LEN) == 0;
}

void parted_note(struct parted *p, const uint8_t host[static KEY_LEN], enum parting how,
                 uint64_t now_ms)
{
    unsigned at = place_of(host);
    memcpy(p->places[at].host, host, KEY_LEN);
    p->places[at].at_ms = now_ms > 0 ? now_ms : 1;
    p->places[at].how = how;
}

void parted_forget(struct parted *p, const uint8_t host[static KEY_LEN])
{
    if (stands(p, host))
        p->places[place_of(host)].at_ms = 0;
}

uint64_t parted_at_ms(const struct parted *p, const uint8_t host[static KEY_LEN],
                      uint64_t now_ms)
{
    uint64_t at_ms = p->places[place_of(host)].at_ms;
    return stands(p, host) && now_ms - at_ms < PARTED_FOR_MS ? at_ms : 0;
}

enum parting parted_how(const struct parted *p, const uint8_t host[static KEY_LEN])
{
    return p->places[place_of(host)].how;
}

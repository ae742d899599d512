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

void parted_note(struct parted *p, const uint8_t host[static KEY_LEN], bool guessed,
                 uint64_t now_ms)
{
    unsigned at = place_of(host);
    memcpy(p->places[at].host, host, KEY_LEN);
    p->places[at].at_ms = now_ms > 0 ? now_ms : 1;
    p->places[at].guessed = guessed;
}

void parted_forget(struct parted *p, const uint8_t host[static KEY_LEN])
{
    if (stands(p, host))
        p->places[place_of(host)].at_ms = 0;
}

bool parted_lately(const struct parted *p, const uint8_t host[static KEY_LEN],
                   uint64_t now_ms)
{
    return stands(p, host) && now_ms - p->places[place_of(host)].at_ms < PARTED_FOR_MS;
}

bool parted_is_guessed(const struct parted *p, const uint8_t host[static KEY_LEN])
{
    return stands(p, host) && p->places[place_of(host)].guessed;
}

/* A table that is searched from end to end, and only for hosts that come or are missed.
 */
#include "broker/awaited.h"

#include <string.h>

static bool is_same(const struct awaited_ask *a, const struct awaited_ask *b)
{
    return memcmp(a->host, b->host, KEY_LEN) == 0 &&
           memcmp(a->client, b->client, KEY_LEN) == 0 &&
           memcmp(a->conv, b->conv, CONV_LEN) == 0;
}

/* Its own old place; else the client's oldest, if it has too many; else a free one, or
 * the oldest of all. */
static struct awaited_ask *place_for(struct awaited *a, const struct awaited_ask *ask)
{
    struct awaited_ask *oldest = &a->asks[0], *own = NULL;
    size_t own_count = 0;
    for (size_t i = 0; i < AWAITED_MAX; i++) {
        struct awaited_ask *x = &a->asks[i];
        if (x->at_ms < oldest->at_ms)
            oldest = x;
        if (x->at_ms == 0 || memcmp(x->client, ask->client, KEY_LEN) != 0)
            continue;
        if (is_same(x, ask))
            return x;
        own_count++;
        if (own == NULL || x->at_ms < own->at_ms)
            own = x;
    }
    return own_count >= AWAITED_EACH ? own : oldest;
}

void awaited_note(struct awaited *a, const struct awaited_ask *ask)
{
    struct awaited_ask *place = place_for(a, ask);
    a->count += place->at_ms == 0;
    *place = *ask;
    place->at_ms = ask->at_ms > 0 ? ask->at_ms : 1;
}

bool awaited_take(struct awaited *a, const uint8_t host[static KEY_LEN],
                  uint64_t now_ms, struct awaited_ask *out)
{
    for (size_t i = 0; i < AWAITED_MAX && a->count > 0; i++) {
        struct awaited_ask *x = &a->asks[i];
        if (x->at_ms == 0 || memcmp(x->host, host, KEY_LEN) != 0)
            continue;
        *out = *x;
        x->at_ms = 0;
        a->count--;
        if (now_ms - out->at_ms < AWAITED_FOR_MS)
            return true;
    }
    return false;
}

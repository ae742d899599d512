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

/* Free and spent ones first, then those of who asks for most, the oldest of them. */
static bool goes_before(const struct awaited_ask *x, const struct awaited_ask *y,
                        uint64_t now_ms)
{
    bool x_spent = x->at_ms == 0 || now_ms - x->at_ms >= AWAITED_FOR_MS;
    bool y_spent = y->at_ms == 0 || now_ms - y->at_ms >= AWAITED_FOR_MS;
    if (x_spent || y_spent)
        return x_spent && (!y_spent || x->at_ms < y->at_ms);
    return x->before > y->before || (x->before == y->before && x->at_ms < y->at_ms);
}

/* Its own old place; else the client's oldest, if it has too many; else the first of
 * all to go. */
static struct awaited_ask *place_for(struct awaited *a, const struct awaited_ask *ask,
                                     uint8_t *before)
{
    struct awaited_ask *first = &a->asks[0], *own = NULL;
    *before = 0;
    for (size_t i = 0; i < AWAITED_MAX; i++) {
        struct awaited_ask *x = &a->asks[i];
        if (goes_before(x, first, ask->at_ms))
            first = x;
        if (x->at_ms == 0 || memcmp(x->client, ask->client, KEY_LEN) != 0)
            continue;
        if (is_same(x, ask)) {
            *before = x->before;
            return x;
        }
        ++*before;
        if (own == NULL || x->at_ms < own->at_ms)
            own = x;
    }
    return *before >= AWAITED_EACH ? own : first;
}

void awaited_note(struct awaited *a, const struct awaited_ask *ask)
{
    uint8_t before;
    struct awaited_ask *place = place_for(a, ask, &before);
    a->count += place->at_ms == 0;
    *place = *ask;
    place->before = before;
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

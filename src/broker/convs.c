/* A list that is searched from end to end: most connections have one. */
#include "broker/convs.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "broker/limits.h"

enum { ROOM_FIRST = 2 };

static uint64_t start_of(const uint8_t *conv)
{
    uint64_t start;
    memcpy(&start, conv, sizeof(start));
    return start;
}

static struct conv *find(const struct convs *c, const uint8_t *conv)
{
    uint64_t start = start_of(conv);
    for (uint32_t i = 0; i < c->count; i++)
        if (c->list[i].start == start)
            return &c->list[i];
    return NULL;
}

static bool is_with(const struct conv *v, const uint8_t *host)
{
    return memcmp(v->host, host, CONVS_HOST_LEN) == 0;
}

/* NULL: out of memory. */
static struct conv *place(struct convs *c, uint32_t max)
{
    if (c->count >= max) {
        struct conv *oldest = &c->list[0];
        for (uint32_t i = 1; i < c->count; i++)
            if (c->list[i].at_ms < oldest->at_ms)
                oldest = &c->list[i];
        return oldest;
    }
    if (c->count == c->room) {
        uint32_t room = c->room > 0 ? 2 * c->room : ROOM_FIRST;
        struct conv *more = reallocarray(c->list, room, sizeof(*more));
        if (more == NULL)
            return NULL;
        c->list = more;
        c->room = room;
    }
    return &c->list[c->count++];
}

void convs_note(struct convs *c, const uint8_t conv[static CONV_LEN],
                const uint8_t host[static KEY_LEN], uint32_t max, uint64_t now_ms)
{
    struct conv *v = find(c, conv);
    if (v != NULL && is_with(v, host)) {
        v->at_ms = now_ms;
        return;
    }
    if (v == NULL && (v = place(c, max)) == NULL)
        return;
    *v = (struct conv){
        .start = start_of(conv), .at_ms = now_ms, .left = LIMIT_CONV_BYTES};
    memcpy(v->host, host, CONVS_HOST_LEN);
}

void convs_forget(struct convs *c, const uint8_t conv[static CONV_LEN])
{
    struct conv *v = find(c, conv);
    if (v != NULL)
        *v = c->list[--c->count];
}

bool convs_has(const struct convs *c, const uint8_t conv[static CONV_LEN],
               const uint8_t host[static KEY_LEN])
{
    const struct conv *v = find(c, conv);
    return v != NULL && (is_with(v, host) || sodium_is_zero(v->host, CONVS_HOST_LEN));
}

struct conv *convs_asked(const struct convs *c, const uint8_t conv[static CONV_LEN],
                         const uint8_t host[static KEY_LEN], uint64_t now_ms)
{
    struct conv *v = find(c, conv);
    return v != NULL && is_with(v, host) && now_ms - v->at_ms < LIMIT_CONV_MS ? v
                                                                              : NULL;
}

bool conv_take(struct conv *v, uint32_t bytes)
{
    if (v->left < bytes)
        return false;
    v->left -= bytes;
    return true;
}

void convs_fini(struct convs *c)
{
    free(c->list);
    *c = (struct convs){0};
}

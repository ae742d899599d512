/* Lists that are searched from end to end: most connections have one approach. */
#include "broker/convs.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

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
    *v = (struct conv){.start = start_of(conv), .at_ms = now_ms};
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

bool convs_asked(const struct convs *c, const uint8_t conv[static CONV_LEN],
                 const uint8_t host[static KEY_LEN], uint64_t now_ms)
{
    const struct conv *v = find(c, conv);
    return v != NULL && is_with(v, host) && now_ms - v->at_ms < LIMIT_CONV_MS;
}

/* NULL: out of memory. */
static struct convs_share *place_share(struct convs *c)
{
    if (c->share_count >= LIMIT_CONVS_HOSTS) {
        struct convs_share *oldest = &c->shares[0];
        for (uint16_t i = 1; i < c->share_count; i++)
            if (c->shares[i].said.at_ms < oldest->said.at_ms)
                oldest = &c->shares[i];
        return oldest;
    }
    if (c->share_count == c->share_room) {
        uint16_t room = c->share_room > 0 ? (uint16_t)(2 * c->share_room) : 1;
        struct convs_share *more = reallocarray(c->shares, room, sizeof(*more));
        if (more == NULL)
            return NULL;
        c->shares = more;
        c->share_room = room;
    }
    return &c->shares[c->share_count++];
}

static struct convs_share *share_of(struct convs *c, const uint8_t *host)
{
    for (uint16_t i = 0; i < c->share_count; i++)
        if (memcmp(c->shares[i].host, host, CONVS_HOST_LEN) == 0)
            return &c->shares[i];
    struct convs_share *made = place_share(c);
    if (made == NULL)
        return NULL;
    *made = (struct convs_share){0};
    memcpy(made->host, host, CONVS_HOST_LEN);
    return made;
}

bool convs_take(struct convs *c, const uint8_t host[static KEY_LEN], uint32_t bytes,
                uint64_t now_ms)
{
    struct convs_share *s = share_of(c, host);
    return s != NULL && bucket_take(&s->said, LIMIT_RATE_CONVS, now_ms, bytes);
}

void convs_fini(struct convs *c)
{
    free(c->list);
    free(c->shares);
    *c = (struct convs){0};
}

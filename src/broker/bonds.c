/* A list that is searched from end to end, once for each session that begins. */
#include "broker/bonds.h"

#include <stdlib.h>
#include <string.h>

#include "broker/limits.h"

enum { ROOM_FIRST = 8 };

static struct bond *find(const struct bonds *b, const uint8_t *client,
                         const uint8_t *conv)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (memcmp(b->list[i].conv, conv, CONV_LEN) == 0 &&
            memcmp(b->list[i].client, client, KEY_LEN) == 0)
            return &b->list[i];
    return NULL;
}

/* NULL: out of memory. */
static struct bond *place(struct bonds *b)
{
    if (b->count == LIMIT_BONDS_PER_HOST)
        return &b->list[b->oldest++ % LIMIT_BONDS_PER_HOST];
    if (b->count == b->room) {
        uint32_t room = b->room > 0 ? 2 * b->room : ROOM_FIRST;
        struct bond *more = reallocarray(b->list, room, sizeof(*more));
        if (more == NULL)
            return NULL;
        b->list = more;
        b->room = room;
    }
    return &b->list[b->count++];
}

void bonds_note(struct bonds *b, const uint8_t client[static KEY_LEN],
                const uint8_t conv[static CONV_LEN])
{
    struct bond *at = find(b, client, conv) == NULL ? place(b) : NULL;
    if (at == NULL)
        return;
    memcpy(at->client, client, KEY_LEN);
    memcpy(at->conv, conv, CONV_LEN);
}

bool bonds_has(const struct bonds *b, const uint8_t client[static KEY_LEN],
               const uint8_t conv[static CONV_LEN])
{
    return find(b, client, conv) != NULL;
}

void bonds_drop(struct bonds *b, const uint8_t client[static KEY_LEN],
                const uint8_t conv[static CONV_LEN])
{
    struct bond *at = find(b, client, conv);
    if (at != NULL)
        *at = b->list[--b->count];
}

void bonds_fini(struct bonds *b)
{
    free(b->list);
    *b = (struct bonds){0};
}

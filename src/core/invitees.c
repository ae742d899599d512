/* One allowance an invite, as a time; see invitees.h. */
#include "core/invitees.h"

#include <string.h>

bool invitees_take(struct invitees *v, const uint8_t id[static INVITE_ID_LEN],
                   unsigned uses_left, uint64_t now_ms)
{
    unsigned uses = uses_left < INVITEES_USES_MAX ? uses_left : INVITEES_USES_MAX;
    uint64_t most = now_ms + (2u * uses + INVITEES_SPARE) * (uint64_t)INVITEES_EVERY_MS;
    size_t at = 0;
    for (size_t i = 0; i < INVITEES_SLOTS; i++) {
        if (v->slots[i].spent_ms != 0 &&
            memcmp(v->slots[i].id, id, INVITE_ID_LEN) == 0) {
            at = i;
            break;
        }
        if (v->slots[i].spent_ms < v->slots[at].spent_ms)
            at = i;
    }
    if (v->slots[at].spent_ms == 0 || memcmp(v->slots[at].id, id, INVITE_ID_LEN) != 0) {
        memcpy(v->slots[at].id, id, INVITE_ID_LEN);
        v->slots[at].spent_ms = now_ms;
    }
    uint64_t from = v->slots[at].spent_ms > now_ms ? v->slots[at].spent_ms : now_ms;
    if (from + INVITEES_EVERY_MS > most)
        return false;
    v->slots[at].spent_ms = from + INVITEES_EVERY_MS;
    return true;
}

void invitees_give_back(struct invitees *v, const uint8_t id[static INVITE_ID_LEN],
                        uint64_t now_ms)
{
    const uint64_t back_ms = 2 * INVITEES_EVERY_MS;
    for (unsigned i = 0; i < INVITEES_SLOTS; i++) {
        uint64_t *spent_ms = &v->slots[i].spent_ms;
        if (*spent_ms != 0 && memcmp(v->slots[i].id, id, INVITE_ID_LEN) == 0)
            *spent_ms = *spent_ms > now_ms + back_ms ? *spent_ms - back_ms : now_ms;
    }
}

static void hood_of(uint8_t hood[static INVITEES_HOOD_LEN], const struct addr *from)
{
    memset(hood, 0, INVITEES_HOOD_LEN);
    if (from == NULL || from->family == ADDR_NONE)
        return;
    hood[0] = from->family;
    memcpy(hood + 1, from->ip, from->family == ADDR_V4 ? 2 : 4);
}

bool invitees_has_turn(const struct invitees *v, const struct addr *from,
                       uint64_t now_ms)
{
    uint8_t hood[INVITEES_HOOD_LEN];
    hood_of(hood, from);
    for (size_t i = 0; i < INVITEES_TURNS; i++)
        if (v->turns[i].had_ms != 0 &&
            memcmp(v->turns[i].hood, hood, sizeof(hood)) == 0)
            return now_ms - v->turns[i].had_ms >= INVITEES_TURN_MS;
    return true;
}

void invitees_note_turn(struct invitees *v, const struct addr *from, uint64_t now_ms)
{
    uint8_t hood[INVITEES_HOOD_LEN];
    size_t at = 0;
    hood_of(hood, from);
    for (size_t i = 0; i < INVITEES_TURNS; i++) {
        if (memcmp(v->turns[i].hood, hood, sizeof(hood)) == 0) {
            at = i;
            break;
        }
        if (v->turns[i].had_ms < v->turns[at].had_ms)
            at = i;
    }
    memcpy(v->turns[at].hood, hood, sizeof(hood));
    v->turns[at].had_ms = now_ms;
}

unsigned invitees_at_once(unsigned uses_left)
{
    unsigned n = uses_left < INVITEES_AT_ONCE ? uses_left : INVITEES_AT_ONCE;
    return n + INVITEES_SPARE < INVITEES_AT_ONCE ? n + INVITEES_SPARE
                                                 : (unsigned)INVITEES_AT_ONCE;
}

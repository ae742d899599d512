/* A list that is searched from end to end: it is short; see lobby.h. */
#include "broker/lobby.h"

#include <stdlib.h>
#include <string.h>

enum {
    FAST_MS = 20, /* of the line, or of the host's own delay in acknowledging */
    SLOW_MS = 60,
    REST = 4,          /* times as long as the line was busy */
    BUSY_MAX_MS = 300, /* longer is the work of others, or of a loss */
    PUT_OFF_MS = 500,
    PUT_OFF_INVITED_MS = 1500,
    NEW_AFTER_MS = 10000,
    INVITE_NEW_AFTER_MS = 1000,
    INVITED_MAX = LOBBY_MAX / 2,
};

void lobby_init(struct lobby *l)
{
    *l = (struct lobby){.window = LOBBY_WINDOW_FIRST};
    list_init(&l->guests);
}

static void take_out(struct lobby *l, struct lobby_guest *g)
{
    list_remove(&g->link);
    l->count--;
    l->invited -= g->invited;
}

void lobby_fini(struct lobby *l)
{
    while (l->count > 0)
        lobby_guest_free(lobby_take_any(l));
}

struct lobby_guest *lobby_take_any(struct lobby *l)
{
    if (l->count == 0)
        return NULL;
    struct lobby_guest *g = LIST_FIRST(&l->guests, struct lobby_guest, link);
    take_out(l, g);
    return g;
}

void lobby_forget_line(struct lobby *l)
{
    l->on_way = false;
    l->bytes = 0;
    l->rest_until_ms = 0;
    l->window = LOBBY_WINDOW_FIRST;
}

struct lobby_guest *lobby_guest_new(const uint8_t *message, size_t len)
{
    struct lobby_guest *g = calloc(1, sizeof(*g) + len);
    if (g == NULL)
        return NULL;
    list_init(&g->link);
    g->len = len;
    memcpy(g->message, message, len);
    return g;
}

void lobby_guest_free(struct lobby_guest *g)
{
    if (g != NULL)
        free(g->then);
    free(g);
}

void lobby_guest_then(struct lobby_guest *g, struct lobby_guest *then)
{
    free(g->then);
    g->then = then;
}

struct lobby_guest *lobby_find(struct lobby *l, const uint8_t client[static KEY_LEN],
                               const uint8_t conv[static CONV_LEN])
{
    for (struct list *i = l->guests.next; i != &l->guests; i = i->next) {
        struct lobby_guest *g = LIST_OWNER(i, struct lobby_guest, link);
        if (memcmp(g->conv, conv, CONV_LEN) == 0 &&
            memcmp(g->client, client, KEY_LEN) == 0)
            return g;
    }
    return NULL;
}

/* The block around an address as a number: what is the same is the same block. */
static uint64_t block_of(const struct addr *from, unsigned level)
{
    uint8_t key[KEY_LEN];
    uint64_t low;
    addr_block_key(key, from, level);
    memcpy(&low, key + 2, sizeof(low));
    return low;
}

/* How many of its sort come from the block of `g` at that level, with it. */
static unsigned crowd_of(const struct lobby *l, const struct lobby_guest *g,
                         unsigned level)
{
    unsigned n = 0;
    for (const struct list *i = l->guests.next; i != &l->guests; i = i->next) {
        const struct lobby_guest *x = LIST_OWNER(i, struct lobby_guest, link);
        n += x->invited == g->invited && x->blocks[level] == g->blocks[level];
    }
    return n;
}

static uint64_t weight_of(const struct lobby *l, const struct lobby_guest *g)
{
    unsigned levels = addr_levels(&g->from);
    uint64_t weight = g->invited ? crowd_of(l, g, ADDR_LEVELS) : 0;
    for (unsigned level = levels; level-- > 0;)
        weight = weight * (LOBBY_MAX + 2) + crowd_of(l, g, level);
    return levels == 2 ? weight * (LOBBY_MAX + 2) : weight; /* as one of three levels */
}

/*
 * Of the widest block with most of them, then of the address: the oldest. Of those who
 * are invited only when they are half of all, and of the invite with most.
 */
static struct lobby_guest *one_too_many(const struct lobby *l)
{
    struct lobby_guest *worst = NULL;
    uint64_t most = 0;
    for (struct list *i = l->guests.next; i != &l->guests; i = i->next) {
        struct lobby_guest *g = LIST_OWNER(i, struct lobby_guest, link);
        if (g->invited != (l->invited > INVITED_MAX))
            continue;
        uint64_t weight = weight_of(l, g);
        if (worst == NULL || weight > most) {
            worst = g;
            most = weight;
        }
    }
    return worst;
}

struct lobby_guest *lobby_enter(struct lobby *l, struct lobby_guest *g)
{
    struct lobby_guest *out = lobby_find(l, g->client, g->conv);
    for (unsigned i = 0; i < addr_levels(&g->from); i++)
        g->blocks[i] = block_of(&g->from, i);
    memcpy(&g->blocks[ADDR_LEVELS], g->pass, sizeof(g->blocks[0]));
    list_push(&l->guests, &g->link);
    l->count++;
    l->invited += g->invited;
    if (out != NULL) { /* it said so again, and keeps its turn */
        list_remove(&g->link);
        list_push(&out->link, &g->link);
        take_out(l, out);
        lobby_guest_free(out);
        return NULL;
    }
    if (l->count <= LOBBY_MAX)
        return NULL;
    out = one_too_many(l);
    take_out(l, out);
    return out;
}

/* `passed` of both: the invite first, then the widest block. */
static bool goes_before(const uint64_t a[static ADDR_LEVELS + 1],
                        const uint64_t b[static ADDR_LEVELS + 1])
{
    for (unsigned i = 0; i < ADDR_LEVELS + 1; i++)
        if (a[i] != b[i])
            return a[i] < b[i];
    return false;
}

/* `passed_ms`: when the last one came by its invite, or from its widest block. */
static struct lobby_guest *choose(const struct lobby *l, struct admission *a,
                                  const uint8_t *host, bool invited,
                                  uint64_t *passed_ms)
{
    struct lobby_guest *next = NULL;
    uint64_t best[ADDR_LEVELS + 1], passed[ADDR_LEVELS + 1] = {0};
    for (struct list *i = l->guests.next; i != &l->guests; i = i->next) {
        struct lobby_guest *g = LIST_OWNER(i, struct lobby_guest, link);
        if (g->invited != invited)
            continue;
        if (invited)
            passed[0] = admission_pass_used(a, host, g->pass);
        admission_passed(a, host, &g->from, passed + 1);
        if (next == NULL || goes_before(passed, best)) {
            next = g;
            memcpy(best, passed, sizeof(best));
            *passed_ms = best[invited ? 0 : 1];
        }
    }
    return next;
}

/* Of one sort, as the pause lets them. */
static struct lobby_guest *next_of_sort(struct lobby *l, struct admission *a,
                                        const uint8_t *host, bool invited,
                                        uint64_t now_ms)
{
    uint64_t passed_ms = 0;
    uint64_t pause_ms = l->rest_until_ms > now_ms ? l->rest_until_ms - now_ms : 0;
    if (pause_ms >= (invited ? PUT_OFF_INVITED_MS : PUT_OFF_MS))
        return NULL;
    struct lobby_guest *g = choose(l, a, host, invited, &passed_ms);
    uint64_t new_ms = invited ? INVITE_NEW_AFTER_MS : NEW_AFTER_MS;
    bool is_new = passed_ms == 0 || now_ms - passed_ms >= new_ms;
    return pause_ms == 0 || is_new ? g : NULL;
}

static void end_overdue(struct lobby *l, uint64_t now_ms)
{
    for (struct list *i = l->guests.next, *after; i != &l->guests; i = after) {
        struct lobby_guest *g = LIST_OWNER(i, struct lobby_guest, link);
        after = i->next;
        if (now_ms - g->since_ms > LOBBY_PATIENCE_MS) {
            take_out(l, g);
            lobby_guest_free(g);
        }
    }
}

struct lobby_guest *lobby_leave(struct lobby *l, struct admission *a,
                                const uint8_t host[static KEY_LEN], uint64_t now_ms)
{
    end_overdue(l, now_ms);
    struct lobby_guest *g = next_of_sort(l, a, host, !l->invited_last, now_ms);
    if (g == NULL)
        g = next_of_sort(l, a, host, l->invited_last, now_ms);
    if (g == NULL)
        return NULL;
    take_out(l, g);
    l->invited_last = g->invited;
    if (g->invited)
        admission_note_pass(a, host, g->pass, now_ms);
    admission_note_passed(a, host, &g->from, now_ms);
    return g;
}

static void learn(struct lobby *l, uint32_t rtt_ms, uint64_t now_ms)
{
    uint64_t took = now_ms - l->sent_ms;
    uint64_t busy = took > rtt_ms ? took - rtt_ms : 0;
    if (busy > BUSY_MAX_MS)
        busy = BUSY_MAX_MS;
    if (busy <= FAST_MS && l->window < LOBBY_WINDOW_MAX)
        l->window *= 2;
    else if (busy > SLOW_MS && l->window > LOBBY_WINDOW_MIN)
        l->window /= 2;
    if (l->rest_until_ms > l->sent_ms) /* a pause that was put off, all of it */
        l->rest_until_ms += (REST + 1) * busy;
    else
        l->rest_until_ms = now_ms + REST * busy;
    l->on_way = false;
    l->bytes = 0;
}

bool lobby_is_clear(struct lobby *l, uint64_t acked, uint32_t rtt_ms, uint64_t now_ms)
{
    if (l->on_way && l->bytes < l->window && now_ms == l->sent_ms)
        return true; /* they go together */
    if (l->on_way && acked >= l->end)
        learn(l, rtt_ms, now_ms);
    return !l->on_way;
}

void lobby_sent(struct lobby *l, size_t bytes, uint64_t end, uint64_t now_ms)
{
    if (!l->on_way)
        l->sent_ms = now_ms;
    l->on_way = true;
    l->bytes += bytes;
    l->end = end;
}

/* Fragments of large datagrams: cells, the header, the putting together. */
#include "core/fragments.h"

#include <stdlib.h>
#include <string.h>

#include "core/wire.h"

enum { WORD = 64, REMEMBERED = 64 };

/* ---------------------------------------------------------------------------- cells */

static size_t cells_of(size_t len)
{
    return (len + FRAGMENT_CELL - 1) / FRAGMENT_CELL;
}

size_t cells_words(size_t len)
{
    return (cells_of(len) + WORD - 1) / WORD;
}

static bool is_set(const uint64_t *cells, size_t i)
{
    return (cells[i / WORD] >> (i % WORD) & 1) != 0;
}

void cells_fill(uint64_t *cells, size_t len)
{
    memset(cells, 0, cells_words(len) * sizeof(*cells));
    (void)cells_set(cells, 0, len, true);
}

unsigned cells_set(uint64_t *cells, size_t from, size_t len, bool on)
{
    unsigned changed = 0;
    size_t end = cells_of(from + len);
    for (size_t i = from / FRAGMENT_CELL; i < end; i++) {
        if (is_set(cells, i) == on)
            continue;
        cells[i / WORD] ^= 1ull << (i % WORD);
        changed++;
    }
    return changed;
}

size_t cells_first(const uint64_t *cells, size_t whole, size_t most, size_t *len)
{
    size_t end = cells_of(whole), i = 0;
    *len = 0;
    while (i < end && !is_set(cells, i))
        i++;
    size_t from = i;
    while (i < end && is_set(cells, i))
        i++;
    size_t last = i * FRAGMENT_CELL < whole ? i * FRAGMENT_CELL : whole;
    if (from == i)
        return 0;
    *len = last - from * FRAGMENT_CELL;
    if (*len > most)
        *len = most / FRAGMENT_CELL * FRAGMENT_CELL;
    return from * FRAGMENT_CELL;
}

/* ------------------------------------------------------------------------- the wire */

void fragment_put(uint8_t buf[static FRAGMENT_HEAD_LEN], uint32_t number, size_t from,
                  size_t whole)
{
    struct wire_writer w = wire_writer(buf, FRAGMENT_HEAD_LEN);
    wire_put_u32(&w, number);
    wire_put_u16(&w, (uint16_t)(from / FRAGMENT_CELL));
    wire_put_u16(&w, (uint16_t)whole);
}

int fragment_get(struct fragment *f, const uint8_t *buf, size_t len)
{
    struct wire_reader r = wire_reader(buf, len);
    *f = (struct fragment){.number = wire_get_u32(&r)};
    f->from = (size_t)wire_get_u16(&r) * FRAGMENT_CELL;
    f->whole = wire_get_u16(&r);
    if (len <= FRAGMENT_HEAD_LEN)
        return POSTERN_ERR_PROTO;
    f->data = buf + FRAGMENT_HEAD_LEN;
    f->len = len - FRAGMENT_HEAD_LEN;
    size_t end = f->from + f->len;
    if (end > f->whole || (end < f->whole && f->len % FRAGMENT_CELL != 0))
        return POSTERN_ERR_PROTO;
    return 0;
}

/* ------------------------------------------------------------------ putting together
 */

void partials_init(struct partials *p, size_t *all)
{
    *p = (struct partials){.all = all};
    list_init(&p->list);
}

static void take_out(struct partials *p, struct partial *q)
{
    list_remove(&q->link);
    p->count--;
    p->bytes -= q->len;
    *p->all -= q->len;
}

static void drop_oldest(struct partials *p)
{
    struct partial *q = LIST_FIRST(&p->list, struct partial, link);
    take_out(p, q);
    p->given_up++;
    free(q);
}

void partials_fini(struct partials *p)
{
    while (!list_empty(&p->list))
        drop_oldest(p);
}

/* Numbers wrap around, so which is the higher is a matter of what is near. */
static bool was_completed(const struct partials *p, uint32_t number)
{
    int32_t back = (int32_t)(p->newest - number);
    if (!p->any || back < 0)
        return false;
    return back >= REMEMBERED || (p->completed >> back & 1) != 0;
}

static void note_completed(struct partials *p, uint32_t number)
{
    int32_t by = (int32_t)(number - p->newest);
    if (!p->any || by >= REMEMBERED) {
        p->completed = 1;
        p->newest = number;
    } else if (by > 0) {
        p->completed = p->completed << by | 1;
        p->newest = number;
    } else if (-by < REMEMBERED) {
        p->completed |= 1ull << -by;
    }
    p->any = true;
}

static struct partial *find(struct partials *p, uint32_t number)
{
    LIST_EACH (struct partial, q, &p->list, link)
        if (q->number == number)
            return q;
    return NULL;
}

static bool has_room(const struct partials *p, size_t len)
{
    bool scarce = *p->all + len > PARTIALS_ALL_MAX;
    size_t most = scarce ? PARTIALS_SCARCE_BYTES : PARTIALS_BYTES_MAX;
    return p->count < PARTIALS_MAX && p->bytes + len <= most &&
           *p->all + len <= 2 * PARTIALS_ALL_MAX;
}

static struct partial *begin(struct partials *p, uint64_t flow,
                             const struct fragment *f, uint64_t now_ms)
{
    if (was_completed(p, f->number))
        return NULL;
    while (!has_room(p, f->whole) && p->count > 0)
        drop_oldest(p);
    struct partial *q = has_room(p, f->whole) ? malloc(sizeof(*q) + f->whole) : NULL;
    if (q == NULL)
        return NULL;
    *q = (struct partial){
        .flow = flow, .number = f->number, .len = f->whole, .begun_ms = now_ms};
    q->lacking = cells_set(q->lacks, 0, q->len, true);
    list_push(&p->list, &q->link);
    p->count++;
    p->bytes += q->len;
    *p->all += q->len;
    return q;
}

struct partial *partials_take(struct partials *p, uint64_t flow,
                              const struct fragment *f, uint64_t now_ms)
{
    partials_expire(p, now_ms);
    struct partial *q = find(p, f->number);
    if (q == NULL)
        q = begin(p, flow, f, now_ms);
    if (q == NULL || q->flow != flow || q->len != f->whole)
        return NULL;
    memcpy(q->data + f->from, f->data, f->len);
    q->lacking -= cells_set(q->lacks, f->from, f->len, false);
    if (q->lacking > 0)
        return NULL;
    take_out(p, q);
    note_completed(p, q->number);
    return q;
}

void partials_expire(struct partials *p, uint64_t now_ms)
{
    while (!list_empty(&p->list) && now_ms >= partials_deadline_ms(p))
        drop_oldest(p);
}

uint64_t partials_deadline_ms(const struct partials *p)
{
    if (list_empty(&p->list))
        return UINT64_MAX;
    return LIST_FIRST(&p->list, struct partial, link)->begun_ms + PARTIALS_LIVE_MS;
}

/* A pairing heap; see agenda.h. */
#include "core/agenda.h"

static bool goes_before(const struct agenda_entry *x, const struct agenda_entry *y)
{
    return x->due < y->due || (x->due == y->due && x->order < y->order);
}

/* Two heaps without siblings become one. */
static struct agenda_entry *meld(struct agenda_entry *x, struct agenda_entry *y)
{
    if (x == NULL || y == NULL)
        return x != NULL ? x : y;
    if (goes_before(y, x)) {
        struct agenda_entry *z = x;
        x = y;
        y = z;
    }
    y->prev = x;
    y->next = x->child;
    if (y->next != NULL)
        y->next->prev = y;
    x->child = y;
    return x;
}

static struct agenda_entry *cut_off(struct agenda_entry *e)
{
    e->next = e->prev = NULL;
    return e;
}

/*
 * Siblings become one heap: in pairs from left to right, then those from right to left.
 * The pairs wait in a list through `next`, the last one first.
 */
static struct agenda_entry *meld_all(struct agenda_entry *e)
{
    struct agenda_entry *pairs = NULL, *all = NULL;
    while (e != NULL) {
        struct agenda_entry *x = e, *y = e->next;
        e = y != NULL ? y->next : NULL;
        x = meld(cut_off(x), y != NULL ? cut_off(y) : NULL);
        x->next = pairs;
        pairs = x;
    }
    while (pairs != NULL) {
        struct agenda_entry *x = pairs;
        pairs = x->next;
        all = meld(all, cut_off(x));
    }
    return all;
}

void agenda_enter(struct agenda *a, struct agenda_entry *e, uint64_t due)
{
    *e = (struct agenda_entry){.due = due, .order = a->entered++, .entered = true};
    a->first = meld(a->first, e);
}

void agenda_leave(struct agenda *a, struct agenda_entry *e)
{
    if (!e->entered)
        return;
    struct agenda_entry *below = meld_all(e->child);
    if (e == a->first) {
        a->first = below;
    } else {
        if (e->prev->child == e)
            e->prev->child = e->next;
        else
            e->prev->next = e->next;
        if (e->next != NULL)
            e->next->prev = e->prev;
        a->first = meld(a->first, below);
    }
    *e = (struct agenda_entry){0};
}

struct agenda_entry *agenda_take(struct agenda *a, uint64_t now, uint64_t entered)
{
    struct agenda_entry *e = a->first;
    if (e == NULL || e->due > now || e->order >= entered)
        return NULL;
    agenda_leave(a, e);
    return e;
}

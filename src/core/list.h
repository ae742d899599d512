/*
 * Intrusive doubly linked lists. Objects with equal timeouts stand in the order of
 * their start, so that the head is always the next one due.
 */
#ifndef POSTERN_CORE_LIST_H
#define POSTERN_CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define LIST_OWNER(node, type, member)                                                 \
    ((type *)(void *)((char *)(node)-offsetof(type, member)))

/* Of a list with something in it. */
#define LIST_FIRST(head, type, member) LIST_OWNER((head)->next, type, member)
#define LIST_LAST(head, type, member) LIST_OWNER((head)->prev, type, member)

/* `v` is each in turn, the first first; or, to remove the one that it is, with `next`.
 */
/* NOLINTBEGIN(bugprone-macro-parentheses): none may stand around a type */
#define LIST_EACH(type, v, head, member)                                               \
    for (type *v = LIST_FIRST(head, type, member); &(v)->member != (head);             \
         (v) = LIST_FIRST(&(v)->member, type, member))
#define LIST_EACH_REMOVABLE(type, v, next, head, member)                               \
    for (type *v = LIST_FIRST(head, type, member),                                     \
              *next = LIST_FIRST(&(v)->member, type, member);                          \
         &(v)->member != (head);                                                       \
         (v) = (next), (next) = LIST_FIRST(&(v)->member, type, member))
/* NOLINTEND(bugprone-macro-parentheses) */

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Adds to the end of `head`. */
static inline void list_push(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Adds before all others. */
static inline void list_push_first(struct list *head, struct list *node)
{
    list_push(head->next, node);
}

/* Harmless when the node stands in no list, as after list_init. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#endif

/* A list, looked through as a whole: it is short, and packets to it are few. */
#include "core/named.h"

#include <stddef.h>
#include <string.h>

static bool lives(const struct named_session *s, uint64_t now_us)
{
    return s->used_us != 0 && now_us - s->used_us < NAMED_LIFE_S * UINT64_C(1000000);
}

static bool is_same(const struct named_session *s, const struct named_session *other)
{
    return s->from != 0 && s->from == other->from && s->peer == other->peer &&
           addr_equal(&s->to, &other->to) && s->to.scope == other->to.scope;
}

/* What lives: of that peer, of it to strange addresses, and unanswered of all. */
struct counts {
    unsigned all, own, own_strange, own_unproven, unproven;
    bool known; /* the very session */
};

static struct counts count(const struct named *n, const struct named_session *s,
                           uint64_t now_us)
{
    struct counts c = {0};
    for (size_t i = 0; i < NAMED_MAX; i++) {
        const struct named_session *o = &n->of[i];
        if (!lives(o, now_us))
            continue;
        c.all++;
        c.unproven += !o->answered;
        if (o->peer != s->peer)
            continue;
        c.own++;
        c.own_strange += !o->vouched;
        c.own_unproven += !o->answered;
        c.known = c.known || is_same(o, s);
    }
    return c;
}

bool named_may(const struct named *n, const struct named_session *s, bool crowded,
               uint64_t now_us)
{
    struct counts c = count(n, s, now_us);
    if (c.known)
        return true;
    if (c.own >= NAMED_EACH || (!s->vouched && c.own_strange >= NAMED_STRANGE) ||
        c.all >= NAMED_MAX || c.unproven >= NAMED_UNPROVEN)
        return false;
    return c.own < NAMED_FIRST ||
           (!crowded && c.own_unproven < (NAMED_UNPROVEN - c.unproven) / 3);
}

void named_use(struct named *n, const struct named_session *s, uint64_t now_us)
{
    struct named_session *place = NULL;
    for (size_t i = 0; i < NAMED_MAX; i++) {
        struct named_session *o = &n->of[i];
        bool live = lives(o, now_us);
        if (live && is_same(o, s)) {
            o->used_us = now_us;
            return;
        }
        if (!live && place == NULL)
            place = o;
    }
    if (place == NULL)
        return;
    *place = *s;
    place->used_us = now_us;
    place->answered = false;
}

void named_answered(struct named *n, uint64_t peer, const struct addr *from)
{
    for (size_t i = 0; i < NAMED_MAX; i++)
        if (n->of[i].used_us != 0 && n->of[i].peer == peer &&
            addr_equal(&n->of[i].to, from))
            n->of[i].answered = true;
}

void named_forget(struct named *n)
{
    memset(n, 0, sizeof(*n));
}

/* Invariants of one device. */
#include "book.h"

#include <stdio.h>
#include <string.h>

#include "core/punch_wire.h"

enum { TRY_SLACK_US = 1000, WORDS_US = 20000 };

static void violated(const struct agent *a, const char *what)
{
    a->link->violated(a->link->ctx, a->name, what);
}

static struct tally *find(struct agent *a, const struct addr *addr)
{
    for (unsigned i = 0; i < a->tally_count; i++)
        if (addr_equal(&a->tallies[i].addr, addr))
            return &a->tallies[i];
    return NULL;
}

void book_reset(struct agent *a)
{
    for (unsigned i = 0; i < a->tally_count; i++)
        a->tallies[i] = (struct tally){.addr = a->tallies[i].addr};
    memset(a->asked, 0, sizeof(a->asked));
    memset(a->proven, 0, sizeof(a->proven));
    a->resets++;
    a->begun_us = a->punch.began_us;
}

void book_allow(struct agent *a, const struct addr *addr)
{
    if (find(a, addr) != NULL)
        return;
    if (a->tally_count == AGENT_TALLIES) {
        violated(a, "the checker's book is full");
        return;
    }
    a->tallies[a->tally_count++] = (struct tally){.addr = *addr};
}

void book_on_departure(struct agent *a, const struct punch_packet *p)
{
    struct tally *t = find(a, &p->to);
    struct punch_check c;
    a->punch_packets++;
    if (t == NULL) {
        violated(a, "a packet to an address that never was a candidate");
        return;
    }
    if (punch_check_decode(&c, a->punch_config.key, p->buf, p->len) != 0 ||
        c.controlling != a->client) {
        violated(a, "a packet that is not a check of this side");
        return;
    }
    t->total++;
    t->requests += !c.response;
    if (!t->answered && t->total > PUNCH_MAX_UNANSWERED)
        violated(a, "too many packets to an address that has not answered");
    if (t->requests > PUNCH_MAX_REQUESTS)
        violated(a, "too many requests since the last answer");
    if (c.response)
        return;
    unsigned slot = (c.id >> 32) % PUNCH_TRANSACTIONS;
    a->asked[slot].id = c.id;
    a->asked[slot].tally = (unsigned)(t - a->tallies);
    a->asked[slot].sock = p->sock;
}

/* A request never heard before, of a generation not left yet: no replay. */
static bool is_new(struct agent *a, const struct punch_check *c)
{
    uint64_t count = c->id >> 32;
    if (c->generation < a->heard_generation || count >= AGENT_HEARD)
        return false;
    if (c->generation > a->heard_generation) {
        a->heard_generation = c->generation;
        memset(a->heard, 0, sizeof(a->heard));
    }
    bool seen = a->heard[count];
    a->heard[count] = true;
    return !seen;
}

void book_on_arrival(struct agent *a, unsigned sock, const struct world_packet *p)
{
    struct punch_check c;
    if (punch_check_decode(&c, a->punch_config.key, p->buf, p->len) != 0 ||
        c.controlling == a->client)
        return;
    if (!c.response) {
        if (is_new(a, &c))
            book_allow(a, &p->from);
        return;
    }
    unsigned slot = (c.id >> 32) % PUNCH_TRANSACTIONS;
    struct tally *t = &a->tallies[a->asked[slot].tally];
    if (c.generation != punch_generation(&a->punch) || a->asked[slot].id != c.id ||
        a->asked[slot].sock != sock || !addr_equal(&t->addr, &p->from))
        return;
    a->asked[slot].id = 0;
    t->answered = true;
    t->total = t->requests = 0;
}

/* A pair proven now must lead to the peer and nobody else. */
static void check_proof(struct agent *a, const struct punch_pair *pair)
{
    struct tally *t = find(a, &pair->remote);
    if (t == NULL || !t->answered)
        violated(a, "proven by something that was no answer");
    if (a->w->now_us < a->doubt_until_us)
        return;
    int reached =
        world_probe(a->w, a->node[pair->sock], &a->local[pair->sock], &pair->remote);
    if (reached == NODE_NONE ||
        (reached != a->peer_node[0] && reached != a->peer_node[1]))
        violated(a, "proven, and yet the peer is not reached that way");
}

void book_check_arrival(struct agent *a, unsigned sock, const struct world_packet *p,
                        int taken)
{
    struct punch_check c;
    bool authentic = punch_check_decode(&c, a->punch_config.key, p->buf, p->len) == 0 &&
                     c.controlling != a->client;
    if (taken != (int)authentic)
        violated(a, authentic ? "a genuine check was not taken"
                              : "a packet without the key was taken");
    if (find(a, &p->from) == NULL && agent_knows(a, sock, &p->from))
        violated(a, "a stranger is known");
    for (unsigned i = 0; i < a->punch.pair_count; i++) {
        if (a->punch.pairs[i].proven && !a->proven[i])
            check_proof(a, &a->punch.pairs[i]);
        a->proven[i] = a->punch.pairs[i].proven;
    }
}

/* What a person would be told. Words change seldom, and to make them takes longer than
 * all else: not after each packet. */
static void check_words(struct agent *a, uint64_t now)
{
    char buf[LADDER_REASON_LEN];
    if (now < a->words_us + WORDS_US && now >= a->words_us)
        return;
    a->words_us = now;
    if (a->punching && punch_reason(&a->punch)[0] == '\0')
        violated(a, "no reason is given");
    for (unsigned k = 0; a->client && k < PATH_KIND_COUNT; k++)
        if (ladder_reason(&a->ladder, (enum path_kind)k, now, buf)[0] == '\0')
            violated(a, "a kind without a reason");
}

void book_check(struct agent *a)
{
    uint64_t now = a->w->now_us;
    check_words(a, now);
    if (agent_deadline_us(a) <= now)
        violated(a, "all that is due was done, and something is due");
    if (a->punching) {
        bool ended = punch_state(&a->punch) != PUNCH_CHECKING;
        if (!ended && now > a->punch.give_up_us + TRY_SLACK_US)
            violated(a, "an attempt ended in neither a path nor a reason");
        if ((punch_state(&a->punch) == PUNCH_PROVEN) != (punch_best(&a->punch) != NULL))
            violated(a, "proven without a pair");
    }
    if (!a->client)
        return;
    if (a->relay_up && ladder_selected_path(&a->ladder) == LADDER_NO_PATH)
        violated(a, "a relay stands and is not used");
    if (punch_best(&a->punch) != NULL && a->punching &&
        ladder_selected_kind(&a->ladder) != PATH_UDP_PUNCH)
        violated(a, "a direct path is proven and not used");
}

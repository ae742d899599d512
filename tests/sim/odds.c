/*
 * The odds of port prediction: two sides as core/predict.h plans them, before NATs that
 * allocate ports as netfilter does (random, low ports kept low), from a range, or
 * counting up; a thousand seeds for each pair. Prints the odds, ends with 1 when a pair
 * is below what docs/METHODS.md states, or an address gets more packets than it states.
 *
 *   odds [--seeds N]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/predict.h"
#include "core/rng.h"
#include "core/sessions.h"
#include "path/prediction.h"

enum { MAPPINGS = SESSIONS_AT_ONCE, SAMPLES = 3, RANGE = 256, KNOWN_SOCKET = 65535 };

enum nat_kind { KEEPS, RANDOM, RANDOM_LOW, FROM_RANGE, COUNTS, NAT_KIND_COUNT };

static const char *const names[NAT_KIND_COUNT] = {
    "keeps", "random", "random, low ports", "range", "counts up"};

/* A mapping that lets in from one port of the other side's address. */
struct mapping {
    unsigned socket;
    uint16_t peer_port, port;
};

struct side {
    enum nat_kind kind;
    struct predict_side shown;
    struct predict_plan plan;
    uint16_t range_first, counter, known_port; /* where STUN saw it last */
    struct mapping mappings[MAPPINGS];
    unsigned count, sent;
    uint64_t rng, seed;
};

static uint16_t draw(struct side *s, bool low)
{
    switch (s->kind) {
    case KEEPS:
        return s->known_port;
    case FROM_RANGE:
        return (uint16_t)(s->range_first + rng_below(&s->rng, RANGE));
    case COUNTS:
        return s->counter++;
    default:
        return low ? (uint16_t)(PREDICT_LOW_FIRST +
                                rng_below(&s->rng, PREDICT_LOW_COUNT))
                   : (uint16_t)(PREDICT_PORT_MIN +
                                rng_below(&s->rng, 65536 - PREDICT_PORT_MIN));
    }
}

/* The outside port of `socket` towards that port of the other side; 0: the process may
 * open no more sessions. */
static uint16_t map(struct side *s, unsigned socket, uint16_t peer_port)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->mappings[i].socket == socket && s->mappings[i].peer_port == peer_port)
            return s->mappings[i].port;
    struct mapping m = {socket, peer_port, 0};
    if (s->count == MAPPINGS)
        return 0;
    bool low = s->plan.low_bind && socket != KNOWN_SOCKET;
    m.port = s->kind == KEEPS
                 ? (uint16_t)(s->known_port + (socket == KNOWN_SOCKET ? 0 : 1 + socket))
                 : draw(s, low);
    s->mappings[s->count++] = m;
    return m.port;
}

/* One packet; true when the other side's NAT lets it in. */
static bool send_one(struct side *from, struct side *to, unsigned socket, uint16_t port)
{
    uint16_t source = map(from, socket, port);
    if (source == 0)
        return false;
    from->sent++;
    for (unsigned i = 0; i < to->count; i++)
        if (to->mappings[i].port == port && to->mappings[i].peer_port == source)
            return true;
    return false;
}

static bool hold(struct side *s, struct side *other)
{
    bool met = false;
    if (!s->plan.hold || s->plan.all_sockets)
        return false;
    for (unsigned i = 0; i < s->plan.sockets; i++)
        met = send_one(s, other, i, other->known_port) || met;
    return met;
}

static bool sweep(struct side *s, struct side *other)
{
    unsigned sockets = s->plan.all_sockets ? s->plan.sockets : 1;
    bool met = false;
    for (unsigned i = 0; s->plan.sweep && i < s->plan.probes; i++)
        for (unsigned k = 0; k < sockets && s->sent < PREDICT_PACKETS_MAX; k++)
            met = send_one(s, other, s->plan.all_sockets ? k : KNOWN_SOCKET,
                           predict_port(&s->plan, i, s->seed)) ||
                  met;
    return met;
}

static void set_up(struct side *s, enum nat_kind kind, uint64_t seed)
{
    uint16_t seen[SAMPLES];
    memset(s, 0, sizeof(*s));
    s->kind = kind;
    s->rng = seed;
    s->seed = rng_next(&s->rng);
    s->range_first = (uint16_t)(2000 + rng_below(&s->rng, 60000));
    s->counter = (uint16_t)(2000 + rng_below(&s->rng, 60000));
    s->known_port = (uint16_t)(2000 + rng_below(&s->rng, 60000));
    for (int i = 0; i < SAMPLES; i++) {
        seen[i] = draw(s, false);
        s->counter = (uint16_t)(s->counter + rng_below(&s->rng, 8)); /* other users */
    }
    s->known_port = seen[SAMPLES - 1];
    s->shown.mapping = kind == KEEPS ? NAT_MAPPING_ENDPOINT_INDEPENDENT
                                     : NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
    s->shown.low_ports = kind == RANDOM_LOW;
    s->shown.near =
        kind == KEEPS ? (struct predict_near){0} : predict_observe(seen, SAMPLES);
}

/* True when a packet of either side came through; false too when it is not tried. */
static bool run(enum nat_kind a_kind, enum nat_kind b_kind, uint64_t seed, bool *tried,
                unsigned *most)
{
    static struct side a, b; /* large */
    const char *why;
    bool met = false;
    set_up(&a, a_kind, seed * 2 + 1);
    set_up(&b, b_kind, seed * 2 + 2);
    *tried = predict_plan(&a.plan, &a.shown, &b.shown, &why) &&
             predict_plan(&b.plan, &b.shown, &a.shown, &why);
    if (*tried && a_kind == KEEPS) /* its plain checks have opened the known one */
        (void)map(&a, KNOWN_SOCKET, b.known_port);
    for (int turn = 0; *tried && turn < 2 && !met; turn++) {
        met = hold(&a, &b) || met;
        met = hold(&b, &a) || met;
        met = sweep(&a, &b) || met;
        met = sweep(&b, &a) || met;
    }
    unsigned sent = a.sent > b.sent ? a.sent : b.sent;
    *most = sent > *most ? sent : *most;
    return met;
}

/* In per mille; -1: not tried. docs/METHODS.md. */
static int stated(enum nat_kind a, enum nat_kind b)
{
    if (a == KEEPS && b == KEEPS)
        return -1;
    bool a_known = a != RANDOM, b_known = b != RANDOM;
    if (a != KEEPS && b != KEEPS && !(a_known && b_known))
        return -1;
    if (a != KEEPS && b != KEEPS) /* a sweep moves the counter on */
        return a == COUNTS || b == COUNTS ? 120 : 950;
    return 990;
}

int main(int argc, char **argv)
{
    unsigned seeds = argc == 3 && strcmp(argv[1], "--seeds") == 0
                         ? (unsigned)strtoul(argv[2], NULL, 10)
                         : 1000;
    unsigned most = 0, bad = 0;
    if (seeds == 0)
        return fprintf(stderr, "usage: odds [--seeds N]\n"), 2;
    printf("Prediction comes through, per mille of %u seeds (stated):\n", seeds);
    for (unsigned a = 0; a < NAT_KIND_COUNT; a++) {
        for (unsigned b = a; b < NAT_KIND_COUNT; b++) {
            unsigned met = 0, tries = 0;
            int want = stated((enum nat_kind)a, (enum nat_kind)b);
            for (uint64_t seed = 1; seed <= seeds; seed++) {
                bool tried;
                met += run((enum nat_kind)a, (enum nat_kind)b, seed, &tried, &most);
                tries += tried;
            }
            int odds = tries > 0 ? (int)(met * 1000 / seeds) : -1;
            bool good = want < 0 ? odds < 20 : odds >= want;
            bad += !good;
            printf("  %-18s x %-18s %5d (%d)%s\n", names[a], names[b], odds, want,
                   good ? "" : "  BELOW");
        }
    }
    printf("at most %u packets of one side in a round (%d)\n", most,
           PREDICT_PACKETS_MAX);
    return bad > 0 || most > PREDICT_PACKETS_MAX;
}

/*
 * Runs seeds: builds each one's world, lets broker, devices, weather and the hostile
 * act under virtual time, and holds the outcome against what theory promises.
 *
 *   sim [--seeds N] [--from S] [--verbose]
 *   sim --pairs N       N seeds of each pair of NATs
 *
 * A failing seed prints its number; `sim --seeds 1 --from SEED --verbose` shows it, one
 * of
 * --pairs with `--kinds CLIENT HOST`, as they were printed, too.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "agent.h"
#include "core/punch_wire.h"
#include "core/rng.h"
#include "scenario.h"

#define S 1000000ull

enum {
    LETTERS = 1024,
    CAPTURES = 32,
    START_US = 1000000,
    FIRST_TRY_US = 8000000, /* within it the first try has ended */
    SAME_TIME_MAX = 3000,
    LIE_EVERY_US = 50000,
    LIES_UNTIL_US = 4000000,
    SELECTS_MAX = 16,
};

/* What the broker carries. */
struct letter {
    uint64_t at_us, order;
    bool to_client, is_offer;
    struct offer offer;
    uint8_t buf[16];
    size_t len;
};

struct sim {
    struct scenario sc;
    struct world *w;
    struct agent agents[2];
    struct agent_link link;
    struct letter letters[LETTERS];
    unsigned letter_count;
    uint64_t order, rng, lie_at_us;
    bool broker_up, flushed, moved, downed, upped, failed, verbose;
    int broker, realm[2];
    struct world_packet captures[CAPTURES];
    unsigned capture_count;
    bool in_attack;
};

struct outcome {
    bool failed, direct;
    uint64_t relay_us, direct_us; /* after the start; 0: never */
};

static void fail(struct sim *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void fail(struct sim *s, const char *fmt, ...)
{
    va_list ap;
    if (s->failed && !s->verbose)
        return;
    s->failed = true;
    printf("seed %llu at %.6f s (%s - %s): ", (unsigned long long)s->sc.seed,
           (double)s->w->now_us / 1e6, net_kind_name(s->sc.kind[0]),
           net_kind_name(s->sc.kind[1]));
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* -------------------------------------------------------------------------- broker */

static void post(struct sim *s, struct letter *l)
{
    uint64_t from = s->w->now_us;
    if (!s->broker_up && s->sc.broker_up_us != UINT64_MAX)
        from = s->sc.broker_up_us; /* said again once the broker is back */
    l->at_us = from + s->sc.delay_us[0] + s->sc.delay_us[1] + 2 * s->sc.broker_delay_us;
    l->order = s->order++;
    if (s->letter_count == LETTERS) {
        fail(s, "too many letters under way");
        return;
    }
    s->letters[s->letter_count++] = *l;
}

static void link_offer(void *ctx, bool to_client, const struct offer *o)
{
    struct letter l = {.to_client = to_client, .is_offer = true, .offer = *o};
    post(ctx, &l);
}

static void link_relayed(void *ctx, bool to_client, const uint8_t *buf, size_t len)
{
    struct sim *s = ctx;
    struct letter l = {.to_client = to_client, .len = len};
    memcpy(l.buf, buf, len);
    if (s->broker_up)
        post(s, &l);
}

static uint64_t link_relay_setup(void *ctx)
{
    struct sim *s = ctx;
    return 2 * (s->sc.delay_us[0] + s->sc.delay_us[1] + 2 * s->sc.broker_delay_us);
}

static bool link_relay_works(void *ctx)
{
    return ((struct sim *)ctx)->broker_up;
}

static void link_violated(void *ctx, const char *who, const char *what)
{
    fail(ctx, "%s: %s", who, what);
}

static int next_letter(const struct sim *s)
{
    int best = -1;
    for (unsigned i = 0; i < s->letter_count; i++)
        if (best < 0 || s->letters[i].at_us < s->letters[best].at_us ||
            (s->letters[i].at_us == s->letters[best].at_us &&
             s->letters[i].order < s->letters[best].order))
            best = (int)i;
    return best;
}

static void deliver_letter(struct sim *s, int i)
{
    struct letter l = s->letters[i];
    struct agent *a = &s->agents[l.to_client ? 0 : 1];
    s->letters[i] = s->letters[--s->letter_count];
    if (s->verbose && l.is_offer)
        printf("%.6f offer to %s, generation %u, %u candidates\n",
               (double)s->w->now_us / 1e6, a->name, l.offer.generation, l.offer.count);
    if (l.is_offer)
        agent_on_offer(a, &l.offer);
    else if (s->broker_up)
        agent_on_relayed(a, l.buf, l.len);
}

/* ------------------------------------------------------------------------- network */

static void on_packet(void *ctx, int node, const struct world_packet *p)
{
    struct sim *s = ctx;
    struct agent *a = s->w->nodes[node].owner;
    if (s->verbose) {
        char from[ADDR_TEXT_LEN], to[ADDR_TEXT_LEN];
        printf("%.6f %s -> %s at node %d: %02x %02x (%zu)\n",
               (double)s->w->now_us / 1e6, addr_format(&p->from, from),
               addr_format(&p->to, to), node, p->buf[0], p->buf[1], p->len);
    }
    if (a != NULL) {
        agent_on_packet(a, node, p);
    } else if (node == s->broker && p->len == 9 && p->buf[0] == 0x01) {
        struct world_packet r = {.from = p->to, .to = p->from, .len = 9};
        memcpy(r.buf, p->buf, 9);
        r.buf[0] = 0x02;
        memcpy(r.buf + 9, &p->from, sizeof(p->from));
        r.len += sizeof(p->from);
        world_send(s->w, s->broker, &r);
    }
}

static struct addr victim_addr(struct sim *s)
{
    struct addr a = {.family = ADDR_V4, .port = 53, .ip = {192, 0, 2, 0}};
    a.ip[3] = (uint8_t)(1 + rng_below(&s->rng, 8));
    return a;
}

/* The eavesdropper sees all, has no key, and sends what it likes. */
static void on_seen(void *ctx, const struct world_packet *p)
{
    struct sim *s = ctx;
    if (p->buf[0] == PUNCH_FIRST_BYTE)
        s->captures[s->capture_count++ % CAPTURES] = *p;
    if (s->capture_count == 0 || rng_below(&s->rng, 4) != 0)
        return;
    unsigned known = s->capture_count < CAPTURES ? s->capture_count : CAPTURES;
    struct world_packet q = s->captures[rng_below(&s->rng, known)];
    struct addr t = q.from;
    switch (rng_below(&s->rng, 5)) {
    case 0:
        break; /* replayed as it was */
    case 1:
        q.from = victim_addr(s);
        break; /* replayed for a victim */
    case 2:
        q.from = q.to, q.to = t;
        break; /* reflected */
    case 3:
        q.from.port ^= 1;
        break; /* from nearly the right place */
    default:
        q.buf[rng_below(&s->rng, q.len)] ^= (uint8_t)(1 + rng_below(&s->rng, 255));
    }
    if (q.from.family == q.to.family)
        world_inject(s->w, &q);
}

/* A liar holds the key: checks and answers in the name of victims. */
static void lie(struct sim *s)
{
    struct agent *liar = &s->agents[s->sc.liar], *honest = &s->agents[!s->sc.liar];
    struct world_packet p = {.from = victim_addr(s)};
    struct punch_check c = {.controlling = liar->client,
                            .generation = liar->own.generation,
                            .response = rng_below(&s->rng, 2) == 0,
                            .seen = p.from};
    s->lie_at_us = s->w->now_us + LIE_EVERY_US;
    if (s->w->now_us > LIES_UNTIL_US)
        s->lie_at_us = UINT64_MAX;
    if (!liar->have_peer || liar->peer.count == 0)
        return;
    c.id = (c.response ? 1 + rng_below(&s->rng, 60) : 1000 + s->order++) << 32 |
           (rng_next(&s->rng) & (rng_below(&s->rng, 2) == 0 ? 0 : 0xffffffff));
    c.generation = c.response ? honest->own.generation : c.generation;
    p.to = liar->peer.cands[liar->peer.count - 1].addr;
    p.len = punch_check_encode(&c, liar->punch_config.key, p.buf);
    if (p.to.family == p.from.family)
        world_inject(s->w, &p);
}

/* -------------------------------------------------------------------------- set-up */

/* Builds the network of one side; `n` numbers the networks of a run. */
static void build_side(struct sim *s, int side, enum net_kind k, int n)
{
    char ext[32], outer[32], ip[32];
    struct agent *a = &s->agents[side];
    int realm = REALM_PUBLIC4;
    (void)snprintf(ext, sizeof(ext), "198.51.100.%d", 10 + n);
    (void)snprintf(outer, sizeof(outer), "203.0.113.%d", 10 + n);
    struct gate_config c =
        scenario_gate(&s->sc, k, side, k == NET_CGN ? "100.64.0.7" : ext);
    if (k == NET_CGN) {
        struct gate_config carrier = scenario_gate(&s->sc, k, side, outer);
        realm = world_add_gate(s->w, realm, &carrier);
    }
    if (k != NET_NONE)
        realm = world_add_gate(s->w, realm, &c);
    s->realm[side] = realm;
    if (c.translates)
        (void)snprintf(ip, sizeof(ip), "192.168.1.%d", n % 2 == 0 ? 2 : 3);
    else
        (void)snprintf(ip, sizeof(ip), "198.51.100.%d", 110 + n);
    int node = world_add_node(s->w, realm, ip, s->sc.delay_us[side], a);
    agent_attach(a, 0, node, (uint16_t)(4000 + 1000 * side + n));
}

static void build_v6(struct sim *s, int side)
{
    char ip[64];
    struct gate_config fw = scenario_gate(&s->sc, NET_FW, side, "::");
    int realm = world_add_gate(s->w, REALM_PUBLIC6, &fw);
    (void)snprintf(ip, sizeof(ip), "2001:db8:%d::1", side + 1);
    int node = world_add_node(s->w, realm, ip, s->sc.delay_us[side], &s->agents[side]);
    agent_attach(&s->agents[side], 1, node, (uint16_t)(4600 + side));
}

static void build_same_lan(struct sim *s)
{
    build_side(s, 0, s->sc.kind[0], 0);
    const struct node *first = &s->w->nodes[s->agents[0].node[0]];
    char ip[ADDR_TEXT_LEN];
    struct addr second = first->ip;
    second.ip[3]++;
    s->realm[1] = s->realm[0];
    int node = world_add_node(s->w, first->realm, addr_format_ip(&second, ip),
                              s->sc.delay_us[0], &s->agents[1]);
    agent_attach(&s->agents[1], 0, node, 5000);
}

static void tell_nodes(struct sim *s)
{
    for (int i = 0; i < 2; i++)
        memcpy(s->agents[i].peer_node, s->agents[!i].node, sizeof(s->agents[i].node));
}

static void build(struct sim *s)
{
    struct addr stun;
    s->broker =
        world_add_node(s->w, REALM_PUBLIC4, "203.0.113.1", s->sc.broker_delay_us, NULL);
    stun = s->w->nodes[s->broker].ip;
    stun.port = 3478;
    for (int i = 1; i <= 8; i++) {
        char ip[32];
        (void)snprintf(ip, sizeof(ip), "192.0.2.%d", i);
        (void)world_add_node(s->w, REALM_PUBLIC4, ip, 1000, NULL);
    }
    for (int i = 0; i < 2; i++) {
        struct agent *a = &s->agents[i];
        agent_init(a, s->w, &s->link, i == 0, s->sc.seed * 2 + (uint64_t)i);
        memset(a->punch_config.key, (int)(s->sc.seed % 251), PUNCH_KEY_LEN);
        a->punch_config.rtt_hint_us = (uint32_t)(link_relay_setup(s) / 2);
        a->stun = stun;
        a->liar = s->sc.liar == i;
        for (int v = 0; v < AGENT_LIES; v++)
            a->lies[v] = victim_addr(s);
    }
    if (s->sc.same_lan) {
        build_same_lan(s);
    } else {
        build_side(s, 0, s->sc.kind[0], 0);
        build_side(s, 1, s->sc.kind[1], 1);
    }
    for (int i = 0; i < 2; i++)
        if (s->sc.v6[i])
            build_v6(s, i);
    tell_nodes(s);
}

/* -------------------------------------------------------------------------- events */

static void doubt(struct sim *s)
{
    s->agents[0].doubt_until_us = s->agents[1].doubt_until_us = s->w->now_us + 3 * S;
}

static void move(struct sim *s)
{
    struct agent *a = &s->agents[s->sc.mover];
    int old = a->node[0];
    s->w->nodes[old].owner = NULL; /* the old address answers nothing any more */
    s->w->nodes[old].ip = (struct addr){0};
    build_side(s, s->sc.mover, s->sc.moved_to, 2 + s->sc.mover);
    tell_nodes(s);
    agent_on_moved(a);
    doubt(s);
}

static void events(struct sim *s)
{
    uint64_t now = s->w->now_us;
    if (!s->flushed && now >= s->sc.flush_us) {
        s->flushed = true;
        world_flush_gate(s->w, s->realm[s->sc.flushed]);
        doubt(s);
    }
    if (!s->moved && now >= s->sc.move_us) {
        s->moved = true;
        move(s);
    }
    if (!s->downed && now >= s->sc.broker_down_us) {
        s->downed = true;
        s->broker_up = false;
        agent_on_relay_lost(&s->agents[0]);
    }
    if (!s->upped && now >= s->sc.broker_up_us) {
        s->upped = true;
        s->broker_up = true;
    }
    if (s->sc.liar >= 0 && now >= s->lie_at_us)
        lie(s);
    if (now >= s->sc.idle_until_us && s->agents[0].active_until_us < s->sc.end_us)
        agent_set_active(&s->agents[0], s->sc.end_us);
}

static uint64_t next_event_us(const struct sim *s)
{
    uint64_t at = s->sc.end_us;
    const uint64_t all[] = {
        s->flushed ? UINT64_MAX : s->sc.flush_us,
        s->moved ? UINT64_MAX : s->sc.move_us,
        s->downed ? UINT64_MAX : s->sc.broker_down_us,
        s->upped ? UINT64_MAX : s->sc.broker_up_us,
        s->sc.liar >= 0 ? s->lie_at_us : UINT64_MAX,
        s->agents[0].active_until_us < s->sc.end_us ? s->sc.idle_until_us : UINT64_MAX,
        agent_deadline_us(&s->agents[0]),
        agent_deadline_us(&s->agents[1]),
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        at = all[i] < at ? all[i] : at;
    return at;
}

/* ---------------------------------------------------------------------------- runs */

static void check_relay_in_time(struct sim *s)
{
    const struct agent *c = &s->agents[0];
    uint64_t due = START_US + link_relay_setup(s);
    bool could = s->sc.broker_down_us > due;
    if (c->relay_asked_us != START_US)
        fail(s, "the relay waited to be asked for");
    bool direct_first = c->direct_selected_us != 0 && c->direct_selected_us <= due;
    if (could && !direct_first && c->relay_selected_us != due)
        fail(s, "the relay was to be in use at %.6f s, was at %.6f s",
             (double)due / 1e6, (double)c->relay_selected_us / 1e6);
}

static void check_end(struct sim *s)
{
    const struct agent *c = &s->agents[0];
    char why[LADDER_REASON_LEN];
    uint32_t path = paths_current(&c->net);
    enum path_kind used = path == PATHS_NONE      ? PATH_KIND_NONE
                          : path == RELAY_PATH_ID ? PATH_RELAY
                                                  : PATH_UDP_PUNCH;
    enum net_kind kind[2] = {s->sc.kind[0], s->sc.kind[1]};
    if (s->moved)
        kind[s->sc.mover] = s->sc.moved_to;
    enum theory t = scenario_theory(&s->sc, kind[0], kind[1]);
    bool fair = s->sc.liar < 0 && s->sc.loss_permille == 0;
    ladder_reason(&c->ladder, PATH_UDP_PUNCH, s->w->now_us, why);
    if (c->selects > SELECTS_MAX)
        fail(s, "%u changes of path: it cannot make up its mind", c->selects);
    if (used == PATH_KIND_NONE)
        fail(s, "no path at the end: %s", why);
    if (fair && t == THEORY_DIRECT && used != PATH_UDP_PUNCH)
        fail(s, "theory says direct, but: %s", why);
    if (fair && t == THEORY_RELAY && used == PATH_UDP_PUNCH)
        fail(s, "theory says relay, and yet it is direct");
    if (c->data_sent > 0 && c->data_answered == 0 && s->sc.loss_permille == 0)
        fail(s, "of %lu packets none was answered", c->data_sent);
}

/* Everything due at the present time, until nothing is. */
static void turn(struct sim *s)
{
    unsigned rounds = 0;
    for (;;) {
        int l = next_letter(s);
        if (++rounds > SAME_TIME_MAX) {
            fail(s, "time stands still");
            return;
        }
        events(s);
        if (l >= 0 && s->letters[l].at_us <= s->w->now_us)
            deliver_letter(s, l);
        else if (!world_step(s->w, s->w->now_us))
            break;
        agent_turn(&s->agents[0]);
        agent_turn(&s->agents[1]);
    }
    agent_turn(&s->agents[0]);
    agent_turn(&s->agents[1]);
}

/* `pair`: client's kind and host's, or -1 for those that the seed draws. */
static void run_seed(struct sim *s, uint64_t seed, int pair, struct outcome *out)
{
    struct world *w = s->w;
    bool verbose = s->verbose, relay_checked = false;
    struct agent_link link = {link_offer,       link_relayed,  link_relay_setup,
                              link_relay_works, link_violated, s};
    memset(s, 0, sizeof(*s));
    s->w = w;
    s->verbose = verbose;
    s->link = link;
    s->rng = seed ^ 0x5eed;
    s->broker_up = true;
    scenario_draw(&s->sc, seed);
    if (pair >= 0) {
        s->sc.kind[0] = (enum net_kind)(pair / NET_KIND_COUNT);
        s->sc.kind[1] = (enum net_kind)(pair % NET_KIND_COUNT);
    }
    world_reset(w, seed);
    w->ctx = s;
    w->on_packet = on_packet;
    w->on_seen = s->sc.eavesdropper ? on_seen : NULL;
    w->jitter_us = s->sc.jitter_us;
    w->loss_permille = s->sc.loss_permille;
    w->double_permille = s->sc.double_permille;
    build(s);
    agent_begin(&s->agents[0], 1u << PATH_UDP_PUNCH | 1u << PATH_RELAY);
    agent_set_active(&s->agents[0], s->sc.active_until_us);
    while (w->now_us < s->sc.end_us && !s->failed) {
        turn(s);
        if (!relay_checked && w->now_us > FIRST_TRY_US) {
            relay_checked = true;
            check_relay_in_time(s);
        }
        int l = next_letter(s);
        uint64_t at = next_event_us(s);
        at = world_next_us(w) < at ? world_next_us(w) : at;
        at = l >= 0 && s->letters[l].at_us < at ? s->letters[l].at_us : at;
        w->now_us = at > w->now_us ? at : w->now_us;
    }
    if (!s->failed)
        check_end(s);
    uint64_t direct = s->agents[0].direct_selected_us;
    out->failed = s->failed;
    out->direct = direct != 0 && direct < START_US + FIRST_TRY_US;
    out->relay_us = s->agents[0].relay_selected_us != 0
                        ? s->agents[0].relay_selected_us - START_US
                        : 0;
    out->direct_us = direct != 0 ? direct - START_US : 0;
}

/* --------------------------------------------------------------------------- table */

struct table {
    unsigned runs[NET_KIND_COUNT][NET_KIND_COUNT];
    unsigned direct[NET_KIND_COUNT][NET_KIND_COUNT];
    unsigned long all_runs, all_direct, all_relay_first;
    double direct_ms, relay_ms;
};

static void table_add(struct table *t, const struct scenario *sc,
                      const struct outcome *o)
{
    t->all_runs++;
    t->all_direct += o->direct;
    if (o->direct)
        t->direct_ms += (double)o->direct_us / 1e3;
    if (o->relay_us > 0) {
        t->all_relay_first++;
        t->relay_ms += (double)o->relay_us / 1e3;
    }
    if (sc->same_lan || (sc->v6[0] && sc->v6[1]))
        return; /* the NATs had no say */
    t->runs[sc->kind[0]][sc->kind[1]]++;
    t->direct[sc->kind[0]][sc->kind[1]] += o->direct;
}

static void table_print(const struct table *t)
{
    printf("\nDirect within %d s, in %% of the runs of each pair (mapping/filtering of "
           "client by host,\nall weathers and liars included); the others were relayed:"
           "\n\n%9s",
           FIRST_TRY_US / 1000000, "");
    for (int h = 0; h < NET_KIND_COUNT; h++)
        printf("%8s", net_kind_name((enum net_kind)h));
    printf("\n");
    for (int c = 0; c < NET_KIND_COUNT; c++) {
        printf("%-9s", net_kind_name((enum net_kind)c));
        for (int h = 0; h < NET_KIND_COUNT; h++)
            if (t->runs[c][h] > 0)
                printf("%8u", t->direct[c][h] * 100 / t->runs[c][h]);
            else
                printf("%8s", "-");
        printf("\n");
    }
    double direct = (double)t->all_direct, relay = (double)t->all_relay_first;
    printf(
        "\n%lu runs: %.0f %% direct after %.0f ms in the mean; a relay stood first in "
        "%.0f %% after %.0f ms\n",
        t->all_runs, 100.0 * direct / (double)t->all_runs,
        direct > 0 ? t->direct_ms / direct : 0, 100.0 * relay / (double)t->all_runs,
        relay > 0 ? t->relay_ms / relay : 0);
}

/* The number of a pair by its names, or -1. */
static int pair_of(const char *client, const char *host)
{
    int pair = -1;
    for (int p = 0; p < NET_KIND_COUNT * NET_KIND_COUNT; p++)
        if (strcmp(net_kind_name((enum net_kind)(p / NET_KIND_COUNT)), client) == 0 &&
            strcmp(net_kind_name((enum net_kind)(p % NET_KIND_COUNT)), host) == 0)
            pair = p;
    return pair;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: sim [--seeds N | --pairs N] [--from S] [--verbose] "
                          "[--kinds CLIENT HOST]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 1000, from = 1, failures = 0, each = 0;
    int pair = -1;
    static struct table t; /* main's own */
    struct sim *s = calloc(1, sizeof(*s));
    if (s == NULL || sodium_init() < 0)
        return 2;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
            from = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--pairs") == 0 && i + 1 < argc)
            each = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--verbose") == 0)
            s->verbose = true;
        else if (strcmp(argv[i], "--kinds") == 0 && i + 2 < argc &&
                 (pair = pair_of(argv[i + 1], argv[i + 2])) >= 0)
            i += 2;
        else
            return usage();
    }
    s->w = world_new();
    if (each > 0)
        seeds = each * NET_KIND_COUNT * NET_KIND_COUNT;
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct outcome o;
        run_seed(s, seed, each > 0 ? (int)((seed - from) / each) : pair, &o);
        failures += o.failed;
        table_add(&t, &s->sc, &o);
    }
    world_free(s->w);
    free(s);
    if (seeds > 0)
        table_print(&t);
    printf("%llu of %llu seeds failed\n", (unsigned long long)failures,
           (unsigned long long)seeds);
    return failures > 0;
}

/*
 * A new command that may use no relay, and a network that changes while it begins: the
 * host's device moves, the client's does, a router forgets. What was agreed on by then,
 * a pair of addresses that was proven perhaps, leads nowhere from then on, and the
 * session's handshake with it. It must get through all the same, soon. Each seed draws
 * NATs, wires and the moment; it is played in a process of its own.
 *
 *   moves [--seeds N] [--from S] [--keep] [--paths KINDS] [--times]
 *
 * --times: how long each command took after the change, in ms.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/rng.h"
#include "rig.h"
#include "seeds.h"

enum { CHANGES = 6, PLAY_S = 120, CALM_LOSS = 20 };

enum change {
    HOST_MOVES,
    CLIENT_MOVES, /* each once: then they are there */
    HOST_FORGETS,
    CLIENT_FORGETS,
    BOTH_FORGET,
    CHANGE_COUNT
};

static const char *const names[] = {
    "the host moves", "the client moves", "the host's router forgets",
    "the client's router forgets", "both routers forget"};

struct moves {
    uint64_t rng;
    struct rig rig;
    struct vnet_wire wire;
    const char *paths;
    bool moved[CHANGE_COUNT], times;
    uint64_t longest_us;
};

static unsigned draw(struct moves *m, unsigned from, unsigned to)
{
    return from + (unsigned)(rng_next(&m->rng) % (to - from + 1));
}

/* A pair of these finds a way by the book. */
static struct nat_config draw_nat(struct moves *m)
{
    return (struct nat_config){
        .translates = true,
        .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
        .filtering = (enum nat_filtering)draw(m, NAT_FILTERING_ENDPOINT_INDEPENDENT,
                                              NAT_FILTERING_ADDRESS_PORT_DEPENDENT),
        .ports = (enum nat_ports)draw(m, NAT_PORTS_PRESERVED, NAT_PORTS_RANDOM)};
}

static void strike(struct moves *m, enum change c)
{
    struct town *t = m->rig.town;
    m->moved[c] = true;
    if (c == HOST_MOVES)
        town_host_roams(t);
    if (c == CLIENT_MOVES)
        town_roam(t);
    if (c == HOST_FORGETS || c == BOTH_FORGET) {
        town_flush(&t->host);
        town_flush(&t->inn);
    }
    if (c == CLIENT_FORGETS || c == BOTH_FORGET) {
        town_flush(&t->client);
        town_flush(&t->cafe);
    }
}

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

/*
 * Whoever moves knows it, and needs a new connection to the broker, checks and a
 * handshake, of a few round trips each. A router that forgets is found out: by the host
 * within 5 s. Where much is lost some of it waits for a second try.
 */
static uint64_t limit_us(const struct moves *m, enum change c)
{
    uint64_t us = (c <= CLIENT_MOVES ? SECONDS(5) : SECONDS(8)) + 20 * m->wire.delay_us;
    return m->wire.loss_permille <= CALM_LOSS ? us : us + SECONDS(5);
}

static void call(struct moves *m, unsigned n)
{
    struct rig *r = &m->rig;
    struct house *h = r->town->house;
    struct program ping;
    enum change c = (enum change)draw(m, 0, CHANGE_COUNT - 1);
    if (m->moved[c] && c <= CLIENT_MOVES)
        c = (enum change)draw(m, HOST_FORGETS, BOTH_FORGET);
    uint64_t after_us = 1000ull * draw(m, 0, 400) + m->wire.delay_us * draw(m, 0, 24);
    program_start(&ping, r->town->client.machine, r->state[2],
                  "ping home --count 1 --paths %s", m->paths);
    (void)house_run(h, after_us, is_over, ping.task);
    strike(m, c);
    uint64_t struck_us = house_now_us(h);
    (void)house_run(h, limit_us(m, c), is_over, ping.task);
    uint64_t took_us = house_now_us(h) - struck_us;
    if (m->times)
        (void)printf("%llu ms: %s%s\n", (unsigned long long)(took_us / 1000), names[c],
                     m->wire.loss_permille > CALM_LOSS ? ", much is lost" : "");
    m->longest_us = took_us > m->longest_us ? took_us : m->longest_us;
    rig_check(
        r, task_is_over(ping.task),
        "command %u: %s after %llu ms, %llu us away, loss %u: waits for too long: %s",
        n, names[c], (unsigned long long)(after_us / 1000),
        (unsigned long long)m->wire.delay_us, m->wire.loss_permille, ping.text);
    /* A broker that missed the host first says so, and that ends the command. */
    rig_check(r, ping.result == 0 || ping.fault.code == POSTERN_ERR_UNREACHABLE,
              "command %u: %s after %llu ms: it failed: %s", n, names[c],
              (unsigned long long)(after_us / 1000), ping.fault.what);
    program_fini(&ping);
    (void)house_run(h, SECONDS(20), NULL, NULL);
}

static void play(void *ctx, uint64_t seed)
{
    struct moves *m = ctx;
    m->rng = seed * 2 + 1;
    struct nat_config host = draw_nat(m), client = draw_nat(m);
    m->wire = (struct vnet_wire){
        .delay_us = draw(m, 0, 3) ? draw(m, 200, 20000) : draw(m, 20000, 80000),
        .loss_permille = draw(m, 0, 2) ? draw(m, 0, 20) : draw(m, 20, 100)};
    struct rig_config c = {.town = {.seed = seed,
                                    .host_nat = &host,
                                    .client_nat = &client,
                                    .wire = &m->wire,
                                    .six = draw(m, 0, 1)}};
    rig_init(&m->rig, &c);
    (void)house_run(m->rig.town->house, SECONDS(20), NULL, NULL);
    for (unsigned i = 0; i < CHANGES; i++)
        call(m, i);
    (void)printf("seed %llu: longest %.1f s\n", (unsigned long long)seed,
                 (double)m->longest_us / 1e6);
    (void)fflush(stdout);
    scratch_remove(m->rig.dir);
    _exit(0);
}

int main(int argc, char **argv)
{
    static struct moves m = {.paths = "udp-punch"};
    struct seeds s = {.count = 12, .from = 1, .play_s = PLAY_S};
    for (int i = 1; i < argc; i++) {
        if (seeds_take(&s, argc, argv, &i))
            continue;
        m.times = m.times || strcmp(argv[i], "--times") == 0;
        if (i + 1 < argc && strcmp(argv[i], "--paths") == 0)
            m.paths = argv[++i];
    }
    return seeds_play(&s, play, &m);
}

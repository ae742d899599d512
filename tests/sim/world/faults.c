/*
 * Seeds: each draws two NATs, links and a few faults under a stream between the real
 * client and host, and then it must hold that
 *   - the bytes that came back are those that were sent, to the last, or what broke the
 *     stream was an error that the drawn faults may cause;
 *   - between two arrivals lies no more than the fault's own time and PATIENCE_US;
 *   - at the end every connection, descriptor, timer and task is where it began.
 *
 *   faults [--seeds N] [--from S] [--verbose]
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "rig.h"

enum { FAULTS_MAX = 4, CHUNKS_MIN = 200, CHUNK_BYTES = 8000 };

/* What a person would wait before pressing a key: a way that died is found out, and
 * another one taken, or made. */
#define PATIENCE_US SECONDS(20)

enum fault_kind {
    FAULT_FLUSH_HOST, /* a router restarts */
    FAULT_FLUSH_CLIENT,
    FAULT_FLUSH_BOTH,
    FAULT_ROAM,            /* the client's device goes to another network */
    FAULT_CABLE_CLIENT,    /* out, and in again after a while */
    FAULT_OUTAGE_HOST,     /* the host's access loses everything for a while */
    FAULT_OUTAGE_BROKER,   /* so does the broker's */
    FAULT_BROKER_RESTARTS, /* the program, by its administrator */
    FAULT_KINDS
};

static const char *const fault_names[] = {
    "host's router restarts",  "client's router restarts",
    "both routers restart",    "client roams",
    "client's cable is out",   "host's access is dead",
    "broker's access is dead", "broker restarts",
};

struct scene {
    struct nat_config host_nat, client_nat;
    struct vnet_wire wire;
    struct {
        enum fault_kind kind;
        uint64_t after_us, lasts_us;
    } faults[FAULTS_MAX];
    unsigned fault_count;
    size_t bytes;
    unsigned pause_ms;
};

static void draw_nat(struct nat_config *c, uint64_t *rng)
{
    *c = (struct nat_config){
        .translates = true,
        .mapping = (enum nat_mapping)(NAT_MAPPING_ENDPOINT_INDEPENDENT +
                                      (int)rng_below(rng, 3)),
        .filtering = (enum nat_filtering)(NAT_FILTERING_ENDPOINT_INDEPENDENT +
                                          (int)rng_below(rng, 3)),
        .ports = (enum nat_ports)rng_below(rng, 4),
        .hairpins = rng_below(rng, 2) == 0,
        .inbound_refreshes = rng_below(rng, 2) == 0,
        .rejects_tcp = rng_below(rng, 2) == 0,
        .blocks_udp = rng_below(rng, 8) == 0,
        .udp_us = SECONDS(20 + rng_below(rng, 160)),
        .range_size = 512,
        .clamps = rng_below(rng, 2) == 0,
    };
}

static void draw(struct scene *s, uint64_t seed)
{
    uint64_t rng = seed * 2654435761u + 17;
    memset(s, 0, sizeof(*s));
    draw_nat(&s->host_nat, &rng);
    draw_nat(&s->client_nat, &rng);
    s->wire = (struct vnet_wire){.delay_us = 1000 + rng_below(&rng, 60000),
                                 .jitter_us = rng_below(&rng, 5000),
                                 .loss_permille = (unsigned)rng_below(&rng, 15),
                                 .double_permille = (unsigned)rng_below(&rng, 5),
                                 .reorder_permille = (unsigned)rng_below(&rng, 5)};
    if (rng_below(&rng, 3) == 0)
        s->wire.rate_bps = 2000000 + rng_below(&rng, 20000000);
    if (rng_below(&rng, 4) == 0) {
        s->wire.mtu = (uint16_t)(1280 + rng_below(&rng, 220));
        s->wire.mtu_silent = rng_below(&rng, 2) == 0;
    }
    s->fault_count = 1 + (unsigned)rng_below(&rng, FAULTS_MAX);
    for (unsigned i = 0; i < s->fault_count; i++) {
        s->faults[i].kind = (enum fault_kind)rng_below(&rng, FAULT_KINDS);
        s->faults[i].after_us = SECONDS(3) + rng_below(&rng, SECONDS(25));
        s->faults[i].lasts_us = SECONDS(1) + rng_below(&rng, SECONDS(15));
    }
    s->bytes = CHUNK_BYTES * (CHUNKS_MIN + rng_below(&rng, 200));
    s->pause_ms = 100 + (unsigned)rng_below(&rng, 200);
}

static void tell(uint64_t seed, const struct scene *s)
{
    (void)printf("seed %llu: NATs %d/%d/%d%s%s and %d/%d/%d%s%s, %llu us, loss %u, "
                 "rate %llu, mtu %u%s\n",
                 (unsigned long long)seed, s->host_nat.mapping, s->host_nat.filtering,
                 s->host_nat.ports, s->host_nat.blocks_udp ? " no UDP" : "",
                 s->host_nat.rejects_tcp ? " RST" : "", s->client_nat.mapping,
                 s->client_nat.filtering, s->client_nat.ports,
                 s->client_nat.blocks_udp ? " no UDP" : "",
                 s->client_nat.rejects_tcp ? " RST" : "",
                 (unsigned long long)s->wire.delay_us, s->wire.loss_permille,
                 (unsigned long long)s->wire.rate_bps, s->wire.mtu,
                 s->wire.mtu_silent ? " in silence" : "");
    for (unsigned i = 0; i < s->fault_count; i++)
        (void)printf(
            "  after %.1f s: %s, %.1f s\n", (double)s->faults[i].after_us / 1e6,
            fault_names[s->faults[i].kind], (double)s->faults[i].lasts_us / 1e6);
    (void)fflush(stdout);
}

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

static void set_dead(struct vnet_iface *i, unsigned permille)
{
    i->in.loss_permille = i->out.loss_permille = permille;
}

static void lasting(struct rig *r, enum fault_kind kind, bool begins,
                    const struct scene *s)
{
    struct town *t = r->town;
    unsigned usual = s->wire.loss_permille;
    if (kind == FAULT_CABLE_CLIENT)
        vnet_set_down(t->client.device, begins);
    else if (kind == FAULT_OUTAGE_HOST)
        set_dead(t->host.outer, begins ? 1000 : usual);
    else
        set_dead(t->broker->node->ifaces[0], begins ? 1000 : 0);
}

/* One fault, and the time that it took. */
static void strike(struct rig *r, unsigned i, const struct scene *s,
                   struct task *talker)
{
    struct town *t = r->town;
    enum fault_kind kind = s->faults[i].kind;
    if (house_run(t->house, s->faults[i].after_us, is_over, talker))
        return;
    switch (kind) {
    case FAULT_ROAM:
        town_roam(t);
        return;
    case FAULT_FLUSH_HOST:
    case FAULT_FLUSH_BOTH:
        town_flush(&t->host);
        if (kind == FAULT_FLUSH_HOST)
            return;
        break;
    case FAULT_BROKER_RESTARTS:
        rig_restart_broker(r, s->faults[i].lasts_us);
        return;
    default:
        break;
    }
    if (kind == FAULT_FLUSH_CLIENT || kind == FAULT_FLUSH_BOTH) {
        town_flush(&t->client);
        town_flush(&t->cafe);
        return;
    }
    lasting(r, kind, true, s);
    (void)house_run(t->house, s->faults[i].lasts_us, NULL, NULL);
    lasting(r, kind, false, s);
}

static uint64_t patience(const struct scene *s)
{
    uint64_t us = PATIENCE_US;
    for (unsigned i = 0; i < s->fault_count; i++)
        if (s->faults[i].kind >= FAULT_CABLE_CLIENT)
            us += s->faults[i].lasts_us;
    return us;
}

struct outcome {
    uint64_t trace, longest_us;
};

static struct outcome run(uint64_t seed, bool verbose)
{
    struct scene s;
    struct rig r;
    draw(&s, seed);
    if (verbose)
        tell(seed, &s);
    struct rig_config c = {.seed = seed,
                           .host_nat = &s.host_nat,
                           .client_nat = &s.client_nat,
                           .wire = &s.wire};
    rig_init(&r, &c);
    rig_connect(&r);
    struct talker t = {
        .port = LOCAL_PORT, .seed = seed, .bytes = s.bytes, .pause_ms = s.pause_ms};
    talker_start(&t, r.town->client.machine);
    for (unsigned i = 0; i < s.fault_count; i++)
        strike(&r, i, &s, t.task);
    bool over = house_run(r.town->house, SECONDS(900), is_over, t.task);
    rig_check(&r, over, "the stream neither ends nor goes on: %zu of %zu bytes", t.got,
              t.bytes);
    rig_check(&r, t.error == 0, "the stream broke after %zu of %zu bytes: %s", t.got,
              t.bytes, strerror(t.error));
    rig_check(&r, t.got == t.bytes, "%zu of %zu bytes", t.got, t.bytes);
    rig_check(&r, t.longest_us <= patience(&s), "silence of %.1f s",
              (double)t.longest_us / 1e6);
    (void)task_join(t.task);
    rig_disconnect(&r);
    struct outcome o = {house_trace(r.town->house), t.longest_us};
    if (verbose)
        (void)printf("  longest silence %.1f s, after %.1f s in all\n",
                     (double)t.longest_us / 1e6,
                     (double)house_now_us(r.town->house) / 1e6);
    rig_fini(&r);
    return o;
}

/* What was found once: these are run before all others. */
static const uint64_t kept[] = {
    5258,  /* the pair broke under the end of the handshake, and no path was tried */
    30139, /* the answer that the host lives was lost once, on a TCP path of 240 ms */
    31369, /* its router forgot the host, which found out after 5 s */
};

int main(int argc, char **argv)
{
    uint64_t seeds = 20, from = 0;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
            seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
            from = strtoull(argv[++i], NULL, 10);
    }
    uint64_t worst = 0;
    for (size_t i = 0; from == 0 && i < sizeof(kept) / sizeof(kept[0]); i++)
        (void)run(kept[i], verbose);
    from += from == 0;
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct outcome o = run(seed, verbose);
        worst = o.longest_us > worst ? o.longest_us : worst;
        if (seed == from && run(seed, false).trace != o.trace) {
            (void)fprintf(stderr, "seed %llu runs otherwise the second time\n",
                          (unsigned long long)seed);
            return 1;
        }
    }
    (void)printf("%llu seeds, longest silence %.1f s\n", (unsigned long long)seeds,
                 (double)worst / 1e6);
    return 0;
}

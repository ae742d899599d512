/*
 * Heavy loss for seconds, and then a clean network: every flow of a session must soon
 * go on, and new connections be answered. Each seed draws what is lost, where and for
 * how long; it is played in a process of its own.
 *
 *   storms [--seeds N] [--from S] [--keep] [--flushes]
 *
 * With --flushes both NATs have random ports, another for each remote address, and the
 * host's forgets everything while packets are lost.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/rng.h"
#include "rig.h"
#include "seeds.h"

enum { FLOWS = 5, STORMS = 4, PLAY_S = 120 };
#define STEP_US 100000ull
#define CALM_US SECONDS(8)
#define PATIENCE_US SECONDS(4)

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

static const struct nat_config strict_nat = {
    .translates = true,
    .mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
    .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
    .ports = NAT_PORTS_RANDOM};

struct storm {
    uint64_t rng;
    struct rig rig;
    struct talker flows[FLOWS];
    struct talker brief; /* one connection after the other */
    bool has_brief;
    bool gale; /* bulk too, and loss of another sort */
    uint64_t brief_since_us, longest_us, since_us[FLOWS];
    size_t got[FLOWS];
};

static unsigned draw(struct storm *s, unsigned from, unsigned to)
{
    return from + (unsigned)(rng_next(&s->rng) % (to - from + 1));
}

static void begin_brief(struct storm *s)
{
    struct town *t = s->rig.town;
    s->brief = (struct talker){
        .port = LOCAL_PORT, .seed = rng_next(&s->rng), .bytes = draw(s, 1, 30000)};
    s->brief_since_us = house_now_us(t->house);
    talker_start(&s->brief, t->client.machine);
    s->has_brief = true;
}

/* No flow is silent for longer than is borne. */
static void look(struct storm *s, uint64_t clean_us)
{
    uint64_t now_us = house_now_us(s->rig.town->house);
    for (int i = 0; i < FLOWS; i++) {
        if (s->flows[i].got != s->got[i] || s->since_us[i] < clean_us)
            s->since_us[i] = s->flows[i].got != s->got[i] ? now_us : clean_us;
        s->got[i] = s->flows[i].got;
        uint64_t us = now_us - s->since_us[i];
        if (us > s->longest_us)
            s->longest_us = us;
        rig_check(&s->rig, us < PATIENCE_US,
                  "flow %d stands still at %.1f s: %zu bytes", i, (double)now_us / 1e6,
                  s->got[i]);
        rig_check(&s->rig, !task_is_over(s->flows[i].task), "flow %d broke: %s", i,
                  strerror(s->flows[i].error));
    }
    uint64_t since = s->brief_since_us > clean_us ? s->brief_since_us : clean_us;
    rig_check(&s->rig,
              task_is_over(s->brief.task) || now_us < since + PATIENCE_US + SECONDS(1),
              "a connection of %zu bytes is not served at %.1f s, got %zu",
              s->brief.bytes, (double)now_us / 1e6, s->brief.got);
}

static void pass(struct storm *s, uint64_t us, bool calm)
{
    struct house *h = s->rig.town->house;
    uint64_t begin_us = house_now_us(h);
    while (house_now_us(h) < begin_us + us) {
        (void)house_run(h, STEP_US, NULL, NULL);
        if (task_is_over(s->brief.task) &&
            house_now_us(h) >= s->brief_since_us + 5 * STEP_US) {
            (void)task_join(s->brief.task);
            begin_brief(s);
        }
        if (calm)
            look(s, begin_us);
    }
}

static void set_loss(struct vnet_iface *i, unsigned in, unsigned out, bool udp)
{
    i->in.loss_permille = udp ? 0 : in;
    i->out.loss_permille = udp ? 0 : out;
    i->in.udp_loss_permille = udp ? in : 0;
    i->out.udp_loss_permille = udp ? out : 0;
}

/* Phases of loss, of UDP alone or of all, at one device, and at the broker. */
static void strike(struct storm *s)
{
    static const unsigned mostly[] = {0, 250, 350, 350, 600, 1000};
    static const unsigned rarely[] = {0, 0, 0, 250, 1000};
    struct town *t = s->rig.town;
    struct vnet_iface *i = draw(s, 0, 1) ? t->client.device : t->host.device;
    struct vnet_iface *b = t->broker->node->ifaces[0];
    for (unsigned n = draw(s, 2, 7); n > 0; n--) {
        bool udp = draw(s, 0, 2) > 0;
        unsigned permille = mostly[draw(s, 0, 5)], ways = draw(s, 0, 3);
        set_loss(i, ways != 1 ? permille : 0, ways != 2 ? permille : 0, udp);
        permille = rarely[draw(s, 0, 4)];
        set_loss(b, permille, permille, false);
        pass(s, STEP_US * draw(s, 3, 25), false);
    }
    set_loss(i, 0, 0, false);
    set_loss(b, 0, 0, false);
    pass(s, CALM_US, true);
}

/* Loss at random at both devices at once and for long, so that windows are full of what
 * was lost, again and again. */
static void blow(struct storm *s)
{
    struct town *t = s->rig.town;
    struct vnet_iface *at[] = {t->client.device, t->host.device};
    unsigned permille = draw(s, 100, 250);
    bool udp = draw(s, 0, 3) == 0;
    for (int i = 0; i < 2; i++)
        set_loss(at[i], permille, permille, udp);
    pass(s, STEP_US * draw(s, 50, 100), false);
    for (int i = 0; i < 2; i++)
        set_loss(at[i], 0, 0, false);
    pass(s, CALM_US, true);
}

/* The host's router forgets everything, in the middle of heavy loss on its line. */
static void flush(struct storm *s)
{
    struct town *t = s->rig.town;
    struct vnet_iface *i = t->host.device;
    unsigned before = draw(s, 0, 10), permille = draw(s, 300, 500);
    set_loss(i, permille, permille, false);
    pass(s, STEP_US * before, false);
    town_flush(&t->host);
    pass(s, STEP_US * draw(s, 10, 80), false);
    set_loss(i, 0, 0, false);
    pass(s, CALM_US, true);
}

/* Half of all sessions are of near peers, which have another congestion control. */
static void set_distance(void *ctx, struct rig *r)
{
    struct storm *s = ctx;
    struct vnet_iface *i = r->town->broker->node->ifaces[0];
    i->in.delay_us = i->out.delay_us = draw(s, 0, 1) ? 100 : 5000;
}

static void play(void *ctx, uint64_t seed)
{
    bool flushes = *(const bool *)ctx;
    const struct nat_config *nat = flushes ? &strict_nat : &usual_nat;
    static struct storm s;
    s.rng = seed * 2 + 1;
    s.gale = seed % 3 == 0;
    struct vnet_wire wire = {.delay_us = draw(&s, 0, 3) ? 50 : draw(&s, 200, 40000)};
    struct rig_config c = {
        .on_town = set_distance,
        .ctx = &s,
        .town = {.seed = seed, .host_nat = nat, .client_nat = nat, .wire = &wire}};
    rig_init(&s.rig, &c);
    program_start(&s.rig.connect, s.rig.town->client.machine, s.rig.state[2],
                  "connect home:echo 127.0.0.1:%d --paths udp-punch,relay", LOCAL_PORT);
    char unused[PROGRAM_FIELD];
    rig_await(&s.rig, &s.rig.connect, "ready", NULL, unused, SECONDS(60));
    for (int i = 0; i < FLOWS; i++) {
        static const unsigned pauses[FLOWS] = {200, 200, 100, 300, 500};
        static const unsigned gale[FLOWS] = {20, 40, 200, 300, 500};
        s.flows[i] = (struct talker){.port = LOCAL_PORT,
                                     .seed = rng_next(&s.rng),
                                     .bytes = 1000000000,
                                     .pause_ms = s.gale ? gale[i] : pauses[i]};
        talker_start(&s.flows[i], s.rig.town->client.machine);
    }
    begin_brief(&s);
    pass(&s, SECONDS(3), false);
    for (int i = 0; i < STORMS; i++)
        if (flushes)
            flush(&s);
        else if (s.gale)
            blow(&s);
        else
            strike(&s);
    (void)printf("seed %llu: longest %.1f s\n", (unsigned long long)seed,
                 (double)s.longest_us / 1e6);
    (void)fflush(stdout);
    scratch_remove(s.rig.dir);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct seeds s = {.count = 12, .from = 1, .play_s = PLAY_S};
    bool flushes = false;
    for (int i = 1; i < argc; i++)
        if (!seeds_take(&s, argc, argv, &i))
            flushes = flushes || strcmp(argv[i], "--flushes") == 0;
    return seeds_play(&s, play, &flushes);
}

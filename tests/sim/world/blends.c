/*
 * UDP beside streams in one session, whose line is slow for a while, whose host stands
 * still, or whose device leaves a slow network for a quick one. As soon as the cause is
 * over every stream goes on, one that is new as well, and all the line is used again:
 * the datagrams, which wait for nobody, leave the streams their share. Each seed draws
 * what happens and how much UDP there is; it is played in a process of its own.
 *
 *   blends [--seeds N] [--from S] [--keep]
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/rng.h"
#include "rig.h"
#include "seeds.h"

enum { PLAY_S = 150, ASK_MS = 100, ROUNDS = 2 };
enum { WIDE_QUEUE_BYTES = 1 << 20 }; /* the TCP of this world repeats slowly */
enum { THIN_BPS = 128000, WIDE_BPS = 10000000, BULK_BYTES = 1 << 30 };
/* Of the line both ways, beside all else, after 5 s: it carries 960 mostly. */
enum { ENOUGH_BYTES_S = 200000 };
#define STEP_US 100000ull
#define SOON_US SECONDS(5)
#define LATER_US SECONDS(5) /* and then for so long */
#define CALM_US SECONDS(2)  /* the longest silence by then */

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

enum kind { CLIENT_SLOW, HOST_SLOW, STOPPED, MOVED, KINDS };

static const char *const names[KINDS] = {"the client's line is slow",
                                         "the host's line is slow",
                                         "the host stands still", "slow, then moved"};

enum { STREAMS = 3 }; /* the last is begun when the cause is over */

static struct blends {
    uint64_t rng;
    struct rig rig;
    struct program connect;
    struct talker streams[STREAMS];
    size_t size, datagrams; /* each, and how many at once */
    size_t heard;
    unsigned queue_bytes; /* before the slow line */
} all;

static unsigned draw(unsigned from, unsigned to)
{
    return from + (unsigned)(rng_next(&all.rng) % (to - from + 1));
}

static void *ask(void *arg)
{
    static const uint8_t question[2000];
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(LOCAL_PORT + 1),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint8_t buf[2048];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)arg;
    for (;;) {
        for (size_t i = 0; i < all.datagrams; i++)
            (void)sendto(fd, question, all.size, 0, (struct sockaddr *)&at, sizeof(at));
        (void)usleep(ASK_MS * 1000);
        while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
            all.heard++;
    }
    return NULL;
}

static void set_rate(struct vnet_iface *i, uint64_t bps)
{
    i->in.rate_bps = i->out.rate_bps = bps;
    i->in.queue_bytes = i->out.queue_bytes =
        bps == THIN_BPS ? all.queue_bytes : WIDE_QUEUE_BYTES;
}

static void pass(uint64_t us)
{
    (void)house_run(all.rig.town->house, us, NULL, NULL);
}

/* What makes the session slow; when it returns the network is as quick as ever. */
static void suffer(enum kind kind)
{
    struct town *t = all.rig.town;
    struct vnet_iface *line = kind == HOST_SLOW ? t->host.device : t->client.device;
    if (kind == STOPPED) {
        group_stop(t->house, task_group(all.rig.serve.task));
        pass(SECONDS(draw(4, 15)));
        group_stop(t->house, 0);
        return;
    }
    set_rate(line, THIN_BPS);
    pass(STEP_US * (kind == MOVED ? draw(40, 80) : draw(15, 40)));
    if (kind == MOVED)
        town_roam(t);
    set_rate(line, WIDE_BPS);
}

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

static void end(struct talker *t)
{
    t->bytes = t->sent;
    (void)house_run(all.rig.town->house, SECONDS(20), is_over, t->task);
    rig_check(&all.rig, task_is_over(t->task), "a connection does not end");
}

static void begin(struct talker *t, size_t bytes, unsigned pause_ms)
{
    *t = (struct talker){.port = LOCAL_PORT,
                         .seed = 1 + draw(0, 1000),
                         .bytes = bytes,
                         .pause_ms = pause_ms};
    talker_start(t, all.rig.town->client.machine);
}

/* Silent for how long, at most since then? */
static uint64_t silent_us(const struct talker *t, uint64_t since_us)
{
    uint64_t from_us = t->last_us > since_us ? t->last_us : since_us;
    return house_now_us(all.rig.town->house) - from_us;
}

/* All streams of before and a new one go on from SOON_US on. */
static void look(const char *name)
{
    struct house *h = all.rig.town->house;
    uint64_t healed_us = house_now_us(h), longest_us = 0;
    begin(&all.streams[STREAMS - 1], BULK_BYTES, 400);
    while (house_now_us(h) < healed_us + SOON_US + LATER_US) {
        pass(STEP_US);
        bool soon = house_now_us(h) < healed_us + SOON_US;
        uint64_t since_us = soon ? healed_us : healed_us + SOON_US - CALM_US;
        for (int i = 0; i < STREAMS; i++) {
            uint64_t us = silent_us(&all.streams[i], since_us);
            longest_us = us > longest_us ? us : longest_us;
            rig_check(&all.rig, all.streams[i].error == 0 && (soon || us < CALM_US),
                      "%s: stream %d is silent for %.1f s", name, i,
                      (double)silent_us(&all.streams[i], healed_us) / 1e6);
        }
    }
    (void)printf("seed %llu: %s: the longest silence %.1f s\n",
                 (unsigned long long)all.rig.seed, name, (double)longest_us / 1e6);
    end(&all.streams[STREAMS - 1]);
}

/* Is the line used again? */
static void measure(const char *name)
{
    struct talker bulk;
    begin(&bulk, BULK_BYTES, 0);
    pass(SOON_US);
    size_t before = bulk.got;
    pass(LATER_US);
    size_t rate = (bulk.got - before) / (LATER_US / SECONDS(1));
    (void)printf("seed %llu: %s: then %zu KB/s\n", (unsigned long long)all.rig.seed,
                 name, rate / 1000);
    (void)fflush(stdout);
    rig_check(&all.rig, rate >= ENOUGH_BYTES_S, "%s: then only %zu KB/s", name,
              rate / 1000);
    end(&bulk);
}

static void play(void *ctx, uint64_t seed)
{
    static const char *const paths[] = {"udp-punch,relay", "relay", "tcp-punch,relay"};
    static const size_t sizes[] = {400, 1000, 1400, 1400};
    char unused[PROGRAM_FIELD];
    (void)ctx;
    all.rng = seed * 2 + 1;
    struct vnet_wire wire = {.delay_us = draw(15000, 25000)};
    struct rig_config c = {.town = {.seed = seed,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    rig_init(&all.rig, &c);
    struct town *t = all.rig.town;
    enum kind kind = (enum kind)(seed % KINDS);
    all.queue_bytes = draw(6400, 16000);
    all.size = sizes[draw(0, 3)];
    all.datagrams = (10000 + draw(0, 57500)) / 10 / all.size + 1;
    const char *way = paths[draw(0, 3) % 3];
    (void)printf("seed %llu: %s, %s, UDP %zu x %zu bytes\n", (unsigned long long)seed,
                 names[kind], way, all.datagrams, all.size);
    set_rate(t->client.device, WIDE_BPS);
    set_rate(t->host.device, WIDE_BPS);
    program_start(&all.connect, t->client.machine, all.rig.state[2],
                  "connect home:echo 127.0.0.1:%d home:clock 127.0.0.1:%d --paths %s",
                  LOCAL_PORT, LOCAL_PORT + 1, way);
    rig_await(&all.rig, &all.connect, "ready", NULL, unused, SECONDS(60));
    task_detach(task_start(t->client.machine, ask, NULL));
    begin(&all.streams[0], BULK_BYTES, 400);
    begin(&all.streams[1], BULK_BYTES, 300);
    pass(SECONDS(5) + draw(0, 1000000));
    for (int i = 0; i < (kind == MOVED ? 1 : ROUNDS); i++) {
        suffer(kind);
        look(names[kind]);
        measure(names[kind]);
    }
    scratch_remove(all.rig.dir);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct seeds s = {.count = 16, .from = 1, .play_s = PLAY_S};
    for (int i = 1; i < argc; i++)
        (void)seeds_take(&s, argc, argv, &i);
    return seeds_play(&s, play, NULL);
}

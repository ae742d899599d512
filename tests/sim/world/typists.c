/*
 * Who types beside bulk on a slow line, all in one session, both ways full: while
 * nothing changes, after the device has moved, after a router forgot, and when the line
 * becomes slow in the middle of it. A byte and its echo must come back soon all the
 * same, since a line of 128 kbit/s is filled for a second by 16 KB. Each seed draws the
 * kind of path and the moments; it is played in a process of its own.
 *
 *   typists [--seeds N] [--from S] [--keep] [--paths KINDS] [--times]
 *
 * --times: how long each byte took, and when, in ms.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/rng.h"
#include "io/clock.h"
#include "rig.h"
#include "seeds.h"

enum { PLAY_S = 120, LOOK_S = 20, PIECE = 4000, BYTES_MAX = 4000, PAUSE_US = 200000 };
enum { THIN_BPS = 128000, WIDE_BPS = 10000000, QUEUE_BYTES = 32768 };

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

enum part { STEADY, MOVED, FORGOT, BECAME, PARTS };

static const char *const names[PARTS] = {"steady", "moved", "router forgot",
                                         "became slow"};

static struct typists {
    uint64_t rng;
    struct rig rig;
    struct program connect;
    const char *paths;
    bool times;
    size_t down, up;          /* bytes of the bulk that came */
    uint64_t typed_us;        /* when the byte left whose echo is awaited; 0 none */
    uint64_t took[BYTES_MAX]; /* ms, of this part */
    unsigned count, broke;
} all = {.paths = NULL};

static unsigned draw(unsigned from, unsigned to)
{
    return from + (unsigned)(rng_next(&all.rng) % (to - from + 1));
}

static void pour(int fd)
{
    static const uint8_t piece[PIECE];
    while (send(fd, piece, sizeof(piece), MSG_NOSIGNAL) > 0)
        ;
}

static void drain(int fd, size_t *count)
{
    uint8_t buf[16384];
    for (ssize_t n; (n = recv(fd, buf, sizeof(buf), 0)) > 0;)
        *count += (size_t)n;
}

/* The first byte of each connection says what it is for. */
static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char what = 0, typed;
    if (recv(fd, &what, 1, 0) == 1 && what == 'd')
        pour(fd);
    else if (what == 'u')
        drain(fd, &all.up);
    else
        while (recv(fd, &typed, 1, 0) == 1 && send(fd, &typed, 1, MSG_NOSIGNAL) == 1)
            ;
    (void)close(fd);
    return NULL;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void *serve(void *arg)
{
    struct sockaddr_in at = loopback(OTHER_PORT);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)arg;
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 8) != 0)
        abort();
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int c = poll(&p, 1, 100) == 1 ? accept4(fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (c >= 0)
            task_detach(task_start(machine_now(), serve_one, (void *)(intptr_t)c));
    }
    return NULL;
}

static int reach(char what)
{
    struct sockaddr_in at = loopback(LOCAL_PORT);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        send(fd, &what, 1, MSG_NOSIGNAL) != 1)
        abort();
    return fd;
}

static void *download(void *arg)
{
    (void)arg;
    drain(reach('d'), &all.down);
    return NULL;
}

static void *upload(void *arg)
{
    (void)arg;
    pour(reach('u'));
    return NULL;
}

/* One byte after the other, as the lab's typist: the next when the echo is there. What
 * broke meanwhile is begun anew, and its time counts. */
static void *type(void *arg)
{
    char c = 'x';
    int fd = reach('t');
    (void)arg;
    for (unsigned n = 0; n < BYTES_MAX; n++) {
        uint64_t begin_us = clock_us();
        all.typed_us = begin_us;
        while (send(fd, &c, 1, MSG_NOSIGNAL) != 1 || recv(fd, &c, 1, 0) != 1) {
            (void)close(fd);
            (void)usleep(PAUSE_US);
            fd = reach('t');
            all.broke++;
        }
        uint64_t ms = (clock_us() - begin_us) / 1000;
        all.typed_us = 0;
        if (all.times)
            (void)printf("  %6.2f s: %llu\n", (double)begin_us / 1e6,
                         (unsigned long long)ms);
        all.took[all.count++] = ms;
        (void)usleep(PAUSE_US);
    }
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* All that was typed in so many seconds; who waits yet has waited so long at least. */
static void look(enum part part, unsigned p95_ms, unsigned most_ms)
{
    size_t before = all.down + all.up;
    all.count = 0;
    (void)house_run(all.rig.town->house, SECONDS(LOOK_S), NULL, NULL);
    size_t moved = all.down + all.up - before;
    unsigned count = all.count;
    if (all.typed_us != 0)
        all.took[count++] = (clock_us() - all.typed_us) / 1000;
    qsort(all.took, count, sizeof(all.took[0]), by_size);
    uint64_t half = all.took[count / 2], p95 = all.took[count * 95 / 100],
             most = all.took[count - 1];
    (void)printf("seed %llu: %s: half %llu p95 %llu slowest %llu ms of %u, %.1f KB/s, "
                 "%u broke\n",
                 (unsigned long long)all.rig.seed, names[part],
                 (unsigned long long)half, (unsigned long long)p95,
                 (unsigned long long)most, count, (double)moved / 1000 / LOOK_S,
                 all.broke);
    (void)fflush(stdout);
    rig_check(&all.rig, all.times || (p95 <= p95_ms && most <= most_ms),
              "%s: who types waits for too long: %llu and %llu ms", names[part],
              (unsigned long long)p95, (unsigned long long)most);
}

static void set_rate(struct vnet_iface *i, uint64_t bps)
{
    i->in.rate_bps = i->out.rate_bps = bps;
    i->in.queue_bytes = i->out.queue_bytes = QUEUE_BYTES; /* 2 s of the slow one */
}

static void play(void *ctx, uint64_t seed)
{
    static const char *const kinds[] = {"udp-punch,relay", "relay", "tcp-punch,relay"};
    char unused[PROGRAM_FIELD];
    (void)ctx;
    all.rng = seed * 2 + 1;
    struct vnet_wire wire = {.delay_us = draw(5000, 30000)};
    struct rig_config c = {.town = {.seed = seed,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    rig_init(&all.rig, &c);
    struct town *t = all.rig.town;
    struct vnet_iface *line = t->client.device;
    bool becomes = seed % 3 == 0;
    const char *paths = all.paths != NULL ? all.paths : kinds[draw(0, 2)];
    (void)printf("seed %llu: %s, %s\n", (unsigned long long)seed, paths,
                 becomes ? "becomes slow" : "slow");
    task_detach(task_start(t->host.machine, serve, NULL));
    set_rate(line, becomes ? WIDE_BPS : THIN_BPS);
    program_start(&all.connect, t->client.machine, all.rig.state[2],
                  "connect home:other 127.0.0.1:%d --paths %s", LOCAL_PORT, paths);
    rig_await(&all.rig, &all.connect, "ready", NULL, unused, SECONDS(60));
    (void)house_run(t->house, SECONDS(5), NULL, NULL);
    task_detach(task_start(t->client.machine, download, NULL));
    task_detach(task_start(t->client.machine, upload, NULL));
    (void)house_run(t->house, SECONDS(12), NULL, NULL);
    task_detach(task_start(t->client.machine, type, NULL));
    (void)house_run(t->house, SECONDS(2) + draw(0, 1000000), NULL, NULL);
    if (becomes) {
        /* What the quick line had under way and the slow one lost is repeated first. */
        set_rate(line, THIN_BPS);
        look(BECAME, 30000, 30000);
    } else {
        look(STEADY, 1500, 2500);
        town_roam(t);
        look(MOVED, 6000, 7000);
        look(STEADY, 1500, 2500);
        town_flush(&t->cafe);
        look(FORGOT, 12000, 14000);
    }
    scratch_remove(all.rig.dir);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct seeds s = {.count = 12, .from = 1, .play_s = PLAY_S};
    for (int i = 1; i < argc; i++) {
        if (seeds_take(&s, argc, argv, &i))
            continue;
        all.times = all.times || strcmp(argv[i], "--times") == 0;
        if (i + 1 < argc && strcmp(argv[i], "--paths") == 0)
            all.paths = argv[++i];
    }
    return seeds_play(&s, play, NULL);
}

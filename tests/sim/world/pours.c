/*
 * Flows that move one way only, each in a session of its own, over a network that loses
 * much for seconds and is clean then: who only receives has nothing to send but
 * acknowledgements and credit, and must not forget the latter. After each storm all
 * goes on, also when the credit of before is used up. Each seed is played in a process
 * of its own.
 *
 *   pours [--seeds N] [--from S] [--keep]
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
#include "rig.h"
#include "seeds.h"

enum { FLOWS = 4, STORMS = 6, PLAY_S = 120, PIECE = 4000, PAUSE_US = 20000 };
#define STEP_US 100000ull
#define CALM_US SECONDS(10) /* a stream's credit is used up in less than 3 s */
#define PATIENCE_US SECONDS(4)

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

struct flow {
    struct program connect;
    uint16_t port;
    bool up;
    size_t got, seen;
    uint64_t since_us;
};

static struct pours {
    uint64_t rng;
    struct rig rig;
    struct flow flows[FLOWS];
    uint64_t longest_us;
} pours;

static unsigned draw(unsigned from, unsigned to)
{
    return from + (unsigned)(rng_next(&pours.rng) % (to - from + 1));
}

static void pour(int fd)
{
    static const uint8_t piece[PIECE];
    while (send(fd, piece, sizeof(piece), MSG_NOSIGNAL) > 0)
        (void)usleep(PAUSE_US);
}

static void drain(int fd, struct flow *f)
{
    uint8_t buf[16384];
    for (ssize_t n; (n = recv(fd, buf, sizeof(buf), 0)) > 0;)
        f->got += (size_t)n;
}

/* The first byte of each connection says whose it is. */
static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    uint8_t which = 0;
    if (recv(fd, &which, 1, 0) == 1 && which < FLOWS) {
        struct flow *f = &pours.flows[which];
        if (f->up)
            drain(fd, f);
        else
            pour(fd);
    }
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

static void *use(void *arg)
{
    struct flow *f = arg;
    struct sockaddr_in at = loopback(f->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint8_t which = (uint8_t)(f - pours.flows);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        send(fd, &which, 1, MSG_NOSIGNAL) != 1)
        abort();
    if (f->up) {
        pour(fd);
    } else {
        (void)shutdown(fd, SHUT_WR); /* from here on it only receives */
        drain(fd, f);
    }
    (void)close(fd);
    return NULL;
}

static void look(uint64_t clean_us)
{
    uint64_t now_us = house_now_us(pours.rig.town->house);
    for (int i = 0; i < FLOWS; i++) {
        struct flow *f = &pours.flows[i];
        if (f->got != f->seen || f->since_us < clean_us)
            f->since_us = f->got != f->seen ? now_us : clean_us;
        f->seen = f->got;
        uint64_t us = now_us - f->since_us;
        if (us > pours.longest_us)
            pours.longest_us = us;
        rig_check(&pours.rig, us < PATIENCE_US,
                  "flow %d (%s) stands still at %.1f s: %zu bytes", i,
                  f->up ? "up" : "down", (double)now_us / 1e6, f->got);
    }
}

static void pass(uint64_t us, bool calm)
{
    struct house *h = pours.rig.town->house;
    uint64_t begin_us = house_now_us(h);
    while (house_now_us(h) < begin_us + us) {
        (void)house_run(h, STEP_US, NULL, NULL);
        if (calm)
            look(begin_us);
    }
}

static void storm(void)
{
    struct town *t = pours.rig.town;
    struct vnet_iface *i = draw(0, 1) ? t->client.device : t->host.device;
    i->in.udp_loss_permille = i->out.udp_loss_permille = draw(300, 500);
    pass(STEP_US * draw(10, 60), false);
    i->in.udp_loss_permille = i->out.udp_loss_permille = 0;
    pass(CALM_US, true);
}

static void begin(int i)
{
    struct flow *f = &pours.flows[i];
    struct machine *m = pours.rig.town->client.machine;
    char unused[PROGRAM_FIELD];
    f->port = (uint16_t)(LOCAL_PORT + i);
    f->up = draw(0, 2) == 0;
    program_start(&f->connect, m, pours.rig.state[2],
                  "connect home:other 127.0.0.1:%d --paths udp-punch", f->port);
    rig_await(&pours.rig, &f->connect, "ready", NULL, unused, SECONDS(60));
    task_detach(task_start(m, use, f));
}

static void set_distance(void *ctx, struct rig *r)
{
    struct vnet_iface *i = r->town->broker->node->ifaces[0];
    (void)ctx;
    i->in.delay_us = i->out.delay_us = draw(0, 1) ? 100 : 5000;
}

static void play(void *ctx, uint64_t seed)
{
    (void)ctx;
    pours.rng = seed * 2 + 1;
    struct vnet_wire wire = {.delay_us = draw(0, 3) ? 50 : draw(200, 20000)};
    struct rig_config c = {.on_town = set_distance,
                           .town = {.seed = seed,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    rig_init(&pours.rig, &c);
    task_detach(task_start(pours.rig.town->host.machine, serve, NULL));
    for (int i = 0; i < FLOWS; i++)
        begin(i);
    pass(SECONDS(3), false);
    for (int i = 0; i < STORMS; i++)
        storm();
    (void)printf("seed %llu: longest %.1f s\n", (unsigned long long)seed,
                 (double)pours.longest_us / 1e6);
    (void)fflush(stdout);
    scratch_remove(pours.rig.dir);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct seeds s = {.count = 12, .from = 1, .play_s = PLAY_S};
    for (int i = 1; i < argc; i++)
        (void)seeds_take(&s, argc, argv, &i);
    return seeds_play(&s, play, NULL);
}

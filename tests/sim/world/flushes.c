/*
 * NATs of the strict sort (another random port for each remote address, no TCP packet
 * in the middle of a connection) that forget everything at any moment, often just after
 * the session has moved to a path that prediction found, under several flows of one
 * session, and one of who types. All must soon go on. Each seed is played in a process
 * of its own.
 *
 *   flushes [--seeds N] [--from S] [--keep] [--far] [--times]
 *
 * --far: both devices are 75 to 150 ms from the broker. --times: for each flush how
 * long the slowest flow stood, and who types, in ms, and after what; else that has a
 * bound.
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

enum { TALKERS = 2, POURS = 2, BULK = TALKERS + POURS, FLOWS = BULK + 1 };
enum { FLUSHES = 8, PLAY_S = 240, PIECE = 1000, PAUSE_US = 10000, TYPE_US = 100000 };
#define STEP_US 10000ull
#define CALM_US SECONDS(8)
#define LIMIT_US 2500000ull
#define DIRECT_US SECONDS(15) /* a path by prediction is waited for so long */

static const struct nat_config strict_nat = {
    .translates = true,
    .mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
    .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
    .ports = NAT_PORTS_RANDOM};

static const struct nat_config cone_nat = {.translates = true,
                                           .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                           .filtering =
                                               NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                           .ports = NAT_PORTS_RANDOM};

static struct flushes {
    uint64_t rng;
    struct rig rig;
    struct vnet_wire wire;
    struct talker talkers[TALKERS];
    size_t poured[POURS]; /* bytes that came */
    size_t typed;         /* and echoes, one after the other */
    size_t seen[FLOWS];
    uint64_t since_us[FLOWS], longest_us, typist_us;
    unsigned slowest; /* the flow that stood for so long */
    bool far, times;
} play_of;

static unsigned draw(struct flushes *f, unsigned from, unsigned to)
{
    return from + (unsigned)(rng_next(&f->rng) % (to - from + 1));
}

/* ------------------------------------------------------------- flows of one direction
 */

static void pour(int fd)
{
    static const uint8_t piece[PIECE];
    while (send(fd, piece, sizeof(piece), MSG_NOSIGNAL) > 0)
        (void)usleep(PAUSE_US);
}

static void drain(int fd, size_t *got)
{
    uint8_t buf[16384];
    for (ssize_t n; (n = recv(fd, buf, sizeof(buf), 0)) > 0;)
        *got += (size_t)n;
}

/* The first bytes of each connection say what it is; all others are echoed. */
static const char words[POURS][3] = {"U!", "D!"};

static void echo(int fd, const char *first, ssize_t n)
{
    char buf[16384];
    memcpy(buf, first, (size_t)n);
    do {
        for (ssize_t at = 0, sent; at < n; at += sent)
            if ((sent = send(fd, buf + at, (size_t)(n - at), MSG_NOSIGNAL)) <= 0)
                return;
    } while ((n = recv(fd, buf, sizeof(buf), 0)) > 0);
}

static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char word[2] = {0};
    ssize_t n = recv(fd, word, sizeof(word), 0);
    if (n == 2 && memcmp(word, words[0], 2) == 0)
        drain(fd, &play_of.poured[0]);
    else if (n == 2 && memcmp(word, words[1], 2) == 0)
        pour(fd);
    else if (n > 0)
        echo(fd, word, n);
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
    int which = (int)(intptr_t)arg;
    struct sockaddr_in at = loopback(LOCAL_PORT);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        send(fd, words[which], 2, MSG_NOSIGNAL) != 2)
        abort();
    if (which == 0)
        pour(fd);
    else
        drain(fd, &play_of.poured[1]);
    (void)close(fd);
    return NULL;
}

/* The next byte when the echo of the one before is there. */
static void *type(void *arg)
{
    struct sockaddr_in at = loopback(LOCAL_PORT);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char c = 'x';
    (void)arg;
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0)
        abort();
    while (send(fd, &c, 1, MSG_NOSIGNAL) == 1 && recv(fd, &c, 1, 0) == 1) {
        play_of.typed++;
        (void)usleep(TYPE_US);
    }
    (void)close(fd);
    return NULL;
}

/* ------------------------------------------------------------------- what is measured
 */

static size_t bytes(const struct flushes *f, unsigned i)
{
    if (i == BULK)
        return f->typed;
    return i < TALKERS ? f->talkers[i].got : f->poured[i - TALKERS];
}

static void look(struct flushes *f)
{
    uint64_t now_us = house_now_us(f->rig.town->house);
    for (unsigned i = 0; i < FLOWS; i++) {
        uint64_t us = now_us - f->since_us[i];
        if (i == BULK && us > f->typist_us)
            f->typist_us = us;
        if (i < BULK && us > f->longest_us) {
            f->longest_us = us;
            f->slowest = i;
        }
        if (bytes(f, i) != f->seen[i])
            f->since_us[i] = now_us;
        f->seen[i] = bytes(f, i);
        rig_check(&f->rig, i >= TALKERS || !task_is_over(f->talkers[i].task),
                  "flow %u broke", i);
    }
}

static void pass(struct flushes *f, uint64_t us)
{
    struct house *h = f->rig.town->house;
    uint64_t begin_us = house_now_us(h);
    while (house_now_us(h) < begin_us + us) {
        (void)house_run(h, STEP_US, NULL, NULL);
        look(f);
    }
}

static unsigned moved(const struct flushes *f)
{
    return program_count(&f->rig.connect, "path", "udp-punch");
}

/* True when the session has moved to a direct path by then. */
static bool await_direct(struct flushes *f)
{
    unsigned before = moved(f);
    for (uint64_t us = 0; us < DIRECT_US; us += STEP_US) {
        pass(f, STEP_US);
        if (moved(f) != before)
            return true;
    }
    return false;
}

static void flush(struct flushes *f)
{
    bool direct = await_direct(f);
    bool soon = direct && draw(f, 0, 1);
    struct town *t = f->rig.town;
    pass(f, 1000ull * (soon ? draw(f, 0, 500) : draw(f, 500, 4000)));
    bool host = draw(f, 0, 1);
    f->longest_us = f->typist_us = 0;
    for (unsigned i = 0; i < FLOWS; i++)
        f->since_us[i] = house_now_us(t->house);
    uint64_t at_us = house_now_us(t->house);
    town_flush(host ? &t->host : &t->client);
    pass(f, SECONDS(7));
    if (f->times)
        (void)printf("%llu ms, %llu ms typist: %s at %.2f s, %s%s, flow %u\n",
                     (unsigned long long)(f->longest_us / 1000),
                     (unsigned long long)(f->typist_us / 1000),
                     host ? "host's" : "client's", (double)at_us / 1e6,
                     direct ? "direct" : "relay", soon ? " just now" : "", f->slowest);
    rig_check(&f->rig,
              f->times || f->far ||
                  (f->longest_us < LIMIT_US && f->typist_us < LIMIT_US),
              "stood for %llu ms after a flush at %.2f s (%s, %s)",
              (unsigned long long)(f->longest_us > f->typist_us ? f->longest_us
                                                                : f->typist_us) /
                  1000,
              (double)at_us / 1e6, host ? "the host's" : "the client's",
              direct ? "direct" : "relay");
}

static void set_distance(void *ctx, struct rig *r)
{
    struct vnet_iface *i = r->town->broker->node->ifaces[0];
    (void)ctx;
    i->in.delay_us = i->out.delay_us = 100;
}

static void play(void *ctx, uint64_t seed)
{
    struct flushes *f = ctx;
    char unused[PROGRAM_FIELD];
    f->rng = seed * 2 + 1;
    f->wire.delay_us = f->far ? draw(f, 75000, 150000) : draw(f, 5000, 20000);
    unsigned cone = draw(f, 0, 3); /* without one the relay carries all */
    struct rig_config c = {.on_town = set_distance,
                           .town = {.seed = seed,
                                    .host_nat = cone == 1 ? &cone_nat : &strict_nat,
                                    .client_nat = cone > 1 ? &cone_nat : &strict_nat,
                                    .wire = &f->wire}};
    rig_init(&f->rig, &c);
    struct machine *m = f->rig.town->client.machine;
    task_detach(task_start(f->rig.town->host.machine, serve, NULL));
    program_start(&f->rig.connect, m, f->rig.state[2],
                  "connect home:other 127.0.0.1:%d --paths udp-punch,relay",
                  LOCAL_PORT);
    rig_await(&f->rig, &f->rig.connect, "ready", NULL, unused, SECONDS(60));
    for (unsigned i = 0; i < TALKERS; i++) {
        f->talkers[i] = (struct talker){.port = LOCAL_PORT,
                                        .seed = rng_next(&f->rng),
                                        .bytes = 1000000000,
                                        .pause_ms = i == 0 ? 20 : 100};
        talker_start(&f->talkers[i], m);
    }
    for (int i = 0; i < POURS; i++)
        task_detach(task_start(m, use, (void *)(intptr_t)i));
    task_detach(task_start(m, type, NULL));
    pass(f, SECONDS(1));
    for (int i = 0; i < FLUSHES; i++)
        flush(f);
    (void)fflush(stdout);
    scratch_remove(f->rig.dir);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct seeds s = {.count = 12, .from = 1, .play_s = PLAY_S};
    for (int i = 1; i < argc; i++) {
        if (seeds_take(&s, argc, argv, &i))
            continue;
        play_of.times = play_of.times || strcmp(argv[i], "--times") == 0;
        play_of.far = play_of.far || strcmp(argv[i], "--far") == 0;
    }
    return seeds_play(&s, play, &play_of);
}

/*
 * Load on a broker's control port: starts BROKERD, opens N devices with keys of their
 * own from many loopback addresses, and reports as JSON the rate of handshakes, the
 * broker's memory for each idle device and for each that has left, and after a restart
 * the time until all are back, when each comes no sooner than the broker asked it to.
 * With -h they are hosts of one address, as a company's behind its NAT: they have come
 * once while the broker set no bounds, keep its badges, and come back as
 * core/comeback.h has it.
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <sodium.h>

#include "child.h"
#include "core/badge.h"
#include "core/comeback.h"
#include "core/proto.h"
#include "io/channel.h"
#include "io/loop.h"
#include "io/sockaddr.h"

enum { IN_FLIGHT_MAX = 256, PER_ADDRESS = 100, RETRY_MS = 200, RETRY_SPREAD_MS = 400 };

struct load;

struct device {
    struct load *load;
    struct keypair key;
    struct channel *channel;
    struct timer retry;
    uint32_t retry_ms; /* what Bye said */
    struct comeback comeback;
    bool badged;
    uint8_t badge[BADGE_LEN];
    uint32_t index;
    bool ready;
};

struct load {
    struct loop *loop;
    struct child broker;
    struct device *devices;
    uint32_t count, started, in_flight, ready, connects, failures;
    bool hosts;
};

static void connect_device(struct device *d);

static void start_more(struct load *l)
{
    while (l->in_flight < IN_FLIGHT_MAX && l->started < l->count)
        connect_device(&l->devices[l->started++]);
}

static void on_retry(void *ctx)
{
    connect_device(ctx);
}

static uint64_t now_ms(void)
{
    return (uint64_t)(bench_seconds() * 1000);
}

static enum comeback_why why_down(const struct device *d, int err)
{
    bool ended = err == POSTERN_ERR_RESET || err == POSTERN_ERR_CLOSED;
    if (ended && d->ready)
        return COMEBACK_ENDED;
    return err == POSTERN_ERR_REFUSED ? COMEBACK_REFUSED
           : err == POSTERN_ERR_RESET ? COMEBACK_TURNED
                                      : COMEBACK_OTHER;
}

static void retry_later(struct device *d, int err)
{
    uint32_t ms = RETRY_MS + randombytes_uniform(RETRY_SPREAD_MS);
    if (d->load->hosts)
        ms = comeback_on_down(&d->comeback, why_down(d, err), now_ms());
    if (d->retry_ms != 0 && (!d->load->hosts || d->retry_ms > ms))
        ms = d->retry_ms;
    d->retry_ms = 0;
    timer_start(&d->retry, ms);
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct device *d = ctx;
    uint8_t buf[256];
    Control m = Control_init_zero;
    (void)peer;
    m.which_body = Control_hello_tag;
    m.body.hello.version = PROTO_VERSION;
    m.body.hello.host = m.body.hello.keeps_badge = d->load->hosts;
    int n = proto_encode_control(buf, sizeof(buf), &m);
    if (n < 0 || channel_send(d->channel, buf, (size_t)n) != 0)
        d->load->failures++;
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct device *d = ctx;
    struct load *l = d->load;
    Control m;
    if (proto_decode_control(&m, msg, len) != 0)
        return;
    if (m.which_body == Control_bye_tag)
        d->retry_ms = m.body.bye.retry_ms;
    if (m.which_body == Control_badge_tag && m.body.badge.badge.size == BADGE_LEN) {
        memcpy(d->badge, m.body.badge.badge.bytes, BADGE_LEN);
        d->badged = true;
    }
    if (m.which_body != Control_welcome_tag || d->ready)
        return;
    d->ready = true;
    comeback_on_up(&d->comeback, m.body.welcome.settles_ms > 0, now_ms());
    l->ready++;
    l->in_flight--;
    start_more(l);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct device *d = ctx;
    (void)why;
    channel_free(d->channel);
    d->channel = NULL;
    if (d->ready)
        d->load->ready--;
    else {
        d->load->in_flight--;
        d->load->failures++;
    }
    retry_later(d, err);
    d->ready = false;
}

static const struct channel_events events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

static int dial(struct device *d)
{
    struct sockaddr_storage ss;
    struct addr to, from = {.family = ADDR_V4, .ip = {127, 1}};
    uint32_t host = d->load->hosts ? 1 : d->index / PER_ADDRESS + 1;
    int on = 1;
    from.ip[2] = (uint8_t)(host >> 8);
    from.ip[3] = (uint8_t)host;
    if (addr_parse_ip(&to, d->load->broker.link.host) != 0)
        return -1;
    to.port = d->load->broker.link.port;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        bench_die("socket");
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    socklen_t len = sockaddr_from_addr(&ss, &from);
    if (bind(fd, (struct sockaddr *)&ss, len) != 0)
        bench_die("bind");
    len = sockaddr_from_addr(&ss, &to);
    (void)connect(fd, (struct sockaddr *)&ss, len); /* the channel sees the outcome */
    return fd;
}

static void connect_device(struct device *d)
{
    struct load *l = d->load;
    struct channel_config c = {
        .loop = l->loop, .own = &d->key, .events = &events, .ctx = d};
    c.badge = d->badged ? d->badge : NULL;
    int fd = dial(d);
    if (fd < 0 ||
        channel_new_client(&d->channel, &c, fd, l->broker.link.broker_key) != 0) {
        fprintf(stderr, "brokerload: cannot open a connection\n");
        exit(1);
    }
    l->connects++;
    l->in_flight++;
}

static void run_until_all(struct load *l)
{
    double end = bench_seconds() + 120;
    while (l->ready < l->count) {
        if (bench_seconds() > end) {
            fprintf(stderr, "brokerload: only %u of %u came\n", l->ready, l->count);
            child_stop(&l->broker);
            exit(1);
        }
        loop_turn(l->loop);
    }
}

static void make_devices(struct load *l)
{
    l->devices = calloc(l->count, sizeof(*l->devices));
    if (l->devices == NULL)
        bench_die("memory");
    for (uint32_t i = 0; i < l->count; i++) {
        struct device *d = &l->devices[i];
        uint8_t seed[KEY_LEN];
        randombytes_buf(seed, sizeof(seed));
        keypair_from_seed(&d->key, seed);
        d->load = l;
        d->index = i;
        comeback_init(&d->comeback, i + 1, now_ms());
        timer_init(&d->retry, l->loop, on_retry, d);
    }
}

/* All leave; what the broker has given back some seconds later. */
static void leave(struct load *l, long before_kb)
{
    for (uint32_t i = 0; i < l->count; i++) {
        channel_free(l->devices[i].channel);
        l->devices[i].channel = NULL;
        l->devices[i].ready = false;
    }
    l->ready = l->started = 0;
    double end = bench_seconds() + 5;
    while (bench_seconds() < end)
        loop_turn(l->loop);
    printf("{\"event\":\"left\",\"devices\":%u,\"bytes_per_departed_device\":%.0f}\n",
           l->count,
           (double)(child_memory_kb(&l->broker) - before_kb) * 1024 / l->count);
    start_more(l);
    run_until_all(l);
}

static void restart(struct load *l, char **argv)
{
    l->connects = l->failures = 0;
    double begin = bench_seconds();
    child_stop(&l->broker);
    double stopped = bench_seconds() - begin;
    child_start(&l->broker, argv);
    double restarted = bench_seconds() - begin;
    while (l->ready == l->count) /* until the goodbyes have been read */
        loop_turn(l->loop);
    run_until_all(l);
    printf("{\"event\":\"restart\",\"devices\":%u,\"stop_s\":%.2f,\"start_s\":%.2f,"
           "\"all_back_s\":%.2f,\"connects\":%u,\"failures\":%u}\n",
           l->count, stopped, restarted - stopped, bench_seconds() - begin, l->connects,
           l->failures);
}

static int hosts_come_back(struct load *l, char **argv)
{
    char *unbound[16] = {0};
    size_t n = 0;
    while (n < 14 && argv[n] != NULL) {
        unbound[n] = argv[n];
        n++;
    }
    unbound[n] = "-n";
    child_start(&l->broker, unbound);
    start_more(l);
    run_until_all(l);
    restart(l, argv);
    child_stop(&l->broker);
    return 0;
}

static void on_tick(void *ctx)
{
    (void)ctx; /* wakes the loop, so that run_until_all sees the time */
}

int main(int argc, char **argv)
{
    struct load l = {0};
    struct timer tick;
    struct rlimit r;
    if (argc > 1 && strcmp(argv[1], "-h") == 0) {
        l.hosts = true;
        argv++;
        argc--;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: brokerload [-h] DEVICES BROKERD [ARGUMENTS...]\n");
        return 2;
    }
    (void)getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sodium_init() < 0 || loop_open(&l.loop) != 0)
        bench_die("start");
    timer_init(&tick, l.loop, on_tick, NULL);
    timer_every(&tick, 100, 100);
    l.count = (uint32_t)strtoul(argv[1], NULL, 10);
    make_devices(&l);
    if (l.hosts)
        return hosts_come_back(&l, argv + 2);
    child_start(&l.broker, argv + 2);

    long before_kb = child_memory_kb(&l.broker), kb = before_kb;
    double begin = bench_seconds();
    start_more(&l);
    run_until_all(&l);
    double took = bench_seconds() - begin, cpu = child_cpu_ms(&l.broker);
    kb = child_memory_kb(&l.broker) - kb;
    printf("{\"event\":\"load\",\"devices\":%u,\"handshakes_per_s\":%.0f,"
           "\"broker_cpu_ms_per_handshake\":%.3f,\"bytes_per_idle_device\":%.0f,"
           "\"failures\":%u}\n",
           l.count, l.count / took, cpu / l.count, (double)kb * 1024 / l.count,
           l.failures);

    leave(&l, before_kb);
    restart(&l, argv + 2);
    child_stop(&l.broker);
    return 0;
}

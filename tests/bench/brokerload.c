/*
 * Load on a broker's control port: starts BROKERD, opens N devices with keys of their
 * own from many loopback addresses, and reports as JSON the rate of handshakes, the
 * broker's memory for each idle device, and after a restart the time until all are
 * back, when each comes no sooner than the broker asked it to.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sodium.h>
#include <uv.h>

#include "core/link.h"
#include "core/proto.h"
#include "io/channel.h"
#include "io/sockaddr.h"

enum { IN_FLIGHT_MAX = 256, PER_ADDRESS = 100, RETRY_MS = 200, RETRY_SPREAD_MS = 400 };

struct load;

struct device {
    struct load *load;
    struct keypair key;
    struct channel *channel;
    uv_timer_t retry;
    uint32_t retry_ms; /* what Bye said */
    uint32_t index;
    bool ready;
};

struct load {
    uv_loop_t loop;
    struct link link;
    char **argv; /* of the broker */
    pid_t broker;
    struct device *devices;
    uint32_t count, started, in_flight, ready, connects, failures;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The first line that the broker prints is its link. */
static void start_broker(struct load *l)
{
    int fds[2];
    char line[LINK_TEXT_LEN + 2];
    struct fault f;
    if (pipe2(fds, O_CLOEXEC) != 0)
        die("pipe");
    l->broker = fork();
    if (l->broker < 0)
        die("fork");
    if (l->broker == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)execv(l->argv[0], l->argv);
        die(l->argv[0]);
    }
    close(fds[1]);
    FILE *in = fdopen(fds[0], "r");
    if (in == NULL || fgets(line, sizeof(line), in) == NULL) {
        fprintf(stderr, "brokerload: the broker did not start\n");
        exit(1);
    }
    fclose(in);
    line[strcspn(line, "\n")] = '\0';
    if (link_parse(&l->link, line, &f) != 0) {
        fprintf(stderr, "brokerload: %s\n", f.what);
        exit(1);
    }
}

static void stop_broker(struct load *l)
{
    (void)kill(l->broker, SIGTERM);
    (void)waitpid(l->broker, NULL, 0);
}

/* Proportional set size would count shared pages in part; RSS is what grows here. */
static long memory_kb(pid_t pid)
{
    char path[64], line[256];
    long kb = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return 0;
    while (fgets(line, sizeof(line), in) != NULL)
        if (sscanf(line, "VmRSS: %ld", &kb) == 1)
            break;
    fclose(in);
    return kb;
}

/* CPU time that the broker has used, in milliseconds. */
static double cpu_ms(pid_t pid)
{
    char path[64];
    unsigned long user = 0, sys = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return 0;
    if (fscanf(in, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &sys) != 2)
        user = sys = 0;
    fclose(in);
    return (double)(user + sys) * 1000.0 / (double)sysconf(_SC_CLK_TCK);
}

static void connect_device(struct device *d);

static void start_more(struct load *l)
{
    while (l->in_flight < IN_FLIGHT_MAX && l->started < l->count)
        connect_device(&l->devices[l->started++]);
}

static void on_retry(uv_timer_t *t)
{
    connect_device(t->data);
}

static void retry_later(struct device *d)
{
    uint32_t ms = d->retry_ms != 0 ? d->retry_ms
                                   : RETRY_MS + randombytes_uniform(RETRY_SPREAD_MS);
    d->retry_ms = 0;
    (void)uv_timer_start(&d->retry, on_retry, ms, 0);
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct device *d = ctx;
    uint8_t buf[256];
    Control m = Control_init_zero;
    (void)peer;
    m.which_body = Control_hello_tag;
    m.body.hello.version = PROTO_VERSION;
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
    if (m.which_body != Control_welcome_tag || d->ready)
        return;
    d->ready = true;
    l->ready++;
    l->in_flight--;
    start_more(l);
}

static void on_close(void *ctx, int err, const char *why)
{
    struct device *d = ctx;
    (void)err;
    (void)why;
    channel_free(d->channel);
    d->channel = NULL;
    if (d->ready)
        d->load->ready--;
    else {
        d->load->in_flight--;
        d->load->failures++;
    }
    d->ready = false;
    retry_later(d);
}

static const struct channel_events events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

static int dial(struct device *d)
{
    struct sockaddr_storage ss;
    struct addr to, from = {.family = ADDR_V4, .ip = {127, 1}};
    uint32_t host = d->index / PER_ADDRESS + 1;
    int on = 1;
    from.ip[2] = (uint8_t)(host >> 8);
    from.ip[3] = (uint8_t)host;
    if (addr_parse_ip(&to, d->load->link.host) != 0)
        return -1;
    to.port = d->load->link.port;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    socklen_t len = sockaddr_from_addr(&ss, &from);
    if (bind(fd, (struct sockaddr *)&ss, len) != 0)
        die("bind");
    len = sockaddr_from_addr(&ss, &to);
    (void)connect(fd, (struct sockaddr *)&ss, len); /* the channel sees the outcome */
    return fd;
}

static void connect_device(struct device *d)
{
    struct load *l = d->load;
    struct channel_config c = {
        .loop = &l->loop, .own = &d->key, .events = &events, .ctx = d};
    int fd = dial(d);
    if (fd < 0 || channel_new_client(&d->channel, &c, fd, l->link.broker_key) != 0) {
        fprintf(stderr, "brokerload: cannot open a connection\n");
        exit(1);
    }
    l->connects++;
    l->in_flight++;
}

static double seconds(void)
{
    return (double)uv_hrtime() / 1e9;
}

static void run_until_all(struct load *l)
{
    double end = seconds() + 120;
    while (l->ready < l->count) {
        if (seconds() > end) {
            fprintf(stderr, "brokerload: only %u of %u came\n", l->ready, l->count);
            stop_broker(l);
            exit(1);
        }
        (void)uv_run(&l->loop, UV_RUN_ONCE);
    }
}

static void make_devices(struct load *l)
{
    l->devices = calloc(l->count, sizeof(*l->devices));
    if (l->devices == NULL)
        die("memory");
    for (uint32_t i = 0; i < l->count; i++) {
        struct device *d = &l->devices[i];
        uint8_t seed[KEY_LEN];
        randombytes_buf(seed, sizeof(seed));
        keypair_from_seed(&d->key, seed);
        d->load = l;
        d->index = i;
        (void)uv_timer_init(&l->loop, &d->retry);
        d->retry.data = d;
    }
}

static void on_tick(uv_timer_t *t)
{
    (void)t; /* wakes the loop, so that run_until_all sees the time */
}

int main(int argc, char **argv)
{
    struct load l = {0};
    uv_timer_t tick;
    struct rlimit r;
    if (argc < 3) {
        fprintf(stderr, "usage: brokerload DEVICES BROKERD [ARGUMENTS...]\n");
        return 2;
    }
    (void)getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sodium_init() < 0 || uv_loop_init(&l.loop) != 0)
        die("start");
    (void)uv_timer_init(&l.loop, &tick);
    (void)uv_timer_start(&tick, on_tick, 100, 100);
    l.count = (uint32_t)strtoul(argv[1], NULL, 10);
    l.argv = argv + 2;
    make_devices(&l);
    start_broker(&l);

    long kb = memory_kb(l.broker);
    double begin = seconds();
    start_more(&l);
    run_until_all(&l);
    double took = seconds() - begin, cpu = cpu_ms(l.broker);
    kb = memory_kb(l.broker) - kb;
    printf("{\"event\":\"load\",\"devices\":%u,\"handshakes_per_s\":%.0f,"
           "\"broker_cpu_ms_per_handshake\":%.3f,\"bytes_per_idle_device\":%.0f,"
           "\"failures\":%u}\n",
           l.count, l.count / took, cpu / l.count, (double)kb * 1024 / l.count,
           l.failures);

    l.connects = l.failures = 0;
    begin = seconds();
    stop_broker(&l);
    double stopped = seconds() - begin;
    start_broker(&l);
    double restarted = seconds() - begin;
    while (l.ready == l.count) /* until the goodbyes have been read */
        (void)uv_run(&l.loop, UV_RUN_ONCE);
    run_until_all(&l);
    printf("{\"event\":\"restart\",\"devices\":%u,\"stop_s\":%.2f,\"start_s\":%.2f,"
           "\"all_back_s\":%.2f,\"connects\":%u,\"failures\":%u}\n",
           l.count, stopped, restarted - stopped, seconds() - begin, l.connects,
           l.failures);
    stop_broker(&l);
    return 0;
}

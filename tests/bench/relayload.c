/*
 * Load on a broker's relay: starts BROKERD, joins PAIRS relayed pairs, moves SECONDS of
 * bytes through all of them at once, and reports throughput and the broker's CPU time
 * a gigabyte as JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sodium.h>

#include "child.h"
#include "core/proto.h"
#include "core/relay_preface.h"
#include "io/channel.h"
#include "io/loop.h"
#include "io/sockaddr.h"

enum { CHUNK = 256 * 1024, PAIRS_MAX = 60 };

struct device {
    struct keypair key;
    struct channel *channel;
    bool welcome;
    uint8_t tickets[PAIRS_MAX][TICKET_LEN];
    unsigned count;
};

struct load {
    struct loop *loop;
    struct child broker;
    struct device host, client;
};

static void send_message(struct device *d, const Control *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    if (n < 0 || channel_send(d->channel, buf, (size_t)n) != 0)
        bench_die("send");
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    (void)ctx;
    (void)peer;
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct device *d = ctx;
    Control m;
    if (proto_decode_control(&m, msg, len) != 0)
        return;
    d->welcome = d->welcome || m.which_body == Control_welcome_tag;
    if (m.which_body == Control_introduce_tag) {
        Control out = {.which_body = Control_accept_tag};
        memcpy(out.peer, m.peer, KEY_LEN);
        memcpy(out.conv, m.conv, CONV_LEN);
        out.body.accept.mark.size = m.body.introduce.mark.size;
        memcpy(out.body.accept.mark.bytes, m.body.introduce.mark.bytes,
               m.body.introduce.mark.size);
        send_message(d, &out);
    }
    if (m.which_body == Control_ticket_tag && m.body.ticket.ticket.size == TICKET_LEN &&
        d->count < PAIRS_MAX)
        memcpy(d->tickets[d->count++], m.body.ticket.ticket.bytes, TICKET_LEN);
}

static void on_close(void *ctx, int err, const char *why)
{
    (void)ctx;
    fprintf(stderr, "relayload: %s (%s)\n", why, postern_strerror(err));
    exit(1);
}

static const struct channel_events events = {
    .on_open = on_open, .on_message = on_message, .on_close = on_close};

static int dial(const struct load *l)
{
    struct sockaddr_storage ss;
    struct addr to;
    if (addr_parse_ip(&to, l->broker.link.host) != 0)
        bench_die("address");
    to.port = l->broker.link.port;
    socklen_t len = sockaddr_from_addr(&ss, &to);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len) != 0)
        bench_die("connect");
    return fd;
}

static void set_nonblocking(int fd)
{
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void join_broker(struct load *l, struct device *d, bool host)
{
    uint8_t seed[KEY_LEN];
    struct channel_config c = {
        .loop = l->loop, .own = &d->key, .events = &events, .ctx = d};
    randombytes_buf(seed, sizeof(seed));
    keypair_from_seed(&d->key, seed);
    int fd = dial(l);
    set_nonblocking(fd);
    if (channel_new_client(&d->channel, &c, fd, l->broker.link.broker_key) != 0)
        bench_die("channel");
    Control m = Control_init_zero;
    m.which_body = Control_hello_tag;
    m.body.hello.version = PROTO_VERSION;
    m.body.hello.host = host;
    m.body.hello.token.size = LINK_SECRET_LEN;
    memcpy(m.body.hello.token.bytes, l->broker.link.token, LINK_SECRET_LEN);
    send_message(d, &m);
    while (!d->welcome)
        loop_turn(l->loop);
}

static int dial_relay(const struct load *l, const uint8_t *ticket)
{
    uint8_t preface[RELAY_PREFACE_LEN];
    int fd = dial(l);
    relay_preface_encode(preface, ticket);
    if (send(fd, preface, sizeof(preface), 0) != sizeof(preface))
        bench_die("preface");
    return fd;
}

static void wait_joined(int fd)
{
    uint8_t c = 0;
    do {
        if (recv(fd, &c, 1, 0) != 1)
            bench_die("relay");
    } while (c == RELAY_WAITING);
    if (c != RELAY_JOINED)
        bench_die("relay");
    set_nonblocking(fd);
}

static void watch(int epoll, int fd, uint32_t events_wanted)
{
    struct epoll_event ev = {.events = events_wanted, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
        bench_die("epoll");
}

/* Sends zeros into every client's end and reads them at the hosts'. */
static uint64_t move(int epoll, uint8_t *buf, double until)
{
    struct epoll_event ev[64];
    uint64_t received = 0;
    while (bench_seconds() < until) {
        int n = epoll_wait(epoll, ev, 64, 100);
        for (int i = 0; i < n; i++) {
            ssize_t got = 0;
            if ((ev[i].events & EPOLLOUT) != 0)
                (void)send(ev[i].data.fd, buf, CHUNK, MSG_DONTWAIT | MSG_NOSIGNAL);
            else
                got = recv(ev[i].data.fd, buf, CHUNK, MSG_DONTWAIT | MSG_TRUNC);
            if (got > 0)
                received += (uint64_t)got;
        }
    }
    return received;
}

static void introduce_all(struct load *l, unsigned pairs)
{
    Control m = Control_init_zero;
    m.which_body = Control_introduce_tag;
    memcpy(m.peer, l->host.key.pub, KEY_LEN);
    for (unsigned i = 0; i < pairs; i++) {
        randombytes_buf(m.conv, CONV_LEN);
        send_message(&l->client, &m);
    }
    while (l->host.count < pairs || l->client.count < pairs)
        loop_turn(l->loop);
}

static int open_pairs(struct load *l, unsigned pairs)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    introduce_all(l, pairs);
    for (unsigned i = 0; i < pairs; i++) {
        int from = dial_relay(l, l->client.tickets[i]);
        int to = dial_relay(l, l->host.tickets[i]);
        wait_joined(from);
        wait_joined(to);
        watch(epoll, from, EPOLLOUT);
        watch(epoll, to, EPOLLIN);
    }
    return epoll;
}

int main(int argc, char **argv)
{
    struct load l = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: relayload PAIRS SECONDS BROKERD [ARGUMENTS...]\n");
        return 2;
    }
    unsigned pairs = (unsigned)strtoul(argv[1], NULL, 10);
    double span = strtod(argv[2], NULL);
    uint8_t *buf = calloc(1, CHUNK);
    if (pairs == 0 || pairs > PAIRS_MAX || buf == NULL || sodium_init() < 0 ||
        loop_open(&l.loop) != 0)
        bench_die("start");
    (void)signal(SIGPIPE, SIG_IGN);
    child_start(&l.broker, argv + 3);
    join_broker(&l, &l.host, true);
    join_broker(&l, &l.client, false);
    int epoll = open_pairs(&l, pairs);
    double cpu = child_cpu_ms(&l.broker), begin = bench_seconds();
    uint64_t bytes = move(epoll, buf, begin + span);
    double took = bench_seconds() - begin;
    cpu = child_cpu_ms(&l.broker) - cpu;
    printf("{\"event\":\"relay\",\"pairs\":%u,\"gbit_s\":%.2f,\"cpu_s_per_gb\":%.3f}\n",
           pairs, (double)bytes * 8 / 1e9 / took, cpu / 1000 / ((double)bytes / 1e9));
    child_stop(&l.broker);
    free(buf);
    return 0;
}

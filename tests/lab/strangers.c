/*
 * Many strangers at a broker, from many addresses, each with a fresh key: what they do
 * is all that a stranger may. For the lab only.
 *
 *   strangers introduce LINK HOSTKEY SECONDS FIRST_ADDRESS COUNT STEP PARALLEL [BYTES]
 *   strangers silent    LINK -       SECONDS FIRST_ADDRESS COUNT STEP PARALLEL
 *   strangers hello PROTOCOL
 *
 * It ends after SECONDS or at SIGTERM. Addresses are FIRST, FIRST + STEP and so on,
 * COUNT of them. BYTES are those of the box in each introduction. At the end one line
 * of JSON tells what was done. `hello` says the first message of a device that wants
 * PROTOCOL, in hexadecimal, for others to say again.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sodium.h>

#include "core/key.h"
#include "core/link.h"
#include "core/proto.h"
#include "io/channel.h"
#include "io/loop.h"
#include "io/sockaddr.h"
#include "io/stop.h"

enum { INTRODUCTIONS = 8, ROUND_MS = 300, PARALLEL_MAX = 20000 };

struct crowd;

struct stranger {
    struct crowd *crowd;
    struct keypair key;
    struct channel *channel;
    struct watch watch; /* of a silent one */
    int fd;
    uint64_t since_ms;
    bool over;
};

struct crowd {
    struct loop *loop;
    struct timer tick, end;
    struct stop *stop;
    struct link broker;
    uint8_t host[KEY_LEN];
    uint32_t first, count, step, next;
    bool silent;
    pb_size_t box;
    struct stranger *all;
    unsigned parallel;
    unsigned long dials, opened, welcomed, introduced, refused, tickets, busy, closed;
};

static void die(const char *what)
{
    (void)fprintf(stderr, "strangers: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int dial(struct crowd *c)
{
    struct addr to;
    struct sockaddr_storage ss;
    struct sockaddr_in from = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || addr_parse_ip(&to, c->broker.host) != 0)
        return -1;
    to.port = c->broker.port;
    from.sin_addr.s_addr = htonl(c->first + c->step * (c->next++ % c->count));
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    socklen_t len = sockaddr_from_addr(&ss, &to);
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0)
        die("bind");
    if (connect(fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    c->dials++;
    return fd;
}

static void say(struct stranger *s, const Control *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    if (n < 0 || channel_send(s->channel, buf, (size_t)n) != 0)
        s->over = true;
}

static void introduce(struct stranger *s)
{
    for (int i = 0; i < INTRODUCTIONS; i++) {
        Control m = {.which_body = Control_introduce_tag};
        memcpy(m.peer, s->crowd->host, KEY_LEN);
        randombytes_buf(m.conv, CONV_LEN);
        m.body.introduce.sealed.size = s->crowd->box;
        randombytes_buf(m.body.introduce.sealed.bytes, s->crowd->box);
        say(s, &m);
        s->crowd->introduced++;
    }
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct stranger *s = ctx;
    Control m = {.which_body = Control_hello_tag};
    (void)peer;
    s->crowd->opened++;
    m.body.hello.version = PROTO_VERSION;
    say(s, &m);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct stranger *s = ctx;
    struct crowd *c = s->crowd;
    Control m;
    if (proto_decode_control(&m, msg, len) != 0)
        return;
    if (m.which_body == Control_welcome_tag) {
        c->welcomed++;
        introduce(s);
    }
    c->refused += m.which_body == Control_refuse_tag;
    c->tickets += m.which_body == Control_ticket_tag;
    c->busy += m.which_body == Control_bye_tag;
}

static void on_close(void *ctx, int err, const char *why)
{
    struct stranger *s = ctx;
    (void)why;
    s->crowd->busy += err == POSTERN_ERR_LIMIT;
    s->crowd->closed++;
    s->over = true;
}

static const struct channel_events events = {on_open, on_message, on_close};

static void on_silent(void *ctx, int unused)
{
    struct stranger *s = ctx;
    char buf[64];
    (void)unused;
    ssize_t n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);
    s->crowd->busy += n > 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    s->crowd->closed++;
    watch_for(&s->watch, 0);
    s->over = true;
}

static void leave(struct stranger *s)
{
    channel_free(s->channel);
    s->channel = NULL;
    if (watch_is_open(&s->watch)) {
        watch_close(&s->watch);
        close(s->fd);
    }
    s->over = false;
    s->since_ms = 0;
}

static void come(struct stranger *s)
{
    struct crowd *c = s->crowd;
    uint8_t seed[KEY_LEN];
    int fd = dial(c);
    if (fd < 0)
        return;
    s->since_ms = loop_now_ms(c->loop);
    if (c->silent) {
        s->fd = fd;
        if (watch_start(&s->watch, c->loop, fd, WATCH_READ, on_silent, s) != 0)
            die("watch");
        return;
    }
    randombytes_buf(seed, sizeof(seed));
    keypair_from_seed(&s->key, seed);
    struct channel_config cc = {
        .loop = c->loop, .own = &s->key, .events = &events, .ctx = s};
    if (channel_new_client(&s->channel, &cc, fd, c->broker.broker_key) != 0)
        die("channel");
}

static void on_tick(void *ctx)
{
    struct crowd *c = ctx;
    for (unsigned i = 0; i < c->parallel; i++) {
        struct stranger *s = &c->all[i];
        uint64_t age = loop_now_ms(c->loop) - s->since_ms;
        if (s->since_ms != 0 && (s->over || (!c->silent && age > ROUND_MS)))
            leave(s);
        if (s->since_ms == 0)
            come(s);
    }
}

static void on_end(void *ctx)
{
    struct crowd *c = ctx;
    loop_stop(c->loop);
}

static void on_stop(void *ctx, int number)
{
    (void)number;
    on_end(ctx);
}

static uint32_t address(const char *text)
{
    struct in_addr in;
    struct addr a;
    if (addr_parse_ip(&a, text) != 0 || a.family != ADDR_V4)
        die("address");
    memcpy(&in, a.ip, sizeof(in));
    return ntohl(in.s_addr);
}

static int say_hello(const char *protocol)
{
    struct stranger s = {0};
    struct channel_config config = {
        .protocol = protocol, .own = &s.key, .events = &events, .ctx = &s};
    struct loop *loop;
    uint8_t seed[KEY_LEN] = {1}, hello[4096];
    int pair[2];
    ssize_t n = -1;
    keypair_from_seed(&s.key, seed);
    if (loop_open(&loop) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        die("socketpair");
    config.loop = loop;
    if (channel_new_client(&s.channel, &config, pair[0], seed) != 0)
        die("channel");
    while (n < 0) {
        loop_poll(loop);
        n = recv(pair[1], hello, sizeof(hello), 0);
    }
    for (ssize_t i = 0; i < n; i++)
        (void)printf("%02x", hello[i]);
    (void)putchar('\n');
    return 0;
}

int main(int argc, char **argv)
{
    static struct crowd c;
    struct fault f;
    struct rlimit many = {.rlim_cur = 65536, .rlim_max = 65536};
    if (sodium_init() >= 0 && argc == 3 && strcmp(argv[1], "hello") == 0)
        return say_hello(argv[2]);
    if ((argc != 9 && argc != 10) || sodium_init() < 0)
        die("usage");
    (void)setrlimit(RLIMIT_NOFILE, &many);
    c.silent = strcmp(argv[1], "silent") == 0;
    if (link_parse(&c.broker, argv[2], &f) != 0 ||
        (!c.silent && key_parse(c.host, argv[3]) != 0))
        die("link or key");
    c.first = address(argv[5]);
    c.count = (uint32_t)strtoul(argv[6], NULL, 10);
    c.step = (uint32_t)strtoul(argv[7], NULL, 10);
    c.parallel = (unsigned)strtoul(argv[8], NULL, 10);
    c.box = (pb_size_t)(argc == 10 ? strtoul(argv[9], NULL, 10) : 600);
    c.all = calloc(c.parallel, sizeof(*c.all));
    if (c.all == NULL || c.count == 0 || c.box > 4096 || c.parallel > PARALLEL_MAX ||
        loop_open(&c.loop) != 0)
        die("numbers");
    for (unsigned i = 0; i < c.parallel; i++)
        c.all[i].crowd = &c;
    timer_init(&c.tick, c.loop, on_tick, &c);
    timer_init(&c.end, c.loop, on_end, &c);
    if (stop_open(&c.stop, c.loop, on_stop, &c) != 0)
        die("signals");
    timer_every(&c.tick, 0, 10);
    timer_start(&c.end, strtoul(argv[4], NULL, 10) * 1000);
    (void)puts("ready");
    (void)fflush(stdout);
    loop_run(c.loop);
    (void)printf("{\"event\":\"strangers\",\"dials\":%lu,\"opened\":%lu,"
                 "\"welcomed\":%lu,\"introduced\":%lu,\"refused\":%lu,"
                 "\"tickets\":%lu,\"busy\":%lu,\"closed\":%lu}\n",
                 c.dials, c.opened, c.welcomed, c.introduced, c.refused, c.tickets,
                 c.busy, c.closed);
    return 0;
}

/*
 * A hostile client: names a victim's address as its own, in every way that the protocol
 * has, with many keys and one invite or with one listed key, and as often as the broker
 * lets it. Never sends a packet of a session. Prints how many introductions it sent and
 * how many approaches the host answered.
 *
 *   flooder INVITE VICTIM KEYS SECONDS [STATE...]   STATE: the key of that directory
 *
 * NORELAY=1 in the environment: its Offers allow no relay; SWEEPTCP=1: they ask for the
 * ports of a symmetric NAT by TCP too; SPREAD=1: VICTIM is a /16, and each address in
 * it a victim; NEWPORTS=1: each candidate has a port that none had before; PLAIN=1:
 * nothing but introductions, each with a packet that begins no handshake.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <sodium.h>

#include "core/kinds.h"
#include "core/link.h"
#include "core/proto.h"
#include "io/channel.h"
#include "io/loop.h"
#include "io/sockaddr.h"
#include "io/statedir.h"
#include "spread.h"

enum { CONVS = 64, TICK_MS = 50, AGAIN_TICKS = 6 };

struct flood;

struct conv {
    uint8_t id[CONV_LEN], check_key[16];
    uint32_t generation;
    bool answered;
};

struct device {
    struct flood *flood;
    struct keypair key;
    struct channel *channel;
    struct conv convs[CONVS];
    size_t conv_count; /* begun, of which the last CONVS are kept */
    bool up;
};

struct flood {
    struct loop *loop;
    struct link link;
    struct addr victim, broker;
    struct device *devices;
    unsigned count, ticks, ticks_max, introduced, answered, refused;
    bool listed, relay, sweeps_tcp, spread, new_ports, plain;
    uint32_t ports; /* named so far */
};

static void die(const char *what)
{
    fprintf(stderr, "flooder: %s\n", what);
    exit(1);
}

/* `i`: of two in three it hopes that the broker vouches for them. */
static void candidate(Candidate *c, struct flood *f, unsigned i, unsigned type,
                      uint32_t port)
{
    if (f->new_ports)
        port = 1024 + f->ports++ % 60000;
    struct addr a = f->victim;
    if (f->spread)
        a = i % 3 < 2 ? spread_vouched(&a, i / 3) : spread_other(&a);
    *c = (Candidate){.type = type, .port = port, .ip.size = (pb_size_t)addr_ip_len(&a)};
    memcpy(c->ip.bytes, a.ip, c->ip.size);
}

static void add_meet(Offer *o, struct flood *f, enum path_kind k, uint32_t round)
{
    const pb_size_t max = sizeof(o->meets) / sizeof(o->meets[0]);
    if (o->meets_count == max)
        return;
    Meet *m = &o->meets[o->meets_count++];
    snprintf(m->kind, sizeof(m->kind), "%s", path_kind_name(k));
    m->round = round;
    m->symmetric = m->low = k == PATH_TCP_PUNCH && f->sweeps_tcp;
    for (unsigned i = 0; i < 6; i++)
        candidate(&m->candidates[m->candidates_count++], f, i, CAND_HOST,
                  2000 + 100 * (uint32_t)k + i);
}

static size_t seal(struct device *d, struct conv *c, uint8_t *out, size_t cap)
{
    struct flood *f = d->flood;
    Offer *o = calloc(1, sizeof(*o));
    uint8_t plain[4096], nonce[SEAL_NONCE_LEN];
    if (o == NULL)
        die("memory");
    o->generation = c->generation;
    o->fresh = true;
    o->complete = true;
    o->mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
    memcpy(o->conv, c->id, CONV_LEN);
    o->check_key.size = sizeof(c->check_key);
    memcpy(o->check_key.bytes, c->check_key, sizeof(c->check_key));
    if (!f->listed) {
        o->invite_id.size = INVITE_ID_LEN;
        link_invite_id(o->invite_id.bytes, f->link.secret);
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        if (k == PATH_RELAY && !f->relay)
            continue;
        snprintf(o->kinds[o->kinds_count++], sizeof(o->kinds[0]), "%s",
                 path_kind_name((enum path_kind)k));
        if (k != PATH_RELAY && k != PATH_UDP_PUNCH)
            add_meet(o, f, (enum path_kind)k, c->generation);
    }
    for (unsigned i = 0; i < (f->plain ? 1 : 16); i++)
        candidate(&o->candidates[o->candidates_count++], f, i,
                  i % 2 == 0 ? CAND_REFLEXIVE : CAND_HOST, 1024 + 4000 * i);
    int n = proto_encode_offer(plain, sizeof(plain), o);
    free(o);
    if (n < 0)
        die("an offer is too long");
    randombytes_buf(nonce, sizeof(nonce));
    n = key_seal(out, cap, plain, (size_t)n, &d->key, f->link.host_key, nonce);
    return n > 0 ? (size_t)n : 0;
}

static void send_control(struct device *d, const Control *m)
{
    static uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    if (n < 0 || channel_send(d->channel, buf, (size_t)n) != 0)
        d->up = false;
}

static void introduce(struct device *d)
{
    Control m = {.which_body = Control_introduce_tag};
    Introduce *in = &m.body.introduce;
    struct conv *c = &d->convs[d->conv_count++ % CONVS];
    randombytes_buf(c, sizeof(*c));
    c->generation = 1;
    c->answered = false;
    memcpy(m.peer, d->flood->link.host_key, KEY_LEN);
    memcpy(m.conv, c->id, CONV_LEN);
    in->sealed.size = (pb_size_t)seal(d, c, in->sealed.bytes, sizeof(in->sealed.bytes));
    if (d->flood->plain) {
        in->early.size = 1200;
        randombytes_buf(in->early.bytes, in->early.size);
    }
    send_control(d, &m);
    d->flood->introduced++;
}

/* A network that changes all the time: every count begins anew. */
static void again(struct device *d)
{
    for (size_t i = 0; i < CONVS; i++) {
        struct conv *c = &d->convs[i];
        Control m = {.which_body = Control_signal_tag};
        Signal *s = &m.body.signal;
        if (!c->answered)
            continue;
        c->generation++;
        memcpy(m.peer, d->flood->link.host_key, KEY_LEN);
        memcpy(m.conv, c->id, CONV_LEN);
        s->sealed.size =
            (pb_size_t)seal(d, c, s->sealed.bytes, sizeof(s->sealed.bytes));
        send_control(d, &m);
    }
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    Control m = {.which_body = Control_hello_tag};
    (void)peer;
    m.body.hello.version = PROTO_VERSION;
    send_control(ctx, &m);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct device *d = ctx;
    static Control m;
    if (proto_decode_control(&m, msg, len) != 0)
        return;
    if (m.which_body == Control_welcome_tag) {
        d->up = true;
        introduce(d);
    } else if (m.which_body == Control_refuse_tag) {
        d->flood->refused++;
    } else if (m.which_body == Control_signal_tag) {
        for (size_t i = 0; i < CONVS; i++) {
            if (memcmp(d->convs[i].id, m.conv, CONV_LEN) != 0)
                continue;
            d->flood->answered += !d->convs[i].answered;
            d->convs[i].answered = true;
        }
    }
}

static void on_close(void *ctx, int err, const char *why)
{
    struct device *d = ctx;
    (void)err, (void)why;
    channel_free(d->channel);
    d->channel = NULL;
    d->up = false;
}

static const struct channel_events events = {on_open, on_message, on_close};

static void begin(struct device *d)
{
    struct flood *f = d->flood;
    struct sockaddr_storage ss;
    struct channel_config c = {
        .loop = f->loop, .own = &d->key, .events = &events, .ctx = d};
    socklen_t len = sockaddr_from_addr(&ss, &f->broker);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    (void)connect(fd, (struct sockaddr *)&ss, len);
    if (channel_new_client(&d->channel, &c, fd, f->link.broker_key) != 0)
        die("connection");
}

static void on_tick(void *ctx)
{
    struct flood *f = ctx;
    f->ticks++;
    for (unsigned i = 0; i < 8 && f->ticks > 1; i++) { /* the door's rate */
        unsigned next = (f->ticks - 2) * 8 + i;
        if (next < f->count)
            begin(&f->devices[next]);
    }
    for (unsigned i = 0; i < f->count; i++) {
        struct device *d = &f->devices[i];
        if (!d->up)
            continue;
        if (f->listed || f->ticks % 20 == 0)
            introduce(d);
        if (d->up && !f->plain && f->ticks % AGAIN_TICKS == 0)
            again(d);
    }
    if (f->ticks >= f->ticks_max)
        loop_stop(f->loop);
}

int main(int argc, char **argv)
{
    struct flood f = {.relay = getenv("NORELAY") == NULL,
                      .sweeps_tcp = getenv("SWEEPTCP") != NULL,
                      .spread = getenv("SPREAD") != NULL,
                      .new_ports = getenv("NEWPORTS") != NULL,
                      .plain = getenv("PLAIN") != NULL};
    struct fault fault = {0};
    struct statedir state;
    struct timer tick;
    if (argc < 5)
        die("usage: flooder INVITE VICTIM KEYS SECONDS [STATE]");
    (void)signal(SIGPIPE, SIG_IGN);
    if (sodium_init() < 0 || loop_open(&f.loop) != 0 ||
        link_parse(&f.link, argv[1], &fault) != 0 ||
        addr_parse_ip(&f.victim, argv[2]) != 0 ||
        addr_parse_ip(&f.broker, f.link.host) != 0)
        die("the link or the address is none");
    f.broker.port = f.link.port;
    f.listed = argc > 5;
    f.count = f.listed ? (unsigned)argc - 5 : (unsigned)strtoul(argv[3], NULL, 10);
    f.ticks_max = (unsigned)strtoul(argv[4], NULL, 10) * 1000 / TICK_MS;
    f.devices = calloc(f.count, sizeof(*f.devices));
    if (f.devices == NULL)
        die("memory");
    for (unsigned i = 0; i < f.count; i++) {
        uint8_t seed[KEY_LEN];
        f.devices[i].flood = &f;
        randombytes_buf(seed, sizeof(seed));
        keypair_from_seed(&f.devices[i].key, seed);
    }
    for (unsigned i = 0; f.listed && i < f.count; i++)
        if (statedir_open(&state, argv[5 + i], &fault) != 0 ||
            statedir_key(&state, &f.devices[i].key, &fault) != 0)
            die("no key in that directory");
    timer_init(&tick, f.loop, on_tick, &f);
    timer_every(&tick, TICK_MS, TICK_MS);
    loop_run(f.loop);
    printf("introduced %u answered %u refused %u\n", f.introduced, f.answered,
           f.refused);
    return 0;
}

/* The simulated internet itself: NATs, wires, TCP, and that a seed says all. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "core/rng.h"
#include "stack.h"

enum { SECOND = 1000000 };

/* A server with two addresses, and two homes of one device each behind a router. */
struct town {
    struct vnet *net;
    struct vnet_segment *internet;
    struct vnet_node *server, *router[2], *device[2];
    struct vnet_iface *outer[2];
    struct vstack *at_server, *at_device[2];
};

static void open_home(struct town *t, int i, const struct nat_config *nat,
                      const struct vnet_wire *wire)
{
    static const char *const outer[] = {"203.0.113.1/24", "203.0.113.2/24"};
    static const char *const inner[] = {"192.168.1.1/24", "192.168.2.1/24"};
    static const char *const device[] = {"192.168.1.10/24", "192.168.2.10/24"};
    static const char *const gateway[] = {"192.168.1.1", "192.168.2.1"};
    struct vnet_segment *home = vnet_segment_add(t->net);
    t->router[i] = vnet_node_add(t->net, "router", true);
    t->outer[i] = vnet_attach(t->router[i], t->internet, outer[i], wire);
    (void)vnet_attach(t->router[i], home, inner[i], NULL);
    vnet_set_nat(t->outer[i], ADDR_V4, nat);
    t->device[i] = vnet_node_add(t->net, "device", false);
    struct vnet_iface *eth = vnet_attach(t->device[i], home, device[i], NULL);
    vnet_add_route(t->device[i], "0.0.0.0/0", eth, gateway[i]);
    t->at_device[i] = vstack_new(t->device[i]);
}

static struct town *town_new(uint64_t seed, const struct nat_config *nat,
                             const struct vnet_wire *wire)
{
    static const struct vnet_wire usual = {.delay_us = 5000};
    struct town *t = calloc(1, sizeof(*t));
    assert_non_null(t);
    t->net = vnet_new(seed);
    t->internet = vnet_segment_add(t->net);
    t->server = vnet_node_add(t->net, "server", false);
    struct vnet_iface *eth =
        vnet_attach(t->server, t->internet, "203.0.113.10/24", &usual);
    vnet_add_address(eth, "203.0.113.11/24");
    t->at_server = vstack_new(t->server);
    for (int i = 0; i < 2; i++)
        open_home(t, i, nat, wire != NULL ? wire : &usual);
    return t;
}

static void town_free(struct town *t)
{
    vstack_free(t->at_server);
    vstack_free(t->at_device[0]);
    vstack_free(t->at_device[1]);
    vnet_free(t->net);
    free(t);
}

static void run_for(struct town *t, uint64_t us)
{
    uint64_t until = t->net->clock.now_us + us;
    while (vclock_step(&t->net->clock, until))
        continue;
}

static struct addr at(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

static struct vsock *udp_at(struct vstack *k, const char *where)
{
    struct addr a = at(where);
    struct vsock *s = vsock_new(k, VPROTO_UDP, ADDR_V4);
    assert_int_equal(vsock_bind(s, &a), 0);
    return s;
}

static void say(struct vsock *s, const char *to)
{
    struct addr none = {0}, a = at(to);
    assert_int_equal(vsock_send(s, "hello", 5, &none, &a), 5);
}

/* From where something came, or ADDR_NONE. */
static struct addr heard(struct vsock *s)
{
    char buf[16];
    struct addr from = {0}, to;
    if (vsock_receive(s, buf, sizeof(buf), false, &from, &to) < 0)
        from = (struct addr){0};
    return from;
}

static void send_to(struct vsock *s, const struct addr *to)
{
    struct addr none = {0};
    assert_int_equal(vsock_send(s, "hello", 5, &none, to), 5);
}

/* What each mapping gives two destinations, and each filter lets in (RFC 4787). */
static void test_nat_kinds(void **state)
{
    (void)state;
    for (int m = NAT_MAPPING_ENDPOINT_INDEPENDENT; m <= 4; m++) {
        for (int f = NAT_FILTERING_ENDPOINT_INDEPENDENT; f <= 3; f++) {
            struct nat_config c = {.translates = true,
                                   .mapping = (enum nat_mapping)m,
                                   .filtering = (enum nat_filtering)f,
                                   .ports = NAT_PORTS_RANDOM};
            struct town *t = town_new(1, &c, NULL);
            struct vsock *d = udp_at(t->at_device[0], "192.168.1.10:5000");
            struct vsock *a = udp_at(t->at_server, "203.0.113.10:1000");
            struct vsock *b = udp_at(t->at_server, "203.0.113.10:2000");
            struct vsock *e = udp_at(t->at_server, "203.0.113.11:1000");
            struct vsock *other_port = udp_at(t->at_server, "203.0.113.10:3000");
            struct vsock *other_ip = udp_at(t->at_server, "203.0.113.11:3000");
            say(d, "203.0.113.10:1000");
            run_for(t, SECOND);
            struct addr x = heard(a);
            assert_int_equal(x.family, ADDR_V4);
            send_to(other_ip, &x);
            send_to(other_port, &x);
            run_for(t, SECOND);
            unsigned in = 0;
            while (heard(d).family != ADDR_NONE)
                in++;
            assert_int_equal(in, f == 1 ? 2 : f == 2 ? 1 : 0);
            say(d, "203.0.113.10:2000");
            say(d, "203.0.113.11:1000");
            run_for(t, SECOND);
            struct addr y = heard(b), z = heard(e);
            assert_int_equal(addr_equal(&x, &y), m <= 3);
            assert_int_equal(addr_equal(&x, &z), m <= 2);
            town_free(t);
        }
    }
}

static void test_nat_forgets(void **state)
{
    struct nat_config c = {.translates = true,
                           .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                           .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                           .ports = NAT_PORTS_PRESERVED,
                           .udp_us = 30 * SECOND,
                           .sessions_max = 2};
    (void)state;
    struct town *t = town_new(1, &c, NULL);
    struct vsock *d = udp_at(t->at_device[0], "192.168.1.10:5000");
    struct vsock *a = udp_at(t->at_server, "203.0.113.10:1000");
    struct vsock *b = udp_at(t->at_server, "203.0.113.10:2000");
    say(d, "203.0.113.10:1000");
    run_for(t, SECOND);
    struct addr x = heard(a);
    assert_int_equal(x.port, 5000);
    run_for(t, 20 * SECOND);
    send_to(a, &x);
    run_for(t, SECOND);
    assert_int_equal(heard(d).port, 1000);
    run_for(t, 20 * SECOND); /* what comes in does not refresh here */
    send_to(a, &x);
    run_for(t, SECOND);
    assert_int_equal(heard(d).family, ADDR_NONE);
    say(d, "203.0.113.10:1000");
    run_for(t, SECOND);
    vnet_flush(t->router[0]);
    send_to(a, &x);
    run_for(t, SECOND);
    assert_int_equal(heard(d).family, ADDR_NONE);
    for (int i = 1; i <= 3; i++) { /* the table is full before the third */
        char to[] = "203.0.113.10:2000";
        to[11] = i == 1 ? '0' : '1';
        to[13] = i == 3 ? '1' : to[13];
        say(d, to);
    }
    run_for(t, SECOND);
    assert_int_equal(t->router[0]->nats[0]->refused, 1);
    (void)b;
    town_free(t);
}

/* The outer end of what port `from` of that inner host sends, or ADDR_NONE. */
static struct addr through(struct nat *n, const char *from, const char *to,
                           uint64_t now_us, uint64_t *rng)
{
    struct addr a = at(from), b = at(to);
    return nat_out(n, VPROTO_UDP, &a, &b, 0, now_us, rng) ? a : (struct addr){0};
}

/* How ports and addresses are given, as operators of NATs name it (RFC 6888, 7422). */
static void test_nat_ports(void **state)
{
    (void)state;
    struct nat n;
    uint64_t rng = 1;
    struct nat_config c = {.translates = true,
                           .mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
                           .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                           .ports = NAT_PORTS_RANDOM,
                           .keeps_low = true,
                           .ext = at("203.0.113.1:0"),
                           .more = {at("203.0.113.2:0"), at("203.0.113.3:0")},
                           .more_count = 2};
    nat_init(&n, &c);
    struct addr a = through(&n, "192.168.1.10:700", "203.0.113.10:1", 0, &rng);
    assert_in_range(a.port, 600, 1023);
    for (int i = 0; i < 20; i++) { /* paired: one inner address keeps one outer one */
        char to[] = "203.0.113.10:20";
        to[14] = (char)('0' + i % 10);
        to[13] = (char)('2' + i / 10);
        struct addr b = through(&n, "192.168.1.10:7000", to, 0, &rng);
        assert_true(addr_ip_equal(&a, &b) && b.port >= 1024);
        assert_true(nat_owns(&n, &b));
    }
    nat_fini(&n);
    c.pool_arbitrary = true;
    c.ports = NAT_PORTS_RANGE_RANDOM;
    c.range_size = 32;
    nat_init(&n, &c);
    bool differs = false;
    for (int i = 0; i < 9; i++) {
        char to[] = "203.0.113.10:1";
        to[13] = (char)('1' + i);
        struct addr b = through(&n, "192.168.1.10:7000", to, 0, &rng);
        differs = differs || !addr_ip_equal(&a, &b);
        assert_int_equal(b.port / 32,
                         through(&n, "192.168.1.10:8000", to, 0, &rng).port / 32);
    }
    assert_true(differs);
    nat_fini(&n);
}

/* Limits of new flows and of sessions, and who is banned for what. */
static void test_nat_limits(void **state)
{
    (void)state;
    struct nat n;
    uint64_t rng = 1;
    struct nat_config c = {.translates = true,
                           .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                           .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                           .ext = at("203.0.113.1:0"),
                           .new_per_s = 2,
                           .sessions_each = 3};
    nat_init(&n, &c);
    static const char *const to[] = {"203.0.113.10:1", "203.0.113.10:2",
                                     "203.0.113.10:3", "203.0.113.10:4"};
    unsigned got = 0;
    for (int second = 0; second < 3; second++)
        for (int i = 0; i < 4; i++)
            got +=
                through(&n, "192.168.1.10:7000", to[i], second * SECOND, &rng).port !=
                0;
    assert_int_equal(got, 2 + 3 + 3); /* two, one more, and the fourth never */
    assert_int_equal(nat_sessions(&n, 3 * SECOND), 3);
    nat_fini(&n);
    c.new_per_s = c.sessions_each = 0;
    c.ban_new_per_s = 3;
    c.ban_unexpected = 2;
    c.ban_us = 5 * SECOND;
    nat_init(&n, &c);
    for (int i = 0; i < 4; i++)
        (void)through(&n, "192.168.1.10:7000", to[i], 0, &rng);
    struct addr a = at("203.0.113.10:1"), b = at("203.0.113.1:7000"), scan = b;
    assert_false(nat_in(&n, VPROTO_UDP, &a, &b, 0, SECOND)); /* nothing reaches it */
    assert_int_equal(through(&n, "192.168.1.10:7000", to[0], 4 * SECOND, &rng).port, 0);
    assert_true(nat_in(&n, VPROTO_UDP, &a, &b, 0, 6 * SECOND));
    for (scan.port = 1; scan.port < 3; scan.port++)
        assert_false(nat_in(&n, VPROTO_UDP, &a, &scan, 0, 7 * SECOND));
    b = at("203.0.113.1:7000");
    assert_false(nat_in(&n, VPROTO_UDP, &a, &b, 0, 8 * SECOND));
    assert_int_equal(n.banned, 2);
    nat_fini(&n);
}

static void test_hairpin(void **state)
{
    (void)state;
    for (int hairpins = 0; hairpins < 2; hairpins++) {
        struct nat_config c = {.translates = true,
                               .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                               .filtering = NAT_FILTERING_ENDPOINT_INDEPENDENT,
                               .ports = NAT_PORTS_PRESERVED,
                               .hairpins = hairpins};
        struct town *t = town_new(1, &c, NULL);
        struct vsock *d = udp_at(t->at_device[0], "192.168.1.10:5000");
        struct vsock *e = udp_at(t->at_device[0], "192.168.1.10:6000");
        say(d, "203.0.113.10:1000");
        say(e, "203.0.113.1:5000");
        run_for(t, SECOND);
        struct addr from = heard(d);
        assert_int_equal(from.port, hairpins ? 6000 : 0);
        if (hairpins) /* as from outside */
            assert_int_equal(from.ip[0], 203);
        town_free(t);
    }
}

static struct vsock *listen_at(struct vstack *k, const char *where)
{
    struct addr a = at(where);
    struct vsock *s = vsock_new(k, VPROTO_TCP, ADDR_V4);
    assert_int_equal(vsock_bind(s, &a), 0);
    assert_int_equal(vsock_listen(s, 8), 0);
    return s;
}

static struct vsock *call(struct vstack *k, const char *to)
{
    struct addr a = at(to);
    struct vsock *s = vsock_new(k, VPROTO_TCP, ADDR_V4);
    assert_int_equal(vsock_connect(s, &a), -EINPROGRESS);
    return s;
}

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

/* Carries `total` bytes from `a` to `b`, which are its stream; the time it took. */
static uint64_t carry(struct town *t, struct vsock *a, struct vsock *b, size_t total)
{
    uint64_t begin = t->net->clock.now_us, limit = begin + (uint64_t)3600 * SECOND;
    uint64_t in_rng = 7, out_rng = 7;
    size_t sent = 0, got = 0;
    uint8_t buf[8192];
    while (got < total && t->net->clock.now_us < limit) {
        while (sent < total) {
            uint64_t before = out_rng;
            uint8_t byte = (uint8_t)rng_next(&out_rng);
            if (vsock_write(a, &byte, 1) != 1) {
                out_rng = before;
                break;
            }
            if (++sent == total)
                assert_int_equal(vsock_shutdown(a, SHUT_WR), 0);
        }
        long n;
        while ((n = vsock_read(b, buf, sizeof(buf), false)) > 0)
            for (long i = 0; i < n; i++, got++)
                assert_int_equal(buf[i], (uint8_t)rng_next(&in_rng));
        (void)vclock_step(&t->net->clock, limit);
    }
    assert_int_equal(got, total);
    assert_int_equal(vsock_read(b, buf, 1, false) <= 0, 1);
    return t->net->clock.now_us - begin;
}

static uint64_t stream_over(uint64_t seed, const struct vnet_wire *wire, size_t total)
{
    struct town *t = town_new(seed, &usual_nat, wire);
    struct vsock *l = listen_at(t->at_server, "203.0.113.10:443");
    struct vsock *c = call(t->at_device[0], "203.0.113.10:443");
    for (int i = 0; i < 300 && (vsock_ready(l) & POLLIN) == 0; i++)
        run_for(t, SECOND);
    struct vsock *s = vsock_accept(l);
    assert_non_null(s);
    struct addr from;
    assert_int_equal(vsock_remote(s, &from), 0);
    assert_int_equal(from.ip[0], 203);
    for (int i = 0; i < 300 && (vsock_ready(c) & POLLOUT) == 0; i++)
        run_for(t, SECOND);
    uint64_t took = carry(t, c, s, total);
    vsock_close(s);
    vsock_close(c);
    vsock_close(l);
    run_for(t, (uint64_t)3600 * SECOND);
    assert_int_equal(vstack_sockets(t->at_server), 0);
    assert_int_equal(vstack_lingering(t->at_server), 0);
    assert_int_equal(vstack_lingering(t->at_device[0]), 0);
    town_free(t);
    return took;
}

static void test_stream(void **state)
{
    static const struct vnet_wire bad = {.delay_us = 20000,
                                         .jitter_us = 3000,
                                         .loss_permille = 30,
                                         .double_permille = 10,
                                         .reorder_permille = 30};
    static const struct vnet_wire slow = {.delay_us = 5000, .rate_bps = 8000000};
    static const struct vnet_wire narrow = {.delay_us = 5000, .mtu = 1200};
    (void)state;
    assert_true(stream_over(1, NULL, 300000) < SECOND);
    assert_true(stream_over(1, &narrow, 300000) < 2 * SECOND);
    uint64_t took = stream_over(1, &slow, 4000000); /* a MB/s */
    assert_in_range(took, 4 * SECOND, 6 * SECOND);
    for (uint64_t seed = 1; seed <= 30; seed++)
        (void)stream_over(seed, &bad, 200000);
}

/* A wire that swallows what is too large stops TCP, unless the router sees to it. */
static void test_silent_mtu(void **state)
{
    static const struct vnet_wire hole = {
        .delay_us = 5000, .mtu = 1400, .mtu_silent = true};
    static const uint8_t much[20000];
    (void)state;
    for (int clamps = 0; clamps < 2; clamps++) {
        struct nat_config c = usual_nat;
        c.clamps = clamps;
        struct town *t = town_new(1, &c, &hole);
        struct vsock *l = listen_at(t->at_server, "203.0.113.10:443");
        struct vsock *s = call(t->at_device[0], "203.0.113.10:443");
        run_for(t, SECOND);
        struct vsock *far = vsock_accept(l);
        assert_int_equal(vsock_write(s, much, sizeof(much)), sizeof(much));
        assert_int_equal(vsock_write(far, much, sizeof(much)), sizeof(much));
        run_for(t, 5 * SECOND);
        assert_int_equal(vsock_unread(far) == sizeof(much), clamps);
        assert_int_equal(vsock_unread(s) == sizeof(much), clamps);
        town_free(t);
    }
}

static void test_same_seed(void **state)
{
    static const struct vnet_wire bad = {
        .delay_us = 20000, .jitter_us = 3000, .loss_permille = 50};
    (void)state;
    assert_int_equal(stream_over(5, &bad, 100000), stream_over(5, &bad, 100000));
    assert_int_not_equal(stream_over(5, &bad, 100000), stream_over(6, &bad, 100000));
}

static void test_refused(void **state)
{
    (void)state;
    struct town *t = town_new(1, &usual_nat, NULL);
    struct vsock *c = call(t->at_device[0], "203.0.113.10:81");
    struct vsock *nobody = call(t->at_device[0], "203.0.113.77:81");
    run_for(t, SECOND);
    assert_int_equal(vsock_error(c), ECONNREFUSED);
    assert_int_equal(vsock_error(nobody), EHOSTUNREACH);
    t->outer[0]->in.loss_permille = 1000;
    struct vsock *silent = call(t->at_device[0], "203.0.113.10:81");
    run_for(t, (uint64_t)126 * SECOND);
    assert_int_equal(vsock_error(silent), 0);
    run_for(t, 3 * SECOND);
    assert_int_equal(vsock_error(silent), ETIMEDOUT);
    town_free(t);
}

/* Both call through their NATs at once, the usual hole punching of TCP. */
static void test_both_call(void **state)
{
    (void)state;
    struct town *t = town_new(1, &usual_nat, NULL);
    struct vsock *s[2];
    static const char *const own[] = {"192.168.1.10:7000", "192.168.2.10:7000"};
    static const char *const far[] = {"203.0.113.2:7000", "203.0.113.1:7000"};
    for (int i = 0; i < 2; i++) {
        struct addr a = at(own[i]), b = at(far[i]);
        s[i] = vsock_new(t->at_device[i], VPROTO_TCP, ADDR_V4);
        assert_int_equal(vsock_bind(s[i], &a), 0);
        assert_int_equal(vsock_connect(s[i], &b), -EINPROGRESS);
    }
    run_for(t, 3 * SECOND);
    for (int i = 0; i < 2; i++)
        assert_int_equal(vsock_ready(s[i]) & (POLLOUT | POLLERR), POLLOUT);
    (void)carry(t, s[0], s[1], 1000);
    town_free(t);
}

static void test_reset(void **state)
{
    (void)state;
    struct town *t = town_new(1, &usual_nat, NULL);
    struct vsock *l = listen_at(t->at_server, "203.0.113.10:443");
    struct vsock *c = call(t->at_device[0], "203.0.113.10:443");
    run_for(t, SECOND);
    struct vsock *s = vsock_accept(l);
    vsock_set(s, VSOCK_ABORT, 1);
    vsock_close(s);
    run_for(t, SECOND);
    char byte;
    assert_int_equal(vsock_read(c, &byte, 1, false), -ECONNRESET);
    vsock_close(c);
    /* A flush of the NAT: silence, and the sender gives up by itself. */
    c = call(t->at_device[0], "203.0.113.10:443");
    vsock_set(c, VSOCK_GIVE_UP_MS, 20000);
    run_for(t, SECOND);
    s = vsock_accept(l);
    assert_non_null(s);
    vnet_flush(t->router[0]);
    assert_int_equal(vsock_write(c, "x", 1), 1);
    run_for(t, 60 * SECOND);
    assert_int_equal(vsock_read(c, &byte, 1, false), -ETIMEDOUT);
    town_free(t);
}

/* Who has sent all and heard all forgets the connection, and nothing that comes later,
 * such as a word of room from a slow reader, may have it reset. */
static void test_late_reader(void **state)
{
    static uint8_t much[300000];
    (void)state;
    struct town *t = town_new(1, &usual_nat, NULL);
    struct vsock *l = listen_at(t->at_server, "203.0.113.10:443");
    struct vsock *c = call(t->at_device[0], "203.0.113.10:443");
    run_for(t, SECOND);
    struct vsock *s = vsock_accept(l);
    assert_int_equal(vsock_shutdown(c, SHUT_WR), 0);
    size_t sent = 0, got = 0;
    long n;
    while (vsock_unsent(s) == 0) { /* until its reader has no room */
        sent += (size_t)vsock_write(s, much, 100000);
        run_for(t, SECOND);
    }
    got += (size_t)vsock_read(c, much, vsock_unsent(s), false);
    run_for(t, SECOND);
    vsock_close(s);
    run_for(t, SECOND);
    while ((n = vsock_read(c, much, sizeof(much), false)) > 0) {
        got += (size_t)n;
        run_for(t, SECOND);
    }
    assert_int_equal(n, 0);
    assert_int_equal(got, sent);
    town_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nat_kinds),  cmocka_unit_test(test_nat_forgets),
        cmocka_unit_test(test_nat_ports),  cmocka_unit_test(test_nat_limits),
        cmocka_unit_test(test_hairpin),    cmocka_unit_test(test_stream),
        cmocka_unit_test(test_same_seed),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_both_call),  cmocka_unit_test(test_reset),
        cmocka_unit_test(test_silent_mtu), cmocka_unit_test(test_late_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

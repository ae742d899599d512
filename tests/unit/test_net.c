/* Resolver and network monitor, the latter in a network namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/netmon.h"
#include "io/loop.h"
#include "io/resolve.h"
#include "io/sockaddr.h"
#include "path/net.h"

struct answer {
    int calls;
    int err;
    size_t n;
    struct addr first;
};

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct answer *a = ctx;
    a->calls++;
    a->err = err;
    a->n = n;
    if (n > 0)
        a->first = addrs[0];
}

static struct answer resolve(const char *host)
{
    struct answer a = {0};
    struct resolve *r;
    struct loop *loop;
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(resolve_start(&r, loop, host, 80, on_resolved, &a), 0);
    assert_int_equal(a.calls, 0); /* never inside the call */
    loop_run(loop);
    loop_close(loop);
    assert_int_equal(a.calls, 1);
    return a;
}

static void test_resolve(void **state)
{
    static const char *const numeric[][2] = {{"192.0.2.7", "192.0.2.7:80"},
                                             {"2001:db8::1", "[2001:db8::1]:80"},
                                             {"[2001:db8::1]", "[2001:db8::1]:80"},
                                             {"::ffff:192.0.2.7", NULL}};
    char text[ADDR_TEXT_LEN];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct answer a = resolve(numeric[i][0]);
        assert_int_equal(a.err, 0);
        assert_int_equal(a.n, 1);
        assert_string_equal(addr_format(&a.first, text), numeric[i][1]);
    }
    struct answer a = resolve("localhost");
    assert_int_equal(a.err, 0);
    assert_true(a.n >= 1);
    assert_int_equal(addr_scope_of(&a.first), ADDR_SCOPE_LOOPBACK);
    a = resolve("nothing.invalid"); /* RFC 6761 section 6.4 */
    assert_true(a.err < 0 && a.n == 0);
    struct loop *loop;
    struct resolve *r;
    assert_int_equal(loop_open(&loop), 0);
    assert_true(resolve_start(&r, loop, "", 1, on_resolved, NULL) < 0);
    assert_true(resolve_start(&r, loop, "[name]", 1, on_resolved, NULL) < 0);
    loop_close(loop);
}

static void test_resolve_cancel(void **state)
{
    static const char *const hosts[] = {"192.0.2.7", "localhost"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct answer a = {0};
        struct resolve *r;
        struct loop *loop;
        assert_int_equal(loop_open(&loop), 0);
        assert_int_equal(resolve_start(&r, loop, hosts[i], 80, on_resolved, &a), 0);
        resolve_cancel(r);
        loop_run(loop);
        loop_close(loop);
        assert_int_equal(a.calls, 0);
    }
    resolve_cancel(NULL);
}

static void test_split(void **state)
{
    static const struct {
        const char *text, *host;
        int port; /* 9: left alone; -1: refused */
    } cases[] = {
        {"a.example:80", "a.example", 80},
        {"a.example", "a.example", 9},
        {"1.2.3.4:5", "1.2.3.4", 5},
        {"1.2.3.4", "1.2.3.4", 9},
        {"[::1]:80", "::1", 80},
        {"[::1]", "::1", 9},
        {"::1", "::1", 9},
        {"2001:db8::1:80", "2001:db8::1:80", 9},
        {"", "", -1},
        {":80", "", -1},
        {"a:", "", -1},
        {"a:0", "", -1},
        {"a:65536", "", -1},
        {"a:8x", "", -1},
        {"[::1", "", -1},
        {"[::1]80", "", -1},
        {"[]:80", "", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char host[64] = "";
        uint16_t port = 9;
        int err = resolve_split(cases[i].text, host, sizeof(host), &port);
        if ((err == 0) != (cases[i].port >= 0))
            fail_msg("'%s' gave %d", cases[i].text, err);
        if (err == 0) {
            assert_string_equal(host, cases[i].host);
            assert_int_equal(port, cases[i].port);
        }
    }
}

static void test_sockaddr(void **state)
{
    static const char *const texts[] = {"192.0.2.7:80", "[2001:db8::1]:65535"};
    struct sockaddr_storage ss;
    struct addr a, b;
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(addr_parse(&a, texts[i]), 0);
        assert_true(sockaddr_from_addr(&ss, &a) > 0);
        assert_int_equal(sockaddr_to_addr(&b, (struct sockaddr *)&ss), 0);
        assert_true(addr_equal(&a, &b));
        assert_true(sockaddr_from_addr_mapped(&ss, &a) > 0);
        assert_int_equal(ss.ss_family, AF_INET6);
        assert_int_equal(sockaddr_to_addr(&b, (struct sockaddr *)&ss), 0);
        assert_true(addr_equal(&a, &b));
    }
    assert_int_equal(sockaddr_from_addr(&ss, &(struct addr){0}), 0);
    ss.ss_family = AF_UNIX;
    assert_true(sockaddr_to_addr(&b, (struct sockaddr *)&ss) < 0);
}

static void shell(const char *command)
{
    int r = system(command);
    if (r != 0)
        fail_msg("'%s' failed with %d", command, r);
}

static void enter_namespace_or_skip(void)
{
    if (unshare(CLONE_NEWNET) != 0) {
        print_message("skipped: cannot make a network namespace: %s\n",
                      strerror(errno));
        skip();
    }
}

static bool has(const char *text, size_t *n)
{
    struct addr found[32], want;
    bool yes = false;
    *n = netmon_addresses(found, 32, false);
    assert_int_equal(addr_parse_ip(&want, text), 0);
    for (size_t i = 0; i < *n; i++)
        yes = yes || addr_equal(&found[i], &want);
    return yes;
}

static void test_addresses(void **state)
{
    size_t n;
    struct addr found[32];
    (void)state;
    enter_namespace_or_skip();
    assert_int_equal(netmon_addresses(found, 32, true), 0); /* even lo is down */
    shell("ip link set lo up && ip link add d0 type veth peer name d0p && "
          "ip link set d0p up && ip link set d0 up && "
          "ip addr add 10.1.2.3/24 dev d0 && ip addr add 192.0.2.9/24 dev d0 && "
          "ip addr add 2001:db8::9/64 dev d0 nodad && "
          "ip addr add 2001:db8::10/64 dev d0 preferred_lft 0 && "
          "ip addr add fd00::9/64 dev d0 nodad");
    assert_true(has("10.1.2.3", &n) && has("192.0.2.9", &n) && has("2001:db8::9", &n) &&
                has("fd00::9", &n));
    assert_false(has("2001:db8::10", &n)); /* deprecated */
    assert_false(has("127.0.0.1", &n));
    assert_int_equal(n, 4);
    assert_int_equal(netmon_addresses(found, 32, true), 6);
    assert_int_equal(
        addr_scope_of(&(struct addr){.family = found[0].family,
                                     .port = 1,
                                     .ip = {found[0].ip[0], found[0].ip[1]}}),
        ADDR_SCOPE_GLOBAL);
    assert_int_equal(netmon_addresses(found, 2, true), 2);
    shell("ip link set d0 down");
    assert_false(has("10.1.2.3", &n));
}

struct change_watch {
    struct loop *loop;
    struct timer limit;
    struct netmon *n;
    int calls;
    enum netmon_reason reason;
};

static void on_change(void *ctx, enum netmon_reason reason)
{
    struct change_watch *w = ctx;
    w->calls++;
    w->reason = reason;
    loop_stop(w->loop);
}

static void on_limit(void *ctx)
{
    struct change_watch *w = ctx;
    loop_stop(w->loop);
}

/* Runs until the next change, at most `ms`; 0 when none came. */
static int next_change(struct change_watch *w, uint64_t ms)
{
    w->calls = 0;
    loop_refresh(w->loop);
    timer_start(&w->limit, ms);
    loop_run(w->loop);
    timer_stop(&w->limit);
    return w->calls > 0 ? (int)w->reason : 0;
}

static void test_way(void **state)
{
    struct addr here, there, none = {0}, loopback;
    (void)state;
    enter_namespace_or_skip();
    shell(
        "ip link set lo up && ip link add e0 type veth peer name e0p && "
        "ip link set e0p up && ip link set e0 up && ip addr add 10.2.0.1/24 dev e0 && "
        "ip link add e1 type veth peer name e1p && ip link set e1p up && "
        "ip link set e1 up && ip addr add 10.3.0.1/24 dev e1");
    assert_int_equal(addr_parse(&here, "10.2.0.1:1"), 0);
    assert_int_equal(addr_parse(&there, "192.0.2.1:1"), 0);
    assert_int_equal(addr_parse(&loopback, "127.0.0.1:1"), 0);
    assert_int_equal(netmon_way_of(&none, &there), NETMON_WAY_SAME);
    assert_int_equal(netmon_way_of(&loopback, &loopback), NETMON_WAY_SAME);
    assert_int_equal(netmon_way_of(&here, &there), NETMON_WAY_OTHER); /* no route */
    shell("ip route add default via 10.2.0.2");
    assert_int_equal(netmon_way_of(&here, &there), NETMON_WAY_SAME);
    shell("ip route add 192.0.2.0/24 via 10.3.0.2");
    assert_int_equal(netmon_way_of(&here, &there), NETMON_WAY_OTHER);
    shell("ip route del 192.0.2.0/24 && ip link set e0 down");
    assert_int_equal(netmon_way_of(&here, &there), NETMON_WAY_OTHER);
    shell("ip route add default via 10.3.0.2");
    assert_int_equal(netmon_way_of(&here, &there), NETMON_WAY_GONE);
    shell("ip route del default && ip addr flush dev e0");
    assert_int_equal(netmon_way_of(&here, &there), NETMON_WAY_GONE);
    shell("ip link del e0 && ip link del e1");
}

static void test_monitor(void **state)
{
    struct change_watch w = {0};
    (void)state;
    enter_namespace_or_skip();
    shell("ip link set lo up && ip link add d0 type veth peer name d0p && "
          "ip link set d0p up && ip link set d0 up");
    assert_int_equal(loop_open(&w.loop), 0);
    timer_init(&w.limit, w.loop, on_limit, &w);
    assert_int_equal(netmon_open(&w.n, w.loop, on_change, &w), 0);
    shell("ip addr add 10.1.2.3/24 dev d0");
    assert_int_equal(next_change(&w, 10000), NETMON_ADDRESSES);
    shell("ip route add default via 10.1.2.1");
    assert_int_equal(next_change(&w, 10000), NETMON_ROUTES);
    /* many changes at once are one; what moves no address or default route is none */
    shell("printf 'addr add 10.1.2.4/24 dev d0\\naddr add 10.1.2.5/24 dev d0\\n' | "
          "ip -batch -");
    assert_int_equal(next_change(&w, 10000), NETMON_ADDRESSES);
    shell("ip route add 10.9.0.0/16 via 10.1.2.1 && ip link add d1 type veth peer name "
          "d1p");
    assert_int_equal(next_change(&w, 1500), 0);
    /* what was connected from an address may be lost although it came back */
    shell("printf 'addr del 10.1.2.5/24 dev d0\\naddr add 10.1.2.5/24 dev d0\\n' | "
          "ip -batch -");
    assert_int_equal(next_change(&w, 10000), NETMON_ADDRESSES);
    shell("ip link set d0 down");
    assert_int_equal(next_change(&w, 10000), NETMON_ADDRESSES);
    netmon_close(w.n);
    loop_run(w.loop);
    loop_close(w.loop);
    netmon_close(NULL);
}

/* Shares are of what is left above the program's own, however little that is. */
static void test_descriptor_shares(void **state)
{
    static const struct {
        rlim_t max;
        unsigned percent;
        size_t share;
    } cases[] = {{16, 50, 0},  {32, 50, 0},   {64, 25, 8},
                 {64, 45, 14}, {110, 45, 35}, {1024, 40, 396}};
    struct rlimit was, r;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        r = (struct rlimit){cases[i].max, was.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
        assert_int_equal(net_descriptors_share(cases[i].percent), cases[i].share);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve),   cmocka_unit_test(test_resolve_cancel),
        cmocka_unit_test(test_split),     cmocka_unit_test(test_sockaddr),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_way),
        cmocka_unit_test(test_monitor),   cmocka_unit_test(test_descriptor_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

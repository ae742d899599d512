/* Who gives a relay pair when all are given: one stranger with many addresses, blocks
 * and keys keeps nobody out, and takes from nobody who holds less.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/relay.h"
#include "broker/relay_shares.h"
#include "io/loop.h"

enum { PAIRS = 240 };

struct one {
    struct share_place places[SHARE_MAX];
};

struct who {
    uint8_t client[KEY_LEN], host[KEY_LEN];
    struct addr from;
    struct share_ask ask;
};

static struct shares shares;

static struct who *who(struct who *w, unsigned client, unsigned host, const char *from)
{
    memset(w, 0, sizeof(*w));
    memcpy(w->client, &client, sizeof(client));
    memcpy(w->host, &host, sizeof(host));
    w->host[KEY_LEN - 1] = 1;
    assert_int_equal(addr_parse_ip(&w->from, from), 0);
    w->ask = (struct share_ask){
        .client = w->client, .host = w->host, .from = &w->from, .client_max = 512};
    return w;
}

static void take(struct one *p, const struct who *w)
{
    assert_int_equal(shares_take(&shares, &w->ask, p, p->places), 0);
}

static size_t yielding(struct one *all, const struct who *asks, bool busy)
{
    size_t n = 0;
    for (size_t i = 0; i < PAIRS; i++)
        n += shares_yields(&shares, all[i].places, &asks->ask, busy);
    return n;
}

static int setup(void **state)
{
    static const uint8_t secret[KEYMAP_SECRET_LEN] = {1};
    (void)state;
    return shares_init(&shares, PAIRS, secret);
}

static int teardown(void **state)
{
    (void)state;
    shares_fini(&shares);
    return 0;
}

static void give_all(struct one *all)
{
    for (size_t i = 0; i < PAIRS; i++)
        shares_give(&shares, all[i].places);
}

/* A host of one's own, a key each, an address in a block of its own each. */
static void test_one_host_of_a_stranger(void **state)
{
    (void)state;
    static struct one all[PAIRS];
    struct one honest;
    struct who w, other;
    char from[32];
    for (unsigned i = 0; i < PAIRS; i++) {
        (void)snprintf(from, sizeof(from), "198.19.%u.1", i);
        take(&all[i], who(&w, i, 1, from));
    }
    assert_int_equal(yielding(all, who(&other, 1000, 2, "192.0.2.1"), true), PAIRS);
    /* He himself takes from no other. */
    take(&honest, &other);
    assert_false(shares_yields(&shares, honest.places, &w.ask, true));
    for (unsigned i = 0; i < PAIRS; i++) /* down to a quarter for that host */
        if (i >= PAIRS / 4)
            shares_give(&shares, all[i].places);
    assert_int_equal(yielding(all, who(&other, 1001, 2, "192.0.2.2"), true), 0);
    give_all(all);
    shares_give(&shares, honest.places);
}

/* A host, a key and an address each, of one /48 or of fifty IPv4 /24. */
static void many_hosts(const char *form, unsigned blocks)
{
    static struct one all[PAIRS];
    struct one honest;
    struct who w, other;
    char from[64];
    for (unsigned i = 0; i < PAIRS; i++) {
        (void)snprintf(from, sizeof(from), form, i % blocks, 1 + i / blocks);
        take(&all[i], who(&w, i, i, from));
    }
    assert_int_equal(yielding(all, who(&other, 1000, 2000, "192.0.2.1"), true), PAIRS);
    take(&honest, &other);
    assert_false(shares_yields(&shares, honest.places, &w.ask, false));
    assert_false(shares_yields(&shares, honest.places, &w.ask, true));
    assert_true(shares_yields(&shares, all[PAIRS - 1].places, &w.ask, false));
    give_all(all);
    shares_give(&shares, honest.places);
}

static void test_many_hosts_of_a_stranger(void **state)
{
    (void)state;
    many_hosts("198.19.%u.%u", 50);
    many_hosts("2001:db8:1:%x::%x", 200);
}

/* Equals take nothing in use from each other. */
static void test_equals(void **state)
{
    (void)state;
    struct one p;
    struct who a, b;
    take(&p, who(&a, 1, 1, "192.0.2.1"));
    assert_false(
        shares_yields(&shares, p.places, &who(&b, 2, 2, "198.19.0.1")->ask, true));
    assert_true(shares_yields(&shares, p.places, &b.ask, false));
    shares_give(&shares, p.places);
}

/* The sockets of a pair that stands: the ends of its two devices. */
struct ends {
    int client, host;
};

static bool pair_up(struct relay *r, const struct who *w, unsigned conv,
                    struct ends *out)
{
    uint8_t id[CONV_LEN] = {0};
    struct relay_tickets t;
    const char *whose;
    int a[2], b[2];
    memcpy(id, &conv, sizeof(conv));
    struct relay_ask ask = {.client = w->client,
                            .host = w->host,
                            .conv = id,
                            .from = &w->from,
                            .client_max = 512};
    if (relay_issue(r, &ask, &t, &whose) != 0)
        return false;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
    relay_join(r, a[0], t.client);
    relay_join(r, b[0], t.host);
    *out = (struct ends){a[1], b[1]};
    return true;
}

static bool stands(const struct ends *e)
{
    uint8_t byte;
    ssize_t n;
    while ((n = recv(e->client, &byte, 1, 0)) > 0)
        ; /* waiting, joined */
    return n < 0 && errno == EAGAIN;
}

/* All pairs stand and are in use, of one stranger at 200 addresses, when others come.
 */
static void test_taken_by_a_stranger(void **state)
{
    (void)state;
    static struct ends his[PAIRS * 2], theirs[50];
    struct loop *loop;
    struct relay *r;
    struct who w;
    char from[32];
    unsigned got = 0, left = 0;
    struct rlimit many = {4096, 4096};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &many), 0);
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(relay_open(&r, loop, 0, PAIRS), 0);
    for (unsigned i = 0; i < PAIRS * 2; i++) {
        (void)snprintf(from, sizeof(from), "198.19.%u.%u", i % 200 / 4, 1 + i % 4 * 64);
        got += pair_up(r, who(&w, i, i, from), i, &his[i]);
    }
    assert_true(got >= PAIRS);
    for (unsigned i = 0; i < 50; i++) {
        (void)snprintf(from, sizeof(from), "192.0.%u.1", i);
        assert_true(pair_up(r, who(&w, 5000 + i, 6000, from), i, &theirs[i]));
    }
    for (unsigned i = 0; i < 50; i++) { /* and he takes none of them back */
        (void)snprintf(from, sizeof(from), "198.19.%u.%u", i, 200);
        struct ends more;
        if (pair_up(r, who(&w, 7000 + i, 8000 + i, from), i, &more)) {
            close(more.client);
            close(more.host);
        }
    }
    for (unsigned i = 0; i < 50; i++)
        left += stands(&theirs[i]);
    assert_int_equal(left, 50);
    relay_close(r);
    loop_run(loop);
    loop_close(loop);
    for (unsigned i = 0; i < PAIRS * 2; i++) {
        if (his[i].client > 0) {
            close(his[i].client);
            close(his[i].host);
        }
    }
    for (unsigned i = 0; i < 50; i++) {
        close(theirs[i].client);
        close(theirs[i].host);
    }
}

/* The one that stands goes on until a new one of the same names is joined. */
static void test_one_beside_another(void **state)
{
    (void)state;
    uint8_t conv[CONV_LEN] = {0};
    struct who w;
    struct loop *loop;
    struct relay *r;
    struct relay_tickets t;
    struct ends old, new;
    const char *whose;
    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(relay_open(&r, loop, 0, PAIRS), 0);
    assert_true(pair_up(r, who(&w, 1, 2, "192.0.2.1"), 0, &old));
    struct relay_ask ask = {.client = w.client,
                            .host = w.host,
                            .conv = conv,
                            .from = &w.from,
                            .client_max = 2};
    for (int i = 0; i < 3; i++) { /* each takes the place of the one before */
        assert_int_equal(relay_issue(r, &ask, &t, &whose), 0);
        assert_true(stands(&old) && relay_knows(r, &ask));
    }
    struct relay_stats stats;
    relay_read_stats(r, &stats);
    assert_int_equal(stats.pairs_open, 2);
    relay_revoke(r, &t);
    assert_true(stands(&old) && relay_knows(r, &ask));
    assert_true(pair_up(r, &w, 0, &new));
    assert_true(stands(&new) && !stands(&old));
    ask.client_max = 1; /* no room for two */
    assert_int_equal(relay_issue(r, &ask, &t, &whose), 0);
    assert_true(!stands(&new) && relay_knows(r, &ask));
    relay_end(r, &ask);
    assert_false(relay_knows(r, &ask));
    relay_close(r);
    loop_run(loop);
    loop_close(loop);
    close(old.client);
    close(old.host);
    close(new.client);
    close(new.host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_host_of_a_stranger, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_hosts_of_a_stranger, setup, teardown),
        cmocka_unit_test_setup_teardown(test_equals, setup, teardown),
        cmocka_unit_test(test_taken_by_a_stranger),
        cmocka_unit_test(test_one_beside_another),
    };
    return cmocka_run_group_tests_name("relay_shares", tests, NULL, NULL);
}

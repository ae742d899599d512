/* The mapping table by hand: who may come in, what ends whom, and the bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "routes_fixture.h"

static struct route_grant grant(uint64_t login, const char *client, uint16_t port,
                                uint32_t host, const char *service)
{
    struct route_grant g = {
        .login = login, .client = address(client), .port = port, .host = host};
    (void)snprintf(g.service, sizeof(g.service), "%s", service);
    (void)snprintf(g.account, sizeof(g.account), "anna");
    return g;
}

static void test_stranger_and_friend(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(7, "198.51.100.4:1", 22, 3, "ssh");
    struct addr friend = address("198.51.100.4:5000"),
                stranger = address("198.51.100.5:5000");
    uint64_t made, id, other;
    (void)state;
    assert_int_equal(routes_grant(f->r, &g, &made), 0);
    assert_int_equal(routes_open(f->r, &stranger, 22, false, true, 10, &id),
                     POSTERN_ERR_DENIED);
    assert_int_equal(routes_open(f->r, &friend, 23, false, true, 10, &id),
                     POSTERN_ERR_DENIED);
    assert_int_equal(routes_open(f->r, &friend, 22, true, true, 10, &id),
                     POSTERN_ERR_DENIED);
    assert_int_equal(routes_open(f->r, &friend, 22, false, true, 10, &id), 0);
    assert_int_equal(routes_open(f->r, &friend, 22, false, true, 10, &other),
                     POSTERN_ERR_INUSE);
    struct route_entry *e = routes_find(f->r, &friend, 22, false);
    assert_non_null(e);
    assert_ptr_equal(e, routes_entry(f->r, id));
    assert_int_equal(e->state, ROUTE_WAITING);
    assert_int_equal(e->grant, made);
    assert_int_equal(routes_grant_by_id(f->r, e->grant)->host, 3);
    assert_string_equal(routes_grant_by_id(f->r, e->grant)->service, "ssh");
    assert_int_equal(routes_accepted(f->r, id), 0);
    assert_int_equal(e->state, ROUTE_OPEN);
    assert_int_equal(routes_accepted(f->r, id), POSTERN_ERR_INVALID);
    assert_int_equal(routes_close(f->r, id), 0);
    assert_int_equal(routes_close(f->r, id), POSTERN_ERR_NOTFOUND);
    assert_int_equal(routes_accepted(f->r, id), POSTERN_ERR_NOTFOUND);
    assert_int_equal(routes_open(f->r, &friend, 22, false, true, 10, &other), 0);
    assert_int_not_equal(id, other); /* never used again */
    assert_int_equal(f->reports.count, 0);
    end(f);
}

static void test_whose_address_counts_as_the_same(void **state)
{
    static const struct {
        const char *grant, *client;
        uint32_t grant_scope, client_scope;
        int want;
    } cases[] = {
        {"192.0.2.1:1", "192.0.2.1:9", 0, 0, 0},
        {"192.0.2.1:1", "192.0.2.2:9", 0, 0, POSTERN_ERR_DENIED},
        {"[2001:db8::1]:1", "[2001:db8::2]:9", 0, 0, 0},
        {"[2001:db8::1]:1", "[2001:db8::ffff:1:2:3]:9", 0, 0, 0},
        {"[2001:db8::1]:1", "[2001:db8:0:1::1]:9", 0, 0, POSTERN_ERR_DENIED},
        {"[fe80::1]:1", "[fe80::1]:9", 2, 2, 0},
        {"[fe80::1]:1", "[fe80::2]:9", 2, 2, POSTERN_ERR_DENIED},
        {"[fe80::1]:1", "[fe80::1]:9", 2, 3, POSTERN_ERR_DENIED},
        /* The bytes of an IPv4 address are not those of an IPv6 prefix. */
        {"192.0.2.1:1", "[c000:0201::]:9", 0, 0, POSTERN_ERR_DENIED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture *f = begin();
        struct route_grant g = grant(1, cases[i].grant, 80, 0, "web");
        struct addr client = address(cases[i].client);
        uint64_t id;
        g.client.scope = cases[i].grant_scope;
        client.scope = cases[i].client_scope;
        assert_int_equal(routes_grant(f->r, &g, NULL), 0);
        assert_int_equal(routes_open(f->r, &client, 80, false, true, 0, &id),
                         cases[i].want);
        assert_int_equal(routes_holder(f->r, &client, 80, false) != NULL,
                         cases[i].want == 0);
        end(f);
    }
}

static void test_one_port_leads_to_one_target(void **state)
{
    struct fixture *f = begin();
    struct route_grant a = grant(1, "192.0.2.1:0", 22, 1, "ssh"), b = a, other;
    uint64_t first, again;
    (void)state;
    b.login = 2; /* the same account, from another browser there */
    assert_int_equal(routes_grant(f->r, &a, &first), 0);
    assert_int_equal(routes_grant(f->r, &a, &again), 0);
    assert_int_equal(first, again);
    assert_int_equal(routes_grant(f->r, &b, &again), 0);
    assert_int_not_equal(first, again);
    for (uint64_t login = 1; login <= 3; login++) {
        other = a;
        other.login = login;
        other.host = 2;
        assert_int_equal(routes_grant(f->r, &other, NULL), POSTERN_ERR_INUSE);
        other = grant(login, "192.0.2.1:0", 22, 1, "sshd");
        assert_int_equal(routes_grant(f->r, &other, NULL), POSTERN_ERR_INUSE);
        other = a; /* the same service, which may be another instance for her */
        other.login = login;
        (void)snprintf(other.account, sizeof(other.account), "berta");
        assert_int_equal(routes_grant(f->r, &other, NULL), POSTERN_ERR_INUSE);
    }
    assert_int_equal(routes_grant_count(f->r), 2);
    other.port = 10022;
    assert_int_equal(routes_grant(f->r, &other, NULL), 0);
    struct addr client = address("192.0.2.1:999");
    assert_string_equal(routes_holder(f->r, &client, 10022, false)->account, "berta");
    assert_string_equal(routes_holder(f->r, &client, 22, false)->account, "anna");
    end(f);
}

static void test_entries_go_on_with_the_same_target_only(void **state)
{
    struct fixture *f = begin();
    struct route_grant a = grant(1, "192.0.2.1:0", 22, 1, "ssh"), b = a, away = a;
    struct addr client = address("192.0.2.1:999");
    uint64_t first, second, id;
    (void)state;
    b.login = 2;
    away.login = 3;
    away.client = address("192.0.2.2:0");
    assert_int_equal(routes_grant(f->r, &a, &first), 0);
    assert_int_equal(routes_grant(f->r, &away, NULL), 0);
    assert_int_equal(routes_grant(f->r, &b, &second), 0);
    assert_int_equal(routes_holder(f->r, &client, 22, false)->id, first);
    assert_int_equal(routes_open(f->r, &client, 22, false, true, 0, &id), 0);
    assert_int_equal(routes_entry(f->r, id)->grant, first);
    assert_int_equal(routes_give_up(f->r, first), 0); /* login 1 is gone */
    assert_int_equal(f->reports.count, 0);
    assert_int_equal(routes_entry(f->r, id)->grant, second);
    assert_int_equal(routes_login_entries(f->r, 2), 1);
    assert_int_equal(routes_holder(f->r, &client, 22, false)->login, 2);
    assert_int_equal(routes_give_up_login(f->r, 2), 1); /* nobody is left here */
    assert_int_equal(f->reports.count, 1);
    assert_int_equal(f->reports.ids[0], id);
    assert_int_equal(f->reports.why[0], ROUTE_END_REVOKED);
    assert_int_equal(routes_give_up(f->r, first), POSTERN_ERR_NOTFOUND);
    assert_true(routes_port_in_use(f->r, 22, false)); /* by login 3 */
    assert_int_equal(routes_give_up_login(f->r, 3), 1);
    assert_false(routes_port_in_use(f->r, 22, false));
    /* A right that is gone takes its entries along, whoever else has the port. */
    assert_int_equal(routes_grant(f->r, &a, &first), 0);
    assert_int_equal(routes_grant(f->r, &b, &second), 0);
    assert_int_equal(routes_open(f->r, &client, 22, false, true, 0, &id), 0);
    assert_int_equal(routes_revoke(f->r, first), 0);
    assert_int_equal(f->reports.count, 2);
    assert_int_equal(routes_login_entries(f->r, 2), 0);
    assert_int_equal(routes_revoke(f->r, first), POSTERN_ERR_NOTFOUND);
    end(f);
}

static void test_another_address_replaces_the_grant(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(1, "192.0.2.1:0", 22, 1, "ssh");
    struct addr client = address("192.0.2.1:999");
    uint64_t before, after, id;
    (void)state;
    assert_int_equal(routes_grant(f->r, &g, &before), 0);
    assert_int_equal(routes_open(f->r, &client, 22, false, true, 0, &id), 0);
    g.client = address("192.0.2.9:0");
    assert_int_equal(routes_grant(f->r, &g, &after), 0);
    assert_int_not_equal(before, after);
    assert_int_equal(f->reports.count, 1);
    assert_null(routes_grant_by_id(f->r, before));
    assert_int_equal(routes_open(f->r, &client, 22, false, true, 0, &id),
                     POSTERN_ERR_DENIED);
    assert_int_equal(routes_grant_count(f->r), 1);
    end(f);
}

static void test_refuses_what_is_no_grant(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(1, "192.0.2.1:0", 22, 1, "ssh"), bad;
    struct addr none = {0}, no_port = address("192.0.2.1:0");
    uint64_t id;
    (void)state;
    bad = g;
    bad.port = 0;
    assert_int_equal(routes_grant(f->r, &bad, NULL), POSTERN_ERR_INVALID);
    bad = g;
    bad.client = none;
    assert_int_equal(routes_grant(f->r, &bad, NULL), POSTERN_ERR_INVALID);
    bad = g;
    bad.service[0] = '\0';
    assert_int_equal(routes_grant(f->r, &bad, NULL), POSTERN_ERR_INVALID);
    memset(bad.service, 'x', sizeof(bad.service));
    assert_int_equal(routes_grant(f->r, &bad, NULL), POSTERN_ERR_INVALID);
    bad = g;
    memset(bad.account, 'x', sizeof(bad.account));
    assert_int_equal(routes_grant(f->r, &bad, NULL), POSTERN_ERR_INVALID);
    assert_int_equal(routes_grant(f->r, &g, NULL), 0);
    assert_int_equal(routes_open(f->r, &no_port, 22, false, true, 0, &id),
                     POSTERN_ERR_INVALID);
    assert_int_equal(routes_open(f->r, &none, 22, false, true, 0, &id),
                     POSTERN_ERR_INVALID);
    assert_null(routes_find(f->r, &none, 22, false));
    assert_null(routes_holder(f->r, &none, 22, false));
    assert_null(routes_entry(f->r, 0));
    assert_null(routes_grant_by_id(f->r, 0));
    end(f);
}

static void test_limits(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(1, "192.0.2.1:0", 1, 1, "s");
    struct addr client = address("192.0.2.1:1");
    uint64_t id, first = 0;
    (void)state;
    for (uint32_t i = 0; i < ROUTES_GRANTS_MAX; i++) {
        g.login = i / ROUTES_GRANTS_LOGIN_MAX;
        g.port = (uint16_t)(i + 1);
        g.host = i;
        assert_int_equal(routes_grant(f->r, &g, i == 0 ? &first : NULL), 0);
        if (i == ROUTES_GRANTS_LOGIN_MAX - 1) { /* its login has all it may */
            g.host = 999999;
            g.port = 60000;
            assert_int_equal(routes_grant(f->r, &g, NULL), POSTERN_ERR_LIMIT);
        }
    }
    g.login = 999999;
    g.host = 999999;
    g.port = 60000;
    assert_int_equal(routes_grant(f->r, &g, NULL), POSTERN_ERR_LIMIT);
    g.login = 0; /* in a full table, replacing still works */
    g.host = 0;
    assert_int_equal(routes_grant(f->r, &g, NULL), 0);
    assert_null(routes_grant_by_id(f->r, first));
    for (uint32_t login = 0; login < ROUTES_ENTRIES_MAX / ROUTES_ENTRIES_LOGIN_MAX;
         login++) {
        for (uint32_t i = 0; i <= ROUTES_ENTRIES_LOGIN_MAX; i++) {
            client.port = (uint16_t)(1000 + i);
            int rc = routes_open(f->r, &client,
                                 (uint16_t)(login * ROUTES_GRANTS_LOGIN_MAX + 2), false,
                                 true, 0, &id);
            assert_int_equal(rc, i < ROUTES_ENTRIES_LOGIN_MAX ? 0 : POSTERN_ERR_LIMIT);
        }
    }
    assert_int_equal(routes_entry_count(f->r), ROUTES_ENTRIES_MAX);
    assert_int_equal(routes_login_entries(f->r, 3), ROUTES_ENTRIES_LOGIN_MAX);
    assert_int_equal(routes_expire(f->r, true, 1000, 1), 0); /* none is UDP */
    assert_int_equal(routes_expire(f->r, false, 1000, 1), ROUTES_ENTRIES_MAX);
    assert_int_equal(f->reports.count, ROUTES_ENTRIES_MAX);
    assert_int_equal(routes_entry_count(f->r), 0);
    end(f);
}

/* The limit is the login's: its twin behind the same NAT has room of its own. */
static void test_a_full_login_makes_way_for_the_next(void **state)
{
    struct fixture *f = begin();
    struct route_grant a = grant(1, "192.0.2.1:0", 22, 1, "ssh"), b = a;
    struct addr client = address("192.0.2.1:1");
    uint64_t id;
    (void)state;
    b.login = 2;
    assert_int_equal(routes_grant(f->r, &a, NULL), 0);
    assert_int_equal(routes_grant(f->r, &b, NULL), 0);
    for (unsigned i = 0; i <= 2 * ROUTES_ENTRIES_LOGIN_MAX; i++) {
        client.port = (uint16_t)(i + 1);
        assert_int_equal(routes_open(f->r, &client, 22, false, true, 0, &id),
                         i < 2 * ROUTES_ENTRIES_LOGIN_MAX ? 0 : POSTERN_ERR_LIMIT);
    }
    assert_int_equal(routes_login_entries(f->r, 1), ROUTES_ENTRIES_LOGIN_MAX);
    assert_int_equal(routes_login_entries(f->r, 2), ROUTES_ENTRIES_LOGIN_MAX);
    end(f);
}

/* Opens `n` more, each from the next port of the client; the last one's id. */
static uint64_t open_more(struct fixture *f, struct addr *client,
                          const struct route_grant *g, bool proven, unsigned n,
                          uint64_t now_ms)
{
    uint64_t id = 0;
    while (n-- > 0) {
        client->port++;
        assert_int_equal(
            routes_open(f->r, client, g->port, g->udp, proven, now_ms, &id), 0);
    }
    return id;
}

/* A stranger may have written the address of a login into a SYN. */
static void test_connections_that_prove_nothing_take_no_place(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(1, "192.0.2.1:0", 22, 1, "ssh");
    struct addr client = address("192.0.2.1:1");
    uint64_t id, last;
    (void)state;
    assert_int_equal(routes_grant(f->r, &g, NULL), 0);
    last = open_more(f, &client, &g, false, ROUTES_UNPROVEN_LOGIN_MAX, 0);
    client.port++;
    assert_int_equal(routes_open(f->r, &client, 22, false, false, 0, &id),
                     POSTERN_ERR_AGAIN);
    (void)open_more(f, &client, &g, true, ROUTES_ENTRIES_LOGIN_MAX, 0);
    assert_int_equal(f->reports.count, 0);
    /* There is no place that it could prove itself into. */
    assert_int_equal(routes_prove(f->r, last, 0), POSTERN_ERR_LIMIT);
    client.port++;
    assert_int_equal(routes_open(f->r, &client, 22, false, false, 0, &id),
                     POSTERN_ERR_LIMIT);
    client.port = 100;
    assert_int_equal(routes_close(f->r, routes_find(f->r, &client, 22, false)->id), 0);
    assert_int_equal(routes_prove(f->r, last, 0), 0);
    assert_int_equal(routes_prove(f->r, last, 0), 0);
    assert_true(routes_entry(f->r, last)->proven);
    assert_int_equal(routes_login_entries(f->r, 1),
                     ROUTES_ENTRIES_LOGIN_MAX + ROUTES_UNPROVEN_LOGIN_MAX - 1);
    end(f);
}

/* One packet a flow: the longest silent goes, and none that was heard again. */
static void test_flows_that_prove_nothing_make_way(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(1, "192.0.2.1:0", 53, 1, "dns");
    struct addr client = address("192.0.2.1:1");
    (void)state;
    g.udp = true;
    assert_int_equal(routes_grant(f->r, &g, NULL), 0);
    uint64_t real = open_more(f, &client, &g, false, 1, 0);
    uint64_t busy = open_more(f, &client, &g, false, 1, 1);
    assert_int_equal(routes_prove(f->r, real, 2), 0);
    for (unsigned i = 0; i < 1000; i++) {
        (void)open_more(f, &client, &g, false, 1, 10 + i);
        assert_int_equal(routes_touch(f->r, busy, 10 + i), 0);
    }
    assert_int_equal(routes_entry_count(f->r), 1 + ROUTES_UNPROVEN_LOGIN_MAX);
    assert_non_null(routes_entry(f->r, real));
    assert_non_null(routes_entry(f->r, busy));
    assert_int_equal(f->reports.count, 1001 - ROUTES_UNPROVEN_LOGIN_MAX);
    assert_int_equal(f->reports.why[0], ROUTE_END_CROWDED);
    end(f);
}

/* A second packet in another's name is no large feat: what is a connection stays. */
static void test_a_connection_has_a_flows_place(void **state)
{
    struct fixture *f = begin();
    struct route_grant dns = grant(1, "192.0.2.1:0", 53, 1, "dns"),
                       ssh = grant(1, "192.0.2.1:0", 22, 1, "ssh");
    struct addr client = address("192.0.2.1:1");
    (void)state;
    dns.udp = true;
    assert_int_equal(routes_grant(f->r, &dns, NULL), 0);
    assert_int_equal(routes_grant(f->r, &ssh, NULL), 0);
    uint64_t kept = open_more(f, &client, &ssh, true, 1, 0);
    for (unsigned i = 0; i < 2 * ROUTES_ENTRIES_LOGIN_MAX; i++)
        assert_int_equal(
            routes_prove(f->r, open_more(f, &client, &dns, false, 1, 1), 1), 0);
    assert_int_equal(routes_login_entries(f->r, 1), ROUTES_ENTRIES_LOGIN_MAX);
    uint64_t asked = open_more(f, &client, &ssh, false, 1, 2);
    assert_int_equal(routes_prove(f->r, asked, 2), 0);
    (void)open_more(f, &client, &ssh, true, ROUTES_ENTRIES_LOGIN_MAX - 2, 3);
    assert_int_equal(routes_login_entries(f->r, 1), ROUTES_ENTRIES_LOGIN_MAX);
    assert_non_null(routes_entry(f->r, kept));
    assert_non_null(routes_entry(f->r, asked));
    assert_int_equal(routes_expire(f->r, true, 1000, 1), 0); /* all flows are gone */
    end(f);
}

/* In a full table the flow goes of all that has proven nothing. */
static void test_a_full_table_drops_what_proved_nothing(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(0, "192.0.2.1:0", 1, 1, "s"), dns = g;
    struct addr client = address("192.0.2.1:1");
    uint64_t id;
    (void)state;
    dns.login = 1000;
    dns.udp = true;
    assert_int_equal(routes_grant(f->r, &dns, NULL), 0);
    (void)open_more(f, &client, &dns, false, 2, 0);
    while (routes_entry_count(f->r) < ROUTES_ENTRIES_MAX) {
        if (g.entries++ % ROUTES_ENTRIES_LOGIN_MAX == 0) {
            g.login++;
            g.port++;
            assert_int_equal(routes_grant(f->r, &g, NULL), 0);
        }
        (void)open_more(f, &client, &g, true, 1, 1);
    }
    assert_int_equal(f->reports.count, 0);
    (void)open_more(f, &client, &g, true, 2, 2);
    assert_int_equal(f->reports.count, 2);
    client.port++;
    assert_int_equal(routes_open(f->r, &client, dns.port, true, false, 3, &id),
                     POSTERN_ERR_LIMIT);
    end(f);
}

static void test_expires_the_silent_ones(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(1, "192.0.2.1:0", 53, 1, "dns");
    struct addr client = address("192.0.2.1:1");
    uint64_t id[3];
    (void)state;
    g.udp = true;
    assert_int_equal(routes_grant(f->r, &g, NULL), 0);
    assert_int_equal(routes_next_expiry(f->r, true, 100), UINT64_MAX);
    for (int i = 0; i < 3; i++) {
        client.port = (uint16_t)(i + 1);
        assert_int_equal(
            routes_open(f->r, &client, 53, true, true, (uint64_t)i * 10, &id[i]), 0);
    }
    assert_int_equal(routes_touch(f->r, id[0], 50), 0);
    assert_int_equal(routes_touch(f->r, id[0] + 1, 50), POSTERN_ERR_NOTFOUND);
    assert_int_equal(routes_next_expiry(f->r, true, 100), 110);
    assert_int_equal(routes_expire(f->r, true, 109, 100), 0);
    assert_int_equal(routes_expire(f->r, true, 120, 100), 2);
    assert_int_equal(f->reports.ids[0], id[1]);
    assert_int_equal(f->reports.ids[1], id[2]);
    assert_int_equal(f->reports.why[0], ROUTE_END_IDLE);
    assert_int_equal(routes_next_expiry(f->r, true, 100), 150);
    /* A clock that goes back does not harm the order. */
    assert_int_equal(routes_touch(f->r, id[0], 1), 0);
    assert_int_equal(routes_next_expiry(f->r, true, 100), 220);
    end(f);
}

static void test_the_callback_may_close_and_revoke(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = grant(1, "192.0.2.1:0", 22, 1, "ssh");
    struct addr client = address("192.0.2.1:1");
    uint64_t id;
    (void)state;
    f->reports.meddle = true;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(routes_grant(f->r, &g, NULL), 0);
        for (uint16_t i = 1; i <= 5; i++) {
            client.port = i;
            assert_int_equal(routes_open(f->r, &client, 22, false, true, 0, &id), 0);
        }
        f->reports.count = 0;
        if (round == 0)
            assert_int_equal(routes_give_up_login(f->r, 1), 1);
        else if (round == 1)
            assert_int_equal(routes_revoke_host(f->r, 1), 1);
        else
            (void)routes_expire(f->r, false, 100, 100);
        assert_int_equal(f->reports.count, 5);
        assert_int_equal(routes_grant_count(f->r), 0);
        assert_int_equal(routes_entry_count(f->r), 0);
    }
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stranger_and_friend),
        cmocka_unit_test(test_whose_address_counts_as_the_same),
        cmocka_unit_test(test_one_port_leads_to_one_target),
        cmocka_unit_test(test_entries_go_on_with_the_same_target_only),
        cmocka_unit_test(test_another_address_replaces_the_grant),
        cmocka_unit_test(test_refuses_what_is_no_grant),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_full_login_makes_way_for_the_next),
        cmocka_unit_test(test_connections_that_prove_nothing_take_no_place),
        cmocka_unit_test(test_flows_that_prove_nothing_make_way),
        cmocka_unit_test(test_a_connection_has_a_flows_place),
        cmocka_unit_test(test_a_full_table_drops_what_proved_nothing),
        cmocka_unit_test(test_expires_the_silent_ones),
        cmocka_unit_test(test_the_callback_may_close_and_revoke),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

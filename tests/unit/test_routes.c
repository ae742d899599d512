/*
 * The mapping table against a naive model: arrays, searched from end to end. Random
 * operations from seeds; every return value, every report, and at intervals the whole
 * state are compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "core/routes.h"

static const uint8_t secret[ROUTES_SECRET_LEN] = {1, 2, 3};

static struct addr A(const char *text) {
    struct addr a;
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

static struct route_grant
G(uint64_t login, const char *client, uint16_t port, uint32_t host,
  const char *service) {
    struct route_grant g = {
        .login = login, .client = A(client), .port = port, .host = host};
    (void)snprintf(g.service, sizeof(g.service), "%s", service);
    return g;
}

/* ---------------------------------------------------------------- what was reported
 */

enum {
    REPORTS_MAX = ROUTES_ENTRIES_MAX
};

struct reports {
    struct routes *table;
    size_t count;
    uint64_t ids[REPORTS_MAX];
    enum route_end why[REPORTS_MAX];
    bool meddle; /* the callback closes and revokes what it can */
};

static void on_end(void *ctx, const struct route_entry *e, enum route_end why)
{
    struct reports *p = ctx;
    assert_true(p->count < REPORTS_MAX);
    assert_null(routes_entry(p->table, e->id)); /* it is out already */
    assert_null(routes_find(p->table, &e->client, e->port, e->udp));
    p->ids[p->count] = e->id;
    p->why[p->count++] = why;
    if (p->meddle) {
        assert_int_equal(routes_close(p->table, e->id), POSTERN_ERR_NOTFOUND);
        (void)routes_revoke(p->table, e->grant);
    }
}

struct fixture {
    struct routes *r;
    struct reports reports;
};

static struct fixture *begin(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(routes_new(&f->r, secret, on_end, &f->reports), 0);
    f->reports.table = f->r;
    return f;
}

static void end(struct fixture *f)
{
    routes_free(f->r);
    free(f);
}

/* ---------------------------------------------------------------------- by hand */

static void test_stranger_and_friend(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = G(7, "198.51.100.4:1", 22, 3, "ssh");
    struct addr friend = A("198.51.100.4:5000"), stranger = A("198.51.100.5:5000");
    uint64_t grant, id, other;
    (void)state;
    assert_int_equal(routes_grant(f->r, &g, &grant), 0);
    assert_int_equal(routes_open(f->r, &stranger, 22, false, 10, &id),
                     POSTERN_ERR_DENIED);
    assert_int_equal(routes_open(f->r, &friend, 23, false, 10, &id),
                     POSTERN_ERR_DENIED);
    assert_int_equal(routes_open(f->r, &friend, 22, true, 10, &id), POSTERN_ERR_DENIED);
    assert_int_equal(routes_open(f->r, &friend, 22, false, 10, &id), 0);
    assert_int_equal(routes_open(f->r, &friend, 22, false, 10, &other),
                     POSTERN_ERR_INUSE);
    struct route_entry *e = routes_find(f->r, &friend, 22, false);
    assert_non_null(e);
    assert_ptr_equal(e, routes_entry(f->r, id));
    assert_int_equal(e->state, ROUTE_WAITING);
    assert_int_equal(e->grant, grant);
    assert_int_equal(routes_grant_by_id(f->r, e->grant)->host, 3);
    assert_string_equal(routes_grant_by_id(f->r, e->grant)->service, "ssh");
    assert_int_equal(routes_accepted(f->r, id), 0);
    assert_int_equal(e->state, ROUTE_OPEN);
    assert_int_equal(routes_accepted(f->r, id), POSTERN_ERR_INVALID);
    assert_int_equal(routes_close(f->r, id), 0);
    assert_int_equal(routes_close(f->r, id), POSTERN_ERR_NOTFOUND);
    assert_int_equal(routes_accepted(f->r, id), POSTERN_ERR_NOTFOUND);
    assert_int_equal(routes_open(f->r, &friend, 22, false, 10, &other), 0);
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
        struct route_grant g = G(1, cases[i].grant, 80, 0, "web");
        struct addr client = A(cases[i].client);
        uint64_t id;
        g.client.scope = cases[i].grant_scope;
        client.scope = cases[i].client_scope;
        assert_int_equal(routes_grant(f->r, &g, NULL), 0);
        assert_int_equal(routes_open(f->r, &client, 80, false, 0, &id), cases[i].want);
        assert_int_equal(routes_holder(f->r, &client, 80, false) != NULL,
                         cases[i].want == 0);
        end(f);
    }
}

static void test_one_port_leads_to_one_target(void **state)
{
    struct fixture *f = begin();
    struct route_grant a = G(1, "192.0.2.1:0", 22, 1, "ssh"), b = a, c = a;
    struct addr client = A("192.0.2.1:999");
    uint64_t first, again, id;
    (void)state;
    b.login = 2; /* behind the same NAT, the same service */
    c.login = 3;
    c.host = 2;
    assert_int_equal(routes_grant(f->r, &a, &first), 0);
    assert_int_equal(routes_grant(f->r, &a, &again), 0);
    assert_int_equal(first, again);
    assert_int_equal(routes_grant(f->r, &b, &again), 0);
    assert_int_not_equal(first, again);
    assert_int_equal(routes_grant(f->r, &c, NULL), POSTERN_ERR_INUSE);
    c.login = 1;
    assert_int_equal(routes_grant(f->r, &c, NULL), POSTERN_ERR_INUSE);
    assert_int_equal(routes_grant_count(f->r), 2);
    assert_int_equal(routes_holder(f->r, &client, 22, false)->id, first);
    assert_int_equal(routes_open(f->r, &client, 22, false, 0, &id), 0);
    assert_int_equal(routes_revoke(f->r, first), 0);
    assert_int_equal(f->reports.count, 1);
    assert_int_equal(f->reports.ids[0], id);
    assert_int_equal(f->reports.why[0], ROUTE_END_REVOKED);
    assert_int_equal(routes_holder(f->r, &client, 22, false)->login, 2);
    assert_true(routes_port_in_use(f->r, 22, false));
    assert_false(routes_port_in_use(f->r, 22, true));
    assert_int_equal(routes_revoke_login(f->r, 2), 1);
    assert_false(routes_port_in_use(f->r, 22, false));
    assert_int_equal(routes_revoke(f->r, first), POSTERN_ERR_NOTFOUND);
    end(f);
}

static void test_another_address_replaces_the_grant(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = G(1, "192.0.2.1:0", 22, 1, "ssh");
    struct addr client = A("192.0.2.1:999");
    uint64_t before, after, id;
    (void)state;
    assert_int_equal(routes_grant(f->r, &g, &before), 0);
    assert_int_equal(routes_open(f->r, &client, 22, false, 0, &id), 0);
    g.client = A("192.0.2.9:0");
    assert_int_equal(routes_grant(f->r, &g, &after), 0);
    assert_int_not_equal(before, after);
    assert_int_equal(f->reports.count, 1);
    assert_null(routes_grant_by_id(f->r, before));
    assert_int_equal(routes_open(f->r, &client, 22, false, 0, &id), POSTERN_ERR_DENIED);
    assert_int_equal(routes_grant_count(f->r), 1);
    end(f);
}

static void test_refuses_what_is_no_grant(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = G(1, "192.0.2.1:0", 22, 1, "ssh"), bad;
    struct addr none = {0}, no_port = A("192.0.2.1:0");
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
    assert_int_equal(routes_grant(f->r, &g, NULL), 0);
    assert_int_equal(routes_open(f->r, &no_port, 22, false, 0, &id),
                     POSTERN_ERR_INVALID);
    assert_int_equal(routes_open(f->r, &none, 22, false, 0, &id), POSTERN_ERR_INVALID);
    assert_null(routes_find(f->r, &none, 22, false));
    assert_null(routes_holder(f->r, &none, 22, false));
    assert_null(routes_entry(f->r, 0));
    assert_null(routes_grant_by_id(f->r, 0));
    end(f);
}

static void test_limits(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = G(1, "192.0.2.1:0", 1, 1, "s");
    struct addr client = A("192.0.2.1:1");
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
                                 0, &id);
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
    struct route_grant a = G(1, "192.0.2.1:0", 22, 1, "ssh"), b = a;
    struct addr client = A("192.0.2.1:1");
    uint64_t id;
    (void)state;
    b.login = 2;
    assert_int_equal(routes_grant(f->r, &a, NULL), 0);
    assert_int_equal(routes_grant(f->r, &b, NULL), 0);
    for (unsigned i = 0; i <= 2 * ROUTES_ENTRIES_LOGIN_MAX; i++) {
        client.port = (uint16_t)(i + 1);
        assert_int_equal(routes_open(f->r, &client, 22, false, 0, &id),
                         i < 2 * ROUTES_ENTRIES_LOGIN_MAX ? 0 : POSTERN_ERR_LIMIT);
    }
    assert_int_equal(routes_login_entries(f->r, 1), ROUTES_ENTRIES_LOGIN_MAX);
    assert_int_equal(routes_login_entries(f->r, 2), ROUTES_ENTRIES_LOGIN_MAX);
    end(f);
}

static void test_expires_the_silent_ones(void **state)
{
    struct fixture *f = begin();
    struct route_grant g = G(1, "192.0.2.1:0", 53, 1, "dns");
    struct addr client = A("192.0.2.1:1");
    uint64_t id[3];
    (void)state;
    g.udp = true;
    assert_int_equal(routes_grant(f->r, &g, NULL), 0);
    assert_int_equal(routes_next_expiry(f->r, true, 100), UINT64_MAX);
    for (int i = 0; i < 3; i++) {
        client.port = (uint16_t)(i + 1);
        assert_int_equal(routes_open(f->r, &client, 53, true, (uint64_t)i * 10, &id[i]),
                         0);
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
    struct route_grant g = G(1, "192.0.2.1:0", 22, 1, "ssh");
    struct addr client = A("192.0.2.1:1");
    uint64_t id;
    (void)state;
    f->reports.meddle = true;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(routes_grant(f->r, &g, NULL), 0);
        for (uint16_t i = 1; i <= 5; i++) {
            client.port = i;
            assert_int_equal(routes_open(f->r, &client, 22, false, 0, &id), 0);
        }
        f->reports.count = 0;
        if (round == 0)
            assert_int_equal(routes_revoke_login(f->r, 1), 1);
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

/* ----------------------------------------------------------------------- the model */

enum {
    MODEL_MAX = 20000,
    LOGINS = 12,
    CLIENTS = 10,
    PORTS = 6,
    HOSTS = 5,
    OPERATIONS = 200000,
};

struct model {
    struct route_grant grants[MODEL_MAX]; /* in the order in which they were made */
    struct route_entry entries[MODEL_MAX];
    size_t grant_count, entry_count;
    struct addr clients[CLIENTS];
    uint64_t now;
    struct fixture *f;
    uint64_t ended[REPORTS_MAX]; /* what must be reported, in any order */
    size_t ended_count;
    uint64_t last_id; /* a recent one, dead or alive */
};

static bool same_client(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family)
        return false;
    return memcmp(a->ip, b->ip, a->family == ADDR_V6 ? 8 : 4) == 0;
}

static size_t model_login_entries(const struct model *m, uint64_t login)
{
    size_t n = 0;
    for (size_t i = 0; i < m->grant_count; i++)
        if (m->grants[i].login == login)
            n += m->grants[i].entries;
    return n;
}

static struct route_grant *model_grant(struct model *m, uint64_t id)
{
    for (size_t i = 0; i < m->grant_count; i++)
        if (m->grants[i].id == id)
            return &m->grants[i];
    return NULL;
}

static struct route_entry *model_entry(struct model *m, uint64_t id)
{
    for (size_t i = 0; i < m->entry_count; i++)
        if (m->entries[i].id == id)
            return &m->entries[i];
    return NULL;
}

static void model_entry_remove(struct model *m, size_t i)
{
    model_grant(m, m->entries[i].grant)->entries--;
    memmove(&m->entries[i], &m->entries[i + 1],
            (--m->entry_count - i) * sizeof(m->entries[0]));
}

static void model_end(struct model *m, size_t i)
{
    m->ended[m->ended_count++] = m->entries[i].id;
    model_entry_remove(m, i);
}

static void model_revoke(struct model *m, size_t g)
{
    for (size_t i = m->entry_count; i-- > 0;)
        if (m->entries[i].grant == m->grants[g].id)
            model_end(m, i);
    memmove(&m->grants[g], &m->grants[g + 1],
            (--m->grant_count - g) * sizeof(m->grants[0]));
}

static bool model_holds(const struct route_grant *g, const struct addr *client,
                        uint16_t port, bool udp)
{
    return same_client(&g->client, client) && g->port == port && g->udp == udp;
}

static void op_grant(struct model *m, uint64_t *rng)
{
    struct route_grant w = {.login = rng_below(rng, LOGINS),
                            .client = m->clients[rng_below(rng, CLIENTS)],
                            .port = (uint16_t)(1 + rng_below(rng, PORTS)),
                            .udp = rng_below(rng, 2) == 1,
                            .host = (uint32_t)rng_below(rng, HOSTS)};
    (void)snprintf(w.service, sizeof(w.service), "s%u", (unsigned)rng_below(rng, 30));
    int want = 0;
    size_t own = SIZE_MAX, count = 0;
    for (size_t i = 0; i < m->grant_count; i++) {
        const struct route_grant *g = &m->grants[i];
        bool target = g->host == w.host && strcmp(g->service, w.service) == 0;
        if (g->login == w.login)
            count++;
        if (g->login == w.login && target)
            own = i;
        if (model_holds(g, &w.client, w.port, w.udp) && !target)
            want = POSTERN_ERR_INUSE;
    }
    if (want == 0 && own == SIZE_MAX && count >= ROUTES_GRANTS_LOGIN_MAX)
        want = POSTERN_ERR_LIMIT;
    uint64_t id = 0;
    assert_int_equal(routes_grant(m->f->r, &w, &id), want);
    if (want != 0)
        return;
    if (own != SIZE_MAX && model_holds(&m->grants[own], &w.client, w.port, w.udp)) {
        assert_int_equal(id, m->grants[own].id);
        return;
    }
    if (own != SIZE_MAX)
        model_revoke(m, own);
    assert_null(model_grant(m, id));
    w.id = id;
    m->grants[m->grant_count++] = w;
}

static void op_open(struct model *m, uint64_t *rng)
{
    struct addr c = m->clients[rng_below(rng, CLIENTS)];
    uint16_t port = (uint16_t)(1 + rng_below(rng, PORTS));
    bool udp = rng_below(rng, 2) == 1;
    c.port = (uint16_t)(rng_below(rng, 400));
    if (c.family == ADDR_V6)
        c.ip[15] = (uint8_t)rng_below(rng, 3);
    int want = c.port == 0 ? POSTERN_ERR_INVALID : POSTERN_ERR_DENIED;
    struct route_grant *g = NULL;
    for (size_t i = 0; i < m->grant_count && want != POSTERN_ERR_INVALID; i++) {
        if (!model_holds(&m->grants[i], &c, port, udp))
            continue;
        want = POSTERN_ERR_LIMIT;
        if (g == NULL &&
            model_login_entries(m, m->grants[i].login) < ROUTES_ENTRIES_LOGIN_MAX)
            g = &m->grants[i];
    }
    if (g != NULL)
        want = 0;
    for (size_t i = 0; i < m->entry_count && want != POSTERN_ERR_INVALID; i++)
        if (addr_equal(&m->entries[i].client, &c) && m->entries[i].port == port &&
            m->entries[i].udp == udp)
            want = POSTERN_ERR_INUSE;
    uint64_t id = 0;
    assert_int_equal(routes_open(m->f->r, &c, port, udp, m->now, &id), want);
    if (want != 0)
        return;
    assert_null(model_entry(m, id));
    g->entries++;
    m->last_id = id;
    m->entries[m->entry_count++] = (struct route_entry){.id = id,
                                                        .grant = g->id,
                                                        .client = c,
                                                        .port = port,
                                                        .udp = udp,
                                                        .state = ROUTE_WAITING,
                                                        .touched_ms = m->now};
}

static uint64_t some_entry(struct model *m, uint64_t *rng)
{
    if (m->entry_count == 0 || rng_below(rng, 8) == 0)
        return m->last_id; /* it may be gone */
    return m->entries[rng_below(rng, m->entry_count)].id;
}

static void op_entry(struct model *m, uint64_t *rng, uint64_t which)
{
    uint64_t id = some_entry(m, rng);
    struct route_entry *e = model_entry(m, id);
    int want = e == NULL ? POSTERN_ERR_NOTFOUND : 0;
    if (which == 0) {
        if (e != NULL && e->state == ROUTE_OPEN)
            want = POSTERN_ERR_INVALID;
        assert_int_equal(routes_accepted(m->f->r, id), want);
        if (e != NULL)
            e->state = ROUTE_OPEN;
    } else if (which == 1) {
        assert_int_equal(routes_touch(m->f->r, id, m->now), want);
        if (e != NULL)
            e->touched_ms = m->now;
    } else {
        assert_int_equal(routes_close(m->f->r, id), want);
        if (e != NULL)
            model_entry_remove(m, (size_t)(e - m->entries));
    }
}

static void op_expire(struct model *m, uint64_t *rng)
{
    bool udp = rng_below(rng, 2) == 1;
    uint64_t idle = 200 + rng_below(rng, 4000);
    size_t n = m->ended_count;
    for (size_t i = m->entry_count; i-- > 0;)
        if (m->entries[i].udp == udp && m->now - m->entries[i].touched_ms >= idle)
            model_end(m, i);
    assert_int_equal(routes_expire(m->f->r, udp, m->now, idle), m->ended_count - n);
}

static void op_revoke(struct model *m, uint64_t *rng)
{
    uint64_t which = rng_below(rng, 40);
    size_t n = 0;
    if (which == 0) {
        uint64_t login = rng_below(rng, LOGINS);
        for (size_t i = m->grant_count; i-- > 0;)
            if (m->grants[i].login == login)
                model_revoke(m, i), n++;
        assert_int_equal(routes_revoke_login(m->f->r, login), n);
    } else if (which == 1) {
        uint32_t host = (uint32_t)rng_below(rng, HOSTS);
        for (size_t i = m->grant_count; i-- > 0;)
            if (m->grants[i].host == host)
                model_revoke(m, i), n++;
        assert_int_equal(routes_revoke_host(m->f->r, host), n);
    } else if (m->grant_count > 0) {
        size_t i = rng_below(rng, m->grant_count);
        uint64_t id = m->grants[i].id;
        model_revoke(m, i);
        assert_int_equal(routes_revoke(m->f->r, id), 0);
        assert_int_equal(routes_revoke(m->f->r, id), POSTERN_ERR_NOTFOUND);
    }
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void compare_reports(struct model *m)
{
    struct reports *p = &m->f->reports;
    assert_int_equal(p->count, m->ended_count);
    qsort(p->ids, p->count, sizeof(p->ids[0]), by_number);
    qsort(m->ended, p->count, sizeof(p->ids[0]), by_number);
    assert_memory_equal(p->ids, m->ended, p->count * sizeof(p->ids[0]));
    p->count = m->ended_count = 0;
}

static void compare_grants(struct model *m)
{
    struct routes *r = m->f->r;
    size_t seen = 0;
    assert_int_equal(routes_grant_count(r), m->grant_count);
    for (size_t i = 0; i < m->grant_count; i++) {
        const struct route_grant *g = &m->grants[i];
        const struct route_grant *t = routes_grant_by_id(r, g->id);
        assert_non_null(t);
        assert_int_equal(t->login, g->login);
        assert_int_equal(t->host, g->host);
        assert_int_equal(t->port, g->port);
        assert_int_equal(t->udp, g->udp);
        assert_int_equal(t->entries, g->entries);
        assert_string_equal(t->service, g->service);
        assert_true(routes_port_in_use(r, g->port, g->udp));
    }
    for (uint64_t login = 0; login < LOGINS; login++) {
        uint64_t last = 0;
        const struct route_grant *t;
        while ((t = routes_next_grant(r, login, last)) != NULL) {
            assert_true(t->id > last);
            assert_int_equal(t->login, login);
            last = t->id;
            seen++;
        }
        assert_int_equal(routes_login_entries(r, login), model_login_entries(m, login));
    }
    assert_int_equal(seen, m->grant_count);
    for (int c = 0; c < CLIENTS; c++) {
        for (uint16_t port = 1; port <= PORTS; port++) {
            const struct route_grant *t =
                routes_holder(r, &m->clients[c], port, port & 1);
            size_t i = 0;
            while (i < m->grant_count &&
                   !model_holds(&m->grants[i], &m->clients[c], port, port & 1))
                i++;
            assert_int_equal(t != NULL ? t->id : 0,
                             i < m->grant_count ? m->grants[i].id : 0);
        }
    }
}

static void compare(struct model *m)
{
    struct routes *r = m->f->r;
    uint64_t oldest[2] = {UINT64_MAX, UINT64_MAX};
    compare_grants(m);
    assert_int_equal(routes_entry_count(r), m->entry_count);
    for (size_t i = 0; i < m->entry_count; i++) {
        const struct route_entry *e = &m->entries[i];
        const struct route_entry *t = routes_find(r, &e->client, e->port, e->udp);
        assert_non_null(t);
        assert_ptr_equal(t, routes_entry(r, e->id));
        assert_int_equal(t->id, e->id);
        assert_int_equal(t->grant, e->grant);
        assert_int_equal(t->state, e->state);
        assert_int_equal(t->touched_ms, e->touched_ms);
        assert_true(addr_equal(&t->client, &e->client));
        if (e->touched_ms < oldest[e->udp])
            oldest[e->udp] = e->touched_ms;
    }
    for (int udp = 0; udp < 2; udp++)
        assert_int_equal(routes_next_expiry(r, udp, 500),
                         oldest[udp] == UINT64_MAX ? UINT64_MAX : oldest[udp] + 500);
}

static void run_model(uint64_t seed, unsigned operations)
{
    struct model *m = calloc(1, sizeof(*m));
    uint64_t rng = seed;
    size_t most_entries = 0;
    assert_non_null(m);
    m->f = begin();
    for (int i = 0; i < CLIENTS; i++) {
        m->clients[i] = A(i % 2 == 0 ? "192.0.2.0:0" : "[2001:db8::]:0");
        m->clients[i].ip[i % 2 == 0 ? 3 : 7] = (uint8_t)i;
    }
    /* Phases in which more is opened, and in which more ends. */
    for (unsigned i = 0; i < operations; i++) {
        bool grows = i / 5000 % 3 != 2;
        uint64_t what = rng_below(&rng, 100);
        m->now += rng_below(&rng, 3);
        if (what < 6)
            op_grant(m, &rng);
        else if (what < (grows ? 70 : 30))
            op_open(m, &rng);
        else if (what < 94)
            op_entry(m, &rng, rng_below(&rng, grows ? 2 : 3));
        else if (what == 94 && !grows)
            op_expire(m, &rng);
        else if (what < (grows ? 95 : 98))
            op_revoke(m, &rng);
        compare_reports(m);
        if (m->entry_count > most_entries)
            most_entries = m->entry_count;
        if (i % 997 == 0)
            compare(m);
    }
    compare(m);
    assert_true(most_entries > 500); /* it was a test of something */
    end(m->f);
    free(m);
}

static void test_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run_model(seed, OPERATIONS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stranger_and_friend),
        cmocka_unit_test(test_whose_address_counts_as_the_same),
        cmocka_unit_test(test_one_port_leads_to_one_target),
        cmocka_unit_test(test_another_address_replaces_the_grant),
        cmocka_unit_test(test_refuses_what_is_no_grant),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_full_login_makes_way_for_the_next),
        cmocka_unit_test(test_expires_the_silent_ones),
        cmocka_unit_test(test_the_callback_may_close_and_revoke),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

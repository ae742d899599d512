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
#include "routes_fixture.h"

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
    size_t handed_over, crowded;
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

static const struct route_grant *model_grant_of(const struct model *m,
                                                const struct route_entry *e)
{
    return model_grant((struct model *)(uintptr_t)m, e->grant);
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

static bool model_holds(const struct route_grant *g, const struct addr *client,
                        uint16_t port, bool udp)
{
    return same_client(&g->client, client) && g->port == port && g->udp == udp;
}

static struct route_grant *model_heir(struct model *m, size_t g)
{
    const struct route_grant *from = &m->grants[g];
    for (size_t i = 0; i < m->grant_count; i++)
        if (i != g && model_holds(&m->grants[i], &from->client, from->port, from->udp))
            return &m->grants[i];
    return NULL;
}

static void model_revoke(struct model *m, size_t g, bool hand_over)
{
    struct route_grant *heir = hand_over ? model_heir(m, g) : NULL;
    for (size_t i = m->entry_count; i-- > 0;) {
        if (m->entries[i].grant != m->grants[g].id)
            continue;
        if (heir == NULL) {
            model_end(m, i);
            continue;
        }
        m->entries[i].grant = heir->id;
        m->handed_over++;
        m->grants[g].entries--;
        heir->entries++;
    }
    memmove(&m->grants[g], &m->grants[g + 1],
            (--m->grant_count - g) * sizeof(m->grants[0]));
}

static void op_grant(struct model *m, uint64_t *rng)
{
    struct route_grant w = {.login = rng_below(rng, LOGINS),
                            .client = m->clients[rng_below(rng, CLIENTS)],
                            .port = (uint16_t)(1 + rng_below(rng, PORTS)),
                            .udp = rng_below(rng, 2) == 1,
                            .host = (uint32_t)rng_below(rng, HOSTS)};
    (void)snprintf(w.service, sizeof(w.service), "s%u", (unsigned)rng_below(rng, 4));
    (void)snprintf(w.account, sizeof(w.account), "a%u", (unsigned)rng_below(rng, 2));
    int want = 0;
    size_t own = SIZE_MAX, count = 0;
    for (size_t i = 0; i < m->grant_count; i++) {
        const struct route_grant *g = &m->grants[i];
        bool target = g->host == w.host && strcmp(g->service, w.service) == 0 &&
                      strcmp(g->account, w.account) == 0;
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
        model_revoke(m, own, true);
    assert_null(model_grant(m, id));
    w.id = id;
    m->grants[m->grant_count++] = w;
}

/* How many of its class the login has of that grant; with `stay`, connections only. */
static size_t model_class(const struct model *m, const struct route_grant *of,
                          bool proven, bool stay)
{
    size_t n = 0;
    for (size_t i = 0; i < m->entry_count; i++)
        n += m->entries[i].proven == proven && !(stay && m->entries[i].udp) &&
             (proven || m->entries[i].udp == of->udp) &&
             model_grant_of(m, &m->entries[i])->login == of->login;
    return n;
}

static bool model_has_room(const struct model *m, const struct route_grant *g,
                           bool proven, bool give)
{
    return model_class(m, g, proven, give) <
           (proven ? ROUTES_ENTRIES_LOGIN_MAX : ROUTES_UNPROVEN_LOGIN_MAX);
}

/* The index of the flow of that login and class that is silent the longest. */
static size_t model_silent(const struct model *m, const struct route_grant *of,
                           bool proven)
{
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < m->entry_count; i++) {
        const struct route_entry *e = &m->entries[i];
        if (!e->udp || e->proven != proven || model_grant_of(m, e)->login != of->login)
            continue;
        const struct route_entry *f = found == SIZE_MAX ? NULL : &m->entries[found];
        if (f == NULL || e->touched_ms < f->touched_ms ||
            (e->touched_ms == f->touched_ms && e->id < f->id))
            found = i;
    }
    return found;
}

/* The eldest grant for it that has room, or with `give` can make it. */
static struct route_grant *model_pick(struct model *m, const struct addr *c,
                                      uint16_t port, bool udp, bool proven, bool give)
{
    for (size_t i = 0; i < m->grant_count; i++)
        if (model_holds(&m->grants[i], c, port, udp) &&
            model_has_room(m, &m->grants[i], proven, give))
            return &m->grants[i];
    return NULL;
}

static void model_make_room(struct model *m, const struct route_grant *g, bool proven)
{
    while (!model_has_room(m, g, proven, false)) {
        m->crowded++;
        model_end(m, model_silent(m, g, proven));
    }
}

static int model_judge(struct model *m, const struct addr *c, uint16_t port, bool udp,
                       bool proven)
{
    bool granted = false;
    if (c->port == 0)
        return POSTERN_ERR_INVALID;
    for (size_t i = 0; i < m->entry_count; i++)
        if (addr_equal(&m->entries[i].client, c) && m->entries[i].port == port &&
            m->entries[i].udp == udp)
            return POSTERN_ERR_INUSE;
    for (size_t i = 0; i < m->grant_count; i++)
        granted = granted || model_holds(&m->grants[i], c, port, udp);
    if (!granted)
        return POSTERN_ERR_DENIED;
    if (!udp && !proven && model_pick(m, c, port, udp, true, true) == NULL)
        return POSTERN_ERR_LIMIT;
    if (model_pick(m, c, port, udp, proven, true) == NULL)
        return udp || proven ? POSTERN_ERR_LIMIT : POSTERN_ERR_AGAIN;
    return 0;
}

static void op_open(struct model *m, uint64_t *rng)
{
    struct addr c = m->clients[rng_below(rng, CLIENTS)];
    uint16_t port = (uint16_t)(1 + rng_below(rng, PORTS));
    bool udp = rng_below(rng, 2) == 1, proven = rng_below(rng, 4) != 0;
    uint64_t id = 0;
    c.port = (uint16_t)(rng_below(rng, 400));
    if (c.family == ADDR_V6)
        c.ip[15] = (uint8_t)rng_below(rng, 3);
    int want = model_judge(m, &c, port, udp, proven);
    assert_int_equal(routes_open(m->f->r, &c, port, udp, proven, m->now, &id), want);
    if (want != 0)
        return;
    struct route_grant *g = model_pick(m, &c, port, udp, proven, false);
    if (g == NULL) {
        g = model_pick(m, &c, port, udp, proven, true);
        model_make_room(m, g, proven);
        g = model_pick(m, &c, port, udp, proven, false);
    }
    assert_null(model_entry(m, id));
    g->entries++;
    m->last_id = id;
    m->entries[m->entry_count++] = (struct route_entry){.id = id,
                                                        .grant = g->id,
                                                        .client = c,
                                                        .port = port,
                                                        .udp = udp,
                                                        .proven = proven,
                                                        .state = ROUTE_WAITING,
                                                        .touched_ms = m->now};
}

static void op_prove(struct model *m, uint64_t id)
{
    struct route_entry *e = model_entry(m, id);
    const struct route_grant *g = e != NULL ? model_grant_of(m, e) : NULL;
    int want = e == NULL ? POSTERN_ERR_NOTFOUND : 0;
    if (e != NULL && !e->proven && !model_has_room(m, g, true, true))
        want = POSTERN_ERR_LIMIT;
    assert_int_equal(routes_prove(m->f->r, id, m->now), want);
    if (e == NULL || e->proven || want != 0)
        return;
    model_make_room(m, g, true);
    e = model_entry(m, id);
    e->proven = true;
    e->touched_ms = m->now;
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
    } else if (which == 1 && m->now % 2 == 0) {
        op_prove(m, id);
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
                model_revoke(m, i, true), n++;
        assert_int_equal(routes_give_up_login(m->f->r, login), n);
    } else if (which == 1) {
        uint32_t host = (uint32_t)rng_below(rng, HOSTS);
        for (size_t i = m->grant_count; i-- > 0;)
            if (m->grants[i].host == host)
                model_revoke(m, i, false), n++;
        assert_int_equal(routes_revoke_host(m->f->r, host), n);
    } else if (m->grant_count > 0) {
        size_t i = rng_below(rng, m->grant_count);
        uint64_t id = m->grants[i].id;
        bool hand_over = rng_below(rng, 2) == 1;
        model_revoke(m, i, hand_over);
        assert_int_equal(
            hand_over ? routes_give_up(m->f->r, id) : routes_revoke(m->f->r, id), 0);
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
        assert_string_equal(t->account, g->account);
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
        assert_int_equal(t->proven, e->proven);
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
        m->clients[i] = address(i % 2 == 0 ? "192.0.2.0:0" : "[2001:db8::]:0");
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
    assert_true(m->handed_over > 0);
    assert_true(m->crowded > 0);
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
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

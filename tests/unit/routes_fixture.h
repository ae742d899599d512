/* A mapping table whose reports are kept, for its tests. Include it after cmocka. */
#ifndef POSTERN_TESTS_ROUTES_FIXTURE_H
#define POSTERN_TESTS_ROUTES_FIXTURE_H

#include <stdlib.h>

#include "core/routes.h"

static const uint8_t secret[ROUTES_SECRET_LEN] = {1, 2, 3};

static struct addr address(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

enum { REPORTS_MAX = ROUTES_ENTRIES_MAX };

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

#endif

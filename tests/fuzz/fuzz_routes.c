/*
 * Bytes as operations on the mapping table: six bytes each. After each: what is found
 * by id is found by address and belongs to a living grant; counts agree.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEP = 6, IDS = 64 };

struct run {
    struct routes *r;
    uint64_t grants[IDS], entries[IDS]; /* lately made, dead or alive */
    size_t open;
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void on_end(void *ctx, const struct route_entry *e, enum route_end why)
{
    struct run *f = ctx;
    (void)why;
    check(f->open-- > 0);
    check(routes_entry(f->r, e->id) == NULL);
    check(routes_find(f->r, &e->client, e->port, e->udp) == NULL);
}

static struct addr address(uint8_t b)
{
    struct addr a = {.family = b & 1 ? ADDR_V6 : b == 254 ? ADDR_NONE : ADDR_V4};
    a.ip[0] = b & 2 ? 0xfe : 0x20;
    a.ip[1] = 0x80;
    a.ip[3] = b >> 2 & 3;
    if (b & 1)
        a.ip[15] = b >> 4 & 3;
    a.scope = b >> 6;
    return a;
}

static void step(struct run *f, const uint8_t *b, uint64_t now)
{
    struct addr client = address(b[1]);
    uint16_t port = b[2] & 7;
    bool udp = (b[2] & 8) != 0;
    uint64_t id = f->entries[b[1] % IDS];
    switch (b[0] % 10) {
    case 0:
    case 1: {
        struct route_grant g = {.login = b[3] % 5,
                                .client = client,
                                .port = port,
                                .udp = udp,
                                .host = b[4] % 3,
                                .service = {(char)(b[5] % 30)}};
        if (routes_grant(f->r, &g, &id) == 0)
            f->grants[b[4] % IDS] = id;
        break;
    }
    case 2:
    case 3:
    case 4:
        client.port = b[3];
        if (routes_open(f->r, &client, port, udp, (b[5] & 1) != 0, now, &id) == 0) {
            f->open++;
            f->entries[b[4] % IDS] = id;
            check(routes_find(f->r, &client, port, udp) == routes_entry(f->r, id));
        }
        break;
    case 5:
        (void)!routes_accepted(f->r, id);
        break;
    case 6:
        if (b[5] & 1)
            (void)routes_prove(f->r, id, now);
        else
            (void)routes_touch(f->r, id, now);
        break;
    case 7:
        if (routes_close(f->r, id) == 0)
            f->open--;
        break;
    case 8:
        (void)routes_expire(f->r, udp, now, b[3]);
        break;
    default:
        if (b[2] % 4 == 0)
            (void)routes_give_up_login(f->r, b[3] % 5);
        else if (b[2] % 4 == 1)
            (void)routes_revoke_host(f->r, b[4] % 3);
        else
            (void)routes_revoke(f->r, f->grants[b[4] % IDS]);
    }
}

static void check_all(const struct run *f)
{
    size_t entries = 0, grants = 0;
    for (uint64_t login = 0; login < 5; login++) {
        const struct route_grant *g = NULL;
        while ((g = routes_next_grant(f->r, login, g != NULL ? g->id : 0)) != NULL) {
            check(routes_grant_by_id(f->r, g->id) == g);
            check(routes_holder(f->r, &g->client, g->port, g->udp) != NULL);
            grants++;
        }
        entries += routes_login_entries(f->r, login);
    }
    check(grants == routes_grant_count(f->r));
    check(entries == routes_entry_count(f->r) && entries == f->open);
    for (size_t i = 0; i < IDS; i++) {
        const struct route_entry *e = routes_entry(f->r, f->entries[i]);
        if (e == NULL)
            continue;
        check(routes_find(f->r, &e->client, e->port, e->udp) == e);
        check(routes_grant_by_id(f->r, e->grant) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[ROUTES_SECRET_LEN];
    struct run f = {0};
    if (routes_new(&f.r, secret, on_end, &f) != 0)
        return 0;
    for (size_t at = 0; at + STEP <= size; at += STEP) {
        step(&f, data + at, at * 3);
        if (at % (8 * STEP) == 0)
            check_all(&f);
    }
    check_all(&f);
    (void)routes_revoke_host(f.r, 0);
    (void)routes_revoke_host(f.r, 1);
    (void)routes_revoke_host(f.r, 2);
    check(f.open == 0 && routes_entry_count(f.r) == 0);
    check(routes_grant_count(f.r) == 0);
    routes_free(f.r);
    return 0;
}

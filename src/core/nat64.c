/*
 * RFC 6052 section 2.2: the four bytes follow the prefix and leave out byte 8, which is
 * zero; so is all behind them. RFC 7050 section 3: ipv4only.arpa has 192.0.0.170 and
 * 192.0.0.171, and where they stand tells how long the prefix is.
 */
#include "core/nat64.h"

#include <string.h>

enum { U_BYTE = 8, V4_BYTES = 4 };

static const uint8_t lengths[] = {32, 40, 48, 56, 64, 96};
static const struct nat64_prefix well_known = {.ip = {0, 0x64, 0xff, 0x9b}, .bits = 96};
static const uint8_t known[][V4_BYTES] = {{192, 0, 0, 170}, {192, 0, 0, 171}};

/* The byte of an IPv6 address that has byte `i` of the IPv4 address. */
static size_t place(unsigned bits, size_t i)
{
    size_t at = bits / 8 + i;
    return bits / 8 <= U_BYTE && at >= U_BYTE ? at + 1 : at;
}

void nat64_prefix_put_in(const struct nat64_prefix *p, const struct addr *v4,
                         struct addr *out)
{
    struct addr made = {.family = ADDR_V6, .port = v4->port};
    memcpy(made.ip, p->ip, p->bits / 8);
    for (size_t i = 0; i < V4_BYTES; i++)
        made.ip[place(p->bits, i)] = v4->ip[i];
    *out = made;
}

bool nat64_prefix_take_out(const struct nat64_prefix *p, const struct addr *v6,
                           struct addr *out)
{
    struct addr v4 = {.family = ADDR_V4, .port = v6->port}, again;
    if (v6->family != ADDR_V6)
        return false;
    for (size_t i = 0; i < V4_BYTES; i++)
        v4.ip[i] = v6->ip[place(p->bits, i)];
    nat64_prefix_put_in(p, &v4, &again);
    if (memcmp(again.ip, v6->ip, sizeof(again.ip)) != 0)
        return false;
    *out = v4;
    return true;
}

/* Zeroes behind it are asked for: it stands in one place only. */
static bool find_prefix(const struct addr *a, struct nat64_prefix *out)
{
    for (size_t l = 0; l < sizeof(lengths); l++) {
        struct nat64_prefix p = {.bits = lengths[l]};
        struct addr v4;
        memcpy(p.ip, a->ip, p.bits / 8);
        if (!nat64_prefix_take_out(&p, a, &v4))
            continue;
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
            if (memcmp(v4.ip, known[k], V4_BYTES) != 0)
                continue;
            *out = p;
            return true;
        }
    }
    return false;
}

static struct nat64_prefix *find(struct nat64 *n, const struct nat64_prefix *p)
{
    for (size_t i = 0; i < n->count; i++) {
        if (n->prefixes[i].bits == p->bits &&
            memcmp(n->prefixes[i].ip, p->ip, sizeof(p->ip)) == 0)
            return &n->prefixes[i];
    }
    return NULL;
}

void nat64_learn(struct nat64 *n, const struct addr *found, size_t count)
{
    *n = (struct nat64){0};
    for (size_t i = 0; i < count && n->count < NAT64_PREFIXES_MAX; i++) {
        struct nat64_prefix p;
        if (found[i].family != ADDR_V6 || !find_prefix(&found[i], &p) ||
            find(n, &p) != NULL)
            continue;
        p.proven =
            p.bits == well_known.bits && memcmp(p.ip, well_known.ip, sizeof(p.ip)) == 0;
        n->prefixes[n->count++] = p;
    }
}

void nat64_keep(struct nat64 *n, const struct nat64 *before)
{
    for (size_t i = 0; i < before->count; i++) {
        struct nat64_prefix *p = find(n, &before->prefixes[i]);
        if (p != NULL && before->prefixes[i].proven)
            p->proven = true;
    }
}

void nat64_prove(struct nat64 *n, const struct addr *v6, const struct addr *seen)
{
    struct addr v4;
    for (size_t i = 0; i < n->count && seen->family == ADDR_V4; i++)
        if (nat64_prefix_take_out(&n->prefixes[i], v6, &v4))
            n->prefixes[i].proven = true;
}

static const struct nat64_prefix *proven(const struct nat64 *n)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->prefixes[i].proven)
            return &n->prefixes[i];
    return NULL;
}

bool nat64_is_doubtful(const struct nat64 *n)
{
    return n->count > 0 && proven(n) == NULL;
}

static bool put_in(const struct nat64_prefix *p, const struct addr *v4,
                   struct addr *out)
{
    struct addr asked = *v4;
    asked.port = 1; /* a scope is of an address that has one */
    if (p == NULL || v4->family != ADDR_V4 ||
        addr_scope_of(&asked) != ADDR_SCOPE_GLOBAL)
        return false;
    nat64_prefix_put_in(p, v4, out);
    return true;
}

bool nat64_put_in(const struct nat64 *n, const struct addr *v4, struct addr *out)
{
    return put_in(proven(n), v4, out);
}

bool nat64_try(const struct nat64 *n, unsigned nth, const struct addr *v4,
               struct addr *out)
{
    const struct nat64_prefix *p = proven(n);
    if (p == NULL && n->count > 0)
        p = &n->prefixes[nth % n->count];
    return put_in(p, v4, out);
}

bool nat64_take_out(const struct nat64 *n, const struct addr *v6, struct addr *out)
{
    for (size_t i = 0; i < n->count; i++) {
        if (nat64_prefix_take_out(&n->prefixes[i], v6, out))
            return true;
    }
    return false;
}

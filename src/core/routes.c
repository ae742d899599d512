/*
 * The mapping table of a layer-4 router; see routes.h. Grants and entries are slots of
 * two arrays. An id is a serial number and, in its low bits, the slot, so that finding
 * by id needs no search, and an old id meets a slot that has another. Everything else
 * is found by chains from keyed hashes of packed bytes.
 */
#include "core/routes.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum {
    GRANT_BITS = 12,
    ENTRY_BITS = 14,
    GRANT_BUCKETS = 8192,
    ENTRY_BUCKETS = 32768,
    ADDR_BYTES = 1 + 16 + 4,    /* family, address or prefix, scope */
    KEY_BYTES = ADDR_BYTES + 5, /* client's port, local port, protocol */
    PREFIX_BYTES = 8,           /* of an IPv6 address that count */
    PROTOCOLS = 2,              /* TCP, UDP */
};

_Static_assert(1 << GRANT_BITS == ROUTES_GRANTS_MAX, "a grant's slot fits its bits");
_Static_assert(1 << ENTRY_BITS == ROUTES_ENTRIES_MAX, "an entry's slot fits its bits");
_Static_assert(crypto_shorthash_KEYBYTES == ROUTES_SECRET_LEN, "SipHash's key");

struct grant;

struct key {
    uint8_t bytes[KEY_BYTES];
};

struct entry {
    struct route_entry
        pub; /* first: a struct route_entry is a struct entry. id 0: free */
    struct key key;
    struct grant *from;
    struct entry *chain; /* of its hash, or of the free ones */
    struct entry *sibling, *sibling_before;
    struct entry *later, *earlier; /* by touched_ms */
};

struct grant {
    struct route_grant pub; /* first. id 0: free */
    struct key key;
    struct grant *chain; /* of its key's hash, or of the free ones */
    struct grant *login_chain;
    struct entry *entries; /* by sibling */
    uint32_t unproven;     /* of these */
};

struct idle_list {
    struct entry *first, *last;
};

struct routes {
    uint8_t secret[ROUTES_SECRET_LEN];
    routes_end_cb on_end;
    void *ctx;
    uint64_t serial, now_ms;
    size_t grant_count, entry_count;
    struct grant *free_grants;
    struct entry *free_entries;
    struct idle_list idle[PROTOCOLS][2]; /* the second of what is proven */
    struct grant *by_key[GRANT_BUCKETS];
    struct grant *by_login[GRANT_BUCKETS];
    struct entry *by_tuple[ENTRY_BUCKETS];
    struct grant grants[ROUTES_GRANTS_MAX];
    struct entry entries[ROUTES_ENTRIES_MAX];
};

int routes_new(struct routes **out, const uint8_t secret[static ROUTES_SECRET_LEN],
               routes_end_cb on_end, void *ctx)
{
    struct routes *r = calloc(1, sizeof(*r));
    *out = r;
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    memcpy(r->secret, secret, ROUTES_SECRET_LEN);
    r->on_end = on_end;
    r->ctx = ctx;
    for (size_t i = ROUTES_GRANTS_MAX; i-- > 0;) {
        r->grants[i].chain = r->free_grants;
        r->free_grants = &r->grants[i];
    }
    for (size_t i = ROUTES_ENTRIES_MAX; i-- > 0;) {
        r->entries[i].chain = r->free_entries;
        r->free_entries = &r->entries[i];
    }
    return 0;
}

void routes_free(struct routes *r)
{
    free(r);
}

/* ---------------------------------------------------------------------------- keys */

static size_t bucket(const struct routes *r, const void *bytes, size_t len,
                     size_t buckets)
{
    uint8_t out[crypto_shorthash_BYTES];
    uint64_t hash;
    crypto_shorthash(out, bytes, len, r->secret);
    memcpy(&hash, out, sizeof(hash));
    return (size_t)(hash & (buckets - 1));
}

static bool is_link_local(const struct addr *a)
{
    return a->family == ADDR_V6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* `used`: how many bytes of the address count. */
static struct key pack(const struct addr *client, size_t used, uint16_t client_port,
                       uint16_t port, bool udp)
{
    struct key k = {{client->family}};
    uint32_t scope = is_link_local(client) ? client->scope : 0;
    memcpy(k.bytes + 1, client->ip, used);
    memcpy(k.bytes + 17, &scope, sizeof(scope));
    memcpy(k.bytes + ADDR_BYTES, &client_port, sizeof(client_port));
    memcpy(k.bytes + ADDR_BYTES + 2, &port, sizeof(port));
    k.bytes[ADDR_BYTES + 4] = udp;
    return k;
}

static struct key tuple_of(const struct addr *client, uint16_t port, bool udp)
{
    return pack(client, addr_ip_len(client), client->port, port, udp);
}

static struct key grant_key(const struct addr *client, uint16_t port, bool udp)
{
    bool prefix = client->family == ADDR_V6 && !is_link_local(client);
    return pack(client, prefix ? PREFIX_BYTES : addr_ip_len(client), 0, port, udp);
}

static bool same_key(const struct key *a, const struct key *b)
{
    return memcmp(a->bytes, b->bytes, KEY_BYTES) == 0;
}

static bool is_address(const struct addr *a)
{
    return addr_ip_len(a) != 0;
}

/* -------------------------------------------------------------------- finding both */

static struct grant *grant_by_id(const struct routes *r, uint64_t id)
{
    const struct grant *g = &r->grants[id & (ROUTES_GRANTS_MAX - 1)];
    return id != 0 && g->pub.id == id ? (struct grant *)g : NULL;
}

static struct entry *entry_by_id(const struct routes *r, uint64_t id)
{
    const struct entry *e = &r->entries[id & (ROUTES_ENTRIES_MAX - 1)];
    return id != 0 && e->pub.id == id ? (struct entry *)e : NULL;
}

static struct entry *entry_by_key(const struct routes *r, const struct key *k)
{
    struct entry *e = r->by_tuple[bucket(r, k->bytes, KEY_BYTES, ENTRY_BUCKETS)];
    while (e != NULL && !same_key(&e->key, k))
        e = e->chain;
    return e;
}

static struct grant *first_by_key(const struct routes *r, const struct key *k)
{
    return r->by_key[bucket(r, k->bytes, KEY_BYTES, GRANT_BUCKETS)];
}

static struct grant *first_by_login(const struct routes *r, uint64_t login)
{
    return r->by_login[bucket(r, &login, sizeof(login), GRANT_BUCKETS)];
}

const struct route_grant *routes_grant_by_id(const struct routes *r, uint64_t grant)
{
    const struct grant *g = grant_by_id(r, grant);
    return g != NULL ? &g->pub : NULL;
}

const struct route_grant *routes_next_grant(const struct routes *r, uint64_t login,
                                            uint64_t after)
{
    const struct grant *best = NULL;
    for (struct grant *g = first_by_login(r, login); g != NULL; g = g->login_chain)
        if (g->pub.login == login && g->pub.id > after &&
            (best == NULL || g->pub.id < best->pub.id))
            best = g;
    return best != NULL ? &best->pub : NULL;
}

size_t routes_login_entries(const struct routes *r, uint64_t login)
{
    size_t n = 0;
    for (struct grant *g = first_by_login(r, login); g != NULL; g = g->login_chain)
        if (g->pub.login == login)
            n += g->pub.entries;
    return n;
}

typedef bool (*grant_test)(const struct routes *r, const struct grant *g, bool proven);

/* The eldest grant of that key that is `good`; NULL: whatever it is. */
static struct grant *eldest(const struct routes *r, const struct key *k,
                            grant_test good, bool proven)
{
    struct grant *best = NULL;
    for (struct grant *g = first_by_key(r, k); g != NULL; g = g->chain)
        if (same_key(&g->key, k) && (best == NULL || g->pub.id < best->pub.id) &&
            (good == NULL || good(r, g, proven)))
            best = g;
    return best;
}

const struct route_grant *routes_holder(const struct routes *r,
                                        const struct addr *client, uint16_t port,
                                        bool udp)
{
    if (!is_address(client))
        return NULL;
    struct key k = grant_key(client, port, udp);
    const struct grant *g = eldest(r, &k, NULL, false);
    return g != NULL ? &g->pub : NULL;
}

bool routes_port_in_use(const struct routes *r, uint16_t port, bool udp)
{
    for (size_t i = 0; i < ROUTES_GRANTS_MAX; i++)
        if (r->grants[i].pub.id != 0 && r->grants[i].pub.port == port &&
            r->grants[i].pub.udp == udp)
            return true;
    return false;
}

size_t routes_grant_count(const struct routes *r)
{
    return r->grant_count;
}

struct route_entry *routes_entry(const struct routes *r, uint64_t id)
{
    struct entry *e = entry_by_id(r, id);
    return e != NULL ? &e->pub : NULL;
}

struct route_entry *routes_find(const struct routes *r, const struct addr *client,
                                uint16_t port, bool udp)
{
    if (!is_address(client))
        return NULL;
    struct key k = tuple_of(client, port, udp);
    struct entry *e = entry_by_key(r, &k);
    return e != NULL ? &e->pub : NULL;
}

size_t routes_entry_count(const struct routes *r)
{
    return r->entry_count;
}

/* ------------------------------------------------------------------------- entries */

static void idle_append(struct routes *r, struct entry *e)
{
    struct idle_list *l = &r->idle[e->pub.udp][e->pub.proven];
    e->earlier = l->last;
    e->later = NULL;
    *(l->last != NULL ? &l->last->later : &l->first) = e;
    l->last = e;
}

static void idle_remove(struct routes *r, struct entry *e)
{
    struct idle_list *l = &r->idle[e->pub.udp][e->pub.proven];
    *(e->earlier != NULL ? &e->earlier->later : &l->first) = e->later;
    *(e->later != NULL ? &e->later->earlier : &l->last) = e->earlier;
}

/* The list of idle ones stays in order even for a clock that goes back. */
static uint64_t advance(struct routes *r, uint64_t now_ms)
{
    if (now_ms > r->now_ms)
        r->now_ms = now_ms;
    return r->now_ms;
}

static void entry_join(struct entry *e, struct grant *g)
{
    e->from = g;
    e->pub.grant = g->pub.id;
    e->sibling_before = NULL;
    e->sibling = g->entries;
    if (g->entries != NULL)
        g->entries->sibling_before = e;
    g->entries = e;
    g->pub.entries++;
    g->unproven += !e->pub.proven;
}

static void entry_leave(struct entry *e)
{
    struct grant *g = e->from;
    *(e->sibling_before != NULL ? &e->sibling_before->sibling : &g->entries) =
        e->sibling;
    if (e->sibling != NULL)
        e->sibling->sibling_before = e->sibling_before;
    g->pub.entries--;
    g->unproven -= !e->pub.proven;
}

static void entry_remove(struct routes *r, struct entry *e)
{
    struct entry **at = &r->by_tuple[bucket(r, e->key.bytes, KEY_BYTES, ENTRY_BUCKETS)];
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    idle_remove(r, e);
    entry_leave(e);
    r->entry_count--;
    e->pub.id = 0;
    e->chain = r->free_entries;
    r->free_entries = e;
}

static void entry_end(struct routes *r, struct entry *e, enum route_end why)
{
    struct route_entry copy = e->pub;
    entry_remove(r, e);
    r->on_end(r->ctx, &copy, why);
}

/* How many its login has of the same class; with `stay`, that end for no newcomer. */
static size_t class_count(const struct routes *r, const struct grant *of, bool proven,
                          bool stay)
{
    size_t n = 0;
    for (struct grant *g = first_by_login(r, of->pub.login); g != NULL;
         g = g->login_chain) {
        if (g->pub.login != of->pub.login || (stay && g->pub.udp))
            continue;
        if (proven)
            n += g->pub.entries - g->unproven;
        else if (g->pub.udp == of->pub.udp)
            n += g->unproven;
    }
    return n;
}

static size_t class_max(bool proven)
{
    return proven ? ROUTES_ENTRIES_LOGIN_MAX : ROUTES_UNPROVEN_LOGIN_MAX;
}

static bool has_room(const struct routes *r, const struct grant *g, bool proven)
{
    return class_count(r, g, proven, false) < class_max(proven);
}

static bool can_give(const struct routes *r, const struct grant *g, bool proven)
{
    return class_count(r, g, proven, true) < class_max(proven);
}

static bool is_longer_silent(const struct entry *a, const struct entry *b)
{
    return a->pub.touched_ms < b->pub.touched_ms ||
           (a->pub.touched_ms == b->pub.touched_ms && a->pub.id < b->pub.id);
}

/* The flow of its login and class that is silent the longest, or NULL. */
static struct entry *silent_flow(const struct routes *r, const struct grant *of,
                                 bool proven)
{
    struct entry *found = NULL;
    for (struct grant *g = first_by_login(r, of->pub.login); g != NULL;
         g = g->login_chain)
        for (struct entry *e = g->entries; e != NULL; e = e->sibling)
            if (g->pub.login == of->pub.login && e->pub.udp &&
                e->pub.proven == proven &&
                (found == NULL || is_longer_silent(e, found)))
                found = e;
    return found;
}

/* A grant of that key whose class has room, once there is a place in the table. */
static struct grant *make_room(struct routes *r, const struct key *k, bool proven)
{
    for (;;) {
        struct grant *g = eldest(r, k, has_room, proven);
        struct entry *goes = NULL;
        if (g != NULL && r->free_entries != NULL)
            return g;
        if (g != NULL)
            goes = r->idle[true][false].first;
        else if ((g = eldest(r, k, can_give, proven)) != NULL)
            goes = silent_flow(r, g, proven);
        if (goes == NULL)
            return NULL;
        entry_end(r, goes, ROUTE_END_CROWDED);
    }
}

static struct entry *entry_add(struct routes *r, const struct key *k)
{
    struct entry *e = r->free_entries;
    r->free_entries = e->chain;
    *e = (struct entry){.key = *k};
    e->pub.id = ++r->serial << ENTRY_BITS | (uint64_t)(e - r->entries);
    struct entry **head = &r->by_tuple[bucket(r, k->bytes, KEY_BYTES, ENTRY_BUCKETS)];
    e->chain = *head;
    *head = e;
    r->entry_count++;
    return e;
}

int routes_open(struct routes *r, const struct addr *client, uint16_t port, bool udp,
                bool proven, uint64_t now_ms, uint64_t *id)
{
    if (!is_address(client) || client->port == 0 || port == 0)
        return POSTERN_ERR_INVALID;
    struct key k = tuple_of(client, port, udp);
    struct key wanted = grant_key(client, port, udp);
    if (entry_by_key(r, &k) != NULL)
        return POSTERN_ERR_INUSE;
    if (eldest(r, &wanted, NULL, false) == NULL)
        return POSTERN_ERR_DENIED;
    if (!udp && !proven && eldest(r, &wanted, can_give, true) == NULL)
        return POSTERN_ERR_LIMIT;
    struct grant *g = make_room(r, &wanted, proven);
    if (g == NULL)
        return udp || proven || r->free_entries == NULL ? POSTERN_ERR_LIMIT
                                                        : POSTERN_ERR_AGAIN;
    struct entry *e = entry_add(r, &k);
    e->pub.client = *client;
    e->pub.port = port;
    e->pub.udp = udp;
    e->pub.proven = proven;
    e->pub.state = ROUTE_WAITING;
    e->pub.touched_ms = advance(r, now_ms);
    entry_join(e, g);
    idle_append(r, e);
    *id = e->pub.id;
    return 0;
}

int routes_prove(struct routes *r, uint64_t id, uint64_t now_ms)
{
    struct entry *e = entry_by_id(r, id);
    if (e == NULL)
        return POSTERN_ERR_NOTFOUND;
    if (e->pub.proven)
        return 0;
    if (!can_give(r, e->from, true))
        return POSTERN_ERR_LIMIT;
    while (entry_by_id(r, id) != NULL && !has_room(r, e->from, true))
        entry_end(r, silent_flow(r, e->from, true), ROUTE_END_CROWDED);
    if (entry_by_id(r, id) == NULL) /* whoever was told took it away */
        return POSTERN_ERR_NOTFOUND;
    idle_remove(r, e);
    e->pub.proven = true;
    e->pub.touched_ms = advance(r, now_ms);
    e->from->unproven--;
    idle_append(r, e);
    return 0;
}

int routes_accepted(struct routes *r, uint64_t id)
{
    struct entry *e = entry_by_id(r, id);
    if (e == NULL)
        return POSTERN_ERR_NOTFOUND;
    if (e->pub.state != ROUTE_WAITING)
        return POSTERN_ERR_INVALID;
    e->pub.state = ROUTE_OPEN;
    return 0;
}

int routes_touch(struct routes *r, uint64_t id, uint64_t now_ms)
{
    struct entry *e = entry_by_id(r, id);
    if (e == NULL)
        return POSTERN_ERR_NOTFOUND;
    e->pub.touched_ms = advance(r, now_ms);
    idle_remove(r, e);
    idle_append(r, e);
    return 0;
}

int routes_close(struct routes *r, uint64_t id)
{
    struct entry *e = entry_by_id(r, id);
    if (e == NULL)
        return POSTERN_ERR_NOTFOUND;
    entry_remove(r, e);
    return 0;
}

static struct entry *silent_longest(const struct routes *r, bool udp)
{
    struct entry *a = r->idle[udp][false].first, *b = r->idle[udp][true].first;
    return a == NULL || (b != NULL && is_longer_silent(b, a)) ? b : a;
}

size_t routes_expire(struct routes *r, bool udp, uint64_t now_ms, uint64_t idle_ms)
{
    uint64_t now = advance(r, now_ms);
    size_t n = 0;
    struct entry *e;
    while ((e = silent_longest(r, udp)) != NULL && now - e->pub.touched_ms >= idle_ms) {
        entry_end(r, e, ROUTE_END_IDLE);
        n++;
    }
    return n;
}

uint64_t routes_next_expiry(const struct routes *r, bool udp, uint64_t idle_ms)
{
    const struct entry *e = silent_longest(r, udp);
    if (e == NULL || e->pub.touched_ms > UINT64_MAX - idle_ms)
        return UINT64_MAX;
    return e->pub.touched_ms + idle_ms;
}

/* -------------------------------------------------------------------------- grants */

/*
 * While its entries end the grant is in no chain and has no id, so that nobody finds
 * it; but its slot is not free yet, since they still point to it. All of one key have
 * the same target, so with `hand_over` the entries go on under any of them.
 */
static void grant_remove(struct routes *r, struct grant *g, bool hand_over)
{
    struct grant **at = &r->by_key[bucket(r, g->key.bytes, KEY_BYTES, GRANT_BUCKETS)];
    while (*at != g)
        at = &(*at)->chain;
    *at = g->chain;
    at = &r->by_login[bucket(r, &g->pub.login, sizeof(g->pub.login), GRANT_BUCKETS)];
    while (*at != g)
        at = &(*at)->login_chain;
    *at = g->login_chain;
    r->grant_count--;
    g->pub.id = 0;
    struct grant *heir = hand_over ? eldest(r, &g->key, NULL, false) : NULL;
    for (struct entry *e; (e = g->entries) != NULL && heir != NULL;) {
        entry_leave(e);
        entry_join(e, heir);
    }
    while (g->entries != NULL)
        entry_end(r, g->entries, ROUTE_END_REVOKED);
    g->chain = r->free_grants;
    r->free_grants = g;
}

static bool same_target(const struct route_grant *a, const struct route_grant *b)
{
    return a->host == b->host && strcmp(a->service, b->service) == 0 &&
           strcmp(a->account, b->account) == 0;
}

/* Looks at what stands against `want`; `own` is the login's grant for that target. */
static int may_grant(const struct routes *r, const struct route_grant *want,
                     const struct key *k, struct grant **own)
{
    size_t count = 0;
    *own = NULL;
    for (struct grant *g = first_by_login(r, want->login); g != NULL;
         g = g->login_chain) {
        if (g->pub.login != want->login)
            continue;
        count++;
        if (same_target(&g->pub, want))
            *own = g;
    }
    const struct grant *held = eldest(r, k, NULL, false);
    if (held != NULL && !same_target(&held->pub, want))
        return POSTERN_ERR_INUSE; /* all of one key have the same target */
    if (*own == NULL && (count >= ROUTES_GRANTS_LOGIN_MAX || r->free_grants == NULL))
        return POSTERN_ERR_LIMIT;
    return 0;
}

int routes_grant(struct routes *r, const struct route_grant *want, uint64_t *id)
{
    if (!is_address(&want->client) || want->port == 0 || want->service[0] == '\0' ||
        memchr(want->service, '\0', sizeof(want->service)) == NULL ||
        memchr(want->account, '\0', sizeof(want->account)) == NULL)
        return POSTERN_ERR_INVALID;
    struct key k = grant_key(&want->client, want->port, want->udp);
    struct grant *own;
    int rc = may_grant(r, want, &k, &own);
    if (rc != 0)
        return rc;
    if (own == NULL || !same_key(&own->key, &k)) {
        struct route_grant asked = *want; /* which may be the one that goes */
        if (own != NULL)
            grant_remove(r, own, true);
        struct grant *g = r->free_grants;
        r->free_grants = g->chain;
        uint64_t slot = (uint64_t)(g - r->grants);
        *g = (struct grant){.pub = asked, .key = k};
        g->pub.id = ++r->serial << GRANT_BITS | slot;
        g->pub.entries = 0;
        struct grant **head = &r->by_key[bucket(r, k.bytes, KEY_BYTES, GRANT_BUCKETS)];
        g->chain = *head;
        *head = g;
        head =
            &r->by_login[bucket(r, &asked.login, sizeof(asked.login), GRANT_BUCKETS)];
        g->login_chain = *head;
        *head = g;
        r->grant_count++;
        own = g;
    }
    if (id != NULL)
        *id = own->pub.id;
    return 0;
}

int routes_revoke(struct routes *r, uint64_t grant)
{
    struct grant *g = grant_by_id(r, grant);
    if (g == NULL)
        return POSTERN_ERR_NOTFOUND;
    grant_remove(r, g, false);
    return 0;
}

int routes_give_up(struct routes *r, uint64_t grant)
{
    struct grant *g = grant_by_id(r, grant);
    if (g == NULL)
        return POSTERN_ERR_NOTFOUND;
    grant_remove(r, g, true);
    return 0;
}

size_t routes_give_up_login(struct routes *r, uint64_t login)
{
    const struct route_grant *g;
    size_t n = 0;
    while ((g = routes_next_grant(r, login, 0)) != NULL) {
        grant_remove(r, grant_by_id(r, g->id), true);
        n++;
    }
    return n;
}

size_t routes_revoke_host(struct routes *r, uint32_t host)
{
    size_t n = 0;
    for (size_t i = 0; i < ROUTES_GRANTS_MAX; i++) {
        if (r->grants[i].pub.id != 0 && r->grants[i].pub.host == host) {
            grant_remove(r, &r->grants[i], false);
            n++;
        }
    }
    return n;
}

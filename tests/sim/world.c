/* Routing, translation and filtering of the network in memory. */
#include "world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum { LAN_DELAY_US = 300, FIRST_PORT = 20000, PORTS = 40000 };

struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof(*w));
    assert(w != NULL);
    for (unsigned g = 0; g < WORLD_GATES; g++) {
        w->gates[g].mappings = calloc(WORLD_MAPPINGS, sizeof(struct gate_mapping));
        assert(w->gates[g].mappings != NULL);
    }
    return w;
}

void world_free(struct world *w)
{
    if (w == NULL)
        return;
    for (unsigned g = 0; g < WORLD_GATES; g++)
        free(w->gates[g].mappings);
    free(w);
}

void world_reset(struct world *w, uint64_t seed)
{
    w->now_us = 1000000;
    w->rng = seed;
    w->order = 0;
    w->jitter_us = 0;
    w->loss_permille = w->double_permille = 0;
    w->realm_count = 2;
    w->realm_gate[REALM_PUBLIC4] = w->realm_gate[REALM_PUBLIC6] = -1;
    w->gate_count = w->node_count = w->flight_count = 0;
    w->delivered = w->filtered = w->lost = 0;
    w->on_seen = NULL;
}

int world_add_gate(struct world *w, int outer, const struct gate_config *c)
{
    assert(w->gate_count < WORLD_GATES && w->realm_count < WORLD_REALMS);
    int realm = (int)w->realm_count++;
    struct gate *g = &w->gates[w->gate_count];
    g->c = *c;
    g->inner = realm;
    g->outer = outer;
    g->mapping_count = 0;
    w->realm_gate[realm] = (int)w->gate_count++;
    return realm;
}

int world_add_node(struct world *w, int realm, const char *ip, uint64_t delay_us,
                   void *owner)
{
    assert(w->node_count < WORLD_NODES);
    struct node *n = &w->nodes[w->node_count];
    *n = (struct node){.realm = realm, .delay_us = delay_us, .owner = owner};
    int rc = addr_parse_ip(&n->ip, ip);
    assert(rc == 0);
    return (int)w->node_count++;
}

void world_flush_gate(struct world *w, int realm)
{
    if (w->realm_gate[realm] >= 0)
        w->gates[w->realm_gate[realm]].mapping_count = 0;
}

/* --------------------------------------------------------------------------- gates */

static struct addr mapping_key(const struct gate *g, const struct addr *to)
{
    struct addr key = {0};
    if (g->c.translates && g->c.mapping >= NAT_MAPPING_ADDRESS_DEPENDENT) {
        key = *to;
        if (g->c.mapping == NAT_MAPPING_ADDRESS_DEPENDENT)
            key.port = 0;
    }
    return key;
}

static bool is_alive(const struct gate *g, const struct gate_mapping *m,
                     uint64_t now_us)
{
    return now_us <= m->last_us + g->c.timeout_us;
}

static struct gate_mapping *find_out(const struct gate *g, const struct addr *from,
                                     const struct addr *to, uint64_t now_us)
{
    struct addr key = mapping_key(g, to);
    for (unsigned i = 0; i < g->mapping_count; i++) {
        struct gate_mapping *m = &g->mappings[i];
        if (is_alive(g, m, now_us) && addr_equal(&m->inner, from) &&
            addr_equal(&m->dest, &key))
            return m;
    }
    return NULL;
}

static struct gate_mapping *find_in(const struct gate *g, const struct addr *to,
                                    uint64_t now_us)
{
    for (unsigned i = 0; i < g->mapping_count; i++) {
        struct gate_mapping *m = &g->mappings[i];
        bool hit =
            g->c.translates ? m->ext_port == to->port : addr_equal(&m->inner, to);
        if (hit && is_alive(g, m, now_us))
            return m;
    }
    return NULL;
}

static uint16_t choose_port(struct world *w, const struct gate *g,
                            const struct addr *from)
{
    struct addr try = {.port = from->port};
    if (g->c.preserves_port && find_in(g, &try, w->now_us) == NULL)
        return from->port;
    do {
        try.port = (uint16_t)(FIRST_PORT + rng_below(&w->rng, PORTS));
    } while (find_in(g, &try, w->now_us) != NULL);
    return try.port;
}

/* A slot for a new mapping: a dead one's, a new one, or the oldest. */
static struct gate_mapping *take_mapping(struct gate *g, uint64_t now_us)
{
    struct gate_mapping *oldest = &g->mappings[0];
    for (unsigned i = 0; i < g->mapping_count; i++) {
        if (!is_alive(g, &g->mappings[i], now_us))
            return &g->mappings[i];
        if (g->mappings[i].last_us < oldest->last_us)
            oldest = &g->mappings[i];
    }
    return g->mapping_count < WORLD_MAPPINGS ? &g->mappings[g->mapping_count++]
                                             : oldest;
}

static void permit(struct gate_mapping *m, const struct addr *remote, uint64_t now_us)
{
    unsigned at = 0;
    for (unsigned i = 0; i < m->permit_count; i++) {
        if (addr_equal(&m->permits[i].remote, remote)) {
            m->permits[i].last_us = now_us;
            return;
        }
        if (m->permits[i].last_us < m->permits[at].last_us)
            at = i;
    }
    if (m->permit_count < WORLD_PERMITS)
        at = m->permit_count++;
    m->permits[at].remote = *remote;
    m->permits[at].last_us = now_us;
}

static bool is_permitted(const struct gate *g, const struct gate_mapping *m,
                         const struct addr *from, uint64_t now_us)
{
    if (g->c.filtering == NAT_FILTERING_ENDPOINT_INDEPENDENT)
        return true;
    for (unsigned i = 0; i < m->permit_count; i++) {
        const struct addr *r = &m->permits[i].remote;
        bool hit = g->c.filtering == NAT_FILTERING_ADDRESS_DEPENDENT
                       ? addr_ip_equal(r, from)
                       : addr_equal(r, from);
        if (hit && now_us <= m->permits[i].last_us + g->c.timeout_us)
            return true;
    }
    return false;
}

/* Outwards: rewrites the source. False: dropped. */
static bool pass_out(struct world *w, struct gate *g, struct world_packet *p)
{
    if (g->c.blocks)
        return false;
    if (g->c.translates && !g->c.hairpins && addr_ip_equal(&p->to, &g->c.ext))
        return false;
    struct gate_mapping *m = find_out(g, &p->from, &p->to, w->now_us);
    if (m == NULL) {
        uint16_t port = g->c.translates ? choose_port(w, g, &p->from) : 0;
        m = take_mapping(g, w->now_us);
        m->inner = p->from;
        m->dest = mapping_key(g, &p->to);
        m->ext_port = port;
        m->permit_count = 0;
    }
    m->last_us = w->now_us;
    permit(m, &p->to, w->now_us);
    if (g->c.translates) {
        p->from = g->c.ext;
        p->from.port = m->ext_port;
    }
    return true;
}

/* Inwards: where `to` leads inside, or NULL when nothing lets it in. */
static struct gate_mapping *pass_in(const struct gate *g, const struct addr *from,
                                    const struct addr *to, uint64_t now_us)
{
    if (g->c.blocks)
        return NULL;
    struct gate_mapping *m = find_in(g, to, now_us);
    return m != NULL && is_permitted(g, m, from, now_us) ? m : NULL;
}

/* ------------------------------------------------------------------------- routing */

static int find_node(const struct world *w, int realm, const struct addr *to)
{
    for (unsigned i = 0; i < w->node_count; i++)
        if (w->nodes[i].realm == realm && addr_ip_equal(&w->nodes[i].ip, to))
            return (int)i;
    return NODE_NONE;
}

/* The gate of `realm` behind which `to` lies, or -1. */
static int find_inward(const struct world *w, int realm, const struct addr *to)
{
    for (unsigned i = 0; i < w->gate_count; i++) {
        const struct gate *g = &w->gates[i];
        if (g->outer != realm)
            continue;
        if (g->c.translates ? addr_ip_equal(&g->c.ext, to)
                            : find_node(w, g->inner, to) != NODE_NONE)
            return (int)i;
    }
    return -1;
}

static bool is_here(const struct world *w, int realm, const struct addr *to)
{
    return find_node(w, realm, to) != NODE_NONE || find_inward(w, realm, to) >= 0;
}

static bool earlier(const struct flight *a, const struct flight *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct flight *a, struct flight *b)
{
    struct flight t = *a;
    *a = *b;
    *b = t;
}

static void push(struct world *w, int realm, const struct world_packet *p,
                 uint64_t at_us)
{
    if (w->flight_count == WORLD_FLIGHTS) {
        w->lost++;
        return;
    }
    unsigned i = w->flight_count++;
    w->flights[i] =
        (struct flight){.at_us = at_us, .order = w->order++, .realm = realm, .p = *p};
    for (; i > 0 && earlier(&w->flights[i], &w->flights[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&w->flights[i], &w->flights[(i - 1) / 2]);
}

static struct flight pop(struct world *w)
{
    struct flight top = w->flights[0];
    w->flights[0] = w->flights[--w->flight_count];
    for (unsigned i = 0;;) {
        unsigned left = 2 * i + 1, least = i;
        for (unsigned c = left; c < left + 2 && c < w->flight_count; c++)
            if (earlier(&w->flights[c], &w->flights[least]))
                least = c;
        if (least == i)
            return top;
        swap(&w->flights[i], &w->flights[least]);
        i = least;
    }
}

/* Through the internet: loss, delay of both ends, jitter (so reordering), doubling. */
static void cross(struct world *w, int realm, const struct world_packet *p,
                  uint64_t delay_us)
{
    if (w->on_seen != NULL)
        w->on_seen(w->ctx, p);
    if (rng_below(&w->rng, 1000) < w->loss_permille) {
        w->lost++;
        return;
    }
    unsigned copies = rng_below(&w->rng, 1000) < w->double_permille ? 2 : 1;
    for (unsigned i = 0; i < copies; i++)
        push(w, realm, p, w->now_us + delay_us + rng_below(&w->rng, w->jitter_us + 1));
}

/* The far end's share of the delay: that of the node behind which `to` lies. */
static uint64_t far_delay_us(const struct world *w, int realm, const struct addr *to)
{
    int node = find_node(w, realm, to);
    if (node != NODE_NONE)
        return w->nodes[node].delay_us;
    int gate = find_inward(w, realm, to);
    for (unsigned i = 0; gate >= 0 && i < w->node_count; i++) {
        int r = w->nodes[i].realm;
        while (r > REALM_PUBLIC6) {
            if (w->realm_gate[r] == gate)
                return w->nodes[i].delay_us;
            r = w->gates[w->realm_gate[r]].outer;
        }
    }
    return 0;
}

void world_send(struct world *w, int node, const struct world_packet *packet)
{
    struct world_packet p = *packet;
    int realm = w->nodes[node].realm;
    while (!is_here(w, realm, &p.to)) {
        int g = w->realm_gate[realm];
        if (g < 0 || !pass_out(w, &w->gates[g], &p)) {
            w->filtered++;
            return;
        }
        realm = w->gates[g].outer;
    }
    if (realm > REALM_PUBLIC6)
        push(w, realm, &p, w->now_us + LAN_DELAY_US);
    else
        cross(w, realm, &p,
              w->nodes[node].delay_us + far_delay_us(w, realm, &p.to) + 100);
}

void world_inject(struct world *w, const struct world_packet *p)
{
    int realm = p->to.family == ADDR_V6 ? REALM_PUBLIC6 : REALM_PUBLIC4;
    push(w, realm, p, w->now_us + far_delay_us(w, realm, &p->to) + 100);
}

static void arrive(struct world *w, struct flight *f)
{
    int node = find_node(w, f->realm, &f->p.to);
    for (int realm = f->realm; node == NODE_NONE;) {
        int at = find_inward(w, realm, &f->p.to);
        struct gate *g = at < 0 ? NULL : &w->gates[at];
        struct gate_mapping *m =
            g == NULL ? NULL : pass_in(g, &f->p.from, &f->p.to, w->now_us);
        if (m == NULL) {
            w->filtered++;
            return;
        }
        if (g->c.inbound_refreshes) {
            m->last_us = w->now_us;
            permit(m, &f->p.from, w->now_us);
        }
        f->p.to = m->inner;
        realm = g->inner;
        node = find_node(w, realm, &f->p.to);
    }
    w->delivered++;
    w->on_packet(w->ctx, node, &f->p);
}

int world_probe(const struct world *w, int node, const struct addr *from,
                const struct addr *to)
{
    int realm = w->nodes[node].realm;
    struct addr src = *from, dst = *to;
    while (!is_here(w, realm, &dst)) {
        int at = w->realm_gate[realm];
        if (at < 0 || w->gates[at].c.blocks)
            return NODE_NONE;
        const struct gate *g = &w->gates[at];
        const struct gate_mapping *m = find_out(g, &src, &dst, w->now_us);
        if (g->c.translates) {
            src = g->c.ext;
            src.port = m != NULL ? m->ext_port : 0;
        }
        realm = g->outer;
    }
    for (;;) {
        int found = find_node(w, realm, &dst);
        if (found != NODE_NONE)
            return found;
        int at = find_inward(w, realm, &dst);
        const struct gate_mapping *m =
            at < 0 ? NULL : pass_in(&w->gates[at], &src, &dst, w->now_us);
        if (m == NULL)
            return NODE_NONE;
        dst = m->inner;
        realm = w->gates[at].inner;
    }
}

uint64_t world_next_us(const struct world *w)
{
    return w->flight_count > 0 ? w->flights[0].at_us : UINT64_MAX;
}

bool world_step(struct world *w, uint64_t until_us)
{
    if (world_next_us(w) > until_us)
        return false;
    struct flight f = pop(w);
    assert(f.at_us >= w->now_us);
    w->now_us = f.at_us;
    arrive(w, &f);
    return true;
}

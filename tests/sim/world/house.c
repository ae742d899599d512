/* The world as a whole; see house.h. */
#include "house_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/rng.h"
#include "loop_sim.h"

enum { LOOKUP_US = 5000 }; /* what a resolver takes where nothing else is said */

static struct house *standing; /* libc's names lead here: there can be one only */

struct house *house_now(void)
{
    return standing;
}

/*
 * What programs ask of libsodium decides what they do and is the seed's. GnuTLS draws
 * for keys only, whose values change neither lengths nor times, and when it asks the
 * kernel depends on what the process did before: its randomness stays the kernel's.
 */
static void secret_bytes(void *buf, size_t len)
{
    uint8_t *p = buf;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(rng_next(&standing->secrets) >> 24);
}

static const char *secret_name(void)
{
    return "world";
}

static uint32_t secret_number(void)
{
    uint32_t v;
    secret_bytes(&v, sizeof(v));
    return v;
}

static struct randombytes_implementation secrets = {
    .implementation_name = secret_name, .random = secret_number, .buf = secret_bytes};

/* A line a packet, for comparing two runs (WORLD_TRACE=1). */
static void print_packet(const struct vnet_iface *at, const struct vpacket *p)
{
    char from[ADDR_TEXT_LEN], to[ADDR_TEXT_LEN];
    (void)printf("%.6f %s %s>%s %s%s %zu", (double)at->node->net->clock.now_us / 1e6,
                 at->node->name, addr_format(&p->from, from), addr_format(&p->to, to),
                 p->icmp.kind != VICMP_NONE ? "icmp about " : "",
                 p->proto == VPROTO_TCP ? "tcp" : "udp", p->len);
    if (p->proto == VPROTO_TCP)
        (void)printf(" %x seq %u ack %u", p->tcp.flags, p->tcp.seq, p->tcp.ack);
    (void)printf("\n");
}

static void on_seen(void *ctx, const struct vnet_iface *at, const struct vpacket *p)
{
    struct house *h = ctx;
    if (h->prints)
        print_packet(at, p);
    if (h->on_packet != NULL)
        h->on_packet(h->on_packet_ctx, at, p);
    uint64_t v = h->trace ^ at->node->net->clock.now_us;
    v = v * 1099511628211u ^ vpacket_size(p);
    v = v * 1099511628211u ^ p->from.port ^ (uint64_t)p->to.port << 16;
    h->trace = v * 1099511628211u ^ p->to.ip[3];
}

struct house *house_new(uint64_t seed)
{
    assert(standing == NULL);
    struct house *h = calloc(1, sizeof(*h));
    assert(h != NULL);
    h->net = vnet_new(seed);
    h->net->on_seen = on_seen;
    h->net->ctx = h;
    h->prints = getenv("WORLD_TRACE") != NULL;
    h->secrets = seed ^ 0x5deece66d;
    h->lookup_us = LOOKUP_US;
    list_init(&h->ready);
    list_init(&h->held);
    standing = h;
    (void)!sodium_init(); /* draws once in a process: before it is the seed's */
    (void)randombytes_set_implementation(&secrets);
    return h;
}

void house_free(struct house *h)
{
    if (h == NULL)
        return;
    tasks_free(h);
    files_free(h);
    for (size_t i = 0; i < h->machine_count; i++)
        vstack_free(h->machines[i].stack);
    vnet_free(h->net);
    (void)randombytes_set_implementation(&randombytes_sysrandom_implementation);
    standing = NULL;
    free(h);
}

struct vnet *house_net(struct house *h)
{
    return h->net;
}

uint64_t house_now_us(const struct house *h)
{
    return h->net->clock.now_us;
}

uint64_t house_trace(const struct house *h)
{
    return h->trace;
}

static size_t pipes_of(const struct house *h, const struct machine *m)
{
    size_t n = 0;
    for (int i = 0; i < HOUSE_FILES; i++)
        n += h->files[i] != NULL && h->machine_of[i] == m && file_is_pipe(h->files[i]);
    return n;
}

void house_level(const struct house *h, struct house_level *l)
{
    *l = (struct house_level){.count = (unsigned)h->machine_count};
    for (size_t i = 0; i < h->machine_count; i++) {
        const struct machine *m = &h->machines[i];
        l->of[i] = (struct house_level_of){.name = m->node->name,
                                           .pipes = pipes_of(h, m),
                                           .sockets = vstack_sockets(m->stack),
                                           .loops = m->loops};
        l->of[i].files = m->files - l->of[i].pipes;
    }
}

uint64_t house_turns(const struct house *h)
{
    return h->turns;
}

void house_watch(struct house *h,
                 void (*on_packet)(void *ctx, const struct vnet_iface *at,
                                   const struct vpacket *p),
                 void *ctx)
{
    h->on_packet = on_packet;
    h->on_packet_ctx = ctx;
}

void house_jump(struct house *h, int64_t us)
{
    h->wall_us += us;
}

int64_t house_wall_us(const struct house *h)
{
    return h->wall_us;
}

size_t *group_loops(unsigned group)
{
    return &standing->group_loops[group];
}

void group_kill(struct machine *m, unsigned group)
{
    assert(group != 0 && group != group_now());
    files_kill(m->house, group); /* waits stand on the tasks' stacks */
    tasks_kill(m->house, group);
    stops_kill(m, group);
    monitors_kill(m, group);
    locks_kill(group);
    m->loops -= m->house->group_loops[group];
    m->house->group_loops[group] = 0;
}

/* The node's context is its stack's. */
static void on_change(void *ctx)
{
    for (size_t i = 0; standing != NULL && i < standing->machine_count; i++)
        if (standing->machines[i].stack == ctx)
            machine_network_changed(&standing->machines[i]);
}

struct machine *house_machine(struct house *h, const char *name)
{
    assert(h->machine_count < HOUSE_MACHINES);
    struct machine *m = &h->machines[h->machine_count++];
    m->house = h;
    m->node = vnet_node_add(h->net, name, false);
    m->stack = vstack_new(m->node);
    m->node->on_change = on_change;
    return m;
}

void house_name(struct house *h, const char *name, const char *address)
{
    assert(h->name_count < HOUSE_NAMES);
    (void)snprintf(h->names[h->name_count].name, sizeof(h->names[0].name), "%s", name);
    int rc = addr_parse_ip(&h->names[h->name_count++].address, address);
    assert(rc == 0);
}

void house_names_take(struct house *h, uint64_t us)
{
    h->lookup_us = us;
}

uint64_t house_lookup_us(const struct house *h)
{
    return h->lookup_us;
}

size_t house_resolve(const struct house *h, const char *name, struct addr *out,
                     size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < h->name_count && n < max; i++)
        if (strcmp(h->names[i].name, name) == 0)
            out[n++] = h->names[i].address;
    return n;
}

bool house_run(struct house *h, uint64_t us, bool (*until)(void *ctx), void *ctx)
{
    uint64_t end = house_now_us(h) + us;
    for (;;) {
        tasks_run(h);
        if (until != NULL && until(ctx))
            return true;
        if (!vclock_step(&h->net->clock, end))
            break;
    }
    tasks_run(h);
    return until != NULL && until(ctx);
}

const char *house_left(struct house *h, char *buf, size_t cap)
{
    size_t at = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < h->machine_count; i++) {
        const struct machine *m = &h->machines[i];
        size_t socks = vstack_sockets(m->stack), lingering = vstack_lingering(m->stack);
        size_t tasks = 0;
        for (const struct task *t = h->tasks; t != NULL; t = t->next)
            tasks += t->machine == m && !t->over;
        if (m->files + m->loops + socks + lingering + tasks > 0 && at < cap)
            at += (size_t)snprintf(buf + at, cap - at,
                                   "%s: %zu descriptors, %zu loops, %zu sockets, %zu "
                                   "that linger, %zu tasks; ",
                                   m->node->name, m->files, m->loops, socks, lingering,
                                   tasks);
    }
    return buf;
}

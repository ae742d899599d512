/* See guard.h. The linker leads calls of a few functions through here (--wrap). */
#include "guard.h"

#include "seen.h" /* before any table of states */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/budget.h"
#include "core/proto.h"
#include "path/kind.h"
#include "session/internal.h"

enum { GUESTS_MAX = 256, DOORS_US = 3000000, TABLES = 64 };
enum { NEIGHBOURS_TTL = 255 }; /* of who calls a neighbour: io/tcp.h */

static struct guard *looks; /* as the world: one at a time */
static struct seen *counts;
static struct machine *liar;
static struct approach *guests[GUESTS_MAX];
static struct {
    const char *name;
    struct seen_name *seen;
} tables[TABLES]; /* found lately, by where their names stand: steps come often */

/* ------------------------------------------------------------------- what was seen */

void seen_to(struct seen *s)
{
    counts = s;
    memset(tables, 0, sizeof(tables));
}

static struct seen_name *name_of(const char *name)
{
    unsigned i = 0;
    if (counts == NULL)
        return NULL;
    while (i < GUARD_NAMES && counts->names[i].name[0] != '\0' &&
           strcmp(counts->names[i].name, name) != 0)
        i++;
    assert(i < GUARD_NAMES);
    (void)snprintf(counts->names[i].name, sizeof(counts->names[i].name), "%s", name);
    return &counts->names[i];
}

static void count(const char *what, unsigned code)
{
    char name[40];
    (void)snprintf(name, sizeof(name), "%s %u", what, code);
    struct seen_name *n = name_of(name);
    if (n != NULL)
        n->count++;
}

static uint32_t row_of(const void *successors, size_t size, unsigned row)
{
    const uint8_t *at = (const uint8_t *)successors + row * size;
    uint32_t v = 0;
    for (size_t i = 0; i < size && i < sizeof(v); i++) /* little-endian, as its tests */
        v |= (uint32_t)at[i] << (8 * i);
    return v;
}

static struct seen_name *table_of(const char *table, const void *successors,
                                  size_t bytes, size_t size)
{
    size_t at = ((uintptr_t)table >> 3) % TABLES;
    if (tables[at].name == table)
        return tables[at].seen;
    struct seen_name *n = name_of(table);
    if (n == NULL)
        return NULL;
    n->rows = (unsigned)(bytes / size);
    for (unsigned row = 0; row < n->rows && row < GUARD_ROWS; row++)
        n->allowed[row] = row_of(successors, size, row);
    tables[at].name = table;
    tables[at].seen = n;
    return n;
}

void seen_step(const char *table, const void *successors, size_t bytes, size_t size,
               unsigned from, unsigned to)
{
    struct seen_name *n = table_of(table, successors, bytes, size);
    if (n == NULL)
        return;
    if (from < GUARD_ROWS)
        n->came[from] |= 1u << to;
    n->count++;
}

void seen_add(struct seen *to, const struct seen *from)
{
    seen_to(to);
    for (unsigned i = 0; i < GUARD_NAMES && from->names[i].name[0] != '\0'; i++) {
        const struct seen_name *n = &from->names[i];
        struct seen_name *sum = name_of(n->name);
        sum->count += n->count;
        sum->rows = n->rows > 0 ? n->rows : sum->rows;
        for (unsigned row = 0; row < GUARD_ROWS; row++) {
            sum->allowed[row] |= n->allowed[row];
            sum->came[row] |= n->came[row];
        }
    }
}

static void tell_table(const struct seen_name *n)
{
    unsigned steps = 0, came = 0;
    uint32_t entered = 1, never[GUARD_ROWS];
    for (unsigned row = 0; row < n->rows; row++) {
        steps += (unsigned)__builtin_popcount(n->allowed[row]);
        came += (unsigned)__builtin_popcount(n->came[row] & n->allowed[row]);
        never[row] = n->allowed[row] & ~n->came[row];
        entered |= n->came[row];
    }
    (void)printf("  %-24s %d of %u states, %u of %u steps", n->name,
                 __builtin_popcount(entered), n->rows, came, steps);
    for (unsigned row = 0; row < n->rows; row++)
        for (unsigned to = 0; to < 32; to++)
            if ((never[row] >> to & 1) != 0)
                (void)printf(", not %u>%u", row, to);
    (void)printf("\n");
}

static unsigned long count_of(const struct seen *s, const char *what, unsigned code)
{
    char name[40];
    (void)snprintf(name, sizeof(name), "%s %u", what, code);
    for (unsigned i = 0; i < GUARD_NAMES && s->names[i].name[0] != '\0'; i++)
        if (strcmp(s->names[i].name, name) == 0)
            return s->names[i].count;
    return 0;
}

/* Of all refusals that there are (core/proto.h). */
static void tell_never_said(const struct seen *s)
{
    static const struct {
        const char *what;
        unsigned first, last;
    } said[] = {{"Refuse", REFUSE_OFFLINE, REFUSE_ENDED},
                {"Bye", BYE_VERSION, BYE_REMOVED},
                {"StreamReply", STREAM_OK, STREAM_LIMIT}};
    (void)printf("never said:");
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++)
        for (unsigned code = said[i].first; code <= said[i].last; code++)
            if (count_of(s, said[i].what, code) == 0)
                (void)printf(" %s %u;", said[i].what, code);
    (void)printf("\n");
}

void seen_tell(const struct seen *s)
{
    (void)printf("machines with tables:\n");
    for (unsigned i = 0; i < GUARD_NAMES && s->names[i].name[0] != '\0'; i++)
        if (s->names[i].rows > 0)
            tell_table(&s->names[i]);
    (void)printf("said, and how often:");
    for (unsigned i = 0; i < GUARD_NAMES && s->names[i].name[0] != '\0'; i++)
        if (s->names[i].rows == 0)
            (void)printf(" %s: %lu;", s->names[i].name, s->names[i].count);
    (void)printf("\n");
    tell_never_said(s);
}

/* ------------------------------------------------------------- what is on the wire */

/* In a network of IPv4: each packet is looked at, and text would be parsed each time.
 */
static bool in_net(const struct addr *a, uint32_t prefix, unsigned bits)
{
    uint32_t ip = (uint32_t)a->ip[0] << 24 | (uint32_t)a->ip[1] << 16 |
                  (uint32_t)a->ip[2] << 8 | a->ip[3];
    return a->family == ADDR_V4 && (ip ^ prefix) >> (32 - bits) == 0;
}

static bool is_private(const struct addr *a)
{
    return in_net(a, 0xc0a80000, 16) || in_net(a, 0x64400000, 10);
}

/* 198.51.100.0/24, addresses that are nobody's: what the liar names. */
static bool is_unknown(const struct addr *a)
{
    return in_net(a, 0xc6336400, 24);
}

/* 203.0.113.10 and .11 */
static bool is_broker(const struct addr *a)
{
    return in_net(a, 0xcb00710a, 31);
}

static struct guard_target *target_of(struct guard_side *s, const struct addr *ip)
{
    for (unsigned i = 0; i < s->count; i++)
        if (addr_ip_equal(&s->targets[i].ip, ip))
            return &s->targets[i];
    assert(s->count < GUARD_ADDRESSES);
    struct guard_target *t = &s->targets[s->count++];
    *t = (struct guard_target){.ip = *ip, .since_us = house_now_us(house_now())};
    return t;
}

/* So many may have left in that time. */
static uint64_t rate(enum budget_lane lane, uint64_t us)
{
    struct budget_rate r = budget_rate_each(lane);
    return r.burst + us / r.every_us + 1;
}

static void on_sent(struct guard *w, struct guard_side *s, const struct vpacket *p)
{
    char text[ADDR_TEXT_LEN];
    struct guard_target *t = target_of(s, &p->to);
    uint64_t us = house_now_us(house_now()) - t->since_us;
    uint64_t bound = rate(BUDGET_UNPROVEN, us);
    if (t->heard || (p->proto == VPROTO_TCP && p->tcp.flags != TCP_SYN))
        return;
    if (is_private(&p->to))
        bound = 0;
    else if (!is_unknown(&p->to)) /* the broker may vouch for it */
        bound = rate(BUDGET_VOUCHED, us) + rate(BUDGET_SWEEP, us);
    t->sent++;
    rig_check(w->rig, t->sent <= bound * s->programs,
              "%s sent %llu packets to %s, which never answered",
              s->machine->node->name, (unsigned long long)t->sent,
              addr_format_ip(&p->to, text));
}

static void look_at_doors(struct guard *w)
{
    size_t doors = vstack_doors(w->sides[0].machine->stack);
    uint64_t now_us = house_now_us(house_now());
    rig_check(w->rig, w->guests > 0 || doors == 0 || now_us < w->served_us + DOORS_US,
              "%zu doors of the host are open, for nobody", doors);
}

static void on_packet(void *ctx, const struct vnet_iface *at, const struct vpacket *p)
{
    struct guard *w = ctx;
    bool others =
        p->icmp.kind == VICMP_NONE && !is_broker(&p->to) && !is_broker(&p->from);
    for (int i = 0; i < 2 && others; i++) {
        struct guard_side *s = &w->sides[i];
        const struct vnet_node *node = s->machine->node;
        if (at->node == node)
            target_of(s, &p->from)->heard = true;
        else if ((p->ttl == VNET_TTL || p->ttl == NEIGHBOURS_TTL) &&
                 vnet_owns(node, &p->from))
            on_sent(w, s, p);
    }
    if (at->node == w->sides[0].machine->node)
        look_at_doors(w);
    rig_check(w->rig,
              !vnet_owns(w->sides[0].machine->node, &p->from) ||
                  !vnet_owns(w->rig->town->stranger->node, &p->to),
              "the host sent a packet to a stranger");
}

/* -------------------------------------------------------------------- what was said */

static void on_control(const Control *m)
{
    bool host = looks != NULL && machine_now() == looks->sides[0].machine;
    if (m->which_body == Control_refuse_tag)
        count(host ? "host's Refuse" : "Refuse", m->body.refuse.code);
    else if (m->which_body == Control_bye_tag)
        count("Bye", m->body.bye.code);
    if (!host || !looks->knows_stranger || m->which_body == Control_refuse_tag)
        return;
    rig_check(looks->rig, memcmp(m->peer, looks->stranger, KEY_LEN) != 0,
              "the host answered a stranger by a message of kind %d", m->which_body);
}

int __real_proto_encode_control(uint8_t *buf, size_t cap, const Control *m);
int __wrap_proto_encode_control(uint8_t *buf, size_t cap, const Control *m);
int __wrap_proto_encode_control(uint8_t *buf, size_t cap, const Control *m)
{
    on_control(m);
    if (looks != NULL && m->which_body == Control_welcome_tag)
        looks->welcomes++;
    return __real_proto_encode_control(buf, cap, m);
}

int __real_proto_encode_frame(uint8_t *buf, size_t cap, const pb_msgdesc_t *fields,
                              const void *m);
int __wrap_proto_encode_frame(uint8_t *buf, size_t cap, const pb_msgdesc_t *fields,
                              const void *m);
int __wrap_proto_encode_frame(uint8_t *buf, size_t cap, const pb_msgdesc_t *fields,
                              const void *m)
{
    if (fields == StreamReply_fields)
        count("StreamReply", ((const StreamReply *)m)->code);
    else if (fields == Meta_fields && ((const Meta *)m)->which_body == Meta_denied_tag)
        count("Denied", ((const Meta *)m)->body.denied.code);
    return __real_proto_encode_frame(buf, cap, fields, m);
}

/* An Offer from where the device was not before: each is one reason for a doubt. */
static void hear_generation(struct guard *w, const Offer *o)
{
    struct guard_approach *a = &w->approaches[o->conv[0] % GUARD_APPROACHES];
    bool known = memcmp(a->conv, o->conv, CONV_LEN) == 0;
    w->renewals += known && o->generation > a->generation;
    memcpy(a->conv, o->conv, CONV_LEN);
    a->generation = o->generation;
}

/* A liar's own addresses are all others'. */
int __real_proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m);
int __wrap_proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m);
int __wrap_proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m)
{
    Offer lie = *m;
    if (looks != NULL && machine_now() != looks->sides[0].machine)
        hear_generation(looks, m);
    if (liar == NULL || machine_now() != liar)
        return __real_proto_encode_offer(buf, cap, m);
    lie.candidates_count = sizeof(lie.candidates) / sizeof(lie.candidates[0]);
    for (unsigned i = 0; i < lie.candidates_count; i++) {
        static const uint8_t others[] = {198, 51, 100};
        Candidate *c = &lie.candidates[i];
        c->type = CAND_REFLEXIVE;
        c->port = 5000 + i;
        c->ip.size = 4;
        memcpy(c->ip.bytes, others, sizeof(others));
        c->ip.bytes[3] = (uint8_t)(1 + i / 4); /* four ports of four addresses */
    }
    return __real_proto_encode_offer(buf, cap, &lie);
}

int __real_approach_new_host(struct approach **out, const struct approach_config *c,
                             const Offer *offer, const Introduce *in);
int __wrap_approach_new_host(struct approach **out, const struct approach_config *c,
                             const Offer *offer, const Introduce *in);
int __wrap_approach_new_host(struct approach **out, const struct approach_config *c,
                             const Offer *offer, const Introduce *in)
{
    int rc = __real_approach_new_host(out, c, offer, in);
    if (rc != 0 || looks == NULL)
        return rc;
    assert(looks->guests < GUESTS_MAX);
    guests[looks->guests++] = *out;
    return 0;
}

/* Nothing can be proven before both ends know that it is over, and what was lost is
 * sent again on a path only. */
void __real_session_remove_path(struct session *s, struct path *p);
void __wrap_session_remove_path(struct session *s, struct path *p);
void __wrap_session_remove_path(struct session *s, struct path *p)
{
    __real_session_remove_path(s, p);
    if (looks != NULL)
        rig_check(looks->rig,
                  s->confirmed || session_path(s) != NULL || list_empty(&s->paths),
                  "a session has paths and uses none in its handshake");
}

void __real_session_doubt(struct session *s, bool hinted);
void __wrap_session_doubt(struct session *s, bool hinted);
void __wrap_session_doubt(struct session *s, bool hinted)
{
    if (looks != NULL && machine_now() == looks->sides[0].machine)
        looks->doubts++;
    __real_session_doubt(s, hinted);
}

/* ------------------------------------------------------------------ what was told */

bool __real_vnet_send(struct vnet_node *node, struct vpacket *p);
bool __wrap_vnet_send(struct vnet_node *node, struct vpacket *p);
bool __wrap_vnet_send(struct vnet_node *node, struct vpacket *p)
{
    bool udp =
        p->proto == VPROTO_UDP && p->icmp.kind == VICMP_NONE && !is_broker(&p->to);
    bool left = __real_vnet_send(node, p);
    for (int i = 0; looks != NULL && udp && left && i < 2; i++)
        looks->sides[i].udp_left += looks->sides[i].machine->node == node;
    return left;
}

/* The number before that word, or 0. */
static unsigned long number_before(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    while (at != NULL && at > text && at[-1] >= '0' && at[-1] <= '9')
        at--;
    return at != NULL ? strtoul(at, NULL, 10) : 0;
}

static void check_reason(const struct guard *w, int side, const char *reason)
{
    const struct guard_side *own = &w->sides[side], *other = &w->sides[!side];
    unsigned long told = number_before(reason, " checks of ");
    unsigned long packets = number_before(reason, " packets to ");
    told = told > packets ? told : packets;
    count("reasons told", (unsigned)side);
    rig_check(w->rig, told <= own->udp_left, "of %lu packets left %lu, but: %s", told,
              own->udp_left, reason);
    bool both = strstr(reason, "NATs of both sides") != NULL;
    rig_check(w->rig,
              own->symmetric ||
                  !(both || strstr(reason, "this side's NAT gives") != NULL),
              "no NAT of %s is symmetric, but: %s", own->machine->node->name, reason);
    rig_check(w->rig,
              other->symmetric ||
                  !(both || strstr(reason, "the other side's NAT gives") != NULL),
              "no NAT of %s is symmetric, but: %s", other->machine->node->name, reason);
}

void __real_approach_failed(struct approach *a, enum path_kind k, const char *reason);
void __wrap_approach_failed(struct approach *a, enum path_kind k, const char *reason);
void __wrap_approach_failed(struct approach *a, enum path_kind k, const char *reason)
{
    for (int i = 0; looks != NULL && i < 2; i++)
        if (machine_now() == looks->sides[i].machine)
            check_reason(looks, i, reason);
    __real_approach_failed(a, k, reason);
}

static bool is_symmetric(const struct vnet_node *router)
{
    const struct nat *n = router != NULL ? router->nats[0] : NULL;
    return n != NULL && n->c.translates &&
           (n->c.mapping == NAT_MAPPING_ADDRESS_DEPENDENT ||
            n->c.mapping == NAT_MAPPING_ADDRESS_PORT_DEPENDENT);
}

void __real_approach_free(struct approach *a);
void __wrap_approach_free(struct approach *a);
void __wrap_approach_free(struct approach *a)
{
    for (unsigned i = 0; looks != NULL && a != NULL && i < looks->guests; i++)
        if (guests[i] == a) {
            guests[i] = guests[--looks->guests];
            looks->served_us = house_now_us(house_now());
        }
    __real_approach_free(a);
}

/* ----------------------------------------------------------------------- the guard */

void guard_begin(struct guard *w, struct rig *r)
{
    *w = (struct guard){.rig = r, .served_us = house_now_us(r->town->house)};
    w->sides[0].machine = r->town->host.machine;
    w->sides[1].machine = r->town->client.machine;
    w->sides[0].programs = w->sides[1].programs = 1;
    const struct town *t = r->town;
    w->sides[0].symmetric = is_symmetric(t->host.router) || is_symmetric(t->inn.router);
    w->sides[1].symmetric = is_symmetric(t->client.router) ||
                            is_symmetric(t->cafe.router) || is_symmetric(t->carrier);
    looks = w;
    house_watch(r->town->house, on_packet, w);
}

void guard_another(struct guard *w)
{
    w->sides[1].programs++;
}

void guard_end(struct guard *w)
{
    house_watch(w->rig->town->house, NULL, NULL);
    unsigned sessions = w->sides[1].programs + 1; /* and a command beside */
    rig_check(
        w->rig, w->doubts <= sessions * (2 * w->welcomes + 4) + w->renewals,
        "the host's sessions were doubted %u times, for %u welcomes and %u Offers "
        "from elsewhere",
        w->doubts, w->welcomes, w->renewals);
    looks = NULL;
    liar = NULL;
}

void guard_stranger(struct guard *w, const uint8_t key[static KEY_LEN])
{
    memcpy(w->stranger, key, KEY_LEN);
    w->knows_stranger = true;
}

void guard_host_ends(struct guard *w)
{
    w->guests = w->sides[0].count = 0;
    w->served_us = house_now_us(w->rig->town->house);
}

void guard_liar(struct machine *m)
{
    liar = m;
}

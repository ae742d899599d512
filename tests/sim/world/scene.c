/* See scene.h. */
#include "scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum { CHUNKS_MIN = 40, CHUNKS_MORE = 80, CHUNK_BYTES = 8000 };

#define SECONDS(n) ((uint64_t)(n)*1000000)

static const char *const names[FAULT_KINDS] = {
    [FAULT_FLUSH_HOST] = "host's router restarts",
    [FAULT_FLUSH_CLIENT] = "client's router restarts",
    [FAULT_FLUSH_BOTH] = "both routers restart",
    [FAULT_ROAM] = "client roams",
    [FAULT_HOST_ROAM] = "host roams",
    [FAULT_IDLE] = "nobody speaks",
    [FAULT_CLOCK] = "clocks jump",
    [FAULT_CABLE_CLIENT] = "client's cable is out",
    [FAULT_OUTAGE_HOST] = "host's access is dead",
    [FAULT_OUTAGE_BROKER] = "broker's access is dead",
    [FAULT_ONE_WAY_HOST] = "host is not heard",
    [FAULT_ONE_WAY_CLIENT] = "client is not heard",
    [FAULT_BROKER_RESTARTS] = "broker restarts",
    [FAULT_HOST_RESTARTS] = "host restarts",
    [FAULT_HOST_CRASHES] = "host crashes",
    [FAULT_FILES_HOST] = "host has no descriptors left",
    [FAULT_FILES_CLIENT] = "client has no descriptors left",
    [FAULT_FILES_BROKER] = "broker has no descriptors left",
    [FAULT_DISK_HOST] = "host's disk is full",
    [FAULT_DISK_CLIENT] = "client's disk is full",
    [FAULT_DISK_BROKER] = "broker's disk is full",
    [FAULT_APART] = "the homes do not reach each other",
    [FAULT_BROKER_AWAY] = "host's router restarts, and the broker is away",
    [FAULT_WIFI_AWAY] = "host's router restarts without its wireless network, and the "
                        "broker is away",
    [FAULT_UP_HANGS] = "up hangs",
    [FAULT_UP_RESTARTS] = "up restarts",
    [FAULT_UP_CRASHES] = "up crashes",
};

static const char *const parts[SCENE_PARTS] = {
    "loss",     "jitter", "rate",   "mtu", "host-nat", "client-nat", "carrier", "six",
    "stranger", "liar",   "others", "nc",  "up",       "socks",      "portal"};

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

static void draw_nat(struct nat_config *c, uint64_t *rng)
{
    uint64_t more = ~*rng; /* what came later to be drawn changes no other draw */
    *c = (struct nat_config){
        .translates = true,
        .mapping = (enum nat_mapping)(NAT_MAPPING_ENDPOINT_INDEPENDENT +
                                      (int)rng_below(rng, 3)),
        .filtering = (enum nat_filtering)(NAT_FILTERING_ENDPOINT_INDEPENDENT +
                                          (int)rng_below(rng, 3)),
        .ports = (enum nat_ports)rng_below(rng, 4),
        .hairpins = rng_below(rng, 2) == 0,
        .inbound_refreshes = rng_below(rng, 2) == 0,
        .rejects_tcp = rng_below(rng, 2) == 0,
        .blocks_udp = rng_below(rng, 8) == 0,
        .udp_us = SECONDS(20 + rng_below(rng, 160)),
        .range_size = 512,
        .clamps = rng_below(rng, 2) == 0,
        .keeps_low = rng_below(&more, 2) == 0,
        .overloads = rng_below(&more, 3) == 0,
        .rst_closes = rng_below(&more, 3) == 0,
        .drops_syn = rng_below(&more, 6) == 0,
    };
    if (c->ports == NAT_PORTS_RANGE && rng_below(&more, 2) == 0)
        c->ports = NAT_PORTS_RANGE_RANDOM;
    if (rng_below(&more, 3) == 0)
        c->udp_first_us = SECONDS(10 + rng_below(&more, 20));
}

static void draw_wire(struct vnet_wire *w, uint64_t *rng)
{
    *w = (struct vnet_wire){.delay_us = 1000 + rng_below(rng, 60000),
                            .jitter_us = rng_below(rng, 5000),
                            .loss_permille = (unsigned)rng_below(rng, 15),
                            .double_permille = (unsigned)rng_below(rng, 5),
                            .reorder_permille = (unsigned)rng_below(rng, 5)};
    if (rng_below(rng, 3) == 0)
        w->rate_bps = 2000000 + rng_below(rng, 20000000);
    if (rng_below(rng, 4) == 0) {
        w->mtu = (uint16_t)(1280 + rng_below(rng, 220));
        w->mtu_silent = rng_below(rng, 2) == 0;
    }
}

/* Half of them one after the other's end, half in the midst of it. */
static void draw_fault(struct scene_fault *f, uint64_t *rng)
{
    f->kind = (enum fault_kind)rng_below(rng, FAULT_FILES_HOST);
    f->after_us = rng_below(rng, 2) == 0 ? rng_below(rng, SECONDS(3))
                                         : SECONDS(3) + rng_below(rng, SECONDS(12));
    f->lasts_us = SECONDS(1) + rng_below(rng, SECONDS(15));
    if (f->kind == FAULT_IDLE) /* up to hours, which cost little */
        f->lasts_us = SECONDS(60) << rng_below(rng, 8);
}

static struct scene_fault *put_in(struct scene *s, unsigned at)
{
    memmove(&s->faults[at + 1], &s->faults[at],
            (s->fault_count - at) * sizeof(s->faults[0]));
    s->fault_count++;
    return &s->faults[at];
}

/* Somewhere among the others. */
static void draw_scarcity(struct scene *s, uint64_t *rng)
{
    unsigned at = (unsigned)rng_below(rng, s->fault_count + 1);
    *put_in(s, at) = (struct scene_fault){
        .kind = (enum fault_kind)(FAULT_FILES_HOST +
                                  (int)rng_below(rng, FAULT_APART - FAULT_FILES_HOST)),
        .after_us = rng_below(rng, SECONDS(12)),
        .lasts_us = SECONDS(1) + rng_below(rng, SECONDS(15))};
}

/* While the stream lasts, and as long as its session may be waited for. */
static void draw_wifi_away(struct scene *s, uint64_t rng)
{
    *put_in(s, 0) =
        (struct scene_fault){.kind = FAULT_WIFI_AWAY,
                             .after_us = SECONDS(2) + rng_below(&rng, SECONDS(4)),
                             .lasts_us = SECONDS(70) + rng_below(&rng, SECONDS(50)),
                             .call_us = 1 + rng_below(&rng, 600000)};
    s->host_nat.rejects_tcp = true;
}

/*
 * What is looked at with its own limits comes before all else, while everything is in
 * order; a broker that is away for minutes, last.
 */
static void draw_special(struct scene *s, uint64_t rng)
{
    static const enum fault_kind sudden[] = {FAULT_FLUSH_HOST, FAULT_FLUSH_CLIENT,
                                             FAULT_ROAM, FAULT_HOST_ROAM};
    if (rng_below(&rng, 6) == 0)
        *put_in(s, s->fault_count) = (struct scene_fault){
            .kind = FAULT_BROKER_AWAY,
            .after_us = rng_below(&rng, SECONDS(5)),
            .lasts_us = SECONDS(70) + rng_below(&rng, SECONDS(80))};
    if (rng_below(&rng, 12) == 0) {
        draw_wifi_away(s, rng);
        return;
    }
    if (rng_below(&rng, 3) == 0)
        *put_in(s, 0) =
            (struct scene_fault){.kind = sudden[rng_below(&rng, 4)],
                                 .after_us = SECONDS(1) + rng_below(&rng, SECONDS(3)),
                                 .call_us = 1 + rng_below(&rng, 700000),
                                 .unrelayed = rng_below(&rng, 2) == 0};
    else if (rng_below(&rng, 3) == 0)
        *put_in(s, 0) =
            (struct scene_fault){.kind = FAULT_APART,
                                 .after_us = SECONDS(4),
                                 .lasts_us = SECONDS(4) + rng_below(&rng, SECONDS(3))};
    if (s->faults[0].kind == FAULT_APART) /* the stream is to last so long */
        s->bytes = CHUNK_BYTES * (SECONDS(70) / 1000 / s->pause_ms);
}

/* It is struck in place of something else, and mostly it is not alone. */
static void draw_up(struct scene *s, uint64_t *rng)
{
    struct scene_fault *f = &s->faults[rng_below(rng, s->fault_count)];
    f->kind = (enum fault_kind)(FAULT_UP_HANGS +
                                (int)rng_below(rng, FAULT_KINDS - FAULT_UP_HANGS));
    f->lasts_us = SECONDS(1) + rng_below(rng, SECONDS(15));
    s->others = (unsigned)rng_below(rng, SCENE_OTHERS + 1);
}

static bool has(const struct scene *s, enum scene_part part)
{
    return (s->plain >> part & 1) == 0;
}

static void leave_out(struct scene *s)
{
    if (!has(s, SCENE_LOSS))
        s->wire.loss_permille = 0;
    if (!has(s, SCENE_JITTER))
        s->wire.jitter_us = s->wire.double_permille = s->wire.reorder_permille = 0;
    if (!has(s, SCENE_RATE))
        s->wire.rate_bps = 0;
    if (!has(s, SCENE_MTU))
        s->wire.mtu = 0;
    if (!has(s, SCENE_HOST_NAT))
        s->host_nat = usual_nat;
    if (!has(s, SCENE_CLIENT_NAT))
        s->client_nat = usual_nat;
    s->carrier = s->carrier && has(s, SCENE_CARRIER);
    s->six = s->six && has(s, SCENE_SIX);
    s->stranger = s->stranger && has(s, SCENE_STRANGER);
    s->liar = s->liar && has(s, SCENE_LIAR);
    if (!has(s, SCENE_OTHER))
        s->others = 0;
    s->nc = s->nc && s->others > 0 && has(s, SCENE_NC);
    s->up = s->up && has(s, SCENE_UP);
    s->portal = s->portal && s->others > 0 && has(s, SCENE_PORTAL);
    s->socks = s->socks && s->others > 0 && !s->nc && has(s, SCENE_SOCKS);
}

/* Beside the others' draws, which stay as they are. */
static bool draws_portal(uint64_t rng)
{
    return rng_below(&rng, 10) == 0;
}

static void draw_portal(struct scene *s)
{
    s->portal = true;
    s->others = 1;
    s->nc = false;
}

void scene_draw(struct scene *s, uint64_t seed, uint32_t dropped, uint32_t plain)
{
    uint64_t rng = seed * 2654435761u + 17;
    *s = (struct scene){.seed = seed, .dropped = dropped, .plain = plain};
    draw_nat(&s->host_nat, &rng);
    draw_nat(&s->client_nat, &rng);
    draw_wire(&s->wire, &rng);
    s->fault_count = 1 + (unsigned)rng_below(&rng, SCENE_USUAL);
    for (unsigned i = 0; i < s->fault_count; i++)
        draw_fault(&s->faults[i], &rng);
    s->bytes = CHUNK_BYTES * (CHUNKS_MIN + rng_below(&rng, CHUNKS_MORE));
    s->pause_ms = 100 + (unsigned)rng_below(&rng, 300);
    s->carrier = rng_below(&rng, 8) == 0;
    s->six = rng_below(&rng, 4) == 0;
    s->stranger = rng_below(&rng, 3) == 0;
    s->liar = rng_below(&rng, 6) == 0;
    if (rng_below(&rng, 3) == 0)
        draw_scarcity(s, &rng);
    if (rng_below(&rng, 4) == 0)
        s->others = 1 + (unsigned)rng_below(&rng, SCENE_OTHERS);
    s->nc = rng_below(&rng, 2) == 0;
    s->up = rng_below(&rng, 8) == 0;
    if (s->up)
        draw_up(s, &rng);
    else if (draws_portal(rng))
        draw_portal(s);
    else
        draw_special(s, rng);
    s->socks = !s->portal && !s->up && seed % 2 == 0;
    leave_out(s);
}

bool scene_has_fault(const struct scene *s, unsigned i)
{
    return i < s->fault_count && (s->dropped >> i & 1) == 0;
}

bool scene_has_part(const struct scene *s, enum scene_part part)
{
    struct scene without;
    if (!has(s, part))
        return false;
    scene_draw(&without, s->seed, s->dropped, s->plain | 1u << part);
    without.plain = s->plain;
    return memcmp(&without, s, sizeof(*s)) != 0;
}

bool fault_breaks_streams(enum fault_kind kind)
{
    return kind == FAULT_HOST_RESTARTS || kind == FAULT_HOST_CRASHES ||
           kind == FAULT_DISK_HOST; /* under which it is begun anew */
}

const char *fault_name(enum fault_kind kind)
{
    return names[kind];
}

const char *scene_part_name(enum scene_part part)
{
    return parts[part];
}

/* ------------------------------------------------------------------------ in words */

static void tell_nat(const struct nat_config *c)
{
    (void)printf(" %d/%d/%d%s%s%s", c->mapping, c->filtering, c->ports,
                 c->blocks_udp ? " no UDP" : "", c->rejects_tcp ? " RST" : "",
                 c->drops_syn ? " no SYN" : "");
}

void scene_tell(const struct scene *s)
{
    (void)printf("seed %llu: NATs", (unsigned long long)s->seed);
    tell_nat(&s->host_nat);
    (void)printf(" and");
    tell_nat(&s->client_nat);
    (void)printf(", %llu us, loss %u, rate %llu, mtu %u%s",
                 (unsigned long long)s->wire.delay_us, s->wire.loss_permille,
                 (unsigned long long)s->wire.rate_bps, s->wire.mtu,
                 s->wire.mtu_silent ? " in silence" : "");
    (void)printf("%s%s%s%s, %u others%s%s%s\n", s->carrier ? ", a carrier's NAT" : "",
                 s->six ? ", IPv6" : "", s->stranger ? ", a stranger" : "",
                 s->liar ? ", a liar" : "", s->others,
                 s->nc      ? " by nc"
                 : s->socks ? " by SOCKS"
                            : "",
                 s->up ? ", up" : "", s->portal ? ", portal" : "");
    for (unsigned i = 0; i < s->fault_count; i++)
        if (scene_has_fault(s, i))
            (void)printf("  %u: after %.1f s: %s, %.1f s%s%s\n", i,
                         (double)s->faults[i].after_us / 1e6, names[s->faults[i].kind],
                         (double)s->faults[i].lasts_us / 1e6,
                         s->faults[i].call_us > 0 ? ", under a new command" : "",
                         s->faults[i].unrelayed ? " without relay" : "");
    (void)fflush(stdout);
}

const char *scene_options(const struct scene *s, char *buf, size_t cap)
{
    size_t at = (size_t)snprintf(buf, cap, "--seeds 1 --from %llu",
                                 (unsigned long long)s->seed);
    const char *before = " --drop ";
    for (unsigned i = 0; i < s->fault_count && at < cap; i++)
        if (!scene_has_fault(s, i)) {
            at += (size_t)snprintf(buf + at, cap - at, "%s%u", before, i);
            before = ",";
        }
    before = " --plain ";
    for (unsigned p = 0; p < SCENE_PARTS && at < cap; p++)
        if (!has(s, (enum scene_part)p)) {
            at += (size_t)snprintf(buf + at, cap - at, "%s%s", before, parts[p]);
            before = ",";
        }
    return buf;
}

bool scene_parse_drop(const char *text, uint32_t *mask)
{
    char *end = NULL;
    for (const char *at = text; *at != '\0'; at = *end == ',' ? end + 1 : end) {
        unsigned long i = strtoul(at, &end, 10);
        if (end == at || i >= SCENE_FAULTS)
            return false;
        *mask |= 1u << i;
    }
    return true;
}

bool scene_parse_plain(const char *text, uint32_t *mask)
{
    for (const char *at = text; *at != '\0';) {
        size_t len = strcspn(at, ",");
        unsigned p = 0;
        while (p < SCENE_PARTS &&
               (strlen(parts[p]) != len || strncmp(parts[p], at, len) != 0))
            p++;
        if (p == SCENE_PARTS)
            return false;
        *mask |= 1u << p;
        at += len + (at[len] == ',');
    }
    return true;
}

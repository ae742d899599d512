/*
 * A NAT in user space: a router's outer half, between a TUN device among its customers
 * and one in the internet. What it maps and lets in is the simulator's NAT, by
 * RFC 4787's words and many more; here are packets, devices and options.
 *
 * It knows what a NAT does to IPv4. IPv6 passes as it is, for others to filter. It
 * takes no TTL away: the router behind it has done that already.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "../sim/world/nat.h"
#include "core/rng.h"
#include "packet.h"
#include "tun.h"

enum {
    PACKET_MAX = 65536,
    BATCH = 64,
    HELD_MAX = 65536, /* packets in a direction */
    PORTS_MAX = 8,
    US_PER_MS = 1000,
};

struct held {
    struct held *next;
    uint64_t due_us;
    size_t len;
    uint8_t bytes[];
};

/* One direction, and the device at its end. */
struct line {
    int out;
    struct held *first, **last;
    size_t count;
};

struct config {
    struct nat_config nat;
    const char *netns[2], *dev[2];     /* inside, outside */
    unsigned tcp_unknown, udp_unknown; /* enum answer */
    bool alg, drops_icmp;
    unsigned delay_ms, loss_permille, seed;
    uint16_t only[PORTS_MAX]; /* destination ports that may be spoken to */
    unsigned only_count;
};

struct usernat {
    struct config c;
    struct nat nat;
    int fds[2];
    struct line in, out; /* towards the inside, towards the outside */
    uint64_t rng;
    uint64_t passed, refused;
};

static uint64_t now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* --------------------------------------------------------------------------- lines */

static void line_put(struct usernat *u, struct line *l, const uint8_t *buf, size_t len)
{
    if (u->c.loss_permille > rng_below(&u->rng, 1000) || l->count == HELD_MAX)
        return;
    if (u->c.delay_ms == 0) {
        u->passed += write(l->out, buf, len) == (ssize_t)len;
        return;
    }
    struct held *h = malloc(sizeof(*h) + len);
    if (h == NULL)
        return;
    *h = (struct held){.due_us = now_us() + u->c.delay_ms * US_PER_MS, .len = len};
    memcpy(h->bytes, buf, len);
    *l->last = h;
    l->last = &h->next;
    l->count++;
}

/* All delays are one, so that the first is due first. */
static void line_send_due(struct usernat *u, struct line *l, uint64_t now)
{
    while (l->first != NULL && l->first->due_us <= now) {
        struct held *h = l->first;
        l->first = h->next;
        if (h->next == NULL)
            l->last = &l->first;
        l->count--;
        u->passed += write(l->out, h->bytes, h->len) == (ssize_t)h->len;
        free(h);
    }
}

/* ------------------------------------------------------------------------- packets */

static bool may_pass(const struct usernat *u, const struct addr *to)
{
    bool may = u->c.only_count == 0;
    for (unsigned i = 0; i < u->c.only_count; i++)
        may = may || u->c.only[i] == to->port;
    return may;
}

static void refuse(struct usernat *u, const struct packet *p)
{
    uint8_t buf[PACKET_REFUSAL_MAX];
    unsigned how = p->proto == VPROTO_TCP ? u->c.tcp_unknown : u->c.udp_unknown;
    size_t len = packet_refuse(buf, p, (enum answer)how);
    u->refused++;
    if (len > 0)
        line_put(u, &u->out, buf, len);
}

static bool come_in(struct usernat *u, struct packet *p)
{
    struct addr to = p->to, outer = p->to;
    if (!nat_in(&u->nat, p->proto, &p->from, &to, p->flags, now_us())) {
        refuse(u, p);
        return false;
    }
    packet_set(p, &p->from, &to);
    if (u->c.alg)
        packet_damage(p, &outer, &to);
    return true;
}

/* An error about what went out: to whom it really came from. */
static bool error_in(struct usernat *u, struct packet *p)
{
    struct addr inner;
    if (u->c.drops_icmp || !nat_inner_of(&u->nat, p->proto, &p->about_from,
                                         &p->about_to, now_us(), &inner))
        return false;
    packet_set_about(p, &inner, &p->about_to);
    inner.port = 0;
    packet_set(p, &p->from, &inner);
    return true;
}

static bool go_out(struct usernat *u, struct packet *p)
{
    struct addr from = p->from, inner = p->from;
    if (!may_pass(u, &p->to) ||
        !nat_out(&u->nat, p->proto, &from, &p->to, p->flags, now_us(), &u->rng))
        return false;
    packet_set(p, &from, &p->to);
    if (u->c.alg)
        packet_damage(p, &inner, &from);
    return true;
}

/* An error of the inside about what came in; it is the router's that speaks. */
static bool error_out(struct usernat *u, struct packet *p)
{
    struct addr ext;
    if (!nat_outer_of(&u->nat, p->proto, &p->about_to, &p->about_from, now_us(), &ext))
        return false;
    packet_set_about(p, &p->about_from, &ext);
    ext.port = 0;
    packet_set(p, u->c.nat.translates ? &ext : &p->from, &p->to);
    return true;
}

static void from_inside(struct usernat *u, uint8_t *buf, size_t len)
{
    struct packet p;
    if (len > 0 && buf[0] >> 4 == 6)
        line_put(u, &u->out, buf, len);
    else if (packet_parse(&p, buf, len)) {
        bool own = nat_owns(&u->nat, &p.to); /* hairpin */
        if (p.is_error ? error_out(u, &p)
                       : (!own || u->c.nat.hairpins) && go_out(u, &p)) {
            if (!own)
                line_put(u, &u->out, p.ip, p.len);
            else if (!p.is_error && come_in(u, &p))
                line_put(u, &u->in, p.ip, p.len);
        }
    }
}

static void from_outside(struct usernat *u, uint8_t *buf, size_t len)
{
    struct packet p;
    if (len > 0 && buf[0] >> 4 == 6)
        line_put(u, &u->in, buf, len);
    else if (packet_parse(&p, buf, len) &&
             (p.is_error ? error_in(u, &p) : come_in(u, &p)))
        line_put(u, &u->in, p.ip, p.len);
}

/* ------------------------------------------------------------------------ the loop */

static volatile sig_atomic_t ended, forget, tell;

static void on_signal(int number)
{
    if (number == SIGUSR1)
        forget = 1;
    else if (number == SIGUSR2)
        tell = 1;
    else
        ended = 1;
}

static int wait_for_work(const struct usernat *u, struct pollfd fds[2],
                         const sigset_t *mask)
{
    uint64_t due = now_us() + 1000000, now = now_us();
    for (int i = 0; i < 2; i++)
        fds[i] = (struct pollfd){.fd = u->fds[i], .events = POLLIN};
    if (u->in.first != NULL && u->in.first->due_us < due)
        due = u->in.first->due_us;
    if (u->out.first != NULL && u->out.first->due_us < due)
        due = u->out.first->due_us;
    uint64_t left = due > now ? due - now : 0;
    struct timespec t = {.tv_sec = (time_t)(left / 1000000),
                         .tv_nsec = (long)(left % 1000000 * 1000)};
    return ppoll(fds, 2, &t, mask);
}

/* False: the device is gone. */
static bool take_in(struct usernat *u, int which)
{
    static uint8_t buf[PACKET_MAX];
    for (int i = 0; i < BATCH; i++) {
        ssize_t n = read(u->fds[which], buf, sizeof(buf));
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (which == 0)
            from_inside(u, buf, (size_t)n);
        else
            from_outside(u, buf, (size_t)n);
    }
    return true;
}

static void report(const struct usernat *u)
{
    printf("{\"event\":\"usernat\",\"passed\":%llu,\"unexpected\":%llu,"
           "\"sessions\":%zu,\"refused\":%llu,\"banned\":%llu}\n",
           (unsigned long long)u->passed, (unsigned long long)u->refused,
           nat_sessions(&u->nat, now_us()), (unsigned long long)u->nat.refused,
           (unsigned long long)u->nat.banned);
    (void)fflush(stdout);
}

/* Until SIGTERM or SIGINT, or a device is gone; SIGUSR1: it forgets all; SIGUSR2: it
 * tells what it has. */
static int run(struct usernat *u)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    struct sigaction act = {.sa_handler = on_signal};
    sigset_t blocked, open_mask;
    sigemptyset(&blocked);
    for (int i = 0; i < 4; i++) {
        sigaddset(&blocked, signals[i]);
        sigaction(signals[i], &act, NULL);
    }
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    while (!ended) {
        struct pollfd fds[2];
        int n = wait_for_work(u, fds, &open_mask);
        if (n < 0 && errno != EINTR)
            return 1;
        if (tell)
            report(u);
        tell = 0;
        if (forget)
            nat_flush(&u->nat);
        forget = 0;
        for (int i = 0; n > 0 && i < 2; i++)
            if (fds[i].revents != 0 && !take_in(u, i))
                return 1;
        line_send_due(u, &u->in, now_us());
        line_send_due(u, &u->out, now_us());
    }
    return 0;
}

/* --------------------------------------------------------------------- the options */

enum form { FLAG, NUMBER, MS, PORT, WORD };

static const char *const mappings[] = {"endpoint-independent", "address-dependent",
                                       "address-and-port-dependent", NULL};
static const char *const ports[] = {"preserved", "sequential",   "random",
                                    "range",     "range-random", NULL};
static const char *const refusals[] = {"drop", "rst", "icmp", NULL};

#define AT(member) offsetof(struct config, member)

static const struct {
    const char *name;
    enum form form;
    size_t at;
    const char *const *words;
    unsigned first; /* the value of the first word */
} rows[] = {
    {"no-translation", FLAG, AT(nat.translates), NULL, 1},
    {"mapping", WORD, AT(nat.mapping), mappings, NAT_MAPPING_ENDPOINT_INDEPENDENT},
    {"filtering", WORD, AT(nat.filtering), mappings,
     NAT_FILTERING_ENDPOINT_INDEPENDENT},
    {"ports", WORD, AT(nat.ports), ports, 0},
    {"port-first", PORT, AT(nat.port_first), NULL, 0},
    {"port-last", PORT, AT(nat.port_last), NULL, 0},
    {"step", NUMBER, AT(nat.step), NULL, 0},
    {"range-size", NUMBER, AT(nat.range_size), NULL, 0},
    {"keeps-low", FLAG, AT(nat.keeps_low), NULL, 0},
    {"overloads", FLAG, AT(nat.overloads), NULL, 0},
    {"pool-arbitrary", FLAG, AT(nat.pool_arbitrary), NULL, 0},
    {"hairpins", FLAG, AT(nat.hairpins), NULL, 0},
    {"inbound-refreshes", FLAG, AT(nat.inbound_refreshes), NULL, 0},
    {"udp-ms", MS, AT(nat.udp_us), NULL, 0},
    {"udp-first-ms", MS, AT(nat.udp_first_us), NULL, 0},
    {"tcp-ms", MS, AT(nat.tcp_us), NULL, 0},
    {"tcp-transitory-ms", MS, AT(nat.tcp_transitory_us), NULL, 0},
    {"rst-closes", FLAG, AT(nat.rst_closes), NULL, 0},
    {"sessions-max", NUMBER, AT(nat.sessions_max), NULL, 0},
    {"sessions-each", NUMBER, AT(nat.sessions_each), NULL, 0},
    {"new-per-s", NUMBER, AT(nat.new_per_s), NULL, 0},
    {"ban-new-per-s", NUMBER, AT(nat.ban_new_per_s), NULL, 0},
    {"ban-unanswered", NUMBER, AT(nat.ban_unanswered), NULL, 0},
    {"ban-unexpected", NUMBER, AT(nat.ban_unexpected), NULL, 0},
    {"ban-ms", MS, AT(nat.ban_us), NULL, 0},
    {"no-udp", FLAG, AT(nat.blocks_udp), NULL, 0},
    {"drops-syn", FLAG, AT(nat.drops_syn), NULL, 0},
    {"tcp-unknown", WORD, AT(tcp_unknown), refusals, ANSWER_NONE},
    {"udp-unknown", WORD, AT(udp_unknown), refusals, ANSWER_NONE},
    {"drops-icmp", FLAG, AT(drops_icmp), NULL, 0},
    {"alg", FLAG, AT(alg), NULL, 0},
    {"delay-ms", NUMBER, AT(delay_ms), NULL, 0},
    {"loss-permille", NUMBER, AT(loss_permille), NULL, 0},
    {"seed", NUMBER, AT(seed), NULL, 0},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]), INSIDE, OUTSIDE, ADDRESS, ONLY_PORT };

static int usage(void)
{
    fprintf(stderr, "usernat: usage: usernat --inside NETNS DEV --outside NETNS DEV "
                    "[--address IP]... [--only-port PORT]...");
    for (size_t i = 0; i < ROWS; i++) {
        fprintf(stderr, " [--%s", rows[i].name);
        for (int k = 0; rows[i].words != NULL && rows[i].words[k] != NULL; k++)
            fprintf(stderr, "%s%s", k == 0 ? " " : "|", rows[i].words[k]);
        fprintf(stderr, "%s]", rows[i].form == FLAG || rows[i].words ? "" : " N");
    }
    fprintf(stderr, "\n");
    return 2;
}

static bool set_word(unsigned *to, size_t row, const char *text)
{
    for (unsigned i = 0; rows[row].words[i] != NULL; i++) {
        if (strcmp(rows[row].words[i], text) == 0) {
            *to = rows[row].first + i;
            return true;
        }
    }
    return false;
}

static bool set_row(struct config *c, size_t row, const char *text)
{
    uint8_t *at = (uint8_t *)c + rows[row].at;
    char *end = NULL;
    unsigned long long v = text == NULL ? 0 : strtoull(text, &end, 10);
    bool number = text != NULL && end != text && *end == '\0' && v < 1u << 31;
    switch (rows[row].form) {
    case FLAG:
        *(bool *)at = rows[row].first == 0;
        return true;
    case WORD:
        return set_word((unsigned *)at, row, text);
    case NUMBER:
        *(unsigned *)at = (unsigned)v;
        return number;
    case PORT:
        *(uint16_t *)at = (uint16_t)v;
        return number && v < 65536;
    case MS:
        *(uint64_t *)at = v * US_PER_MS;
        return number;
    }
    return false;
}

/* What is not a row: `o` is how getopt names it. */
static bool set_other(struct config *c, int o, int argc, char **argv)
{
    struct addr a;
    if (o == INSIDE || o == OUTSIDE) {
        c->netns[o - INSIDE] = optarg;
        c->dev[o - INSIDE] = optind < argc ? argv[optind++] : NULL;
        return c->dev[o - INSIDE] != NULL;
    }
    if (o == ONLY_PORT) {
        long v = strtol(optarg, NULL, 10);
        c->only[c->only_count % PORTS_MAX] = (uint16_t)v;
        return v > 0 && v < 65536 && c->only_count++ < PORTS_MAX;
    }
    if (o != ADDRESS || addr_parse_ip(&a, optarg) != 0 || a.family != ADDR_V4)
        return false;
    if (c->nat.ext.family == ADDR_NONE)
        c->nat.ext = a;
    else if (c->nat.more_count < NAT_POOL_MAX - 1)
        c->nat.more[c->nat.more_count++] = a;
    else
        return false;
    return true;
}

static bool parse_options(struct config *c, int argc, char **argv)
{
    struct option options[ROWS + 5] = {0};
    for (int i = 0; i < ROWS; i++)
        options[i] = (struct option){rows[i].name, rows[i].form != FLAG, NULL, i};
    options[ROWS] = (struct option){"inside", 1, NULL, INSIDE};
    options[ROWS + 1] = (struct option){"outside", 1, NULL, OUTSIDE};
    options[ROWS + 2] = (struct option){"address", 1, NULL, ADDRESS};
    options[ROWS + 3] = (struct option){"only-port", 1, NULL, ONLY_PORT};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool good =
            o < ROWS ? set_row(c, (size_t)o, optarg) : set_other(c, o, argc, argv);
        if (!good)
            return false;
    }
    return c->dev[0] != NULL && c->dev[1] != NULL && optind == argc &&
           (!c->nat.translates || c->nat.ext.family == ADDR_V4);
}

/* -----------------------------------------------------------------------------------
 */

static void drop_all(struct line *l)
{
    while (l->first != NULL) {
        struct held *h = l->first;
        l->first = h->next;
        free(h);
    }
}

int main(int argc, char **argv)
{
    static struct usernat u;
    u.c.nat = (struct nat_config){.translates = true,
                                  .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                  .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT};
    if (!parse_options(&u.c, argc, argv))
        return usage();
    u.rng = u.c.seed;
    u.in.last = &u.in.first;
    u.out.last = &u.out.first;
    nat_init(&u.nat, &u.c.nat);
    for (int i = 0; i < 2; i++) {
        u.fds[i] = tun_open("usernat", u.c.netns[i], u.c.dev[i], IFF_TUN | IFF_NO_PI);
        if (u.fds[i] < 0)
            return 1;
    }
    u.in.out = u.fds[0];
    u.out.out = u.fds[1];
    prctl(PR_SET_TIMERSLACK, 1ul);
    printf("ready\n");
    fflush(stdout);
    int status = run(&u);
    report(&u);
    drop_all(&u.in);
    drop_all(&u.out);
    nat_fini(&u.nat);
    return status;
}

/*
 * A cable with a bad day: moves Ethernet frames between two TAP devices in two network
 * namespaces, with delay, jitter, loss, a rate limit and a bounded queue.
 *
 * It knows frames and when each is due. It refuses to know what is in them, and who
 * gives the devices their addresses. A wire that only delays takes and hands on whole
 * segmentation-offload frames (virtio-net header), so that it costs next to nothing;
 * one that loses, limits or reorders sees every packet by itself, as a real one would.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "tun.h"

#define FRAME_MAX (sizeof(struct virtio_net_hdr) + 65536 + 64)
#define HELD_MAX_BYTES (256u << 20) /* a direction: 2 Gbit/s for a second */
#define BATCH 64                    /* frames read before the due ones are sent */
#define NS_PER_MS 1000000ull
#define NEVER UINT64_MAX

struct config {
    const char *netns[2];
    const char *dev[2];
    double delay_ms;
    double jitter_ms;
    bool reorder;
    double loss;
    double rate_mbit[2];  /* from a to b, and back */
    double later_mbit[2]; /* the same, from SIGUSR1 on */
    double queue_ms;
    uint64_t seed;
};

struct frame {
    uint64_t due_ns;
    uint64_t seq;
    uint32_t len;
    uint8_t bytes[];
};

struct counters {
    uint64_t passed, passed_bytes, lost, queue_full, refused;
};

/* One direction: a heap of frames, the first due on top, and the line's clock. */
struct direction {
    int in, out;
    struct frame **heap;
    size_t count, cap;
    size_t held_bytes;
    uint64_t seq;
    uint64_t line_free_ns; /* when the rate-limited line has sent what it has */
    uint64_t last_due_ns;  /* keeps the order when jitter may not change it */
    struct counters n;
};

struct wire {
    struct config c;
    struct direction dir[2];
    uint64_t random;
    uint8_t scratch[FRAME_MAX];
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* splitmix64: uniform in [0, 1). */
static double uniform(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

/* ------------------------------------------------------------------------ the heap */

static bool frame_before(const struct frame *a, const struct frame *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static bool heap_push(struct direction *d, struct frame *f)
{
    if (d->count == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 1024;
        struct frame **heap = realloc(d->heap, cap * sizeof(*heap));
        if (!heap)
            return false;
        d->heap = heap;
        d->cap = cap;
    }
    size_t i = d->count++;
    while (i > 0 && frame_before(f, d->heap[(i - 1) / 2])) {
        d->heap[i] = d->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    d->heap[i] = f;
    return true;
}

static struct frame *heap_pop(struct direction *d)
{
    struct frame *top = d->heap[0];
    struct frame *f = d->heap[--d->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= d->count)
            break;
        if (child + 1 < d->count && frame_before(d->heap[child + 1], d->heap[child]))
            child++;
        if (!frame_before(d->heap[child], f))
            break;
        d->heap[i] = d->heap[child];
        i = child;
    }
    if (d->count)
        d->heap[i] = f;
    return top;
}

/* ------------------------------------------------------------------------ the line */

/* When a frame that arrives now is due at the far end; NEVER when it is lost. */
static uint64_t line_due(struct wire *w, struct direction *d, uint64_t now, size_t len)
{
    const struct config *c = &w->c;
    double mbit = c->rate_mbit[d - w->dir];
    if (c->loss > 0 && uniform(&w->random) < c->loss) {
        d->n.lost++;
        return NEVER;
    }
    uint64_t sent = now;
    if (mbit > 0) {
        uint64_t start = d->line_free_ns > now ? d->line_free_ns : now;
        if (start - now > (uint64_t)(c->queue_ms * NS_PER_MS)) {
            d->n.queue_full++;
            return NEVER;
        }
        sent = start + (uint64_t)((double)len * 8e3 / mbit);
        d->line_free_ns = sent;
    }
    double extra_ms = c->delay_ms;
    if (c->jitter_ms > 0)
        extra_ms += c->jitter_ms * uniform(&w->random);
    uint64_t due = sent + (uint64_t)(extra_ms * NS_PER_MS);
    if (!c->reorder && due < d->last_due_ns)
        due = d->last_due_ns;
    d->last_due_ns = due;
    return due;
}

static void line_take(struct wire *w, struct direction *d, uint64_t now, size_t len)
{
    uint64_t due = line_due(w, d, now, len - sizeof(struct virtio_net_hdr));
    if (due == NEVER)
        return;
    struct frame *f = NULL;
    if (d->held_bytes + len <= HELD_MAX_BYTES)
        f = malloc(sizeof(*f) + len);
    if (!f) {
        d->n.queue_full++;
        return;
    }
    f->due_ns = due;
    f->seq = d->seq++;
    f->len = (uint32_t)len;
    memcpy(f->bytes, w->scratch, len);
    if (!heap_push(d, f)) {
        free(f);
        d->n.queue_full++;
        return;
    }
    d->held_bytes += len;
}

static bool line_read(struct wire *w, struct direction *d, uint64_t now)
{
    for (int i = 0; i < BATCH; i++) {
        ssize_t n = read(d->in, w->scratch, sizeof(w->scratch));
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if ((size_t)n <= sizeof(struct virtio_net_hdr))
            return n > 0;
        line_take(w, d, now, (size_t)n);
    }
    return true;
}

static void line_send_due(struct direction *d, uint64_t now)
{
    while (d->count && d->heap[0]->due_ns <= now) {
        struct frame *f = heap_pop(d);
        d->held_bytes -= f->len;
        /* EIO: the device is down; a cable whose far end is off loses what it has. */
        if (write(d->out, f->bytes, f->len) == (ssize_t)f->len) {
            d->n.passed++;
            d->n.passed_bytes += f->len - sizeof(struct virtio_net_hdr);
        } else {
            d->n.refused++;
        }
        free(f);
    }
}

/* ---------------------------------------------------------------------- the device */

static int tap_open(const char *netns, const char *dev, bool whole_segments)
{
    unsigned offload = TUN_F_CSUM;
    if (whole_segments)
        offload |= TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6;
    int fd = tun_open("wire", netns, dev, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    if (fd < 0 || ioctl(fd, TUNSETOFFLOAD, (unsigned long)offload) == 0)
        return fd;
    fprintf(stderr, "wire: device %s: %s\n", dev, strerror(errno));
    close(fd);
    return -1;
}

static int wire_open(struct wire *w)
{
    const struct config *c = &w->c;
    bool limits = c->rate_mbit[0] > 0 || c->rate_mbit[1] > 0 || c->later_mbit[0] > 0;
    bool whole = c->loss == 0 && !limits && !c->reorder;
    int a = tap_open(c->netns[0], c->dev[0], whole);
    int b = a < 0 ? -1 : tap_open(c->netns[1], c->dev[1], whole);
    w->dir[0].in = w->dir[1].out = a;
    w->dir[1].in = w->dir[0].out = b;
    w->random = c->seed;
    return a < 0 || b < 0 ? -1 : 0;
}

/* ------------------------------------------------------------------------ the loop */

static int wire_wait(const struct wire *w, struct pollfd fds[2], const sigset_t *mask)
{
    uint64_t due = NEVER;
    for (int i = 0; i < 2; i++) {
        fds[i] = (struct pollfd){.fd = w->dir[i].in, .events = POLLIN};
        if (w->dir[i].count && w->dir[i].heap[0]->due_ns < due)
            due = w->dir[i].heap[0]->due_ns;
    }
    uint64_t now = now_ns();
    uint64_t left = due == NEVER ? NS_PER_MS * 1000 : due > now ? due - now : 0;
    struct timespec t = {.tv_sec = (time_t)(left / 1000000000ull),
                         .tv_nsec = (long)(left % 1000000000ull)};
    return ppoll(fds, 2, &t, mask);
}

static volatile sig_atomic_t latest_signal;

static void on_signal(int number)
{
    latest_signal = number; /* and ppoll ends with EINTR */
}

/* Runs until SIGTERM or SIGINT, or until a device is gone; SIGUSR1 changes the rates.
 */
static int wire_run(struct wire *w)
{
    struct sigaction act = {.sa_handler = on_signal};
    sigset_t blocked, open_mask;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &open_mask);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGUSR1, &act, NULL);
    for (;;) {
        struct pollfd fds[2];
        if (wire_wait(w, fds, &open_mask) < 0) {
            if (errno != EINTR || latest_signal != SIGUSR1)
                return errno == EINTR ? 0 : 1;
            memcpy(w->c.rate_mbit, w->c.later_mbit, sizeof(w->c.rate_mbit));
            continue;
        }
        uint64_t now = now_ns();
        for (int i = 0; i < 2; i++) {
            if ((fds[i].revents & POLLIN) && !line_read(w, &w->dir[i], now))
                return 1;
        }
        for (int i = 0; i < 2; i++)
            line_send_due(&w->dir[i], now_ns());
    }
}

static void wire_report(const struct wire *w)
{
    for (int i = 0; i < 2; i++) {
        const struct counters *n = &w->dir[i].n;
        printf("{\"event\":\"wire\",\"from\":\"%s\",\"passed\":%llu,\"bytes\":%llu,"
               "\"lost\":%llu,\"queue_full\":%llu,\"refused\":%llu}\n",
               w->c.dev[i], (unsigned long long)n->passed,
               (unsigned long long)n->passed_bytes, (unsigned long long)n->lost,
               (unsigned long long)n->queue_full, (unsigned long long)n->refused);
    }
}

static void wire_fini(struct wire *w)
{
    for (int i = 0; i < 2; i++) {
        struct direction *d = &w->dir[i];
        while (d->count)
            free(heap_pop(d));
        free(d->heap);
        if (d->in >= 0)
            close(d->in);
    }
}

/* --------------------------------------------------------------------- the options */

static int usage(void)
{
    fprintf(stderr, "wire: usage: wire --a NETNS DEV --b NETNS DEV [--delay-ms N] "
                    "[--jitter-ms N [--reorder]] [--loss P] [--rate-mbit A-TO-B BACK "
                    "[--later-mbit A-TO-B BACK] [--queue-ms N]] [--seed N]\n");
    return 2;
}

static bool parse_number(double *out, const char *text)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && *out >= 0 && *out < 1e12;
}

static bool parse_end(struct config *c, int which, int argc, char **argv)
{
    if (optind >= argc)
        return false;
    c->netns[which] = optarg;
    c->dev[which] = argv[optind++];
    return strlen(c->dev[which]) < IFNAMSIZ;
}

/* Two numbers: optarg, and the next word. */
static bool parse_rates(double rates[2], int argc, char **argv)
{
    return parse_number(&rates[0], optarg) && optind < argc &&
           parse_number(&rates[1], argv[optind++]);
}

static bool parse_options(struct config *c, int argc, char **argv)
{
    static const struct option options[] = {
        {"a", 1, NULL, 'a'},         {"b", 1, NULL, 'b'},
        {"delay-ms", 1, NULL, 'd'},  {"jitter-ms", 1, NULL, 'j'},
        {"reorder", 0, NULL, 'r'},   {"loss", 1, NULL, 'l'},
        {"rate-mbit", 1, NULL, 'm'}, {"queue-ms", 1, NULL, 'q'},
        {"seed", 1, NULL, 's'},      {"later-mbit", 1, NULL, 'L'},
        {NULL, 0, NULL, 0},
    };
    double seed = 1;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool good = true;
        switch (o) {
        case 'a':
        case 'b':
            good = parse_end(c, o - 'a', argc, argv);
            break;
        case 'd':
            good = parse_number(&c->delay_ms, optarg);
            break;
        case 'j':
            good = parse_number(&c->jitter_ms, optarg);
            break;
        case 'r':
            c->reorder = true;
            break;
        case 'l':
            good = parse_number(&c->loss, optarg) && c->loss <= 1;
            break;
        case 'm':
            good = parse_rates(c->rate_mbit, argc, argv);
            break;
        case 'L':
            good = parse_rates(c->later_mbit, argc, argv);
            break;
        case 'q':
            good = parse_number(&c->queue_ms, optarg);
            break;
        case 's':
            good = parse_number(&seed, optarg);
            break;
        default:
            return false;
        }
        if (!good)
            return false;
    }
    c->seed = (uint64_t)seed;
    return c->netns[0] && c->netns[1] && optind == argc;
}

int main(int argc, char **argv)
{
    struct wire *w = calloc(1, sizeof(*w));
    if (!w)
        return 1;
    w->c.queue_ms = 50;
    w->dir[0].in = w->dir[1].in = -1;
    int status = 1;
    if (!parse_options(&w->c, argc, argv)) {
        status = usage();
        goto out;
    }
    prctl(PR_SET_TIMERSLACK, 1ul);
    if (wire_open(w) != 0)
        goto out;
    printf("ready\n");
    fflush(stdout);
    status = wire_run(w);
    wire_report(w);
out:
    wire_fini(w);
    free(w);
    return status;
}

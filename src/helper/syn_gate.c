/*
 * Gates: SYNs that wait in the kernel's queue (nfnetlink_queue) for the program's
 * verdict. All gates have one queue; each has a socket to the program. What it knows of
 * a packet is where it is from and goes to, and its sequence number.
 *
 * A repeated SYN stands for the one before, which is dropped. One that was accepted is
 * let through when it comes again: the answer to it was lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "helper/parts.h"

enum {
    QUEUE_TRIES = 16,
    QUEUE_PACKETS = 4096,           /* that wait for us, not for the program */
    BUFFER_BYTES = 2 * 1024 * 1024, /* all that may be held arrives at once */
    SNAP_BYTES = 128, /* the longest IPv4 header and TCP's ports and number fit */
    READS = 64,       /* packets at one go */
};

struct held {
    uint64_t id, until_ms;
    uint32_t packet; /* the kernel's number */
    int fd;          /* of its gate */
    struct packet p;
};

struct passed {
    uint64_t until_ms;
    struct packet p;
};

static struct {
    struct nfq_handle *nfq;
    struct nfq_q_handle *handle;
    struct gate_queue queue;
    uint64_t last_id;
    int fds[PRIVILEGE_GATES_MAX]; /* ours, of the pairs to the program */
    struct addr gates[PRIVILEGE_GATES_MAX];
    size_t gate_count, held_count;
    struct held held[PRIVILEGE_HELD_MAX]; /* in no order */
    struct passed passed[PRIVILEGE_HELD_MAX];
    size_t passed_next; /* the eldest of `passed` */
} gate;

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------------ verdicts */

static void decide(uint32_t packet, enum gate_verdict verdict)
{
    if (verdict == GATE_REFUSE)
        (void)nfq_set_verdict2(gate.handle, packet, NF_ACCEPT, gate.queue.mark, 0,
                               NULL);
    else
        (void)nfq_set_verdict(gate.handle, packet,
                              verdict == GATE_ACCEPT ? NF_ACCEPT : NF_DROP, 0, NULL);
}

static void release(struct held *h, enum gate_verdict verdict)
{
    decide(h->packet, verdict);
    if (verdict == GATE_ACCEPT) {
        gate.passed[gate.passed_next] =
            (struct passed){now_ms() + PRIVILEGE_PASSED_MS, h->p};
        gate.passed_next = (gate.passed_next + 1) % PRIVILEGE_HELD_MAX;
    }
    *h = gate.held[--gate.held_count];
}

static void release_all(int fd, enum gate_verdict verdict)
{
    for (size_t i = gate.held_count; i-- > 0;)
        if (gate.held[i].fd == fd)
            release(&gate.held[i], verdict);
}

static void drop_overdue(void)
{
    uint64_t now = gate.held_count > 0 ? now_ms() : 0;
    for (size_t i = gate.held_count; i-- > 0;)
        if (gate.held[i].until_ms <= now)
            release(&gate.held[i], GATE_DROP);
}

int gate_timeout_ms(void)
{
    uint64_t next = UINT64_MAX, now = now_ms();
    for (size_t i = 0; i < gate.held_count; i++)
        if (gate.held[i].until_ms < next)
            next = gate.held[i].until_ms;
    return next == UINT64_MAX ? -1 : next > now ? (int)(next - now) : 0;
}

/* ------------------------------------------------------------------- what comes in */

static bool same_connection(const struct packet *a, const struct packet *b)
{
    return addr_equal(&a->to, &b->to) && addr_equal(&a->from, &b->from) &&
           a->from.scope == b->from.scope;
}

static struct held *held_of(const struct packet *p)
{
    for (size_t i = 0; i < gate.held_count; i++)
        if (same_connection(&gate.held[i].p, p))
            return &gate.held[i];
    return NULL;
}

static bool was_accepted(const struct packet *p, uint64_t now)
{
    for (size_t i = 0; i < PRIVILEGE_HELD_MAX; i++)
        if (gate.passed[i].until_ms > now && gate.passed[i].p.sequence == p->sequence &&
            same_connection(&gate.passed[i].p, p))
            return true;
    return false;
}

static bool covers(const struct addr *g, const struct addr *to)
{
    static const struct addr any;
    return g->port == to->port &&
           (g->family == ADDR_NONE ||
            (g->family == to->family &&
             (memcmp(g->ip, any.ip, sizeof(g->ip)) == 0 || addr_ip_equal(g, to))));
}

static int fd_of(const struct addr *to)
{
    for (size_t i = 0; i < gate.gate_count; i++)
        if (covers(&gate.gates[i], to))
            return gate.fds[i];
    return -1;
}

static void syn(uint32_t packet, const struct packet *p)
{
    int fd = fd_of(&p->to);
    uint64_t now = now_ms();
    struct held *h = held_of(p);
    if (h != NULL) {
        decide(h->packet, GATE_DROP);
        h->packet = packet;
        h->p.sequence = p->sequence;
        return;
    }
    if (fd < 0 || was_accepted(p, now)) { /* no gate: it was closed just now */
        decide(packet, GATE_ACCEPT);
        return;
    }
    struct privilege_syn s = {.id = gate.last_id + 1, .from = p->from};
    if (gate.held_count == PRIVILEGE_HELD_MAX ||
        send(fd, &s, sizeof(s), MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof(s)) {
        decide(packet, GATE_DROP); /* it comes again */
        return;
    }
    gate.held[gate.held_count++] =
        (struct held){++gate.last_id, now + PRIVILEGE_HELD_MS, packet, fd, *p};
}

static int on_packet(struct nfq_q_handle *handle, struct nfgenmsg *m,
                     struct nfq_data *data, void *ctx)
{
    struct nfqnl_msg_packet_hdr *head = nfq_get_msg_packet_hdr(data);
    unsigned char *bytes = NULL;
    struct packet p;
    (void)handle, (void)m, (void)ctx;
    if (head == NULL)
        return 0;
    uint32_t packet = ntohl(head->packet_id);
    int len = nfq_get_payload(data, &bytes);
    if (len <= 0 || !packet_parse(&p, bytes, (size_t)len) || !p.tcp) {
        decide(packet, GATE_DROP); /* behind extension headers, for one */
        return 0;
    }
    if (p.from.family == ADDR_V6 && p.from.ip[0] == 0xfe &&
        (p.from.ip[1] & 0xc0) == 0x80)
        p.from.scope = nfq_get_indev(data);
    syn(packet, &p);
    return 0;
}

static void read_queue(void)
{
    char buf[8192] __attribute__((aligned));
    for (int i = 0; i < READS; i++) {
        ssize_t n = recv(nfq_fd(gate.nfq), buf, sizeof(buf), MSG_DONTWAIT);
        if (n <= 0) /* also ENOBUFS: some were lost, and come again */
            return;
        (void)nfq_handle_packet(gate.nfq, buf, (int)n);
    }
}

/* ---------------------------------------------------------------- opening, closing */

static int ignore_packet(struct nfq_q_handle *handle, struct nfgenmsg *m,
                         struct nfq_data *data, void *ctx)
{
    (void)handle, (void)m, (void)data, (void)ctx;
    return 0;
}

/* A queue has one reader in a network namespace: can we be it? */
static bool is_abandoned(uint16_t number)
{
    struct nfq_handle *nfq = number != gate.queue.number ? nfq_open() : NULL;
    struct nfq_q_handle *h =
        nfq != NULL ? nfq_create_queue(nfq, number, ignore_packet, NULL) : NULL;
    if (h != NULL)
        (void)nfq_destroy_queue(h);
    if (nfq != NULL)
        (void)nfq_close(nfq);
    return h != NULL || number == gate.queue.number;
}

static int open_queue(struct privilege_reply *r)
{
    int on = 1, bytes = BUFFER_BYTES;
    if (gate.handle != NULL)
        return 0;
    if (gate.nfq == NULL)
        gate.nfq = nfq_open();
    (void)!getrandom(&gate.queue.mark, sizeof(gate.queue.mark), 0);
    gate.queue.mark |= 1; /* 0 is no mark */
    gate.queue.is_abandoned = is_abandoned;
    for (int i = 0; gate.nfq != NULL && gate.handle == NULL && i < QUEUE_TRIES; i++) {
        (void)!getrandom(&gate.queue.number, sizeof(gate.queue.number), 0);
        if (gate.queue.number > 0)
            gate.handle =
                nfq_create_queue(gate.nfq, gate.queue.number, on_packet, NULL);
    }
    if (gate.handle == NULL ||
        nfq_set_mode(gate.handle, NFQNL_COPY_PACKET, SNAP_BYTES) < 0)
        return refuse(r, POSTERN_ERR_IO,
                      "the packet filter's queue (nfnetlink_queue) cannot be read");
    (void)nfq_set_queue_maxlen(gate.handle, QUEUE_PACKETS);
    (void)setsockopt(nfq_fd(gate.nfq), SOL_SOCKET, SO_RCVBUFFORCE, &bytes,
                     sizeof(bytes));
    (void)setsockopt(nfq_fd(gate.nfq), SOL_NETLINK, NETLINK_NO_ENOBUFS, &on,
                     sizeof(on));
    return 0;
}

static int write_rules(struct privilege_reply *r)
{
    if (gate.gate_count > 0)
        return gate_rules_set(&gate.queue, gate.gates, gate.gate_count, r);
    gate_rules_clear();
    return 0;
}

static bool has_overlap(const struct addr *a)
{
    for (size_t i = 0; i < gate.gate_count; i++)
        if (covers(&gate.gates[i], a) || covers(a, &gate.gates[i]))
            return true;
    return false;
}

int gate_add(const struct privilege_request *q, struct privilege_reply *r, int *fd)
{
    int pair[2], bytes = BUFFER_BYTES;
    if (has_overlap(&q->local))
        return refuse(r, POSTERN_ERR_INUSE, "port %u has a gate already",
                      q->local.port);
    if (gate.gate_count == PRIVILEGE_GATES_MAX)
        return refuse(r, POSTERN_ERR_LIMIT, "%d gates are open already",
                      PRIVILEGE_GATES_MAX);
    if (open_queue(r) != 0)
        return r->err;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return refuse(r, POSTERN_ERR_IO, "no socket for the gate: %s", strerror(errno));
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    gate.fds[gate.gate_count] = pair[0];
    gate.gates[gate.gate_count++] = q->local;
    if (write_rules(r) != 0) {
        struct privilege_reply ignored = {0};
        gate.gate_count--;
        (void)write_rules(&ignored); /* a part of them may be there */
        close(pair[0]);
        close(pair[1]);
        return r->err;
    }
    *fd = pair[1];
    return 0;
}

static void remove_gate(size_t i)
{
    struct privilege_reply ignored = {0};
    release_all(gate.fds[i], GATE_REFUSE);
    close(gate.fds[i]);
    gate.gates[i] = gate.gates[--gate.gate_count];
    gate.fds[i] = gate.fds[gate.gate_count];
    (void)write_rules(&ignored);
}

/* False when the program closed it. */
static bool take_verdicts(size_t i)
{
    struct privilege_verdict v;
    ssize_t n;
    while ((n = recv(gate.fds[i], &v, sizeof(v), MSG_DONTWAIT | MSG_TRUNC)) > 0) {
        size_t h = 0;
        while (h < gate.held_count && gate.held[h].id != v.id)
            h++;
        if (n == (ssize_t)sizeof(v) && h < gate.held_count &&
            gate.held[h].fd == gate.fds[i])
            release(&gate.held[h], v.verdict == GATE_ACCEPT   ? GATE_ACCEPT
                                   : v.verdict == GATE_REFUSE ? GATE_REFUSE
                                                              : GATE_DROP);
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

size_t gate_poll(struct pollfd p[static GATE_POLL_MAX])
{
    if (gate.handle == NULL)
        return 0;
    p[0] = (struct pollfd){.fd = nfq_fd(gate.nfq), .events = POLLIN};
    for (size_t i = 0; i < gate.gate_count; i++)
        p[1 + i] = (struct pollfd){.fd = gate.fds[i], .events = POLLIN};
    return 1 + gate.gate_count;
}

void gate_serve(const struct pollfd *p, size_t n)
{
    for (size_t i = n; i-- > 1;) /* from the end: one that goes moves a later one */
        if (p[i].revents != 0 && !take_verdicts(i - 1))
            remove_gate(i - 1);
    if (n > 0 && p[0].revents != 0)
        read_queue();
    drop_overdue();
}

void gate_tidy(void)
{
    gate.queue.is_abandoned = is_abandoned;
    if (gate.handle == NULL)
        gate_rules_tidy(&gate.queue);
}

void gate_end(void)
{
    gate_rules_clear();
}

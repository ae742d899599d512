/* See daemon.h. */
#include "daemon.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A host that just spoke, and one that has not for so long: people are told after 4 s
 * and four round trips (docs/CLI.md), which are long behind a time in which the program
 * hung or nothing came: then after 20 s at most. */
#define LATELY_US SECONDS(1)
#define LONG_US SECONDS(8)
#define LONG_HUNG_US SECONDS(21)

static struct machine *machine_of(const struct daemon *d)
{
    return d->rig->town->client.machine;
}

/* ------------------------------------------------------------------------ its names */

struct asking {
    struct task *task;
    struct sockaddr_in server;
    uint32_t answer; /* 0: none */
};

/* As a resolver asks for home.postern. */
static void *run_asking(void *arg)
{
    static const uint8_t query[] = {0,   9,   1,   0,   0,   1,   0,   0, 0,   0,
                                    0,   0,   4,   'h', 'o', 'm', 'e', 7, 'p', 'o',
                                    's', 't', 'e', 'r', 'n', 0,   0,   1, 0,   1};
    struct asking *a = arg;
    uint8_t answer[512], ip[4];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)sendto(fd, query, sizeof(query), 0, (struct sockaddr *)&a->server,
                 sizeof(a->server));
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n = poll(&p, 1, 2000) == 1 ? recv(fd, answer, sizeof(answer), 0) : -1;
    if (n > (ssize_t)sizeof(query)) { /* the address is the last of the answer */
        memcpy(ip, answer + n - sizeof(ip), sizeof(ip));
        a->answer = (uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 |
                    (uint32_t)ip[2] << 8 | ip[3];
    }
    (void)close(fd);
    return NULL;
}

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

/* "127.80.1.2:7000" */
static bool parse(const char *text, uint32_t *ip, uint16_t *port)
{
    char host[PROGRAM_FIELD];
    struct in_addr in;
    const char *colon = strrchr(text, ':');
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon != NULL ? colon - text : 0),
                   text);
    if (colon == NULL || inet_pton(AF_INET, host, &in) != 1)
        return false;
    *ip = ntohl(in.s_addr);
    *port = (uint16_t)strtoul(colon + 1, NULL, 10);
    return true;
}

static void ask_name(struct daemon *d)
{
    struct asking a = {.server.sin_family = AF_INET};
    char text[PROGRAM_FIELD];
    uint32_t ip = 0;
    uint16_t port = 0;
    rig_check(d->rig,
              program_said(&d->rig->connect, "ready", "dns", text) &&
                  parse(text, &ip, &port),
              "up answers no names: %s", d->rig->connect.text);
    a.server.sin_addr.s_addr = htonl(ip);
    a.server.sin_port = htons(port);
    a.task = task_start(machine_of(d), run_asking, &a);
    (void)house_run(d->rig->town->house, SECONDS(3), is_over, a.task);
    (void)task_join(a.task);
    rig_check(d->rig, a.answer == d->ip,
              "home.postern is %08x, and its service at %08x", a.answer, d->ip);
}

/* ---------------------------------------------------------------- begins and ends */

struct finding {
    const struct program *up;
    const char *name;
    char local[PROGRAM_FIELD];
};

static bool is_found(void *ctx)
{
    struct finding *f = ctx;
    return program_said_of(f->up, "service", "name", f->name, "local", f->local);
}

static void find_service(struct daemon *d, const char *name, uint32_t *ip,
                         uint16_t *port)
{
    struct finding f = {.up = &d->rig->connect, .name = name};
    rig_check(d->rig,
              house_run(d->rig->town->house, SECONDS(10), is_found, &f) &&
                  parse(f.local, ip, port),
              "no address of %s: %s", name, d->rig->connect.text);
}

static void start(struct daemon *d)
{
    struct rig *r = d->rig;
    char text[PROGRAM_FIELD];
    uint32_t ip = 0;
    uint16_t port = 0;
    program_start(&r->connect, machine_of(d), r->state[2], "up");
    rig_await(r, &r->connect, "ready", NULL, text, SECONDS(10));
    /* Of the book, whether or not the host is there. */
    find_service(d, "clock", &ip, &port);
    rig_check(r, d->clock == 0 || d->clock == port, "the clock was at %u and is at %u",
              d->clock, port);
    d->clock = port;
    find_service(d, "echo", &ip, &port);
    rig_check(r, d->ip == 0 || (d->ip == ip && d->port == port),
              "the service was at %08x:%u and is at %08x:%u", d->ip, d->port, ip, port);
    d->ip = ip;
    d->port = port;
    ask_name(d);
}

void daemon_start(struct daemon *d, struct rig *r)
{
    char unused[PROGRAM_FIELD];
    *d = (struct daemon){.rig = r};
    start(d);
    rig_await(r, &r->connect, "path", NULL, unused, SECONDS(60));
}

void daemon_restart(struct daemon *d, uint64_t after_us)
{
    struct rig *r = d->rig;
    group_signal(machine_of(d), task_group(r->connect.task), SIGTERM);
    rig_run_to_end(r, &r->connect, SECONDS(10));
    program_fini(&r->connect);
    (void)house_run(r->town->house, after_us, NULL, NULL);
    start(d);
}

void daemon_crash(struct daemon *d, uint64_t after_us)
{
    d->rig->crashes++; /* what it has open stays open */
    program_kill(&d->rig->connect, machine_of(d));
    (void)house_run(d->rig->town->house, after_us, NULL, NULL);
    start(d);
}

void daemon_hang(struct daemon *d, bool begins)
{
    d->hung = true;
    group_stop(d->rig->town->house, begins ? task_group(d->rig->connect.task) : 0);
}

/* ----------------------------------------------------------------- what it says */

/* The state of the host, as `status` has it. */
static void ask_state(struct daemon *d, char state[static PROGRAM_FIELD])
{
    struct rig *r = d->rig;
    struct program p;
    program_start(&p, machine_of(d), r->state[2], "status");
    rig_run_to_end(r, &p, SECONDS(10));
    rig_check(r, program_said(&p, "host", "state", state), "no word of the host: %s",
              p.text);
    program_fini(&p);
}

void daemon_look(struct daemon *d, const struct talker *t, bool away)
{
    uint64_t now_us = house_now_us(d->rig->town->house);
    uint64_t since_us = t->last_us > t->silent_us ? t->last_us : t->silent_us;
    uint64_t long_us = d->hung ? LONG_HUNG_US : LONG_US;
    bool over = task_is_over(t->task);
    bool hears = !away && !over && t->got > 0 && now_us < t->last_us + LATELY_US;
    bool waits = !over && t->sent > t->got && now_us > since_us + long_us;
    char state[PROGRAM_FIELD];
    if (!hears && !(away && (waits || t->error != 0)))
        return;
    ask_state(d, state);
    if (hears && strcmp(state, "online") != 0) { /* heard again in this very second */
        (void)house_run(d->rig->town->house, SECONDS(1), NULL, NULL);
        ask_state(d, state);
    }
    rig_check(d->rig, (strcmp(state, "online") == 0) == hears,
              "status says that the host is %s; it was heard %.1f s ago", state,
              (double)(now_us - t->last_us) / 1e6);
    d->hung = d->hung || away;
}

void daemon_expect_online(struct daemon *d)
{
    char state[PROGRAM_FIELD];
    ask_state(d, state);
    rig_check(d->rig, strcmp(state, "online") == 0,
              "status says that the host is %s, and it answers", state);
}

void daemon_use(struct daemon *d)
{
    struct rig *r = d->rig;
    struct program nc;
    struct talker t = {.seed = 1, .bytes = 20000};
    t.fd = program_start_piped(&nc, machine_of(d), r->state[2], "nc home echo");
    talker_start(&t, machine_of(d));
    rig_run_to_end(r, &nc, SECONDS(30));
    (void)house_run(r->town->house, SECONDS(1), is_over, t.task);
    (void)task_join(t.task);
    rig_check(r, t.error == 0 && t.got == t.bytes,
              "nc through up: %zu of %zu bytes: %s", t.got, t.bytes, strerror(t.error));
    program_exit(&nc, machine_of(d));
    daemon_expect_online(d);
}

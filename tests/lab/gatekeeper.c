/*
 * A program with gates, for test_gate.py: a thread with its own loop opens gates and
 * the sockets that listen behind them, as it is told on standard input; the helper
 * belongs to the main thread's loop. It says what happens as JSON lines.
 *
 *   open PORT | open ADDRESS:PORT | close PORT | accept ID | refuse ID | drop ID
 *   always accept|refuse          from now on, without asking
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/acceptor.h"
#include "io/gate.h"
#include "io/helper.h"
#include "io/loop.h"
#include "io/sock.h"

enum { PORTS_MAX = 300, LINE_MAX_LEN = 4096, BACKLOG = 128 };

struct door {
    uint16_t port;
    struct gate *gate;
    struct acceptor *acceptor;
};

static struct {
    struct loop *loop;
    struct watch input;
    struct wake end; /* of the main loop */
    struct door doors[PORTS_MAX];
    char line[LINE_MAX_LEN];
    size_t line_len;
    enum gate_verdict always; /* 0: ask */
} keeper;

static struct door *door_of(uint16_t port)
{
    for (size_t i = 0; i < PORTS_MAX; i++)
        if (keeper.doors[i].port == port)
            return &keeper.doors[i];
    return NULL;
}

static void on_syn(void *ctx, uint64_t id, const struct addr *from)
{
    struct door *d = ctx;
    char text[ADDR_TEXT_LEN];
    if (keeper.always != 0)
        gate_verdict(d->gate, id, keeper.always);
    (void)printf("{\"event\":\"syn\",\"id\":%llu,\"port\":%u,\"from\":\"%s\"}\n",
                 (unsigned long long)id, d->port, addr_format(from, text));
}

static void on_lost(void *ctx)
{
    struct door *d = ctx;
    (void)printf("{\"event\":\"lost\",\"port\":%u}\n", d->port);
}

/* It is accepted, said, and closed. */
static void on_connection(void *ctx, int fd, const struct addr *from)
{
    char text[ADDR_TEXT_LEN];
    (void)ctx;
    (void)printf("{\"event\":\"accepted\",\"from\":\"%s\"}\n", addr_format(from, text));
    close(fd);
}

/* `at` without a family: anywhere. */
static void open_door(struct addr at)
{
    struct sock_options how = {.dual = at.family == ADDR_NONE, .backlog = BACKLOG};
    struct fault fault = {0};
    uint16_t port = at.port;
    struct door *d = door_of(0);
    if (d == NULL)
        abort();
    d->port = port;
    int rc = gate_open(&d->gate, keeper.loop, &at, on_syn, on_lost, d, &fault);
    (void)printf(
        "{\"event\":\"gate\",\"port\":%u,\"result\":\"%s\",\"why\":\"%s; %s\"}\n", port,
        postern_strerror(rc), fault.what, fault.advice);
    if (rc != 0) {
        d->port = 0;
        return;
    }
    if (how.dual)
        at.family = ADDR_V6;
    struct acceptor_config c = {.loop = keeper.loop,
                                .fd = sock_listen(&at, &how),
                                .who = "the gatekeeper",
                                .on_connection = on_connection};
    if (c.fd < 0 || acceptor_open(&d->acceptor, &c) != 0)
        abort();
}

static void close_door(struct door *d)
{
    gate_close(d->gate);
    acceptor_close(d->acceptor);
    (void)printf("{\"event\":\"closed\",\"port\":%u}\n", d->port);
    *d = (struct door){0};
}

/* To every gate: those that do not hold it pass it over. */
static void decide(uint64_t id, enum gate_verdict verdict)
{
    for (size_t i = 0; i < PORTS_MAX; i++)
        if (keeper.doors[i].gate != NULL)
            gate_verdict(keeper.doors[i].gate, id, verdict);
}

static void obey(const char *line)
{
    char word[16], arg[64];
    if (sscanf(line, "%15s %63s", word, arg) != 2)
        return;
    struct addr at;
    uint64_t number = strtoull(arg, NULL, 10);
    struct door *d = door_of((uint16_t)number);
    if (strcmp(word, "open") == 0)
        open_door(addr_parse(&at, arg) == 0 ? at
                                            : (struct addr){.port = (uint16_t)number});
    else if (strcmp(word, "close") == 0 && d != NULL)
        close_door(d);
    else if (strcmp(word, "accept") == 0)
        decide(number, GATE_ACCEPT);
    else if (strcmp(word, "refuse") == 0)
        decide(number, GATE_REFUSE);
    else if (strcmp(word, "drop") == 0)
        decide(number, GATE_DROP);
    else if (strcmp(word, "always") == 0)
        keeper.always = strcmp(arg, "accept") == 0 ? GATE_ACCEPT : GATE_REFUSE;
}

static void on_input(void *ctx, int events)
{
    char *end;
    (void)ctx, (void)events;
    ssize_t n = read(STDIN_FILENO, keeper.line + keeper.line_len,
                     LINE_MAX_LEN - 1 - keeper.line_len);
    if (n <= 0) {
        for (size_t i = 0; i < PORTS_MAX; i++)
            if (keeper.doors[i].gate != NULL)
                close_door(&keeper.doors[i]);
        watch_close(&keeper.input);
        wake_up(&keeper.end);
        return;
    }
    keeper.line_len += (size_t)n;
    keeper.line[keeper.line_len] = '\0';
    while ((end = strchr(keeper.line, '\n')) != NULL) {
        *end = '\0';
        obey(keeper.line);
        keeper.line_len -= (size_t)(end + 1 - keeper.line);
        memmove(keeper.line, end + 1, keeper.line_len + 1);
    }
}

static void *gates(void *arg)
{
    (void)arg;
    if (watch_start(&keeper.input, keeper.loop, STDIN_FILENO, WATCH_READ, on_input,
                    NULL) != 0)
        abort();
    loop_run(keeper.loop);
    return NULL;
}

static void on_end(void *ctx)
{
    (void)ctx;
    helper_close();
    wake_close(&keeper.end);
}

int main(void)
{
    struct loop *main_loop;
    pthread_t thread;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    if (loop_open(&main_loop) != 0 || loop_open(&keeper.loop) != 0 ||
        wake_open(&keeper.end, main_loop, on_end, NULL) != 0)
        return 1;
    helper_open(main_loop);
    if (pthread_create(&thread, NULL, gates, NULL) != 0)
        return 1;
    loop_run(main_loop);
    (void)pthread_join(thread, NULL);
    loop_close(keeper.loop);
    loop_close(main_loop);
    return 0;
}

/*
 * A program with gates, for test_gate.py: a thread with its own loop opens gates and
 * the sockets that listen behind them, as it is told on standard input; the helper
 * belongs to the main thread's loop. It says what happens as JSON lines.
 *
 *   open PORT | close PORT | accept ID | refuse ID | drop ID
 *   always accept|refuse          from now on, without asking
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "io/gate.h"
#include "io/helper.h"
#include "io/loop_uv.h"
#include "io/sockaddr.h"

enum { PORTS_MAX = 300, LINE_MAX_LEN = 4096, BACKLOG = 128 };

struct door {
    uint16_t port;
    struct gate *gate;
    uv_tcp_t *listener;
};

static struct {
    struct loop *loop;
    uv_pipe_t input;
    uv_async_t end; /* of the main loop */
    struct door doors[PORTS_MAX];
    char line[LINE_MAX_LEN];
    size_t line_len;
    enum gate_verdict always; /* 0: ask */
} keeper;

static void free_handle(uv_handle_t *h)
{
    free(h);
}

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
static void on_connection(uv_stream_t *listener, int status)
{
    uv_tcp_t *c = malloc(sizeof(*c));
    struct sockaddr_storage ss;
    struct addr from = {0};
    char text[ADDR_TEXT_LEN];
    int len = sizeof(ss);
    if (c == NULL || status != 0 || uv_tcp_init(loop_uv(keeper.loop), c) != 0)
        abort();
    if (uv_accept(listener, (uv_stream_t *)c) == 0 &&
        uv_tcp_getpeername(c, (struct sockaddr *)&ss, &len) == 0 &&
        sockaddr_to_addr(&from, (struct sockaddr *)&ss) == 0)
        (void)printf("{\"event\":\"accepted\",\"from\":\"%s\"}\n",
                     addr_format(&from, text));
    uv_close((uv_handle_t *)c, free_handle);
}

static void open_door(uint16_t port)
{
    struct fault fault = {0};
    struct sockaddr_in6 any;
    struct door *d = door_of(0);
    if (d == NULL)
        abort();
    d->port = port;
    int rc = gate_open(&d->gate, keeper.loop, port, on_syn, on_lost, d, &fault);
    (void)printf(
        "{\"event\":\"gate\",\"port\":%u,\"result\":\"%s\",\"why\":\"%s; %s\"}\n", port,
        postern_strerror(rc), fault.what, fault.advice);
    if (rc != 0) {
        d->port = 0;
        return;
    }
    d->listener = malloc(sizeof(*d->listener));
    if (d->listener == NULL || uv_tcp_init(loop_uv(keeper.loop), d->listener) != 0 ||
        uv_ip6_addr("::", port, &any) != 0 ||
        uv_tcp_bind(d->listener, (struct sockaddr *)&any, 0) != 0 ||
        uv_listen((uv_stream_t *)d->listener, BACKLOG, on_connection) != 0)
        abort();
}

static void close_door(struct door *d)
{
    gate_close(d->gate);
    uv_close((uv_handle_t *)d->listener, free_handle);
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
    char word[16], arg[24];
    if (sscanf(line, "%15s %23s", word, arg) != 2)
        return;
    uint64_t number = strtoull(arg, NULL, 10);
    struct door *d = door_of((uint16_t)number);
    if (strcmp(word, "open") == 0)
        open_door((uint16_t)number);
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

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)h, (void)suggested;
    *buf = uv_buf_init(keeper.line + keeper.line_len,
                       (unsigned)(LINE_MAX_LEN - 1 - keeper.line_len));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    char *end;
    (void)buf;
    if (n < 0) {
        for (size_t i = 0; i < PORTS_MAX; i++)
            if (keeper.doors[i].gate != NULL)
                close_door(&keeper.doors[i]);
        uv_close((uv_handle_t *)s, NULL);
        (void)uv_async_send(&keeper.end);
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

static void gates(void *arg)
{
    (void)arg;
    (void)uv_pipe_init(loop_uv(keeper.loop), &keeper.input, 0);
    (void)uv_pipe_open(&keeper.input, 0);
    (void)uv_read_start((uv_stream_t *)&keeper.input, on_alloc, on_read);
    loop_run(keeper.loop);
}

static void on_end(uv_async_t *a)
{
    helper_close();
    uv_close((uv_handle_t *)a, NULL);
}

int main(void)
{
    struct loop *main_loop;
    uv_thread_t thread;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    if (loop_open(&main_loop) != 0 || loop_open(&keeper.loop) != 0 ||
        uv_async_init(loop_uv(main_loop), &keeper.end, on_end) != 0)
        return 1;
    helper_open(main_loop);
    if (uv_thread_create(&thread, gates, NULL) != 0)
        return 1;
    loop_run(main_loop);
    (void)uv_thread_join(&thread);
    loop_close(keeper.loop);
    loop_close(main_loop);
    return 0;
}

/*
 * The applications at both ends of a tunnel: a server that swallows, echoes or answers,
 * and clients that measure bulk, latency and new connections against it, each printing
 * one line of JSON. Knows TCP; refuses to know what carries it.
 *
 * A connection's first byte says what the server does with it: S swallows until the end
 * and answers with the count, P pours until the client goes, E echoes, H answers each
 * small request with 1 KiB as a web server would, C answers one byte and closes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK = 256 * 1024,
    EVENTS = 256,
    REQUEST_LEN = 128, /* a small GET with its headers */
    RESPONSE_LEN = 1024,
    SAMPLES_MAX = 4 * 1024 * 1024,
    CONNECTIONS_MAX = 1024,
    STUCK_MS = 60000
};

static uint8_t scratch[CHUNK]; /* one thread, one buffer: the content is never read */

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static struct sockaddr_in address(const char *ip, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    if (inet_pton(AF_INET, ip, &a.sin_addr) != 1) {
        errno = EINVAL;
        die(ip);
    }
    return a;
}

static void no_delay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* ---------------------------------------------------------------------- the server */

struct served {
    int fd;
    char verb;  /* 0 until the first byte */
    bool stuck; /* waits for room to send */
    uint64_t count;
    size_t owed; /* bytes to send */
};

static void served_free(struct served *c)
{
    close(c->fd);
    free(c);
}

static void watch(int epoll, struct served *c, uint32_t events, int how)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, how, c->fd, &e) != 0)
        die("epoll");
}

static void accept_all(int epoll, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct served *c = calloc(1, sizeof(*c));
        if (c == NULL)
            die("memory");
        c->fd = fd;
        no_delay(fd);
        watch(epoll, c, EPOLLIN, EPOLL_CTL_ADD);
    }
}

/* Sends what is owed; false when the connection is done for. */
static bool pay(int epoll, struct served *c)
{
    for (int i = 0; c->owed > 0; i++) {
        ssize_t n = -1;
        errno = EAGAIN; /* the others have their turn too */
        if (i < 16)
            n = send(c->fd, scratch, c->owed < CHUNK ? c->owed : CHUNK, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(epoll, c, EPOLLOUT, EPOLL_CTL_MOD);
            c->stuck = true;
            return true;
        }
        if (n < 0)
            return false;
        c->owed -= (size_t)n;
    }
    if (c->stuck) {
        watch(epoll, c, EPOLLIN, EPOLL_CTL_MOD);
        c->stuck = false;
    }
    return c->verb != 'C';
}

/* What the bytes ask for; false when the connection is done for. */
static bool serve_bytes(int epoll, struct served *c, size_t n)
{
    if (c->verb == 0) {
        c->verb = (char)scratch[0];
        n--;
        if (c->verb == 'C')
            c->owed = 1;
        if (c->verb == 'P')
            c->owed = SIZE_MAX;
    }
    c->count += n;
    if (c->verb == 'E')
        c->owed += n;
    if (c->verb == 'H')
        for (; c->count >= REQUEST_LEN; c->count -= REQUEST_LEN)
            c->owed += RESPONSE_LEN;
    return c->owed == 0 || pay(epoll, c);
}

static void serve(int epoll, struct served *c)
{
    for (int i = 0; i < 16 && !c->stuck; i++) {
        ssize_t n = recv(c->fd, scratch, CHUNK, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n > 0 && serve_bytes(epoll, c, (size_t)n))
            continue;
        if (n == 0 && c->verb == 'S')
            (void)send(c->fd, &c->count, sizeof(c->count), MSG_NOSIGNAL);
        served_free(c);
        return;
    }
}

_Noreturn static void run_server(const struct sockaddr_in *at)
{
    struct epoll_event events[EVENTS];
    int on = 1, epoll = epoll_create1(EPOLL_CLOEXEC);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)at, sizeof(*at)) != 0 ||
        listen(fd, 4096) != 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0)
        die("listen");
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct served *c = events[i].data.ptr;
            if (c == NULL)
                accept_all(epoll, fd);
            else if (!(events[i].events & EPOLLOUT))
                serve(epoll, c);
            else if (!pay(epoll, c))
                served_free(c);
        }
    }
}

/* --------------------------------------------------------------------- the clients */

static int dial(const struct sockaddr_in *to, char verb)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)) != 0)
        die("connect");
    no_delay(fd);
    if (send(fd, &verb, 1, MSG_NOSIGNAL) != 1)
        die("send");
    return fd;
}

static bool wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, STUCK_MS) == 1;
}

/* Reads the swallowed count after the end was sent. */
static uint64_t swallowed(int fd)
{
    uint64_t count = 0;
    size_t got = 0;
    while (got < sizeof(count)) {
        if (!wait_for(fd, POLLIN))
            die("the count never came");
        ssize_t n = recv(fd, (uint8_t *)&count + got, sizeof(count) - got, 0);
        if (n <= 0)
            die("count");
        got += (size_t)n;
    }
    return count;
}

struct bulk {
    int fds[CONNECTIONS_MAX];
    unsigned count;
    uint64_t sent;
};

/* Fills all connections until `until`. The last bytes are waited for by the caller. */
static void bulk_send(struct bulk *b, double until)
{
    struct pollfd p[CONNECTIONS_MAX];
    for (unsigned i = 0; i < b->count; i++) {
        (void)fcntl(b->fds[i], F_SETFL, O_NONBLOCK);
        p[i] = (struct pollfd){.fd = b->fds[i], .events = POLLOUT};
    }
    while (seconds() < until) {
        if (poll(p, b->count, 100) < 0)
            die("poll");
        for (unsigned i = 0; i < b->count; i++) {
            if (!(p[i].revents & (POLLOUT | POLLERR | POLLHUP)))
                continue;
            ssize_t n = send(b->fds[i], scratch, CHUNK, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                die("send");
            if (n > 0)
                b->sent += (uint64_t)n;
        }
    }
}

static int run_bulk(const struct sockaddr_in *to, double span, unsigned connections)
{
    static struct bulk b;
    uint64_t got = 0;
    b.count = connections;
    for (unsigned i = 0; i < connections; i++)
        b.fds[i] = dial(to, 'S');
    double begin = seconds();
    bulk_send(&b, begin + span);
    for (unsigned i = 0; i < connections; i++) {
        (void)fcntl(b.fds[i], F_SETFL, 0);
        (void)shutdown(b.fds[i], SHUT_WR);
    }
    for (unsigned i = 0; i < connections; i++)
        got += swallowed(b.fds[i]);
    double took = seconds() - begin;
    printf("{\"bytes\":%llu,\"lost\":%lld,\"seconds\":%.4f,\"gbit_s\":%.4f,"
           "\"cpu_s\":%.3f}\n",
           (unsigned long long)got, (long long)b.sent - (long long)got, took,
           (double)got * 8 / 1e9 / took, cpu_seconds());
    return 0;
}

/* The other direction: all that arrives within the span. */
static int run_pull(const struct sockaddr_in *to, double span, unsigned connections)
{
    struct pollfd p[CONNECTIONS_MAX];
    uint64_t got = 0;
    for (unsigned i = 0; i < connections; i++)
        p[i] = (struct pollfd){.fd = dial(to, 'P'), .events = POLLIN};
    double begin = seconds(), took;
    while ((took = seconds() - begin) < span) {
        if (poll(p, connections, 100) < 0)
            die("poll");
        for (unsigned i = 0; i < connections; i++) {
            ssize_t n = 0;
            if (p[i].revents != 0 && (n = recv(p[i].fd, scratch, CHUNK, 0)) <= 0)
                die("recv");
            got += (uint64_t)n;
        }
    }
    printf("{\"bytes\":%llu,\"seconds\":%.4f,\"gbit_s\":%.4f,\"cpu_s\":%.3f}\n",
           (unsigned long long)got, took, (double)got * 8 / 1e9 / took, cpu_seconds());
    return 0;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void ask(int fd, size_t request, size_t response)
{
    if (send(fd, scratch, request, MSG_NOSIGNAL) != (ssize_t)request)
        die("send");
    while (response > 0) {
        ssize_t n = recv(fd, scratch, response, 0);
        if (n <= 0)
            die("recv");
        response -= (size_t)n;
    }
}

/* One question at a time on one connection. */
static int run_latency(const struct sockaddr_in *to, double span, char verb)
{
    size_t request = verb == 'H' ? REQUEST_LEN : 1;
    size_t response = verb == 'H' ? RESPONSE_LEN : 1;
    float *us = malloc(SAMPLES_MAX * sizeof(*us));
    size_t n = 0;
    struct timeval limit = {.tv_sec = STUCK_MS / 1000};
    int fd = dial(to, verb);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (us == NULL)
        die("memory");
    ask(fd, request, response); /* the way is warm from here */
    for (double now = seconds(), end = now + span; now < end && n < SAMPLES_MAX;) {
        ask(fd, request, response);
        double then = now;
        now = seconds();
        us[n++] = (float)((now - then) * 1e6);
    }
    qsort(us, n, sizeof(*us), by_value);
    printf("{\"count\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"cpu_s\":%.3f}\n", n,
           (double)us[n / 2], (double)us[n * 99 / 100], cpu_seconds());
    free(us);
    return 0;
}

struct storm {
    struct sockaddr_in to;
    int epoll, live;
    uint64_t done, failed;
};

static void storm_open(struct storm *s)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct epoll_event e = {.events = EPOLLOUT, .data.fd = fd};
    if (fd < 0)
        die("socket");
    no_delay(fd);
    if ((connect(fd, (struct sockaddr *)&s->to, sizeof(s->to)) != 0 &&
         errno != EINPROGRESS) ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) != 0)
        die("connect");
    s->live++;
}

static void storm_event(struct storm *s, int fd, uint32_t events)
{
    if (events & EPOLLOUT) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (send(fd, "C", 1, MSG_NOSIGNAL) == 1 &&
            epoll_ctl(s->epoll, EPOLL_CTL_MOD, fd, &e) == 0)
            return;
        s->failed++;
    } else {
        ssize_t n = recv(fd, scratch, 16, 0);
        if (n > 0) {
            s->done++;
            if (recv(fd, scratch, 16, 0) < 0 && errno == EAGAIN)
                return; /* the end has not come yet; it wakes us again */
        } else if (n < 0) {
            s->failed++;
        }
    }
    close(fd);
    s->live--;
}

/* Keeps `width` connections in the making; each asks one byte and ends. */
static int run_storm(const struct sockaddr_in *to, double span, int width)
{
    struct storm s = {.to = *to, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct epoll_event events[EVENTS];
    double begin = seconds(), took;
    while ((took = seconds() - begin) < span) {
        while (s.live < width)
            storm_open(&s);
        int n = epoll_wait(s.epoll, events, EVENTS, 100);
        for (int i = 0; i < n; i++)
            storm_event(&s, events[i].data.fd, events[i].events);
    }
    printf("{\"count\":%llu,\"failed\":%llu,\"per_s\":%.0f,\"cpu_s\":%.3f}\n",
           (unsigned long long)s.done, (unsigned long long)s.failed,
           (double)s.done / took, cpu_seconds());
    return 0;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc >= 4) {
        const char *verb = argv[1];
        struct sockaddr_in at = address(argv[2], argv[3]);
        double span = argc > 4 ? strtod(argv[4], NULL) : 1;
        unsigned width = argc > 5 ? (unsigned)strtoul(argv[5], NULL, 10) : 1;
        if (width < 1 || width > CONNECTIONS_MAX)
            width = 1;
        if (strcmp(verb, "server") == 0)
            run_server(&at);
        if (strcmp(verb, "bulk") == 0)
            return run_bulk(&at, span, width);
        if (strcmp(verb, "pull") == 0)
            return run_pull(&at, span, width);
        if (strcmp(verb, "echo") == 0)
            return run_latency(&at, span, 'E');
        if (strcmp(verb, "http") == 0)
            return run_latency(&at, span, 'H');
        if (strcmp(verb, "storm") == 0)
            return run_storm(&at, span, (int)width);
    }
    fprintf(stderr, "usage: load server|bulk|pull|echo|http|storm IP PORT "
                    "[SECONDS [CONNECTIONS]]\n");
    return 2;
}

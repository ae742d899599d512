/* A listening socket without descriptors: it waits instead of turning, and says so
 * once. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/acceptor.h"
#include "io/loop.h"

enum { CLIENTS = 8, GUARD_MS = 10000 };

struct world {
    struct loop *loop;
    struct timer guard;
    struct acceptor *acceptor;
    struct sockaddr_un at;
    socklen_t at_len;
    int clients[CLIENTS];
    int taken[CLIENTS];
    int taken_count;
    int rooms; /* descriptors that make_room still gives */
};

static void on_guard(void *ctx)
{
    (void)ctx;
    fail_msg("waited too long");
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct world *w = ctx;
    assert_int_equal(from->family, ADDR_NONE); /* a UNIX socket has no address */
    w->taken[w->taken_count++] = fd;
}

static bool make_room(void *ctx)
{
    struct world *w = ctx;
    if (w->rooms == 0)
        return false;
    w->rooms--;
    assert_int_equal(close(w->taken[--w->taken_count]), 0);
    return true;
}

static int open_listener(struct world *w)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un any = {.sun_family =
                                  AF_UNIX}; /* an abstract name, the kernel's */
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(fd, CLIENTS), 0);
    w->at_len = sizeof(w->at);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&w->at, &w->at_len), 0);
    return fd;
}

static void open_world_with(struct world *w, bool rooms, unsigned keep)
{
    memset(w, 0, sizeof(*w));
    assert_int_equal(loop_open(&w->loop), 0);
    timer_init(&w->guard, w->loop, on_guard, w);
    timer_start(&w->guard, GUARD_MS);
    struct acceptor_config c = {.loop = w->loop,
                                .fd = open_listener(w),
                                .who = "the test",
                                .on_connection = on_connection,
                                .make_room = rooms ? make_room : NULL,
                                .keep = keep,
                                .patience_ms = 400,
                                .ctx = w};
    assert_int_equal(acceptor_open(&w->acceptor, &c), 0);
    for (int i = 0; i < CLIENTS; i++) {
        w->clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(w->clients[i], (struct sockaddr *)&w->at, w->at_len),
                         0);
    }
}

static void open_world(struct world *w, bool rooms)
{
    open_world_with(w, rooms, 0);
}

static void close_world(struct world *w)
{
    for (int i = 0; i < w->taken_count; i++)
        close(w->taken[i]);
    for (int i = 0; i < CLIENTS; i++)
        close(w->clients[i]);
    acceptor_close(w->acceptor);
    timer_stop(&w->guard);
    loop_close(w->loop);
}

/* Lowers the limit so that `spare` more descriptors can be had; returns the old one. */
static struct rlimit squeeze(rlim_t spare)
{
    struct rlimit old, tight;
    int next = fcntl(0, F_DUPFD, 0);
    assert_true(next >= 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    tight = old;
    tight.rlim_cur = (rlim_t)next + spare;
    close(next);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    return old;
}

/* What goes to stderr meanwhile, counted in lines. */
struct capture {
    int saved;
    FILE *file;
};

static struct capture capture_begin(void)
{
    struct capture c = {.saved = dup(2), .file = tmpfile()};
    assert_non_null(c.file);
    assert_int_equal(dup2(fileno(c.file), 2), 2);
    return c;
}

static int capture_end(struct capture *c)
{
    int lines = 0, byte;
    assert_int_equal(dup2(c->saved, 2), 2);
    close(c->saved);
    rewind(c->file);
    while ((byte = fgetc(c->file)) != EOF)
        lines += byte == '\n';
    (void)fclose(c->file);
    return lines;
}

static double cpu_s(void)
{
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void test_waits_for_descriptors(void **state)
{
    struct world w;
    (void)state;
    open_world(&w, false);
    struct capture c = capture_begin();
    struct rlimit old = squeeze(3);
    double before = cpu_s();
    unsigned rounds = 0;
    uint64_t end = loop_now_ms(w.loop) + 1000;
    while (loop_now_ms(w.loop) < end) {
        loop_turn(w.loop);
        rounds++;
    }
    double used = cpu_s() - before;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(w.taken_count, 3);
    while (w.taken_count < CLIENTS)
        loop_turn(w.loop);
    assert_int_equal(capture_end(&c), 1);
    assert_true(used < 0.2);
    assert_true(rounds < 30);
    close_world(&w);
}

static void test_room_is_used_at_once(void **state)
{
    struct world w;
    (void)state;
    open_world(&w, true);
    struct capture c = capture_begin();
    struct rlimit old = squeeze(3);
    w.rooms = CLIENTS - 3;
    while (w.rooms > 0)
        loop_turn(w.loop);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(capture_end(&c), 1);
    close_world(&w);
}

static int hung_up(const struct world *w)
{
    int n = 0;
    for (int i = 0; i < CLIENTS; i++) {
        struct pollfd p = {.fd = w->clients[i]};
        n += poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0;
    }
    return n;
}

/* Some descriptors are kept; who waits in vain is told so in time, and who comes when
 * others have ended is let in. */
static void test_who_waits_long_is_reset(void **state)
{
    struct world w;
    (void)state;
    int fill[64]; /* so that a sixteenth is more than is kept */
    for (int i = 0; i < 64; i++)
        fill[i] = dup(0);
    open_world_with(&w, false, 2);
    struct capture c = capture_begin();
    struct rlimit old = squeeze(5);
    while (w.taken_count < 3)
        loop_turn(w.loop);
    assert_int_equal(hung_up(&w), 0);
    uint64_t begin = loop_now_ms(w.loop);
    while (hung_up(&w) < CLIENTS - 3)
        loop_turn(w.loop);
    assert_true(loop_now_ms(w.loop) - begin >= 350);
    assert_int_equal(w.taken_count, 3);
    close(w.taken[--w.taken_count]);
    close(w.clients[CLIENTS - 1]);
    w.clients[CLIENTS - 1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        connect(w.clients[CLIENTS - 1], (struct sockaddr *)&w.at, w.at_len), 0);
    while (w.taken_count < 3)
        loop_turn(w.loop);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(capture_end(&c), 2);
    close_world(&w);
    for (int i = 0; i < 64; i++)
        close(fill[i]);
}

static void close_it(void *ctx, int fd, const struct addr *from)
{
    struct world *w = ctx;
    (void)from;
    close(fd);
    acceptor_close(w->acceptor);
    w->acceptor = NULL;
    w->rooms++;
}

static void test_closed_inside_its_callback(void **state)
{
    struct world w;
    (void)state;
    open_world(&w, false);
    struct acceptor_config c = {.loop = w.loop,
                                .fd = dup(acceptor_fd(w.acceptor)),
                                .who = "the test",
                                .on_connection = close_it,
                                .ctx = &w};
    acceptor_close(w.acceptor);
    assert_int_equal(acceptor_open(&w.acceptor, &c), 0);
    while (w.rooms == 0)
        loop_turn(w.loop);
    close_world(&w);
    assert_int_equal(w.rooms, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_for_descriptors),
        cmocka_unit_test(test_room_is_used_at_once),
        cmocka_unit_test(test_who_waits_long_is_reset),
        cmocka_unit_test(test_closed_inside_its_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

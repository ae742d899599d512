/* The local socket: framing, passed descriptors, handing over, bad commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/local.h"
#include "io/loop.h"
#include "scratch.h"

struct fixture {
    char dir[SCRATCH_LEN];
    char path[SCRATCH_LEN + 16];
    struct loop *loop;
    struct timer guard; /* ends a test that hangs */
    struct local_server *server;
    int fd; /* what came with the last request */
    int requests, gones;
    struct local_conn *kept; /* a request that was left open */
    pthread_t thread;
    void (*client)(struct fixture *x);
    struct wake done;
};

/* What a daemon does with a stream: raw bytes each way until the end. */
static void echo_raw(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char got[16];
    assert_true(fd >= 0);
    while (poll(&p, 1, 10000) == 1) {
        ssize_t n = recv(fd, got, sizeof(got), 0);
        if (n <= 0) {
            assert_int_equal(n, 0);
            (void)close(fd);
            return;
        }
        assert_int_equal(send(fd, got, (size_t)n, MSG_NOSIGNAL), n);
    }
    fail_msg("no end came");
}

static void on_request(void *ctx, struct local_conn *c, const LocalRequest *req, int fd)
{
    struct fixture *x = ctx;
    LocalReply reply = LocalReply_init_zero;
    x->requests++;
    x->fd = fd;
    switch (req->op) {
    case LOCAL_STATUS: /* as many replies as asked for, then the last */
        for (int i = 0; i < (int)strtol(req->arg, NULL, 10); i++) {
            (void)snprintf(reply.json, sizeof(reply.json), "{\"n\":%d}", i);
            assert_int_equal(local_conn_reply(c, &reply), 0);
        }
        local_conn_finish(c, 0, NULL);
        return;
    case LOCAL_OPEN:
        assert_string_equal(req->host, "home");
        echo_raw(local_conn_hand_over(c, &reply));
        return;
    case LOCAL_PING:
        local_conn_set_data(c, x);
        x->kept = c;
        assert_int_equal(local_conn_reply(c, &reply), 0);
        return;
    default:
        local_conn_finish(c, -POSTERN_ERR_DENIED,
                          &(struct fault){.what = "no", .advice = "ask"});
    }
}

static void on_gone(void *ctx, struct local_conn *c)
{
    struct fixture *x = ctx;
    assert_ptr_equal(c, x->kept);
    assert_ptr_equal(local_conn_data(c), x);
    x->gones++;
    x->kept = NULL;
}

static const struct local_events events = {.on_request = on_request,
                                           .on_gone = on_gone};

static void on_guard(void *ctx)
{
    (void)ctx;
    (void)fprintf(stderr, "the test hangs\n");
    abort();
}

static void on_done(void *ctx)
{
    struct fixture *x = ctx;
    loop_stop(x->loop);
}

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    if (x == NULL || scratch_make(x->dir) != 0)
        return -1;
    x->fd = -1;
    (void)snprintf(x->path, sizeof(x->path), "%s/serve.sock", x->dir);
    assert_int_equal(loop_open(&x->loop), 0);
    timer_init(&x->guard, x->loop, on_guard, x);
    timer_start(&x->guard, 20000);
    assert_int_equal(wake_open(&x->done, x->loop, on_done, x), 0);
    return local_server_open(&x->server, x->loop, x->path, &events, x, NULL);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    local_server_close(x->server);
    timer_stop(&x->guard);
    wake_close(&x->done);
    loop_run(x->loop);
    loop_close(x->loop);
    int gone = access(x->path, F_OK);
    scratch_remove(x->dir);
    free(x);
    return gone != 0 ? 0 : -1;
}

static void *client_main(void *arg)
{
    struct fixture *x = arg;
    x->client(x);
    wake_up(&x->done);
    return NULL;
}

/* The client runs in a thread of its own, since its side blocks. */
static void run(struct fixture *x, void (*client)(struct fixture *x))
{
    x->client = client;
    assert_int_equal(pthread_create(&x->thread, NULL, client_main, x), 0);
    loop_run(x->loop);
    (void)pthread_join(x->thread, NULL);
}

/* In the client's thread cmocka's assertions cannot be used: this ends the program. */
#define MUST(x)                                                                        \
    do {                                                                               \
        if (!(x)) {                                                                    \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);      \
            abort();                                                                   \
        }                                                                              \
    } while (0)

static int ask(struct fixture *x, uint32_t op, const char *arg, int pass_fd)
{
    LocalRequest req = LocalRequest_init_zero;
    int fd;
    req.op = op;
    (void)snprintf(req.host, sizeof(req.host), "home");
    (void)snprintf(req.arg, sizeof(req.arg), "%s", arg);
    MUST(local_dial(x->path, &fd) == 0);
    MUST(local_send(fd, &req, pass_fd) == 0);
    return fd;
}

static void client_replies(struct fixture *x)
{
    LocalReply reply;
    int fd = ask(x, LOCAL_STATUS, "100", -1);
    for (int i = 0; i < 100; i++) {
        char json[32];
        MUST(local_recv(fd, &reply, 5000) == 0 && !reply.last);
        (void)snprintf(json, sizeof(json), "{\"n\":%d}", i);
        MUST(strcmp(reply.json, json) == 0);
    }
    MUST(local_recv(fd, &reply, 5000) == 0 && reply.last && reply.code == 0);
    MUST(local_recv(fd, &reply, 5000) == POSTERN_ERR_CLOSED);
    (void)close(fd);
    fd = ask(x, LOCAL_STOP, "", -1);
    MUST(local_recv(fd, &reply, 5000) == 0 && reply.last);
    MUST(reply.code == (uint32_t)-POSTERN_ERR_DENIED);
    MUST(strcmp(reply.reason, "no") == 0 && strcmp(reply.advice, "ask") == 0);
    (void)close(fd);
}

enum { CROWD = 300, SILENT = 40 };

static int crowd[CROWD], silent[SILENT];

static void client_crowd(struct fixture *x)
{
    LocalReply reply;
    (void)x;
    for (int i = 0; i < CROWD; i++) {
        MUST(local_recv(crowd[i], &reply, 10000) == 0 && reply.last);
        (void)close(crowd[i]);
    }
}

/* All have asked before the daemon, which was busy, looks; others never ask. */
static void test_crowd(void **state)
{
    struct fixture *x = *state;
    for (int i = 0; i < SILENT; i++)
        assert_int_equal(local_dial(x->path, &silent[i]), 0);
    for (int i = 0; i < CROWD; i++)
        crowd[i] = ask(x, LOCAL_STATUS, "0", -1);
    run(x, client_crowd);
    assert_int_equal(x->requests, CROWD);
    for (int i = 0; i < SILENT; i++)
        (void)close(silent[i]);
}

static void test_replies(void **state)
{
    struct fixture *x = *state;
    struct stat st;
    assert_int_equal(stat(x->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    run(x, client_replies);
    assert_int_equal(x->requests, 2);
    assert_int_equal(x->gones, 0);
}

static void client_passes(struct fixture *x)
{
    LocalReply reply;
    int ends[2];
    MUST(pipe(ends) == 0);
    int fd = ask(x, LOCAL_STATUS, "0", ends[1]);
    MUST(local_recv(fd, &reply, 5000) == 0 && reply.last);
    (void)close(ends[1]);
    MUST(write(x->fd, "hi", 2) == 2); /* the daemon's copy of our pipe */
    (void)close(x->fd);
    char got[8];
    MUST(read(ends[0], got, sizeof(got)) == 2);
    (void)close(ends[0]);
    (void)close(fd);
}

static void test_passed_descriptor(void **state)
{
    run(*state, client_passes);
}

static void client_streams(struct fixture *x)
{
    LocalReply reply;
    int fd = ask(x, LOCAL_OPEN, "", -1);
    MUST(send(fd, "early", 5, MSG_NOSIGNAL) == 5); /* stays in the socket */
    MUST(local_recv(fd, &reply, 5000) == 0 && reply.code == 0);
    MUST(send(fd, " late", 5, MSG_NOSIGNAL) == 5);
    char got[16];
    MUST(recv(fd, got, 10, MSG_WAITALL) == 10 && memcmp(got, "early late", 10) == 0);
    (void)close(fd);
}

static void test_hand_over(void **state)
{
    run(*state, client_streams);
}

static void client_leaves(struct fixture *x)
{
    LocalReply reply;
    int fd = ask(x, LOCAL_PING, "", -1);
    MUST(local_recv(fd, &reply, 5000) == 0);
    MUST(local_recv(fd, &reply, 20) == POSTERN_ERR_TIMEOUT);
    (void)close(fd);
}

static void test_gone(void **state)
{
    struct fixture *x = *state;
    run(x, client_leaves);
    while (x->gones == 0)
        loop_turn(x->loop);
    assert_int_equal(x->gones, 1);
}

static void client_garbage(struct fixture *x)
{
    static const struct {
        uint8_t bytes[8];
        size_t len;
    } cases[] = {
        {{0xff, 0xff, 0xff, 0xff}, 4},       /* too long */
        {{0, 0, 0, 3, 0xff, 0xff, 0xff}, 7}, /* not a message */
        {{0, 0}, 2},                         /* cut off */
        {{0, 0, 0, 9, 1}, 5},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        LocalReply reply;
        int fd;
        MUST(local_dial(x->path, &fd) == 0);
        MUST(send(fd, cases[i].bytes, cases[i].len, MSG_NOSIGNAL) ==
             (ssize_t)cases[i].len);
        (void)shutdown(fd, SHUT_WR);
        int err = local_recv(fd, &reply, 5000);
        MUST(err == POSTERN_ERR_CLOSED || (err == 0 && reply.code != 0));
        (void)close(fd);
    }
    client_replies(x); /* it still serves */
}

static void test_garbage(void **state)
{
    struct fixture *x = *state;
    run(x, client_garbage);
    assert_int_equal(x->requests, 2);
}

/* A request that comes byte by byte, and a server that closes with one half read. */
static void client_slow(struct fixture *x)
{
    uint8_t buf[256];
    LocalRequest req = LocalRequest_init_zero;
    LocalReply reply;
    int fd, half;
    req.op = LOCAL_STATUS;
    int n = proto_encode_frame(buf, sizeof(buf), LocalRequest_fields, &req);
    MUST(n > 0 && local_dial(x->path, &fd) == 0 && local_dial(x->path, &half) == 0);
    for (int i = 0; i < n; i++)
        MUST(send(fd, buf + i, 1, MSG_NOSIGNAL) == 1);
    MUST(send(half, buf, 3, MSG_NOSIGNAL) == 3);
    MUST(local_recv(fd, &reply, 5000) == 0 && reply.last);
    (void)close(fd);
    x->fd = half;
}

static void test_slow(void **state)
{
    struct fixture *x = *state;
    run(x, client_slow);
    (void)close(x->fd);
}

static void test_paths(void **state)
{
    struct fixture *x = *state;
    struct local_server *other = NULL;
    struct fault f = {0};
    char path[400];
    int fd;
    (void)snprintf(path, sizeof(path), "%s/none.sock", x->dir);
    assert_int_equal(local_dial(path, &fd), POSTERN_ERR_NOTFOUND);
    (void)snprintf(path, sizeof(path), "%s/none/at.sock", x->dir);
    assert_true(local_server_open(&other, x->loop, path, &events, x, &f) < 0);
    assert_true(f.what[0] != '\0');
    /* longer than a name may be */
    (void)snprintf(path, sizeof(path), "%s/%0290d", x->dir, 0);
    assert_true(local_server_open(&other, x->loop, path, &events, x, &f) < 0);
    assert_int_equal(local_dial(path, &fd), POSTERN_ERR_INVALID);
    /* a file that is not a socket is never removed */
    (void)snprintf(path, sizeof(path), "%s/file", x->dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(local_server_open(&other, x->loop, path, &events, x, &f),
                     POSTERN_ERR_INUSE);
    assert_int_equal(access(path, F_OK), 0);
    /* a dead socket is replaced */
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/dead.sock", x->dir);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    (void)close(fd);
    assert_int_equal(local_dial(un.sun_path, &fd), POSTERN_ERR_NOTFOUND);
    assert_int_equal(local_server_open(&other, x->loop, un.sun_path, &events, x, &f),
                     0);
    assert_int_equal(local_dial(un.sun_path, &fd), 0);
    (void)close(fd);
    local_server_close(other);
}

/* Longer than sun_path: it lies in its directory all the same, and nowhere else. */
static void test_long_path(void **state)
{
    struct fixture *x = *state;
    struct local_server *other = NULL;
    struct fault f = {0};
    char dir[300], path[320];
    int fd;
    (void)snprintf(dir, sizeof(dir), "%s/%0150d", x->dir, 0);
    (void)snprintf(path, sizeof(path), "%s/up.sock", dir);
    assert_int_equal(local_dial(path, &fd), POSTERN_ERR_NOTFOUND);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(local_dial(path, &fd), POSTERN_ERR_NOTFOUND);
    assert_int_equal(local_server_open(&other, x->loop, path, &events, x, &f), 0);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(local_dial(path, &fd), 0);
    (void)close(fd);
    local_server_close(other);
    assert_int_equal(access(path, F_OK), -1);
}

/* Its file is gone: it is made again, and what another put there is not taken away. */
static void test_renew(void **state)
{
    struct fixture *x = *state;
    struct local_server *one = NULL, *two = NULL;
    struct fault f = {0};
    char path[300];
    int fd;
    (void)snprintf(path, sizeof(path), "%s/renewed.sock", x->dir);
    assert_int_equal(local_server_open(&one, x->loop, path, &events, x, &f), 0);
    local_server_renew(one);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(local_dial(path, &fd), POSTERN_ERR_NOTFOUND);
    local_server_renew(one);
    assert_int_equal(local_dial(path, &fd), 0);
    (void)close(fd);
    assert_int_equal(local_server_open(&two, x->loop, path, &events, x, &f), 0);
    local_server_close(one);
    assert_int_equal(local_dial(path, &fd), 0);
    (void)close(fd);
    local_server_close(two);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_replies),   WITH_SERVER(test_passed_descriptor),
        WITH_SERVER(test_crowd),     WITH_SERVER(test_hand_over),
        WITH_SERVER(test_gone),      WITH_SERVER(test_garbage),
        WITH_SERVER(test_slow),      WITH_SERVER(test_paths),
        WITH_SERVER(test_long_path), WITH_SERVER(test_renew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

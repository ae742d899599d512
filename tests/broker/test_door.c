/*
 * First words of every kind and every length, with and without an end behind them: none
 * makes a thread turn. Who does not go on is gone, and a full door lets newcomers in.
 */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <sodium.h>

#include "broker/limits.h"
#include "core/relay_preface.h"
#include "io/loop.h"

enum {
    HELLO_MAX = 4096,
    WATCH_MS = 400,
    CPU_MAX_MS = 100, /* one connection that turns costs all of WATCH_MS */
    SILENT_MAX = LIMIT_VISITORS + 300,
    DIALS_MAX = 900,
    KINDS = 7
};

static struct rig rig;

static void no_web(void *ctx, int fd, const char *server_name)
{
    (void)ctx, (void)server_name;
    close(fd);
}

static int start_portal(void *ctx, struct broker *b, struct fault *f)
{
    (void)ctx, (void)b, (void)f;
    return 0;
}

static void stop_portal(void *ctx)
{
    (void)ctx;
}

static const struct broker_portal portal = {
    .start = start_portal, .stop = stop_portal, .on_tls = no_web};

static int setup(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 1,
                                           .open = true,
                                           .no_address_limits = true,
                                           .portal = &portal});
    return 0;
}

static int setup_limited(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 1, .open = true});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

/* What a TLS client says first, offering `protocol`. */
struct capture {
    uint8_t bytes[HELLO_MAX];
    size_t len;
};

static ssize_t push(gnutls_transport_ptr_t p, const void *data, size_t len)
{
    struct capture *c = p;
    assert_true(len <= sizeof(c->bytes) - c->len);
    memcpy(c->bytes + c->len, data, len);
    c->len += len;
    return (ssize_t)len;
}

static ssize_t pull(gnutls_transport_ptr_t p, void *data, size_t len)
{
    (void)p, (void)data, (void)len;
    errno = EAGAIN;
    return -1;
}

static void client_hello(struct capture *c, const char *protocol)
{
    gnutls_session_t s;
    gnutls_certificate_credentials_t cred;
    gnutls_datum_t alpn = {(unsigned char *)(uintptr_t)protocol,
                           (unsigned)strlen(protocol)};
    c->len = 0;
    assert_int_equal(gnutls_init(&s, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
    assert_int_equal(gnutls_certificate_allocate_credentials(&cred), 0);
    assert_int_equal(gnutls_set_default_priority(s), 0);
    assert_int_equal(gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred), 0);
    assert_int_equal(gnutls_alpn_set_protocols(s, &alpn, 1, 0), 0);
    gnutls_transport_set_ptr(s, c);
    gnutls_transport_set_push_function(s, push);
    gnutls_transport_set_pull_function(s, pull);
    assert_int_equal(gnutls_handshake(s), GNUTLS_E_AGAIN);
    gnutls_deinit(s);
    gnutls_certificate_free_credentials(cred);
    assert_true(c->len > 100);
}

static void relay_preface(struct capture *c)
{
    uint8_t ticket[TICKET_LEN] = {0};
    relay_preface_encode(c->bytes, ticket);
    c->len = RELAY_PREFACE_LEN;
}

static void stun_request(struct capture *c)
{
    static const uint8_t request[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 9};
    memcpy(c->bytes, request, sizeof(request));
    c->len = sizeof(request);
}

static double cpu_ms(void)
{
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

static void on_time(void *ctx)
{
    *(bool *)ctx = true;
}

static void pass_time(unsigned ms)
{
    bool over = false;
    struct timer t;
    timer_init(&t, rig.loop, on_time, &over);
    timer_start(&t, ms);
    while (!over)
        loop_turn(rig.loop);
}

static bool is_closed(int fd)
{
    uint8_t byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* Every length of `c` on a connection of its own; returns how many. */
static size_t say_all_lengths(const struct capture *c, bool end, int *fds)
{
    size_t step = c->len > 64 ? 3 : 1, count = 0;
    for (size_t len = 0; len <= c->len;) {
        int fd = fds[count++] = rig_dial(&rig);
        if (len > 0)
            assert_int_equal(send(fd, c->bytes, len, MSG_NOSIGNAL), len);
        if (end)
            (void)shutdown(fd, SHUT_WR); /* garbage has been closed by now */
        len = len < c->len && len + step > c->len ? c->len : len + step;
    }
    return count;
}

static void make_kinds(struct capture kinds[static KINDS])
{
    static const char *const protocols[] = {"postern-broker/1", "postern-relay/1",
                                            "http/1.1"};
    for (size_t i = 0; i < 3; i++)
        client_hello(&kinds[i], protocols[i]);
    relay_preface(&kinds[3]);
    stun_request(&kinds[4]);
    kinds[5] = (struct capture){.bytes = "\x16\x16\x16\x16\x16\x16\x16", .len = 7};
    kinds[6] = (struct capture){.bytes = "GET / HTTP/1.1\r\n\r\n", .len = 18};
}

static void test_no_first_word_turns(void **state)
{
    struct capture kinds[KINDS];
    int fds[KINDS * 512];
    (void)state;
    make_kinds(kinds);
    for (int end = 0; end < 2; end++) {
        size_t count = 0;
        for (size_t i = 0; i < KINDS; i++)
            count += say_all_lengths(&kinds[i], end != 0, fds + count);
        pass_time(WATCH_MS / 2); /* each is looked at once, which is no fault */
        double before = cpu_ms();
        pass_time(WATCH_MS);
        double used = cpu_ms() - before;
        if (end != 0)
            assert_true(is_closed(fds[0])); /* gone without a word */
        for (size_t i = 0; i < count; i++)
            close(fds[i]);
        print_message("%zu first words %s an end: %.1f ms of CPU in %d ms\n", count,
                      end != 0 ? "with" : "without", used, WATCH_MS);
        assert_true(used < CPU_MAX_MS);
    }
}

/* Silence in all places keeps nobody out. */
static void test_full_of_silence(void **state)
{
    static int fds[SILENT_MAX];
    char from[32];
    (void)state;
    for (int i = 0; i < SILENT_MAX; i++) {
        (void)snprintf(from, sizeof(from), "127.1.%d.%d", 1 + i / 100, 1 + i % 100);
        fds[i] = rig_dial_from(&rig, from);
    }
    struct device *d = rig_join(&rig, false);
    assert_false(d->closed);
    int closed = 0;
    for (int i = 0; i < SILENT_MAX; i++) {
        uint8_t alert[7]; /* that the broker is busy */
        ssize_t n = recv(fds[i], alert, sizeof(alert), MSG_DONTWAIT);
        closed +=
            n == sizeof(alert) && alert[0] == 21 && alert[6] == 90 && is_closed(fds[i]);
        close(fds[i]);
    }
    assert_true(closed > 0);
}

static bool has_settled(void *ctx)
{
    const struct device *d = ctx;
    return d->open || d->closed;
}

static bool has_ended(void *ctx)
{
    const struct device *d = ctx;
    return d->closed;
}

/*
 * More than an address may: they wait, some are told that the broker is busy, and who
 * comes behind them from there is let in when he tries again.
 */
static void test_busy_is_said(void **state)
{
    (void)state;
    static int fds[DIALS_MAX];
    struct capture hello;
    int busy = 0;
    client_hello(&hello, PROTO_ALPN_BROKER);
    for (int i = 0; i < DIALS_MAX; i++) {
        fds[i] = rig_dial(&rig);
        assert_int_equal(send(fds[i], hello.bytes, hello.len, MSG_NOSIGNAL), hello.len);
    }
    struct device d = {.rig = &rig};
    uint8_t seed[KEY_LEN] = {1};
    keypair_from_seed(&d.key, seed);
    struct channel_config c = {
        .loop = rig.loop, .own = &d.key, .events = &rig_events, .ctx = &d};
    for (int i = 0; i < 20 && !d.open; i++) {
        d.closed = false;
        int fd = rig_dial(&rig);
        assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
        assert_int_equal(channel_new_client(&d.channel, &c, fd, rig.link.broker_key),
                         0);
        rig_wait(&rig, has_settled, &d);
        if (!d.open)
            assert_int_equal(d.close_err, POSTERN_ERR_LIMIT);
        channel_free(d.channel);
    }
    assert_true(d.open);
    for (int i = 0; i < DIALS_MAX; i++) {
        uint8_t alert[7] = {0};
        busy += recv(fds[i], alert, sizeof(alert), MSG_DONTWAIT) == sizeof(alert) &&
                alert[0] == 21 && alert[6] == 90;
        close(fds[i]);
    }
    assert_true(busy > 0);
}

static size_t drain(int fd, uint8_t *buf, size_t max)
{
    size_t len = 0;
    ssize_t n;
    while ((n = recv(fd, buf + len, max - len, 0)) > 0)
        len += (size_t)n;
    return len;
}

/* Who has begun and gives up its place for others is told why, not only cut off. */
static void test_evicted_is_told(void **state)
{
    (void)state;
    static int others[LIMIT_HANDSHAKES + 8];
    const size_t count = sizeof(others) / sizeof(others[0]);
    uint8_t hello[HELLO_MAX], said[16384], seed[KEY_LEN] = {1};
    int pair[2], fd = rig_dial(&rig);
    struct device d = {.rig = &rig};
    keypair_from_seed(&d.key, seed);
    struct channel_config c = {
        .loop = rig.loop, .own = &d.key, .events = &rig_events, .ctx = &d};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(channel_new_client(&d.channel, &c, pair[0], rig.link.broker_key),
                     0);
    ssize_t n = -1;
    while (n < 0) {
        loop_poll(rig.loop);
        n = recv(pair[1], hello, sizeof(hello), 0);
    }
    assert_int_equal(send(fd, hello, (size_t)n, 0), n);
    assert_int_equal(recv(fd, said, 1, MSG_PEEK), 1); /* it is among those who began */
    for (size_t i = 0; i < count; i++) {
        others[i] = rig_dial(&rig);
        assert_int_equal(send(others[i], hello, (size_t)n, 0), n);
    }
    size_t len = drain(fd, said, sizeof(said));
    assert_int_equal(send(pair[1], said, len, 0), (ssize_t)len);
    rig_wait(&rig, has_settled, &d);
    if (d.open && !d.closed)
        rig_wait(&rig, has_ended, &d);
    assert_int_equal(d.close_err, POSTERN_ERR_LIMIT);
    channel_free(d.channel);
    for (size_t i = 0; i < count; i++)
        close(others[i]);
    close(pair[1]);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_first_word_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_busy_is_said, setup_limited, teardown),
        cmocka_unit_test_setup_teardown(test_evicted_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_of_silence, setup_limited, teardown),
    };
    return cmocka_run_group_tests_name("door", tests, NULL, NULL);
}

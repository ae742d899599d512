/* Relayed pairs: every byte, both ways, half-close, reset, back-pressure, bad tickets.
 */
#include "io/clock.h"
#include "rig.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sodium.h>

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 2, .open = true});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

struct tickets {
    uint8_t host[TICKET_LEN], client[TICKET_LEN];
};

static struct tickets introduce(struct device *client, struct device *host)
{
    struct tickets t;
    Control m = Control_init_zero;
    m.which_body = Control_introduce_tag;
    memcpy(m.peer, host->key.pub, KEY_LEN);
    randombytes_buf(m.conv, CONV_LEN);
    device_send(client, &m);
    m = device_expect(host, Control_introduce_tag);
    device_accept(host, &m, false);
    m = device_expect(host, Control_ticket_tag);
    assert_int_equal(m.body.ticket.ticket.size, TICKET_LEN);
    memcpy(t.host, m.body.ticket.ticket.bytes, TICKET_LEN);
    m = device_expect(client, Control_ticket_tag);
    assert_int_equal(m.body.ticket.ticket.size, TICKET_LEN);
    memcpy(t.client, m.body.ticket.ticket.bytes, TICKET_LEN);
    return t;
}

static void expect_joined(int fd)
{
    uint8_t c = 0;
    assert_int_equal(recv(fd, &c, 1, 0), 1);
    if (c == 0x02) /* this side came first and was told to wait */
        assert_int_equal(recv(fd, &c, 1, 0), 1);
    assert_int_equal(c, 0x01);
}

struct pair {
    int client, host;
};

static struct pair join(struct tickets t)
{
    struct pair p = {rig_dial_relay(&rig, t.client), rig_dial_relay(&rig, t.host)};
    expect_joined(p.client);
    expect_joined(p.host);
    return p;
}

static struct pair make_pair(void)
{
    struct device *host = rig_join(&rig, true);
    struct device *client = rig_join(&rig, false);
    return join(introduce(client, host));
}

/* Sends `len` pseudorandom bytes through `fd` and hashes them, then half-closes. */
struct sender {
    int fd;
    size_t len;
    uint8_t hash[32];
};

static void *send_all(void *arg)
{
    struct sender *s = arg;
    static const uint8_t seed[randombytes_SEEDBYTES] = {7};
    enum { CHUNK = 100003 }; /* odd on purpose */
    uint8_t *buf = malloc(CHUNK);
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, NULL, 0, 32);
    randombytes_buf_deterministic(buf, CHUNK, seed);
    for (size_t at = 0; at < s->len;) {
        size_t len = s->len - at < CHUNK ? s->len - at : CHUNK;
        buf[at % CHUNK] ^= (uint8_t)at;
        for (size_t sent = 0; sent < len;) {
            ssize_t n = send(s->fd, buf + sent, len - sent, MSG_NOSIGNAL);
            if (n <= 0)
                goto out;
            sent += (size_t)n;
        }
        (void)crypto_generichash_update(&h, buf, len);
        at += len;
    }
out:
    (void)shutdown(s->fd, SHUT_WR);
    (void)crypto_generichash_final(&h, s->hash, 32);
    free(buf);
    return NULL;
}

static void receive_all(int fd, uint8_t hash[static 32], size_t *len)
{
    enum { CHUNK = 65536 };
    uint8_t *buf = malloc(CHUNK);
    crypto_generichash_state h;
    ssize_t n;
    *len = 0;
    (void)crypto_generichash_init(&h, NULL, 0, 32);
    while ((n = recv(fd, buf, CHUNK, 0)) > 0) {
        (void)crypto_generichash_update(&h, buf, (size_t)n);
        *len += (size_t)n;
    }
    assert_int_equal(n, 0);
    (void)crypto_generichash_final(&h, hash, 32);
    free(buf);
}

struct receiver {
    int fd;
    size_t len;
    uint8_t hash[32];
};

static void *receive_in_thread(void *arg)
{
    struct receiver *r = arg;
    receive_all(r->fd, r->hash, &r->len);
    return NULL;
}

/* Both directions at once; each ends with a half-close of its own. */
static void move_both_ways(struct pair p, size_t len)
{
    struct sender up = {.fd = p.client, .len = len};
    struct sender down = {.fd = p.host, .len = len / 2 + 1};
    struct receiver at_host = {.fd = p.host};
    pthread_t threads[3];
    uint8_t hash[32];
    size_t got;
    assert_int_equal(pthread_create(&threads[0], NULL, send_all, &up), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, send_all, &down), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, receive_in_thread, &at_host), 0);
    receive_all(p.client, hash, &got);
    for (size_t i = 0; i < 3; i++)
        (void)pthread_join(threads[i], NULL);
    assert_int_equal(got, down.len);
    assert_memory_equal(hash, down.hash, 32);
    assert_int_equal(at_host.len, up.len);
    assert_memory_equal(at_host.hash, up.hash, 32);
    close(p.client);
    close(p.host);
}

static void test_bulk(void **state)
{
    (void)state;
    move_both_ways(make_pair(), 200u << 20);
}

/* Many pairs, so that every thread has tickets and gets strangers' connections. */
static void test_many_pairs(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        move_both_ways(make_pair(), 100000);
}

/* No descriptors left for pipes: bytes go through memory, and none is lost. */
static void test_copying(void **state)
{
    (void)state;
    struct rlimit before, tight;
    struct pair p = make_pair();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    int probe = dup(0);
    tight.rlim_cur = (rlim_t)probe;
    close(probe);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    move_both_ways(p, 30u << 20);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_half_close(void **state)
{
    (void)state;
    struct pair p = make_pair();
    char c;
    assert_int_equal(send(p.client, "ask", 3, 0), 3);
    assert_int_equal(shutdown(p.client, SHUT_WR), 0);
    char buf[8];
    assert_int_equal(recv(p.host, buf, 3, MSG_WAITALL), 3);
    assert_int_equal(recv(p.host, &c, 1, 0), 0);
    assert_int_equal(send(p.host, "answer", 6, 0), 6);
    assert_int_equal(recv(p.client, buf, 6, MSG_WAITALL), 6);
    close(p.host);
    assert_int_equal(recv(p.client, &c, 1, 0), 0);
    close(p.client);
}

static void test_reset(void **state)
{
    (void)state;
    struct pair p = make_pair();
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    char c;
    assert_int_equal(send(p.client, "x", 1, 0), 1);
    assert_int_equal(recv(p.host, &c, 1, 0), 1);
    assert_int_equal(setsockopt(p.client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)),
                     0);
    close(p.client);
    assert_int_equal(recv(p.host, &c, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(p.host);
}

/* A receiver that does not read stops the sender: what waits inside is bounded. */
static void test_back_pressure(void **state)
{
    (void)state;
    enum { BOUND = 64 << 20 }; /* all socket buffers of four sockets and a pipe */
    struct pair p = make_pair();
    uint8_t *zero = calloc(1, 65536);
    size_t sent = 0;
    struct pollfd w = {.fd = p.client, .events = POLLOUT};
    while (poll(&w, 1, 1000) == 1) {
        ssize_t n = send(p.client, zero, 65536, MSG_DONTWAIT);
        if (n > 0)
            sent += (size_t)n;
        assert_true(sent < BOUND);
    }
    (void)shutdown(p.client, SHUT_WR);
    size_t got;
    uint8_t hash[32];
    receive_all(p.host, hash, &got);
    assert_int_equal(got, sent);
    free(zero);
    close(p.client);
    close(p.host);
}

static void expect_closed(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);
    assert_true(n == 0 || (n < 0 && errno != EAGAIN)); /* the receive timeout */
    close(fd);
}

static void test_tickets(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true);
    struct device *client = rig_join(&rig, false);
    struct tickets t = introduce(client, host), wrong;
    for (int thread = 0; thread < 4; thread++) {
        randombytes_buf(&wrong, sizeof(wrong));
        wrong.host[0] = (uint8_t)thread;
        expect_closed(rig_dial_relay(&rig, wrong.host));
    }
    /* Good once: of two that show it one is closed, whichever thread was faster. */
    int first = rig_dial_relay(&rig, t.client), spare = rig_dial_relay(&rig, t.client);
    uint8_t word = 0;
    bool first_won = recv(first, &word, 1, 0) == 1;
    if (!first_won)
        assert_int_equal(recv(spare, &word, 1, 0), 1);
    assert_int_equal(word, 0x02);
    if (first_won) {
        expect_closed(spare);
    } else {
        close(first);
        first = spare;
    }
    assert_int_equal(send(first, "early", 5, 0), 5);
    int second = rig_dial_relay(&rig, t.host);
    expect_joined(first);
    expect_joined(second);
    char buf[5];
    assert_int_equal(recv(second, buf, 5, MSG_WAITALL), 5);
    assert_memory_equal(buf, "early", 5);
    expect_closed(rig_dial_relay(&rig, t.host));
    close(first);
    close(second);
}

/* Data right behind the preface, in one segment, belongs to the other side. */
static void test_data_behind_preface(void **state)
{
    (void)state;
    struct device *host = rig_join(&rig, true);
    struct device *client = rig_join(&rig, false);
    for (int i = 0; i < 8; i++) {
        struct tickets t = introduce(client, host);
        int a = rig_dial_relay(&rig, t.host);
        int b = rig_dial(&rig);
        uint8_t all[64] = {'P', 'S', 'T', 'N', 1, 1};
        memcpy(all + 8, t.client, TICKET_LEN);
        memset(all + 24, 0x5a, 40);
        assert_int_equal(send(b, all, sizeof(all), 0), sizeof(all));
        expect_joined(b);
        expect_joined(a);
        uint8_t got[40];
        assert_int_equal(recv(a, got, sizeof(got), MSG_WAITALL), sizeof(got));
        assert_memory_equal(got, all + 24, sizeof(got));
        close(a);
        close(b);
    }
}

/* A ping-pong of one byte must not wait for anything. */
static void test_latency(void **state)
{
    (void)state;
    struct pair p = make_pair();
    char c = 'x';
    uint64_t start = clock_ns();
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(send(p.client, &c, 1, 0), 1);
        assert_int_equal(recv(p.host, &c, 1, 0), 1);
        assert_int_equal(send(p.host, &c, 1, 0), 1);
        assert_int_equal(recv(p.client, &c, 1, 0), 1);
    }
    uint64_t each_us = (clock_ns() - start) / 2000 / 1000;
    print_message("round trip through the relay: %u us\n", (unsigned)each_us);
    assert_true(each_us < 20000); /* 40 ms would be Nagle and delayed ACK */
    close(p.client);
    close(p.host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bulk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_pairs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copying, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tickets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_data_behind_preface, setup, teardown),
        cmocka_unit_test_setup_teardown(test_latency, setup, teardown),
    };
    return cmocka_run_group_tests_name("broker relay", tests, NULL, NULL);
}

/* STUN over real UDP sockets: source addresses, alternates, silence, rate limit. */
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/limits.h"
#include "core/stun.h"
#include "core/vouch_mark.h"
#include "io/clock.h"
#include "io/sock.h"
#include "io/sockaddr.h"

static struct rig rig;

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static int udp(const char *bind_to)
{
    struct timeval tv = {.tv_usec = 500000};
    struct addr a = {0};
    struct sockaddr_storage ss;
    assert_int_equal(addr_parse_ip(&a, bind_to), 0);
    socklen_t len = sockaddr_from_addr(&ss, &a);
    int fd = socket(ss.ss_family, SOCK_DGRAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
    return fd;
}

static void send_bytes(int fd, const char *to, uint16_t port, const void *data,
                       size_t len)
{
    struct addr a = {0};
    struct sockaddr_storage ss;
    assert_int_equal(addr_parse_ip(&a, to), 0);
    a.port = port;
    socklen_t ss_len = sockaddr_from_addr(&ss, &a);
    assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&ss, ss_len), len);
}

/* False when nothing comes within half a second. */
static bool receive(int fd, struct stun_message *m, struct addr *from)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&ss, &len);
    if (n < 0)
        return false;
    assert_int_equal(sockaddr_to_addr(from, (struct sockaddr *)&ss), 0);
    assert_int_equal(stun_parse(m, buf, (size_t)n), 0);
    return true;
}

struct change {
    bool ip, port;
};

static void ask(int fd, const char *to, uint16_t port, struct change change,
                struct stun_message *m, struct addr *from)
{
    uint8_t req[64], txid[STUN_TXID_LEN];
    randombytes_buf(txid, sizeof(txid));
    int n = stun_build_request(req, sizeof(req), txid, change.ip, change.port);
    assert_true(n > 0);
    send_bytes(fd, to, port, req, (size_t)n);
    assert_true(receive(fd, m, from));
    assert_true(stun_is_response_to(m, txid));
}

static void assert_from(const struct addr *from, const char *ip, uint16_t port)
{
    char text[ADDR_TEXT_LEN];
    assert_string_equal(addr_format_ip(from, text), ip);
    assert_int_equal(from->port, port);
}

static const struct change same = {false, false};

static void test_specific(void **state)
{
    (void)state;
    struct stun_message m;
    struct addr from, own;
    rig_open(&rig, &(struct broker_config){.threads = 2, .open = true});
    int fd = udp("127.0.0.1");
    uint16_t port = rig.link.port;
    ask(fd, "127.0.0.1", port, same, &m, &from);
    assert_int_equal(m.type, STUN_BINDING_SUCCESS);
    assert_from(&from, "127.0.0.1", port);
    assert_int_equal(sock_local(fd, &own), 0);
    assert_true(addr_equal(&m.mapped, &own));
    assert_true(m.other.family == ADDR_NONE || m.other.port == port + 1);
    if (m.other.family != ADDR_NONE) {
        ask(fd, "127.0.0.1", port, (struct change){.port = true}, &m, &from);
        assert_from(&from, "127.0.0.1", (uint16_t)(port + 1));
        ask(fd, "127.0.0.1", (uint16_t)(port + 1), (struct change){.port = true}, &m,
            &from);
        assert_from(&from, "127.0.0.1", port);
    }
    ask(fd, "127.0.0.1", port, (struct change){.ip = true}, &m, &from);
    assert_int_equal(m.error_code, 420);
    close(fd);
}

static void test_second_address(void **state)
{
    (void)state;
    struct stun_message m;
    struct addr from;
    uint16_t other = (uint16_t)(rig_port(0) + 1);
    char alternate[ADDR_TEXT_LEN];
    (void)snprintf(alternate, sizeof(alternate), "127.0.0.2:%u", other);
    rig_open(&rig, &(struct broker_config){
                       .threads = 2, .open = true, .stun_alternate = alternate});
    int fd = udp("127.0.0.1");
    uint16_t port = rig.link.port;
    ask(fd, "127.0.0.1", port, (struct change){true, true}, &m, &from);
    assert_from(&from, "127.0.0.2", other);
    assert_from(&m.origin, "127.0.0.2", other);
    assert_from(&m.other, "127.0.0.2", other);
    ask(fd, "127.0.0.1", port, (struct change){true, false}, &m, &from);
    assert_from(&from, "127.0.0.2", port);
    ask(fd, "127.0.0.2", other, (struct change){true, true}, &m, &from);
    assert_from(&from, "127.0.0.1", port);
    assert_from(&m.other, "127.0.0.1", port);
    ask(fd, "127.0.0.2", port, same, &m, &from);
    assert_from(&from, "127.0.0.2", port);
    close(fd);
}

/* A dual-stack wildcard answers from the very address that was asked. */
static void test_wildcard(void **state)
{
    (void)state;
    struct stun_message m;
    struct addr from;
    static const char *const targets[] = {"127.0.0.1", "127.0.0.9", "::1"};
    struct broker_config c = {.threads = 2, .open = true, .stun_alternate = "off"};
    rig_open(&rig, &c);
    rig_stop_broker(&rig);
    (void)snprintf(rig.listen, sizeof(rig.listen), "[::]:0");
    rig_start_broker(&rig);
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        int fd = udp(strchr(targets[i], ':') != NULL ? "::1" : "127.0.0.1");
        ask(fd, targets[i], rig.link.port, same, &m, &from);
        assert_from(&from, targets[i], rig.link.port);
        assert_from(&m.origin, targets[i], rig.link.port);
        assert_int_equal(m.other.family, ADDR_NONE);
        close(fd);
    }
}

static void test_silence(void **state)
{
    (void)state;
    struct stun_message m;
    struct addr from;
    uint8_t junk[1400], req[64], txid[STUN_TXID_LEN] = {0};
    rig_open(&rig, &(struct broker_config){.threads = 2, .open = true});
    int fd = udp("127.0.0.1");
    for (size_t len = 1; len < sizeof(junk); len += 199) {
        randombytes_buf(junk, len);
        send_bytes(fd, "127.0.0.1", rig.link.port, junk, len);
    }
    int n = stun_build_request(req, sizeof(req), txid, false, false);
    assert_true(n > 0);
    req[n - 1] ^= 1; /* the fingerprint */
    send_bytes(fd, "127.0.0.1", rig.link.port, req, (size_t)n);
    assert_false(receive(fd, &m, &from));
    ask(fd, "127.0.0.1", rig.link.port, same, &m, &from);
    close(fd);
}

static void test_rate_limit(void **state)
{
    (void)state;
    struct stun_message m;
    struct addr from;
    uint8_t req[64], txid[STUN_TXID_LEN] = {0};
    rig_open(&rig, &(struct broker_config){.threads = 1, .open = true});
    int fd = udp("127.0.0.1");
    int n = stun_build_request(req, sizeof(req), txid, false, false);
    assert_true(n > 0);
    uint32_t sent = 3 * LIMIT_RATE_STUN.burst, got = 0;
    for (uint32_t i = 0; i < sent; i++)
        send_bytes(fd, "127.0.0.1", rig.link.port, req, (size_t)n);
    while (receive(fd, &m, &from))
        got++;
    assert_true(got >= LIMIT_RATE_STUN.burst && got < sent);
    int other = udp("127.0.0.5"); /* nobody else is disturbed */
    ask(other, "127.0.0.1", rig.link.port, same, &m, &from);
    close(other);
    close(fd);
}

/* What others ask in an address's name takes nothing from who is connected from there.
 */
static void test_proven_are_answered_all_the_same(void **state)
{
    (void)state;
    struct stun_message m;
    struct addr from;
    uint8_t req[64], txid[STUN_TXID_LEN] = {0};
    rig_open(&rig, &(struct broker_config){.threads = 1, .open = true});
    struct device *d = rig_connect(&rig, NULL);
    device_hello(d, false, false);
    Control welcome = device_expect(d, Control_welcome_tag);
    Control pong = {.which_body = Control_ping_tag};
    device_send(d, &pong);
    pong = device_expect(d, Control_pong_tag);
    int fd = udp("127.0.0.1");
    int n = stun_build_request(req, sizeof(req), txid, false, false);
    assert_true(n > 0);
    for (uint32_t i = 0; i < 3 * LIMIT_RATE_STUN.burst; i++)
        send_bytes(fd, "127.0.0.1", rig.link.port, req, (size_t)n);
    while (receive(fd, &m, &from)) /* ends when none is answered any more */
        send_bytes(fd, "127.0.0.1", rig.link.port, req, (size_t)n);
    int tcp = rig_dial(&rig);
    assert_int_equal(send(tcp, req, (size_t)n, 0), n);
    assert_true(recv(tcp, req, sizeof(req), 0) > 0); /* its source is not forged */
    close(tcp);
    const uint8_t *proofs[] = {welcome.body.welcome.proof.bytes,
                               pong.body.pong.proof.bytes};
    for (size_t i = 0; i < 2; i++) {
        txid[0]++;
        n = stun_build_marked_request(req, sizeof(req), txid, proofs[i]);
        assert_true(n > 0);
        send_bytes(fd, "127.0.0.1", rig.link.port, req, (size_t)n);
        bool answered = false;
        while (!answered && receive(fd, &m, &from))
            answered = stun_is_response_to(&m, txid);
        assert_true(answered);
    }
    close(fd);
}

/* A device with a proof of its own, and a socket at the same address. */
struct asker {
    uint8_t proof[VOUCH_MARK_LEN];
    int fd;
    uint32_t got;
};

static void asker_open(struct asker *a, const char *ip)
{
    struct device *d = rig_connect_from(&rig, NULL, ip);
    device_hello(d, false, false);
    Control welcome = device_expect(d, Control_welcome_tag);
    memcpy(a->proof, welcome.body.welcome.proof.bytes, VOUCH_MARK_LEN);
    a->fd = udp(ip);
    a->got = 0;
}

static void asker_ask(const struct asker *a, uint8_t txid[static STUN_TXID_LEN])
{
    uint8_t req[64];
    randombytes_buf(txid, STUN_TXID_LEN);
    int n = stun_build_marked_request(req, sizeof(req), txid, a->proof);
    assert_true(n > 0);
    send_bytes(a->fd, "127.0.0.1", rig.link.port, req, (size_t)n);
}

static void asker_count(struct asker *a)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    while (recv(a->fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
        a->got++;
}

/* Each of them asks `times` times. */
static void flood(struct asker *a, size_t count, uint32_t times)
{
    uint8_t txid[STUN_TXID_LEN];
    for (uint32_t i = 0; i < times; i++)
        for (size_t j = 0; j < count; j++)
            asker_ask(&a[j], txid);
    for (size_t j = 0; j < count; j++)
        asker_count(&a[j]);
}

/* Asks as devices do: again when nothing comes, as a busy machine's socket overflows.
 */
static bool asker_is_answered(const struct asker *a)
{
    uint8_t txid[STUN_TXID_LEN];
    struct stun_message m;
    struct addr from;
    for (int tries = 0; tries < 3; tries++) {
        asker_ask(a, txid);
        while (receive(a->fd, &m, &from))
            if (stun_is_response_to(&m, txid))
                return true;
    }
    return false;
}

/* How many of `times` questions are answered while those others flood. */
static uint32_t answered(const struct asker *a, uint32_t times, struct asker *others,
                         size_t count)
{
    uint32_t got = 0;
    for (uint32_t i = 0; i < times; i++) {
        flood(others, count, 10);
        got += asker_is_answered(a);
    }
    return got;
}

static uint64_t now_ms(void)
{
    return clock_ns() / 1000000;
}

/* Others of the block flood, each with a proof of its own address. */
static void test_a_block_is_shared_by_how_little_each_has_used(void **state)
{
    struct asker bad[5], good;
    char ip[ADDR_TEXT_LEN];
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 1, .open = true});
    for (unsigned i = 0; i < 5; i++) {
        (void)snprintf(ip, sizeof(ip), "127.0.0.%u", 10 + i);
        asker_open(&bad[i], ip);
    }
    asker_open(&good, "127.0.0.20");
    uint64_t began = now_ms();
    for (int i = 0; i < 8; i++)
        flood(bad, 5, 25);
    assert_int_equal(answered(&good, 20, bad, 5), 20);
    (void)receive(bad[0].fd, &(struct stun_message){0}, &(struct addr){0});
    uint64_t took = now_ms() - began, all = 20;
    for (unsigned i = 0; i < 5; i++) {
        asker_count(&bad[i]);
        all += bad[i].got;
        close(bad[i].fd);
    }
    print_message("%llu answers to a /24 in %llu ms\n", (unsigned long long)all,
                  (unsigned long long)took);
    struct bucket_rate rate = LIMIT_RATE_STUN;
    assert_true(all <= 4 * (rate.burst + LIMIT_STUN_SPARED + rate.per_s * took / 1000));
    close(good.fd);
}

/* How much more than it was sent the broker sends, headers of IPv4 and UDP included. */
static void test_reflects_little(void **state)
{
    enum { HEADERS = 28, PERCENT_MAX = 175 };
    static const size_t paddings[] = {0, 1, 60, 200, 1400};
    char alternate[ADDR_TEXT_LEN];
    size_t most = 0;
    (void)state;
    (void)snprintf(alternate, sizeof(alternate), "127.0.0.2:%u", rig_port(0) + 1);
    rig_open(&rig, &(struct broker_config){
                       .threads = 1, .open = true, .stun_alternate = alternate});
    int fd = udp("127.0.0.1");
    for (unsigned i = 0; i < 4 * sizeof(paddings) / sizeof(paddings[0]); i++) {
        uint8_t req[STUN_MESSAGE_MAX], answer[STUN_MESSAGE_MAX];
        struct stun_message m = {.type = STUN_BINDING_REQUEST,
                                 .fingerprint = i % 2 != 0,
                                 .has_mark = i % 4 >= 2,
                                 .padding_len = (uint16_t)paddings[i / 4]};
        int n = stun_build(req, sizeof(req), &m);
        assert_true(n > 0);
        send_bytes(fd, "127.0.0.1", rig.link.port, req, (size_t)n);
        ssize_t got = recv(fd, answer, sizeof(answer), 0);
        assert_true(got > 0);
        size_t percent = 100 * ((size_t)got + HEADERS) / ((size_t)n + HEADERS);
        most = percent > most ? percent : most;
    }
    print_message("answers have up to %zu %% of their requests\n", most);
    assert_in_range(most, 100, PERCENT_MAX);
    close(fd);
}

/* So does another device behind the same NAT. */
static void test_an_address_is_shared_by_its_devices(void **state)
{
    struct asker bad, good;
    (void)state;
    rig_open(&rig, &(struct broker_config){.threads = 1, .open = true});
    asker_open(&bad, "127.0.0.1");
    asker_open(&good, "127.0.0.1");
    flood(&bad, 1, 200);
    assert_int_equal(answered(&good, 10, &bad, 1), 10);
    close(bad.fd);
    close(good.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_proven_are_answered_all_the_same, teardown),
        cmocka_unit_test_teardown(test_a_block_is_shared_by_how_little_each_has_used,
                                  teardown),
        cmocka_unit_test_teardown(test_reflects_little, teardown),
        cmocka_unit_test_teardown(test_an_address_is_shared_by_its_devices, teardown),
        cmocka_unit_test_teardown(test_specific, teardown),
        cmocka_unit_test_teardown(test_second_address, teardown),
        cmocka_unit_test_teardown(test_wildcard, teardown),
        cmocka_unit_test_teardown(test_silence, teardown),
        cmocka_unit_test_teardown(test_rate_limit, teardown),
    };
    return cmocka_run_group_tests_name("broker stun", tests, NULL, NULL);
}

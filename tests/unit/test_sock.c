/* io/sock and its neighbours: what the kernel says of sockets, in our words. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/addr.h"
#include "io/edges.h"
#include "io/lack.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/oserr.h"
#include "io/pktinfo.h"
#include "io/ready.h"
#include "io/sock.h"
#include "io/tcp.h"

enum { WAIT_MS = 10000, BIG = 1 << 16 };

static const struct sock_options plain = {.backlog = 4};
static const struct addr here = {.family = ADDR_V4, .ip = {127, 0, 0, 1}};

static void await(int fd, int wanted)
{
    struct ready r = {.fd = fd, .wanted = wanted};
    assert_int_equal(ready_wait(&r, 1, WAIT_MS), 1);
}

/* A TCP connection over the loopback address: who dialled, and who accepted. */
static void connect_pair(int fds[static 2])
{
    struct addr at;
    char byte;
    int door = sock_listen(&here, &plain);
    assert_true(door >= 0);
    assert_int_equal(sock_local(door, &at), 0);
    fds[0] = tcp_bind(&here);
    assert_true(fds[0] >= 0);
    assert_int_equal(tcp_connect(fds[0], &at, 0), 0);
    await(door, WATCH_READ);
    fds[1] = accept(door, NULL, NULL);
    assert_true(fds[1] >= 0);
    close(door);
    await(fds[0], WATCH_WRITE);
    assert_int_equal(sock_error(fds[0]), 0);
    assert_int_equal(sock_read(fds[0], &byte, 1), POSTERN_ERR_AGAIN);
    assert_int_equal(sock_read(fds[1], &byte, 1), POSTERN_ERR_AGAIN); /* of itself */
}

static void test_stream_tells_bytes_nothing_and_end(void **state)
{
    int fds[2];
    char buf[16];
    (void)state;
    assert_int_equal(sock_pair(fds), 0);
    assert_int_equal(sock_read(fds[0], buf, sizeof(buf)), POSTERN_ERR_AGAIN);
    struct iovec two[2] = {{"ab", 2}, {"cde", 3}};
    assert_int_equal(sock_writev(fds[1], two, 2), 5);
    assert_int_equal(sock_peek(fds[0], buf, sizeof(buf)), 5);
    assert_int_equal(sock_unsent(fds[1]) > 0, 1);
    char first[2], rest[8];
    struct iovec into[2] = {{first, 2}, {rest, sizeof(rest)}};
    assert_int_equal(sock_readv(fds[0], into, 2), 5);
    assert_memory_equal(first, "ab", 2);
    assert_memory_equal(rest, "cde", 3);
    assert_int_equal(sock_unsent(fds[1]), 0);
    assert_true(sock_say(fds[1], "x", 1));
    sock_end_writing(fds[1]);
    assert_int_equal(sock_read(fds[0], buf, sizeof(buf)), 1);
    assert_int_equal(sock_read(fds[0], buf, sizeof(buf)), 0);
    assert_false(sock_is_over(fds[0]));
    sock_end(fds[1]);
    assert_true(sock_is_over(fds[0]));
    assert_int_equal(sock_write(fds[0], "y", 1), POSTERN_ERR_RESET); /* no SIGPIPE */
    close(fds[0]);
    close(fds[1]);
}

static void test_full_stream_says_so(void **state)
{
    static uint8_t big[BIG];
    int fds[2];
    ssize_t n;
    (void)state;
    assert_int_equal(sock_pair(fds), 0);
    do
        n = sock_write(fds[0], big, sizeof(big));
    while (n > 0);
    assert_int_equal(n, POSTERN_ERR_AGAIN);
    assert_false(sock_say(fds[0], big, 1));
    close(fds[1]);
    close(fds[0]);
}

static void test_break_is_no_end(void **state)
{
    int fds[2];
    char byte;
    (void)state;
    connect_pair(fds);
    linger_break(fds[1]);
    await(fds[0], WATCH_READ);
    assert_int_equal(sock_error(fds[0]), POSTERN_ERR_RESET);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(sock_error(fds[0]), 0); /* told once */
    assert_true(sock_is_over(fds[0]));
    assert_int_equal(sock_read(fds[0], &byte, 1), 0);
    close(fds[0]);
    connect_pair(fds);
    linger_break(fds[1]);
    await(fds[0], WATCH_READ);
    assert_int_equal(sock_read(fds[0], &byte, 1), POSTERN_ERR_RESET);
    close(fds[0]);
}

static void test_refused_connect_is_told(void **state)
{
    struct addr at;
    (void)state;
    int taken = tcp_bind(&here); /* a port that nobody listens on */
    assert_true(taken >= 0);
    assert_int_equal(sock_local(taken, &at), 0);
    int fd = tcp_bind(&here);
    int rc = tcp_connect(fd, &at, 0);
    if (rc == 0) {
        await(fd, WATCH_WRITE);
        rc = sock_error(fd);
    }
    assert_int_equal(rc, POSTERN_ERR_REFUSED);
    close(fd);
    close(taken);
}

/* Two neighbours: who calls first is reset, and waits; who calls next meets that. */
static void test_callers_meet(void **state)
{
    struct addr at[2];
    int fds[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        fds[i] = tcp_bind(&here);
        assert_true(fds[i] >= 0);
        assert_int_equal(sock_local(fds[i], &at[i]), 0);
        tcp_hear_callers(fds[i], ADDR_V4);
    }
    assert_int_equal(tcp_connect(fds[0], &at[1], 0), 0);
    assert_int_equal(sock_error(fds[0]), 0); /* the reset of loopback has come */
    assert_int_equal(tcp_connect(fds[1], &at[0], 0), 0);
    for (int i = 0; i < 2; i++) {
        await(fds[i], WATCH_WRITE);
        assert_int_equal(sock_error(fds[i]), 0);
        tcp_hear_all(fds[i], ADDR_V4);
    }
    assert_true(tcp_has_crossed(fds[0]));
    assert_false(tcp_has_crossed(fds[1]));
    linger_break(fds[0]);
    await(fds[1], WATCH_READ);
    assert_int_equal(sock_read(fds[1], &(char){0}, 1), POSTERN_ERR_RESET);
    close(fds[1]);
}

/* Who listens there for others, and closes at once, has not called. */
static void test_accepted_is_not_crossed(void **state)
{
    int fds[2];
    (void)state;
    connect_pair(fds);
    assert_false(tcp_has_crossed(fds[0]));
    close(fds[1]);
    await(fds[0], WATCH_READ);
    assert_false(tcp_has_crossed(fds[0]));
    close(fds[0]);
}

static void test_taken_port_leaves_the_kernels_word(void **state)
{
    struct addr at, foreign = {.family = ADDR_V4, .ip = {192, 0, 2, 7}};
    (void)state;
    int fd = sock_listen(&here, &plain);
    assert_true(fd >= 0);
    assert_int_equal(sock_local(fd, &at), 0);
    assert_int_not_equal(at.port, 0);
    assert_int_equal(sock_listen(&at, &plain), POSTERN_ERR_INUSE);
    assert_int_equal(errno, EADDRINUSE);
    close(fd);
    fd = sock_listen(&at, &plain); /* free again at once */
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(sock_udp(&foreign, &plain), POSTERN_ERR_UNREACHABLE);
    assert_int_equal(errno, EADDRNOTAVAIL);
}

static void test_shared_port_has_two(void **state)
{
    static const struct sock_options shared = {.shared = true};
    struct addr at;
    (void)state;
    int one = sock_udp(&here, &shared);
    assert_int_equal(sock_local(one, &at), 0);
    int two = sock_udp(&at, &shared);
    assert_true(two >= 0);
    assert_int_equal(sock_udp(&at, &plain), POSTERN_ERR_INUSE);
    close(one);
    close(two);
}

static void test_dual_stack_is_asked_for(void **state)
{
    static const struct sock_options both = {.dual = true, .backlog = 1};
    struct addr at, any = {.family = ADDR_V6}, v4 = {.family = ADDR_V4};
    (void)state;
    int fd = sock_listen(&any, &both);
    if (fd == POSTERN_ERR_UNREACHABLE)
        skip(); /* no IPv6 here */
    assert_int_equal(sock_local(fd, &at), 0);
    v4.port = at.port;
    assert_int_equal(sock_listen(&v4, &plain), POSTERN_ERR_INUSE);
    close(fd);
    fd = sock_listen(&at, &plain);
    int other = sock_listen(&v4, &plain);
    assert_true(fd >= 0 && other >= 0);
    close(fd);
    close(other);
}

static void test_packets_and_their_senders(void **state)
{
    struct addr a, b, from;
    char buf[8];
    (void)state;
    int x = sock_udp(&here, &plain), y = sock_udp(&here, &plain);
    assert_int_equal(sock_local(x, &a), 0);
    assert_int_equal(sock_local(y, &b), 0);
    assert_int_equal(sock_recv_from(y, buf, sizeof(buf), &from), POSTERN_ERR_AGAIN);
    assert_int_equal(sock_send_to(x, "hello", 5, &b), 0);
    assert_int_equal(sock_recv_from(y, buf, sizeof(buf), &from), 5);
    assert_true(addr_equal(&from, &a));
    struct iovec two[2] = {{"12", 2}, {"3456789", 7}};
    assert_int_equal(sock_sendv_to(x, two, 2, &b), 0);
    assert_int_equal(sock_recv_from(y, buf, sizeof(buf), &from), 8); /* cut off */
    assert_memory_equal(buf, "12345678", 8);
    struct addr none = {0};
    assert_int_equal(sock_send_to(x, "hello", 5, &none), POSTERN_ERR_INVALID);
    close(x);
    close(y);
}

static void test_connected_udp_tells_what_came_of_it(void **state)
{
    struct addr b, from, own;
    char buf[8];
    (void)state;
    int y = sock_udp(&here, &plain);
    assert_int_equal(sock_local(y, &b), 0);
    int x = sock_udp_to(&b);
    assert_true(x >= 0);
    assert_int_equal(sock_write(x, "", 0), 0);
    assert_int_equal(sock_recv_from(y, buf, sizeof(buf), &from), 0);
    assert_int_equal(sock_local(x, &own), 0);
    assert_true(addr_equal(&from, &own));
    close(y);
    assert_int_equal(sock_write(x, "a", 1), 1);
    await(x, WATCH_READ);
    assert_int_equal(sock_write(x, "a", 1), POSTERN_ERR_REFUSED);
    close(x);
}

static void test_packets_address_pair(void **state)
{
    static const struct sock_options told = {.tells_own = true};
    struct addr bound = {.family = ADDR_V4}, a, from, local;
    struct addr second = {.family = ADDR_V4, .ip = {127, 0, 0, 9}};
    char buf[4];
    (void)state;
    int s = sock_udp(&bound, &told), c = sock_udp(&here, &plain);
    assert_int_equal(sock_local(s, &bound), 0);
    assert_int_equal(sock_local(c, &a), 0);
    second.port = bound.port;
    assert_int_equal(pktinfo_recv(s, &bound, buf, sizeof(buf), &from, &local),
                     POSTERN_ERR_AGAIN);
    assert_int_equal(sock_send_to(c, "abc", 3, &second), 0);
    assert_int_equal(pktinfo_recv(s, &bound, buf, sizeof(buf), &from, &local), 3);
    assert_true(addr_equal(&from, &a));
    assert_true(addr_equal(&local, &second));
    pktinfo_send(s, &bound, "de", 2, &from, &local);
    assert_int_equal(sock_recv_from(c, buf, sizeof(buf), &from), 2);
    assert_true(addr_equal(&from, &second)); /* from where it was asked */
    assert_int_equal(sock_send_to(c, "too long", 8, &second), 0);
    assert_true(pktinfo_recv(s, &bound, buf, sizeof(buf), &from, &local) >= 0);
    assert_int_equal(from.family, ADDR_NONE);
    close(s);
    close(c);
}

static void test_source_is_what_the_routes_say(void **state)
{
    struct addr to = here, from, none = {0};
    (void)state;
    to.port = 9;
    assert_int_equal(sock_source_for(&to, &from), 0);
    assert_true(addr_ip_equal(&from, &here));
    assert_int_equal(from.port, 0);
    assert_true(sock_source_for(&none, &from) < 0);
    assert_int_equal(from.family, ADDR_NONE);
}

static void test_tcp_tells_facts(void **state)
{
    struct tcp_facts f;
    int fds[2];
    (void)state;
    connect_pair(fds);
    tcp_no_delay(fds[0]);
    tcp_keep_alive_every(fds[0], 60, 15, 4);
    tcp_unsent_max(fds[0], BIG);
    tcp_give_up_after(fds[0], WAIT_MS);
    assert_int_equal(tcp_read_facts(fds[0], &f), 0);
    assert_true(f.rtt_us > 0);
    assert_int_equal(f.retransmits, 0);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(sock_pair(fds), 0);
    tcp_no_delay(fds[0]);
    assert_int_equal(tcp_read_facts(fds[0], &f), POSTERN_ERR_IO);
    assert_int_equal(f.rtt_us, 0);
    close(fds[0]);
    close(fds[1]);
}

static void test_one_map_of_errors(void **state)
{
    (void)state;
    assert_int_equal(oserr(EAGAIN), POSTERN_ERR_AGAIN);
    assert_int_equal(oserr(EINPROGRESS), POSTERN_ERR_AGAIN);
    assert_int_equal(oserr(EPIPE), POSTERN_ERR_RESET);
    assert_int_equal(oserr(ETIMEDOUT), POSTERN_ERR_TIMEOUT);
    assert_int_equal(oserr(EHOSTUNREACH), POSTERN_ERR_UNREACHABLE);
    assert_int_equal(oserr(EPERM), POSTERN_ERR_PERM);
    assert_int_equal(oserr(EMFILE), POSTERN_ERR_LIMIT);
    assert_int_equal(oserr(EBADF), POSTERN_ERR_IO);
    assert_int_equal(oserr(0), POSTERN_ERR_IO);
}

static void test_flag_stays_raised(void **state)
{
    (void)state;
    int flag = ready_flag_open();
    struct ready r[2] = {{.fd = -1, .wanted = WATCH_READ},
                         {.fd = flag, .wanted = WATCH_READ}};
    assert_int_equal(ready_wait(r, 2, 0), 0);
    ready_flag_raise(flag);
    assert_int_equal(ready_wait(r, 2, WAIT_MS), 1);
    assert_int_equal(r[0].is, 0);
    assert_int_equal(r[1].is, WATCH_READ);
    assert_int_equal(ready_wait(r, 2, 0), 1);
    close(flag);
}

static void test_end_shows_to_who_wants_nothing(void **state)
{
    int fds[2];
    (void)state;
    assert_int_equal(sock_pair(fds), 0);
    struct ready r = {.fd = fds[0]};
    assert_int_equal(ready_wait(&r, 1, 0), 0);
    close(fds[1]);
    assert_int_equal(ready_wait(&r, 1, WAIT_MS), 1);
    assert_int_equal(r.is, WATCH_END);
    close(fds[0]);
}

static void test_descriptors_are_counted(void **state)
{
    int fds[2];
    (void)state;
    long before = descriptors_taken();
    assert_true(before > 2);
    assert_true(descriptors_max() > (size_t)before);
    assert_int_equal(sock_pair(fds), 0);
    assert_int_equal(descriptors_taken(), before + 2);
    close(fds[0]);
    close(fds[1]);
}

/* What came to each of two sockets, and how many rounds it took. */
struct seen {
    int edges[2];
    int rounds;
};

static struct seen seen;

static void on_edge(void *ctx, void *item, int edges)
{
    assert_ptr_equal(ctx, &seen);
    *(int *)item |= edges;
}

static void on_round(void *ctx)
{
    ((struct seen *)ctx)->rounds++;
}

static void test_edges_in_bulk(void **state)
{
    struct loop *loop;
    struct edges *e;
    int fds[2];
    (void)state;
    assert_int_equal(loop_open(&loop), 0);
    struct edges_bulk b = {
        .loop = loop, .on_edge = on_edge, .on_round = on_round, .ctx = &seen};
    assert_int_equal(edges_open_bulk(&e, &b), 0);
    assert_int_equal(sock_pair(fds), 0);
    assert_int_equal(edges_add_both(e, fds[0], &seen.edges[0]), 0);
    assert_int_equal(edges_add_both(e, fds[1], &seen.edges[1]), 0);
    loop_turn(loop);
    assert_int_equal(seen.rounds, 1); /* both at once, and once */
    assert_int_equal(seen.edges[0], EDGE_WRITE);
    assert_int_equal(seen.edges[1], EDGE_WRITE);
    loop_poll(loop);
    assert_int_equal(seen.rounds, 1);
    assert_true(sock_say(fds[0], "x", 1));
    loop_turn(loop);
    assert_true((seen.edges[1] & EDGE_READ) != 0);
    assert_true((seen.edges[0] & EDGE_READ) == 0);
    close(fds[0]); /* closing removes it */
    edges_remove(e, fds[1]);
    close(fds[1]);
    edges_close(e);
    loop_close(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_tells_bytes_nothing_and_end),
        cmocka_unit_test(test_full_stream_says_so),
        cmocka_unit_test(test_break_is_no_end),
        cmocka_unit_test(test_refused_connect_is_told),
        cmocka_unit_test(test_callers_meet),
        cmocka_unit_test(test_accepted_is_not_crossed),
        cmocka_unit_test(test_taken_port_leaves_the_kernels_word),
        cmocka_unit_test(test_shared_port_has_two),
        cmocka_unit_test(test_dual_stack_is_asked_for),
        cmocka_unit_test(test_packets_and_their_senders),
        cmocka_unit_test(test_connected_udp_tells_what_came_of_it),
        cmocka_unit_test(test_packets_address_pair),
        cmocka_unit_test(test_source_is_what_the_routes_say),
        cmocka_unit_test(test_tcp_tells_facts),
        cmocka_unit_test(test_one_map_of_errors),
        cmocka_unit_test(test_flag_stays_raised),
        cmocka_unit_test(test_end_shows_to_who_wants_nothing),
        cmocka_unit_test(test_descriptors_are_counted),
        cmocka_unit_test(test_edges_in_bulk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Asking a router for a port where there is none: nothing is left behind. */
#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <net/route.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/gateway.h"
#include "io/loop.h"
#include "io/work.h"

static unsigned descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

/* A state: there is a network of this program's own, which cannot be had everywhere. */
static int isolate(void **state)
{
    static bool alone;
    alone = unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
    *state = alone ? &alone : NULL;
    return 0;
}

static void test_no_gateway_no_descriptor(void **state)
{
    struct gateway_mapping m = {.port = 4000};
    if (*state == NULL)
        skip();
    unsigned before = descriptors();
    for (int i = 0; i < 3; i++) {
        m.reason[0] = '\0';
        gateway_map(&m);
        assert_int_equal(m.by, GATEWAY_NONE);
    }
    assert_int_equal(descriptors(), before);
}

static struct sockaddr address(const char *text)
{
    struct sockaddr out = {0};
    struct sockaddr_in in = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
    memcpy(&out, &in, sizeof(in));
    return out;
}

/* A default route to one who is asked and says nothing: a socket of ours, on PCP_PORT.
 */
static int make_silent_gateway(void)
{
    struct ifreq i = {.ifr_name = "lo"};
    struct rtentry r = {.rt_dst = address("0.0.0.0"),
                        .rt_gateway = address("10.0.0.2"),
                        .rt_genmask = address("0.0.0.0"),
                        .rt_flags = RTF_UP | RTF_GATEWAY,
                        .rt_dev = i.ifr_name};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_true(fd >= 0);
    i.ifr_addr = address("10.0.0.1");
    assert_int_equal(ioctl(fd, SIOCSIFADDR, &i), 0);
    i.ifr_addr = address("255.255.255.0");
    assert_int_equal(ioctl(fd, SIOCSIFNETMASK, &i), 0);
    i.ifr_flags = IFF_UP;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &i), 0);
    assert_int_equal(ioctl(fd, SIOCADDRT, &r), 0);
    struct sockaddr at = address("10.0.0.2"); /* lo's whole network is this machine */
    ((struct sockaddr_in *)(void *)&at)->sin_port = htons(PCP_PORT);
    assert_int_equal(bind(fd, &at, sizeof(at)), 0);
    return fd;
}

static void *tire(void *arg)
{
    struct gateway_mapping *m = arg;
    (void)usleep(100000);
    m->unwanted = true;
    return NULL;
}

/* Who asks a router that says nothing stops when nobody wants the answer any more. */
static void test_unwanted_asks_no_more(void **state)
{
    struct gateway_mapping m = {.port = 4000};
    pthread_t t;
    if (*state == NULL)
        skip();
    int silent = make_silent_gateway();
    assert_int_equal(pthread_create(&t, NULL, tire, &m), 0);
    uint64_t before_us = clock_us();
    gateway_map(&m);
    uint64_t took_us = clock_us() - before_us;
    (void)pthread_join(t, NULL);
    (void)close(silent);
    assert_int_equal(m.by, GATEWAY_NONE);
    assert_in_range(took_us, 100000, 600000); /* all of it: 1.5 s and more */
}

static void hang(void *ctx)
{
    char c;
    (void)!read(*(int *)ctx, &c, 1);
}

/* What a thread does holds up an end for so long, and no longer. */
static void test_end_is_bounded(void **state)
{
    int ends[2];
    struct loop *l;
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(loop_open(&l), 0);
    assert_true(loop_finish(l, 50));
    assert_int_equal(work_start(l, hang, NULL, &ends[0]), 0);
    assert_false(loop_finish(l, 50));
    assert_true(work_is_left());
    loop_close(l);
    assert_int_equal(write(ends[1], "", 1), 1);
    while (work_is_left())
        (void)usleep(1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_gateway_no_descriptor),
        cmocka_unit_test(test_unwanted_asks_no_more),
        cmocka_unit_test(test_end_is_bounded), /* last: it begins threads */
    };
    return cmocka_run_group_tests(tests, isolate, NULL);
}

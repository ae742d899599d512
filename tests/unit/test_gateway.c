/* Asking a router for a port where there is none: nothing is left behind. */
#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/gateway.h"

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

static void test_no_gateway_no_descriptor(void **state)
{
    struct gateway_mapping m = {.port = 4000};
    (void)state;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        skip(); /* no network of its own can be had here */
    unsigned before = descriptors();
    for (int i = 0; i < 3; i++) {
        m.reason[0] = '\0';
        gateway_map(&m);
        assert_int_equal(m.by, GATEWAY_NONE);
    }
    assert_int_equal(descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_gateway_no_descriptor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

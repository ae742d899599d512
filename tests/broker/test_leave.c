/* What those who came once and left leave behind in the broker's memory. */
#include "rig.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/clock.h"

/* Pieces of the last 127 who left, of both ends, which are in this process. */
enum { AT_ONCE = 500, LEFT_KB = 127 * 80 + AT_ONCE };

static struct rig rig;

static int teardown(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static long resident_kb(void)
{
    long all = 0, resident = 0;
    FILE *in = fopen("/proc/self/statm", "r");
    assert_non_null(in);
    assert_int_equal(fscanf(in, "%ld %ld", &all, &resident), 2);
    fclose(in);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void leave(void)
{
    while (rig.device_count > 0) {
        struct device *d = rig.devices[--rig.device_count];
        device_close(d);
        free(d);
    }
}

/* Until the broker has noticed that all are gone and given back what it took. */
static long settled_kb(long wanted)
{
    uint64_t end = clock_ns() + 20000000000ull;
    while (resident_kb() > wanted && clock_ns() < end)
        (void)usleep(50000);
    return resident_kb();
}

static void test_who_left_leaves_little(void **state)
{
    (void)state;
    (void)mallopt(M_MMAP_THRESHOLD, 65536); /* the rig's devices leave no pieces */
    rig_open(&rig, &(struct broker_config){.threads = 1, .no_address_limits = true});
    (void)rig_join(&rig, true);
    leave();
    long before = resident_kb();
    for (int i = 0; i < AT_ONCE; i++)
        (void)rig_join(&rig, i % 2 == 0);
    (void)sleep(2); /* sweeps: what they needed to come is given back while they stay */
    leave();
    long left = settled_kb(before + LEFT_KB) - before;
    print_message("%d came and left: %ld kB stayed\n", AT_ONCE, left);
    assert_true(left <= LEFT_KB);
}

int main(void)
{
#if defined(__SANITIZE_ADDRESS__)
    print_message("skipped: the address sanitizer keeps what is freed\n");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_who_left_leaves_little, teardown),
    };
    return cmocka_run_group_tests_name("broker leave", tests, NULL, NULL);
}

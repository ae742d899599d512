/* The standing paths of a session after a cut: what waited for its end measures
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/paths.h"

#define MS 1000ull
#define S 1000000ull

/* A connection that answers all it was asked as soon as a cut is over, and for a while;
 * then it is dead, and another comes that answers. */
struct after_a_cut {
    struct paths p;
    struct paths_action asked[256];
    uint64_t at_us[256]; /* when; 0: answered */
    unsigned asked_count;
};

#define CUT_US (8 * S)

static void answer_after_a_cut(struct after_a_cut *c, uint64_t now_us)
{
    bool lives = now_us >= CUT_US && now_us < CUT_US + S;
    for (unsigned i = 0; i < c->asked_count; i++) {
        struct paths_action *a = &c->asked[i];
        if (c->at_us[i] == 0 || now_us < c->at_us[i] + 50 * MS ||
            !(a->id == 3 || (a->id == 2 && lives)))
            continue;
        c->at_us[i] = 0;
        a->probe.flags = PROBE_RESPONSE;
        (void)paths_on_response(&c->p, a->id, &a->probe, now_us);
        return; /* one after the other */
    }
}

static void test_left_by_its_latest_answers(void **state)
{
    struct after_a_cut c = {0};
    struct paths_action a;
    uint64_t now_us = MS, left_us = 0;
    (void)state;
    paths_init(&c.p, true, now_us);
    for (uint32_t id = 1; id <= 2; id++)
        assert_int_equal(paths_add(&c.p, id, true, now_us), 0);
    paths_on_rtt(&c.p, 50 * MS, 10 * MS, now_us);
    paths_set_streams(&c.p, 1);
    paths_remove(&c.p, 1, now_us);
    for (; left_us == 0 && now_us < 60 * S; now_us += 10 * MS) {
        paths_on_sent(&c.p, false, now_us); /* nothing is ever acknowledged */
        answer_after_a_cut(&c, now_us);
        if (now_us > CUT_US + S)
            assert_int_equal(paths_add(&c.p, 3, true, now_us), 0);
        while (paths_next(&c.p, now_us, &a)) {
            if (a.type == PATHS_SEND) {
                assert_true(c.asked_count < 256);
                c.at_us[c.asked_count] = now_us;
                c.asked[c.asked_count++] = a;
            } else if (a.type == PATHS_MOVE) {
                assert_int_equal(a.id, left_us == 0 && now_us < CUT_US + S ? 2 : 3);
                left_us = a.id == 3 ? now_us : 0;
            }
        }
    }
    print_message("left %.2f s after its end\n", (double)(left_us - CUT_US - S) / 1e6);
    assert_in_range(left_us, CUT_US + S, CUT_US + 3 * S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_left_by_its_latest_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

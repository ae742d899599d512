/*
 * Large datagrams in fragments: in any order, more than once, cut anew, lost, hostile;
 * and how old is what comes, by clocks that have nothing in common.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/age.h"
#include "core/fragments.h"
#include "core/rng.h"

enum { AT_ONCE = 6 };

static uint64_t rng = 1;

static size_t draw(size_t from, size_t to)
{
    return from + (size_t)rng_next(&rng) % (to - from + 1);
}

static void test_cells(void **state)
{
    uint64_t cells[CELL_WORDS_MAX] = {0};
    size_t len = 0;
    (void)state;
    assert_int_equal(cells_words(FRAGMENT_WHOLE_MAX), CELL_WORDS_MAX);
    assert_int_equal(cells_words(0), 0);
    cells_fill(cells, 1000);
    assert_int_equal(cells_first(cells, 1000, 500, &len), 0);
    assert_int_equal(len, 448);
    assert_int_equal(cells_set(cells, 0, 448, false), 7);
    assert_int_equal(cells_set(cells, 0, 448, false), 0);
    assert_int_equal(cells_first(cells, 1000, 5000, &len), 448);
    assert_int_equal(len, 552);
    (void)cells_set(cells, 448, 552, false);
    assert_int_equal(cells_first(cells, 1000, 5000, &len), 0);
    assert_int_equal(len, 0);
}

static void test_what_cannot_be_one(void **state)
{
    uint8_t buf[FRAGMENT_HEAD_LEN + 200] = {0};
    struct fragment f;
    (void)state;
    for (size_t n = 0; n <= FRAGMENT_HEAD_LEN; n++)
        assert_int_equal(fragment_get(&f, buf, n), POSTERN_ERR_PROTO);
    fragment_put(buf, 7, 128, 300);
    assert_int_equal(fragment_get(&f, buf, FRAGMENT_HEAD_LEN + 172), 0);
    assert_int_equal(f.from, 128);
    assert_int_equal(f.len, 172);
    assert_int_equal(fragment_get(&f, buf, FRAGMENT_HEAD_LEN + 173), POSTERN_ERR_PROTO);
    assert_int_equal(fragment_get(&f, buf, FRAGMENT_HEAD_LEN + 128), 0);
    assert_int_equal(fragment_get(&f, buf, FRAGMENT_HEAD_LEN + 100), POSTERN_ERR_PROTO);
}

/* ------------------------------------------------------------ any order, any cutting
 */

struct sent {
    uint8_t data[FRAGMENT_WHOLE_MAX];
    uint64_t unsent[CELL_WORDS_MAX];
    size_t len;
    uint32_t number;
    bool came;
};

static void begin(struct sent *d, uint32_t number)
{
    d->number = number;
    d->came = false;
    d->len = draw(0, 3) == 0 ? draw(1, FRAGMENT_WHOLE_MAX) : draw(1, 4000);
    for (size_t i = 0; i < d->len; i++)
        d->data[i] = (uint8_t)rng_next(&rng);
    cells_fill(d->unsent, d->len);
}

static struct partial *take(struct partials *p, const struct sent *d, size_t from,
                            size_t len)
{
    uint8_t buf[FRAGMENT_HEAD_LEN + FRAGMENT_WHOLE_MAX];
    struct fragment f;
    fragment_put(buf, d->number, from, d->len);
    memcpy(buf + FRAGMENT_HEAD_LEN, d->data + from, len);
    assert_int_equal(fragment_get(&f, buf, FRAGMENT_HEAD_LEN + len), 0);
    return partials_take(p, 4, &f, 1000);
}

/* One fragment of it, maybe with a part that was said before. */
static void say(struct partials *p, struct sent *d)
{
    size_t len = 0;
    size_t from = cells_first(d->unsent, d->len, draw(64, 9000), &len);
    if (len > 0 && from > 0 && draw(0, 4) == 0) {
        size_t back = draw(1, from / FRAGMENT_CELL) * FRAGMENT_CELL;
        from -= back;
        len += back;
    }
    if (len == 0) /* all was: again */
        len = d->len;
    (void)cells_set(d->unsent, from, len, false);
    struct partial *q = take(p, d, from, len);
    if (q == NULL)
        return;
    assert_false(d->came);
    assert_int_equal(q->len, d->len);
    assert_memory_equal(q->data, d->data, d->len);
    d->came = true;
    free(q);
}

static void test_any_order(void **state)
{
    static struct sent all[AT_ONCE];
    struct partials p;
    size_t bytes = 0;
    (void)state;
    partials_init(&p, &bytes);
    uint32_t number = UINT32_MAX - 200; /* wraps around */
    for (int i = 0; i < AT_ONCE; i++)
        begin(&all[i], number++);
    for (int i = 0; i < 20000; i++) {
        struct sent *d = &all[draw(0, AT_ONCE - 1)];
        size_t left = 0;
        say(&p, d);
        (void)cells_first(d->unsent, d->len, d->len, &left);
        assert_true(left > 0 || d->came);
        if (d->came && draw(0, 3) == 0)
            begin(d, number++);
        assert_true(bytes == p.bytes && bytes <= AT_ONCE * FRAGMENT_WHOLE_MAX);
    }
    assert_int_equal(p.given_up, 0);
    partials_fini(&p);
    assert_int_equal(bytes, 0);
}

static void test_bounds(void **state)
{
    static struct sent d = {.len = FRAGMENT_WHOLE_MAX};
    struct partials p, q;
    size_t bytes = 0;
    (void)state;
    partials_init(&p, &bytes);
    partials_init(&q, &bytes);
    for (d.number = 1; d.number < 1000; d.number++) {
        assert_null(take(&p, &d, 0, FRAGMENT_CELL));
        assert_true(p.bytes <= PARTIALS_BYTES_MAX && p.count <= PARTIALS_MAX);
    }
    assert_true(p.bytes > PARTIALS_BYTES_MAX / 2);
    d.len = 100;
    for (; d.number < 3000; d.number++) {
        assert_null(take(&p, &d, 0, FRAGMENT_CELL));
        assert_true(p.count <= PARTIALS_MAX);
    }
    bytes += 2 * PARTIALS_ALL_MAX; /* others hold them */
    assert_null(take(&q, &d, 0, FRAGMENT_CELL));
    assert_int_equal(q.count, 0);
    bytes -= PARTIALS_ALL_MAX;
    d.len = 60000;
    assert_null(take(&q, &d, 0, FRAGMENT_CELL));
    assert_int_equal(q.count, 1);
    d.number++;
    assert_null(take(&q, &d, 0, FRAGMENT_CELL));
    assert_int_equal(q.count, 1);
    partials_expire(&q, partials_deadline_ms(&q) - 1);
    assert_int_equal(q.count, 1);
    partials_expire(&q, partials_deadline_ms(&q));
    assert_int_equal(q.count, 0);
    partials_fini(&p);
    partials_fini(&q);
    assert_int_equal(bytes, PARTIALS_ALL_MAX);
}

/* ------------------------------------------------------------------------------ age */

/* `ours` and `theirs` wrap around in the middle of it. */
static void test_age(void **state)
{
    const uint32_t theirs[] = {0, 5000, UINT32_MAX - 3000, 1u << 31};
    (void)state;
    for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++) {
        struct age a = {0};
        uint64_t now = (1ull << 32) - 2000;
        uint32_t sent = theirs[i];
        for (int n = 0; n < 500; n++, now += 10, sent += 10)
            assert_false(age_is_old(&a, sent, now + draw(20, 900)));
        now += 6000; /* all that was sent meanwhile comes at once */
        for (int n = 0; n < 600; n++, sent += 10)
            assert_int_equal(age_is_old(&a, sent, now + 20), n < 500);
        assert_false(age_is_old(&a, sent, now + 20));
    }
}

/* A way that takes two seconds from now on, or a clock that was set: not for ever. */
static void test_age_of_another_way(void **state)
{
    struct age a = {0};
    unsigned old = 0, young = 0, late_old = 0;
    (void)state;
    for (uint64_t now = 100000; now < 160000; now += 10) {
        uint64_t takes = now < 110000 ? 20 : 2020;
        bool is_old = age_is_old(&a, (uint32_t)(now - takes), now);
        old += is_old;
        young += !is_old && now > 110000 && now < 120000;
        late_old += is_old && now >= 110000 + 2 * AGE_TURN_MS + 100;
    }
    assert_true(old > 500);
    assert_in_range(young, 5, 12);
    assert_int_equal(late_old, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells),     cmocka_unit_test(test_what_cannot_be_one),
        cmocka_unit_test(test_any_order), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_age),       cmocka_unit_test(test_age_of_another_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

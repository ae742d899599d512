/*
 * Early copies: the packet, what of a copy is new in any order of copies and QUIC's own
 * bytes, and when one leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "core/copies.h"
#include "core/rng.h"

enum { CASES = 200000, LONGEST = 3000, WAITING = 64 };

static const uint8_t key[COPY_KEY_LEN] = {1, 2, 3}, other[COPY_KEY_LEN] = {1, 2, 4};

/* ------------------------------------------------------------------------ the packet
 */

static void test_packet(void **state)
{
    struct copy c = {.stream = 4, .offset = 70000}, d;
    uint8_t buf[COPY_LEN_MAX + 1];
    uint32_t number = 0;
    (void)state;
    for (c.len = 1; c.len <= COPY_DATA_MAX; c.len += 37) {
        randombytes_buf(c.data, c.len);
        size_t len = copy_seal(&c, key, (uint32_t)c.len, buf);
        assert_int_equal(len, COPY_LEN_MIN - 1 + c.len);
        assert_int_equal(copy_open(&d, &number, key, buf, len), 0);
        assert_int_equal(number, c.len);
        assert_true(d.stream == c.stream && d.offset == c.offset && d.len == c.len);
        assert_memory_equal(d.data, c.data, c.len);
        assert_int_not_equal(copy_open(&d, &number, other, buf, len), 0);
        assert_int_not_equal(copy_open(&d, &number, key, buf, len - 1), 0);
        assert_int_not_equal(copy_open(&d, &number, key, buf, len + 1), 0);
        for (size_t bit = 0; bit < 8 * len; bit++) {
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(copy_open(&d, &number, key, buf, len), 0);
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void test_packet_bounds(void **state)
{
    struct copy c = {.stream = 4, .offset = 1ull << 62, .len = 1}, d = {.len = 77};
    uint8_t buf[COPY_LEN_MAX];
    uint32_t number = 99;
    (void)state;
    size_t len = copy_seal(&c, key, 1, buf);
    assert_int_not_equal(copy_open(&d, &number, key, buf, len), 0);
    c.offset = 0;
    c.stream = UINT64_MAX;
    len = copy_seal(&c, key, 1, buf);
    assert_int_not_equal(copy_open(&d, &number, key, buf, len), 0);
    c.stream = 8;
    len = copy_seal(&c, key, 0, buf); /* no number */
    assert_int_not_equal(copy_open(&d, &number, key, buf, len), 0);
    c.len = 0;
    len = copy_seal(&c, key, 1, buf);
    assert_int_not_equal(copy_open(&d, &number, key, buf, len), 0);
    assert_int_equal(d.len, 77);
    assert_int_equal(number, 99);
}

/* --------------------------------------------------- both ends, and a network between
 */

struct on_way {
    uint64_t offset;
    size_t len;
};

/* One stream: what was written, carried, acknowledged, and what its reader has seen. */
struct play {
    uint64_t rng;
    uint8_t said[LONGEST], seen[2 * LONGEST];
    size_t total, written, carried, acked, heard;
    bool fin, reset, stopped;
    unsigned fins, early; /* told; bytes that came by a copy first */
    struct copies_in in;
    struct on_way way[WAITING]; /* copies under way, in no order */
    unsigned ways;
};

static size_t draw(struct play *p, size_t below)
{
    return (size_t)(rng_next(&p->rng) % below);
}

static void hear(struct play *p, uint64_t offset, size_t len)
{
    assert_false(p->fin || p->stopped || p->reset);
    assert_int_equal(offset, p->heard); /* no gap, and nothing twice */
    assert_true(len <= p->written - p->heard);
    memcpy(p->seen + p->heard, p->said + offset, len);
    p->heard += len;
}

static void quic(struct play *p)
{
    size_t most = p->written - p->carried;
    size_t len = most > 0 ? draw(p, most + 1) : 0;
    bool fin = p->written == p->total && p->carried + len == p->total && draw(p, 2);
    if (p->fin || p->reset || p->stopped)
        return;
    size_t known = copies_on_quic(&p->in, p->carried, len, fin);
    assert_true(known <= len);
    if (known < len)
        hear(p, p->carried + known, len - known);
    p->carried += len;
    assert_true(p->heard >= p->carried);
    if (fin) {
        assert_int_equal(p->heard, p->total);
        p->fin = true;
        p->fins++;
    }
}

static void arrive(struct play *p, uint64_t offset, size_t len)
{
    size_t known = copies_on_copy(&p->in, offset, len);
    assert_true(known <= len);
    if (known == len)
        return;
    p->early += (unsigned)(len - known);
    hear(p, offset + known, len - known);
    assert_true(p->heard - p->carried <= COPY_AHEAD_MAX);
}

/* It stays under way, to come again, more often than not. */
static void copy_arrives(struct play *p)
{
    if (p->ways == 0)
        return;
    unsigned i = (unsigned)draw(p, p->ways);
    struct on_way w = p->way[i];
    if (draw(p, 3) == 0)
        p->way[i] = p->way[--p->ways];
    if (draw(p, 4) > 0) /* else it is lost */
        arrive(p, w.offset, w.len);
}

static void copy_leaves(struct play *p)
{
    size_t waits = p->written - p->acked;
    if (waits == 0 || waits > COPY_DATA_MAX || p->ways == WAITING)
        return;
    p->way[p->ways++] = (struct on_way){p->acked, waits};
}

/* Of who has the key and does not do as we do. */
static void strange_copy(struct play *p)
{
    uint64_t offset = draw(p, 4) > 0 ? draw(p, p->written + 1) : rng_next(&p->rng) >> 2;
    size_t most = offset < p->written ? p->written - (size_t)offset : 0;
    if (most == 0 && copies_on_copy(&p->in, p->heard + 1 + draw(p, 9), 5) != 5)
        fail_msg("beyond a gap");
    if (most > 0)
        arrive(p, offset, 1 + draw(p, most < COPY_DATA_MAX ? most : COPY_DATA_MAX));
}

static void end_early(struct play *p)
{
    if (draw(p, 200) > 0 || p->fin)
        return;
    p->in.over = true; /* as a reset does, and who reads no more */
    p->reset = true;
}

static void step(struct play *p)
{
    size_t more = p->total - p->written;
    switch (draw(p, 8)) {
    case 0:
        p->written += more > 0 ? draw(p, more < 300 ? more + 1 : 300) : 0;
        break;
    case 1:
        quic(p);
        break;
    case 2:
        p->acked += draw(p, p->carried - p->acked + 1);
        break;
    case 3:
    case 4:
        copy_leaves(p);
        break;
    case 5:
    case 6:
        copy_arrives(p);
        break;
    default:
        if (draw(p, 3) == 0)
            strange_copy(p);
        else
            end_early(p);
    }
}

static void finish(struct play *p)
{
    p->written = p->total;
    for (unsigned i = 0; i < 10000 && !p->fin && !p->reset; i++)
        quic(p);
    while (p->ways > 0)
        copy_arrives(p); /* after the end */
    if (!p->reset) {
        assert_int_equal(p->fins, 1);
        assert_int_equal(p->heard, p->total);
    }
    assert_memory_equal(p->seen, p->said, p->heard);
}

static void test_each_byte_once_in_order(void **state)
{
    static struct play p;
    uint64_t early = 0, whole = 0;
    (void)state;
    for (unsigned n = 0; n < CASES; n++) {
        uint64_t seed = n * 2 + 1;
        p.rng = seed;
        uint64_t rng = p.rng;
        memset(&p, 0, sizeof(p));
        p.rng = rng;
        p.total = draw(&p, 3) > 0 ? draw(&p, 200) : draw(&p, LONGEST + 1);
        for (size_t i = 0; i < p.total; i++)
            p.said[i] = (uint8_t)rng_next(&p.rng);
        for (size_t i = 0, steps = 5 + draw(&p, 120); i < steps; i++)
            step(&p);
        finish(&p);
        early += p.early;
        whole += p.fins;
    }
    assert_true(early > CASES); /* or nothing was tried */
    assert_true(whole > CASES / 2);
}

static void test_not_too_far_ahead(void **state)
{
    struct copies_in in = {0};
    (void)state;
    for (uint64_t at = 0; at + 1000 <= COPY_AHEAD_MAX; at += 1000)
        assert_int_equal(copies_on_copy(&in, at, 1000), 0);
    assert_int_equal(copies_on_copy(&in, in.delivered, 1000), 1000);
    assert_int_equal(copies_on_quic(&in, 0, 500, false), 500);
    assert_int_equal(copies_on_copy(&in, in.delivered, 500), 0);
    assert_int_equal(copies_on_copy(&in, UINT64_MAX - 2, 5), 5);
}

/* ------------------------------------------------------------------------------ when
 */

static const uint64_t rtt = 400000;

static void test_when(void **state)
{
    struct copies_out o = {0};
    uint64_t now = 1000000;
    (void)state;
    assert_true(copies_due_us(&o, 5, 5, false, 0, rtt, now) == UINT64_MAX);
    assert_true(copies_due_us(&o, 0, COPY_DATA_MAX + 1, true, 0, rtt, now) ==
                UINT64_MAX);
    assert_int_equal(copies_due_us(&o, 5, 6, true, 0, rtt, now), now + rtt / 4);
    assert_int_equal(copies_due_us(&o, 5, 6, true, 0, rtt, now + 7), now + rtt / 4);
    assert_true(copies_due_us(&o, 5, 6, false, 0, rtt, now) > now + rtt);
    /* an acknowledgement: it gets on */
    assert_int_equal(copies_due_us(&o, 6, 8, true, 0, rtt, now + 9), now + 9 + rtt / 4);
    assert_int_equal(copies_due_us(&o, 6, 8, true, now - 2 * rtt, rtt, now + 9),
                     now - rtt / 2 + 25000);
    now += rtt;
    copies_on_sent(&o, 8, now);
    /* the same again after half a round trip, one, two, two */
    static const uint64_t halves[] = {1, 2, 4, 4};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t due = now + halves[i] * rtt / 2;
        assert_int_equal(copies_due_us(&o, 6, 8, true, 0, rtt, now), due);
        assert_int_equal(copies_due_us(&o, 6, 9, true, 0, rtt, now), now + rtt / 2);
        now = due;
        copies_on_sent(&o, 8, now);
    }
    copies_on_sent(&o, 9, now);
    assert_int_equal(copies_due_us(&o, 6, 9, true, 0, rtt, now), now + rtt / 2);
    copies_on_path(&o);
    assert_true(copies_due_us(&o, 6, 9, true, 0, rtt, now) <= now);
}

static void test_how_many(void **state)
{
    struct copies_pace p = {0};
    uint64_t now = 5000000, begin = now, bytes = 0;
    unsigned sent = 0;
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(copies_free_us(&p, 100, 0, rtt, now), now);
        copies_spend(&p, 100);
    }
    assert_int_equal(copies_free_us(&p, 100, 0, rtt, now), now + rtt);
    /* and never more bytes than a tenth of what the path carries */
    for (now += rtt; now < begin + 60 * 1000000; now += 1000)
        if (copies_free_us(&p, 1000, 40000, 1000, now) == now) {
            copies_spend(&p, 1000);
            bytes += 1000;
            sent++;
        }
    assert_in_range(bytes, 60 * 3500, 60 * 4000 + 4000);
    assert_true(sent > 0);
}

static void test_trouble(void **state)
{
    struct copies_pace p = {0};
    (void)state;
    assert_false(copies_in_trouble(&p, 0));
    copies_on_trouble(&p, 1000, 500);
    copies_on_trouble(&p, 10, 600);
    assert_true(copies_in_trouble(&p, 1499));
    assert_false(copies_in_trouble(&p, 1500));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packet),
        cmocka_unit_test(test_packet_bounds),
        cmocka_unit_test(test_each_byte_once_in_order),
        cmocka_unit_test(test_not_too_far_ahead),
        cmocka_unit_test(test_when),
        cmocka_unit_test(test_how_many),
        cmocka_unit_test(test_trouble),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}

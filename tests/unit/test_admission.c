/* Budgets that connecting again does not refill, fair shares of a host's ear, marks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "broker/admission.h"
#include "broker/lobby.h"
#include "broker/mark.h"
#include "broker/relay_shares.h"
#include "core/familiar.h"

static const uint8_t secret[KEYMAP_SECRET_LEN] = {1};
static const uint8_t host[KEY_LEN] = {2};

static struct addr ip(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text), 0);
    return a;
}

static void fresh_key(uint8_t key[static KEY_LEN])
{
    randombytes_buf(key, KEY_LEN);
}

static void test_ledger_forgets_the_longest_unused(void **state)
{
    struct ledger l;
    uint8_t keys[4][KEY_LEN];
    (void)state;
    assert_int_equal(ledger_init(&l, 3, sizeof(int), secret), 0);
    for (int i = 0; i < 3; i++) {
        fresh_key(keys[i]);
        *(int *)ledger_get(&l, keys[i]) = i + 1;
    }
    assert_non_null(ledger_find(&l, keys[0]));
    fresh_key(keys[3]);
    assert_int_equal(*(int *)ledger_get(&l, keys[3]), 0);
    assert_null(ledger_find(&l, keys[1]));
    assert_int_equal(*(int *)ledger_find(&l, keys[0]), 1);
    assert_int_equal(l.count, 3);
    ledger_fini(&l);
}

/* Whoever comes once and never again is forgotten; who comes now and then is not. */
static void test_budgets_are_forgotten_when_they_are_whole(void **state)
{
    uint8_t here[KEY_LEN] = {1}, key[KEY_LEN] = {2}, other[KEY_LEN] = {3};
    struct admission a = {0};
    uint64_t now = 1000;
    (void)state;
    assert_int_equal(admission_init(&a, secret), 0);
    for (int i = 0; i < 5000; i++) {
        memcpy(key + 1, &i, sizeof(i));
        assert_true(admission_message(&a, key, ADMISSION_HOST, now));
        assert_true(admission_pass(&a, key, false, now));
        assert_true(admission_tell_asked(&a, key, other, SAID_BULK, 1, now));
    }
    admission_accepted(&a, here, other, &(struct addr){0});
    while (admission_message(&a, here, ADMISSION_HOST, now))
        continue;
    size_t forgotten = 0;
    for (int i = 0; i < 8; i++) {
        forgotten += admission_sweep(&a, now);
        assert_true(admission_message(&a, here, ADMISSION_HOST, now += 100000));
    }
    assert_true(a.devices.count <= 2 && a.hosts.count <= 1 && a.told.count == 0);
    assert_true(forgotten >= 3 * 5000 - 3); /* whose memory is worth giving back */
    assert_true(admission_knows(&a, here, other)); /* this is no budget */
    admission_fini(&a);
}

static void test_a_key_has_one_budget(void **state)
{
    struct admission a;
    uint8_t key[KEY_LEN], other[KEY_LEN];
    unsigned got = 0;
    (void)state;
    fresh_key(key);
    fresh_key(other);
    assert_int_equal(admission_init(&a, secret), 0);
    while (admission_introduce(&a, key, 1000))
        got++;
    assert_int_equal(got, LIMIT_RATE_INTRODUCE.burst);
    assert_true(admission_introduce(&a, other, 1000));
    assert_false(admission_introduce(&a, key, 1001));
    assert_true(admission_introduce(&a, key, 1000 + 1000 / LIMIT_RATE_INTRODUCE.per_s));
    for (got = 0; admission_message(&a, key, ADMISSION_CLIENT, 1000);)
        got++;
    assert_int_equal(got, LIMIT_RATE_MESSAGES.burst);
    assert_true(admission_message(&a, key, ADMISSION_HOST, 1000)); /* another role */
    admission_fini(&a);
}

static void test_strangers_take_nothing_from_the_known(void **state)
{
    struct admission a;
    uint8_t known[KEY_LEN], other[KEY_LEN];
    struct addr home = ip("192.0.2.7");
    unsigned passed = 0;
    (void)state;
    fresh_key(known);
    fresh_key(other);
    assert_int_equal(admission_init(&a, secret), 0);
    admission_accepted(&a, host, known, &home);
    assert_true(admission_knows(&a, host, known));
    assert_false(admission_knows(&a, host, other));
    assert_false(admission_knows(&a, other, known));
    while (admission_pass(&a, host, false, 1000))
        passed++;
    assert_int_equal(passed, LIMIT_RATE_STRANGERS.burst);
    assert_true(admission_pass(&a, host, true, 1000));
    assert_true(admission_pass(&a, other, false, 1000)); /* another host */
    assert_true(
        admission_pass(&a, host, false, 1000 + 1000 / LIMIT_RATE_STRANGERS.per_s));
    admission_fini(&a);
}

/* Who shows a badge is known again, unless the host has said otherwise since. */
static void test_a_hosts_word_counts_for_more_than_a_badge(void **state)
{
    struct admission a;
    uint8_t client[KEY_LEN], stranger[KEY_LEN];
    struct addr home = ip("192.0.2.7");
    (void)state;
    fresh_key(client);
    fresh_key(stranger);
    assert_int_equal(admission_init(&a, secret), 0);
    admission_recall(&a, host, client);
    assert_true(admission_knows(&a, host, client));
    admission_disown(&a, host, client);
    admission_disown(&a, host, stranger);
    assert_int_equal(a.accepted.count, 1);
    admission_recall(&a, host, client);
    assert_false(admission_knows(&a, host, client));
    admission_accepted(&a, host, client, &home);
    assert_true(admission_knows(&a, host, client));
    admission_fini(&a);
}

/* One that waits, from there; its message is `n`. */
static struct lobby_guest *guest(const char *from, unsigned n, uint64_t now_ms)
{
    struct lobby_guest *g = lobby_guest_new((const uint8_t *)&n, sizeof(n));
    assert_non_null(g);
    g->from = ip(from);
    g->since_ms = now_ms;
    fresh_key(g->client);
    randombytes_buf(g->conv, sizeof(g->conv));
    return g;
}

/* Whose turn it is. */
static unsigned next_of(struct lobby *l, struct admission *a, uint64_t now_ms)
{
    unsigned n = 0;
    struct lobby_guest *g = lobby_leave(l, a, host, now_ms);
    if (g != NULL)
        memcpy(&n, g->message, sizeof(n));
    lobby_guest_free(g);
    return n;
}

/* Fresh keys at `addresses` addresses, some from each. */
static void crowd(struct lobby *l, const char *format, unsigned addresses,
                  uint64_t now_ms)
{
    char text[64];
    for (unsigned i = 0; i < 3 * addresses; i++) {
        unsigned at = i % addresses;
        (void)snprintf(text, sizeof(text), format, at / 250, 1 + at % 250);
        lobby_guest_free(lobby_enter(l, guest(text, 1, now_ms)));
    }
}

static void test_a_new_place_is_next(void **state)
{
    static const struct {
        const char *format;
        unsigned addresses;
    } crowds[] = {{"198.19.%u.%u", 1},
                  {"198.19.%u.%u", 200},
                  {"10.%u.%u.1", 2000},
                  {"2001:db8:7:%x%x::1", 2000}};
    (void)state;
    for (size_t c = 0; c < sizeof(crowds) / sizeof(crowds[0]); c++) {
        struct admission a;
        struct lobby l;
        uint64_t now = 1000;
        assert_int_equal(admission_init(&a, secret), 0);
        lobby_init(&l);
        for (; now < 21000; now += 10) { /* as many as may, for a while */
            if (now % 1000 == 0)
                crowd(&l, crowds[c].format, crowds[c].addresses, now);
            (void)next_of(&l, &a, now);
        }
        crowd(&l, crowds[c].format, crowds[c].addresses, now);
        lobby_guest_free(lobby_enter(&l, guest("192.0.2.7", 7, now)));
        for (int i = 0; i < 3; i++) /* he is not driven out */
            crowd(&l, crowds[c].format, crowds[c].addresses, now);
        assert_true(l.count <= LOBBY_MAX);
        if (crowds[c].addresses < 2000) /* else others are as new as he */
            assert_int_equal(next_of(&l, &a, now), 7);
        lobby_fini(&l);
        admission_fini(&a);
    }
}

/* A household joins: each comes through whom the host takes, also in a crowd. */
static void test_joiners_of_one_address(void **state)
{
    struct admission a;
    struct lobby l;
    uint64_t now = 1000;
    (void)state;
    assert_int_equal(admission_init(&a, secret), 0);
    lobby_init(&l);
    for (int i = 0; i < 10; i++, now += 200) {
        struct lobby_guest *g = guest("192.0.9.7", 7, now);
        uint8_t key[KEY_LEN];
        struct addr home = ip("192.0.9.7");
        memcpy(key, g->client, KEY_LEN);
        crowd(&l, "198.19.%u.%u", 200, now);
        (void)next_of(&l, &a, now);
        lobby_guest_free(lobby_enter(&l, g));
        assert_int_equal(next_of(&l, &a, now), 7);
        admission_accepted(&a, host, key, &home);
    }
    lobby_fini(&l);
    admission_fini(&a);
}

/* With an invite that he shows; all of one number come by the same. */
static struct lobby_guest *invited(const char *from, unsigned n, uint64_t now_ms)
{
    struct lobby_guest *g = guest(from, n, now_ms);
    g->invited = true;
    memset(g->pass, (int)n, sizeof(g->pass));
    return g;
}

/* Of a crowd at his own address, or everywhere, he is next; and nobody drives him out.
 */
static void test_an_invite_is_next(void **state)
{
    static const char *const formats[] = {"192.0.%u.%u", "10.%u.%u.1"};
    (void)state;
    for (size_t c = 0; c < 2; c++) {
        struct admission a;
        struct lobby l;
        uint64_t now = 1000;
        unsigned others = 0;
        assert_int_equal(admission_init(&a, secret), 0);
        lobby_init(&l);
        for (; now < 21000; now += 10) {
            if (now % 1000 == 0)
                crowd(&l, formats[c], c == 0 ? 1 : 2000, now);
            (void)next_of(&l, &a, now);
        }
        for (int i = 0; i < 5; i++, now += 1000) { /* one after the other */
            lobby_guest_free(lobby_enter(&l, invited("192.0.0.1", 7, now)));
            crowd(&l, formats[c], c == 0 ? 1 : 2000, now);
            l.rest_until_ms = now + 1200; /* the line's pause is put off for him */
            assert_int_equal(next_of(&l, &a, now), 7);
            l.rest_until_ms = 0;
            others += next_of(&l, &a, now) == 1; /* they have their turn, too */
        }
        assert_int_equal(others, 5);
        lobby_fini(&l);
        admission_fini(&a);
    }
}

/* Whoever tries one invite as often as he can delays nobody who comes by another. */
static void test_invites_take_turns(void **state)
{
    struct admission a;
    struct lobby l;
    char text[64];
    unsigned got = 0;
    (void)state;
    assert_int_equal(admission_init(&a, secret), 0);
    lobby_init(&l);
    lobby_guest_free(lobby_enter(&l, invited("192.0.2.7", 7, 1000)));
    lobby_guest_free(lobby_enter(&l, guest("192.0.2.9", 9, 1000)));
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof(text), "10.%u.%u.1", i / 250, i % 250);
        lobby_guest_free(lobby_enter(&l, invited(text, 8, 1000)));
    }
    assert_true(l.count <= LOBBY_MAX);
    for (uint64_t now = 1001; now < 1005; now++) {
        unsigned n = next_of(&l, &a, now);
        got |= n == 7 ? 1 : n == 9 ? 2 : 0;
    }
    assert_int_equal(got, 3);
    lobby_fini(&l);
    admission_fini(&a);
}

/* Above his address's share each key may show its invite now and then. */
static void test_a_key_shows_its_invite(void **state)
{
    struct admission a;
    uint8_t key[KEY_LEN];
    unsigned got = 0;
    (void)state;
    fresh_key(key);
    assert_int_equal(admission_init(&a, secret), 0);
    while (admission_show(&a, key, 1000))
        got++;
    assert_int_equal(got, LIMIT_RATE_SHOW.burst);
    assert_true(admission_show(&a, key, 1000 + 1000 / LIMIT_RATE_SHOW.per_s));
    admission_fini(&a);
}

/* Who asks again has one place, with his newest words. */
static void test_who_asks_again(void **state)
{
    struct admission a;
    struct lobby l;
    (void)state;
    assert_int_equal(admission_init(&a, secret), 0);
    lobby_init(&l);
    struct lobby_guest *first = guest("192.0.2.7", 1, 1000);
    struct lobby_guest *again = guest("192.0.2.7", 2, 1500);
    memcpy(again->client, first->client, KEY_LEN);
    memcpy(again->conv, first->conv, CONV_LEN);
    assert_null(lobby_enter(&l, first));
    assert_null(lobby_enter(&l, guest("192.0.2.7", 3, 1200)));
    assert_null(lobby_enter(&l, again));
    assert_int_equal(l.count, 2);
    assert_int_equal(next_of(&l, &a, 1600), 2);
    assert_int_equal(next_of(&l, &a, 1601 + LOBBY_PATIENCE_MS), 0); /* long gone */
    assert_int_equal(l.count, 0);
    lobby_fini(&l);
    admission_fini(&a);
}

/*
 * Ten seconds of a crowd from `addresses` places at a line that takes 32 KB a second,
 * or all at once, 20 ms away. Returns how long it was in use.
 */
static uint64_t crowded_us(struct lobby *l, bool fast, const char *format,
                           unsigned addresses, unsigned *passed)
{
    struct admission a;
    uint64_t said = 0, done_us = 0, busy_us = 0;
    char text[64];
    assert_int_equal(admission_init(&a, secret), 0);
    lobby_init(l);
    for (uint64_t now = 1000; now < 11000; now++) {
        uint64_t acked = now * 1000 >= done_us + 20000 ? said : 0;
        struct lobby_guest *g;
        (void)snprintf(text, sizeof(text), format, now % addresses / 250,
                       1 + now % addresses % 250);
        lobby_guest_free(lobby_enter(l, guest(text, 1, now)));
        while (lobby_is_clear(l, acked, 20, now) &&
               (g = lobby_leave(l, &a, host, now)) != NULL) {
            uint64_t takes_us = fast ? 10 : 1000 * 1000000u / 32768;
            lobby_guest_free(g);
            ++*passed;
            said += 1000;
            acked = 0;
            busy_us += takes_us;
            done_us = (done_us > now * 1000 ? done_us : now * 1000) + takes_us;
            lobby_sent(l, 1000, said, now);
        }
    }
    admission_fini(&a);
    return busy_us;
}

static void test_a_line_is_shared(void **state)
{
    struct lobby l;
    unsigned passed = 0;
    (void)state;
    for (int fresh = 0; fresh < 2; fresh++) { /* the same places again; ever new ones */
        uint64_t us = fresh ? crowded_us(&l, false, "10.%u.%u.1", 10000, &passed)
                            : crowded_us(&l, false, "198.19.%u.%u", 20, &passed);
        assert_true(us < 10000000 / 3); /* the rest is for others */
        assert_true(us > 10000000 / 8);
        lobby_fini(&l);
    }
    passed = 0;
    (void)crowded_us(&l, true, "198.19.%u.%u", 20, &passed);
    assert_true(passed > 5000); /* never in their way */
    assert_int_equal(l.window, LOBBY_WINDOW_MAX);
    lobby_fini(&l);
}

static void test_familiar(void **state)
{
    uint8_t list[FAMILIAR_BYTES], salt[FAMILIAR_SALT_LEN] = {1}, key[KEY_LEN],
                                  one[KEY_LEN];
    (void)state;
    size_t len = familiar_begin(list, salt);
    fresh_key(key);
    assert_false(familiar_has(list, len, key));
    assert_false(familiar_has(NULL, 0, key));
    for (int i = 0; i < FAMILIAR_MAX; i++) {
        fresh_key(one);
        len = familiar_add(list, len, one);
        assert_true(familiar_has(list, len, one));
    }
    assert_int_equal(len, FAMILIAR_BYTES);
    assert_int_equal(familiar_add(list, len, key), FAMILIAR_BYTES);
    assert_false(familiar_has(list, len, key));
}

static void test_marks(void **state)
{
    uint8_t key[MARK_SECRET_LEN] = {9}, client[KEY_LEN], conv[CONV_LEN] = {3};
    uint8_t mark[MARK_MAX];
    static const char *const from[] = {"192.0.2.9", "2001:db8::9"};
    (void)state;
    fresh_key(client);
    for (size_t i = 0; i < 2; i++) {
        struct mark_names n = {.client = client, .host = host, .conv = conv};
        struct addr a = ip(from[i]), b;
        uint64_t age;
        size_t len = mark_make(mark, key, &n, &a, 5000);
        assert_true(len <= MARK_MAX);
        assert_int_equal(mark_open(&b, &age, mark, len, key, &n, 5060, 60), 0);
        assert_true(addr_ip_equal(&a, &b));
        assert_int_equal(age, 60);
        assert_int_not_equal(mark_open(&b, &age, mark, len, key, &n, 5061, 60), 0);
        assert_int_not_equal(mark_open(&b, &age, mark, len, key, &n, 4999, 60), 0);
        for (size_t bit = 0; bit < len * 8; bit++) {
            mark[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_not_equal(mark_open(&b, &age, mark, len, key, &n, 5060, 60), 0);
            mark[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < len; cut++)
            assert_int_not_equal(mark_open(&b, &age, mark, cut, key, &n, 5060, 60), 0);
        n.client = host;
        assert_int_not_equal(mark_open(&b, &age, mark, len, key, &n, 5060, 60), 0);
    }
}

enum { PAIRS = 64 };

static void test_shares_of_pairs(void **state)
{
    struct shares s;
    struct share_place places[PAIRS][SHARE_MAX];
    uint8_t client[KEY_LEN], h[KEY_LEN];
    enum share_of of;
    unsigned n = 0;
    (void)state;
    assert_int_equal(shares_init(&s, 160, secret), 0);
    struct addr from = ip("2001:db8:1:1::1"), near = ip("2001:db8:1:2::1"),
                far = ip("2001:db8:2:1::1");
    struct share_ask ask = {
        .client = client, .host = h, .from = &from, .client_max = 5};
    fresh_key(h);
    for (;; n++) { /* fresh keys at one /64: an eighth of all */
        fresh_key(client);
        if (shares_full(&s, &ask, &of) != NULL)
            break;
        assert_int_equal(shares_take(&s, &ask, NULL, places[n]), 0);
    }
    assert_int_equal(n, 20);
    assert_int_equal(of, SHARE_ADDRESS);
    assert_int_equal(shares_weight(places[0]), 20);
    ask.from = &near; /* the /56 has twice that */
    for (; shares_full(&s, &ask, &of) == NULL; n++) {
        fresh_key(client);
        assert_int_equal(shares_take(&s, &ask, NULL, places[n]), 0);
    }
    assert_int_equal(n, 40);
    ask.from = &far;
    fresh_key(client);
    for (unsigned i = 0; i < 5; i++) { /* one device */
        assert_null(shares_full(&s, &ask, &of));
        assert_int_equal(shares_take(&s, &ask, NULL, places[n++]), 0);
    }
    assert_non_null(shares_full(&s, &ask, &of));
    assert_int_equal(of, SHARE_CLIENT);
    while (n > 0)
        shares_give(&s, places[--n]);
    assert_null(shares_find(&s, h));
    assert_null(shares_find(&s, client));
    shares_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ledger_forgets_the_longest_unused),
        cmocka_unit_test(test_budgets_are_forgotten_when_they_are_whole),
        cmocka_unit_test(test_a_key_has_one_budget),
        cmocka_unit_test(test_strangers_take_nothing_from_the_known),
        cmocka_unit_test(test_a_hosts_word_counts_for_more_than_a_badge),
        cmocka_unit_test(test_a_new_place_is_next),
        cmocka_unit_test(test_joiners_of_one_address),
        cmocka_unit_test(test_an_invite_is_next),
        cmocka_unit_test(test_invites_take_turns),
        cmocka_unit_test(test_a_key_shows_its_invite),
        cmocka_unit_test(test_who_asks_again),
        cmocka_unit_test(test_a_line_is_shared),
        cmocka_unit_test(test_familiar),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_shares_of_pairs),
    };
    return sodium_init() < 0 ||
           cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}

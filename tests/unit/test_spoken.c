/* Spoken codes: how they are read, what they give, and what whoever guesses gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "core/spoken.h"
#include "state_watch.h"

static const char gift[] = "postern://meet.example.org:443/i/secret";

static void assert_reads(const char *text, const char *words, const char *host,
                         unsigned port)
{
    struct spoken_code c;
    struct fault f = {0};
    assert_int_equal(spoken_parse(&c, text, &f), 0);
    assert_string_equal(c.words, words);
    assert_string_equal(c.host, host);
    assert_int_equal(c.port, port);
}

static void test_people_write_what_they_heard(void **state)
{
    static const char words[] = "7-crossover-clockwork";
    (void)state;
    assert_reads("7-crossover-clockwork@meet.example.org", words, "meet.example.org",
                 443);
    assert_reads("7-crossover-clockwork", words, "", 443);
    assert_reads(" 7 Crossover Clockwork @ Meet.Example.org:8443 \n", words,
                 "meet.example.org", 8443);
    assert_reads("7_CROSSOVER - clockwork@192.0.2.1", words, "192.0.2.1", 443);
    assert_reads("7-crossover-clockwork@[2001:db8::1]:444", words, "2001:db8::1", 444);
    assert_reads("9999-crossover-clockwork", "9999-crossover-clockwork", "", 443);
    assert_reads("7.crossover.clockwork@h", words, "h", 443);
    assert_reads("7, Crossover, Clockwork at h.example", words, "h.example", 443);
    assert_reads("7crossover clockwork@h", words, "h", 443);
    assert_reads("'7-crossover-clockwork@h'", words, "h", 443);
    assert_reads("7\xe2\x80\x93"
                 "crossover\xe2\x80\x94"
                 "clockwork",
                 words, "", 443);
}

static void assert_not(const char *text, int err, const char *what)
{
    struct spoken_code c;
    struct fault f = {0};
    assert_int_equal(spoken_parse(&c, text, &f), err);
    if (err == POSTERN_ERR_USAGE && strstr(f.what, what) == NULL &&
        strstr(f.advice, what) == NULL)
        fail_msg("'%s' is not in '%s; %s'", what, f.what, f.advice);
}

static void test_what_is_no_code(void **state)
{
    static const char *const none[] = {"", "home", "postern://h:1/i/aa",
                                       "crossover-clockwork"};
    static const char *const formless[] = {"7",
                                           "7-crossover",
                                           "7-crossoverclockwork",
                                           "0-crossover-clockwork",
                                           "10000-crossover-clockwork",
                                           "99999999999999-crossover-clockwork"};
    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_not(none[i], POSTERN_ERR_NOTFOUND, "");
    for (size_t i = 0; i < sizeof(formless) / sizeof(formless[0]); i++)
        assert_not(formless[i], POSTERN_ERR_USAGE, "this is no code");
    assert_not("7-crossovver-clockwork", POSTERN_ERR_USAGE, "'crossover'");
    assert_not("7-clockwork-crossover", POSTERN_ERR_USAGE, "'clockwork'");
    assert_not("7-crossover-clockwork-clockwork", POSTERN_ERR_USAGE, "behind");
    assert_not("7-crossover-clockwork@", POSTERN_ERR_USAGE, "broker");
    assert_not("7-crossover-clockwork@a:0", POSTERN_ERR_USAGE, "broker");
    assert_not("7-crossover-clockwork@a b", POSTERN_ERR_USAGE, "broker");
    assert_not("7-crossover-clockwork@a/b", POSTERN_ERR_USAGE, "broker");
}

static void test_each_code_that_is_made_is_read(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SPOKEN_WORD_COUNT; i++) {
        struct spoken_code c, r;
        const uint8_t random[2] = {(uint8_t)i, (uint8_t)(255 - i)};
        spoken_make(&c, i + 1, random);
        assert_int_equal(spoken_parse(&r, c.words, NULL), 0);
        assert_string_equal(r.words, c.words);
        assert_int_equal(r.number, i + 1);
        for (unsigned j = 0; j < i; j++) {
            assert_string_not_equal(spoken_long_words[i], spoken_long_words[j]);
            assert_string_not_equal(spoken_short_words[i], spoken_short_words[j]);
        }
    }
}

static void unhex(uint8_t *out, size_t len, const char *hex)
{
    size_t n = 0;
    assert_int_equal(sodium_hex2bin(out, len, hex, strlen(hex), NULL, &n, NULL), 0);
    assert_int_equal(n, len);
}

/* draft-irtf-cfrg-cpace-13, appendix B.3: ristretto255 with SHA-512. */
static void test_the_exchange_of_the_draft(void **state)
{
    const struct pake_texts t = {"Password", "\nAinitiator\nBresponder", "ADa", "ADb"};
    uint8_t sid[16], ya[32], yb[32], share[32], want[64], key[64];
    struct pake a, b;
    (void)state;
    unhex(sid, 16, "7e4b4791d6a8ef019b936c79fb7f2c57");
    unhex(ya, 32, "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08");
    unhex(yb, 32, "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d");
    assert_int_equal(pake_begin(&a, true, &t, sid, ya), 0);
    assert_int_equal(pake_begin(&b, false, &t, sid, yb), 0);
    unhex(share, 32,
          "383a85dd236978f17f8c8545b50dabc52a39fcdab2cf8bc531ce040ff77ca82d");
    assert_memory_equal(a.share, share, 32);
    unhex(share, 32,
          "a6206309c0e8e5f579295e35997ac4300ab3fecec3c17f7b604f3e698fa1383c");
    assert_memory_equal(b.share, share, 32);
    unhex(want, 64,
          "e91ccb2c0f5e0d0993a33956e3be59754f3f2b07db57631f5394452ea2e7b435"
          "4674eb1f5686c078462bf83bec72e8743df440108e638f3526d9b90e85be096f");
    assert_int_equal(pake_key(&a, &t, b.share, key), 0);
    assert_memory_equal(key, want, 64);
    assert_int_equal(pake_key(&b, &t, a.share, key), 0);
    assert_memory_equal(key, want, 64);
    /* No point, and the neutral element. */
    assert_int_equal(pake_begin(&a, true, &t, sid, ya), 0);
    unhex(share, 32,
          "2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c");
    assert_int_equal(pake_key(&a, &t, share, key), POSTERN_ERR_PROTO);
    memset(share, 0, sizeof(share));
    assert_int_equal(pake_key(&a, &t, share, key), POSTERN_ERR_PROTO);
}

/* A giver and a taker, and the last that was said. */
struct pair {
    struct spoken *giver, *taker;
    struct spoken_packet said;
};

static void pair_open(struct pair *p, const char *given, const char *taken)
{
    struct spoken_code g, t;
    const uint8_t one[SPOKEN_SEED_LEN] = {[40] = 1}, two[SPOKEN_SEED_LEN] = {[40] = 2};
    assert_int_equal(spoken_parse(&g, given, NULL), 0);
    assert_int_equal(spoken_parse(&t, taken, NULL), 0);
    assert_int_equal(spoken_new(&p->giver, &g, gift, one), 0);
    assert_int_equal(spoken_new(&p->taker, &t, NULL, two), 0);
    assert_int_equal(spoken_begin(p->taker, &p->said), 0);
    assert_true(p->said.len > 0);
}

static void pair_close(struct pair *p)
{
    spoken_free(p->giver);
    spoken_free(p->taker);
}

static enum spoken_outcome hear(struct pair *p, struct spoken *who)
{
    struct spoken_packet heard = p->said;
    return spoken_on_packet(who, heard.bytes, heard.len, &p->said);
}

static void test_the_same_words_give(void **state)
{
    struct pair p;
    (void)state;
    pair_open(&p, "7-crossover-clockwork", "7 Crossover Clockwork");
    assert_int_equal(hear(&p, p.giver), SPOKEN_GOES_ON);
    assert_int_equal(hear(&p, p.taker), SPOKEN_GOES_ON);
    assert_int_equal(hear(&p, p.giver), SPOKEN_GOES_ON);
    assert_null(memmem(p.said.bytes, p.said.len, "secret", 6)); /* it is in a box */
    assert_int_equal(hear(&p, p.taker), SPOKEN_GIVEN);
    assert_string_equal(spoken_gift(p.taker), gift);
    assert_int_equal(hear(&p, p.giver), SPOKEN_GIVEN);
    assert_int_equal(p.said.len, 0);
    pair_close(&p);
}

/* One letter, another word, another number: nothing is given, and both know. */
static void test_other_words_give_nothing(void **state)
{
    static const char *const others[] = {
        "7-crossover-aardvark", "7-adroitness-clockwork", "8-crossover-clockwork"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct pair p;
        pair_open(&p, "7-crossover-clockwork", others[i]);
        assert_int_equal(hear(&p, p.giver), SPOKEN_GOES_ON);
        assert_int_equal(hear(&p, p.taker), SPOKEN_GOES_ON);
        assert_int_equal(hear(&p, p.giver), SPOKEN_WRONG);
        assert_int_equal(p.said.len, 1);
        assert_int_equal(hear(&p, p.taker), SPOKEN_WRONG);
        assert_string_not_equal(spoken_gift(p.taker), gift);
        /* One guess an exchange: it is over. */
        assert_int_equal(spoken_on_packet(p.giver, p.said.bytes, p.said.len, &p.said),
                         SPOKEN_BAD);
        pair_close(&p);
    }
}

/* At each step one bit of what is under way is another: no text comes out of it. */
static void test_what_is_changed_on_the_way_gives_nothing(void **state)
{
    (void)state;
    for (unsigned step = 0; step < 4; step++)
        for (unsigned at = 0; at < 600; at += 37) {
            struct pair p;
            enum spoken_outcome o = SPOKEN_GOES_ON;
            unsigned i;
            pair_open(&p, "7-crossover-clockwork", "7-crossover-clockwork");
            for (i = 0; o == SPOKEN_GOES_ON && i < 4; i++) {
                if (i == step)
                    p.said.bytes[at % p.said.len] ^= 1;
                o = hear(&p, i % 2 == 0 ? p.giver : p.taker);
            }
            assert_int_not_equal(o, SPOKEN_GIVEN);
            assert_string_not_equal(spoken_gift(p.taker), gift);
            pair_close(&p);
        }
}

/* Cut short, empty, out of turn, of its own: never understood, nothing is said. */
static void test_what_does_not_belong_there(void **state)
{
    struct pair p;
    struct spoken_packet first;
    (void)state;
    pair_open(&p, "7-crossover-clockwork", "7-crossover-clockwork");
    first = p.said;
    for (size_t len = 0; len < first.len; len += 11) {
        struct pair q;
        pair_open(&q, "7-crossover-clockwork", "7-crossover-clockwork");
        q.said.len = len;
        assert_int_equal(hear(&q, q.giver), SPOKEN_BAD);
        assert_int_equal(q.said.len, 0);
        pair_close(&q);
    }
    assert_int_equal(hear(&p, p.taker), SPOKEN_BAD); /* its own */
    p.said = first;
    assert_int_equal(hear(&p, p.giver), SPOKEN_GOES_ON);
    p.said = first;
    assert_int_equal(hear(&p, p.giver), SPOKEN_BAD); /* twice */
    pair_close(&p);
    /* A gift that nobody proved anything for. */
    pair_open(&p, "7-crossover-clockwork", "7-crossover-clockwork");
    assert_int_equal(hear(&p, p.giver), SPOKEN_GOES_ON);
    assert_int_equal(hear(&p, p.taker), SPOKEN_GOES_ON);
    assert_int_equal(hear(&p, p.giver), SPOKEN_GOES_ON);
    struct spoken_packet none = {.len = 1, .bytes = {5}};
    assert_int_equal(spoken_on_packet(p.giver, none.bytes, none.len, &p.said),
                     SPOKEN_BAD);
    pair_close(&p);
}

static void test_each_step_was_made(void **state)
{
    (void)state;
    assert_int_equal(state_watch_unmade("spoken_next"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_people_write_what_they_heard),
        cmocka_unit_test(test_what_is_no_code),
        cmocka_unit_test(test_each_code_that_is_made_is_read),
        cmocka_unit_test(test_the_exchange_of_the_draft),
        cmocka_unit_test(test_the_same_words_give),
        cmocka_unit_test(test_other_words_give_nothing),
        cmocka_unit_test(test_what_is_changed_on_the_way_gives_nothing),
        cmocka_unit_test(test_what_does_not_belong_there),
        cmocka_unit_test(test_each_step_was_made),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* One DNS question in, one answer out (RFC 1035). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/dns.h"

/* A query for Home.Postern, type A, class IN, recursion desired. */
static const uint8_t query[] = {
    0x12, 0x34, 0x01, 0x00, 0,   1,   0,   0,   0,   0,   0, 0, 4, 'H', 'o',
    'm',  'e',  7,    'P',  'o', 's', 't', 'e', 'r', 'n', 0, 0, 1, 0,   1,
};

static void test_reads_a_question(void **state)
{
    struct dns_question q;
    (void)state;
    assert_int_equal(dns_parse(&q, query, sizeof(query)), 0);
    assert_int_equal(q.id, 0x1234);
    assert_int_equal(q.type, DNS_A);
    assert_string_equal(q.name, "home.postern");
    assert_int_equal(q.question_len, sizeof(query) - 12);
}

static void test_refuses_what_is_no_question(void **state)
{
    struct dns_question q;
    uint8_t bad[sizeof(query)];
    (void)state;
    for (size_t len = 0; len < sizeof(query); len++)
        assert_int_equal(dns_parse(&q, query, len), POSTERN_ERR_PROTO);
    memcpy(bad, query, sizeof(bad));
    bad[2] |= 0x80; /* an answer */
    assert_int_equal(dns_parse(&q, bad, sizeof(bad)), POSTERN_ERR_PROTO);
    memcpy(bad, query, sizeof(bad));
    bad[5] = 2; /* two questions */
    assert_int_equal(dns_parse(&q, bad, sizeof(bad)), POSTERN_ERR_PROTO);
    memcpy(bad, query, sizeof(bad));
    bad[13] = 0xc3; /* text beyond ASCII is in no name of ours, and gets an answer */
    assert_int_equal(dns_parse(&q, bad, sizeof(bad)), 0);
    assert_string_equal(q.name, "?ome.postern");
    memcpy(bad, query, sizeof(bad));
    bad[12] = 0xc0; /* a pointer into nowhere */
    assert_int_equal(dns_parse(&q, bad, sizeof(bad)), POSTERN_ERR_PROTO);
    memcpy(bad, query, sizeof(bad));
    bad[sizeof(bad) - 1] = 3; /* class CHAOS */
    assert_int_equal(dns_parse(&q, bad, sizeof(bad)), POSTERN_ERR_PROTO);
}

static void test_answers_with_an_address(void **state)
{
    struct dns_question q;
    struct addr a = {.family = ADDR_V4, .ip = {127, 80, 0, 1}};
    uint8_t out[DNS_MESSAGE_MAX];
    (void)state;
    assert_int_equal(dns_parse(&q, query, sizeof(query)), 0);
    int n = dns_answer(out, sizeof(out), &q, query, DNS_NOERROR, &a, 5);
    assert_int_equal(n, sizeof(query) + 16);
    assert_int_equal(out[0] << 8 | out[1], 0x1234);
    assert_true(out[2] & 0x80);
    assert_int_equal(out[3] & 0x0f, DNS_NOERROR);
    assert_int_equal(out[7], 1);
    assert_memory_equal(out + n - 4, a.ip, 4);
    assert_int_equal(out[n - 7], 5); /* the TTL's last byte */
    n = dns_answer(out, sizeof(out), &q, query, DNS_NXDOMAIN, NULL, 5);
    assert_int_equal(n, sizeof(query));
    assert_int_equal(out[3] & 0x0f, DNS_NXDOMAIN);
    assert_int_equal(out[7], 0);
    for (size_t cap = 0; cap < sizeof(query); cap++)
        assert_int_equal(dns_answer(out, cap, &q, query, DNS_NOERROR, &a, 5),
                         POSTERN_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_a_question),
        cmocka_unit_test(test_refuses_what_is_no_question),
        cmocka_unit_test(test_answers_with_an_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

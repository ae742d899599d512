/* The bytes of a PCP MAP request and of its answer (RFC 6887). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/pcp.h"

static struct pcp_map example(void)
{
    struct pcp_map m = {.lifetime_s = 120};
    assert_int_equal(addr_parse(&m.client, "192.168.1.7:40000"), 0);
    assert_int_equal(addr_parse(&m.peer, "203.0.113.9:5"), 0);
    memset(m.nonce, 0xab, sizeof(m.nonce));
    return m;
}

static void test_request(void **state)
{
    struct pcp_map m = example();
    uint8_t buf[PCP_REQUEST_MAX];
    (void)state;
    assert_int_equal(pcp_encode_map(&m, buf), 84);
    static const uint8_t head[] = {2, 1, 0, 0, 0, 0, 0,    120,  0,   0,   0, 0,
                                   0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 7};
    assert_memory_equal(buf, head, sizeof(head));
    assert_memory_equal(buf + 24, m.nonce, PCP_NONCE_LEN);
    static const uint8_t ports[] = {17, 0, 0, 0, 0x9c, 0x40, 0x9c, 0x40};
    assert_memory_equal(buf + 36, ports, sizeof(ports));
    static const uint8_t filter[] = {3, 0, 0, 20, 0, 128, 0,    0,    0,   0, 0,   0,
                                     0, 0, 0, 0,  0, 0,   0xff, 0xff, 203, 0, 113, 9};
    assert_memory_equal(buf + 60, filter, sizeof(filter));
    m.peer = (struct addr){0};
    m.lifetime_s = 0;
    assert_int_equal(pcp_encode_map(&m, buf), 60);
}

static size_t answer_to(const struct pcp_map *m, uint8_t out[static 60])
{
    memset(out, 0, 60);
    out[0] = 2;
    out[1] = 0x81;
    out[7] = 60; /* lifetime */
    memcpy(out + 24, m->nonce, PCP_NONCE_LEN);
    out[36] = 17;
    out[40] = 0x9c;
    out[41] = 0x40;
    out[42] = 0x10;
    out[54] = out[55] = 0xff;
    out[56] = 198;
    out[57] = 51;
    out[58] = 100;
    out[59] = 4;
    return 60;
}

static void test_answer(void **state)
{
    struct pcp_map m = example();
    struct pcp_answer a;
    uint8_t buf[60];
    char text[ADDR_TEXT_LEN];
    (void)state;
    size_t len = answer_to(&m, buf);
    assert_int_equal(pcp_decode_map(&a, &m, buf, len), 0);
    assert_int_equal(a.result, PCP_SUCCESS);
    assert_int_equal(a.lifetime_s, 60);
    assert_string_equal(addr_format(&a.external, text), "198.51.100.4:4096");
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(pcp_decode_map(&a, &m, buf, cut), POSTERN_ERR_PROTO);
    buf[24] ^= 1; /* somebody else's nonce */
    assert_int_equal(pcp_decode_map(&a, &m, buf, len), POSTERN_ERR_PROTO);
}

static void test_refusals(void **state)
{
    struct pcp_map m = example();
    struct pcp_answer a;
    uint8_t buf[60];
    (void)state;
    (void)answer_to(&m, buf);
    buf[3] = PCP_UNSUPP_OPTION;
    assert_int_equal(pcp_decode_map(&a, &m, buf, sizeof(buf)), 0);
    assert_int_equal(a.result, PCP_UNSUPP_OPTION);
    static const uint8_t nat_pmp[] = {0, 0x81, 0, 1, 0, 0, 0, 9};
    assert_int_equal(pcp_decode_map(&a, &m, nat_pmp, sizeof(nat_pmp)), 0);
    assert_int_equal(a.result, PCP_UNSUPP_VERSION);
    buf[1] = 1; /* a request */
    assert_int_equal(pcp_decode_map(&a, &m, buf, sizeof(buf)), POSTERN_ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

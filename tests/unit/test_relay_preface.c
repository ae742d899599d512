/* The relay preface: exact bytes, and nothing else accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/relay_preface.h"

static void encode(uint8_t out[static RELAY_PREFACE_LEN])
{
    uint8_t ticket[TICKET_LEN];
    for (size_t i = 0; i < TICKET_LEN; i++)
        ticket[i] = (uint8_t)(0xa0 + i);
    relay_preface_encode(out, ticket);
}

static void test_bytes(void **state)
{
    (void)state;
    static const uint8_t head[8] = {'P', 'S', 'T', 'N', 1, 1, 0, 0};
    uint8_t buf[RELAY_PREFACE_LEN], ticket[TICKET_LEN];
    encode(buf);
    assert_int_equal(sizeof(buf), 24);
    assert_memory_equal(buf, head, sizeof(head));
    assert_int_equal(relay_preface_parse(ticket, buf, sizeof(buf)), 0);
    assert_memory_equal(ticket, buf + 8, TICKET_LEN);
}

static void test_rejects(void **state)
{
    (void)state;
    uint8_t buf[RELAY_PREFACE_LEN + 1], ticket[TICKET_LEN];
    for (size_t i = 0; i < 8; i++) {
        encode(buf);
        buf[i] ^= 1;
        assert_int_equal(relay_preface_parse(ticket, buf, RELAY_PREFACE_LEN),
                         POSTERN_ERR_PROTO);
    }
    encode(buf);
    for (size_t len = 0; len <= sizeof(buf); len++)
        if (len != RELAY_PREFACE_LEN)
            assert_int_equal(relay_preface_parse(ticket, buf, len), POSTERN_ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_rejects)};
    return cmocka_run_group_tests_name("relay preface", tests, NULL, NULL);
}

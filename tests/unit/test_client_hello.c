/* Server name and protocols of ClientHellos as GnuTLS writes them, and mangled ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <gnutls/gnutls.h>

#include "core/client_hello.h"
#include "core/rng.h"

static uint8_t hello[CLIENT_HELLO_MAX];
static size_t hello_len;

static ssize_t push(gnutls_transport_ptr_t p, const void *data, size_t len)
{
    (void)p;
    assert_true(hello_len + len <= sizeof(hello));
    memcpy(hello + hello_len, data, len);
    hello_len += len;
    return (ssize_t)len;
}

static ssize_t pull(gnutls_transport_ptr_t p, void *data, size_t len)
{
    (void)p, (void)data, (void)len;
    return 0; /* nobody answers */
}

static void write_hello(const char *name, const char *protocol)
{
    gnutls_session_t s;
    gnutls_certificate_credentials_t cred;
    hello_len = 0;
    assert_int_equal(gnutls_certificate_allocate_credentials(&cred), 0);
    assert_int_equal(gnutls_init(&s, GNUTLS_CLIENT), 0);
    assert_int_equal(gnutls_set_default_priority(s), 0);
    assert_int_equal(gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred), 0);
    if (name != NULL)
        assert_int_equal(gnutls_server_name_set(s, GNUTLS_NAME_DNS, name, strlen(name)),
                         0);
    if (protocol != NULL) {
        gnutls_datum_t alpn[] = {
            {(unsigned char *)(uintptr_t) "h2", 2},
            {(unsigned char *)(uintptr_t)protocol, (unsigned)strlen(protocol)}};
        assert_int_equal(gnutls_alpn_set_protocols(s, alpn, 2, 0), 0);
    }
    gnutls_transport_set_push_function(s, push);
    gnutls_transport_set_pull_function(s, pull);
    assert_true(gnutls_handshake(s) < 0);
    gnutls_deinit(s);
    gnutls_certificate_free_credentials(cred);
}

static void test_reads_name_and_protocols(void **state)
{
    struct client_hello h;
    (void)state;
    write_hello("Cam.Home.example.org", "postern-relay/1");
    assert_int_equal(client_hello_parse(&h, hello, hello_len), 0);
    assert_string_equal(h.server_name, "cam.home.example.org");
    assert_true(client_hello_offers(&h, "postern-relay/1"));
    assert_true(client_hello_offers(&h, "h2"));
    assert_false(client_hello_offers(&h, "h"));
    assert_false(client_hello_offers(&h, "postern-relay/10"));
    write_hello(NULL, NULL);
    assert_int_equal(client_hello_parse(&h, hello, hello_len), 0);
    assert_string_equal(h.server_name, "");
    assert_false(client_hello_offers(&h, "h2"));
}

/* It goes into logs, and from there to terminals. */
static void test_a_name_of_odd_bytes(void **state)
{
    static const char odd[] = {'\0', '\n', '\x1b', ' ', '\x7f', '\x9b'};
    struct client_hello h;
    (void)state;
    write_hello("cam.home.example.org", "h2");
    uint8_t *at = memmem(hello, hello_len, "cam.home", 8);
    assert_non_null(at);
    for (size_t i = 0; i < sizeof(odd); i++) {
        at[3] = (uint8_t)odd[i];
        assert_int_equal(client_hello_parse(&h, hello, hello_len), POSTERN_ERR_PROTO);
    }
    at[3] = '_';
    assert_int_equal(client_hello_parse(&h, hello, hello_len), 0);
    assert_string_equal(h.server_name, "cam_home.example.org");
}

static void test_asks_for_more(void **state)
{
    struct client_hello h;
    (void)state;
    write_hello("a.example", "x");
    for (size_t len = 0; len < hello_len; len++) {
        int want = client_hello_parse(&h, hello, len);
        assert_true(want > (int)len && want <= (int)hello_len);
    }
}

static void test_mangled(void **state)
{
    struct client_hello h;
    uint64_t rng = 7;
    (void)state;
    write_hello("a.example", "x");
    for (int i = 0; i < 20000; i++) {
        uint8_t *copy = malloc(hello_len); /* of its size: a read beyond it is seen */
        assert_non_null(copy);
        memcpy(copy, hello, hello_len);
        for (int k = 0; k < 3; k++)
            copy[rng_below(&rng, hello_len)] = (uint8_t)rng_next(&rng);
        int rc = client_hello_parse(&h, copy, hello_len);
        assert_true(rc == POSTERN_ERR_PROTO || rc >= 0);
        assert_true(strlen(h.server_name) <= SERVER_NAME_MAX);
        if (rc == 0)
            (void)client_hello_offers(&h, "x");
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_name_and_protocols),
        cmocka_unit_test(test_a_name_of_odd_bytes),
        cmocka_unit_test(test_asks_for_more),
        cmocka_unit_test(test_mangled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * TLS for the web in front of a plain server: bytes, half-close both ways, and ends
 * that come without a goodbye. The client and the server are threads that block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/tlspipe.h"

enum { BIG = 3 * 1024 * 1024 };

struct fixture {
    struct loop *loop;
    gnutls_certificate_credentials_t credentials;
    int client, server; /* the blocking ends */
    unsigned ended;
    bool broken;
};

/* A certificate that signs itself; the client looks at none. */
static void make_credentials(struct fixture *x)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    const uint8_t serial[1] = {1};
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_EDDSA_ED25519, 0, 0),
                     0);
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    assert_int_equal(gnutls_x509_crt_set_version(crt, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(crt, time(NULL) - 10), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 1000), 0);
    assert_int_equal(gnutls_x509_crt_set_key(crt, key), 0);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_UNKNOWN, 0), 0);
    assert_int_equal(gnutls_certificate_allocate_credentials(&x->credentials), 0);
    assert_int_equal(gnutls_certificate_set_x509_key(x->credentials, &crt, 1, key), 0);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static void on_end(void *ctx, bool broken)
{
    struct fixture *x = ctx;
    x->ended++;
    x->broken = broken;
}

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    int a[2], b[2];
    *state = x;
    if (x == NULL || loop_open(&x->loop) != 0)
        return -1;
    make_credentials(x);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
    x->client = a[0];
    x->server = b[0];
    struct tlspipe *pipe = NULL;
    struct tlspipe_join j = {.config = {.loop = x->loop,
                                        .protocol = "http/1.1",
                                        .web = true,
                                        .credentials = x->credentials},
                             .fd = a[1],
                             .plain = b[1],
                             .on_end = on_end,
                             .ctx = x};
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? a[1] : b[1];
        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    }
    assert_int_equal(tlspipe_join(&pipe, &j), 0);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    loop_close(x->loop); /* nothing of the pipe is left */
    gnutls_certificate_free_credentials(x->credentials);
    free(x);
    return 0;
}

struct talk {
    struct fixture *x;
    const char *alpn;     /* that the client offers; NULL: none */
    const char *priority; /* of the client */
    bool abrupt;          /* the client says no goodbye */
    bool vanishes;        /* the client says goodbye and is gone, the server is mute */
    size_t client_got, server_got;
    bool client_saw_end; /* with a close_notify */
    bool server_saw_end;
    char protocol[16];
};

static void *client(void *arg)
{
    struct talk *t = arg;
    gnutls_session_t tls;
    gnutls_certificate_credentials_t none;
    gnutls_datum_t protocol = {0};
    static char buf[65536];
    (void)gnutls_certificate_allocate_credentials(&none);
    (void)gnutls_init(&tls, GNUTLS_CLIENT);
    (void)gnutls_priority_set_direct(tls, t->priority, NULL);
    (void)gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, none);
    if (t->alpn != NULL) {
        gnutls_datum_t alpn = {(unsigned char *)(uintptr_t)t->alpn,
                               (unsigned)strlen(t->alpn)};
        (void)gnutls_alpn_set_protocols(tls, &alpn, 1, 0);
    }
    gnutls_transport_set_int(tls, t->x->client);
    int rc;
    while ((rc = gnutls_handshake(tls)) < 0 && !gnutls_error_is_fatal(rc))
        ;
    if (rc == 0) {
        if (gnutls_alpn_get_selected_protocol(tls, &protocol) == 0)
            (void)snprintf(t->protocol, sizeof(t->protocol), "%.*s", (int)protocol.size,
                           protocol.data);
        (void)gnutls_record_send(tls, "hello", 5);
        if (!t->abrupt)
            (void)gnutls_bye(tls, GNUTLS_SHUT_WR);
        ssize_t n = 0;
        while (!t->abrupt && !t->vanishes &&
               (n = gnutls_record_recv(tls, buf, sizeof(buf))) > 0)
            t->client_got += (size_t)n;
        t->client_saw_end = n == 0;
    }
    gnutls_deinit(tls);
    close(t->x->client);
    gnutls_certificate_free_credentials(none);
    return NULL;
}

/* Reads to the end, and answers only then. */
static void *server(void *arg)
{
    struct talk *t = arg;
    static char buf[65536];
    ssize_t n;
    while ((n = recv(t->x->server, buf, sizeof(buf), 0)) > 0)
        t->server_got += (size_t)n;
    if (t->vanishes) { /* mute until the other end is gone */
        struct pollfd at = {.fd = t->x->server};
        (void)poll(&at, 1, 20000);
        t->server_saw_end = (at.revents & POLLHUP) != 0;
    }
    for (size_t sent = 0; !t->vanishes && sent < BIG; sent += (size_t)n) {
        n = send(t->x->server, buf, BIG - sent < 65536 ? BIG - sent : 65536,
                 MSG_NOSIGNAL);
        if (n <= 0)
            break;
    }
    close(t->x->server);
    return NULL;
}

static void run(struct talk *t)
{
    pthread_t a, b;
    assert_int_equal(pthread_create(&a, NULL, client, t), 0);
    assert_int_equal(pthread_create(&b, NULL, server, t), 0);
    loop_run(t->x->loop); /* until the pipe has ended */
    (void)pthread_join(a, NULL);
    (void)pthread_join(b, NULL);
    assert_int_equal(t->x->ended, 1);
}

static void test_half_close(void **state)
{
    struct talk t = {.x = *state, .alpn = "http/1.1", .priority = "NORMAL"};
    run(&t);
    assert_int_equal(t.server_got, 5);
    assert_int_equal(t.client_got, BIG);
    assert_true(t.client_saw_end);
    assert_false(t.x->broken);
    assert_string_equal(t.protocol, "http/1.1");
}

static void test_other_clients(void **state)
{
    struct talk t = {.x = *state, .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
    run(&t);
    assert_int_equal(t.client_got, BIG);
    assert_true(t.client_saw_end);
    assert_string_equal(t.protocol, "");
}

static void test_unknown_protocol(void **state)
{
    struct talk t = {.x = *state, .alpn = "imap", .priority = "NORMAL"};
    run(&t);
    assert_int_equal(t.client_got, BIG);
    assert_string_equal(t.protocol, "");
}

/* What was said before arrives; the server's answer has nowhere to go. */
static void test_abrupt_end(void **state)
{
    struct talk t = {.x = *state, .priority = "NORMAL", .abrupt = true};
    run(&t);
    assert_int_equal(t.server_got, 5);
    assert_true(t.x->broken);
}

static void test_gone_after_goodbye(void **state)
{
    struct talk t = {.x = *state, .priority = "NORMAL", .vanishes = true};
    run(&t);
    assert_int_equal(t.server_got, 5);
    assert_true(t.server_saw_end);
}

static void test_old_protocol(void **state)
{
    struct talk t = {.x = *state, .priority = "NORMAL:-VERS-ALL:+VERS-TLS1.1"};
    run(&t);
    assert_int_equal(t.server_got, 0);
    assert_int_equal(t.client_got, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_clients, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_protocol, setup, teardown),
        cmocka_unit_test_setup_teardown(test_abrupt_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone_after_goodbye, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_protocol, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

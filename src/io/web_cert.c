/* One connection, one handshake of GnuTLS on it, and what it showed. */
#include "io/web_cert.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/loop.h"
#include "io/reach.h"
#include "io/ready.h"
#include "io/tls.h"

struct look {
    struct loop *loop;
    int err, fd;
};

static void on_connected(void *ctx, int err, int fd)
{
    struct look *l = ctx;
    l->err = err;
    l->fd = fd;
    loop_stop(l->loop);
}

static int connect_to(struct look *l, const char *host, uint16_t port,
                      unsigned timeout_ms)
{
    struct proxy proxy;
    struct fault f;
    struct reach *r = NULL;
    int proxied = proxy_from_env(&proxy, host, &f);
    struct reach_config c = {.loop = l->loop,
                             .via = proxied > 0 ? &proxy : NULL,
                             .to = {.host = host, .port = port},
                             .timeout_ms = timeout_ms};
    int err = proxied < 0 ? proxied : reach_start(&r, &c, on_connected, l);
    if (err != 0)
        return err;
    loop_run(l->loop);
    return l->err;
}

static int shake_hands(gnutls_session_t tls, int fd, uint64_t until_us)
{
    for (;;) {
        int rc = gnutls_handshake(tls);
        if (rc == 0)
            return 0;
        if (gnutls_error_is_fatal(rc))
            return POSTERN_ERR_PROTO;
        struct ready r = {.fd = fd,
                          .wanted = gnutls_record_get_direction(tls) == 1 ? WATCH_WRITE
                                                                          : WATCH_READ};
        uint64_t now = clock_us();
        if (now >= until_us ||
            ready_wait(&r, 1, (int)((until_us - now) / 1000 + 1)) == 0)
            return POSTERN_ERR_TIMEOUT;
    }
}

static int read_certificate(gnutls_session_t tls, const char *host,
                            struct web_cert *out)
{
    unsigned count = 0, status = 0;
    gnutls_x509_crt_t crt;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(tls, &count);
    if (list == NULL || count == 0)
        return POSTERN_ERR_PROTO;
    if (gnutls_x509_crt_init(&crt) != 0)
        return POSTERN_ERR_NOMEM;
    int err = gnutls_x509_crt_import(crt, list, GNUTLS_X509_FMT_DER) == 0
                  ? 0
                  : POSTERN_ERR_PROTO;
    if (err == 0) {
        out->expires_s = gnutls_x509_crt_get_expiration_time(crt);
        out->own = gnutls_x509_crt_check_issuer(crt, crt) != 0;
        out->vouched =
            gnutls_certificate_verify_peers3(tls, host, &status) == 0 && status == 0;
    }
    gnutls_x509_crt_deinit(crt);
    return err;
}

static int look_at(int fd, const char *host, uint64_t until_us, struct web_cert *out)
{
    gnutls_certificate_credentials_t cred = NULL;
    gnutls_session_t tls = NULL;
    struct tls_config c = {
        .is_client = true, .web = true, .protocol = "http/1.1", .fd = fd};
    int err =
        gnutls_certificate_allocate_credentials(&cred) == 0 ? 0 : POSTERN_ERR_NOMEM;
    if (err == 0) {
        (void)gnutls_certificate_set_x509_system_trust(cred); /* none: none vouches */
        c.credentials = cred;
        err = tls_begin(&tls, &c);
    }
    if (err == 0)
        (void)gnutls_server_name_set(tls, GNUTLS_NAME_DNS, host, strlen(host));
    if (err == 0)
        err = shake_hands(tls, fd, until_us);
    if (err == 0)
        err = read_certificate(tls, host, out);
    if (tls != NULL)
        gnutls_deinit(tls);
    if (cred != NULL)
        gnutls_certificate_free_credentials(cred);
    return err;
}

int web_cert_look(struct web_cert *out, const char *host, uint16_t port,
                  unsigned timeout_ms)
{
    struct look l = {.fd = -1};
    uint64_t until_us = clock_us() + (uint64_t)timeout_ms * 1000;
    *out = (struct web_cert){0};
    int err = loop_open(&l.loop);
    if (err != 0)
        return err;
    err = connect_to(&l, host, port, timeout_ms);
    if (err == 0)
        err = look_at(l.fd, host, until_us, out);
    if (l.fd >= 0)
        (void)close(l.fd);
    loop_run(l.loop);
    loop_close(l.loop);
    return err;
}

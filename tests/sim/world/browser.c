/* See browser.h. */
#include "browser.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

enum { WAIT_MS = 20000, HTTPS_PORT = 443 };

int browser_dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err = 0;
    socklen_t len = sizeof(err);
    if (fd < 0 || inet_pton(AF_INET, "203.0.113.10", &to.sin_addr) != 1)
        return -1;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int rc = connect(fd, (struct sockaddr *)&to, sizeof(to));
    if ((rc == 0 || errno == EINPROGRESS) && poll(&p, 1, WAIT_MS) == 1 &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0 &&
        fcntl(fd, F_SETFL, 0) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static ssize_t push(gnutls_transport_ptr_t fd, const void *data, size_t len)
{
    return send((int)(intptr_t)fd, data, len, MSG_NOSIGNAL);
}

static ssize_t pull(gnutls_transport_ptr_t fd, void *data, size_t cap)
{
    struct pollfd p = {.fd = (int)(intptr_t)fd, .events = POLLIN};
    if (poll(&p, 1, WAIT_MS) == 1)
        return recv(p.fd, data, cap, 0);
    errno = ECONNRESET; /* as good as that */
    return -1;
}

static ssize_t pull_nothing(gnutls_transport_ptr_t fd, void *data, size_t cap)
{
    (void)fd, (void)data, (void)cap;
    errno = EAGAIN;
    return -1;
}

struct tls {
    int fd;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
};

static void tls_close(struct tls *t)
{
    gnutls_deinit(t->session);
    gnutls_certificate_free_credentials(t->credentials);
    if (t->fd >= 0)
        (void)close(t->fd);
}

/* A session that has not begun; false: no connection. */
static bool tls_open(struct tls *t, const char *server_name, gnutls_pull_func from)
{
    t->fd = browser_dial(HTTPS_PORT);
    if (t->fd < 0)
        return false;
    if (gnutls_init(&t->session, GNUTLS_CLIENT) != 0 ||
        gnutls_certificate_allocate_credentials(&t->credentials) != 0 ||
        gnutls_set_default_priority(t->session) != 0 ||
        gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->credentials) !=
            0 ||
        gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, server_name,
                               strlen(server_name)) != 0)
        abort();
    gnutls_transport_set_ptr(t->session, (gnutls_transport_ptr_t)(intptr_t)t->fd);
    gnutls_transport_set_push_function(t->session, push);
    gnutls_transport_set_pull_function(t->session, from);
    return true;
}

static int shake_hands(struct tls *t)
{
    int rc;
    do
        rc = gnutls_handshake(t->session);
    while (rc != 0 && gnutls_error_is_fatal(rc) == 0 && rc != GNUTLS_E_AGAIN);
    return rc;
}

/* What the answer's head says, once it is whole. */
static void read_head(struct browser *b)
{
    static const char set[] = "Set-Cookie: __Host-postern=";
    const char *at = strstr(b->page, set);
    if (strncmp(b->page, "HTTP/1.1 ", 9) == 0)
        b->status = (unsigned)strtoul(b->page + 9, NULL, 10);
    if (at == NULL)
        return;
    at += sizeof("Set-Cookie: ") - 1;
    (void)snprintf(b->cookie, sizeof(b->cookie), "%.*s", (int)strcspn(at, ";\r"), at);
}

static void exchange(struct browser *b, struct tls *t, const char *request)
{
    size_t got = 0;
    ssize_t n = 0;
    if (shake_hands(t) != 0 ||
        gnutls_record_send(t->session, request, strlen(request)) < 0)
        return;
    while (got < sizeof(b->page) - 1) {
        n = gnutls_record_recv(t->session, b->page + got, sizeof(b->page) - 1 - got);
        if (n <= 0 && n != GNUTLS_E_AGAIN && n != GNUTLS_E_INTERRUPTED)
            break;
        got += n > 0 ? (size_t)n : 0;
    }
    b->page[got] = '\0';
    if (n == 0) /* closed in order: nothing is missing */
        read_head(b);
}

void browser_ask(struct browser *b, const char *path, const char *form)
{
    char request[2048];
    struct tls t;
    b->status = 0;
    b->page[0] = '\0';
    if (!tls_open(&t, "meet.example", pull))
        return;
    (void)snprintf(request, sizeof(request),
                   "%s %s HTTP/1.1\r\nHost: meet.example\r\nCookie: %s\r\n"
                   "Content-Type: application/x-www-form-urlencoded\r\n"
                   "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                   form != NULL ? "POST" : "GET", path,
                   b->cookie[0] != '\0' ? b->cookie : "none=",
                   form != NULL ? strlen(form) : 0, form != NULL ? form : "");
    exchange(b, &t, request);
    tls_close(&t);
}

bool browser_field(const struct browser *b, const char *name, char *out, size_t cap)
{
    char begin[64];
    (void)snprintf(begin, sizeof(begin), "name=\"%s\" value=\"", name);
    const char *at = strstr(b->page, begin);
    if (at == NULL)
        return false;
    at += strlen(begin);
    (void)snprintf(out, cap, "%.*s", (int)strcspn(at, "\""), at);
    return true;
}

enum browser_hello browser_hello(const char *server_name)
{
    enum { ALERT_ACCESS_DENIED = 49 };
    struct tls t;
    if (!tls_open(&t, server_name, pull))
        return HELLO_LOST;
    int rc = shake_hands(&t);
    bool alert = rc == GNUTLS_E_FATAL_ALERT_RECEIVED;
    enum browser_hello answer = HELLO_ANSWERED;
    if (alert && (int)gnutls_alert_get(t.session) == ALERT_ACCESS_DENIED)
        answer = HELLO_DENIED;
    else if (alert || rc == GNUTLS_E_PULL_ERROR || rc == GNUTLS_E_PUSH_ERROR ||
             rc == GNUTLS_E_PREMATURE_TERMINATION)
        answer = HELLO_LOST;
    tls_close(&t);
    return answer;
}

int browser_knock(void)
{
    struct tls t;
    if (!tls_open(&t, "meet.example", pull_nothing))
        return -1;
    (void)shake_hands(&t);
    int fd = t.fd;
    t.fd = -1;
    tls_close(&t);
    return fd;
}

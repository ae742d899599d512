/* Two descriptors and a buffer for each direction; knows nothing of what passes. */
#include "io/tlspipe.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/identity.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/tls.h"

enum { BUFFER_BYTES = 16384, TURNS = 16, HANDSHAKE_MS = 10000, REFUSAL_STEP_MS = 20 };

struct flow {
    uint8_t buf[BUFFER_BYTES];
    size_t from, len; /* what waits to go out */
    bool ended;       /* nothing more comes in */
    bool passed;      /* and the other side was told (joined pipes) */
};

struct tlspipe {
    gnutls_session_t tls;
    gnutls_certificate_credentials_t own; /* a client's without credentials */
    int fd, plain;
    struct watch fd_watch, plain_watch;
    struct timer timer;
    int fd_events, plain_events;
    bool ready;          /* the handshake is over */
    bool pending;        /* GnuTLS holds a record that the socket did not take */
    struct flow in, out; /* from TLS to plain, and back */
    uint8_t expect[KEY_LEN];
    bool is_client, web;
    bool joined;  /* of tlspipe_join: each direction ends by itself */
    bool broken;  /* joined: a side was reset, or went away too early */
    bool refused; /* `look` did not take it all: what comes is dropped */
    size_t (*look)(void *ctx, const uint8_t *data, size_t len);
    const char *refusal; /* NULL once it is on its way */
    void (*on_end)(void *ctx, bool broken);
    void *ctx;
};

static void close_socket(int fd, bool reset)
{
    if (reset)
        linger_reset(fd);
    else
        linger_orderly(fd);
    close(fd);
}

static void end(struct tlspipe *p)
{
    bool reset = p->joined && p->broken;
    watch_close(&p->fd_watch);
    watch_close(&p->plain_watch);
    timer_stop(&p->timer);
    if (p->tls != NULL)
        gnutls_deinit(p->tls);
    if (p->own != NULL)
        gnutls_certificate_free_credentials(p->own);
    if (p->on_end != NULL)
        p->on_end(p->ctx, p->broken);
    close_socket(p->fd, reset);
    close_socket(p->plain, reset);
    free(p);
}

static int verify(gnutls_session_t tls)
{
    struct tlspipe *p = gnutls_session_get_ptr(tls);
    uint8_t key[KEY_LEN];
    return identity_peer_key(tls, key) == 0 && memcmp(key, p->expect, KEY_LEN) == 0
               ? 0
               : GNUTLS_E_CERTIFICATE_ERROR;
}

/* -------------------------------------------------------------------------- moving */

/* True when something moved; `in->ended` when the connection is over. */
static bool read_tls(struct tlspipe *p)
{
    if (p->in.len > 0 || p->in.ended)
        return false;
    ssize_t n = gnutls_record_recv(p->tls, p->in.buf, sizeof(p->in.buf));
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ||
        (n < 0 && !gnutls_error_is_fatal((int)n)))
        return false;
    p->in.ended = n <= 0;
    p->broken = n < 0; /* no close_notify: what came may not be all */
    p->in.from = 0;
    p->in.len = n > 0 && !p->refused ? (size_t)n : 0;
    if (p->look != NULL && p->in.len > 0) {
        p->in.len = p->look(p->ctx, p->in.buf, (size_t)n);
        p->refused = p->in.len < (size_t)n;
    }
    return true;
}

/*
 * `plain` has what it may have, and is told the end when it has read that: who waits
 * for edges would see one event, and not the end in it. Behind its last answer it is
 * the refusal's turn.
 */
static void refuse(struct tlspipe *p)
{
    int unread = 0;
    if (!p->refused || p->refusal == NULL || p->in.len > 0)
        return;
    if (!p->in.passed && ioctl(p->plain, SIOCOUTQ, &unread) == 0 && unread > 0) {
        timer_start(&p->timer, REFUSAL_STEP_MS);
        return;
    }
    if (!p->in.passed)
        (void)shutdown(p->plain, SHUT_WR);
    p->in.passed = true;
    if (!p->out.ended || p->out.len > 0)
        return;
    p->out.from = 0;
    p->out.len = strlen(p->refusal);
    memcpy(p->out.buf, p->refusal, p->out.len);
    p->refusal = NULL;
}

static bool write_plain(struct tlspipe *p)
{
    if (p->in.len == 0)
        return false;
    ssize_t n = send(p->plain, p->in.buf + p->in.from, p->in.len, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < 0 && p->web) { /* nobody takes it, but there may be an answer */
        p->in.len = 0;
        p->in.ended = p->in.passed = true;
        return true;
    }
    if (n < 0) {
        p->in.len = 0;
        p->out.ended = true; /* nobody is there */
        p->broken = true;
        return true;
    }
    p->in.from += (size_t)n;
    p->in.len -= (size_t)n;
    return true;
}

/* A socket that was closed whole, not only for writing. */
static bool hung_up(int fd)
{
    struct pollfd f = {.fd = fd};
    return poll(&f, 1, 0) == 1 && (f.revents & (POLLHUP | POLLERR)) != 0;
}

static bool read_plain(struct tlspipe *p)
{
    if (p->out.len > 0 || p->out.ended)
        return false;
    ssize_t n = recv(p->plain, p->out.buf, sizeof(p->out.buf), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    p->out.ended = n <= 0;
    if (n < 0 || (n == 0 && !p->in.passed && hung_up(p->plain)))
        p->broken = true;
    p->out.from = 0;
    p->out.len = n > 0 ? (size_t)n : 0;
    return true;
}

static bool write_tls(struct tlspipe *p)
{
    if (p->out.len == 0)
        return false;
    ssize_t n = p->pending
                    ? gnutls_record_send(p->tls, NULL, 0)
                    : gnutls_record_send(p->tls, p->out.buf + p->out.from, p->out.len);
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
        p->pending = true;
        return false;
    }
    p->pending = false;
    if (n < 0) {
        p->out.len = 0;
        p->in.ended = true;
        p->broken = true;
        return true;
    }
    p->out.from += (size_t)n;
    p->out.len -= (size_t)n;
    return true;
}

/* Joined: each direction's end goes to the other side. False when all is over. */
static bool pass_ends(struct tlspipe *p)
{
    if (p->broken && (!p->web || p->in.len == 0))
        return false;
    if (p->in.ended && p->in.len == 0 && !p->in.passed) {
        p->in.passed = true;
        (void)shutdown(p->plain, SHUT_WR);
    }
    if (p->out.ended && p->out.len == 0 && !p->out.passed) {
        int rc = gnutls_bye(p->tls, GNUTLS_SHUT_WR);
        p->out.passed = rc == GNUTLS_E_SUCCESS;
        p->broken = rc < 0 && gnutls_error_is_fatal(rc);
    }
    return !p->broken && !(p->in.passed && p->out.passed);
}

static void update(struct tlspipe *p)
{
    bool blocked = !p->ready ? gnutls_record_get_direction(p->tls) == 1
                             : p->out.len > 0 || (p->joined && p->out.ended);
    bool listen = p->in.len == 0 && (!p->in.ended || (p->joined && !p->web));
    int plain = (p->ready && p->out.len == 0 && !p->out.ended ? WATCH_READ : 0) |
                (p->in.len > 0 ? WATCH_WRITE : 0);
    if (p->out.passed)
        blocked = false;
    /* A hang-up that is known would be told for ever. */
    if ((p->joined || !p->ready) && plain == 0 && !p->in.passed)
        plain = WATCH_END;
    int tls = (listen ? WATCH_READ : 0) | (blocked ? WATCH_WRITE : 0);
    if (p->web && tls == 0 && !p->out.passed)
        tls = WATCH_END;
    p->fd_events = tls;
    p->plain_events = plain;
    watch_for(&p->fd_watch, tls);
    watch_for(&p->plain_watch, plain);
}

/* False when it is over. */
static bool handshake(struct tlspipe *p)
{
    int rc = gnutls_handshake(p->tls);
    if (rc == GNUTLS_E_SUCCESS) {
        p->ready = true;
        timer_stop(&p->timer);
        return true;
    }
    return !gnutls_error_is_fatal(rc);
}

/*
 * Joined: whether a side went away before its time. Behind the end of a direction
 * nothing comes but the end of the connection. The sockets are asked, since what the
 * loop says may be from before the last read.
 */
static bool gone(const struct tlspipe *p)
{
    char byte;
    if (p->web && p->fd_events == WATCH_END && hung_up(p->fd))
        return true; /* the web also ends one direction by TCP alone */
    if (!p->web && p->in.ended &&
        (recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
         (errno != EAGAIN && errno != EINTR)))
        return true;
    return p->plain_events == WATCH_END && hung_up(p->plain);
}

static void turn(struct tlspipe *p)
{
    if (((p->joined || !p->ready) && gone(p)) || (!p->ready && !handshake(p))) {
        p->broken = true;
        end(p);
        return;
    }
    for (int i = 0; p->ready && i < TURNS; i++) {
        bool moved = read_tls(p);
        moved = write_plain(p) || moved;
        moved = read_plain(p) || moved;
        refuse(p);
        moved = write_tls(p) || moved;
        if (!moved)
            break;
    }
    if (p->joined && p->ready && !pass_ends(p)) {
        end(p);
        return;
    }
    bool in_over = p->in.ended && p->in.len == 0;
    bool out_over = p->out.ended && p->out.len == 0;
    if (!p->joined && (in_over || out_over)) { /* all is through: both ends close */
        if (p->ready)
            (void)gnutls_bye(p->tls, GNUTLS_SHUT_WR);
        end(p);
        return;
    }
    update(p);
    if (p->ready && p->in.len == 0 && gnutls_record_check_pending(p->tls) > 0)
        timer_start(&p->timer, 0);
}

static void on_ready(void *ctx, int events)
{
    (void)events;
    turn(ctx);
}

/* The handshake took too long; or a record waits that no event would tell of. */
static void on_timer(void *ctx)
{
    struct tlspipe *p = ctx;
    p->broken = p->broken || !p->ready;
    if (!p->ready)
        end(p);
    else
        turn(p);
}

/* -------------------------------------------------------------------------- making */

static int tls_setup(struct tlspipe *p, const struct tlspipe_config *c)
{
    struct tls_config t = {
        .is_client = p->is_client,
        .web = c->web,
        .protocol = c->protocol,
        .credentials = c->credentials,
        .priority = c->priority,
        .badge = c->badge,
        .fd = p->fd,
        .owner = p,
    };
    if (t.credentials == NULL) {
        if (gnutls_certificate_allocate_credentials(&p->own) != 0)
            return POSTERN_ERR_NOMEM;
        gnutls_certificate_set_verify_function(p->own, verify);
        t.credentials = p->own;
    }
    return tls_begin(&p->tls, &t);
}

static int watches_open(struct tlspipe *p, struct loop *loop)
{
    int rc = watch_open(&p->fd_watch, loop, p->fd, on_ready, p);
    return rc != 0 ? rc : watch_open(&p->plain_watch, loop, p->plain, on_ready, p);
}

/* Takes both descriptors, also on failure. */
static int start(struct tlspipe **out, const struct tlspipe_config *c, int fd,
                 int plain)
{
    struct tlspipe *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        close(fd);
        close(plain);
        return POSTERN_ERR_NOMEM;
    }
    p->fd = fd;
    p->plain = plain;
    p->web = c->web;
    p->is_client = c->expect != NULL;
    timer_init(&p->timer, c->loop, on_timer, p);
    if (c->expect != NULL)
        memcpy(p->expect, c->expect, KEY_LEN);
    int rc = tls_setup(p, c);
    if (rc == 0)
        rc = watches_open(p, c->loop);
    if (rc != 0) {
        end(p);
        return rc;
    }
    timer_start(&p->timer, HANDSHAKE_MS);
    p->fd_events = WATCH_READ | WATCH_WRITE;
    watch_for(&p->fd_watch, p->fd_events);
    *out = p;
    return 0;
}

int tlspipe_open(const struct tlspipe_config *c, int fd)
{
    struct tlspipe *p;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        close(fd);
        return POSTERN_ERR_NOMEM;
    }
    int rc = start(&p, c, fd, pair[0]);
    if (rc != 0)
        close(pair[1]);
    return rc != 0 ? rc : pair[1];
}

int tlspipe_join(struct tlspipe **out, const struct tlspipe_join *j)
{
    struct tlspipe *p;
    int rc = start(&p, &j->config, j->fd, j->plain);
    if (rc != 0)
        return rc;
    p->joined = !j->whole;
    if (p->joined) { /* until both directions have ended */
        linger_reset(p->fd);
        linger_reset(p->plain);
    }
    p->on_end = j->on_end;
    p->ctx = j->ctx;
    p->look = j->whole ? j->look : NULL;
    p->refusal = j->refusal;
    *out = p;
    return 0;
}

void tlspipe_break(struct tlspipe *p)
{
    if (p == NULL)
        return;
    p->on_end = NULL;
    p->broken = true;
    end(p);
}

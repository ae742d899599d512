/*
 * Messages over TLS 1.3 on one TCP socket and one watch. Keeps no buffer while
 * idle: the receive buffer exists only while a frame is incomplete, the send queue
 * only while the socket is full. Does not know what messages say.
 */
#include "io/channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "core/proto.h"
#include "core/wire.h"
#include "io/identity.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/oserr.h"
#include "io/sock.h"
#include "io/tcp.h"
#include "io/tls.h"

enum channel_state {
    CHANNEL_CONNECTING,
    CHANNEL_HANDSHAKE,
    CHANNEL_OPEN,
    CHANNEL_DEAD
};

enum {
    RECORD_MAX = 16384,
    RECORD_ADDS = 22,
    QUEUE_DEFAULT = 256 * 1024,
    READS_PER_EVENT = 16
};

struct bytes {
    uint8_t *data;
    size_t len, cap, from;
};

struct channel {
    struct channel_config config;
    struct watch watch;
    struct timer kick; /* just attached: what was read before is delivered */
    gnutls_session_t tls;
    gnutls_certificate_credentials_t cred; /* own, unless the config lent some */
    int fd;
    enum channel_state state;
    bool is_client, busy, freed, detached;
    bool record_pending; /* GnuTLS holds a record that the socket did not take */
    bool breaks;         /* the other end said so */
    int fail_err;        /* found in a call; told from the loop */
    uint8_t peer[KEY_LEN];
    uint8_t expect[KEY_LEN];
    struct bytes in, out;
    uint64_t said; /* of what channel_send took, with what TLS adds */
};

static void bytes_reset(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

static int bytes_append(struct bytes *b, const void *data, size_t len)
{
    if (data == NULL || len == 0)
        return 0;
    if (b->from > 0) {
        memmove(b->data, b->data + b->from, b->len - b->from);
        b->len -= b->from;
        b->from = 0;
    }
    if (len > b->cap - b->len) {
        size_t cap = b->len + len < 512 ? 512 : b->len + len;
        uint8_t *data2 = realloc(b->data, cap);
        if (data2 == NULL)
            return POSTERN_ERR_NOMEM;
        b->data = data2;
        b->cap = cap;
    }
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

/*
 * What is queued waits for the end of the handshake: while the other end is silent the
 * socket takes bytes at any time, and asking for that would turn the loop.
 */
static bool wants_to_write(const struct channel *c)
{
    if (c->state == CHANNEL_HANDSHAKE && c->fail_err == 0)
        return gnutls_record_get_direction(c->tls) == 1;
    return c->out.len > c->out.from || c->record_pending || c->fail_err != 0;
}

static void watch_update(struct channel *c)
{
    int want = WATCH_READ;
    if (c->state == CHANNEL_CONNECTING)
        want = WATCH_WRITE;
    else if (wants_to_write(c))
        want |= WATCH_WRITE;
    if (watch_is_open(&c->watch))
        watch_for(&c->watch, want);
}

static void destroy(struct channel *c)
{
    watch_close(&c->watch);
    timer_stop(&c->kick);
    if (c->tls != NULL)
        gnutls_deinit(c->tls);
    if (c->cred != NULL)
        gnutls_certificate_free_credentials(c->cred);
    if (c->fd >= 0)
        close(c->fd);
    bytes_reset(&c->in);
    bytes_reset(&c->out);
    free(c);
}

static void expect_more(struct channel *c)
{
    if (c->config.acks_at_once)
        tcp_ack_at_once(c->fd);
}

/* Runs when the outermost callback unwinds. */
static void leave(struct channel *c)
{
    c->busy = false;
    if (c->freed) {
        destroy(c);
    } else if (!c->detached && c->state != CHANNEL_DEAD) {
        watch_update(c);
        expect_more(c);
    }
}

/*
 * The kernel tells of a reset once. When a write was told, what is read afterwards
 * looks like an orderly end, and is not.
 */
static void die(struct channel *c, int err, const char *why)
{
    if (c->state == CHANNEL_DEAD || c->freed)
        return;
    if (err == POSTERN_ERR_CLOSED && c->fail_err != 0)
        err = c->fail_err;
    c->state = CHANNEL_DEAD;
    watch_close(&c->watch);
    c->config.events->on_close(c->config.ctx, err, why);
}

static int verify_peer(gnutls_session_t tls)
{
    struct channel *c = gnutls_session_get_ptr(tls);
    if (identity_peer_key(tls, c->peer) != 0)
        return GNUTLS_E_CERTIFICATE_ERROR;
    if (c->is_client && !c->config.any_key &&
        memcmp(c->peer, c->expect, KEY_LEN) != 0) {
        c->fail_err = POSTERN_ERR_KEY;
        return GNUTLS_E_CERTIFICATE_ERROR;
    }
    return 0;
}

static int tls_setup(struct channel *c)
{
    struct tls_config t = {
        .is_client = c->is_client,
        .protocol = c->config.protocol != NULL ? c->config.protocol : PROTO_ALPN_BROKER,
        .credentials = c->config.credentials,
        .priority = c->config.priority,
        .badge = c->config.badge,
        .fd = c->fd,
        .owner = c,
    };
    int err = t.credentials == NULL ? identity_credentials(&c->cred, c->config.own) : 0;
    if (err != 0)
        return err;
    if (t.credentials == NULL)
        t.credentials = c->cred;
    gnutls_certificate_set_verify_function(t.credentials, verify_peer);
    err = tls_begin(&c->tls, &t);
    if (err == 0 && !c->is_client)
        gnutls_certificate_server_set_request(c->tls, GNUTLS_CERT_REQUIRE);
    return err;
}

static void tune_socket(int fd, unsigned asks_after_s)
{
    enum { IDLE_S = 30, GAP_S = 10, COUNT = 3, PATIENCE_MS = 30000 };
    tcp_no_delay(fd);
    if (asks_after_s > 0) /* PATIENCE_MS says when it is over; the count does not */
        tcp_keep_alive_every(fd, (int)asks_after_s, 1, PATIENCE_MS / 1000);
    else
        tcp_keep_alive_every(fd, IDLE_S, GAP_S, COUNT);
    tcp_give_up_after(fd, PATIENCE_MS);
}

static void on_ready(void *ctx, int events);

static int channel_new(struct channel **out, const struct channel_config *config,
                       int fd, const uint8_t *expect)
{
    struct channel *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        close(fd);
        return POSTERN_ERR_NOMEM;
    }
    c->config = *config;
    if (c->config.queue_max_bytes == 0)
        c->config.queue_max_bytes = QUEUE_DEFAULT;
    c->fd = fd;
    c->is_client = expect != NULL;
    c->state = c->is_client ? CHANNEL_CONNECTING : CHANNEL_HANDSHAKE;
    if (c->is_client)
        memcpy(c->expect, expect, KEY_LEN);
    tune_socket(fd, config->asks_after_s);
    int rc = tls_setup(c);
    c->config.badge = NULL;
    if (rc == 0)
        rc = watch_open(&c->watch, config->loop, fd, on_ready, c);
    if (rc != 0) {
        destroy(c);
        return rc;
    }
    watch_update(c);
    *out = c;
    return 0;
}

int channel_new_server(struct channel **out, const struct channel_config *config,
                       int fd)
{
    return channel_new(out, config, fd, NULL);
}

int channel_new_client(struct channel **out, const struct channel_config *config,
                       int fd, const uint8_t expect[static KEY_LEN])
{
    return channel_new(out, config, fd, expect);
}

/* What ended a connection that TLS could not go on with; `err` is errno then. */
static int broken(int err)
{
    int rc = oserr(err);
    return rc == POSTERN_ERR_RESET || rc == POSTERN_ERR_TIMEOUT ||
                   rc == POSTERN_ERR_UNREACHABLE
               ? rc
               : POSTERN_ERR_CLOSED;
}

static int flush(struct channel *c)
{
    while (c->record_pending || c->out.len > c->out.from) {
        size_t len = c->out.len - c->out.from;
        if (len > RECORD_MAX)
            len = RECORD_MAX;
        errno = 0;
        ssize_t n = c->record_pending
                        ? gnutls_record_send(c->tls, NULL, 0)
                        : gnutls_record_send(c->tls, c->out.data + c->out.from, len);
        if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
            c->record_pending = true;
            return 0;
        }
        if (n < 0)
            return broken(errno);
        c->record_pending = false;
        c->out.from += (size_t)n;
    }
    bytes_reset(&c->out);
    return 0;
}

int channel_send(struct channel *c, const void *msg, size_t len)
{
    uint8_t header[PROTO_FRAME_HEADER];
    if (c->state == CHANNEL_DEAD)
        return POSTERN_ERR_CLOSED;
    if (c->fail_err != 0)
        return c->fail_err;
    if (len > PROTO_FRAME_MAX ||
        channel_queued_bytes(c) + len > c->config.queue_max_bytes)
        return POSTERN_ERR_LIMIT;
    struct wire_writer w = wire_writer(header, sizeof(header));
    wire_put_u32(&w, (uint32_t)len);
    if (bytes_append(&c->out, header, sizeof(header)) != 0)
        return POSTERN_ERR_NOMEM;
    if (bytes_append(&c->out, msg, len) != 0) {
        c->out.len -= sizeof(header);
        return POSTERN_ERR_NOMEM;
    }
    c->said += sizeof(header) + len + RECORD_ADDS;
    if (c->state == CHANNEL_OPEN && !c->detached) {
        int rc = flush(c);
        if (rc != 0)
            c->fail_err = rc; /* told from the loop, by on_close */
        if (!c->busy) {
            watch_update(c);
            expect_more(c);
        }
    }
    return 0;
}

void channel_set_queue_max(struct channel *c, size_t bytes)
{
    c->config.queue_max_bytes = bytes;
}

size_t channel_queued_bytes(const struct channel *c)
{
    return c->out.len - c->out.from;
}

size_t channel_unread_bytes(const struct channel *c)
{
    return channel_queued_bytes(c) + (c->fd >= 0 ? sock_unsent(c->fd) : 0);
}

uint64_t channel_said_bytes(const struct channel *c)
{
    return c->said;
}

uint64_t channel_acked_bytes(const struct channel *c)
{
    size_t unread = channel_unread_bytes(c);
    return c->said > unread ? c->said - unread : 0;
}

static void do_connect(struct channel *c)
{
    int err = sock_error(c->fd);
    if (err != 0)
        die(c, err, strerror(errno));
    else
        c->state = CHANNEL_HANDSHAKE;
}

static bool is_busy_alert(const struct channel *c, ssize_t rc)
{
    return rc == GNUTLS_E_FATAL_ALERT_RECEIVED &&
           gnutls_alert_get(c->tls) == GNUTLS_A_USER_CANCELED;
}

/* What a failed handshake means: not everything is the protocol's fault. */
static int handshake_error(const struct channel *c, int rc, int err, const char **why)
{
    if (c->fail_err == POSTERN_ERR_KEY) {
        *why = "the other end holds another key than expected";
        return POSTERN_ERR_KEY;
    }
    if (is_busy_alert(c, rc)) {
        *why = "the other end is busy";
        return POSTERN_ERR_LIMIT;
    }
    if (rc == GNUTLS_E_PREMATURE_TERMINATION || rc == GNUTLS_E_PULL_ERROR ||
        rc == GNUTLS_E_PUSH_ERROR) {
        *why = "ended by the other end before it answered";
        return broken(err);
    }
    return POSTERN_ERR_PROTO;
}

static void do_handshake(struct channel *c)
{
    errno = 0;
    int rc = gnutls_handshake(c->tls), sys = errno;
    if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
        return;
    if (rc < 0 && !gnutls_error_is_fatal(rc))
        return;
    if (rc < 0) {
        const char *why = gnutls_strerror(rc);
        int err = handshake_error(c, rc, sys, &why);
        if (err == POSTERN_ERR_PROTO || err == POSTERN_ERR_KEY)
            (void)gnutls_alert_send_appropriate(c->tls, rc);
        die(c, err, why);
        return;
    }
    c->state = CHANNEL_OPEN;
    rc = flush(c);
    if (rc != 0) {
        die(c, rc, "connection lost");
        return;
    }
    c->config.events->on_open(c->config.ctx, c->peer);
}

/* Delivers the whole frames in `data`; returns what was consumed, or an error. */
static ssize_t deliver(struct channel *c, const uint8_t *data, size_t len)
{
    size_t used = 0;
    while (!c->freed && !c->detached && c->state == CHANNEL_OPEN) {
        int n = proto_frame_size(data + used, len - used, PROTO_FRAME_MAX);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        const uint8_t *body = data + used + PROTO_FRAME_HEADER;
        used += (size_t)n;
        c->config.events->on_message(c->config.ctx, body,
                                     (size_t)n - PROTO_FRAME_HEADER);
    }
    return (ssize_t)used;
}

static int consume(struct channel *c, const uint8_t *data, size_t len)
{
    if (c->in.len == 0) { /* the common case: nothing kept, nothing copied */
        ssize_t used = deliver(c, data, len);
        if (used < 0)
            return (int)used;
        if ((size_t)used == len)
            return 0;
        return bytes_append(&c->in, data + used, len - (size_t)used);
    }
    if (len > 0 && bytes_append(&c->in, data, len) != 0)
        return POSTERN_ERR_NOMEM;
    struct bytes whole = c->in;
    c->in = (struct bytes){0};
    ssize_t used = deliver(c, whole.data, whole.len);
    int rc = 0;
    if (used < 0)
        rc = (int)used;
    else if ((size_t)used < whole.len)
        rc = bytes_append(&c->in, whole.data + used, whole.len - (size_t)used);
    free(whole.data);
    return rc;
}

/* A server that cancels is busy, and has not read what we said; a client breaks it. */
static int open_error(struct channel *c, ssize_t rc, int err)
{
    if (is_busy_alert(c, rc)) {
        c->breaks = !c->is_client;
        return c->breaks ? POSTERN_ERR_RESET : POSTERN_ERR_LIMIT;
    }
    return rc == GNUTLS_E_FATAL_ALERT_RECEIVED ? POSTERN_ERR_DENIED : broken(err);
}

static void do_read(struct channel *c)
{
    READ_INTO uint8_t buf[RECORD_MAX];
    for (int i = 0; i < READS_PER_EVENT; i++) {
        errno = 0;
        ssize_t n = gnutls_record_recv(c->tls, buf, sizeof(buf));
        int err = errno;
        if (n == GNUTLS_E_INTERRUPTED)
            continue;
        if (n == GNUTLS_E_AGAIN)
            return;
        if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION) {
            err = n == 0 ? POSTERN_ERR_CLOSED : broken(err);
            if (n == 0 && !c->is_client) /* it is gone: NATs forget a reset soonest */
                linger_reset(c->fd);
            die(c, err, postern_strerror(err));
            return;
        }
        if (n == GNUTLS_E_WARNING_ALERT_RECEIVED || n == GNUTLS_E_REHANDSHAKE)
            continue;
        if (n < 0) {
            die(c, open_error(c, n, err), gnutls_strerror((int)n));
            return;
        }
        int rc = consume(c, buf, (size_t)n);
        if (c->freed || c->detached)
            return;
        if (rc != 0) {
            die(c, rc, "the other end sent a malformed frame");
            return;
        }
    }
}

static void on_ready(void *ctx, int events)
{
    struct channel *c = ctx;
    c->busy = true;
    if (c->state == CHANNEL_CONNECTING)
        do_connect(c);
    if (c->state == CHANNEL_HANDSHAKE && !c->freed)
        do_handshake(c);
    if (c->state == CHANNEL_OPEN && !c->freed && !c->detached) {
        if (c->fail_err == 0 && (events & WATCH_WRITE) != 0)
            c->fail_err = flush(c);
        do_read(c); /* after a failure to send, too: what came before it */
        if (c->fail_err != 0 && !c->detached)
            die(c, c->fail_err, "connection lost");
    }
    leave(c);
}

void channel_detach(struct channel *c)
{
    watch_close(&c->watch);
    c->detached = true;
}

/* Delivers what was read before the move, from the new loop. */
static void on_kick(void *ctx)
{
    struct channel *c = ctx;
    c->detached = false;
    c->busy = true;
    if (consume(c, NULL, 0) != 0)
        die(c, POSTERN_ERR_PROTO, "the other end sent a malformed frame");
    else if (!c->freed && !c->detached && c->state == CHANNEL_OPEN)
        do_read(c);
    leave(c);
}

int channel_attach(struct channel *c, const struct channel_config *config)
{
    size_t queue_max = c->config.queue_max_bytes;
    c->config = *config;
    if (c->config.queue_max_bytes == 0)
        c->config.queue_max_bytes = queue_max;
    int rc = watch_open(&c->watch, config->loop, c->fd, on_ready, c);
    if (rc != 0)
        return rc;
    timer_init(&c->kick, config->loop, on_kick, c);
    timer_start(&c->kick, 0);
    return 0;
}

void channel_remote(const struct channel *c, struct addr *a)
{
    if (sock_remote(c->fd, a) != 0)
        *a = (struct addr){0};
}

void channel_local(const struct channel *c, struct addr *a)
{
    if (sock_local(c->fd, a) != 0)
        *a = (struct addr){0};
}

uint32_t channel_rtt_us(const struct channel *c)
{
    struct tcp_facts f;
    return tcp_read_facts(c->fd, &f) == 0 ? f.rtt_us : 0;
}

bool channel_is_clogged(const struct channel *c)
{
    enum { CLOGGED_US = 1000000 };
    return sock_unsent(c->fd) > 0 || channel_rtt_us(c) > CLOGGED_US;
}

uint32_t channel_min_rtt_us(const struct channel *c)
{
    struct tcp_facts f;
    return tcp_read_facts(c->fd, &f) == 0 ? f.min_rtt_us : 0;
}

bool channel_is_stuck(const struct channel *c)
{
    struct tcp_facts f;
    return tcp_read_facts(c->fd, &f) == 0 && f.retransmits > 0;
}

void channel_insist(struct channel *c)
{
    enum { ROUND_TRIPS = 3 };
    tcp_send_again_within(c->fd, ROUND_TRIPS * channel_rtt_us(c) / 1000);
}

uint32_t channel_silent_ms(const struct channel *c)
{
    struct tcp_facts f;
    if (tcp_read_facts(c->fd, &f) != 0)
        return 0;
    return f.ack_ms < f.data_ms ? f.ack_ms : f.data_ms;
}

void channel_say_busy(struct channel *c)
{
    if (c->state == CHANNEL_HANDSHAKE && !c->freed)
        (void)gnutls_alert_send(c->tls, GNUTLS_AL_FATAL, GNUTLS_A_USER_CANCELED);
}

static void free_when_idle(struct channel *c)
{
    c->freed = true;
    if (!c->busy)
        destroy(c); /* else leave() does */
}

void channel_break(struct channel *c)
{
    if (c == NULL || c->freed)
        return;
    if (c->state == CHANNEL_OPEN && c->fail_err == 0 && !c->record_pending)
        (void)gnutls_alert_send(c->tls, GNUTLS_AL_FATAL, GNUTLS_A_USER_CANCELED);
    linger_reset(c->fd);
    free_when_idle(c);
}

bool channel_was_reset(const struct channel *c, int err)
{
    return err == POSTERN_ERR_RESET && !c->breaks;
}

/* The acknowledgement of a keepalive is the only packet of ours that the kernel does
 * not tell us of: none is asked for before the other end has heard nothing for a while.
 */
bool channel_was_killed(const struct channel *c, int err)
{
    struct tcp_facts f;
    return channel_was_reset(c, err) && tcp_was_reset_unasked(c->fd) &&
           tcp_read_facts(c->fd, &f) == 0 &&
           (f.sent_ms < f.data_ms ? f.sent_ms : f.data_ms) < CHANNEL_ASKS_S * 1000;
}

void channel_free(struct channel *c)
{
    if (c == NULL || c->freed)
        return;
    if (c->state == CHANNEL_OPEN && c->fail_err == 0) {
        if (flush(c) == 0 && !c->record_pending)
            (void)gnutls_bye(c->tls, GNUTLS_SHUT_WR);
    }
    free_when_idle(c);
}

/*
 * The life of a session: made, fed with packets, timed, moved from path to path,
 * ended. Events that may free the session are told from the loop, never from inside
 * ngtcp2.
 */
#include "session/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/wire.h"
#include "io/clock.h"
#include "io/identity.h"
#include "io/loop.h"
#include "session/gcm.h"

static void on_packets(void *ctx, struct path *p, const uint8_t *buf, size_t len,
                       size_t segment_len);
static void on_writable(void *ctx, struct path *p);

const struct path_user session_path_user = {on_packets, on_writable};

// clang-format off
const uint8_t session_life_next[LIFE_CLOSED + 1] = {
    [LIFE_HANDSHAKE] = 1u << LIFE_SECURE | 1u << LIFE_FAILED | 1u << LIFE_CLOSED,
    [LIFE_SECURE]    = 1u << LIFE_OPEN | 1u << LIFE_FAILED | 1u << LIFE_CLOSED,
    [LIFE_OPEN]      = 1u << LIFE_FAILED | 1u << LIFE_CLOSED,
    [LIFE_FAILED]    = 1u << LIFE_CLOSED,
    [LIFE_CLOSED]    = 0,
};
const uint8_t session_use_next[USE_FREED + 1] = {
    [USE_NONE]  = 1u << USE_BUSY | 1u << USE_FREED,
    [USE_BUSY]  = 1u << USE_NONE | 1u << USE_FREED,
    [USE_FREED] = 0,
};
// clang-format on

int session_env_init(struct session_env *env, struct loop *loop,
                     const struct keypair *own)
{
    *env = (struct session_env){
        .loop = loop, .own = own, .key_packets = SESSION_KEY_PACKETS};
    list_init(&env->waiting);
    env->batch = malloc(BATCH_BYTES + PROBE_LEN_MAX);
    if (env->batch == NULL)
        return POSTERN_ERR_NOMEM;
    env->probe = env->batch + BATCH_BYTES;
    int rc = identity_credentials(&env->cred, own);
    if (rc == 0 &&
        gnutls_priority_init(&env->priority, IDENTITY_TLS_PRIORITY, NULL) != 0)
        rc = POSTERN_ERR_NOMEM;
    if (rc != 0)
        session_env_fini(env);
    else
        env->gcm = gcm_engine_new();
    return rc;
}

void session_env_fini(struct session_env *env)
{
    if (env->cred != NULL)
        gnutls_certificate_free_credentials(env->cred);
    env->cred = NULL;
    if (env->priority != NULL)
        gnutls_priority_deinit(env->priority);
    env->priority = NULL;
    gcm_engine_free(env->gcm);
    env->gcm = NULL;
    free(env->batch);
    env->batch = NULL;
    chain_pool_fini(&env->pool);
}

void session_fail(struct session *s, int err, const char *why)
{
    if (!session_lives(s))
        return;
    STATE_GO(session_life_next, s->life, LIFE_FAILED);
    s->fail_err = err;
    (void)snprintf(s->fail_why, sizeof(s->fail_why), "%s", why);
    session_touch(s);
}

/* ------------------------------------------------------------------------- packets */

static void on_read_error(struct session *s, int rc)
{
    if (rc == NGTCP2_ERR_DRAINING) {
        const ngtcp2_ccerr *e = ngtcp2_conn_get_ccerr(s->conn);
        bool crypto = e->type == NGTCP2_CCERR_TYPE_TRANSPORT &&
                      e->error_code >= 0x100 && e->error_code < 0x200;
        /* RFC 9000 section 10.2.3: what ends in the handshake bears no reason. */
        bool early =
            !session_is_secure(s) || (e->type == NGTCP2_CCERR_TYPE_TRANSPORT &&
                                      e->error_code == NGTCP2_APPLICATION_ERROR);
        char why[128];
        if (e->reasonlen > 0)
            (void)snprintf(why, sizeof(why), "%.*s", (int)e->reasonlen,
                           (const char *)e->reason);
        else if (crypto)
            (void)snprintf(why, sizeof(why), "the other device did not accept our key");
        else if (early)
            (void)snprintf(why, sizeof(why), "it gave this session up before it stood");
        else
            (void)snprintf(why, sizeof(why), "ended by the other device (code %s%#llx)",
                           e->type == NGTCP2_CCERR_TYPE_APPLICATION ? "" : "QUIC ",
                           (unsigned long long)e->error_code);
        bool crowded =
            e->type == NGTCP2_CCERR_TYPE_APPLICATION && e->error_code == REFUSE_LIMIT;
        session_fail(s,
                     crypto    ? POSTERN_ERR_DENIED
                     : crowded ? POSTERN_ERR_LIMIT
                               : POSTERN_ERR_CLOSED,
                     why);
        return;
    }
    session_fail(s, POSTERN_ERR_PROTO, ngtcp2_strerror(rc));
}

/* Tells the peer why, as QUIC wants it, before the session fails. */
static void send_connection_error(struct session *s, int rc)
{
    ngtcp2_path_storage ps;
    ngtcp2_pkt_info pi;
    ngtcp2_ccerr err;
    ngtcp2_path_storage_zero(&ps);
    if (rc == NGTCP2_ERR_CRYPTO)
        ngtcp2_ccerr_set_tls_alert(&err, ngtcp2_conn_get_tls_alert(s->conn),
                                   (const uint8_t *)s->denied, strlen(s->denied));
    else
        ngtcp2_ccerr_set_liberr(&err, rc, NULL, 0);
    ngtcp2_ssize n = ngtcp2_conn_write_connection_close(
        s->conn, &ps.path, &pi, s->env->batch, 1200, &err, clock_ns());
    if (n > 0 && s->current != NULL)
        (void)path_send(s->current, s->env->batch, (size_t)n, (size_t)n);
}

/* The peer acknowledged something: the path in use works both ways. */
static bool has_progressed(struct session *s, const ngtcp2_conn_info *info)
{
    bool sample = info->latest_rtt != 0 && info->latest_rtt != s->latest_rtt;
    bool progressed = s->progressed || sample;
    s->progressed = false;
    s->latest_rtt = info->latest_rtt;
    return progressed;
}

static void note_received(struct session *s, struct path *p, size_t len,
                          uint64_t now_us)
{
    ngtcp2_conn_info info;
    s->received_bytes += len;
    s->heard_us = now_us;
    keepalive_on_received(&s->keep, now_us);
    paths_on_received(&s->net, p->id, now_us);
    ngtcp2_conn_get_conn_info(s->conn, &info);
    if (info.latest_rtt != 0) /* after a change of path there is none yet */
        paths_on_rtt(&s->net, (uint32_t)(info.smoothed_rtt / 1000),
                     (uint32_t)(info.rttvar / 1000), now_us);
    if (has_progressed(s, &info))
        paths_on_progress(&s->net, now_us);
    if (info.bytes_in_flight == 0) {
        paths_on_settled(&s->net);
        bundle_on_settled(s, now_us * 1000);
    }
    flight_on_acked(s, info.latest_rtt, now_us * 1000);
    size_on_acked(s, now_us * 1000);
}

static void read_packet(struct session *s, const uint8_t *packet, size_t len,
                        uint64_t ts)
{
    struct label label;
    ngtcp2_pkt_info pi = {0};
    ngtcp2_path path = label_path(&label, steer_label(s, packet, len));
    int rc = ngtcp2_conn_read_pkt(s->conn, &path, &pi, packet, len, ts);
    s->keyed_packets++;
    if (rc == 0)
        return;
    if (rc != NGTCP2_ERR_DRAINING && rc != NGTCP2_ERR_DROP_CONN)
        send_connection_error(s, rc);
    on_read_error(s, rc);
}

/*
 * A client that still says what ends its handshake has not heard that it is over. QUIC
 * drops this unread, and its own timer may have grown to seconds on a path that died.
 */
static void note_repeated(struct session *s, bool opening, const uint8_t *packet)
{
    if (!opening && !s->is_client && (packet[0] & LONG_HEADER) != 0)
        s->ping_due = true;
}

static void on_packets(void *ctx, struct path *p, const uint8_t *buf, size_t len,
                       size_t segment_len)
{
    struct session *s = ctx;
    if (!session_lives(s) || segment_len == 0)
        return;
    uint64_t ts = clock_ns();
    size_t decoded = 0;
    bool opening = !session_is_secure(s);
    STATE_GO(session_use_next, s->use, USE_BUSY);
    for (size_t at = 0; at < len && session_lives(s); at += segment_len) {
        size_t n = len - at < segment_len ? len - at : segment_len;
        if (buf[at] == PROBE_FIRST_BYTE) {
            steer_on_probe(s, p, buf + at, n, ts / 1000);
        } else if (buf[at] == COPY_FIRST_BYTE) {
            copies_on_packet(s, buf + at, n);
        } else {
            note_repeated(s, opening, buf + at);
            read_packet(s, buf + at, n, ts);
            decoded += n;
        }
    }
    if (decoded > 0 && session_lives(s))
        note_received(s, p, decoded, ts / 1000);
    if (decoded > 0 && opening && session_lives(s))
        opening_on_packets(s, p);
    session_touch(s); /* the streams are flushed once all packets were read */
    session_leave(s);
}

static void on_writable(void *ctx, struct path *p)
{
    struct session *s = ctx;
    (void)p;
    output_flush_pending(s);
    session_touch(s);
}

/* ---------------------------------------------------------------------- life cycle */

static void destroy(struct session *s)
{
    LIST_EACH (struct path, p, &s->paths, user_link)
        p->user = NULL;
    stream_fini(s);
    chain_fini(&s->meta_in);
    free(s->pending.buf);
    opening_fini(s);
    copies_fini(s);
    if (s->conn != NULL)
        ngtcp2_conn_del(s->conn);
    if (s->tls != NULL)
        gnutls_deinit(s->tls);
    round_stop(s);
    free(s);
}

void session_leave(struct session *s)
{
    if (s->use == USE_FREED)
        destroy(s);
    else
        STATE_GO(session_use_next, s->use, USE_NONE);
}

static struct session *session_new(const struct session_config *c,
                                   const uint8_t peer[static KEY_LEN])
{
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->env = c->env;
    s->events = c->events;
    s->ctx = c->ctx;
    s->denied = "";
    memcpy(s->peer, peer, KEY_LEN);
    list_init(&s->paths);
    chain_init(&s->meta_in, &s->env->pool);
    stream_init(s);
    uint64_t now_us = clock_us();
    s->heard_us = now_us;
    s->packet_max = PACKET_MAX;
    keepalive_init(&s->keep, true, 0, now_us);
    round_init(s);
    return s;
}

static void random_cid(ngtcp2_cid *cid, size_t len)
{
    cid->datalen = len;
    randombytes_buf(cid->data, len);
}

int session_new_client(struct session **out, const struct session_config *c,
                       const uint8_t host[static KEY_LEN], struct path *first)
{
    ngtcp2_cid dcid, scid;
    struct session *s = session_new(c, host);
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    s->is_client = true;
    paths_init(&s->net, true, s->heard_us);
    random_cid(&dcid, 18);
    random_cid(&scid, SESSION_CID_LEN);
    session_add_path(s, first);
    int rc = quic_setup(s, &dcid, &scid, NULL, NGTCP2_PROTO_VER_V1, c->rtt_hint_us);
    if (rc != 0) {
        destroy(s);
        return rc;
    }
    session_touch(s);
    *out = s;
    return 0;
}

int session_new_server(struct session **out, const struct session_config *c,
                       const uint8_t client[static KEY_LEN], struct path *first,
                       const uint8_t *packet, size_t len)
{
    ngtcp2_pkt_hd hd;
    ngtcp2_cid scid;
    if (ngtcp2_accept(&hd, packet, len) != 0)
        return POSTERN_ERR_PROTO;
    struct session *s = session_new(c, client);
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    keepalive_init(&s->keep, false, 0, s->heard_us);
    paths_init(&s->net, false, s->heard_us);
    random_cid(&scid, SESSION_CID_LEN);
    s->label = label_of_cid(scid.data);
    session_add_path(s, first);
    int rc = quic_setup(s, &hd.scid, &scid, &hd.dcid, hd.version, c->rtt_hint_us);
    if (rc != 0) {
        destroy(s);
        return rc;
    }
    on_packets(s, first, packet, len, len);
    *out = s;
    return 0;
}

void session_close(struct session *s, uint64_t code, const char *reason)
{
    if (s->life == LIFE_CLOSED)
        return;
    if (session_lives(s))
        output_close(s, code, reason);
    STATE_GO(session_life_next, s->life, LIFE_CLOSED);
    round_stop(s);
}

bool session_is_ended_by_peer(const struct session *s)
{
    return ngtcp2_conn_in_draining_period(s->conn) != 0;
}

void session_free(struct session *s)
{
    if (s == NULL || s->use == USE_FREED)
        return;
    session_close(s, 0, "closed");
    bool busy = s->use == USE_BUSY;
    STATE_GO(session_use_next, s->use, USE_FREED);
    if (!busy)
        destroy(s);
}

/* -------------------------------------------------------------------------- status */

struct session_env *session_env_of(const struct session *s)
{
    return s->env;
}

bool session_is_open(const struct session *s)
{
    return session_is_secure(s);
}

const uint8_t *session_peer(const struct session *s)
{
    return s->peer;
}

uint32_t session_rtt_us(const struct session *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    uint64_t us = info.latest_rtt / 1000; /* UINT64_MAX ns: none yet */
    return us < UINT32_MAX ? (uint32_t)us : 0;
}

uint32_t session_usual_rtt_us(const struct session *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    uint64_t us = info.smoothed_rtt / 1000;
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

uint64_t session_bytes_sent(const struct session *s)
{
    return s->sent_bytes;
}

uint64_t session_bytes_received(const struct session *s)
{
    return s->received_bytes;
}

uint64_t session_bytes_carried(const struct session *s)
{
    return s->received_bytes + s->acked_bytes;
}

uint64_t session_pressed_us(const struct session *s)
{
    return s->pressed_us;
}

unsigned session_stream_count(const struct session *s)
{
    return s->stream_count - (s->meta != NULL ? 1 : 0);
}

uint64_t session_heard_us(const struct session *s)
{
    return s->heard_us;
}

uint64_t session_keepalive_learned(const struct session *s)
{
    return keepalive_export(&s->keep);
}

void session_keepalive_recall(struct session *s, uint64_t learned_us)
{
    keepalive_init(&s->keep, s->keep.leads, learned_us, s->heard_us);
}

void session_keep_alive(struct session *s)
{
    s->keeps_alive = true;
    session_touch(s);
}

void session_deny(struct session *s, const char *why)
{
    if (s != NULL)
        s->denied = why;
}

int session_exporter(struct session *s, uint8_t out[static 32])
{
    static const char label[] = "EXPORTER-postern-invite";
    if (!session_is_secure(s) || gnutls_prf_rfc5705(s->tls, sizeof(label) - 1, label, 0,
                                                    NULL, 32, (char *)out) != 0)
        return POSTERN_ERR_INVALID;
    return 0;
}

/*
 * The glue to ngtcp2 and GnuTLS: credentials, transport parameters, callbacks. Knows
 * neither where packets go nor what streams mean.
 */
#include "session/internal.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/clock.h"
#include "io/identity.h"

static struct session *session_of(void *user_data)
{
    return user_data;
}

static ngtcp2_conn *get_conn(ngtcp2_crypto_conn_ref *ref)
{
    return ((struct session *)ref->user_data)->conn;
}

static void on_rand(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    randombytes_buf(dest, len);
}

static int on_new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t len,
                      void *user_data)
{
    (void)conn, (void)user_data;
    cid->datalen = len;
    randombytes_buf(cid->data, len);
    /* Packets find their session by path: a stateless reset is never sent. */
    randombytes_buf(token, NGTCP2_STATELESS_RESET_TOKENLEN);
    return 0;
}

static int on_handshake_completed(ngtcp2_conn *conn, void *user_data)
{
    struct session *s = session_of(user_data);
    (void)conn;
    if (s->life != LIFE_HANDSHAKE)
        return 0;
    STATE_GO(session_life_next, s->life, LIFE_SECURE);
    if (steer_on_secure(s) != 0 || copies_on_secure(s) != 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    if (!s->is_client)
        s->confirmed = true;
    session_touch(s); /* on_open is told from the loop */
    return 0;
}

static int on_handshake_confirmed(ngtcp2_conn *conn, void *user_data)
{
    (void)conn;
    session_of(user_data)->confirmed = true;
    return 0;
}

static int on_stream_data(ngtcp2_conn *conn, uint32_t flags, int64_t id,
                          uint64_t offset, const uint8_t *data, size_t len,
                          void *user_data, void *stream_user_data)
{
    struct session *s = session_of(user_data);
    struct stream *st = stream_user_data;
    if (st == NULL) {
        st = stream_new(s, id);
        if (st == NULL)
            return NGTCP2_ERR_CALLBACK_FAILURE;
        (void)ngtcp2_conn_set_stream_user_data(conn, id, st);
        if (id == 0)
            s->meta = st;
        else if (s->events->on_stream != NULL)
            s->events->on_stream(s->ctx, st);
    }
    if (st == s->meta) {
        if (chain_append(&s->meta_in, data, len) != 0)
            return NGTCP2_ERR_CALLBACK_FAILURE;
        (void)ngtcp2_conn_extend_max_stream_offset(conn, id, len);
        ngtcp2_conn_extend_max_offset(conn, len);
        return 0;
    }
    stream_on_data(st, offset, data, len, (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
    return 0;
}

static int on_acked(ngtcp2_conn *conn, int64_t id, uint64_t offset, uint64_t len,
                    void *user_data, void *stream_user_data)
{
    (void)conn, (void)id;
    session_of(user_data)->progressed = true;
    session_of(user_data)->acked_bytes += len;
    session_of(user_data)->moved += len;
    if (stream_user_data != NULL)
        stream_on_acked(stream_user_data, offset, len);
    return 0;
}

static int on_stream_close(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t code,
                           void *user_data, void *stream_user_data)
{
    struct session *s = session_of(user_data);
    if (!(flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET))
        code = 0;
    if (!ngtcp2_conn_is_local_stream(conn, id))
        ngtcp2_conn_extend_max_streams_bidi(conn, 1);
    if (stream_user_data == s->meta)
        s->meta = NULL;
    if (stream_user_data != NULL)
        stream_drop(stream_user_data, code);
    return 0;
}

static int on_stream_reset(ngtcp2_conn *conn, int64_t id, uint64_t final_size,
                           uint64_t code, void *user_data, void *stream_user_data)
{
    struct stream *st = stream_user_data;
    (void)conn, (void)id, (void)final_size, (void)user_data;
    if (st != NULL)
        st->in.over = true;
    if (st != NULL && st->events != NULL)
        st->events->on_reset(st->ctx, code);
    return 0;
}

/* Our own end of reading; the peer's STOP_SENDING shows in on_stream_close alone. */
static int on_stopped(ngtcp2_conn *conn, int64_t id, uint64_t code, void *user_data,
                      void *stream_user_data)
{
    struct stream *st = stream_user_data;
    (void)conn, (void)id, (void)user_data;
    if (st != NULL && st->events != NULL)
        st->events->on_stopped(st->ctx, code);
    return 0;
}

static int on_stream_credit(ngtcp2_conn *conn, int64_t id, uint64_t max,
                            void *user_data, void *stream_user_data)
{
    struct stream *st = stream_user_data;
    (void)conn, (void)id, (void)max, (void)user_data;
    if (st != NULL && st->blocked) {
        st->blocked = false;
        stream_mark_ready(st);
    }
    return 0;
}

static int on_datagram(ngtcp2_conn *conn, uint32_t flags, const uint8_t *data,
                       size_t len, void *user_data)
{
    (void)conn, (void)flags;
    stream_on_datagram(session_of(user_data), data, len);
    return 0;
}

/* Those of a witness are of bundles too (bundle.c). */
static int on_datagram_acked(ngtcp2_conn *conn, uint64_t id, void *user_data)
{
    struct session *s = session_of(user_data);
    uint64_t witness = datagram_id_witness(id);
    (void)conn;
    s->acked_bytes += datagram_id_bytes(id);
    if (witness != 0)
        bundle_on_acked(s, witness, clock_ns());
    return 0;
}

static int on_datagram_lost(ngtcp2_conn *conn, uint64_t id, void *user_data)
{
    uint64_t witness = datagram_id_witness(id);
    (void)conn;
    if (witness != 0)
        bundle_on_lost(session_of(user_data), witness, clock_ns());
    return 0;
}

static int on_path_validation(ngtcp2_conn *conn, uint32_t flags,
                              const ngtcp2_path *path, const ngtcp2_path *old,
                              ngtcp2_path_validation_result res, void *user_data)
{
    (void)conn, (void)flags, (void)path, (void)old, (void)res;
    steer_on_validated(session_of(user_data));
    return 0;
}

static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .handshake_completed = on_handshake_completed,
    .handshake_confirmed = on_handshake_confirmed,
    .encrypt = seal_encrypt,
    .decrypt = seal_decrypt,
    .hp_mask = seal_mask,
    .recv_stream_data = on_stream_data,
    .acked_stream_data_offset = on_acked,
    .stream_close = on_stream_close,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .rand = on_rand,
    .get_new_connection_id = on_new_cid,
    .update_key = seal_update,
    .path_validation = on_path_validation,
    .stream_reset = on_stream_reset,
    .extend_max_stream_data = on_stream_credit,
    .delete_crypto_aead_ctx = seal_delete_key,
    .delete_crypto_cipher_ctx = seal_delete_mask,
    .recv_datagram = on_datagram,
    .ack_datagram = on_datagram_acked,
    .lost_datagram = on_datagram_lost,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .stream_stop_sending = on_stopped,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

static int verify_peer(gnutls_session_t tls)
{
    ngtcp2_crypto_conn_ref *ref = gnutls_session_get_ptr(tls);
    struct session *s = ref->user_data;
    uint8_t key[KEY_LEN];
    if (identity_peer_key(tls, key) == 0 && sodium_memcmp(key, s->peer, KEY_LEN) == 0 &&
        (s->is_client || s->events->authorize(s->ctx, key)))
        return 0;
    if (s->denied[0] != '\0')
        session_fail(s, POSTERN_ERR_DENIED, s->denied);
    else
        session_fail(s, POSTERN_ERR_KEY,
                     "the other device holds another key than expected");
    return GNUTLS_E_CERTIFICATE_ERROR;
}

static int tls_setup(struct session *s)
{
    static const gnutls_datum_t alpn = {(unsigned char *)PROTO_ALPN_SESSION,
                                        sizeof(PROTO_ALPN_SESSION) - 1};
    unsigned flags = GNUTLS_ENABLE_RAWPK | GNUTLS_NO_TICKETS |
                     GNUTLS_NO_AUTO_SEND_TICKET | GNUTLS_NO_END_OF_EARLY_DATA |
                     (s->is_client ? GNUTLS_CLIENT : GNUTLS_SERVER);
    gnutls_certificate_set_verify_function(s->env->cred, verify_peer);
    if (gnutls_init(&s->tls, flags) != 0)
        return POSTERN_ERR_NOMEM;
    if (gnutls_priority_set(s->tls, s->env->priority) != 0 ||
        gnutls_credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, s->env->cred) != 0 ||
        gnutls_alpn_set_protocols(s->tls, &alpn, 1, GNUTLS_ALPN_MANDATORY) != 0)
        return POSTERN_ERR_IO;
    if ((s->is_client ? ngtcp2_crypto_gnutls_configure_client_session(s->tls)
                      : ngtcp2_crypto_gnutls_configure_server_session(s->tls)) != 0)
        return POSTERN_ERR_IO;
    seal_setup(s);
    if (!s->is_client)
        gnutls_certificate_server_set_request(s->tls, GNUTLS_CERT_REQUIRE);
    s->ref = (ngtcp2_crypto_conn_ref){.get_conn = get_conn, .user_data = s};
    gnutls_session_set_ptr(s->tls, &s->ref);
    return 0;
}

static void fill_settings(ngtcp2_settings *settings, bool lan)
{
    /* Climbs to jumbo where the path lets it, stays at 1,452 on Ethernet. */
    static const uint16_t probes[] = {1332, 1452, 4000, 8900, PACKET_MAX};
    ngtcp2_settings_default(settings);
    settings->initial_ts = clock_ns();
    settings->max_tx_udp_payload_size = PACKET_MAX;
    settings->pmtud_probes = probes;
    settings->pmtud_probeslen = sizeof(probes) / sizeof(probes[0]);
    settings->max_window = SESSION_WINDOW_MAX;
    settings->max_stream_window = SESSION_STREAM_WINDOW_MAX;
    settings->cc_algo = lan ? NGTCP2_CC_ALGO_CUBIC : NGTCP2_CC_ALGO_BBR;
    settings->handshake_timeout = 90 * NGTCP2_SECONDS; /* a machine may be busy */
}

static void fill_params(ngtcp2_transport_params *params)
{
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_local = SESSION_STREAM_WINDOW;
    params->initial_max_stream_data_bidi_remote = SESSION_STREAM_WINDOW;
    params->initial_max_data = 2 * SESSION_STREAM_WINDOW;
    params->initial_max_streams_bidi = SESSION_STREAMS_MAX;
    params->initial_max_streams_uni = 0;
    params->max_idle_timeout = 0; /* the roles decide how long a silence may last */
    params->active_connection_id_limit = 7;  /* one is used up by each new label */
    params->max_datagram_frame_size = 65535; /* what UDP has: the path is the limit */
    params->max_udp_payload_size = 65527;
}

int quic_setup(struct session *s, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
               const ngtcp2_cid *original_dcid, uint32_t version, uint32_t rtt_hint_us)
{
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    struct label label;
    /* A LAN drops little and its queues are short: pacing would cost time there. */
    bool lan = rtt_hint_us != 0 && rtt_hint_us < 5000;

    ngtcp2_path path = label_path(&label, s->label);
    fill_settings(&settings, lan);
    fill_params(&params);
    s->paced = !lan;
    int rc = tls_setup(s);
    if (rc != 0)
        return rc;
    if (s->is_client) {
        rc = ngtcp2_conn_client_new(&s->conn, dcid, scid, &path, version, &callbacks,
                                    &settings, &params, NULL, s);
    } else {
        params.original_dcid = *original_dcid;
        params.original_dcid_present = 1;
        rc = ngtcp2_conn_server_new(&s->conn, dcid, scid, &path, version, &callbacks,
                                    &settings, &params, NULL, s);
    }
    if (rc != 0)
        return POSTERN_ERR_NOMEM;
    ngtcp2_conn_set_tls_native_handle(s->conn, s->tls);
    return 0;
}

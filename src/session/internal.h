/* What the files of session/ share, and nobody else may include. */
#ifndef POSTERN_SESSION_INTERNAL_H
#define POSTERN_SESSION_INTERNAL_H

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include "core/keepalive.h"
#include "core/paths.h"
#include "io/loop.h"
#include "session/session.h"

enum {
    SESSION_PATHS_MAX = 32,
    SESSION_CID_LEN = 8,
    PACKET_MAX = 16384,
    UDP_BATCH_MAX = 63 * 1024,     /* one UDP_SEGMENT send */
    STREAM_BATCH_MAX = 256 * 1024, /* one writev on a stream path */
    BATCH_BYTES = STREAM_BATCH_MAX + PACKET_MAX,
    ROUND_BYTES_MAX = 1024 * 1024, /* sent before other events get a turn */
    META_QUEUE_MAX = 64 * 1024,
    STREAM_HASH = 64,
};

struct datagram {
    struct datagram *next;
    size_t len;
    uint8_t data[];
};

/* A batch that a path did not take. */
struct pending {
    struct path *path;
    uint8_t *buf;
    size_t len, segment_len;
};

/* How long of the second that is counted now something waited for the path. */
struct pressure {
    uint64_t since_ns, noted_ns, waited_ns;
    bool waits;
};

struct stream {
    struct session *session;
    int64_t id;
    struct stream *next, *prev; /* all streams of the session */
    struct stream *ready_next;  /* has something to send */
    struct stream *touched_next;
    struct stream *hash_next;
    const struct stream_events *events;
    void *ctx;
    struct chain out;
    uint64_t sent;   /* offset after what QUIC took */
    uint64_t unread; /* delivered bytes that the user has not consumed */
    bool fin, fin_sent, ready, blocked, touched, room_told, gone;
};

struct session {
    struct session_env *env;
    const struct session_events *events;
    void *ctx;
    bool is_client, open, confirmed, closed, busy, freed, auth_failed, paced;
    bool probes;                /* the key is known */
    bool label_due, label_open; /* another is wanted; is being validated */
    bool ping_due;              /* QUIC is to look for what was lost */
    bool progressed;            /* stream data was acknowledged */
    bool told_open;
    uint64_t unread, owed; /* as of its streams; credit that waits for room */
    bool waits;            /* it stands in env->waiting */
    struct session *next_waiting;
    bool round_due; /* something was touched */
    bool in_round;  /* output_run is still to come in this round: a touch is no news */
    bool keeps_alive;
    uint8_t peer[KEY_LEN];
    ngtcp2_conn *conn;
    ngtcp2_crypto_conn_ref ref;
    gnutls_session_t tls;
    struct timer timer;
    struct timer turn; /* runs after a touch, before the loop waits */
    uint64_t armed_ns;
    struct path *paths[SESSION_PATHS_MAX];
    struct path *current; /* where packets go; NULL when it is gone */
    struct paths net;
    uint8_t probe_key[PROBE_KEY_LEN];
    uint64_t label;      /* under which QUIC knows the other end (steer.c) */
    uint32_t like_path;  /* id of one that carries what the one in use does; 0 none */
    uint64_t raise_ns;   /* when larger packets are tried again; 0 never */
    size_t packet_max;   /* what QUIC may make now */
    uint64_t latest_rtt; /* of QUIC, to see that it changed */
    struct keepalive keep;
    struct stream *streams, *ready_head, *ready_tail, *touched, *touched_tail;
    struct stream *by_id[STREAM_HASH];
    unsigned stream_count;
    struct stream *meta;
    struct chain meta_in;
    struct datagram *dgram_head, *dgram_tail;
    unsigned dgram_count;
    struct pending pending;
    int fail_err; /* told by on_close from the loop */
    char fail_why[128];
    uint64_t sent_bytes, received_bytes, heard_us, answered_us;
    uint64_t acked_bytes; /* of streams */
    struct pressure pressure;
    uint64_t pressed_us;            /* when a second of it was last over */
    uint64_t round_ns, round_bytes; /* when the last ended, and all moved by then */
    uint64_t bulk_ns;               /* when a round last moved much */
};

/* The made-up addresses by which QUIC knows the other end; steer.c says what for. */
struct label {
    struct sockaddr_in6 local, remote;
};

/* The largest packet that may leave now: QUIC's search, and what a path has shown. */
size_t packet_size(const struct session *s);

ngtcp2_path label_path(struct label *l, uint64_t name);
uint64_t label_of_cid(const uint8_t cid[static SESSION_CID_LEN]);

/* steer.c: which path is used */
/* Under which label a packet came. */
uint64_t steer_label(const struct session *s, const uint8_t *packet, size_t len);
void steer_on_probe(struct session *s, struct path *p, const uint8_t *buf, size_t len,
                    uint64_t now_us);
/* Does what is due; events may free the session. */
void steer_run(struct session *s);
/* Client: goes to a new label when one is due and can be had. */
void steer_renew(struct session *s);
uint64_t steer_deadline_ns(const struct session *s);

/* quic.c */
int quic_setup(struct session *s, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
               const ngtcp2_cid *original_dcid, uint32_t version, uint32_t rtt_hint_us);

/* output.c: everything that leaves */
/* True when more could be sent at once. */
bool output_run(struct session *s);
void output_flush_pending(struct session *s);
void output_drop_path(struct session *s, struct path *p);
void output_close(struct session *s, uint64_t code, const char *reason);

/* session.c */
void session_fail(struct session *s, int err, const char *why);
void session_leave(struct session *s); /* end of an event: frees what was freed in it */
extern const struct path_user session_path_user;

/* round.c: when a session works */
void round_init(struct session *s);
void round_stop(struct session *s);
void session_touch(struct session *s); /* something may be ready to send */

/* meta.c */
void meta_deliver(struct session *s); /* whole messages that arrived */

/* stream.c */
struct stream *stream_new(struct session *s, int64_t id);
void stream_mark_ready(struct stream *st);
void stream_drop(struct stream *st, uint64_t code);
/* Of a session without streams, before it is freed. */
void stream_forget_waiting(struct session *s);
void stream_on_data(struct stream *st, const uint8_t *data, size_t len, bool fin);
void stream_on_acked(struct stream *st, uint64_t offset, uint64_t len);
void stream_on_sent(struct stream *st, size_t len);
void stream_flush_touched(struct session *s);
struct stream *stream_pop_ready(struct session *s);
void stream_on_datagram(struct session *s, const uint8_t *data, size_t len);
/* Hands a queued datagram, with its flow's id before it, back to who sent it. */
void stream_return_datagram(struct session *s, const struct datagram *d);
/* Bytes of the largest datagram, with its flow's id, that fits on the path now. */
size_t datagram_room(const struct session *s);

#endif

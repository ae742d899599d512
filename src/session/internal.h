/* What the files of session/ share, and nobody else may include. */
#ifndef POSTERN_SESSION_INTERNAL_H
#define POSTERN_SESSION_INTERNAL_H

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include "core/copies.h"
#include "core/keepalive.h"
#include "core/lateness.h"
#include "core/list.h"
#include "core/paths.h"
#include "core/state.h"
#include "io/loop.h"
#include "session/session.h"

enum {
    LONG_HEADER = 0x80,  /* of QUIC's packets: RFC 9000 section 17.2 */
    SESSION_CID_LEN = 8, /* in each packet; sessions are found by path, not by it */
    PACKET_MAX = 16384,  /* on a stream path, which has no MTU */
    UDP_BATCH_MAX = 63 * 1024,     /* one UDP_SEGMENT send */
    BUNDLE_MAX = 64,               /* packets of it */
    STREAM_BATCH_MAX = 256 * 1024, /* one writev on a stream path */
    BATCH_BYTES = STREAM_BATCH_MAX + PACKET_MAX,
    ROUND_BYTES_MAX = 1024 * 1024, /* sent before other events get a turn */
    META_QUEUE_MAX = 64 * 1024,    /* for a peer that does not read */
    SESSION_WITNESSES = 512,       /* of which it is known whether they left alone */
    STREAM_HASH = 64,
    FLIGHT_RATES = 3,
    SESSION_KEY_PACKETS = 1 << 21, /* a quarter of what RFC 9001 lets AES-GCM seal */
};

struct datagram {
    struct list link;
    uint64_t at_ns; /* when it was given to us */
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

/* What the path in use carries, and so how long a packet may be (size.c). */
struct flow {
    uint64_t since_ns,
        acked_bytes;       /* when it began to be counted, and how many by then */
    uint64_t begun_bytes;  /* acknowledged before this path was used */
    uint64_t search_bytes; /* sent on it in search of its packet size */
    size_t packet_max;
};

/* How much may be under way on a line that has shown to be slow (flight.c). */
struct flight {
    uint64_t least_ns[2]; /* round trip, in this while and in the one before */
    uint64_t turned_ns, latest_ns, drained_ns;
    uint64_t since_ns, acked_bytes; /* when the rate began to be taken, all by then */
    uint64_t left_bytes;            /* since then, repeats too */
    uint64_t seen_bytes;            /* all that was acknowledged by the latest word */
    uint64_t rates[FLIGHT_RATES], rate; /* bytes a second; the most of them */
    uint64_t max;                       /* bytes */
    uint64_t next_ns;                   /* when the next packet may leave */
    uint64_t queued_ns;                 /* when an answer was last as late as in one */
    uint64_t young_ns;     /* until then its least may be of the path before */
    unsigned turn, steady; /* the latter: rates since the last that was more */
    bool held, draining;
};

enum { OPENING_KEPT = 2, OPENING_BYTES_MAX = 6000 };

/* Of a session whose handshake is not over at both ends (opening.c). */
struct opening {
    struct {
        uint8_t *buf;
        size_t len, segment_len;
    } kept[OPENING_KEPT]; /* batches that left, to be said again */
    unsigned kept_count;
    bool secured;     /* they are the first with keys, which end the handshake */
    uint64_t said_us; /* when the latest left, again or not */
    unsigned again;   /* how often */
    uint64_t again_us;
    uint32_t wish;    /* id of the path that the user chose; 0: it was not left */
    uint32_t newest;  /* the highest id of those left or taken so far */
    uint64_t mute_us; /* when QUIC last repeated itself in a silence */
};

/* Since when nothing moves that QUIC could have brought over (stall.c). */
struct stall {
    uint64_t moved; /* the session's count then */
    uint64_t since_us, from_us, first_us, at_us;
    unsigned acts, acts_in_all; /* on this path, and since it moved last */
    bool asked;
};

/* Early copies, both ways (copies.c). */
struct copying {
    uint8_t key_out[COPY_KEY_LEN], key_in[COPY_KEY_LEN];
    bool peer;       /* takes them */
    uint32_t number; /* of the last that was sent */
    struct replay seen;
    struct copies_pace pace;
    uint64_t looked_us, next_us; /* at all streams, and when to look again */
    unsigned sent, came, used, malformed;
};

struct stream {
    struct session *session;
    int64_t id;
    struct list link;    /* of the session's streams, the newest last */
    struct list hash;    /* of those in the same slot */
    struct list ready;   /* has something to send, in the session's ready or brief */
    struct list touched; /* its user is to be told of something */
    const struct stream_events *events;
    void *ctx;
    struct chain out;
    uint64_t sent;    /* offset after what QUIC took */
    uint64_t unread;  /* delivered bytes that the user has not consumed */
    uint64_t unacked; /* of what QUIC took; 0 once it is reset */
    bool cut;         /* it is: nothing of it need arrive any more */
    bool fin, fin_sent;
    bool blocked;   /* by the peer's credit */
    bool room_told; /* that there is room, since there was more of it */
    bool gone;      /* inside its last event */
    struct copies_in in;
    struct copies_out copied;
    uint64_t left_ns; /* when the first unacknowledged byte did; 0 not known */
};

/*
 * A session is four small machines.
 *
 * Its life: in the HANDSHAKE nothing is known of the peer. SECURE: the peer has proven
 * its key, and the user will be told so in the next round; then it is OPEN. From any of
 * these it may have FAILED, which the round tells too, since ngtcp2 does not bear that
 * its connection goes away inside its callbacks. CLOSED it is after that was told, or
 * when the user closed it: then nothing is told any more, and nothing sent.
 *
 * Its turn in the loop: NONE, until something touches it; DUE, until the loop comes to
 * it; it RUNS until its packets have been written. What touches it while it runs is no
 * news: the packets are still to come.
 *
 * Its use: BUSY inside an event, in which its user may free it. FREED, it is destroyed
 * as that event ends; else at once.
 *
 * The client's label (steer.c): GOOD, or STALE when another is wanted; TRIED while QUIC
 * validates a new one, and TRIED_STALE when yet another is wanted by then.
 */
enum session_life { LIFE_HANDSHAKE, LIFE_SECURE, LIFE_OPEN, LIFE_FAILED, LIFE_CLOSED };
enum session_turn { TURN_NONE, TURN_DUE, TURN_RUNS };
enum session_use { USE_NONE, USE_BUSY, USE_FREED };
enum session_label { LABEL_GOOD, LABEL_STALE, LABEL_TRIED, LABEL_TRIED_STALE };

extern const uint8_t session_life_next[LIFE_CLOSED + 1];
extern const uint8_t session_use_next[USE_FREED + 1];

struct session {
    struct session_env *env;
    const struct session_events *events;
    void *ctx;
    enum session_life life;
    enum session_turn turn;
    enum session_use use;
    enum session_label label_state;
    bool is_client, paced, keeps_alive;
    uint64_t keyed_packets; /* both ways, since new keys were begun */
    bool confirmed;        /* the handshake, also to the peer: the client may migrate */
    bool ping_due;         /* QUIC is to look for what was lost */
    bool progressed;       /* stream data was acknowledged */
    uint64_t unread, owed; /* as of its streams; credit that waits for room */
    struct list waiting;   /* in env->waiting */
    uint8_t peer[KEY_LEN];
    ngtcp2_conn *conn;
    ngtcp2_crypto_conn_ref ref;
    gnutls_session_t tls;
    struct timer timer;
    struct timer next_turn; /* runs after a touch, before the loop waits */
    uint64_t armed_ns;
    struct list paths;    /* struct path, by user_link; as `net` has them */
    struct path *current; /* where packets go; NULL when it is gone */
    struct paths net;
    struct opening opening;
    uint8_t probe_key[PROBE_KEY_LEN];
    uint64_t label;     /* under which QUIC knows the other end (steer.c) */
    uint32_t like_path; /* id of one that carries what the one in use does; 0 none */
    uint64_t tried_ns;  /* when the label was taken */
    struct in6_addr vouched; /* host: the label that QUIC may send to without bound */
    uint64_t vouched_bytes;  /* sent by then */
    uint64_t raise_ns;       /* when larger packets are tried again; 0 never */
    size_t packet_max;       /* what QUIC may make now */
    struct flow flow;
    struct flight flight;
    struct lateness late; /* of its own answers */
    uint64_t latest_rtt;  /* of QUIC, to see that it changed */
    struct keepalive keep;
    struct list streams, ready, touched; /* struct stream */
    struct list brief;                   /* ready, and with little to send */
    unsigned briefs;                     /* taken in a row */
    struct list by_id[STREAM_HASH];
    unsigned stream_count;
    struct stream *meta;
    struct chain meta_in;
    struct list datagrams; /* struct datagram, to be sent */
    unsigned datagram_count;
    struct {
        uint64_t count;   /* datagrams dropped, since they had waited for too long */
        uint64_t told;    /* of them */
        uint64_t told_ns; /* when that was */
    } stale;
    size_t owed_bytes; /* went to datagrams while streams waited */
    struct pending pending;
    const char *denied; /* why the peer's key is, static; "": it is not */
    int fail_err;       /* of one that has FAILED */
    char fail_why[128];
    uint64_t sent_bytes, received_bytes, heard_us, answered_us;
    uint64_t acked_bytes;    /* of streams and datagrams */
    uint64_t unacked, moved; /* of streams; counts what QUIC brought over */
    struct stall stall;
    struct copying copies;
    uint64_t witness; /* the latest of its bundles (bundle.c) */
    uint8_t in_bundle[SESSION_WITNESSES];
    uint64_t singly_ns; /* no bundles until then */
    struct pressure pressure;
    uint64_t pressed_us;            /* when a second of it was last over */
    uint64_t round_ns, round_bytes; /* when the last ended, and all moved by then */
    uint64_t bulk_ns;               /* when a round last moved much */
};

/* Neither failed nor closed: it may send, and its user be told. */
static inline bool session_lives(const struct session *s)
{
    return s->life < LIFE_FAILED;
}

/* The peer has proven its key, whether the user knows that or not. */
static inline bool session_is_secure(const struct session *s)
{
    return s->life == LIFE_SECURE || s->life == LIFE_OPEN;
}

/* The made-up addresses by which QUIC knows the other end; steer.c says what for. */
struct label {
    struct sockaddr_in6 local, remote;
};

/* size.c: how long packets may be */
void size_begin(struct session *s, uint64_t now_ns);    /* on another path */
void size_on_acked(struct session *s, uint64_t now_ns); /* how fast is it? */
void size_on_packet(struct session *s, size_t len, uint64_t now_ns); /* QUIC made it */
void size_forget(struct path *p); /* what was found to be too long */
size_t
size_of_quic(const struct session *s); /* the longest that its search has found */
/* The longest that may leave now: QUIC's search, and what a path has shown. */
size_t size_of_packets(const struct session *s);
/* The longest that QUIC may make, for data or in its search. */
size_t size_limit(const struct session *s);

/* bundle.c: how many packets may leave at once */
unsigned bundle_limit(const struct session *s, uint64_t now_ns);
/* On another path, or one that was dead: what is not acknowledged says nothing. */
void bundle_begin(struct session *s);
/* QUIC knows the other end by another one: what proves it goes singly. */
void bundle_on_label(struct session *s, uint64_t now_ns);
void bundle_run(struct session *s, uint64_t now_ns);
uint64_t bundle_deadline_ns(const struct session *s);
/* The witness that a packet of a bundle is to carry now; 0 none. */
uint64_t bundle_witness(struct session *s, uint64_t now_ns);
/* It left with so many packets at once, maybe alone; what became of it. */
void bundle_on_sent(struct session *s, uint64_t witness, size_t count, uint64_t now_ns);
void bundle_on_acked(struct session *s, uint64_t witness, uint64_t now_ns);
void bundle_on_lost(struct session *s, uint64_t witness, uint64_t now_ns);
/* Nothing is under way: what is awaited yet was lost, and is not told. */
void bundle_on_settled(struct session *s, uint64_t now_ns);

ngtcp2_path label_path(struct label *l, uint64_t name);
uint64_t label_of_cid(const uint8_t cid[static SESSION_CID_LEN]);

/* steer.c: which path is used */
/* Under which label a packet came. */
uint64_t steer_label(const struct session *s, const uint8_t *packet, size_t len);
void steer_on_probe(struct session *s, struct path *p, const uint8_t *buf, size_t len,
                    uint64_t now_us);
/* Does what is due; events may free the session. */
void steer_run(struct session *s);
/* Client: goes to a new label when one is wanted and can be had. */
void steer_renew(struct session *s);
/* Host, before it sends: no label is bound by what came from there. */
void steer_vouch(struct session *s, uint64_t ts);
/* QUIC is done with a new label, for good or ill. */
void steer_on_validated(struct session *s);
/* QUIC is to begin anew: another label, and what makes the host follow. */
void steer_want_renewal(struct session *s);
/* Derives the key of the probes, once the handshake is complete. */
MUST_CHECK int steer_on_secure(struct session *s);
uint64_t steer_deadline_ns(const struct session *s);

/* Packets go over what core/paths has in use now. */
void steer_follow(struct session *s);

/* opening.c: which path is used before both ends can judge any */
/* A timer of QUIC's has fired: its repeat, if it is one, leaves in this round. */
void opening_on_expiry(struct session *s);
void opening_on_proven(struct session *s, const struct path *p);
/* Another path was taken; `lost`: the one before it went away. */
void opening_on_change(struct session *s, bool lost);
/* What began the session, or led to its keys, came over `p`. */
void opening_on_packets(struct session *s, const struct path *p);
/* A batch is about to leave. */
void opening_on_batch(struct session *s, const uint8_t *buf, size_t len,
                      size_t segment_len);
void opening_fini(struct session *s);

/* stall.c */
bool stall_is_waiting(const struct session *s); /* for what QUIC could bring over */
void stall_run(struct session *s);
/* Window and timers are to begin anew: the client does so, a host asks for it. */
void stall_renew(struct session *s, const char *why, uint64_t now_us);
uint64_t stall_deadline_ns(const struct session *s);

/* flight.c */
/* How late answers are, its own and others over the same line; 0: they are not. */
uint64_t steer_late_us(const struct session *s, uint64_t now_us);
/* An answer took so long, where the least on the same way was `least_us`; 0: unknown.
 */
void steer_note_late(struct session *s, uint64_t took_us, uint64_t least_us,
                     uint64_t now_us);
void flight_begin(struct session *s, uint64_t now_ns); /* on another path */
void flight_on_acked(struct session *s, uint64_t rtt_ns, uint64_t now_ns);
/* How many bytes more may be under way: of bulk, or of what is brief. */
uint64_t flight_room(const struct session *s, uint64_t in_flight, bool brief);
/* Until when nothing more may leave, not what QUIC repeats either; 0: it may. */
uint64_t flight_pause_until_ns(const struct session *s);
/* A round has sent: so much was under way before it, and so much now. */
void flight_on_sent(struct session *s, uint64_t before, uint64_t in_flight,
                    uint64_t now_ns);

/* The number by which QUIC tells of a datagram: its witness, or 0, and its bytes. */
static inline uint64_t datagram_id(uint64_t witness, size_t bytes)
{
    return witness << 16 | bytes;
}
static inline uint64_t datagram_id_witness(uint64_t id)
{
    return id >> 16;
}
static inline uint64_t datagram_id_bytes(uint64_t id)
{
    return id & 0xffff;
}

/* quic.c */
int quic_setup(struct session *s, const ngtcp2_cid *dcid, const ngtcp2_cid *scid,
               const ngtcp2_cid *original_dcid, uint32_t version, uint32_t rtt_hint_us);

/* copies.c: early copies of what is brief */
MUST_CHECK int copies_on_secure(struct session *s);
void copies_fini(struct session *s);
/* The peer takes them; a host says so too. */
void copies_on_peer(struct session *s);
void copies_on_packet(struct session *s, const uint8_t *buf, size_t len);
/* What was under way may be lost. */
void copies_on_moved(struct session *s);
/* A packet was full of what QUIC repeats, and something brief waits. */
void copies_on_refused(struct session *s, uint64_t now_ns);
void copies_run(struct session *s); /* sends what is due */
uint64_t copies_deadline_ns(const struct session *s);

/* seal.c: who encrypts the packets. What follows on seal_setup are ngtcp2's callbacks.
 */
void seal_renew(struct session *s, uint64_t ts); /* new keys, when they are due */
void seal_setup(struct session *s); /* its TLS is to give the secrets to seal.c */
int seal_encrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                 const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *plain,
                 size_t plain_len, const uint8_t *nonce, size_t nonce_len,
                 const uint8_t *ad, size_t ad_len);
int seal_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead,
                 const ngtcp2_crypto_aead_ctx *ctx, const uint8_t *sealed,
                 size_t sealed_len, const uint8_t *nonce, size_t nonce_len,
                 const uint8_t *ad, size_t ad_len);
int seal_mask(uint8_t *dest, const ngtcp2_crypto_cipher *hp,
              const ngtcp2_crypto_cipher_ctx *ctx, const uint8_t *sample);
int seal_update(ngtcp2_conn *conn, uint8_t *rx_secret, uint8_t *tx_secret,
                ngtcp2_crypto_aead_ctx *rx, uint8_t *rx_iv, ngtcp2_crypto_aead_ctx *tx,
                uint8_t *tx_iv, const uint8_t *rx_old, const uint8_t *tx_old,
                size_t len, void *user_data);
void seal_delete_key(ngtcp2_conn *conn, ngtcp2_crypto_aead_ctx *ctx, void *user_data);
void seal_delete_mask(ngtcp2_conn *conn, ngtcp2_crypto_cipher_ctx *ctx,
                      void *user_data);

/* output.c: everything that leaves */
/* True when more could be sent at once. */
bool output_run(struct session *s);
/* Of datagrams that wait, those that waited for too long. */
void output_drop_stale(struct session *s, uint64_t ts);
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
void stream_init(struct session *s); /* the lists of a session */
void stream_fini(struct session *s); /* all that is left in them */
void stream_on_data(struct stream *st, uint64_t offset, const uint8_t *data, size_t len,
                    bool fin);
/* An early copy of some of it; false where nothing was new. */
bool stream_on_copy(struct session *s, int64_t id, uint64_t offset, const uint8_t *data,
                    size_t len);
void stream_on_acked(struct stream *st, uint64_t offset, uint64_t len);
void stream_on_sent(struct stream *st, size_t len, uint64_t now_ns);
void stream_forget_unacked(struct stream *st); /* it is reset */
void stream_flush_touched(struct session *s);
static inline bool stream_is_any_ready(const struct session *s)
{
    return !list_empty(&s->ready) || !list_empty(&s->brief);
}
/*
 * The next that has something to send, or NULL: first those that have little or have
 * just begun, since who typed waits for them. Without the connection's `credit` that is
 * one which has its FIN alone to send; with `room` for no bulk none that has much.
 */
struct stream *stream_pop_ready(struct session *s, bool credit, bool bulk, bool brief);
void stream_on_datagram(struct session *s, const uint8_t *data, size_t len);
/* Hands a queued datagram, with its flow's id before it, back to who sent it. */
void stream_return_datagram(struct session *s, const struct datagram *d);
/* Bytes of the largest datagram, with its flow's id, that fits on the path now. */
size_t datagram_room(const struct session *s);

#endif

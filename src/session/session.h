/*
 * A session: the end-to-end QUIC v1 connection of two devices (RFC 9000, 9001, 9221),
 * both authenticated by device key, over whatever path stands. It outlives paths.
 *
 * The client chooses the path (QUIC lets only the client migrate, RFC 9000 section
 * 9); the host follows. Streams carry TCP connections, datagrams carry UDP. Time is
 * the loop's; nothing here opens a socket towards the network.
 */
#ifndef POSTERN_SESSION_SESSION_H
#define POSTERN_SESSION_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/err.h"
#include "core/key.h"
#include "core/list.h"
#include "core/proto.h"
#include "io/loop.h"
#include "path/path.h"
#include "session/chain.h"

struct session;
struct stream;

/*
 * Bounds. A stream keeps at most SESSION_STREAM_WINDOW_MAX bytes that arrived and
 * that the application has not taken, and as many that it wrote and that are not
 * acknowledged (SESSION_KEPT_NEAR to a near peer), of which SESSION_UNSENT_MAX are not
 * sent yet: SESSION_UNSENT_SCARCE, when all sessions of a loop keep
 * SESSION_ALL_KEPT_MAX. One that is not read dams up no other: the connection's credit
 * is given back on arrival. Beyond SESSION_UNREAD_MAX received bytes the stream of
 * which most lies unread is reset; when all sessions of a loop hold
 * SESSION_ALL_UNREAD_MAX, those with more than SESSION_FAIR_UNREAD wait until some of
 * it is read.
 */
#define SESSION_STREAM_WINDOW (512u * 1024)
#define SESSION_STREAM_WINDOW_MAX (8u * 1024 * 1024)
#define SESSION_KEPT_NEAR (1024u * 1024) /* sent to a near peer, not acknowledged */
#define SESSION_WINDOW_MAX (16u * 1024 * 1024) /* on the way */
#define SESSION_UNREAD_MAX (256u * 1024 * 1024)
#define SESSION_ALL_UNREAD_MAX (512u * 1024 * 1024)
#define SESSION_FAIR_UNREAD (32u * 1024 * 1024) /* of one, when all hold too much */
#define SESSION_UNSENT_MAX (256u * 1024)
#define SESSION_UNSENT_SCARCE (16u * 1024)        /* once all of a loop keep */
#define SESSION_ALL_KEPT_MAX (128u * 1024 * 1024) /* more than this */
#define SESSION_STREAMS_MAX 2048
#define SESSION_DATAGRAMS_QUEUED_MAX 256
#define SESSION_RESET_BY_APP 0x20 /* the local application reset its connection */
#define SESSION_LEFT_BY_APP                                                            \
    0x21 /* it ended in order, and its machine has forgotten it */

/* What all sessions of one loop share. */
struct session_env {
    struct loop *loop;
    const struct keypair *own; /* borrowed */
    struct gnutls_certificate_credentials_st *cred;
    struct gnutls_priority_st *priority; /* parsed once: it takes 8 KB */
    struct gcm_engine *gcm;              /* encrypts packets; NULL: GnuTLS does */
    uint64_t key_packets; /* after so many of them a client's session has new keys */
    struct chain_pool pool;
    struct lateness *late; /* borrowed: of answers over this device's own line, which
                            * its clients' sessions share; NULL: unknown */
    uint8_t *batch;        /* scratch for outgoing packets */
    uint8_t *probe;        /* and for a probe */
    uint64_t
        unread; /* bytes that all its sessions have delivered and nobody consumed */
    struct list waiting; /* for room: sessions that hold back credit */
};
MUST_CHECK int session_env_init(struct session_env *env, struct loop *loop,
                                const struct keypair *own);
void session_env_fini(struct session_env *env);

struct session_events {
    /* Host only, in the handshake: may the holder of this proven key come in? Where it
     * may not, session_deny() says why. */
    bool (*authorize)(void *ctx, const uint8_t peer[static KEY_LEN]);
    /* The handshake is complete; streams may be opened. */
    void (*on_open)(void *ctx);
    /* One message on the Meta stream. */
    void (*on_meta)(void *ctx, const Meta *m);
    /* The session ended and says why; free it. Not called after session_close. */
    void (*on_close)(void *ctx, int err, const char *why);
    /* All below may be NULL. */
    /*
     * The peer opened a stream; give it events with stream_accept() at once, else it is
     * reset.
     */
    void (*on_stream)(void *ctx, struct stream *st);
    /* Packets now travel on `p`. */
    void (*on_path)(void *ctx, struct path *p);
    /* Client: `p`, in use or not, swallows packets (`silent_us` since one came). */
    void (*on_path_dead)(void *ctx, struct path *p, uint64_t silent_us);
    /* The path in use owes an answer, and all are asked: told once a census. */
    void (*on_doubt)(void *ctx);
    /* For a second no path has answered; told once a silence. */
    void (*on_silent)(void *ctx);
    /*
     * Client: before its handshake is over at both ends nothing comes on `p`, in use;
     * told again and again. It may be dead, slow, or the peer busy: look for others.
     */
    void (*on_mute)(void *ctx, struct path *p);
    /* A probe on `p` was answered after p->rtt_us. */
    void (*on_path_rtt)(void *ctx, struct path *p);
};

struct session_config {
    struct session_env *env;
    const struct session_events *events; /* borrowed */
    void *ctx;
    uint32_t rtt_hint_us; /* LAN or not: picks the congestion control; 0 unknown */
};

/* `host` is the key that the other end must prove. The first packet goes out on
 * `first` from the loop. */
MUST_CHECK int session_new_client(struct session **out, const struct session_config *c,
                                  const uint8_t host[static KEY_LEN],
                                  struct path *first);
/* `packet` is the client's first; POSTERN_ERR_PROTO when it is not one. */
MUST_CHECK int session_new_server(struct session **out, const struct session_config *c,
                                  const uint8_t client[static KEY_LEN],
                                  struct path *first, const uint8_t *packet,
                                  size_t len);
/* Tells the peer, with `code` and `reason`, on the path in use. No event follows. */
void session_close(struct session *s, uint64_t code, const char *reason);
/* The peer has said that it is over: it waits for nothing of ours any more. */
bool session_is_ended_by_peer(const struct session *s);
/* Never inside stream events; inside session events is fine. NULL is fine. */
void session_free(struct session *s);

/* The session receives on `p` from now on (and becomes its user). */
void session_add_path(struct session *s, struct path *p);
/* `p` has carried something both ways; harmless where it was not added. */
void session_on_proven(struct session *s, struct path *p);
/* Client: use `p` as soon as it answers; else on_path_dead. */
void session_use_path(struct session *s, struct path *p);
/*
 * The same for a path that is known to carry as much as the one in use: the speed is
 * kept and not looked for anew, which on a slow path would cost seconds.
 */
void session_return_to_path(struct session *s, struct path *p);
/* `p` is gone; must be called before it is freed. */
void session_remove_path(struct session *s, struct path *p);
struct path *session_path(const struct session *s);

struct session_env *session_env_of(const struct session *s);
bool session_is_open(const struct session *s);
const uint8_t *session_peer(const struct session *s);
/* The last sample, 0 when there is none yet. */
uint32_t session_rtt_us(const struct session *s);
/* The smoothed one. */
uint32_t session_usual_rtt_us(const struct session *s);
uint64_t session_bytes_sent(const struct session *s);
uint64_t session_bytes_received(const struct session *s);
/* What came, and what of the streams the peer acknowledged. */
uint64_t session_bytes_carried(const struct session *s);
/*
 * When for most of a second more was to be sent than the path took; 0 never. A host
 * tells its client so too (Meta.pressed).
 */
uint64_t session_pressed_us(const struct session *s);
unsigned session_stream_count(const struct session *s);
/* Monotonic microseconds when a packet of the peer last arrived. */
uint64_t session_heard_us(const struct session *s);
/* What keepalives have learned of the NATs, for storage, and from it; microseconds. */
uint64_t session_keepalive_learned(const struct session *s);
void session_keepalive_recall(struct session *s, uint64_t learned_us);
/* From now on a probe after silences, as long as core/keepalive.h learns them. */
void session_keep_alive(struct session *s);
/* One probe on the path in use; what does not answer is in doubt. */
void session_probe(struct session *s);
/*
 * All paths are probed now; the session goes to one that answers if its own does not.
 * `hinted`: the network has changed, so it does not wait for its own as long.
 */
void session_doubt(struct session *s, bool hinted);
/* When a probe that was answered last had its answer, monotonic microseconds. */
uint64_t session_answered_us(const struct session *s);
/* Since when no path answers, in monotonic microseconds; 0: one does. */
uint64_t session_silent_since_us(const struct session *s);
/* Sends one Meta message; bounded queue. */
MUST_CHECK int session_send_meta(struct session *s, const Meta *m);
/* In authorize(): the peer reads `why`, static, in place of words about keys. NULL is
 * fine. */
void session_deny(struct session *s, const char *why);
/* 32 bytes that only these two devices know, unique to this session (RFC 8446 7.5). */
MUST_CHECK int session_exporter(struct session *s, uint8_t out[static 32]);

/* ------------------------------------------------------------------------- streams */
struct stream_events {
    /* Borrowed; copy it, then stream_consumed() when it has left for good. */
    void (*on_data)(void *ctx, const uint8_t *data, size_t len, bool fin);
    /* All packets of this round were read: a good moment to write(2). */
    void (*on_flush)(void *ctx);
    void (*on_datagram)(void *ctx, const uint8_t *data, size_t len); /* may be NULL */
    /*
     * A datagram that was taken to be sent fits on the path no more, which is another
     * or has become narrow: it may be written to the stream, or let go. May be NULL.
     */
    void (*on_unfit)(void *ctx, const uint8_t *data, size_t len);
    /* The peer resets its direction. */
    void (*on_reset)(void *ctx, uint64_t code);
    /*
     * This side reads it no more, before all had come: from inside stream_stop and
     * stream_reset, also where too much lay unread and the session itself called them.
     * That the peer reads no more is told by on_close only, with its code, when all
     * that it sent has been handed out.
     */
    void (*on_stopped)(void *ctx, uint64_t code);
    /* Bytes were acknowledged: stream_room() has grown. */
    void (*on_room)(void *ctx);
    /* The stream is gone and so is `st`. Called once, the last. */
    void (*on_close)(void *ctx, uint64_t code);
};

/* POSTERN_ERR_LIMIT when the peer allows no more streams now. */
MUST_CHECK int stream_open(struct session *s, struct stream **out,
                           const struct stream_events *events, void *ctx);
void stream_accept(struct stream *st, const struct stream_events *events, void *ctx);
/* How many bytes may be queued now. */
size_t stream_room(const struct stream *st);
bool stream_is_acked(const struct stream *st); /* all that was written */
MUST_CHECK int stream_write(struct stream *st, const void *data, size_t len);
/* Reading straight into the queue: reserve, sock_readv, commit. */
size_t stream_reserve(struct stream *st, struct iovec *iov, size_t max);
void stream_commit(struct stream *st, size_t len);
void stream_finish(struct stream *st);
void stream_reset(struct stream *st, uint64_t code); /* both directions */
/* The local application reads no more: asks the peer to stop. What was written arrives.
 */
void stream_stop(struct stream *st, uint64_t code);
void stream_consumed(struct stream *st, size_t len);
/* Largest datagram that fits on the path now, 0 when none does. */
size_t stream_datagram_max(const struct stream *st);
/* POSTERN_ERR_LIMIT: queue full or too large; the datagram is dropped, as UDP may. */
MUST_CHECK int stream_send_datagram(struct stream *st, const uint8_t *data, size_t len);
struct session *stream_session(const struct stream *st);

#endif

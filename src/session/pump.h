/*
 * A pump ties one stream of a session to one local socket and moves bytes both ways,
 * with half-close and reset carried faithfully. The stream begins with one framed
 * message each way (StreamOpen, StreamReply) which the pump cuts off and hands up.
 */
#ifndef POSTERN_SESSION_PUMP_H
#define POSTERN_SESSION_PUMP_H

#include "session/session.h"

struct pump;

struct pump_events {
    /* The peer's first message on the stream, whole and undecoded. */
    void (*on_header)(void *ctx, struct pump *p, const uint8_t *msg, size_t len);
    /* A datagram of this flow; NULL when the user expects none. */
    void (*on_datagram)(void *ctx, struct pump *p, const uint8_t *data, size_t len);
    /*
     * The end: nothing follows and `p` is freed. `code` is 0 after an orderly end of
     * both directions, or of one, where nobody is there any more for the other; else
     * why it broke. The socket is closed.
     */
    void (*on_end)(void *ctx, struct pump *p, uint64_t code);
};

struct pump_stats {
    uint64_t to_peer_bytes, from_peer_bytes;
};

/* Opens a stream on `s` and sends `header` (a whole frame) as its first bytes. */
MUST_CHECK int pump_open(struct pump **out, struct session *s,
                         const struct pump_events *events, void *ctx,
                         const uint8_t *header, size_t len);
/* For a stream that the peer opened. */
MUST_CHECK int pump_accept(struct pump **out, struct stream *st,
                           const struct pump_events *events, void *ctx);
void pump_set_user(struct pump *p, const struct pump_events *events, void *ctx);

/* Sends a framed message; before any bytes of the socket. */
MUST_CHECK int pump_send_header(struct pump *p, const uint8_t *frame, size_t len);
/* Moves bytes between the stream and `fd` (a non-blocking socket, owned from here). */
MUST_CHECK int pump_attach(struct pump *p, int fd);
/*
 * Ties the streams of two sessions of one loop to each other, with half-close, reset
 * and datagrams, in place of a local socket. Inside `q`'s on_header, whose user hears
 * nothing more of it.
 */
void pump_join(struct pump *p, struct pump *q);
/*
 * The other end of the local socket is one program: when it closes both directions
 * before the peer has ended, it died, and both are broken.
 */
void pump_set_owned(struct pump *p);
/*
 * This stream carries a flow of datagrams: small ones travel in DATAGRAM frames, those
 * that the path's packets cannot hold as frames on the stream (4 bytes of length).
 * After the headers, before any datagram.
 */
void pump_set_datagrams(struct pump *p);
/* POSTERN_ERR_LIMIT: the queue is full and the datagram is lost, as UDP may lose it. */
MUST_CHECK int pump_send_datagram(struct pump *p, const uint8_t *data, size_t len);
/* Ends the stream in order after what was written so far (a refusal's last act). */
void pump_finish(struct pump *p);
/* Breaks both directions with `code`; on_end follows from the loop. */
void pump_abort(struct pump *p, uint64_t code);
/* The same, without on_end: the user forgets `p`. */
void pump_drop(struct pump *p);
/* The user forgets `p`, which goes on. */
void pump_disown(struct pump *p);
/* The socket's end was passed on, and the peer has acknowledged all before it. */
bool pump_is_sent(const struct pump *p);
struct pump_stats pump_stats(const struct pump *p);

#endif

/*
 * A channel: whole messages over TLS 1.3 over TCP, both ends authenticated by their
 * device keys (raw public keys, RFC 7250). What the messages mean is not known here.
 *
 * Frames are 4 bytes of big-endian length and a body of at most PROTO_FRAME_MAX.
 * Callbacks run from the loop, never from inside a call of this header. A channel may
 * be freed inside any of its callbacks.
 */
#ifndef POSTERN_IO_CHANNEL_H
#define POSTERN_IO_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/key.h"
#include "io/loop.h"

#define CHANNEL_ASKS_S 2u /* no channel's kernel asks sooner, when nothing comes */

struct channel;

struct channel_events {
    /* The handshake is done; `peer` is the proven key of the other end. */
    void (*on_open)(void *ctx, const uint8_t peer[static KEY_LEN]);
    /* One whole message; `msg` is borrowed until the callback returns. */
    void (*on_message)(void *ctx, const uint8_t *msg, size_t len);
    /*
     * The channel is dead and says why; nothing follows; free it. `err` is
     * POSTERN_ERR_KEY when the other end holds another key than expected,
     * POSTERN_ERR_LIMIT when it is busy (TLS alert user_canceled),
     * POSTERN_ERR_CLOSED, _RESET, _REFUSED, _UNREACHABLE, _TIMEOUT, _PROTO or _IO
     * otherwise.
     */
    void (*on_close)(void *ctx, int err, const char *why);
};

struct channel_config {
    struct loop *loop;
    const char *protocol;                /* ALPN; NULL: PROTO_ALPN_BROKER */
    const struct keypair *own;           /* borrowed while the channel lives */
    const struct channel_events *events; /* borrowed */
    void *ctx;
    const uint8_t *badge; /* of a client (core/badge.h), copied in the call; or NULL */
    size_t queue_max_bytes; /* unsent bytes kept; 0 means 256 KiB */
    /*
     * What arrives is acknowledged at once, so that channel_was_killed can tell there
     * what became of this program. Costs a packet for each message.
     */
    bool acks_at_once;
    bool any_key; /* of a client: `expect` is not looked at; on_open has the key */
    /*
     * After so many seconds in which nothing came the kernel asks the other end's, and
     * each second from then on (TCP's keepalive: some 100 bytes with the answer, and
     * nothing for the programs to do); channel_silent_ms tells how that went. 0: after
     * half a minute. Not under CHANNEL_ASKS_S, or channel_was_killed is wrong there.
     */
    unsigned asks_after_s;
    /*
     * TLS credentials of `own` from identity_credentials(), borrowed while the channel
     * lives, for owners of many channels; NULL: the channel makes its own.
     */
    struct gnutls_certificate_credentials_st *credentials;
    /*
     * IDENTITY_TLS_PRIORITY parsed, borrowed likewise; NULL: the channel parses its
     * own, which costs 9 KB for each.
     */
    struct gnutls_priority_st *priority;
};

/*
 * `fd` is a connected (server) or connecting (client) non-blocking TCP socket and is
 * owned by the channel from here on, also on failure. `expect` is the key that the
 * server must hold. on_open or on_close follows.
 */
MUST_CHECK int channel_new_server(struct channel **out, const struct channel_config *c,
                                  int fd);
MUST_CHECK int channel_new_client(struct channel **out, const struct channel_config *c,
                                  int fd, const uint8_t expect[static KEY_LEN]);

/*
 * Queues one message (copied). May be called before on_open: it goes out with the
 * end of the handshake. POSTERN_ERR_LIMIT when the queue bound would be passed (the
 * message is dropped whole), POSTERN_ERR_CLOSED after on_close.
 */
MUST_CHECK int channel_send(struct channel *c, const void *msg, size_t len);
/* Another bound for unsent bytes. */
void channel_set_queue_max(struct channel *c, size_t bytes);
size_t channel_queued_bytes(const struct channel *c);
/* The same with what the kernel holds: all that the other end has not got. */
size_t channel_unread_bytes(const struct channel *c);
/*
 * How many bytes channel_send took in all, as they are on the wire; and up to which of
 * them the other end's machine has everything.
 */
uint64_t channel_said_bytes(const struct channel *c);
uint64_t channel_acked_bytes(const struct channel *c);

/*
 * Moves an open channel to another loop and owner: detach on the old loop's thread,
 * attach on the new one's. Between the two nothing is called. A message that was read
 * but not delivered yet is delivered after the attach.
 */
void channel_detach(struct channel *c);
MUST_CHECK int channel_attach(struct channel *c, const struct channel_config *config);

/* Our end's address; ADDR_NONE when unknown. */
void channel_local(const struct channel *c, struct addr *a);
/* The other end's address, and the smoothed round trip of TCP in microseconds or 0. */
void channel_remote(const struct channel *c, struct addr *a);
uint32_t channel_rtt_us(const struct channel *c);
/* What we sent has not arrived, as far as TCP knows, or only after seconds: the line is
 * to blame for a silence, not the program at its end. */
bool channel_is_clogged(const struct channel *c);
/* The lowest round trip of late: the distance, whatever the machine's load. 0 unknown.
 */
uint32_t channel_min_rtt_us(const struct channel *c);

/*
 * What was sent is not acknowledged, though TCP has sent it again: the way there is cut
 * or forgotten.
 */
bool channel_is_stuck(const struct channel *c);
/*
 * Somebody waits for what is sent from now on: it is sent again each second, or each
 * three round trips, and not in pauses that double for ever.
 */
void channel_insist(struct channel *c);

/* For so long nothing came from the other end's machine, acknowledgements included. */
uint32_t channel_silent_ms(const struct channel *c);

/*
 * Before the handshake is over: tells the other end that we are busy (its on_close has
 * POSTERN_ERR_LIMIT) if the socket takes it. channel_free is to follow.
 */
void channel_say_busy(struct channel *c);
/*
 * Inside on_close, with its `err`: the other end's kernel reset the connection of its
 * own accord, as it does when a program is killed that has left something unread, and
 * no channel_break said otherwise. A router that has forgotten a connection resets it
 * too, but only in answer to something of ours, of which nothing was under way: no
 * acknowledgement either, since nothing had come for some time, and the other end's
 * kernel had no cause yet to ask whether we are here.
 */
bool channel_was_killed(const struct channel *c, int err);
/* In `on_close`: the kernel at the other end or a router between reset it, and not the
 * program there on purpose (channel_break). */
bool channel_was_reset(const struct channel *c, int err);
/*
 * Says that it is broken on purpose, if the socket takes that, resets the connection
 * and frees: the other end must not take it for our end. NULL is fine.
 */
void channel_break(struct channel *c);
/* Sends what is queued if the socket takes it, a TLS close, and frees. NULL is fine. */
void channel_free(struct channel *c);

#endif

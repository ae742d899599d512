/*
 * Calls: one local connection each, carried to a service of a host. A call waits for
 * the session when there is none yet, and hands the host's answer back.
 */
#ifndef POSTERN_CLIENT_CALL_H
#define POSTERN_CLIENT_CALL_H

#include "client/client.h"
#include "io/loop.h"

struct calls; /* all calls of one engine */
struct call;

struct call_config {
    struct peer *peer; /* borrowed; outlives the call */
    const char *service;
    const Visit *visit; /* the portal's; copied; NULL: none */
    /*
     * A connected non-blocking stream socket, owned by the call from here on, also on
     * failure. -1: a flow of datagrams.
     */
    int fd;
    /* Keep `fd` untouched until the host has answered (SOCKS replies first). */
    bool answer_first;
    bool patient; /* a command with nothing else to do: 60 s for an answer, not 20 */
    bool brief;   /* ends after some seconds where the broker cannot be reached */
    bool owned;   /* the other end of `fd` is one program (pump_set_owned) */
    /*
     * The host's answer: enum stream_code, with its reason. After anything but
     * STREAM_OK the socket is reset and on_end follows. `code` STREAM_TIMEOUT also
     * when no session, or no answer, came within 20 s of the call's start. May be
     * NULL, as may the others.
     */
    void (*on_answer)(void *ctx, struct call *c, unsigned code, const char *reason);
    /* Once, when there is no answer after some seconds: what is waited for. */
    void (*on_wait)(void *ctx, struct call *c, const char *why);
    void (*on_datagram)(void *ctx, struct call *c, const uint8_t *data, size_t len);
    /* The last: `c` is freed. */
    void (*on_end)(void *ctx, struct call *c);
    void *ctx;
};

/* Whether `service` may be the name or port of one, or SERVICE/INSTANCE. */
MUST_CHECK int call_check_service(const char *service, struct fault *f);

MUST_CHECK int calls_new(struct calls **out, struct loop *loop);
/* Ends all of them without further events. NULL is fine. */
void calls_free(struct calls *cs);
/* To be called from the engine's events. */
void calls_on_ready(struct calls *cs, struct peer *p);
void calls_on_fault(struct calls *cs, struct peer *p, const struct fault *f,
                    bool fatal);
/* Those of one peer; and their end, with on_end, before the peer is closed. */
unsigned calls_of_peer(const struct calls *cs, const struct peer *p);
void calls_drop_peer(struct calls *cs, const struct peer *p);

/* Whose `ctx` that is has gone: nothing is told any more of its calls, which go on. */
void calls_mute(struct calls *cs, const void *ctx);

MUST_CHECK int call_start(struct call **out, struct calls *cs,
                          const struct call_config *c);
/*
 * For a call that began without a socket: its connection, owned from here, also on
 * failure. Once, after on_answer.
 */
MUST_CHECK int call_attach(struct call *c, int fd);
/* Resets the connection; on_end follows from the loop. */
void call_abort(struct call *c);
/* The same without any further event. */
void call_forget(struct call *c);
MUST_CHECK int call_send_datagram(struct call *c, const uint8_t *data, size_t len);
/* In on_answer: what to do, where it was this side that answered; else empty. */
const char *call_advice(const struct call *c);
/* In on_end: 0 after the orderly end of both directions. */
uint64_t call_code(const struct call *c);
/* The socket has ended its direction, and the host has acknowledged all of it. */
bool call_is_sent(const struct call *c);
/* Bytes moved so far. */
struct pump_stats call_stats(const struct call *c);

#endif

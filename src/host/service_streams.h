/*
 * Service streams: a client's stream to the machine that serves it. Who may use what is
 * judged here, by the host's own lists.
 */
#ifndef POSTERN_HOST_SERVICE_STREAMS_H
#define POSTERN_HOST_SERVICE_STREAMS_H

#include "host/host.h"
#include "session/pump.h"

struct service_streams;
struct tie;

/* Whose stream it is. */
struct stream_client {
    uint8_t listed[KEY_LEN]; /* on the host's list: another after a rotation */
    bool member;
    bool portal; /* the broker's: no device, each stream says for whom it is */
    const struct tie *tie; /* for what is logged: from where, by which path */
    bool agent;            /* this host's, which has judged for whom it asks */
};

/* Freed by free(), once their streams have ended; NULL: no memory. */
struct service_streams *service_streams_new(struct host *h);
/* How many there are; NULL: none. */
size_t service_streams_count(const struct service_streams *os);
/* `who` is read when the stream says what it wants, and stays as long as its session.
 */
void service_stream_accept(struct service_streams *os, const struct stream_client *who,
                           struct stream *st);

/* The host's first message on a stream; and one that is its last. */
MUST_CHECK int stream_reply(struct pump *p, enum stream_code code, const char *reason,
                            bool datagrams);
void stream_refuse(struct pump *p, enum stream_code code, const char *reason);

#endif

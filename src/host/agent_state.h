/* What agent.c (connections) and agent_host.c (hosts and their services) share. */
#ifndef POSTERN_HOST_AGENT_STATE_H
#define POSTERN_HOST_AGENT_STATE_H

#include <gnutls/gnutls.h>

#include "host/agent.h"
#include "host/internal.h"
#include "host/lan.h"
#include "io/acceptor.h"
#include "io/channel.h"
#include "io/edges.h"
#include "io/loop.h"
#include "io/tlspipe.h"

enum {
    AGENT_CONNS_MAX = 4096,    /* connections of clients, with those that begin */
    AGENT_CONNS_NEW_MAX = 512, /* that have not shown yet what they are */
    AGENT_CONNS_NEW_ADDRESS_MAX = 256,
    AGENT_GREETING_MAX = 64, /* hosts that have not said Hello yet */
    AGENT_CALLS_MAX = 1024,  /* asked for, not connected yet */
    AGENT_CALLS_HOST_MAX = 256,
    AGENT_NEW_TIMEOUT_MS = 10000,
    AGENT_CALL_TIMEOUT_MS = 15000, /* longer than the host may dial */
    AGENT_TICK_MS = 500,
    AGENT_UPDATES_MAX = 10, /* lists of services a host may send in a second */
};

/* A connection that came in: of a host, or of a client's to a host's service. */
struct agent_conn {
    struct agent *agent;
    struct agent_conn *next, *prev;
    struct addr from;
    uint64_t since_ms;
    int fd; /* until it is known what it is; then -1 */
    struct watch watch;
    struct tlspipe *pipe; /* a client's */
    int plain;            /* its other end, until a call has it; then -1 */
    struct agent_call *call;
    uint8_t id[CALL_ID_LEN];
    size_t id_len;
    uint8_t key[KEY_LEN]; /* the host's that it is for, once a call has it */
    bool attached;
};

/* One host's control connection. */
struct agent_host {
    struct agent *agent;
    struct agent_host *next, *prev;
    uint64_t number; /* of this connection; no other ever has it */
    struct channel *channel;
    uint64_t since_ms;
    struct lan_host known; /* the key is proven once the channel is open */
    bool ready;            /* it said Hello and was taken in */
    unsigned updates;      /* in the second that began at updates_ms */
    uint64_t updates_ms;
    AgentServices *offered; /* the latest list; NULL: none yet */
    unsigned calls;
};

/* A client's wish for a connection. */
struct agent_call {
    struct agent *agent;
    struct agent_call *next, *prev;
    struct agent_host *host; /* NULL once connected */
    struct agent_conn *conn; /* NULL until connected, and when that is over */
    uint64_t since_ms;
    uint8_t id[CALL_ID_LEN];
    const struct agent_call_events *events;
    void *ctx;
};

struct agent {
    struct serve *serve;
    struct loop *loop;
    struct keypair key;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    struct addr listen;
    uint8_t told[LINK_SECRET_LEN]; /* the token of the link that was printed last */
    int fd;                        /* listening, until the acceptor has it; then -1 */
    struct acceptor *acceptor;
    struct edges *edges; /* of connections that have not shown what they are */
    struct timer timer;  /* own allocation; runs while something has a time limit */
    struct agent_conn *conns;
    struct agent_host *hosts;
    struct agent_call *calls;
    uint64_t last_number;
    unsigned conn_count, conn_new, host_greeting, call_count;
};

/* agent.c */
void agent_wake(struct agent *a);      /* there is a new time limit */
void agent_tell_link(struct agent *a); /* when it is another than before */
/* Breaks the connections of clients to the host with that key. */
void agent_break_conns(struct agent *a, const uint8_t key[static KEY_LEN]);

/* agent_host.c */
/* `fd` is a host's; taken over. */
void agent_host_accept(struct agent *a, int fd);
void agent_host_free(struct agent_host *h);
/* Ends hosts that did not greet and calls that nobody answered; true: some are left. */
bool agent_hosts_tick(struct agent *a, uint64_t now_ms);
/* The call that is waited for under that id, or NULL. */
struct agent_call *agent_call_find(struct agent *a,
                                   const uint8_t id[static CALL_ID_LEN]);
/* It has its connection, of whose plain end it is told. */
void agent_call_connected(struct agent_call *call, struct agent_conn *conn, int fd);

#endif

/*
 * The client engine that all client commands share: state, the book of hosts, one
 * endpoint for each broker and key, and a peer for each host in use, on one loop.
 */
#ifndef POSTERN_CLIENT_CLIENT_H
#define POSTERN_CLIENT_CLIENT_H

#include "client/book.h"
#include "client/peer.h"
#include "client/share.h"
#include "io/events.h"
#include "io/loop.h"
#include "io/statedir.h"

struct client;

struct client_config {
    const char *state;      /* --state, or NULL */
    uint32_t paths;         /* mask of enum path_kind */
    unsigned jit_window_ms; /* 0: the default */
    struct events *out;     /* borrowed; path, rejected and fault events go here */
    bool quiet;             /* no path, rejected and relayed events */
    bool unfold; /* rejected events are printed for people too: each kind's reason */
    bool soon;   /* its user sees nothing meanwhile: told after 2 s what it waits for */
    unsigned wait_ms; /* for a host or broker that is away; 0: the usual time */
    unsigned end_ms;  /* the command ends after that anyway; 0: it does not */
};

/* Told in addition to what the engine does itself; each may be NULL. */
struct client_events {
    void (*on_ready)(void *ctx, struct peer *p);
    void (*on_services)(void *ctx, struct peer *p, const Services *m);
    void (*on_path)(void *ctx, struct peer *p, const struct path *path,
                    uint64_t elapsed_us);
    void (*on_pong)(void *ctx, struct peer *p, uint64_t nonce);
    /*
     * No session now. `p` is NULL when the broker is what cannot be reached. When the
     * event is NULL the engine ends the run with this fault if no session ever stood,
     * or if it is fatal; else it prints the fault and goes on.
     */
    void (*on_fault)(void *ctx, struct peer *p, const struct fault *f, bool fatal);
    /* The session goes on after such a fault; `what` says so, as the engine did. */
    void (*on_heard)(void *ctx, struct peer *p, const char *what);
    void (*on_sure)(void *ctx, struct peer *p); /* as of a peer */
    /*
     * A broker that was there does not come back at once: `lost` is why. NULL once it
     * is back, after this or an on_fault of it.
     */
    void (*on_broker)(void *ctx, const struct fault *lost);
    void (*on_network)(void *ctx);
    bool lasting;  /* it serves also while no session stands: a wait is told once */
    bool standing; /* it ends by itself where waiting cannot help, and for nothing else
                    */
};

MUST_CHECK int client_open(struct client **out, const struct client_config *c,
                           const struct client_events *events, void *ctx,
                           struct fault *f);
/* Ends all sessions and frees. NULL is fine. */
void client_close(struct client *c);

struct loop *client_loop(struct client *c);
/* What it has handed to a daemon; forgotten when the client is closed. */
struct share_list *client_shares(struct client *c);
struct book *client_book(struct client *c);
const struct statedir *client_statedir(const struct client *c);
struct events *client_out(struct client *c);

/* The peer of a host in the book, made when there is none yet. */
MUST_CHECK int client_peer(struct client *c, const char *host, struct peer **out,
                           struct fault *f);
/* Ends its session; not inside events of it, nor with calls of it left. */
void client_drop(struct client *c, struct peer *p);
/* The host was joined anew: what kept this program from it counts no more. */
MUST_CHECK int client_renew(struct client *c, const char *host, struct fault *f);
/* This device may have a newer key: hosts are told of it. */
void client_take_keys(struct client *c);
/* The peer of an invite: proves its secret; on_services follows when it was let in. */
MUST_CHECK int client_join(struct client *c, const struct link *invite,
                           const char *own_name, struct peer **out, struct fault *f);
/*
 * Does a running `up` answer, so that its sessions can be used? One that is stopped or
 * stuck is told of after 5 s, for which this blocks; the waiting begins after that.
 */
bool client_finds_up(struct client *c);
/* Somebody waits, and why: told on stderr, unless it was of late. */
void client_tell_wait(struct client *c, const char *why);
/* Tells that fault, and that it goes on all the same. */
void client_tell_retried(struct client *c, const struct fault *f);
/* Calls `each` for every broker: for one connection to it, whatever keys need more. */
void client_each_broker(struct client *c,
                        void (*each)(void *ctx, const struct uplink *u), void *ctx);
/* Asks each whether it answers (path/inquiry.h); and whether one owes that still. */
void client_ask_brokers(struct client *c);
bool client_awaits_broker(const struct client *c);
/* Calls `each` for every peer. */
void client_each(struct client *c, void (*each)(void *ctx, struct peer *p), void *ctx);

/*
 * Runs until client_stop or a signal to stop (io/stop.h). Returns what client_stop was
 * given, 0 after a signal, and fills `f` when that is an error.
 */
MUST_CHECK int client_run(struct client *c, struct fault *f);
/* By a signal: whoever would start something else now does not. */
bool client_was_ended(const struct client *c);
/* `f` (may be NULL) is copied; `result` is returned by client_run. */
void client_stop(struct client *c, int result, const struct fault *f);

/*
 * For commands with an on_fault of their own, before any session stood: whether this
 * fault is the last word, or a little patience may help.
 */
bool client_gives_up(struct client *c, const struct fault *f, bool fatal);
/*
 * The same for commands that end then: ends the run with this fault, at once or when
 * that patience is over and no session has come.
 */
void client_stop_unless(struct client *c, const struct fault *f, bool fatal);

/* In words, for commands that serve every host joined: there is none yet. */
void client_tell_empty(struct client *c);

#endif

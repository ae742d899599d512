/*
 * The local socket: commands of the same user talk to a running daemon. One request a
 * connection, any number of replies, and then perhaps a byte stream on the same
 * descriptor. What the operations mean is not known here.
 *
 * Only the daemon's own user and root are heard (SO_PEERCRED, mode 0600), and, if the
 * daemon says so, the owner of the directory. A command speaks to its own user's daemon
 * and root's, and root's command to that of the directory's owner.
 */
#ifndef POSTERN_IO_LOCAL_H
#define POSTERN_IO_LOCAL_H

#include <stdbool.h>

#include "core/err.h"
#include "core/proto.h"
#include "io/events.h"
#include "io/loop.h"

struct local_server;
struct local_conn;

struct local_events {
    /*
     * One whole request. `fd` is the descriptor that came with it and is yours, or
     * -1. Answer now or later; end with local_conn_close or local_conn_hand_over.
     */
    void (*on_request)(void *ctx, struct local_conn *c, const LocalRequest *req,
                       int fd);
    /*
     * The command went away after its request: forget `c`; it is freed when this
     * returns. Not called after local_conn_close or local_conn_hand_over.
     */
    void (*on_gone)(void *ctx, struct local_conn *c);
    /* The owner of the socket's directory may ask a daemon of root's too. */
    bool for_owner;
};

/*
 * Listens at `path`, of any length, replacing a dead socket file of an earlier run
 * (hold the role's lock). Callbacks run from the loop. Closing closes all connections
 * without calling on_gone, and removes the file.
 */
MUST_CHECK int local_server_open(struct local_server **out, struct loop *loop,
                                 const char *path, const struct local_events *events,
                                 void *ctx, struct fault *f);
/*
 * The same, but a disk that has no room for the socket, or takes none, is only warned
 * of: then `*out` is NULL. What can work without commands goes on.
 */
MUST_CHECK int local_server_open_if_room(struct local_server **out, struct loop *loop,
                                         const char *path,
                                         const struct local_events *events, void *ctx,
                                         struct fault *f);
/*
 * Its directory may be another one now: makes the socket there where its file is not.
 * What was connected stays. NULL is fine, here and below.
 */
void local_server_renew(struct local_server *s);
void local_server_close(struct local_server *s);

/* A pointer of the daemon's own, NULL at first. */
void local_conn_set_data(struct local_conn *c, void *data);
void *local_conn_data(const struct local_conn *c);
/* Queues a reply, at most 64 KiB in all. POSTERN_ERR_LIMIT when the reader is stuck. */
MUST_CHECK int local_conn_reply(struct local_conn *c, const LocalReply *reply);
/* The same of an event; what finds no room is left out. */
void local_conn_say(struct local_conn *c, struct event *e, bool last);
/* All that was queued went out: a reply that only says that we live has a reader. */
bool local_conn_is_read(const struct local_conn *c);
/* A last reply of code `code` (0 is success) with words from `f`, or NULL, and close.
 */
void local_conn_finish(struct local_conn *c, int code, const struct fault *f);
/*
 * Sends `reply` and gives the non-blocking descriptor, on which raw bytes follow, to
 * the caller; `c` is gone. Negative error when the reply did not go out whole: then
 * the connection was closed.
 */
MUST_CHECK int local_conn_hand_over(struct local_conn *c, const LocalReply *reply);
/* Sends what is queued, then closes; `c` is gone for the caller. */
void local_conn_close(struct local_conn *c);

/*
 * The command's side: blocking. POSTERN_ERR_NOTFOUND when no daemon listens there,
 * _PERM when it is another user's, _TIMEOUT when it takes none for 5 s. Close `*fd`
 * with close(2).
 */
MUST_CHECK int local_dial(const char *path, int *fd);
/* `pass_fd` travels with the request and stays the caller's; -1 for none. */
MUST_CHECK int local_send(int fd, const LocalRequest *req, int pass_fd);
/* One reply; reads no byte beyond it. `timeout_ms` < 0 waits for ever. */
MUST_CHECK int local_recv(int fd, LocalReply *reply, int timeout_ms);

#endif

/*
 * One TCP connection between two devices in the making: connected or accepted, then
 * greeted both ways (core/greeting.h). Knows nothing of why it is made.
 */
#ifndef POSTERN_PATH_ATTEMPT_H
#define POSTERN_PATH_ATTEMPT_H

#include "core/addr.h"
#include "core/greeting.h"
#include "path/net.h"

struct attempt;

struct greeting_terms {
    uint8_t key[GREETING_KEY_LEN];
    bool client; /* this side is */
    enum path_kind kind;
    /*
     * Who answers at a private address may be anybody's machine, since the peer's
     * network may be numbered as ours is: it is told nothing. There who connects
     * greets only when it is greeted, or when the other side's SYN met its own; who
     * accepted, or was met likewise, greets at once.
     */
    bool near;
    /* The other side calls as well, and nobody listens: who calls first waits. */
    bool both_call;
    bool counted; /* as a session of this device's NAT, by the caller */
};

/*
 * Runs once, from the loop; the attempt is gone when it begins. 0: `fd` is the
 * caller's. POSTERN_ERR_REFUSED, _UNREACHABLE, _IO (the connection did not come
 * about), _DENIED (the other end did not greet as it must), _CLOSED.
 */
typedef void (*attempt_cb)(void *ctx, struct attempt *a, int err, int fd);

/* From `local`; `hops` as in tcp_connect. */
MUST_CHECK int attempt_connect(struct attempt **out, struct net *net,
                               const struct addr *local, const struct addr *remote,
                               unsigned hops, const struct greeting_terms *terms,
                               attempt_cb cb, void *ctx);
/* The same on a bound socket, taken over when it returns 0. */
MUST_CHECK int attempt_connect_on(struct attempt **out, struct net *net, int fd,
                                  const struct addr *remote, unsigned hops,
                                  const struct greeting_terms *terms, attempt_cb cb,
                                  void *ctx);
/* Takes over `fd`, connected, when it returns 0; the other end greets first. */
MUST_CHECK int attempt_awaited(struct attempt **out, struct net *net, int fd,
                               const struct greeting_terms *terms, attempt_cb cb,
                               void *ctx);
/* Takes over `fd`, connected, when it returns 0. */
MUST_CHECK int attempt_accepted(struct attempt **out, struct net *net, int fd,
                                const struct greeting_terms *terms, attempt_cb cb,
                                void *ctx);
/* Closes it; the callback will not run. NULL is fine. */
void attempt_free(struct attempt *a);
/* True once TCP stands and the greeting is awaited. */
bool attempt_is_connected(const struct attempt *a);
const struct addr *attempt_remote(const struct attempt *a);

#endif

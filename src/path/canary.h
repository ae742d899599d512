/*
 * The request by which a prediction learns whether the NAT still takes new sessions: a
 * STUN request from a socket of its own, so that it needs a new one, and the same for
 * the caller to send from a socket that has its session already. When is core/waves'.
 */
#ifndef POSTERN_PATH_CANARY_H
#define POSTERN_PATH_CANARY_H

#include "core/stun.h"
#include "io/udp.h"
#include "path/net.h"

struct canary {
    struct addr server;
    uint8_t proof[STUN_MARK_LEN];
    struct udp *socket; /* NULL: none is asked */
    uint8_t own[STUN_TXID_LEN], beside[STUN_TXID_LEN];
    void (*answered)(void *ctx);
    void *ctx;
};

/* `proof` (uplink_proof) is copied. `answered` comes from the loop, perhaps more than
 * once. */
void canary_init(struct canary *c, const struct addr *server,
                 const uint8_t proof[static STUN_MARK_LEN], void (*answered)(void *ctx),
                 void *ctx);
/* Sends it, or sends it again; writes what goes beside it, and returns its length. */
size_t canary_send(struct canary *c, struct net *net,
                   uint8_t beside[static STUN_MESSAGE_MAX]);
/* What came to the other socket answers the request beside it. */
bool canary_is_beside(const struct canary *c, const uint8_t *buf, size_t len);
/* The next one is new to the NAT. */
void canary_close(struct canary *c);

#endif

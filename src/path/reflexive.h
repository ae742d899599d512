/*
 * Where the outside sees our UDP sockets: STUN binding requests to the broker's servers
 * (RFC 8489), one socket a family, repeated until answered. Owns no socket and no
 * timer.
 */
#ifndef POSTERN_PATH_REFLEXIVE_H
#define POSTERN_PATH_REFLEXIVE_H

#include "core/addr.h"
#include "core/natcheck.h"
#include "core/punch.h"
#include "core/stun.h"
#include "io/udp.h"
#include "path/target.h"

/* The third socket, where there is one, shows more of the NAT (reflexive_ask_sample).
 */
enum { REFLEXIVE_SOCKETS = 2, REFLEXIVE_SAMPLE = 2, REFLEXIVE_MAX = 8 };

/* One binding request: a socket and a server. */
struct binding {
    unsigned sock;
    struct addr server;
    uint8_t txid[STUN_TXID_LEN];
    unsigned tries;
    uint64_t due_ms;
    struct addr mapped; /* the answer */
    bool done;
    unsigned left; /* requests that this machine let out */
    bool follows;  /* another answer named this server */
    bool stranded; /* the latest did not leave: asked again, but not waited for */
};

struct reflexive {
    bool maps; /* asks also the servers that an answer names, which shows the mapping */
    bool asked_again; /* what answered before the NAT may have forgotten everything */
    struct binding bindings[REFLEXIVE_MAX];
    unsigned count;
};

/* `sockets` below: of each family, and the sample where it is asked from. */

/* Forgets what was; asks each of the `n` servers from the socket of its family; with
 * `maps` also what their answers name: the second port and the second address. */
void reflexive_begin(struct reflexive *r, const struct addr *servers, size_t n,
                     bool maps, struct udp *const sockets[], uint64_t now_ms);
/* Sends what is due, as far as the approach may. */
void reflexive_send(struct reflexive *r, struct approach *a,
                    struct udp *const sockets[], uint64_t now_ms);
/* UINT64_MAX: nothing more to send. */
uint64_t reflexive_deadline_ms(const struct reflexive *r);
/* True when this packet is a server's answer that was waited for; `a` is told. */
bool reflexive_on_packet(struct reflexive *r, struct approach *a, unsigned sock,
                         const struct addr *from, const uint8_t *buf, size_t len,
                         struct udp *const sockets[], uint64_t now_ms);
/*
 * Asks from sockets[REFLEXIVE_SAMPLE] too, which port the NAT gives that one: near the
 * others, or low where its own is (core/predict.h). False: no IPv4 server has answered
 * yet.
 */
bool reflexive_ask_sample(struct reflexive *r, struct udp *const sockets[],
                          uint64_t now_ms);
/* What became of it; NULL: it was not asked. */
const struct binding *reflexive_sample(const struct reflexive *r);
/* This side's first IPv4 socket is seen with another port than `port`. */
bool reflexive_is_changed(const struct reflexive *r, uint16_t port);
/* The outside ports of the first IPv4 socket and the sample; their number. */
size_t reflexive_ports(const struct reflexive *r, uint16_t out[static REFLEXIVE_MAX]);
/* An answer may still come. */
bool reflexive_waits(const struct reflexive *r);
/* So may one that is worth waiting for: once a server has answered, what was asked
 * twice in vain (a family whose packets get lost, a closed second port) is not. */
bool reflexive_is_worth_waiting(const struct reflexive *r);
/* What the answers together say about this side's NAT (RFC 5780 section 4.3); unknown
 * as long as a second address may still answer. */
enum nat_mapping reflexive_mapping(const struct reflexive *r);
/* Only one address has answered: its mapping may depend on addresses all the same. */
bool reflexive_is_one_sided(const struct reflexive *r);
/* The server that answered the IPv4 socket first, or NULL. */
const struct addr *reflexive_server(const struct reflexive *r);
/* Requests that left. */
unsigned reflexive_asked(const struct reflexive *r);
enum punch_udp reflexive_udp(const struct reflexive *r);

#endif

/*
 * The table of a layer-4 router: which client address may use which local port, where
 * that leads (grants), and which connections and UDP flows are under way (entries).
 *
 * It knows addresses, ports, numbers of hosts and names of services. It refuses to know
 * sockets, what a login is, and the clock: times are milliseconds of any clock that
 * never goes back. All memory is taken by routes_new. Look-ups are hashed with a secret
 * key, so that nobody can choose addresses that collide.
 *
 * Addresses are as addr_from_bytes makes them (an IPv4-mapped one is IPv4).
 */
#ifndef POSTERN_CORE_ROUTES_H
#define POSTERN_CORE_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

#define ROUTES_SECRET_LEN 16
#define ROUTES_SERVICE_LEN 64 /* with its NUL */
#define ROUTES_ACCOUNT_LEN 64 /* with its NUL */

enum {
    ROUTES_GRANTS_MAX = 4096,
    ROUTES_GRANTS_LOGIN_MAX = 64,
    ROUTES_ENTRIES_MAX = 16384,
    ROUTES_ENTRIES_LOGIN_MAX = 256,
    ROUTES_UNPROVEN_LOGIN_MAX = 16, /* beside these, of each protocol */
};

/*
 * "This login's clients at this address, who come to this port, go to that service as
 * that account." The target is all of host, service and account: the host gives each
 * account its own instance of a service, and writes down who came.
 * Whose address counts as the same: an IPv4 address exactly; an IPv6 address by its
 * first 64 bits, since a device changes the others as it likes; a link-local address
 * exactly with its scope, since all of a link share its first 64 bits.
 */
struct route_grant {
    uint64_t id; /* never 0, never used again; set by the table */
    uint64_t login;
    struct addr client; /* its port does not matter */
    uint16_t port;      /* the local one, not 0 */
    bool udp;
    uint32_t host; /* the caller's number of the host */
    char service[ROUTES_SERVICE_LEN];
    char account[ROUTES_ACCOUNT_LEN];
    bool by_name;     /* the caller's; is no part of the target */
    uint32_t entries; /* now under way through it; set by the table */
};

enum route_state {
    ROUTE_WAITING, /* the host was asked, and has not answered */
    ROUTE_OPEN,
};

struct route_entry {
    uint64_t id;        /* never 0, never used again */
    uint64_t grant;     /* the grant that let it in */
    struct addr client; /* with its port */
    uint16_t port;      /* the local one */
    bool udp;
    bool proven; /* its client has shown that it is at its address */
    enum route_state state;
    uint64_t touched_ms; /* when it was opened or touched last */
    void *owner;         /* the caller's, NULL at first; the only field to write to */
};

enum route_end {
    ROUTE_END_REVOKED, /* its grant is gone */
    ROUTE_END_IDLE,    /* routes_expire */
    ROUTE_END_CROWDED, /* a newer one has its place */
};

/*
 * An entry ended that the caller did not close: it shall close what belongs to it. `e`
 * is a copy, the entry is out of the table already. Comes from inside routes_grant,
 * routes_revoke*, routes_give_up*, routes_open, routes_prove and routes_expire. It may
 * call anything but routes_grant, routes_open, routes_prove and routes_free.
 */
typedef void (*routes_end_cb)(void *ctx, const struct route_entry *e,
                              enum route_end why);

struct routes;

/* About 4 MB. Only POSTERN_ERR_NOMEM. `on_end` is needed. */
MUST_CHECK int routes_new(struct routes **out,
                          const uint8_t secret[static ROUTES_SECRET_LEN],
                          routes_end_cb on_end, void *ctx);
/* Reports nothing. */
void routes_free(struct routes *r);

/* -------------------------------------------------------------------------- grants */

/*
 * Makes the grant `want` (its id and entries are ignored) and gives its id in `id` (may
 * be NULL). A login has at most one grant for a target: where it has one with the same
 * address, port and protocol already, nothing changes and that one's id comes back;
 * another one is given up, as routes_give_up does. Returns, and then changes nothing:
 * POSTERN_ERR_INVALID  no address, port 0, no service name, a text without its NUL
 * POSTERN_ERR_INUSE    somebody, this login or another, holds the same address, port
 *                      and protocol for another target: see routes_holder
 * POSTERN_ERR_LIMIT    the table, or what a login may have, is full
 * Several logins may hold the same address, port and protocol for the same target: one
 * account in several browsers. Nobody else may, since address and port could not tell
 * whose a connection is.
 */
MUST_CHECK int routes_grant(struct routes *r, const struct route_grant *want,
                            uint64_t *id);

/*
 * The right to it is gone: ends the grant and its entries. POSTERN_ERR_NOTFOUND when
 * there is no such grant, as below.
 */
int routes_revoke(struct routes *r, uint64_t grant);
/*
 * Its login does not want it any more. Its entries go on under the eldest grant of the
 * same address, port and protocol, be its login full or not: nobody can tell which
 * browser of the account they belong to. Where there is none they end.
 */
int routes_give_up(struct routes *r, uint64_t grant);
/* Gives up all of a login's, and revokes all of a host's: how many there were. */
size_t routes_give_up_login(struct routes *r, uint64_t login);
size_t routes_revoke_host(struct routes *r, uint32_t host);

/* What routes_... give back stays valid until the grant or entry is gone. */
const struct route_grant *routes_grant_by_id(const struct routes *r, uint64_t grant);
/*
 * The grants of a login in the order they were made: the first after grant id `after`,
 * NULL when there is none. Start with 0.
 */
const struct route_grant *routes_next_grant(const struct routes *r, uint64_t login,
                                            uint64_t after);
/* The eldest grant under which a client of this address may use this port, or NULL. */
const struct route_grant *routes_holder(const struct routes *r,
                                        const struct addr *client, uint16_t port,
                                        bool udp);
/* Whether any grant leads from this local port: may its listener go? */
bool routes_port_in_use(const struct routes *r, uint16_t port, bool udp);
size_t routes_grant_count(const struct routes *r);

/* ------------------------------------------------------------------------- entries */

/*
 * A new connection or flow from `client` (with its port) came to local port `port`:
 * finds its grant and makes an entry, ROUTE_WAITING, whose id goes to `id`. Of several
 * grants the eldest counts whose login has room.
 *
 * Anybody can write another's address into a first packet. So who is not `proven` takes
 * no place of who is: he is of a class of his own, small, for each login and protocol.
 * Where a place is wanted and there is none, the flow of that login and class ends that
 * is silent the longest; where the table is full, the one of all that are not proven.
 * A connection has no such end, and need not: its SYN needs no entry to be answered.
 *
 * Returns, looked at in this order, and then changes nothing:
 * POSTERN_ERR_INVALID  no address, or a port is 0
 * POSTERN_ERR_INUSE    there is an entry of the same client, ports and protocol
 * POSTERN_ERR_DENIED   no grant: a stranger
 * POSTERN_ERR_LIMIT    the table, or what each such login may have, is full
 * POSTERN_ERR_AGAIN    so is only the class of TCP's that are not proven: let it prove
 */
MUST_CHECK int routes_open(struct routes *r, const struct addr *client, uint16_t port,
                           bool udp, bool proven, uint64_t now_ms, uint64_t *id);
/*
 * Its client was heard again after an answer. POSTERN_ERR_NOTFOUND; POSTERN_ERR_LIMIT
 * when its login has no place for it, and it stays what it is.
 */
MUST_CHECK int routes_prove(struct routes *r, uint64_t id, uint64_t now_ms);
/*
 * The host's server accepted: ROUTE_WAITING becomes ROUTE_OPEN. POSTERN_ERR_NOTFOUND;
 * POSTERN_ERR_INVALID when it was open.
 */
MUST_CHECK int routes_accepted(struct routes *r, uint64_t id);
/* Something passed. POSTERN_ERR_NOTFOUND. */
int routes_touch(struct routes *r, uint64_t id, uint64_t now_ms);
/* Refused, ended: forgets it and reports nothing. POSTERN_ERR_NOTFOUND. */
int routes_close(struct routes *r, uint64_t id);

/* NULL when there is none. Only `owner` may be written. */
struct route_entry *routes_find(const struct routes *r, const struct addr *client,
                                uint16_t port, bool udp);
struct route_entry *routes_entry(const struct routes *r, uint64_t id);

/*
 * Ends the entries of that protocol that nothing touched for `idle_ms`, the longest
 * silent first. Returns how many.
 */
size_t routes_expire(struct routes *r, bool udp, uint64_t now_ms, uint64_t idle_ms);
/* When routes_expire would find something next; UINT64_MAX when there is no entry. */
uint64_t routes_next_expiry(const struct routes *r, bool udp, uint64_t idle_ms);

size_t routes_entry_count(const struct routes *r);
size_t routes_login_entries(const struct routes *r, uint64_t login);

#endif

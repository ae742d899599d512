/* What the files of portal/ share, and nobody else may include. */
#ifndef POSTERN_PORTAL_INTERNAL_H
#define POSTERN_PORTAL_INTERNAL_H

#include <stdatomic.h>

#include "broker/mailbox.h"
#include "client/call.h"
#include "core/routes.h"
#include "core/throttle.h"
#include "io/audit.h"
#include "io/log.h"
#include "io/loop.h"
#include "portal/portal.h"
#include "portal/turns.h"
#include "session/endpoint.h"

enum {
    PORTAL_HOSTS_MAX = 4096,
    HOST_SERVICES_MAX = 64,
    HOST_ACCOUNTS_MAX = 64,
    HOST_KEPT_MS = 24 * 3600 * 1000, /* after it went: its people may still log in */
    PEER_IDLE_MS = 5 * 60 * 1000,    /* a session to a host that nobody uses */
    LOGINS_MAX = 4096,
    LOGINS_NAME_MAX = 512, /* of one name */
    LOGIN_HOSTS_MAX = 8,   /* hosts on which one name may have the same password */
    SWEEP_MS = 5000,
    RATES_MAX = 64,
    RATE_NAME_LEN = 128,
    RATE_MIN_MS = 1000,
};

#define HOST_AWAY "the host is not connected"
#define LABEL_LEN 64
#define VISITOR_LEN 64
#define LOGIN_TOKEN_LEN 32
#define LOGIN_TOKEN_TEXT_LEN 53 /* base32, with NUL */

struct ask;
struct door;
struct login_step;
struct passage;
struct visit;
struct web;

/* ------------------------------------------------------------------------- hosts.c */

struct portal_service {
    char name[ROUTES_SERVICE_LEN];
    char label[LABEL_LEN];
    uint16_t port;
    bool udp, open, tls;
};

struct portal_account {
    char name[64];
    char hash[128];
    uint8_t totp[64];
    size_t totp_len;
    int64_t totp_step; /* the last one that was used */
    int64_t expires_s; /* 0: does not */
    bool owner;
    uint64_t services; /* bit by number */
    /*
     * Which of them are there, as the host said at `up_ms`: it says of each account's
     * own instances, so it is no other account's.
     */
    uint64_t up, up_known;
    uint64_t up_ms;
    bool silent; /* it was asked at `up_ms` and did not answer */
};

struct portal_list {
    struct portal_service services[HOST_SERVICES_MAX];
    size_t service_count;
    struct portal_account accounts[HOST_ACCOUNTS_MAX];
    size_t account_count;
};

struct rate_sample {
    char name[RATE_NAME_LEN];
    double bytes, rate;
    uint64_t at_ms;
};

/* A host that opened something to people without a device. */
struct portal_host {
    struct portal_host *next;
    struct portal *portal;
    uint32_t number; /* never used again */
    uint8_t key[KEY_LEN];
    char name[64], label[LABEL_LEN];
    bool online;
    struct portal_list *list;   /* in force; owned; NULL: none came whole yet */
    struct portal_list *coming; /* owned */
    struct peer *peer;          /* NULL: nobody asked for it lately */
    uint64_t gone_ms, used_ms;
    struct rate_sample rates[RATES_MAX]; /* of its sessions, as last looked at */
};

/* From the broker's threads, by mail. */
void hosts_on_message(struct portal *p, const uint8_t key[static KEY_LEN],
                      const Control *m);
void hosts_on_gone(struct portal *p, const uint8_t key[static KEY_LEN]);
void hosts_on_uplink(struct portal *p, bool up);
void hosts_on_control(struct portal *p, const Control *m);
void hosts_sweep(struct portal *p);
void hosts_close(struct portal *p);
struct portal_host *host_by_number(struct portal *p, uint32_t number);
struct portal_host *host_by_key(struct portal *p, const uint8_t key[static KEY_LEN]);
/* The session to it, begun when there is none; NULL when the host is away. */
struct peer *host_peer(struct portal_host *h);
struct portal_account *host_account(const struct portal_host *h, const char *name);
/* Its number, or -1. */
int host_service(const struct portal_host *h, const char *name);

/* ------------------------------------------------------------------------ logins.c */

/* Somebody who logged in: one browser. */
struct login {
    struct login *next;
    uint64_t id;
    uint8_t cookie_hash[32];
    char csrf[LOGIN_TOKEN_TEXT_LEN];
    char account[64];
    struct addr client; /* where it was last seen; its port is of no account */
    uint64_t since_ms, used_ms;
    struct {
        uint32_t host;
        uint8_t proof[32]; /* hash of the password's hash: another ends the access */
    } hosts[LOGIN_HOSTS_MAX];
    size_t host_count;
};

enum login_result { LOGIN_OK, LOGIN_CODE, LOGIN_WRONG, LOGIN_WAIT, LOGIN_FAILED };

/* `token` is the cookie (OK) or the step (CODE). */
typedef void (*login_cb)(void *ctx, enum login_result result, const char *token);

MUST_CHECK int logins_open(struct portal *p);
void logins_close(struct portal *p);
void logins_sweep(struct portal *p);
/* Ends those that have no account left. */
void logins_check(struct portal *p);
/* Where a try comes from: the address, and the browser's cookies as sent, or NULL. */
struct login_from {
    struct addr address;
    const char *cookies;
};

/*
 * Checks a name and password, on a thread of its own; a stranger's once it is his turn,
 * or the callback says LOGIN_WAIT. It comes never from inside the call.
 * POSTERN_ERR_LIMIT: too many at once; _AGAIN: failed too often, wait so long.
 */
MUST_CHECK int login_begin(struct portal *p, const char *name, const char *password,
                           const struct login_from *from, login_cb cb, void *ctx,
                           uint64_t *wait_ms);
/* The one-time code that LOGIN_CODE asked for; `token` gets the cookie when OK. */
enum login_result login_code(struct portal *p, const char *step, const char *code,
                             const struct login_from *from,
                             char token[static LOGIN_TOKEN_TEXT_LEN],
                             uint64_t *wait_ms);
/* Answers all strangers who stand in line: LOGIN_WAIT. */
void logins_clear_line(struct portal *p);
struct login *login_by_cookie(struct portal *p, const char *token);
struct login *login_by_id(struct portal *p, uint64_t id);
/* Seen now at `from`: its routes follow it. */
void login_seen(struct portal *p, struct login *l, const struct addr *from);
void login_end(struct portal *p, struct login *l, const char *why);
/* The account on that host if it still holds; NULL when it does not. */
struct portal_account *login_account(const struct login *l,
                                     const struct portal_host *h);
/* May it use that service there? */
bool login_may(const struct login *l, const struct portal_host *h, int service);

/* ----------------------------------------------------------------------- devices.c */

enum { DEVICE_NONCE_LEN = 16, DEVICE_LIFE_S = 180 * 24 * 3600 };

void devices_open(struct portal *p);
/* The header's value that makes a browser known for this login's account. */
void device_set_cookie(struct portal *p, const struct login *l, char *out, size_t cap);
/* Did the browser with these cookies log in as `a` on that host? `device` tells it. */
bool device_knows(const struct portal *p, const char *cookies,
                  const struct portal_host *h, const struct portal_account *a,
                  uint8_t device[static DEVICE_NONCE_LEN]);

/* ------------------------------------------------------------------------- tries.c */

/*
 * Whom a try concerns: the accounts of that name, each by itself. Else who has one of
 * the same name on another host could forget the failures by logging in there.
 */
struct tried {
    char name[64];
    struct addr from;
    uint32_t hosts[LOGIN_HOSTS_MAX];
    enum { TRIED_BY_STRANGER, TRIED_BY_PLACE, TRIED_BY_DEVICE } by[LOGIN_HOSTS_MAX];
    size_t count; /* 0: nobody is called so */
    bool code;    /* the password was right */
    uint8_t device[DEVICE_NONCE_LEN];
};

struct tries {
    struct throttle addresses, strangers, places, known;
    struct ledger logged_in; /* addresses, by account */
    struct turns turns;      /* strangers: struct job */
};

MUST_CHECK int tries_open(struct portal *p);
void tries_close(struct portal *p);
/* One more host; `name` and `from` are set. */
void tried_add(struct portal *p, struct tried *t, uint32_t host, const char *cookies);
/* By the browser or the address, on one of the hosts. */
bool tried_is_known(const struct tried *t);
/* How long this one must wait for what he did himself, and for what strangers did. */
uint64_t tries_own_wait_ms(struct portal *p, const struct tried *t);
uint64_t tries_strangers_wait_ms(struct portal *p, const struct tried *t);
void tries_failed(struct portal *p, const struct tried *t);
void tries_succeeded(struct portal *p, const struct tried *t);

/* -------------------------------------------------------------------------- asks.c */

/* `text` is the answer's lines, borrowed; `code` is 0, or a stream_code with reason. */
typedef void (*ask_cb)(void *ctx, unsigned code, const char *reason, const char *text);

/* Asks a host as `account`; the callback runs once, from the loop or asks_close. */
MUST_CHECK int ask_start(struct portal_host *h, const char *account,
                         const char *visitor, enum portal_ask what, const char *arg,
                         unsigned timeout_ms, ask_cb cb, void *ctx);
/* Answers all that are still open: nobody waits for the hosts any more. */
void asks_close(struct portal *p);

/* For the host's own audit log, if it is there: see PORTAL_ASK_NOTE. */
void host_note(struct portal_host *h, const char *account, const struct addr *from,
               const char *what, const char *object);

/* ------------------------------------------------------------------------- doors.c */

void doors_close(struct portal *p);
void doors_sweep(struct portal *p, uint64_t idle_ms);
/*
 * Opens a port for this login's account and address, and listens on it where nobody
 * does yet. `port` gets the one in use: the service's own, or where that cannot be had
 * or leads others of the same address elsewhere, 10,000 or 20,000 higher and so on; the
 * logs have which, and why. Fills `f` with what to tell the person.
 */
MUST_CHECK int door_grant(struct portal *p, struct login *l, struct portal_host *h,
                          int service, uint16_t *port, struct fault *f);
/* The login's grant for that service, or NULL. */
const struct route_grant *door_granted(struct portal *p, const struct login *l,
                                       const struct portal_host *h,
                                       const char *service);
/* What to do when the table ended an entry. */
void doors_on_route_end(void *ctx, const struct route_entry *e, enum route_end why);
/* The login's address is another now: its grants follow. */
void door_move(struct portal *p, struct login *l);
/* Closes listeners that no grant needs any more. */
void doors_trim(struct portal *p);

/* ------------------------------------------------------------------------- names.c */

/* A TLS connection for SERVICE--HOST.domain: passes it on. False: no such name form. */
bool names_take(struct portal *p, int fd, const char *server_name);
/* Ends those that have moved nothing for so long. */
void names_sweep(struct portal *p, uint64_t idle_ms);
/*
 * Whether the service's name leads this login there. It leads nobody at an address
 * where others who are logged in would be led elsewhere: a name alone cannot tell whose
 * a connection is.
 */
bool names_lead(struct portal *p, const struct login *l, const struct portal_host *h,
                int service);
/*
 * Connections of a login by name: are there any; its end. They go on where the account
 * is logged in at their address once more, since nobody can tell which browser's they
 * are.
 */
bool names_in_use(struct portal *p, uint64_t login);
void names_end_login(struct portal *p, uint64_t login);

/* --------------------------------------------------------------------------- web.c */

MUST_CHECK int web_open(struct portal *p, struct fault *f);
void web_close(struct portal *p);
void web_take(struct portal *p, int fd);
void web_sweep(struct portal *p);

/* ------------------------------------------------------------------------ portal.c */

struct portal {
    const struct portal_config *config;
    struct broker_portal for_broker;
    struct broker *broker;
    struct loop *loop;
    pthread_t thread;
    struct timer sweep, line; /* strangers who want to log in */
    struct mailbox *mail;
    enum log_level log_level;
    bool running, stopping;
    atomic_uint arriving; /* descriptors that are under way to the thread */
    char domain[256];     /* empty: no services by name */
    char public_name[256];
    uint16_t public_port;
    struct endpoint endpoint;
    bool endpoint_open;
    struct calls *calls;
    struct portal_host *hosts;
    size_t host_count;
    uint32_t next_host;
    struct login *logins;
    size_t login_count;
    uint64_t next_login;
    uint8_t secret[32], device_secret[32];
    struct tries *tries;          /* to log in */
    struct login_step *steps;     /* passwords that were right, a code is awaited */
    unsigned jobs, stranger_jobs; /* passwords being checked now */
    struct passage *passages;     /* connections by name */
    uint64_t strangers_since_ms;
    unsigned strangers_told; /* refusals by name since then, whether logged or not */
    struct routes *routes;
    struct door *doors;   /* open ports */
    struct visit *visits; /* connections and flows by port */
    struct ask *asks;     /* questions to hosts that are not answered yet */
    struct web *web;
    struct audit *audit;
};

/* Writes an entry; every text may be NULL. `from` may be NULL. */
void portal_audit(struct portal *p, const char *what, const char *who,
                  const struct addr *from, const char *object, const char *detail);
/* "1.2.3.4:5" as Visit wants it. */
void portal_visit(Visit *v, const char *account, const struct addr *from);
bool portal_same_client(const struct addr *a, const struct addr *b);

#endif

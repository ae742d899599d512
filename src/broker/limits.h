/*
 * Every bound that the broker sets to others, in one place, and the counters behind
 * them. Time is an argument. Addresses are counted by each thread for itself: with N
 * threads one address may reach N times what is stated for it.
 */
#ifndef POSTERN_BROKER_LIMITS_H
#define POSTERN_BROKER_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/key.h"

/*
 * Addresses count alone and in the blocks around them: IPv4 /32 and /24, IPv6 /64, /56
 * and /48. Level 0 is the address.
 */
enum { ADDR_LEVELS = 3 };
unsigned addr_levels(const struct addr *a);
/* A key that no device has, the same for all of that block. */
void addr_block_key(uint8_t key[static KEY_LEN], const struct addr *a, unsigned level);

/* clang-format off */
enum {
    /*
     * Devices and relayed pairs of the whole broker; less when the file descriptors do
     * not suffice, of which devices get three quarters.
     */
    LIMIT_CONNECTIONS = 200000,
    LIMIT_RELAYS = 100000,
    LIMIT_CONNECTIONS_PER_ADDRESS = 1024, /* an IPv6 /64 counts as one address */
    LIMIT_KNOWN_PER_ADDRESS = 8192,       /* beside these, with badges, while a thread */
    LIMIT_KNOWN_QUARTERS = 3,             /* has places for others: 3/4 of all */
    LIMIT_VISITORS = 4096,                /* of one thread: that said nothing yet */
    LIMIT_LINE = 256,                     /* of one thread: above their address's */
    LIMIT_LINE_PER_ADDRESS = 64,          /* share; each block around it: 4 times */
    LIMIT_LINE_KNOWN = 1024,              /* beside these, with badges; and of visitors */
    LIMIT_LINE_KNOWN_SHARE = 4,           /* one of so many at most */
    LIMIT_SILENT_MS = 10000,              /* from accept to the first words, while */
    LIMIT_SILENT_FULL_MS = 1000,          /* half are there; this when all are */
    LIMIT_HANDSHAKE_MS = 10000,           /* TLS */
    /*
     * Of the whole broker, at once, whatever the descriptors: 50 KB each. Devices until
     * their Hello; TLS around relay connections until the preface.
     */
    LIMIT_HANDSHAKES = 512,
    LIMIT_PIPES = 128,
    LIMIT_HANDSHAKES_MIN = 16,            /* of one thread */
    LIMIT_HELLO_MS = 10000,               /* from the handshake to Hello */
    LIMIT_CLIENTS_PER_DEVICE = 512,       /* commands of one device; one as a host */
    LIMIT_DEVICE_QUEUE_BYTES = 65536,     /* unsent to one device; more is dropped */
    LIMIT_HOST_QUEUE_BYTES = 1024 * 1024, /* a host has many clients at once */
    /*
     * On its way to a host and not there yet: then nothing else is said outside of
     * sessions. On a thin line that keeps strangers from filling it, whatever their
     * budget. Not so for introductions, which are in nobody's stead: a line that is only
     * long has as much on its way, and who tried most often would come through.
     */
    LIMIT_UNKNOWN_QUEUE_BYTES = 4096,
    /*
     * What a message costs on the line besides what is in it, for each packet that it
     * takes: keys and fields of a Control 62, frame 4, TLS 22, TCP 32, IPv6 40, Ethernet
     * 14; and how much of a message goes into one.
     */
    LIMIT_WIRE_BYTES = 176,
    LIMIT_WIRE_EACH = 1280,
    LIMIT_CONV_MS = 600000,   /* then the client must speak of it again */
    LIMIT_CONVS = 128,        /* approaches of a connection; of one that no host has */
    LIMIT_CONVS_NEW = 32,     /* answered: 40 bytes each */
    LIMIT_CONVS_HOSTS = 64,   /* of a connection, whose shares are counted: 32 bytes */
    LIMIT_CONVS_BYTES = 65536,
    LIMIT_TOLD_KEEP = 2048, /* bulk leaves it to small packets */
    LIMIT_SAID_SMALL = 256, /* a carried packet that is a question, or an answer */
    LIMIT_UNSENT_BYTES = 16384,           /* what the kernel queues for a device */
    LIMIT_MAILBOX = 8192,                 /* messages under way to one thread */
    LIMIT_TICKET_MS = 30000,              /* life of a relay ticket not used */
    LIMIT_MARK_S = 60,                    /* from an Introduce to its Accept */
    LIMIT_RELAY_IDLE_MS = 15 * 60000,
    LIMIT_RELAY_HALF_MS = 60000, /* one side has ended, and the other says nothing */
    LIMIT_RELAY_SPARED_MS = 60000,        /* what moved bytes since makes no room */
    LIMIT_RELAY_UNUSED_MS = 10000,        /* what has never moved any, since it joined */
    LIMIT_RELAYS_PER_ADDRESS = 4096,      /* or an eighth of all; each block: twice */
    LIMIT_RELAYS_ADDRESS_MIN = 16,
    LIMIT_MOURNED = 4096,                 /* pairs that broke less than that ago: */
    LIMIT_MOURNED_MS = 5000,
    LIMIT_SETTLE_MS = 15000, /* from a restart: as long as a device pauses at most */
    LIMIT_BONDS_PER_HOST = 1024,          /* sessions without a pair, 48 bytes each */
    LIMIT_RELAYS_PER_CLIENT = 512,        /* pairs, unused tickets included */
    LIMIT_RELAYS_PER_HOST = 8192,
    LIMIT_DEVICES_KEPT = 16384,           /* keys whose budgets a thread remembers, */
    LIMIT_BUDGETS_MS = 150000,            /* twice this; each is whole again in this */
    LIMIT_ACCEPTED_KEPT = 65536,          /* clients that were accepted by their hosts */
    LIMIT_STRANGERS_KEPT = 65536,         /* addresses that asked for a host */
    LIMIT_BUSY_RETRY_MS = 5000,           /* Bye{BUSY}: this, up to twice this */
};
/* clang-format on */

/* Tokens a second, and how many may be saved up. */
struct bucket_rate {
    uint32_t per_s, burst;
};

/* TLS connections per address; above that they wait (broker/porch.h). */
#define LIMIT_RATE_CONNECT ((struct bucket_rate){50, 300})
/* Of these, one thread lets so many in all the same, from all addresses together. */
#define LIMIT_RATE_SPARE ((struct bucket_rate){200, 50})
/* With a badge (core/badge.h): of one device, and of an address in sum. */
#define LIMIT_RATE_BADGE ((struct bucket_rate){5, 60})
#define LIMIT_RATE_BADGES_ADDRESS ((struct bucket_rate){50, 300})
/* Above that, of all addresses together: a company behind one NAT comes back. */
#define LIMIT_RATE_BADGES ((struct bucket_rate){500, 200})
#define LIMIT_RATE_STUN                                                                \
    ((struct bucket_rate){20, 60}) /* per address; the proven apart */
/*
 * Of what an address or block may have proven, beside the burst above, so much is left
 * to those who have used little of late: who has used a whole burst leaves all of it,
 * who has used none leaves none. What was used is forgotten at one in 8 s, which for a
 * block's 256 addresses together is less than half of what it may have: they cannot
 * all seem to have used nothing.
 */
#define LIMIT_STUN_SPARED 20
#define LIMIT_STUN_FORGET_MS 8000
#define LIMIT_RATE_INTRODUCE_ADDRESS                                                   \
    ((struct bucket_rate){100, 400}) /* per address                                    \
                                      */
/* Per device key, however often it connects. */
#define LIMIT_RATE_MESSAGES ((struct bucket_rate){500, 4000})
#define LIMIT_RATE_HOST_MESSAGES ((struct bucket_rate){1000, 4000})
#define LIMIT_RATE_INTRODUCE ((struct bucket_rate){20, 300})
/* Of those that its address's share does not let through: whether a pass is good. */
#define LIMIT_RATE_SHOW ((struct bucket_rate){2, 4})
#define LIMIT_RATE_CARRY ((struct bucket_rate){131072, 1048576}) /* bytes */
#define LIMIT_RATE_HOST_CARRY ((struct bucket_rate){524288, 2097152})
/* Introductions to one host: of clients that it accepted before, and of all others. */
#define LIMIT_RATE_KNOWN ((struct bucket_rate){200, 1000})
#define LIMIT_RATE_STRANGERS ((struct bucket_rate){50, 100})
/*
 * Bytes to one host, besides introductions, in sessions that it has not accepted, or
 * that a broker which began anew does not know: likewise.
 */
#define LIMIT_RATE_KNOWN_SAY ((struct bucket_rate){32768, 65536})
#define LIMIT_RATE_STRANGERS_SAY ((struct bucket_rate){4096, 16384})
/*
 * Bytes on the line of one client, all its connections together (what goes to several
 * counts for each): in approaches of which it has not spoken, of all hosts; in those of
 * which it has, of one host, above its share of the connection; of spoken codes. A
 * share is for all approaches to that host that the connection begins, since a host can
 * make a client begin anew. What it may say at once suffices for a stream of 1 Mbit/s
 * until another pair is made after a change of network; Carry has its own, lest bulk
 * starve what makes that pair.
 */
#define LIMIT_RATE_CONVS ((struct bucket_rate){512, LIMIT_CONVS_BYTES})
#define LIMIT_RATE_TELL ((struct bucket_rate){1024, 16384})
#define LIMIT_RATE_TELL_ASKED ((struct bucket_rate){8192, 131072})  /* Carry */
#define LIMIT_RATE_TELL_CONTROL ((struct bucket_rate){4096, 32768}) /* all else */
#define LIMIT_RATE_SPOKEN ((struct bucket_rate){2048, 16384})

/* All zero is a full bucket. */
struct bucket {
    uint64_t at_ms; /* when `level` was true; 0 before the first use */
    uint32_t level;
    uint32_t part; /* thousandths of the next token */
};

/* Takes `amount` tokens, or none and returns false. `now_ms` never goes backwards. */
bool bucket_take(struct bucket *b, struct bucket_rate rate, uint64_t now_ms,
                 uint32_t amount);
/* The same where at least `keep` are left. */
bool bucket_take_above(struct bucket *b, struct bucket_rate rate, uint64_t now_ms,
                       uint32_t amount, uint32_t keep);

/*
 * What a host says to a client by the broker: what makes and keeps a path is never
 * starved by the bulk of a session that has no other.
 */
enum said { SAID_CONTROL, SAID_LITTLE, SAID_BULK };

/*
 * Counters of all addresses in a fixed table. What hashes alike shares its counters;
 * the hash is keyed, so nobody can arrange that.
 */
#define ADDR_LIMITS_SLOTS 65536
#define ADDR_LIMITS_DEVICES 16384
#define ADDR_LIMITS_SECRET_LEN 16

struct addr_limits {
    uint8_t secret[ADDR_LIMITS_SECRET_LEN];
    struct {
        struct bucket connect, badges, stun, stun_proven, introduce;
        struct bucket stun_left;     /* of LIMIT_RATE_STUN's burst, by slow count */
        uint32_t connections, known; /* of strangers, and with badges */
        uint32_t visitors;           /* that have not shown what they want */
        uint32_t waiting;            /* of these, in the line */
        uint64_t spared_ms; /* somebody of the line was let in last; 0: never */
    } slots[ADDR_LIMITS_SLOTS];
    struct bucket stun_devices[ADDR_LIMITS_DEVICES]; /* as stun_left, of one device */
};

/* The counters of one address and of the blocks around it. */
struct addr_place {
    uint16_t slot[ADDR_LEVELS];
    uint8_t levels;
    bool known; /* its connection showed a badge, and counts apart */
};

struct addr_place addr_limits_place(const struct addr_limits *l, const struct addr *a);
/* A connection from there begins and ends. */
void addr_limits_enter(struct addr_limits *l, const struct addr_place *p);
void addr_limits_leave(struct addr_limits *l, const struct addr_place *p);
/* The same of a visitor, who is no connection yet. */
void addr_limits_visit(struct addr_limits *l, const struct addr_place *p, bool begins);
/* The same of one who waits in the line, and how many do, as addr_limits_weight. */
void addr_limits_wait(struct addr_limits *l, const struct addr_place *p, bool begins);
uint32_t addr_limits_waiting(const struct addr_limits *l, const struct addr_place *p);
/* One of the line is let in; whose turn is earlier: below 0: that of `a`. */
void addr_limits_note_spared(struct addr_limits *l, const struct addr_place *p,
                             uint64_t now_ms);
int addr_limits_spared_cmp(const struct addr_limits *l, const struct addr_place *a,
                           const struct addr_place *b);
/* Each block around an address may have four times as much, of its own kind. */
bool addr_limits_is_full(struct addr_limits *l, const struct addr_place *p,
                         uint32_t max);
/*
 * How large a share is in use: its connections and visitors, or a quarter of its
 * block's and so on.
 */
uint32_t addr_limits_weight(const struct addr_limits *l, const struct addr_place *p);
/*
 * One more new TLS connection, one with a badge, STUN answer, introduction. STUN
 * answers to who has proven that his source is his own count apart: others' forged
 * ones take nothing from him. Nor do those who ask most: what an address may have is
 * shared by how little each `device` (of its proof, core/vouch_mark.h; 0: none) has
 * used, that of a block by how little each address has.
 */
bool addr_limits_connect(struct addr_limits *l, const struct addr_place *p,
                         uint64_t now_ms);
bool addr_limits_badge(struct addr_limits *l, const struct addr_place *p,
                       uint64_t now_ms);
bool addr_limits_stun(struct addr_limits *l, const struct addr_place *p,
                      uint64_t now_ms);
bool addr_limits_stun_proven(struct addr_limits *l, const struct addr_place *p,
                             uint32_t device, uint64_t now_ms);
bool addr_limits_introduce(struct addr_limits *l, const struct addr_place *p,
                           uint64_t now_ms);

#endif

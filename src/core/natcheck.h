/*
 * How the NAT before this device behaves: the tests of RFC 5780 sections 4.3 (mapping)
 * and 4.4 (filtering), UDP reachability, port preservation and, when asked,
 * hairpinning. Knows requests and their answers as plain values; knows no STUN
 * encoding, no socket.
 *
 * Two sockets of one family are used side by side: NATCHECK_FILTERING only ever sends
 * to the server's primary address, so that the mapping tests cannot open its filter;
 * NATCHECK_MAPPING sends everywhere. The caller pulls requests until natcheck_next says
 * false, after every input and at natcheck_deadline_us.
 *
 * A server with a second port but a single address can show the worst behaviours, and
 * cannot tell endpoint-independent from address-dependent: the result then stays
 * unknown with the matching *_not_port_dependent set.
 */
#ifndef POSTERN_CORE_NATCHECK_H
#define POSTERN_CORE_NATCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/proto.h"

#define NATCHECK_TXID_LEN 12
#define NATCHECK_WORDS_LEN 400
#define NATCHECK_MAX_SENDS 4
#define NATCHECK_RTO_US 200000 /* unless rtt_hint_us is longer; doubles each time */

enum natcheck_socket { NATCHECK_FILTERING = 0, NATCHECK_MAPPING = 1 };
enum natcheck_answer { NATCHECK_UNKNOWN, NATCHECK_YES, NATCHECK_NO };

struct natcheck_config {
    struct addr server;   /* primary STUN address */
    struct addr local[2]; /* of each socket; ADDR_NONE or port 0 when unknown */
    bool test_hairpin;    /* caller reports with natcheck_on_hairpin */
    uint32_t rtt_hint_us; /* 0 unknown */
    uint8_t seed[16];     /* random: the transaction ids come from it */
};

struct natcheck_request {
    enum natcheck_socket sock;
    struct addr to;
    bool change_ip, change_port; /* RFC 5780 section 7.2 CHANGE-REQUEST */
    uint8_t txid[NATCHECK_TXID_LEN];
};

struct natcheck_result {
    enum natcheck_answer udp; /* the server answered at all */
    enum nat_mapping mapping;
    enum nat_filtering filtering;
    bool mapping_not_port_dependent, filtering_not_port_dependent;
    enum natcheck_answer port_preserved, hairpin;
    struct addr mapped[2]; /* of each socket; ADDR_NONE before */
    uint32_t rtt_us;       /* fastest unrepeated answer; 0 when none */
    bool server_limited;   /* it has neither second port nor second address */
};

enum natcheck_test {
    NATCHECK_TEST_PRIMARY_F,   /* primary address, filtering socket */
    NATCHECK_TEST_PRIMARY_M,   /* primary address, mapping socket (4.3 test I) */
    NATCHECK_TEST_CHANGE_ALL,  /* 4.4 test II */
    NATCHECK_TEST_CHANGE_PORT, /* 4.4 test III */
    NATCHECK_TEST_OTHER_IP,    /* 4.3 test II */
    NATCHECK_TEST_OTHER_BOTH,  /* 4.3 test III; other port of a one-address server */
    NATCHECK_TEST_HAIRPIN,
    NATCHECK_TEST_COUNT,
};

struct natcheck {
    struct natcheck_config config;
    struct natcheck_result result;
    struct addr other; /* the server's OTHER-ADDRESS; ADDR_NONE unknown */
    bool asked_again;  /* what answered before the NAT may have forgotten all */
    struct {
        uint8_t state; /* enum in natcheck.c */
        uint8_t sends;
        uint64_t due_us, sent_us;
        uint8_t txid[NATCHECK_TXID_LEN];
        struct addr to, mapped;
    } tests[NATCHECK_TEST_COUNT];
};

void natcheck_init(struct natcheck *n, const struct natcheck_config *c,
                   uint64_t now_us);
bool natcheck_next(struct natcheck *n, uint64_t now_us, struct natcheck_request *out);
/*
 * A binding success response arrived on `sock`. `mapped` is its XOR-MAPPED-ADDRESS,
 * `other` its OTHER-ADDRESS or NULL. True when it answered a request of ours.
 */
bool natcheck_on_response(struct natcheck *n, enum natcheck_socket sock,
                          const uint8_t txid[static NATCHECK_TXID_LEN],
                          const struct addr *mapped, const struct addr *other,
                          uint64_t now_us);
/* A binding request with this id arrived on the filtering socket: it came back. */
bool natcheck_on_hairpin(struct natcheck *n,
                         const uint8_t txid[static NATCHECK_TXID_LEN]);
bool natcheck_done(const struct natcheck *n);
/* What is known so far; final when done. */
const struct natcheck_result *natcheck_result(const struct natcheck *n);
uint64_t natcheck_deadline_us(const struct natcheck *n);

/* Short names for --json ("endpoint-independent", ..., "unknown"). */
const char *nat_mapping_name(enum nat_mapping m);
const char *nat_filtering_name(enum nat_filtering f);
/* One or two sentences for a person; never empty. */
const char *natcheck_words(const struct natcheck_result *r,
                           char buf[static NATCHECK_WORDS_LEN]);

#endif

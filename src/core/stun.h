/*
 * STUN messages (RFC 8489) with the attributes of NAT behaviour discovery (RFC 5780),
 * and what a binding server answers. Opens no socket and keeps no state: bytes in,
 * bytes out. Authentication (MESSAGE-INTEGRITY) is read over, never checked.
 */
#ifndef POSTERN_CORE_STUN_H
#define POSTERN_CORE_STUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

#define STUN_HEADER_LEN 20
#define STUN_TXID_LEN 12
/* Longer ones are refused and never built. PADDING may take one past 1,500 bytes. */
#define STUN_MESSAGE_MAX 2048
#define STUN_UNKNOWN_MAX 8
#define STUN_DEFAULT_PORT 3478
#define STUN_MARK_LEN 16 /* see core/vouch_mark.h */

enum stun_type {
    STUN_BINDING_REQUEST = 0x0001,
    STUN_BINDING_INDICATION = 0x0011,
    STUN_BINDING_SUCCESS = 0x0101,
    STUN_BINDING_ERROR = 0x0111,
};

/*
 * One message in both directions: parsing fills what is present, building writes what
 * is set. An address is absent when its family is ADDR_NONE.
 */
struct stun_message {
    uint16_t type;               /* enum stun_type, or another method's */
    uint8_t txid[STUN_TXID_LEN]; /* random, chosen by the client */
    struct addr mapped;          /* XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS */
    struct addr other;           /* OTHER-ADDRESS (RFC 5780 section 7.4) */
    struct addr origin;          /* RESPONSE-ORIGIN (RFC 5780 section 7.3) */
    bool change_ip, change_port; /* CHANGE-REQUEST (RFC 5780 section 7.2) */
    bool fingerprint;            /* FINGERPRINT: verified when parsed */
    uint16_t response_port;      /* RESPONSE-PORT, 0 when absent */
    uint16_t padding_len;        /* bytes of PADDING, 0 when absent */
    uint16_t error_code;         /* ERROR-CODE, 0 when absent */
    const char *software;        /* built only; NULL for none */
    /* Ours, comprehension-optional: of zeros in a request, which asks for one. */
    bool has_mark;
    uint8_t mark[STUN_MARK_LEN];
    uint16_t unknown[STUN_UNKNOWN_MAX]; /* see stun_parse */
    uint8_t unknown_count;
};

/* Tells STUN from whatever else shares a port, by the first 20 bytes and the length. */
bool stun_is_message(const uint8_t *buf, size_t len);

/*
 * Parses exactly one message. Comprehension-required attributes that are not known
 * here are listed in `unknown` (for an error response: the attributes it lists). The
 * first of several equal attributes counts. POSTERN_ERR_PROTO when the message is
 * malformed or its fingerprint is wrong.
 */
MUST_CHECK int stun_parse(struct stun_message *m, const uint8_t *buf, size_t len);

/* Returns the length, or POSTERN_ERR_LIMIT when `cap` is too small. */
MUST_CHECK int stun_build(uint8_t *buf, size_t cap, const struct stun_message *m);

/* A plain binding request with a fingerprint; as stun_build. */
MUST_CHECK int stun_build_request(uint8_t *buf, size_t cap,
                                  const uint8_t txid[static STUN_TXID_LEN],
                                  bool change_ip, bool change_port);
/* The same, asking for a mark; `proof` says that its source is ours
 * (core/vouch_mark.h). Zeros: none. */
MUST_CHECK int stun_build_marked_request(uint8_t *buf, size_t cap,
                                         const uint8_t txid[static STUN_TXID_LEN],
                                         const uint8_t proof[static STUN_MARK_LEN]);
/* True for a binding success or error response with this transaction id. */
bool stun_is_response_to(const struct stun_message *m,
                         const uint8_t txid[static STUN_TXID_LEN]);

/* Where a request arrived, and what else the server can send from. */
struct stun_site {
    struct addr at; /* specific address and port, never a wildcard */
    /*
     * The other address and port (RFC 5780 section 6); when there is only a second
     * port the address is that of `at`; ADDR_NONE when there is neither.
     */
    struct addr other;
    const uint8_t *mark; /* STUN_MARK_LEN, for the source when it asks; NULL: none */
};

struct stun_answer {
    struct addr from; /* source that the answer must carry */
    struct addr to;
    size_t len;
};

/*
 * What a binding server answers to `req` from `source`: returns true and fills `out`
 * and `a`, or false when it stays silent (anything but a well-formed request). The
 * answer is at most 100 bytes (56 for IPv4 alone), 20 more with a mark, which the
 * request asked for with as many; or as much as the request's PADDING.
 */
bool stun_answer(struct stun_answer *a, uint8_t out[static STUN_MESSAGE_MAX],
                 const uint8_t *req, size_t len, const struct addr *source,
                 const struct stun_site *site);

#endif

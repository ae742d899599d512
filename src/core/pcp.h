/*
 * The Port Control Protocol's MAP request with the FILTER option, and its answer
 * (RFC 6887 sections 7, 11 and 13.3). Bytes only; no socket, no time.
 */
#ifndef POSTERN_CORE_PCP_H
#define POSTERN_CORE_PCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

enum {
    PCP_PORT = 5351,
    PCP_NONCE_LEN = 12,
    PCP_REQUEST_MAX = 84,
    PCP_ANSWER_MAX = 1100
};

enum pcp_result {
    PCP_SUCCESS = 0,
    PCP_UNSUPP_VERSION = 1,
    PCP_NOT_AUTHORIZED = 2,
    PCP_UNSUPP_OPTION = 5,
};

struct pcp_map {
    uint32_t lifetime_s; /* 0 deletes */
    uint8_t nonce[PCP_NONCE_LEN];
    bool tcp;
    struct addr client; /* our address and port on the way to the gateway */
    struct addr peer;   /* only its packets are to pass; ADDR_NONE: all */
};

struct pcp_answer {
    unsigned result; /* enum pcp_result, or another of section 7.4 */
    uint32_t lifetime_s;
    struct addr external;
};

/* Returns the length. */
size_t pcp_encode_map(const struct pcp_map *m, uint8_t buf[static PCP_REQUEST_MAX]);
/* 0, or POSTERN_ERR_PROTO when it is no answer to `m`. */
MUST_CHECK int pcp_decode_map(struct pcp_answer *a, const struct pcp_map *m,
                              const uint8_t *buf, size_t len);

#endif

/*
 * The router's port mappings by PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP-IGD, in
 * this order. Blocking, for a worker thread; knows no loop.
 */
#ifndef POSTERN_IO_GATEWAY_H
#define POSTERN_IO_GATEWAY_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/pcp.h"

enum gateway_protocol { GATEWAY_NONE, GATEWAY_PCP, GATEWAY_NAT_PMP, GATEWAY_UPNP };

enum { GATEWAY_LEASE_S = 120 };

struct gateway_mapping {
    uint16_t port;    /* of this machine; IPv4 */
    bool tcp;         /* else UDP */
    struct addr peer; /* only its packets are to pass, where the protocol can */
    uint8_t nonce[PCP_NONCE_LEN];
    /* What came of it. */
    enum gateway_protocol by;
    struct addr external;
    char reason[160];
    char url[256], service[128]; /* UPnP: whom to tell when it is over */
    /* Set from another thread: nobody wants it any more. gateway_map returns within a
     * tenth of a second then; while UPnP is asked, when its library does. */
    atomic_bool unwanted;
};

/* Makes or renews it; `by` is GATEWAY_NONE, with `reason`, when nobody would. */
void gateway_map(struct gateway_mapping *m);
void gateway_unmap(const struct gateway_mapping *m);
const char *gateway_protocol_name(enum gateway_protocol p);

#endif

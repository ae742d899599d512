/* What may be asked of the helper and of its keeper, and with which fields. */
#ifndef POSTERN_HELPER_EDGE_H
#define POSTERN_HELPER_EDGE_H

#include "core/privilege.h"

enum edge_asked { EDGE_HELPER = 1, EDGE_KEEPER };

/* What came along with a request. */
enum edge_given {
    EDGE_GIVEN_NONE,
    EDGE_GIVEN_UDP,   /* a UDP socket */
    EDGE_GIVEN_PAIR,  /* an end of a pair of SOCK_SEQPACKET */
    EDGE_GIVEN_OTHER, /* anything else */
};

/* NULL: it may be asked so; else why not. */
const char *edge_check(const struct privilege_request *q, enum edge_given given,
                       enum edge_asked asked);

#endif

/*
 * A person who comes to the portal, by account and address: what is written down of
 * them, what a host is told, and who counts as the same.
 */
#ifndef POSTERN_PORTAL_VISITOR_H
#define POSTERN_PORTAL_VISITOR_H

#include <stdbool.h>

#include "core/addr.h"
#include "core/proto.h"

struct audit;

/* Why a host cannot be reached, for logs and pages. */
#define HOST_AWAY "the host is not connected"

enum { VISITOR_SUM_LEN = 96 };

/* Writes an entry; every text may be NULL. `from` may be NULL. */
void visitor_audit(struct audit *a, const char *what, const char *who,
                   const struct addr *from, const char *object, const char *detail);
/* What a stream or a question to a host says of them. */
void visitor_visit(Visit *v, const char *account, const struct addr *from);
/* "N bytes there, N back, N s": what the log has at the end of a connection. */
const char *visitor_sum(uint64_t there, uint64_t back, uint64_t lasted_ms,
                        char text[static VISITOR_SUM_LEN]);
/* The same client, as core/routes.h says whose address counts as the same. */
bool visitor_same(const struct addr *a, const struct addr *b);

#endif

/*
 * Services by name: a TLS connection that asks for SERVICE--HOST.domain goes to that
 * host's own TLS server, unopened. Only whom a login at the same address may admit, or
 * everybody where the host says so. Whom several accounts there would lead to different
 * targets is led to none: address and name are all that is known of it. The certificate
 * is the host's affair.
 */
#ifndef POSTERN_PORTAL_NAMES_H
#define POSTERN_PORTAL_NAMES_H

#include "portal/logins.h"

struct names;

MUST_CHECK int names_new(struct names **out, const struct rooms *rooms);
/* When all calls have ended. NULL is fine. */
void names_free(struct names *ns);
/* A TLS connection for SERVICE--HOST.domain: passes it on. False: no such name form. */
bool names_take(struct names *ns, int fd, const char *server_name);
/* Ends those that have moved nothing for so long. */
void names_sweep(struct names *ns, uint64_t idle_ms);
/* Are there any here? */
bool names_are_given(const struct names *ns);
/*
 * Whether the service's name leads this login there. It leads nobody at an address
 * where others who are logged in would be led elsewhere: a name alone cannot tell whose
 * a connection is.
 */
bool names_lead(const struct names *ns, const struct login *l,
                const struct portal_host *h, int service);
/*
 * Connections of a login by name: are there any; its end. They go on where the account
 * is logged in at their address once more, since nobody can tell which browser's they
 * are.
 */
bool names_in_use(const struct names *ns, const struct login *l);
void names_end_login(struct names *ns, const struct login *l);

#endif

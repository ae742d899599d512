/*
 * TLS that the host itself ends, in front of services that speak none and are asked for
 * by their name through the portal. The broker passes the encrypted bytes on, so that
 * only this host and the browser read them. Certificates are PEM files, looked at again
 * when they change, or what a command writes (an ACME client, for example).
 */
#ifndef POSTERN_HOST_CERTS_H
#define POSTERN_HOST_CERTS_H

#include <stdbool.h>

#include "core/err.h"
#include "host/access.h"
#include "host/service.h"

#define CERTS_MAX 16

struct certs;
struct host;

/*
 * Stores what the command line says: `texts` are SERVICE=CERT,KEY, or SERVICE=FILE with
 * both in it, or SERVICE for the command; "none" alone forgets them. Nothing given
 * leaves things as they are.
 */
MUST_CHECK int certs_settle(struct access *a, const struct service_list *published,
                            const char *const *texts, size_t n, const char *command,
                            struct fault *f);

/*
 * Whether certs_settle would take it; stores nothing. `a` NULL: nothing is stored.
 */
MUST_CHECK int certs_check(struct access *a, const struct service_list *published,
                           const char *const *texts, size_t n, const char *command,
                           struct fault *f);

/* Loads what is stored; a fault when a file is missing or is not what it should be. */
MUST_CHECK int certs_open(struct certs **out, const struct host *h, struct fault *f);
/* Again, all files too. On failure those loaded before stay. */
MUST_CHECK int certs_reload(struct certs *c, struct fault *f);
/* NULL is fine. Before the loop ends. */
void certs_close(struct certs *c);

/* Does the host end TLS for it? NULL `c`: no. */
bool certs_has(const struct certs *c, const char *service);
/*
 * Puts TLS in front of `fd`, a connection to the service, which is taken over. Returns
 * the encrypted end, the caller's; POSTERN_ERR_NOTFOUND when there is no certificate
 * yet, or another error.
 */
MUST_CHECK int certs_wrap(struct certs *c, const char *service, int fd);

#endif

/*
 * The portal: the broker's door for people with a browser and no device key. They log
 * in to an account that a host made, see the services that it opens to them, and reach
 * these by name (TLS passed through unopened) or by port (a layer-4 router). It is a
 * client of the hosts, over the broker's own relay, under the broker's key; a thread of
 * its own beside the broker's.
 */
#ifndef POSTERN_PORTAL_PORTAL_H
#define POSTERN_PORTAL_PORTAL_H

#include <stddef.h>
#include <stdint.h>

#include "broker/broker.h"

struct portal;

/* Everything is borrowed until portal_free. */
struct portal_config {
    const char *state_dir; /* of the broker; the certificate and audit.db live there */
    const char *domain; /* services are SERVICE--HOST.domain; NULL: the public name */
    const char *certificate; /* PEM files of the HTTPS port; NULL: self-signed */
    const char *key;
    uint32_t idle_s;  /* a connection that moves nothing ends; 0: the default */
    uint32_t login_s; /* how long a login lasts at most; 0: the default */
};

enum {
    PORTAL_IDLE_DEFAULT_S = 3600,
    PORTAL_LOGIN_DEFAULT_S = 12 * 3600,
    PORTAL_LOGIN_UNUSED_S = 3600, /* without a page asked for, or anything moving */
};

MUST_CHECK int portal_new(struct portal **out, const struct portal_config *c,
                          struct fault *f);
/* After the broker. NULL is fine. */
void portal_free(struct portal *p);
/* For broker_config; starts and stops with the broker. */
const struct broker_portal *portal_for_broker(struct portal *p);
/* Where people find it, once it has started; returns `buf`. */
const char *portal_url(const struct portal *p, char *buf, size_t cap);

#endif

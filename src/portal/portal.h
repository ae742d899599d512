/*
 * The portal: the broker's door for people with a browser and no device key. They log
 * in to an account that a host made, see the services that it opens to them, and reach
 * these by name (TLS passed through unopened) or by port (a layer-4 router). It is a
 * client of the hosts, over the broker's own relay, under the broker's key; a thread of
 * its own beside the broker's.
 */
#ifndef POSTERN_PORTAL_PORTAL_H
#define POSTERN_PORTAL_PORTAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/broker.h"
#include "portal/portal_config.h"

struct portal;

MUST_CHECK int portal_new(struct portal **out, const struct portal_config *c,
                          struct fault *f);
/* After the broker. NULL is fine. */
void portal_free(struct portal *p);
/* For broker_config; starts and stops with the broker. */
const struct broker_portal *portal_for_broker(struct portal *p);
/* Where people find it, once it has started; returns `buf`. */
const char *portal_url(const struct portal *p, char *buf, size_t cap);
enum { PORTAL_FINGERPRINT_LEN = 96 };
/* Likewise: what a browser shows of its own certificate, of which it warns (SHA-256);
 * false where the operator has given one. */
bool portal_fingerprint(const struct portal *p,
                        char out[static PORTAL_FINGERPRINT_LEN]);

#endif

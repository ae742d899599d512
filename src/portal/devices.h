/*
 * The long-lived cookie of a browser that has logged in: it says so for an account and
 * the hosts on which its password was right, and gives no access. Nothing is kept here:
 * its tags are made with a secret of the broker's key, of the password's hash too, so
 * a new password ends them.
 */
#ifndef POSTERN_PORTAL_DEVICES_H
#define POSTERN_PORTAL_DEVICES_H

#include "portal/logins.h"

enum { DEVICE_NONCE_LEN = 16, DEVICE_COOKIE_MAX = 448 };

struct devices {
    uint8_t secret[32];
};

void devices_init(struct devices *d, const struct keypair *broker);
/* The header's value that makes a browser known for this login's account. */
void device_set_cookie(const struct devices *d, const struct logins *ls,
                       const struct login *l, char out[static DEVICE_COOKIE_MAX]);
/* Did the browser with these cookies log in as `a` on that host? `device` tells it. */
bool device_knows(const struct devices *d, const char *cookies,
                  const struct portal_host *h, const struct portal_account *a,
                  uint8_t device[static DEVICE_NONCE_LEN]);

#endif

/* What the operator of a portal has chosen. */
#ifndef POSTERN_PORTAL_PORTAL_CONFIG_H
#define POSTERN_PORTAL_PORTAL_CONFIG_H

#include <stdint.h>

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

#endif

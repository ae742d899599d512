/*
 * Services by port: listeners on the services' own ports, and a layer-4 router behind
 * them. Who may come in, and where that leads, is in the table (core/routes.h), which
 * belongs to the doors. A connection is handed on when the host's server has accepted,
 * and reset when it has not.
 */
#ifndef POSTERN_PORTAL_DOORS_H
#define POSTERN_PORTAL_DOORS_H

#include "portal/logins.h"

struct doors;

MUST_CHECK int doors_new(struct doors **out, const struct rooms *rooms);
/* Closes every port; when all calls have ended, frees. NULL is fine, for both. */
void doors_close(struct doors *ds);
void doors_free(struct doors *ds);
void doors_sweep(struct doors *ds, uint64_t idle_ms);

/*
 * Opens a port for this login's account and address, and listens on it where nobody
 * does yet: the service's own, or where that cannot be had or leads others of the same
 * address elsewhere, 10,000 or 20,000 higher and so on; the logs have which, and why.
 * Fills `f` with what to tell the person.
 */
MUST_CHECK int door_grant(struct doors *ds, const struct login *l,
                          struct portal_host *h, int service, struct fault *f);
/* The login's grant for that service, or NULL; and its end. */
const struct route_grant *door_granted(const struct doors *ds, const struct login *l,
                                       const struct portal_host *h,
                                       const char *service);
void door_give_up(struct doors *ds, const struct login *l, const struct portal_host *h,
                  const char *service);
/* Does that port lead somebody at this address somewhere? */
bool door_is_held(const struct doors *ds, const struct addr *client, uint16_t port,
                  bool udp);
/* Who may use less than before, as the lists stand now, loses it at once. */
void doors_check(struct doors *ds);
void doors_forget_host(struct doors *ds, uint32_t number);
/* The login ends, or its address is another now: its grants follow. */
void doors_end_login(struct doors *ds, const struct login *l);
void doors_move_login(struct doors *ds, const struct login *l);
/* Is anything of it under way by port? */
bool doors_in_use(const struct doors *ds, const struct login *l);

#endif

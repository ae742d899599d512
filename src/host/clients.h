/*
 * Clients of this host: from the introduction that the broker delivers, over the check
 * against the host's own list, to the session and its end.
 */
#ifndef POSTERN_HOST_CLIENTS_H
#define POSTERN_HOST_CLIENTS_H

#include "host/presence.h"
#include "io/events.h"

struct clients;

/* NULL: no memory. */
struct clients *clients_new(struct host *h);
/* All end: the host stops. NULL is fine. */
void clients_close(struct clients *cs);
size_t clients_count(const struct clients *cs);
/* How many have a session that goes by each kind; the last: by none yet. */
void clients_by_kind(const struct clients *cs,
                     unsigned kinds[static PATH_KIND_COUNT + 1]);

/* What the broker says there. */
void clients_on_control(struct presence *p, const Control *m);
/* Their paths are looked into, and what has become possible is begun. */
void clients_on_uplink(struct clients *cs, const struct presence *p, bool up);
void clients_on_network_change(struct clients *cs);
/* Their sessions end: they know a key that is too old. */
void clients_on_presence_end(struct clients *cs, const struct presence *p);

/* What each may use, told anew; and the host's newest key. */
void clients_send_services(struct clients *cs);
void clients_announce_key(struct clients *cs);
/* Who is on the list no more goes: the list may be another by now. */
void clients_check(struct clients *cs);
/* Ends the sessions of that device; returns how many were open. */
unsigned clients_revoke(struct clients *cs, const uint8_t key[static KEY_LEN]);
/* The portal may come in no more. */
void clients_end_portal(struct clients *cs);

bool clients_is_connected(const struct clients *cs, const uint8_t key[static KEY_LEN]);
/* A `session` event each, with `reasons` its `rejected` ones behind it, until false is
 * returned, which is then returned. */
bool clients_each(struct clients *cs, bool reasons,
                  bool (*each)(void *ctx, struct event *e, bool portal), void *ctx);

#endif

/*
 * Making an invite: a fresh secret into the roster, and the link that carries it. For
 * `postern invite`, and for an owner who asks through the portal.
 */
#ifndef POSTERN_HOST_INVITE_H
#define POSTERN_HOST_INVITE_H

#include "host/roster.h"
#include "io/audit.h"
#include "io/events.h"

#define INVITE_LIFE_MAX_S (365 * 24 * 3600)

struct invite_config {
    const char *services; /* names or ports, comma-separated; NULL or "": all */
    const struct service_list *published;
    const struct link *broker;
    const uint8_t *host_key;
    int64_t life_s;
    int32_t uses;
    int64_t now_s;
};

/* The secret is in `in` and `l`: wipe them. */
MUST_CHECK int invite_make(struct roster *r, const struct invite_config *c,
                           struct roster_invite *in, struct link *l, struct fault *f);
#define INVITE_OVER_LEN 128
/* Why it lets nobody in; `in` is NULL where there is none of that id. The joiner reads
 * by which clock it is over. */
const char *invite_why_over(const struct roster_invite *in, int64_t now_s,
                            char buf[static INVITE_OVER_LEN]);
/* The `invite` event. */
void invite_event(struct event *e, const struct roster_invite *in, const char *link);
/* What the audit log keeps of it; who made it is for the caller to add. */
void invite_audit(struct audit_entry *e, const struct invite_config *c,
                  const struct roster_invite *in);

#endif

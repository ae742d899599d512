/*
 * Visits: streams of people who come through the broker's portal. The portal itself is
 * a client without a place on the list of devices; each stream that it opens says for
 * whom, and lasts as long as this host's own list lets that person in.
 */
#ifndef POSTERN_HOST_PORTAL_VISITS_H
#define POSTERN_HOST_PORTAL_VISITS_H

#include "core/list.h"
#include "host/access.h"
#include "host/host.h"
#include "session/pump.h"

struct portal_visits;

/* One stream of the portal. All zero: the stream is a device's. */
struct portal_visit {
    struct portal_visits *all;
    struct list link;
    struct pump *pump; /* NULL: not listed */
    char account[ACCESS_NAME_LEN];
    char visitor[64]; /* as the portal says, for the log */
    char service[SERVICE_NAME_LEN];
    int64_t serial, expires_s; /* of the account */
    bool by_name, udp, opened, ended;
    uint64_t since_ms;
};

/* Freed by free(), once there are none; NULL: no memory. */
struct portal_visits *portal_visits_new(const struct host *h);

/* Is it the key of this host's broker? Its portal uses no other. */
bool portal_has_key(const struct host *h, const uint8_t key[static KEY_LEN]);

/*
 * May this person use this service now? On STREAM_OK `service` is a copy of it with the
 * targets that may be used. Else `reason` (static) says why not, and the log has it.
 */
enum stream_code portal_visit_begin(struct portal_visit *v, struct portal_visits *all,
                                    const StreamOpen *open, struct service *service,
                                    const char **reason);
/* From here until portal_visit_end the stream is broken when its account changes. */
void portal_visit_list(struct portal_visit *v, struct pump *pump);
/* For the log: the service was reached, or was not; of some so many in a minute. */
void portal_visit_opened(struct portal_visit *v);
void portal_visit_refused(const struct portal_visit *v, const char *reason);
/* The stream is over. Harmless when it was never listed. */
void portal_visit_end(struct portal_visit *v, const struct pump_stats *stats);

/* Breaks the streams of accounts that expired, or that are not what they were. */
void portal_visits_check(struct portal_visits *all, bool changed);

/* An account that may do something now, without its secrets; as portal_visit_begin. */
enum stream_code portal_account(const struct host *h, const char *name,
                                struct access_account *out, const char **reason);

#endif

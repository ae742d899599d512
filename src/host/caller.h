/*
 * Callers: people who come through the broker's portal. The portal itself is a guest
 * without a place on the list of devices; each stream that it opens says for whom, and
 * lasts as long as this host's own list lets that person in.
 */
#ifndef POSTERN_HOST_CALLER_H
#define POSTERN_HOST_CALLER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/proto.h"
#include "host/access.h"
#include "host/service.h"
#include "session/pump.h"

struct serve;

/* One stream of the portal. All zero: the stream is a device's. */
struct caller {
    struct serve *serve;
    struct caller *next, *prev;
    struct pump *pump; /* NULL: not listed */
    char account[ACCESS_NAME_LEN];
    char visitor[64]; /* as the portal says, for the log */
    char service[SERVICE_NAME_LEN];
    int64_t serial, expires_s; /* of the account */
    bool by_name, opened, ended;
    uint64_t since_ms;
};

/* Is it the key of this host's broker? Its portal uses no other. */
bool caller_is_broker(const struct serve *s, const uint8_t key[static KEY_LEN]);
/* May the portal come in at all? When an account or a public service exists. */
bool caller_may_enter(const struct serve *s);

/*
 * May this person use this service now? On STREAM_OK `service` is a copy of it with the
 * targets that may be used. Else `reason` (static) says why not, and the log has it.
 */
enum stream_code caller_begin(struct caller *c, struct serve *s, const StreamOpen *open,
                              struct service *service, const char **reason);
/* From here until caller_end the stream is broken when its account changes. */
void caller_list(struct caller *c, struct pump *pump);
/* For the log: the service was reached, or was not. */
void caller_opened(struct caller *c);
void caller_refused(struct caller *c, const char *reason);
/* The stream is over. Harmless when it was never listed. */
void caller_end(struct caller *c, const struct pump_stats *stats);

/* Breaks the streams of accounts that expired, or that are not what they were. */
void callers_check(struct serve *s, bool changed);

/* An account that may do something now, without its secrets; as caller_begin. */
enum stream_code caller_account(struct serve *s, const char *name,
                                struct access_account *out, const char **reason);

#endif

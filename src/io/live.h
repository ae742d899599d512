/*
 * Which programs of this device live: a file in STATE/live for each session that one of
 * them holds, locked by it. The kernel takes the lock away when the program ends,
 * however it ends, and whoever finds a file without a lock removes it. Where files
 * cannot be written or locked nothing is claimed. Also whether this machine is one that
 * sleeps.
 */
#ifndef POSTERN_IO_LIVE_H
#define POSTERN_IO_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/key.h"
#include "core/proto.h"
#include "io/statedir.h"

#define LIVE_SCOPE_LEN 8

struct live;

/*
 * Says that this program holds the session `conv` to the host, until live_release or
 * its end. NULL when that cannot be written down.
 */
struct live *live_hold(const struct statedir *s, const uint8_t host[static KEY_LEN],
                       const uint8_t conv[static CONV_LEN]);
/* Lists that are begun later than this have it. */
uint64_t live_since_us(const struct live *l);
/* NULL is fine. */
void live_release(struct live *l);

/*
 * The sessions to this host that programs hold, `convs` of CONV_LEN bytes each, and
 * `at_us`: when it began to look; `scope`: the place that the list is about, another
 * after a restart of the machine or in a copy of the state directory. Returns whether
 * the list is whole.
 */
MUST_CHECK bool live_list(const struct statedir *s, const uint8_t host[static KEY_LEN],
                          uint8_t scope[static LIVE_SCOPE_LEN], uint64_t *at_us,
                          uint8_t *convs, size_t max, size_t *count);

/* True when this machine has slept since it started, or runs on a battery at times. */
bool live_machine_sleeps(void);

#endif

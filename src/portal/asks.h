/*
 * Questions to a host inside its session: one call each, whose bytes are the answer.
 * What the answer means is the asker's business.
 */
#ifndef POSTERN_PORTAL_ASKS_H
#define POSTERN_PORTAL_ASKS_H

#include "portal/hosts.h"

struct asks;

/* `text` is the answer's lines, borrowed; `code` is 0, or a stream_code with reason. */
typedef void (*ask_cb)(void *ctx, unsigned code, const char *reason, const char *text);

MUST_CHECK int asks_new(struct asks **out, struct loop *loop, struct hosts *hosts);
/* Answers all that are still open, and takes no more. NULL is fine, for both. */
void asks_close(struct asks *as);
void asks_free(struct asks *as);

/* Asks a host as `account`; the callback runs once, from the loop or asks_close. */
MUST_CHECK int ask_start(struct asks *as, struct portal_host *h, const char *account,
                         const struct addr *from, enum portal_ask what, const char *arg,
                         unsigned timeout_ms, ask_cb cb, void *ctx);
/* For the host's own audit log: see PORTAL_ASK_NOTE. While it is away the newest are
 * kept, and told once it is back. */
void ask_note(struct asks *as, struct portal_host *h, const char *account,
              const struct addr *from, const char *what, const char *object);

#endif

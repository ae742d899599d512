/* Why the broker cannot be reached, in words. */
#ifndef POSTERN_PATH_UPLINK_WORDS_H
#define POSTERN_PATH_UPLINK_WORDS_H

#include <stdbool.h>

#include "core/addr.h"
#include "core/err.h"
#include "core/link.h"
#include "core/proto.h"
#include "io/events.h"
#include "io/reach.h"
#include "path/uplink.h"

struct uplink_trouble {
    const struct link *broker;
    bool lan;                  /* it is an agent of this LAN */
    const struct proxy *proxy; /* that was being dialled; NULL: none */
    const struct addr *last;   /* tried because it worked before; ADDR_NONE: none */
    int name_err;            /* what became of its name meanwhile; 0: it was resolved */
    const struct addr *at;   /* who answered; ADDR_NONE: not known */
    const struct addr *self; /* the name stands for this machine; ADDR_NONE: no */
    bool taken;              /* it took the connection, and did not welcome us */
    bool clogged;            /* then, what we said did not arrive, or very late */
    unsigned silent_s;       /* it stood, and nothing came for so long; 0: else */
};

/* `err` as of reach_start or of a channel's on_close. */
void uplink_describe(const struct uplink_trouble *t, int err, struct fault *f);
/* What somebody waits for who waits for the broker: why it is down, or that it is mute.
 */
void uplink_describe_wait(const struct uplink *u, char *why, size_t cap);
/* Likewise, as the fault of who does not wait any longer. */
void uplink_describe_silence(const struct uplink *u, struct fault *f);
/* How it stands, as a `broker` event, or of an agent an `agent` event, of `status`. */
void uplink_event(const struct uplink *u, struct event *e);
/* The broker's own word. */
void uplink_describe_bye(const Bye *b, bool lan, struct fault *f);

#endif

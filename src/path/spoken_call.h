/*
 * Spoken codes by a broker (core/spoken.h): one side waits with a link and gives it to
 * who says the same words; the other takes it. Each call has a loop of its own and
 * lasts until that is done.
 */
#ifndef POSTERN_PATH_SPOKEN_CALL_H
#define POSTERN_PATH_SPOKEN_CALL_H

#include "core/key.h"
#include "core/spoken.h"

struct spoken_give {
    const struct link *broker;
    const struct keypair *own; /* of a host that enrolled there */
    const char *gift;          /* what is given, once */
    unsigned limit_s;          /* then nobody came */
    /* The code, as soon as the broker has given a number. */
    void (*on_code)(void *ctx, const struct spoken_code *c);
    /* Somebody tried other words; `left`: how often that may still be. */
    void (*on_wrong)(void *ctx, unsigned left);
    void *ctx;
};

/* 0: the other side has it. */
MUST_CHECK int spoken_give(const struct spoken_give *g, struct fault *f);

/*
 * Takes what stands behind a code, whose host and port name the broker. That broker is
 * whoever answers there: nothing is believed but what the words prove.
 */
MUST_CHECK int spoken_take(const struct spoken_code *c, char gift[static LINK_TEXT_LEN],
                           struct fault *f);

#endif

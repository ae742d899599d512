/*
 * How long to wait before something that failed is tried again. Knows when it stood and
 * when it failed; knows neither what it is nor why.
 *
 * The pause doubles with each failure in a row, from `first_ms` to `max_ms`, and is
 * drawn from the upper half of that, so that those who failed together do not come back
 * together. What succeeds and breaks before it has stood for `health_ms` was no
 * success: such short lives lengthen the pause as failures do. Only a life of
 * `health_ms` begins anew from `first_ms`; one success halves the number of failures
 * that count. So `health_ms` should be above `max_ms`: two who throw each other out
 * would each see health in the other's pause.
 */
#ifndef POSTERN_CORE_BACKOFF_H
#define POSTERN_CORE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

/* One for each use, constant, and kept as long as the back-offs that name it. */
struct backoff_policy {
    uint32_t first_ms, max_ms, health_ms;
};

struct backoff {
    const struct backoff_policy *policy;
    uint64_t rng;
    uint64_t since_ms; /* it stands since */
    unsigned failures; /* since it last stood, and half of those before */
    unsigned lives;    /* that were short, in a row */
    bool up;
};

/* `seed` is random: two devices must not draw the same pauses. */
void backoff_init(struct backoff *b, const struct backoff_policy *p, uint64_t seed);
/* It succeeded and stands. Again while it stands: changes nothing. */
void backoff_on_up(struct backoff *b, uint64_t now_ms);
/* It failed, or what stood broke. Milliseconds to wait, from `first_ms` / 2 on. */
uint32_t backoff_on_down(struct backoff *b, uint64_t now_ms);
/* What failed before says nothing any more (the network changed, a person asks). */
void backoff_reset(struct backoff *b);
/* A pause of `ms` with the same jitter, for what has a time of its own. */
uint32_t backoff_jitter_ms(struct backoff *b, uint32_t ms);

#endif

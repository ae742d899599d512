/*
 * A port of its own for who watches a daemon: /metrics (core/metrics.h), /healthz and
 * /readyz over plain HTTP, on the daemon's loop. A connection is one question; there
 * are few at once, each has some seconds and 4 KB, and when all places are taken the
 * oldest goes. What the figures are is not known here.
 */
#ifndef POSTERN_IO_SCRAPE_H
#define POSTERN_IO_SCRAPE_H

#include "core/err.h"
#include "core/metrics.h"
#include "io/loop.h"

struct scrape;

struct scrape_config {
    struct loop *loop;
    const char *at;   /* numeric "ADDRESS:PORT", or the path of a socket; borrowed */
    const char *role; /* "broker", "serve", "up": of the build's figure; borrowed */
    /* Its own figures; those of the process and the build come by themselves. */
    void (*add)(void *ctx, struct metrics *m);
    /* Why it cannot do its work just now, in words; NULL: it can. */
    const char *(*why_not_ready)(void *ctx);
    void *ctx;
};

/* 0, or what is wrong with `at`. */
MUST_CHECK int scrape_check(const char *at, struct fault *f);
MUST_CHECK int scrape_open(struct scrape **out, const struct scrape_config *c,
                           struct fault *f);
/* NULL is fine. */
void scrape_close(struct scrape *s);

#endif

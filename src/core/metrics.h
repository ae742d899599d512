/*
 * Figures as Prometheus reads them (the text format, version 0.0.4): a bounded writer
 * with a sticky error, and histograms of times. What is counted is not known here.
 *
 *   metrics_family(&m, "postern_refusals_total", METRIC_COUNTER, "Refused, by limit.");
 *   metrics_label(&m, "limit", "messages");
 *   metrics_count(&m, n);
 */
#ifndef POSTERN_CORE_METRICS_H
#define POSTERN_CORE_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Upper ends of the buckets in microseconds, and one bucket above all. */
#define HISTOGRAM_BUCKETS 14

/* All zero is an empty one. */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS + 1]; /* each for itself */
    uint64_t sum_us;
};

void histogram_note(struct histogram *h, uint64_t us);
void histogram_add(struct histogram *to, const struct histogram *h);

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metrics {
    char *buf; /* borrowed; always NUL-terminated when cap > 0 */
    size_t cap, used;
    const char *family; /* borrowed */
    char labels[256];   /* of the next sample */
    bool failed;        /* out of room: later calls do nothing */
};

struct metrics metrics_writer(char *buf, size_t cap);
/* What follows belongs to `name` (borrowed until the next family). */
void metrics_family(struct metrics *m, const char *name, enum metric_type type,
                    const char *help);
/* Of the next sample; any text: it is escaped, and cut where it is too long. */
void metrics_label(struct metrics *m, const char *name, const char *value);
void metrics_count(struct metrics *m, uint64_t v);
void metrics_real(struct metrics *m, double v);
void metrics_histogram(struct metrics *m, const struct histogram *h);
/* A family of one sample without labels. */
void metrics_one(struct metrics *m, const char *name, enum metric_type type,
                 const char *help, double v);
/* The length of the text, or POSTERN_ERR_LIMIT when it did not fit. */
MUST_CHECK int metrics_end(const struct metrics *m);

#endif

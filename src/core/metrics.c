/* See metrics.h. */
#include "core/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const uint64_t bucket_us[HISTOGRAM_BUCKETS] = {
    1000,   2500,   5000,    10000,   25000,   50000,    100000,
    250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000};

void histogram_note(struct histogram *h, uint64_t us)
{
    int i = 0;
    while (i < HISTOGRAM_BUCKETS && us > bucket_us[i])
        i++;
    h->counts[i]++;
    h->sum_us += us;
}

void histogram_add(struct histogram *to, const struct histogram *h)
{
    for (int i = 0; i <= HISTOGRAM_BUCKETS; i++)
        to->counts[i] += h->counts[i];
    to->sum_us += h->sum_us;
}

struct metrics metrics_writer(char *buf, size_t cap)
{
    if (cap > 0)
        buf[0] = '\0';
    return (struct metrics){.buf = buf, .cap = cap, .failed = cap == 0};
}

__attribute__((format(printf, 2, 3))) static void put(struct metrics *m,
                                                      const char *format, ...)
{
    va_list args;
    if (m->failed)
        return;
    va_start(args, format);
    int n = vsnprintf(m->buf + m->used, m->cap - m->used, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= m->cap - m->used) {
        m->buf[m->used] = '\0'; /* whole lines only, or what was before */
        m->failed = true;
        return;
    }
    m->used += (size_t)n;
}

void metrics_family(struct metrics *m, const char *name, enum metric_type type,
                    const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    m->family = name;
    m->labels[0] = '\0';
    put(m, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

void metrics_label(struct metrics *m, const char *name, const char *value)
{
    size_t used = strlen(m->labels);
    size_t need = strlen(name) + sizeof(",=\"\"");
    if (used + need >= sizeof(m->labels))
        return;
    used += (size_t)snprintf(m->labels + used, sizeof(m->labels) - used, "%s%s=\"",
                             used > 0 ? "," : "", name);
    for (const char *c = value; *c != '\0' && used + 4 < sizeof(m->labels); c++) {
        if (*c == '"' || *c == '\\' || *c == '\n')
            m->labels[used++] = '\\';
        m->labels[used++] = *c;
        if (*c == '\n')
            m->labels[used - 1] = 'n';
    }
    m->labels[used++] = '"';
    m->labels[used] = '\0';
}

/* `le`: the upper end of a bucket, or NULL. */
static void name_sample(struct metrics *m, const char *suffix, const char *le)
{
    bool braces = m->labels[0] != '\0' || le != NULL;
    put(m, "%s%s%s%s", m->family, suffix, braces ? "{" : "", m->labels);
    if (le != NULL)
        put(m, "%sle=\"%s\"", m->labels[0] != '\0' ? "," : "", le);
    put(m, "%s ", braces ? "}" : "");
}

void metrics_count(struct metrics *m, uint64_t v)
{
    name_sample(m, "", NULL);
    put(m, "%" PRIu64 "\n", v);
    m->labels[0] = '\0';
}

void metrics_real(struct metrics *m, double v)
{
    name_sample(m, "", NULL);
    put(m, "%.15g\n", v);
    m->labels[0] = '\0';
}

void metrics_histogram(struct metrics *m, const struct histogram *h)
{
    uint64_t below = 0;
    for (int i = 0; i <= HISTOGRAM_BUCKETS; i++) {
        char le[24] = "+Inf";
        if (i < HISTOGRAM_BUCKETS)
            (void)snprintf(le, sizeof(le), "%g", (double)bucket_us[i] / 1e6);
        below += h->counts[i];
        name_sample(m, "_bucket", le);
        put(m, "%" PRIu64 "\n", below);
    }
    name_sample(m, "_sum", NULL);
    put(m, "%.15g\n", (double)h->sum_us / 1e6);
    name_sample(m, "_count", NULL);
    put(m, "%" PRIu64 "\n", below);
    m->labels[0] = '\0';
}

void metrics_one(struct metrics *m, const char *name, enum metric_type type,
                 const char *help, double v)
{
    metrics_family(m, name, type, help);
    metrics_real(m, v);
}

int metrics_end(const struct metrics *m)
{
    return m->failed ? POSTERN_ERR_LIMIT : (int)m->used;
}

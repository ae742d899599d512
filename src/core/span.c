/* Units of time, the largest first. */
#include "core/span.h"

#include <stdio.h>

static const struct unit {
    unsigned long long size;
    const char *name;
} units[] = {{31557600, "years"}, {86400, "days"}, {3600, "h"}, {60, "min"}, {1, "s"}};

enum { UNIT_COUNT = sizeof(units) / sizeof(units[0]) };

const char *span_about(unsigned long long s, char buf[static SPAN_LEN])
{
    size_t i = 0;
    while (i + 1 < UNIT_COUNT && s < 2 * units[i].size)
        i++;
    (void)snprintf(buf, SPAN_LEN, "%llu %s", s / units[i].size, units[i].name);
    return buf;
}

const char *span_exact(unsigned long long s, char buf[static SPAN_LEN])
{
    size_t i = 0;
    while (i + 1 < UNIT_COUNT && s < (i < 2 ? 2 : 1) * units[i].size)
        i++;
    unsigned long long rest = s % units[i].size;
    unsigned long long next = i + 1 < UNIT_COUNT ? rest / units[i + 1].size : 0;
    int n = snprintf(buf, SPAN_LEN, "%llu %s", s / units[i].size, units[i].name);
    if (next > 0)
        (void)snprintf(buf + n, (size_t)(SPAN_LEN - n), " %llu %s", next,
                       units[i + 1].name);
    return buf;
}

const char *span_apart(long long skew_s, char buf[static SPAN_LEN])
{
    unsigned long long s = (unsigned long long)(skew_s < 0 ? -skew_s : skew_s);
    size_t i = 0;
    while (i + 1 < UNIT_COUNT && s < 2 * units[i].size)
        i++;
    return span_about(s + units[i].size / 2, buf);
}

const char *span_clocks(long long skew_s, char buf[static SPAN_CLOCKS_LEN])
{
    char span[SPAN_LEN];
    (void)snprintf(
        buf, SPAN_CLOCKS_LEN,
        "this machine's clock or the broker's is wrong: they are %s apart, this one %s",
        span_apart(skew_s, span), skew_s > 0 ? "behind" : "ahead");
    return buf;
}

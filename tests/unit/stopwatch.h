/*
 * How long something took as it would on a machine with nothing else to do: what others
 * took from this process is not counted.
 */
#ifndef POSTERN_TESTS_STOPWATCH_H
#define POSTERN_TESTS_STOPWATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "io/clock.h"

/*
 * Time that this process had to wait for a processor: other tests run beside it, and
 * what they take from it is not the session's fault. 0 where the kernel does not count
 * it.
 */
static uint64_t waited_ns(void)
{
    unsigned long long ran = 0, waited = 0;
    FILE *in = fopen("/proc/self/schedstat", "re");
    if (in != NULL) {
        if (fscanf(in, "%llu %llu", &ran, &waited) != 2)
            waited = 0;
        (void)fclose(in);
    }
    return waited;
}

struct stopwatch {
    uint64_t began_ns, waited_ns;
};

static struct stopwatch stopwatch_start(void)
{
    return (struct stopwatch){clock_ns(), waited_ns()};
}

/* As it would be on a machine with nothing else to do. */
static uint64_t stopwatch_ns(const struct stopwatch *s)
{
    uint64_t all = clock_ns() - s->began_ns, waited = waited_ns() - s->waited_ns;
    return all > waited ? all - waited : 0;
}

#endif

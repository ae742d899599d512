/* What the kernel says of a process of this machine (proc_pid_stat(5)). */
#ifndef IO_PROCSTAT_H
#define IO_PROCSTAT_H

#include <stdint.h>

struct procstat {
    char state;  /* 'R', 'S', 'T' ...; '\0': there is none, or it cannot be seen */
    long parent; /* 0: there is none above it, or it cannot be seen */
};

struct procstat procstat_of(long pid);
/* How often its first thread was given up for others; it grows while that does
 * anything. 0: it cannot be seen. */
uint64_t procstat_turns(long pid);

/* Of this process; what cannot be seen is 0. */
struct procstat_own {
    uint64_t resident_bytes, started_s /* since 1970 */, descriptors_max;
    unsigned descriptors;
    double cpu_s;
};
void procstat_own(struct procstat_own *own);

#endif

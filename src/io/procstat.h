/* What the kernel says of a process of this machine (proc_pid_stat(5)). */
#ifndef IO_PROCSTAT_H
#define IO_PROCSTAT_H

struct procstat {
    char state;  /* 'R', 'S', 'T' ...; '\0': there is none, or it cannot be seen */
    long parent; /* 0: there is none above it, or it cannot be seen */
};

struct procstat procstat_of(long pid);

#endif

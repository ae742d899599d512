/* See procstat.h. */
#include "io/procstat.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void read_proc(long pid, const char *file, char *text, size_t cap)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%ld/%s", pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, cap - 1) : -1;
    if (fd >= 0)
        (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
}

struct procstat procstat_of(long pid)
{
    char text[512];
    read_proc(pid, "stat", text, sizeof(text));
    const char *name_end = strrchr(text, ')'); /* the name may hold anything */
    if (name_end == NULL || strlen(name_end) <= 4)
        return (struct procstat){0};
    return (struct procstat){
        .state = name_end[2],
        .parent = strtol(name_end + 4, NULL, 10),
    };
}

uint64_t procstat_turns(long pid)
{
    static const char *const fields[] = {"\nvoluntary_ctxt_switches:",
                                         "\nnonvoluntary_ctxt_switches:"};
    char text[4096];
    uint64_t sum = 0;
    read_proc(pid, "status", text, sizeof(text));
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(text, fields[i]);
        sum += at != NULL ? strtoull(at + strlen(fields[i]), NULL, 10) : 0;
    }
    return sum;
}

static unsigned count_descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (d == NULL)
        return 0;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n > 0 ? n - 1 : 0; /* the directory's own */
}

/* Field 22 of proc_pid_stat(5), in ticks since the machine was started. */
static uint64_t started(void)
{
    char text[1024];
    struct timespec up, now;
    read_proc(getpid(), "stat", text, sizeof(text));
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    long ticks = sysconf(_SC_CLK_TCK);
    if (at == NULL || ticks <= 0 || clock_gettime(CLOCK_BOOTTIME, &up) != 0 ||
        clock_gettime(CLOCK_REALTIME, &now) != 0)
        return 0;
    uint64_t age_s =
        (uint64_t)up.tv_sec - strtoull(at, NULL, 10) / (unsigned long)ticks;
    return (uint64_t)now.tv_sec - age_s;
}

void procstat_own(struct procstat_own *own)
{
    char text[256];
    struct rusage used;
    struct rlimit files;
    *own = (struct procstat_own){.descriptors = count_descriptors(),
                                 .started_s = started()};
    read_proc(getpid(), "statm", text, sizeof(text));
    const char *second = strchr(text, ' ');
    long page = sysconf(_SC_PAGESIZE);
    if (second != NULL && page > 0)
        own->resident_bytes = strtoull(second, NULL, 10) * (uint64_t)page;
    if (getrusage(RUSAGE_SELF, &used) == 0)
        own->cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                     (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        own->descriptors_max = files.rlim_cur;
}

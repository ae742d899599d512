/* See procstat.h. */
#include "io/procstat.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

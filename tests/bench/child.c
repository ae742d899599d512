/* See child.h. */
#include "child.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void bench_die(const char *what)
{
    perror(what);
    exit(1);
}

double bench_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void read_link(struct child *c, int fd)
{
    char line[LINK_TEXT_LEN + 2];
    struct fault f;
    FILE *in = fdopen(fd, "r");
    if (in == NULL || fgets(line, sizeof(line), in) == NULL) {
        fprintf(stderr, "the broker did not start\n");
        exit(1);
    }
    fclose(in);
    line[strcspn(line, "\n")] = '\0';
    if (link_parse(&c->link, line, &f) != 0) {
        fprintf(stderr, "%s\n", f.what);
        exit(1);
    }
}

void child_start(struct child *c, char **argv)
{
    int fds[2];
    c->argv = argv;
    if (pipe2(fds, O_CLOEXEC) != 0)
        bench_die("pipe");
    c->pid = fork();
    if (c->pid < 0)
        bench_die("fork");
    if (c->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* never outlives the tool */
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)execv(argv[0], argv);
        bench_die(argv[0]);
    }
    close(fds[1]);
    read_link(c, fds[0]);
}

void child_stop(struct child *c)
{
    (void)kill(c->pid, SIGTERM);
    (void)waitpid(c->pid, NULL, 0);
}

long child_memory_kb(const struct child *c)
{
    char path[64], line[256];
    long kb = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)c->pid);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return 0;
    while (fgets(line, sizeof(line), in) != NULL)
        if (sscanf(line, "VmRSS: %ld", &kb) == 1)
            break;
    fclose(in);
    return kb;
}

double child_cpu_ms(const struct child *c)
{
    char path[64];
    unsigned long user = 0, sys = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)c->pid);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return 0;
    if (fscanf(in, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &sys) != 2)
        user = sys = 0;
    fclose(in);
    return (double)(user + sys) * 1000.0 / (double)sysconf(_SC_CLK_TCK);
}

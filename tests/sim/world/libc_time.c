/* libc's names for time, threads and hosts; see libc.c. */
#include "libc.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "io/sockaddr.h"

enum {
    EPOCH_S = 1800000000, /* what the wall clock said when virtual time was 0 */
    MARK = 0x51f0a11,     /* in ai_flags: a list of ours */
};

/* ----------------------------------------------------------------- time and chance */

int clock_gettime(clockid_t id, struct timespec *t)
{
    struct house *h = house_now();
    if (h == NULL || id == CLOCK_PROCESS_CPUTIME_ID || id == CLOCK_THREAD_CPUTIME_ID)
        return (int)syscall(SYS_clock_gettime, id, t);
    uint64_t us = house_now_us(h);
    bool wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (wall) /* which may be behind its begin */
        us += (uint64_t)(EPOCH_S * INT64_C(1000000) + house_wall_us(h));
    t->tv_sec = (time_t)(us / 1000000);
    t->tv_nsec = (long)(us % 1000000) * 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    if (out != NULL)
        *out = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec t;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    *tv = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
    return 0;
}

int nanosleep(const struct timespec *t, struct timespec *rest)
{
    if (task_now() == NULL)
        return (int)syscall(SYS_nanosleep, t, rest);
    uint64_t until = house_now_us(house_now()) + (uint64_t)t->tv_sec * 1000000 +
                     (uint64_t)t->tv_nsec / 1000;
    while (house_now_us(house_now()) < until)
        task_sleep(until);
    return 0;
}

/* Who gives up the processor here gives it to nobody: all others wait for the world. */
int sched_yield(void)
{
    return task_now() == NULL ? (int)syscall(SYS_sched_yield) : 0;
}

int usleep(useconds_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    return nanosleep(&t, NULL);
}

/* ------------------------------------------------------------------------- threads */

/* libc's own of that name. */
static void *libc_own(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (p == NULL)
        unknown(name, 0, 0);
    return p;
}

int pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *),
                   void *arg)
{
    int (*own)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int state = PTHREAD_CREATE_JOINABLE;
    if (task_now() == NULL) {
        *(void **)&own = libc_own("pthread_create");
        return own(out, attr, run, arg);
    }
    struct task *t = task_start(machine_now(), run, arg);
    if (attr != NULL && pthread_attr_getdetachstate(attr, &state) == 0 &&
        state == PTHREAD_CREATE_DETACHED)
        task_detach(t);
    *out = (pthread_t)t;
    return 0;
}

int pthread_join(pthread_t thread, void **result)
{
    int (*own)(pthread_t, void **);
    struct task *t = (struct task *)thread; /* NOLINT */
    if (!task_exists(t)) {
        *(void **)&own = libc_own("pthread_join");
        return own(thread, result);
    }
    void *r = task_join(t);
    if (result != NULL)
        *result = r;
    return 0;
}

int pthread_detach(pthread_t thread)
{
    int (*own)(pthread_t);
    struct task *t = (struct task *)thread; /* NOLINT */
    if (!task_exists(t)) {
        *(void **)&own = libc_own("pthread_detach");
        return own(thread);
    }
    task_detach(t);
    return 0;
}

/* --------------------------------------------------------------------------- names */

struct answer {
    struct addrinfo info; /* first */
    struct sockaddr_storage at;
};

static struct addrinfo *answer_new(const struct addr *a, const struct addrinfo *hints)
{
    struct answer *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return NULL;
    x->info.ai_addrlen = sockaddr_from_addr(&x->at, a);
    x->info.ai_addr = (struct sockaddr *)&x->at;
    x->info.ai_family = x->at.ss_family;
    x->info.ai_socktype = hints != NULL ? hints->ai_socktype : SOCK_STREAM;
    x->info.ai_flags = MARK;
    return &x->info;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    int (*own)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    struct addrinfo numeric = hints != NULL ? *hints : (struct addrinfo){0};
    struct addr found[HOUSE_NAMES];
    *(void **)&own = libc_own("getaddrinfo");
    if (task_now() == NULL)
        return own(name, service, hints, out);
    numeric.ai_flags |= AI_NUMERICHOST;
    numeric.ai_flags &= ~AI_ADDRCONFIG;
    if (own(name, service, &numeric, out) == 0)
        return 0;
    uint64_t until = house_now_us(house_now()) + house_lookup_us(house_now());
    while (house_now_us(house_now()) < until)
        task_sleep(until);
    size_t n = house_resolve(house_now(), name, found, HOUSE_NAMES);
    *out = NULL;
    struct addrinfo **at = out;
    for (size_t i = 0; i < n && (*at = answer_new(&found[i], hints)) != NULL; i++)
        at = &(*at)->ai_next;
    return *out != NULL ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    void (*own)(struct addrinfo *);
    if (list != NULL && list->ai_flags != MARK) {
        *(void **)&own = libc_own("freeaddrinfo");
        own(list);
        return;
    }
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

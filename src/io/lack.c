/* Tells a lack of descriptors from a lack of memory by trying. */
#include "io/lack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <uv.h>

enum {
    SPARE = 8,    /* so many a whole step needs; what it took it has given back */
    USUAL = 8192, /* where the kernel does not say */
    THREADS = 4,  /* of the loop's pool, which ends the program where it has no room */
    POOL_FIXED = 0x012d00, /* from this libuv on the pool's stacks are of one size */
    POOL_STACK = 8 << 20,
    THREAD_MORE = 1 << 20, /* what a thread takes besides */
};

bool lack_of_descriptors(void)
{
    int fds[SPARE], n = 0;
    while (n < SPARE && (fds[n] = open("/", O_PATH | O_CLOEXEC)) >= 0)
        n++;
    bool lack = n < SPARE && (errno == EMFILE || errno == ENFILE);
    for (int i = 0; i < n; i++)
        (void)close(fds[i]);
    return lack;
}

size_t descriptors_max(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return USUAL;
    return r.rlim_cur < INT32_MAX ? (size_t)r.rlim_cur : INT32_MAX;
}

long descriptors_taken(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    if (fd >= 0)
        (void)close(fd);
    return fd;
}

void descriptors_allow(size_t wanted)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= wanted)
        return;
    r.rlim_cur = r.rlim_max < wanted ? r.rlim_max : wanted;
    (void)setrlimit(RLIMIT_NOFILE, &r);
}

bool lack_of_threads(void)
{
    struct rlimit all, stack;
    if (getrlimit(RLIMIT_AS, &all) != 0 || all.rlim_cur == RLIM_INFINITY ||
        getrlimit(RLIMIT_STACK, &stack) != 0)
        return false;
    size_t each = uv_version() >= POOL_FIXED           ? POOL_STACK
                  : stack.rlim_cur < LACK_THREAD_STACK ? stack.rlim_cur
                                                       : LACK_THREAD_STACK;
    size_t len = (size_t)THREADS * (each + THREAD_MORE);
    void *at = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return true;
    (void)munmap(at, len);
    return false;
}

static int out_of_memory(struct fault *f, int code)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) != 0 || r.rlim_cur == RLIM_INFINITY)
        return fault_set(f, code, "free some memory", "out of memory");
    return fault_set(f, code,
                     "raise the limit of the address space (ulimit -v, or LimitAS)",
                     "out of memory: this program may map %llu KB, stacks included",
                     (unsigned long long)r.rlim_cur / 1024);
}

int fault_lack(struct fault *f, int code)
{
    struct rlimit r;
    bool by_system = errno == ENFILE;
    if (errno != EMFILE && errno != ENFILE && !lack_of_descriptors())
        return out_of_memory(f, code);
    if (by_system || getrlimit(RLIMIT_NOFILE, &r) != 0)
        return fault_set(f, POSTERN_ERR_LIMIT,
                         "end other programs, or raise fs.file-max",
                         "this machine can open no more files");
    return fault_set(f, POSTERN_ERR_LIMIT,
                     "raise the limit of open files (ulimit -n, or LimitNOFILE)",
                     "out of file descriptors: this program may open %llu",
                     (unsigned long long)r.rlim_cur);
}

/* The stack of the first thread, and the measure of the others'. */
static int check_stack(struct fault *f)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_STACK, &r) != 0 || r.rlim_cur >= LACK_STACK_MIN_KB * 1024)
        return 0;
    return fault_set(f, POSTERN_ERR_LIMIT,
                     "raise the limit of the stack (ulimit -s, or LimitSTACK)",
                     "the stack is too small: this program may use %llu KB and needs "
                     "%d",
                     (unsigned long long)r.rlim_cur / 1024, LACK_STACK_MIN_KB);
}

int lack_check_start(unsigned least, struct fault *f)
{
    struct rlimit r;
    int rc = check_stack(f);
    if (rc != 0)
        return rc;
    descriptors_allow(least);
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= least)
        return 0;
    return fault_set(f, POSTERN_ERR_LIMIT,
                     "raise the limit of open files (ulimit -n, or LimitNOFILE)",
                     "out of file descriptors: this program may open %llu and needs %u",
                     (unsigned long long)r.rlim_cur, least);
}

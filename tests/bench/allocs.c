/*
 * Counts heap allocations of the program it is preloaded into, and appends the count to
 * the file that POSTERN_ALLOCS names each time SIGUSR2 arrives. Knows nothing of what
 * the program does.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static atomic_ullong count; /* the one thing that this library is for */

void *malloc(size_t n)
{
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    return __libc_realloc(p, n);
}

static void on_signal(int number)
{
    char digits[24];
    size_t at = sizeof(digits);
    unsigned long long n = atomic_load(&count);
    const char *path = getenv("POSTERN_ALLOCS");
    (void)number;
    digits[--at] = '\n';
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    int fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (fd < 0)
        return;
    ssize_t written = write(fd, digits + at, sizeof(digits) - at);
    (void)written;
    close(fd);
}

__attribute__((constructor)) static void start(void)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigaction(SIGUSR2, &act, NULL);
}

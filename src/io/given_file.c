/* See given_file.h. A pipe is opened without waiting, so that its want can be told. */
#include "io/given_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/log.h"
#include "io/ready.h"

enum { TELL_MS = 2500, WRITER_MS = 30000 };

static int unreadable(const char *path, const char *what, int e, struct fault *f)
{
    if (what != NULL)
        return fault_set(f, POSTERN_ERR_IO, "name a file that can be read",
                         "%.40s cannot be read from %.200s: %s", what, path,
                         strerror(e));
    return fault_set(f, POSTERN_ERR_IO, "name a file that can be read",
                     "%.200s cannot be read: %s", path, strerror(e));
}

/* Until there is something to read, or its end. */
static int wait_for_writer(int fd, const char *path, const char *what, struct fault *f)
{
    struct ready r = {.fd = fd, .wanted = WATCH_READ};
    uint64_t begin_ms = clock_us() / 1000, spent_ms = 0;
    for (bool told = false; spent_ms < WRITER_MS;
         spent_ms = clock_us() / 1000 - begin_ms) {
        uint64_t until_ms = told ? WRITER_MS : TELL_MS;
        int n = until_ms > spent_ms ? ready_wait(&r, 1, (int)(until_ms - spent_ms)) : 0;
        if (n > 0)
            return 0;
        if (n < 0 && n != POSTERN_ERR_AGAIN)
            return unreadable(path, what, errno, f);
        if (n == 0 && !told)
            log_warn("waiting: nothing was written into the pipe %.200s yet", path);
        told = told || n == 0;
    }
    return fault_set(f, POSTERN_ERR_IO, "name a file, or start what writes into it",
                     "%.200s is a pipe, and nothing was written into it for %u s", path,
                     WRITER_MS / 1000);
}

static int take(int fd, const char *path, const char *what, struct fault *f)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return unreadable(path, what, errno, f);
    if (S_ISDIR(st.st_mode))
        return unreadable(path, what, EISDIR, f);
    int rc = S_ISFIFO(st.st_mode) ? wait_for_writer(fd, path, what, f) : 0;
    if (rc == 0 && fcntl(fd, F_SETFL, 0) != 0)
        rc = unreadable(path, what, errno, f);
    return rc;
}

int given_file_open(const char *path, const char *what, struct fault *f)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return unreadable(path, what, errno, f);
    int rc = take(fd, path, what, f);
    if (rc == 0)
        return fd;
    (void)close(fd);
    return rc;
}

/* System calls; who may come and what is said is not known here. */
#include "io/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * Where a socket is, as the kernel can be told: its path, or where that is too long for
 * sun_path, its name in a directory that is held open for it.
 */
struct place {
    struct sockaddr_un un;
    int dir; /* -1: none is needed */
};

/* 0, or -1 with errno. */
static int place_open(struct place *p, const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = strlen(path);
    *p = (struct place){.un = {.sun_family = AF_UNIX}, .dir = -1};
    if (len < sizeof(p->un.sun_path)) {
        memcpy(p->un.sun_path, path, len + 1);
        return 0;
    }
    errno = ENAMETOOLONG;
    if (slash == NULL || len >= sizeof(dir))
        return -1;
    (void)snprintf(dir, sizeof(dir), "%.*s/", (int)(slash - path), path);
    p->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (p->dir < 0)
        return -1;
    int n = snprintf(p->un.sun_path, sizeof(p->un.sun_path), "/proc/self/fd/%d%s",
                     p->dir, slash);
    if ((size_t)n < sizeof(p->un.sun_path))
        return 0;
    (void)close(p->dir);
    errno = ENAMETOOLONG;
    return -1;
}

static void place_close(struct place *p)
{
    int err = errno;
    if (p->dir >= 0)
        (void)close(p->dir);
    errno = err;
}

static int dial(const struct sockaddr_un *at, int patience_s)
{
    struct timeval limit = {.tv_sec = patience_s};
    int fd = socket(
        AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (patience_s > 0 ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0)
        return fd;
    int err = errno;
    (void)close(fd);
    errno = err;
    return -1;
}

/* A socket that is there goes; false where one that lives is to stay. */
static bool make_way(const struct sockaddr_un *at, bool dead_only)
{
    struct stat st;
    if (lstat(at->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return true; /* another file is in bind's way */
    int fd = dead_only ? dial(at, 0) : -1;
    if (fd >= 0)
        (void)close(fd);
    if (fd >= 0 || (dead_only && errno != ECONNREFUSED))
        return false;
    (void)unlink(at->sun_path);
    return true;
}

/* A listening socket, or -1 with errno; `st` is its file's. */
static int listen_at(const struct sockaddr_un *at, int backlog, bool dead_only,
                     struct stat *st)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (!make_way(at, dead_only)) {
        (void)close(fd);
        errno = EADDRINUSE;
        return -1;
    }
    /* the mode of the socket itself is set before bind makes its file */
    if (fchmod(fd, 0600) == 0 &&
        bind(fd, (const struct sockaddr *)at, sizeof(*at)) == 0) {
        if (chmod(at->sun_path, 0600) == 0 && lstat(at->sun_path, st) == 0 &&
            listen(fd, backlog) == 0)
            return fd;
        int err = errno;
        (void)unlink(at->sun_path);
        errno = err;
    }
    int err = errno;
    (void)close(fd);
    errno = err;
    return -1;
}

int sockfile_listen(const char *path, int backlog, bool dead_only, struct sockfile *f)
{
    struct stat st;
    struct place p;
    if (place_open(&p, path) != 0)
        return -1;
    int fd = listen_at(&p.un, backlog, dead_only, &st);
    place_close(&p);
    if (fd >= 0)
        *f = (struct sockfile){st.st_dev, st.st_ino};
    return fd;
}

bool sockfile_is(const char *path, const struct sockfile *f)
{
    struct stat st;
    return lstat(path, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino;
}

int sockfile_connect(const char *path, int patience_s)
{
    struct place p;
    if (place_open(&p, path) != 0)
        return -1;
    int fd = dial(&p.un, patience_s);
    place_close(&p);
    return fd;
}

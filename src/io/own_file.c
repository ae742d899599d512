/* Made by root, given to whose directory it is; opened name by name, by no link. */
#include "io/own_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_FLAGS (O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

void own_file_give(const char *dir, int fd)
{
    struct stat st;
    if (geteuid() == 0 && stat(dir, &st) == 0 && st.st_uid != 0)
        (void)!fchown(fd, st.st_uid, st.st_gid);
}

/*
 * A second name of root's file can be made by who may not read it
 * (fs.protected_hardlinks=0); of the owner's own files it does no harm (cp -al).
 */
static bool is_fit(const struct stat *dir, const struct stat *st)
{
    return st->st_uid == dir->st_uid ||
           ((st->st_uid == 0 || st->st_uid == geteuid()) && st->st_nlink <= 1);
}

/* The directory in which `path` lies, by its descriptor; `*name` is the rest. */
static int open_parent(const char *dir, const char *path, const char **name)
{
    size_t len = strlen(dir);
    int at = open(dir, DIR_FLAGS);
    *name = strncmp(path, dir, len) == 0 && path[len] == '/' ? path + len + 1 : path;
    for (const char *slash; at >= 0 && (slash = strchr(*name, '/')) != NULL;
         *name = slash + 1) {
        char part[NAME_MAX + 1];
        (void)snprintf(part, sizeof(part), "%.*s", (int)(slash - *name), *name);
        int next = openat(at, part, DIR_FLAGS), err = errno;
        (void)close(at);
        at = next;
        errno = err;
    }
    return at;
}

static int open_fit(const char *dir, const char *path, int flags)
{
    const char *name;
    struct stat above, st;
    int at = open_parent(dir, path, &name);
    if (at < 0)
        return -1;
    flags |= O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK; /* not even a pipe holds it up */
    bool made = (flags & O_CREAT) != 0;
    int fd = openat(at, name, flags | (made ? O_EXCL : 0), 0600);
    if (fd >= 0 && made)
        own_file_give(dir, fd);
    else if (fd < 0 && made)
        fd = openat(at, name, flags, 0600);
    int err = errno;
    if (fd >= 0 && (fstat(at, &above) != 0 || fstat(fd, &st) != 0 ||
                    !S_ISREG(st.st_mode) || !is_fit(&above, &st))) {
        (void)close(fd);
        fd = -1;
        err = ELOOP;
    }
    (void)close(at);
    errno = err;
    return fd;
}

int own_file_open(const char *dir, const char *path, int mode)
{
    return open_fit(dir, path, mode | O_CREAT);
}

int own_file_read(const char *dir, const char *path)
{
    return open_fit(dir, path, O_RDONLY);
}

int own_file_check(const char *dir, const char *path, struct fault *f)
{
    struct stat above, st;
    if (lstat(path, &st) != 0 || stat(dir, &above) != 0)
        return 0;
    if (S_ISLNK(st.st_mode))
        return fault_set(
            f, POSTERN_ERR_PERM, "put the file itself there",
            "%.250s is a link, and no file of a state directory may be one", path);
    if (!S_ISREG(st.st_mode) || is_fit(&above, &st))
        return 0; /* who opens it says what else it is */
    if (st.st_uid == 0 || st.st_uid == geteuid())
        return fault_set(f, POSTERN_ERR_PERM, "put a copy in its place",
                         "%.200s is a file of user %u with a second name elsewhere",
                         path, (unsigned)st.st_uid);
    char advice[240];
    (void)snprintf(advice, sizeof(advice), "run 'chown %u %.180s' if it is to be used",
                   (unsigned)above.st_uid, path);
    return fault_set(f, POSTERN_ERR_PERM, advice,
                     "%.200s belongs to user %u, and its directory to user %u", path,
                     (unsigned)st.st_uid, (unsigned)above.st_uid);
}

int own_file_of_another(const char *path, struct fault *f)
{
    struct stat above, st;
    char advice[240], dir[PATH_MAX];
    int err = errno;
    (void)snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash != NULL)
        *slash = '\0';
    bool mine = stat(dir, &above) == 0 && above.st_uid == geteuid() &&
                access(dir, W_OK | X_OK) == 0;
    bool others = mine && lstat(path, &st) == 0 && st.st_uid != geteuid();
    errno = err;
    if (!others)
        return 0;
    (void)snprintf(advice, sizeof(advice), "run 'sudo chown -R %u %.180s'",
                   (unsigned)geteuid(), dir);
    return fault_set(f, POSTERN_ERR_PERM, advice,
                     "%.200s belongs to user %u, and its directory to user %u", path,
                     (unsigned)st.st_uid, (unsigned)geteuid());
}

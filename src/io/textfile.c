/* See textfile.h. Programs read the file at any time: it is whole at each of them. */
#include "io/textfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "io/log.h"

enum {
    SIZE_MAX_BYTES = 64 << 20,
    LOCK_TRIES = 20, /* who else may open the directory may lock it too, for ever */
    LOCK_PAUSE_US = 10000,
};

static int file_fault(struct fault *f, int e, const char *path)
{
    int rc = e == EACCES || e == EPERM || e == EROFS    ? POSTERN_ERR_PERM
             : e == ENOSPC || e == EDQUOT || e == EFBIG ? POSTERN_ERR_FULL
             : e == ENOENT                              ? POSTERN_ERR_NOTFOUND
             : e == ENOMEM                              ? POSTERN_ERR_NOMEM
                                                        : POSTERN_ERR_IO;
    return fault_set(f, rc,
                     rc == POSTERN_ERR_FULL ? "free some space"
                                            : "see that it can be read and written",
                     "%.200s cannot be changed: %s", path, strerror(e));
}

/* The directory that `path` names, without links. */
static bool find_dir(char out[static PATH_MAX], const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int len = slash != NULL ? (int)(slash - path) : 0;
    if (slash == NULL)
        (void)snprintf(dir, sizeof(dir), ".");
    else
        (void)snprintf(dir, sizeof(dir), "%.*s/", len, path);
    return realpath(dir, out) != NULL;
}

/* The file that `path` means; with `inside` a link out of its directory is refused. */
static int find_file(struct textfile *t, const char *path, bool inside, struct fault *f)
{
    if (!find_dir(t->dir, path) || realpath(path, t->path) == NULL)
        return file_fault(f, errno, path);
    size_t len = strlen(t->dir);
    bool is_out = strncmp(t->path, t->dir, len) != 0 || t->path[len] != '/';
    if (is_out && !inside)
        return find_dir(t->dir, t->path) ? 0 : file_fault(f, errno, path);
    if (is_out)
        return fault_set(f, POSTERN_ERR_INVALID, "make it a file there",
                         "%.100s is a link that leads out of its directory, to %.100s",
                         path, t->path);
    return 0;
}

static int read_all(struct textfile *t)
{
    size_t cap = (size_t)t->st.st_size + 1;
    t->text = malloc(cap);
    if (t->text == NULL)
        return ENOMEM;
    while (t->len < cap) {
        ssize_t n = pread(t->fd, t->text + t->len, cap - t->len, (off_t)t->len);
        if (n < 0)
            return errno;
        if (n == 0)
            return 0;
        t->len += (size_t)n;
    }
    return EAGAIN; /* it grew: somebody writes it now */
}

/* Among ourselves; who holds the lock for long is not waited for. */
static void lock_directory(struct textfile *t)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(t->dir_fd, LOCK_EX | LOCK_NB) == 0)
            return;
        (void)usleep(LOCK_PAUSE_US);
    }
}

int textfile_read(struct textfile *t, const char *path, bool inside, struct fault *f)
{
    *t = (struct textfile){.dir_fd = -1, .fd = -1};
    int rc = find_file(t, path, inside, f);
    if (rc != 0)
        return rc;
    t->dir_fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->dir_fd >= 0)
        lock_directory(t);
    t->fd = open(t->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (t->fd < 0 || fstat(t->fd, &t->st) != 0)
        return file_fault(f, errno, path);
    if (!S_ISREG(t->st.st_mode) || t->st.st_size > SIZE_MAX_BYTES)
        return fault_set(f, POSTERN_ERR_INVALID, "make it one",
                         "%.200s is no file of a usual size", path);
    int err = read_all(t);
    return err != 0 ? file_fault(f, err, path) : 0;
}

void textfile_free(struct textfile *t)
{
    if (t->fd >= 0)
        close(t->fd);
    if (t->dir_fd >= 0)
        close(t->dir_fd);
    free(t->text);
}

static int write_all(int fd, const char *text, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, text, len, at);
        if (n < 0)
            return errno;
        text += n;
        len -= (size_t)n;
        at += n;
    }
    return 0;
}

/* Labels and access lists; one that cannot be set stays as the directory gives it. */
static void copy_attributes(int to, int from)
{
    char list[4096], value[4096];
    ssize_t n = flistxattr(from, list, sizeof(list));
    for (const char *name = list; n > 0 && name < list + n; name += strlen(name) + 1) {
        ssize_t len = fgetxattr(from, name, value, sizeof(value));
        if (len >= 0)
            (void)!fsetxattr(to, name, value, (size_t)len, 0);
    }
}

/* A new file in the old one's place; errno, where there can be none. */
static int put_in_place(const struct textfile *t, const char *text, size_t len)
{
    char made[PATH_MAX + 32];
    (void)snprintf(made, sizeof(made), "%s.postern-XXXXXX", t->path);
    int fd = mkostemp(made, O_CLOEXEC), err = 0;
    if (fd < 0)
        return errno;
    err = write_all(fd, text, len, 0);
    if (err == 0 && (fchown(fd, t->st.st_uid, t->st.st_gid) != 0 ||
                     fchmod(fd, t->st.st_mode & 07777) != 0))
        err = errno;
    if (err == 0)
        copy_attributes(fd, t->fd);
    if (err == 0 && (fsync(fd) != 0 || rename(made, t->path) != 0))
        err = errno;
    if (err != 0)
        (void)unlink(made);
    close(fd);
    return err;
}

/*
 * Where the file is a mount of its own (a container's), or its directory cannot be
 * written. Only what differs is written, which is at the end, and the old end put back
 * where that fails.
 */
static int write_into(const struct textfile *t, const char *text, size_t len)
{
    size_t same = 0;
    while (same < len && same < t->len && text[same] == t->text[same])
        same++;
    int fd = open(t->path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC), err = 0;
    if (fd < 0)
        return errno;
    err = write_all(fd, text + same, len - same, (off_t)same);
    if (err == 0 && ftruncate(fd, (off_t)len) != 0)
        err = errno;
    if (err != 0) {
        (void)write_all(fd, t->text + same, t->len - same, (off_t)same);
        (void)!ftruncate(fd, (off_t)t->len);
    }
    (void)fsync(fd);
    close(fd);
    return err;
}

static bool needs_writing_into(int err)
{
    return err == EBUSY || err == EXDEV || err == EROFS || err == EACCES ||
           err == EPERM;
}

int textfile_write(const struct textfile *t, const char *text, size_t len,
                   struct fault *f)
{
    if (len == t->len && memcmp(text, t->text, len) == 0)
        return 0;
    int err = put_in_place(t, text, len);
    if (needs_writing_into(err)) {
        log_debug("%s cannot be replaced (%s): written into", t->path, strerror(err));
        err = write_into(t, text, len);
    }
    return err != 0 ? file_fault(f, err, t->path) : 0;
}

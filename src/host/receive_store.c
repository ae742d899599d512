/* Everything is reached from one open directory, name by name (openat). */
#include "host/receive_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "core/key.h"
#include "io/rename_new.h"

enum {
    NUMBERS_MAX = 1000,
    SYNC_BYTES = 1024 * 1024, /* of less the kernel may take its time */
    LOCK_TRIES = 50,          /* a sender that was killed is noticed soon */
    LOCK_PAUSE_MS = 100,
    TIDIED_TRIES = 20,
    BESIDE_MAX = 99, /* of the same file at once */
    KEPT_S = 7 * 24 * 3600,
};

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int err_of(int e)
{
    return e == ENOSPC || e == EDQUOT || e == EFBIG  ? POSTERN_ERR_FULL
           : e == EACCES || e == EPERM || e == EROFS ? POSTERN_ERR_PERM
           : e == ELOOP || e == ENOTDIR              ? POSTERN_ERR_INVALID
                                                     : POSTERN_ERR_IO;
}

int store_open(struct store *s, const char *dir, struct fault *f)
{
    *s = (struct store){.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                        .parts = -1};
    if (s->dir >= 0 && faccessat(s->dir, ".", W_OK | X_OK, AT_EACCESS) == 0)
        return 0;
    int e = errno;
    store_close(s);
    return fault_set(f, err_of(e), "name a directory that you may write to",
                     "nothing can be received into %.200s: %s", dir, strerror(e));
}

void store_close(struct store *s)
{
    if (s->dir >= 0)
        (void)close(s->dir);
    if (s->parts >= 0)
        (void)close(s->parts);
    s->dir = s->parts = -1;
}

uint64_t store_room(const struct store *s)
{
    struct statvfs v;
    return fstatvfs(s->dir, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : UINT64_MAX;
}

/* The directory that the path's last name is in, to be closed; -1 with errno. */
static int open_parent(int dir, const char *path, bool make, const char **last)
{
    char name[TRANSFER_PATH_LEN];
    int at = dup(dir);
    for (const char *slash; at >= 0 && (slash = strchr(path, '/')) != NULL;
         path = slash + 1) {
        (void)snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
        if (make)
            (void)mkdirat(at, name, 0777);
        int next = openat(at, name, DIR_FLAGS), e = errno;
        (void)close(at);
        errno = e;
        at = next;
    }
    *last = path;
    return at;
}

int store_make_dir(struct store *s, const char *path)
{
    const char *last;
    int at = open_parent(s->dir, path, true, &last);
    if (at < 0)
        return err_of(errno);
    int err = mkdirat(at, last, 0777) == 0 || errno == EEXIST ? 0 : err_of(errno);
    int there = err == 0 ? openat(at, last, DIR_FLAGS) : -1;
    if (err == 0 && there < 0)
        err = err_of(errno);
    if (there >= 0)
        (void)close(there);
    (void)close(at);
    return err;
}

/* --------------------------------------------------------------------------- parts */

/* One for each file of each sender; of a file that has changed it is another. */
static void part_name(char name[static 40], const char *who,
                      const struct transfer_file *file)
{
    char text[TRANSFER_PATH_LEN + 160];
    uint8_t hash[32];
    int n =
        snprintf(text, sizeof(text), "%s\n%llu %lld\n%s", who,
                 (unsigned long long)file->size, (long long)file->mtime_s, file->path);
    key_hash(hash, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, NULL,
             0);
    for (size_t i = 0; i < 16; i++)
        (void)snprintf(name + 2 * i, 3, "%02x", hash[i]);
}

static int open_parts(struct store *s, bool make)
{
    if (s->parts >= 0)
        return 0;
    if (make)
        (void)mkdirat(s->dir, STORE_PARTS, 0700);
    s->parts = openat(s->dir, STORE_PARTS, DIR_FLAGS);
    return s->parts >= 0 ? 0 : err_of(errno);
}

void store_tidy(struct store *s)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (open_parts(s, false) != 0)
        return;
    int fd = dup(s->parts);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        struct stat st;
        if (fstatat(s->parts, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode) && st.st_mtim.tv_sec + KEPT_S < now.tv_sec)
            (void)unlinkat(s->parts, e->d_name, 0);
    }
    if (d != NULL)
        (void)closedir(d);
    (void)unlinkat(s->dir, STORE_PARTS, AT_REMOVEDIR);
    (void)close(s->parts);
    s->parts = -1;
}

/* Reads `blocks` blocks into the hash; false when they are not there. */
static bool hash_blocks(const struct store *s, int fd, struct transfer_hash *h,
                        uint64_t blocks, uint64_t size)
{
    uint8_t *buf = malloc(TRANSFER_BLOCK);
    bool good = buf != NULL;
    for (uint64_t i = 0; good && i < blocks; i++) {
        if (s->alive != NULL)
            s->alive(s->ctx);
        uint64_t from = i * TRANSFER_BLOCK;
        off_t data = lseek(fd, (off_t)from, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= from + TRANSFER_BLOCK) {
            uint64_t hole = data < 0 ? blocks : (uint64_t)data / TRANSFER_BLOCK;
            hole = (hole < blocks ? hole : blocks) - i;
            transfer_hash_zeros(h, hole);
            i += hole - 1;
            continue;
        }
        size_t len =
            size - from < TRANSFER_BLOCK ? (size_t)(size - from) : TRANSFER_BLOCK;
        good = pread(fd, buf, len, (off_t)from) == (ssize_t)len;
        if (good)
            transfer_hash_block(h, buf, len);
    }
    free(buf);
    return good;
}

static uint64_t hash_of(const struct store *s, int fd, uint64_t blocks, uint64_t size,
                        uint8_t out[static TRANSFER_HASH_LEN])
{
    struct transfer_hash h;
    transfer_hash_begin(&h);
    bool good = blocks > 0 && hash_blocks(s, fd, &h, blocks, size);
    transfer_hash_so_far(&h, size, out);
    return good ? blocks : 0;
}

/*
 * The file of that size under its name, or that name with a number; from `*number` on,
 * 1 being the name itself. -1: there is none. The path, where it is, in `path`.
 */
static int open_whole(struct store *s, const struct transfer_file *file,
                      unsigned *number, char path[static TRANSFER_PATH_LEN])
{
    char numbered[256];
    const char *last;
    struct stat st;
    int fd = -1, at = open_parent(s->dir, file->path, false, &last);
    for (bool there = at >= 0; there && fd < 0 && *number < NUMBERS_MAX; (*number)++) {
        (void)snprintf(numbered, sizeof(numbered), "%.255s", last);
        if (*number > 1)
            transfer_number_name(numbered, sizeof(numbered), last, *number);
        there = fstatat(at, numbered, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (!there || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size)
            continue;
        fd = openat(at, numbered, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        size_t parent = (size_t)(last - file->path);
        (void)snprintf(path, TRANSFER_PATH_LEN, "%s", file->path);
        (void)snprintf(path + parent, TRANSFER_PATH_LEN - parent, "%s", numbered);
    }
    if (at >= 0)
        (void)close(at);
    return fd;
}

bool store_is(struct store *s, const struct transfer_file *file,
              const uint8_t hash[static TRANSFER_HASH_LEN],
              char path[static TRANSFER_PATH_LEN])
{
    uint8_t own[TRANSFER_HASH_LEN];
    uint64_t blocks = transfer_blocks(file->size);
    unsigned number = 1;
    bool same = false;
    for (int fd; !same && (fd = open_whole(s, file, &number, path)) >= 0;) {
        same = hash_of(s, fd, blocks, file->size, own) == blocks &&
               memcmp(own, hash, sizeof(own)) == 0;
        (void)close(fd);
    }
    return same;
}

uint64_t store_have(struct store *s, const char *who, const struct transfer_file *file,
                    bool *whole, uint8_t hash[static TRANSFER_HASH_LEN])
{
    char name[40];
    struct stat st;
    uint64_t have = 0;
    char path[TRANSFER_PATH_LEN];
    unsigned number = 1;
    int fd = open_whole(s, file, &number, path);
    memset(hash, 0, TRANSFER_HASH_LEN);
    *whole = fd >= 0;
    if (fd >= 0)
        (void)close(fd);
    if (open_parts(s, false) != 0)
        return 0;
    part_name(name, who, file);
    fd = openat(s->parts, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        uint64_t blocks = (uint64_t)st.st_size / TRANSFER_BLOCK;
        uint64_t all = transfer_blocks(file->size);
        blocks = blocks < all ? blocks : all;
        have = hash_of(s, fd, blocks, blocks * TRANSFER_BLOCK, hash);
    }
    if (fd >= 0)
        (void)close(fd);
    return have;
}

/* -------------------------------------------------------------------------- writing */

/* `tries`: its sender may have been killed a moment ago and be back. */
static bool lock(const struct store *s, int fd, int tries)
{
    for (int i = 0; i < tries; i++) {
        struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000l};
        if (s->alive != NULL)
            s->alive(s->ctx);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (i + 1 < tries)
            (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* The place for parts may have been tidied away by another sender's end. */
static int open_part(struct store *s, const char *name)
{
    int fd = -1;
    for (int tries = 0; fd < 0 && tries < TIDIED_TRIES; tries++) {
        if (open_parts(s, true) != 0)
            return -1;
        fd = openat(s->parts, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != ENOENT)
            break;
        (void)close(s->parts);
        s->parts = -1;
    }
    return fd;
}

/* Else whoever had it has made it whole meanwhile: it is a file that people have. */
static bool is_part(const struct store *s, int fd, const char *name)
{
    struct stat own, there;
    return fstat(fd, &own) == 0 &&
           fstatat(s->parts, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           own.st_dev == there.st_dev && own.st_ino == there.st_ino;
}

static int copy_blocks(const struct store *s, int from, int to, uint64_t blocks)
{
    uint8_t *buf = malloc(TRANSFER_BLOCK);
    int err = buf == NULL ? POSTERN_ERR_NOMEM : 0;
    for (uint64_t i = 0; i < blocks && err == 0; i++) {
        off_t at = (off_t)(i * TRANSFER_BLOCK);
        if (s->alive != NULL)
            s->alive(s->ctx);
        if (pread(from, buf, TRANSFER_BLOCK, at) != TRANSFER_BLOCK)
            err = POSTERN_ERR_IO;
        else if (!transfer_is_zero(buf, TRANSFER_BLOCK) &&
                 pwrite(to, buf, TRANSFER_BLOCK, at) != TRANSFER_BLOCK)
            err = POSTERN_ERR_FULL;
    }
    free(buf);
    return err;
}

static bool has_blocks(int fd, uint64_t blocks)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (uint64_t)st.st_size / TRANSFER_BLOCK >= blocks;
}

/*
 * What there was of it when its sender was told is in his part; or in that of another
 * try of his, `first`, or in the file that this one has become meanwhile.
 */
static int take_blocks(struct store *s, struct store_part *p,
                       const struct transfer_file *file, int first, uint64_t from)
{
    char path[TRANSFER_PATH_LEN];
    unsigned number = 1;
    struct stat st;
    int err = POSTERN_ERR_CORRUPT;
    if (has_blocks(p->fd, from))
        return 0;
    if (first >= 0 && has_blocks(first, from))
        return copy_blocks(s, first, p->fd, from);
    for (int fd; err != 0 && (fd = open_whole(s, file, &number, path)) >= 0;) {
        if (fstat(fd, &st) == 0 && st.st_mtim.tv_sec == file->mtime_s)
            err = copy_blocks(s, fd, p->fd, from);
        (void)close(fd);
    }
    return err;
}

/* The same file is sent twice at once: the second has a part of its own. */
static int open_beside(struct store *s, char name[static 40])
{
    char own[40];
    for (unsigned i = 2; i <= BESIDE_MAX; i++) {
        (void)snprintf(own, sizeof(own), "%.32s-%u", name, i);
        int fd = open_part(s, own);
        if (fd < 0)
            return err_of(errno);
        if (lock(s, fd, 1) && is_part(s, fd, own) && ftruncate(fd, 0) == 0) {
            memcpy(name, own, sizeof(own));
            return fd;
        }
        (void)close(fd);
    }
    return POSTERN_ERR_INUSE;
}

int store_begin(struct store *s, struct store_part *p, const char *who,
                const struct transfer_file *file, uint64_t from)
{
    *p = (struct store_part){.fd = -1};
    part_name(p->name, who, file);
    int fd = open_part(s, p->name), first = -1;
    if (fd < 0)
        return err_of(errno);
    if (!lock(s, fd, LOCK_TRIES) || !is_part(s, fd, p->name)) {
        first = fd;
        fd = open_beside(s, p->name);
    }
    p->fd = fd;
    transfer_hash_begin(&p->hash);
    int err = fd < 0 ? fd : take_blocks(s, p, file, first, from);
    if (first >= 0)
        (void)close(first);
    if (err == 0 && ftruncate(fd, (off_t)(from * TRANSFER_BLOCK)) != 0)
        err = err_of(errno);
    if (err == 0 && !hash_blocks(s, fd, &p->hash, from, from * TRANSFER_BLOCK))
        err = POSTERN_ERR_IO;
    p->blocks = from;
    if (err != 0 && fd >= 0)
        (void)close(fd);
    if (err != 0)
        p->fd = -1;
    return err;
}

int store_block(struct store_part *p, const uint8_t *data, size_t len)
{
    off_t at = (off_t)(p->blocks * TRANSFER_BLOCK);
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(p->fd, data + done, len - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_of(errno) : POSTERN_ERR_FULL;
        done += (size_t)n;
    }
    transfer_hash_block(&p->hash, data, len);
    p->blocks++;
    return 0;
}

void store_zeros(struct store_part *p, uint64_t blocks)
{
    transfer_hash_zeros(&p->hash, blocks);
    p->blocks += blocks;
}

/* The same file, which another of its senders has brought meanwhile. */
static bool is_same_there(const struct store *s, int at, const char *name,
                          uint64_t size, const uint8_t hash[static TRANSFER_HASH_LEN])
{
    uint8_t own[TRANSFER_HASH_LEN];
    struct stat st;
    uint64_t blocks = transfer_blocks(size);
    int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool same = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                (uint64_t)st.st_size == size &&
                hash_of(s, fd, blocks, size, own) == blocks &&
                memcmp(own, hash, sizeof(own)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return same;
}

/*
 * Under its own name, or with a number; never in the place of another. `*there`: it is
 * there already, and the part is not needed.
 */
static int give_name(struct store *s, const struct store_part *p, uint64_t size,
                     const uint8_t hash[static TRANSFER_HASH_LEN],
                     char path[static TRANSFER_PATH_LEN], bool *there)
{
    char numbered[256];
    const char *last;
    int at = open_parent(s->dir, path, true, &last), err = POSTERN_ERR_IO;
    if (at < 0)
        return err_of(errno);
    (void)snprintf(numbered, sizeof(numbered), "%s", last);
    for (unsigned i = 2; i < NUMBERS_MAX; i++) {
        if (rename_new(s->parts, p->name, at, numbered) == 0) {
            err = 0;
            break;
        }
        if (errno != EEXIST) {
            err = err_of(errno);
            break;
        }
        *there = is_same_there(s, at, numbered, size, hash);
        if (*there) {
            err = 0;
            break;
        }
        transfer_number_name(numbered, sizeof(numbered), last, i);
    }
    (void)close(at);
    size_t parent = (size_t)(last - path);
    (void)snprintf(path + parent, TRANSFER_PATH_LEN - parent, "%s", numbered);
    return err;
}

int store_end(struct store *s, struct store_part *p, const struct transfer_file *file,
              const uint8_t hash[static TRANSFER_HASH_LEN],
              char path[static TRANSFER_PATH_LEN], bool *there)
{
    uint8_t own[TRANSFER_HASH_LEN];
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = file->mtime_s}};
    mode_t mask = umask(0);
    *there = false;
    (void)umask(mask);
    transfer_hash_so_far(&p->hash, file->size, own);
    if (p->blocks != transfer_blocks(file->size) ||
        memcmp(own, hash, sizeof(own)) != 0) {
        store_leave(s, p, true);
        return POSTERN_ERR_CORRUPT;
    }
    int err = ftruncate(p->fd, (off_t)file->size) == 0 ? 0 : err_of(errno);
    (void)fchmod(p->fd, file->mode & ~mask);
    (void)futimens(p->fd, times);
    if (err == 0 && file->size >= SYNC_BYTES && fdatasync(p->fd) != 0)
        err = err_of(errno);
    (void)snprintf(path, TRANSFER_PATH_LEN, "%s", file->path);
    if (err == 0)
        err = give_name(s, p, file->size, hash, path, there);
    store_leave(s, p, *there);
    return err;
}

void store_leave(struct store *s, struct store_part *p, bool forget)
{
    if (p->fd < 0)
        return;
    if (forget)
        (void)unlinkat(s->parts, p->name, 0);
    (void)close(p->fd);
    p->fd = -1;
}

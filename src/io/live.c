/* Live programs as locked files, named by host and session. */
#include "io/live.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "io/own_file.h"

enum {
    HOST_LEN = 8,     /* of its key, in a name */
    SCAN_MAX = 16384, /* files looked at */
    LOCK_TRIES = 20,  /* somebody may just look at the file */
    NAME_LEN = 2 * HOST_LEN + 1 + 2 * CONV_LEN,
};

struct live {
    int fd;
    uint64_t since_us;
    char path[STATEDIR_PATH_LEN + NAME_LEN + 8];
};

static int64_t clock_us(clockid_t clock)
{
    struct timespec t = {0};
    (void)clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void name_of(char name[static NAME_LEN + 1], const uint8_t host[static KEY_LEN],
                    const uint8_t conv[static CONV_LEN])
{
    sodium_bin2hex(name, 2 * HOST_LEN + 1, host, HOST_LEN);
    name[2 * HOST_LEN] = '-';
    sodium_bin2hex(name + 2 * HOST_LEN + 1, 2 * CONV_LEN + 1, conv, CONV_LEN);
}

/* Ours, locked, and still what the name stands for: 0; 1: look again. */
static int lock_file(struct live *l, const struct statedir *s)
{
    struct stat file, named;
    l->fd = own_file_open(s->path, l->path, O_WRONLY);
    if (l->fd < 0)
        return -1;
    if (flock(l->fd, LOCK_EX | LOCK_NB) == 0 && fstat(l->fd, &file) == 0 &&
        stat(l->path, &named) == 0 && file.st_ino == named.st_ino &&
        file.st_dev == named.st_dev)
        return 0;
    int again = errno == EWOULDBLOCK || errno == EINTR || errno == ENOENT || errno == 0;
    close(l->fd);
    return again ? 1 : -1;
}

static void make_dir(const struct statedir *s, const char *path)
{
    if (mkdir(path, 0700) != 0)
        return;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    own_file_give(s->path, fd);
    (void)close(fd);
}

struct live *live_hold(const struct statedir *s, const uint8_t host[static KEY_LEN],
                       const uint8_t conv[static CONV_LEN])
{
    char name[NAME_LEN + 1];
    struct live *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    name_of(name, host, conv);
    (void)snprintf(l->path, sizeof(l->path), "%s/live", s->path);
    make_dir(s, l->path);
    (void)snprintf(l->path, sizeof(l->path), "%s/live/%s", s->path, name);
    for (int i = 0; i < LOCK_TRIES; i++) {
        struct timespec pause = {.tv_nsec = 1000000};
        errno = 0;
        int rc = lock_file(l, s);
        if (rc == 0) {
            l->since_us = (uint64_t)clock_us(CLOCK_MONOTONIC);
            return l;
        }
        if (rc < 0)
            break;
        (void)nanosleep(&pause, NULL);
    }
    free(l);
    return NULL;
}

uint64_t live_since_us(const struct live *l)
{
    return l->since_us;
}

void live_release(struct live *l)
{
    if (l == NULL)
        return;
    (void)unlink(l->path);
    close(l->fd);
    free(l);
}

/* Whether somebody holds it; removed when nobody does. Negative when it is not known.
 */
static int is_held(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    int held = -1;
    if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
        (void)unlinkat(dir, name, 0);
        held = 0;
    } else if (errno == EWOULDBLOCK) {
        held = 1;
    }
    close(fd);
    return held;
}

/* What a restart or a copy of the directory changes. */
static bool find_scope(int dir, uint8_t scope[static LIVE_SCOPE_LEN])
{
    struct {
        uint8_t boot[64];
        uint64_t device, inode;
    } place = {0};
    struct stat st;
    uint8_t hash[crypto_generichash_BYTES_MIN];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, place.boot, sizeof(place.boot)) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0 || fstat(dir, &st) != 0)
        return false;
    place.device = st.st_dev;
    place.inode = st.st_ino;
    (void)crypto_generichash(hash, sizeof(hash), (const uint8_t *)&place, sizeof(place),
                             NULL, 0);
    memcpy(scope, hash, LIVE_SCOPE_LEN);
    return true;
}

bool live_list(const struct statedir *s, const uint8_t host[static KEY_LEN],
               uint8_t scope[static LIVE_SCOPE_LEN], uint64_t *at_us, uint8_t *convs,
               size_t max, size_t *count)
{
    char path[STATEDIR_PATH_LEN + 8], prefix[2 * HOST_LEN + 1];
    unsigned seen = 0;
    bool whole = true;
    *count = 0;
    *at_us = (uint64_t)clock_us(CLOCK_MONOTONIC);
    (void)snprintf(path, sizeof(path), "%s/live", s->path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        (void)close(fd);
    if (dir == NULL)
        return false;
    whole = find_scope(dirfd(dir), scope);
    sodium_bin2hex(prefix, sizeof(prefix), host, HOST_LEN);
    for (struct dirent *e; whole && (e = readdir(dir)) != NULL;) {
        uint8_t conv[CONV_LEN];
        size_t len;
        if (strlen(e->d_name) != NAME_LEN ||
            sodium_hex2bin(conv, sizeof(conv), e->d_name + 2 * HOST_LEN + 1,
                           (size_t)2 * CONV_LEN, NULL, &len, NULL) != 0 ||
            len != CONV_LEN)
            continue;
        int held = is_held(dirfd(dir), e->d_name);
        bool ours = strncmp(e->d_name, prefix, sizeof(prefix) - 1) == 0;
        if (held > 0 && ours && *count < max)
            memcpy(convs + CONV_LEN * (*count)++, conv, CONV_LEN);
        else if (held < 0 || (held > 0 && ours) || ++seen > SCAN_MAX)
            whole = false;
    }
    (void)closedir(dir);
    return whole;
}

/* --------------------------------------------------------------------------- sleep */

static bool says(const char *supply, const char *file, const char *word)
{
    char path[384], text[32] = "";
    (void)snprintf(path, sizeof(path), "/sys/class/power_supply/%.255s/%s", supply,
                   file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 && strncmp(text, word, strlen(word)) == 0;
}

/* Of the machine: not of its mouse, whose scope is "Device". */
static bool has_battery(void)
{
    bool found = false;
    DIR *dir = opendir("/sys/class/power_supply");
    if (dir == NULL)
        return false;
    for (struct dirent *e; !found && (e = readdir(dir)) != NULL;)
        found = e->d_name[0] != '.' && says(e->d_name, "type", "Battery") &&
                !says(e->d_name, "scope", "Device");
    (void)closedir(dir);
    return found;
}

bool live_machine_sleeps(void)
{
    return clock_us(CLOCK_BOOTTIME) - clock_us(CLOCK_MONOTONIC) > 1000000 ||
           has_battery();
}

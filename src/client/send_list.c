/* Walks directories; reads no file. */
#include "client/send_list.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/lack.h"
#include "io/log.h"

enum { ODD_NAMED = 5 }; /* of links and the like: a tree may be full of them */

static int file_fault(const char *path, int e, struct fault *f)
{
    return fault_set(f, e == ENOENT ? POSTERN_ERR_NOTFOUND : POSTERN_ERR_PERM,
                     e == ENOENT ? "check its name" : "make it readable",
                     "%.200s cannot be sent: %s", path, strerror(e));
}

/* What was named must be there; of what is in it the rest is sent. */
static int pass_over(struct send_list *l, const char *path, bool named, int e,
                     struct fault *f)
{
    if (named)
        return file_fault(path, e, f);
    log_warn("%.200s is not sent: %s", path, strerror(e));
    l->passed_over++;
    return 0;
}

static struct send_item *append(struct send_list *l)
{
    if (l->count == l->room) {
        size_t room = l->room == 0 ? 16 : 2 * l->room;
        void *items = realloc(l->items, room * sizeof(*l->items));
        if (items == NULL)
            return NULL;
        l->items = items;
        l->room = room;
    }
    l->items[l->count] = (struct send_item){0};
    return &l->items[l->count++];
}

static int add_item(struct send_list *l, const char *from, const char *name,
                    const struct stat *st, struct fault *f)
{
    if (l->count == TRANSFER_FILES_MAX)
        return fault_set(f, POSTERN_ERR_LIMIT, "send fewer at once, or an archive",
                         "these are more than %d files", TRANSFER_FILES_MAX);
    char *copy = strdup(from);
    struct send_item *item = copy != NULL ? append(l) : NULL;
    if (item == NULL) {
        free(copy);
        return fault_lack(f, POSTERN_ERR_NOMEM);
    }
    item->from = copy;
    uint64_t stored = (uint64_t)st->st_blocks * 512;
    item->file.directory = S_ISDIR(st->st_mode);
    item->file.mode = (uint16_t)(st->st_mode & 0777);
    item->file.size = item->file.directory ? 0 : (uint64_t)st->st_size;
    item->file.mtime_s = st->st_mtim.tv_sec;
    item->mtime = st->st_mtim;
    item->bytes = stored < item->file.size ? stored : item->file.size;
    (void)snprintf(item->file.path, sizeof(item->file.path), "%s", name);
    return 0;
}

static int walk(struct send_list *l, const char *from, const char *name, bool named,
                struct fault *f);

static int walk_directory(struct send_list *l, const char *from, const char *name,
                          bool named, struct fault *f)
{
    DIR *d = opendir(from);
    int err = d == NULL ? pass_over(l, from, named, errno, f) : 0;
    for (struct dirent *e; d != NULL && err == 0 && (e = readdir(d)) != NULL;) {
        char path[PATH_MAX], inner[TRANSFER_PATH_LEN];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", from, e->d_name);
        int m = snprintf(inner, sizeof(inner), "%s/%s", name, e->d_name);
        if ((size_t)n >= sizeof(path) || (size_t)m >= sizeof(inner))
            err = pass_over(l, from, false, ENAMETOOLONG, f);
        else
            err = walk(l, path, inner, false, f);
    }
    if (d != NULL)
        (void)closedir(d);
    return err;
}

/* A state directory: who has its keys is that device. */
static bool holds_keys(const char *directory)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof(path), "%s/device.db", directory);
    return (size_t)n < sizeof(path) && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int walk(struct send_list *l, const char *from, const char *name, bool named,
                struct fault *f)
{
    struct stat st;
    if (lstat(from, &st) != 0)
        return pass_over(l, from, named, errno, f);
    if (S_ISDIR(st.st_mode) && !named && holds_keys(from)) {
        log_warn("%.200s holds a device's private key, and is not sent; name it to "
                 "send it all the same",
                 from);
        return 0;
    }
    if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) {
        int err = add_item(l, from, name, &st, f);
        return err == 0 && S_ISDIR(st.st_mode) ? walk_directory(l, from, name, named, f)
                                               : err;
    }
    const char *what = S_ISLNK(st.st_mode) ? "a symbolic link" : "no regular file";
    if (named)
        return fault_set(f, POSTERN_ERR_INVALID,
                         S_ISLNK(st.st_mode) ? "name what it leads to"
                                             : "name a file or a directory",
                         "%.200s is %s", from, what);
    if (l->odd++ < ODD_NAMED)
        log_warn("%s is %s, and is not sent", from, what);
    return 0;
}

/* "." and "dir/" are called what they are called. */
int send_list_add(struct send_list *l, const char *path, struct fault *f)
{
    char real[PATH_MAX];
    char plain[PATH_MAX];
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len >= sizeof(plain))
        return file_fault(path, ENAMETOOLONG, f);
    (void)snprintf(plain, sizeof(plain), "%.*s", (int)len, path);
    const char *slash = strrchr(plain, '/'), *name = slash ? slash + 1 : plain;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        if (realpath(plain, real) == NULL)
            return file_fault(path, errno, f);
        name = strrchr(real, '/') + 1;
        if (name[0] == '\0')
            name = "root";
    }
    return walk(l, plain, name, true, f);
}

void send_list_tell_odd(const struct send_list *l)
{
    if (l->odd > ODD_NAMED)
        log_warn("%zu more are links or no regular files, and are not sent",
                 l->odd - ODD_NAMED);
}

void send_list_fini(struct send_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i].from);
    free(l->items);
    *l = (struct send_list){0};
}

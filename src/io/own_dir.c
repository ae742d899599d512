/* Looks at the directory, its secrets, and each directory above; keeps nothing. */
#include "io/own_dir.h"

#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PASSWD_LEN = 4096 };

static int refuse_open(const char *what, const char *mode, const char *path,
                       struct fault *f)
{
    char advice[240];
    (void)snprintf(advice, sizeof(advice), "run 'chmod %s %.200s'", mode, path);
    return fault_set(f, POSTERN_ERR_PERM, advice, "%s: %.200s", what, path);
}

/*
 * On a mount of root's that was made writable for who is not root, as Kubernetes does
 * it (emptyDir 0777, fsGroup 2775): what is there, and its modes, is the affair of who
 * mounts it, and nothing that this program could change.
 */
static bool is_on_volume(const char *dir)
{
    char at[PATH_MAX], below[PATH_MAX];
    struct stat st, above;
    if (geteuid() == 0 || stat(dir, &st) != 0)
        return false;
    (void)snprintf(at, sizeof(at), "%s", dir);
    for (char *slash; (slash = strrchr(at, '/')) != NULL && at[1] != '\0'; st = above) {
        (void)snprintf(below, sizeof(below), "%s", at);
        slash[slash == at ? 1 : 0] = '\0';
        if (stat(at, &above) != 0)
            return false;
        if (above.st_dev != st.st_dev)
            return st.st_uid == 0 && (st.st_mode & S_ISVTX) == 0 &&
                   access(below, W_OK) == 0;
    }
    return false;
}

/* Whoever may write to the directory can put another key there. */
static int check_openness(const char *path, const struct stat *st, struct fault *f)
{
    static const char *const secrets[] = {"device.db", "host.db", "broker.db"};
    mode_t open =
        (st->st_mode & S_IXGRP ? S_IRWXG : 0) | (st->st_mode & S_IXOTH ? S_IRWXO : 0);
    if ((st->st_mode & S_IWOTH) != 0)
        return fault_set(f, POSTERN_ERR_PERM,
                         "run 'chmod 700' on it, or choose another",
                         "everybody may write to the state directory %.200s", path);
    if ((st->st_mode & S_IWGRP) != 0)
        return refuse_open("a group may write to the state directory", "700", path, f);
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        char file[PATH_MAX];
        struct stat in;
        int n = snprintf(file, sizeof(file), "%s/%s", path, secrets[i]);
        if ((size_t)n < sizeof(file) && lstat(file, &in) == 0 && S_ISREG(in.st_mode) &&
            (in.st_mode & open) != 0)
            return refuse_open("others may read the keys in a file", "600", file, f);
    }
    return 0;
}

/* The group in which only that user is, where users have such groups, or root's. */
static bool is_own_group(const struct stat *st)
{
    char text[PASSWD_LEN];
    struct passwd p, *found = NULL;
    if (st->st_gid == 0 || (st->st_uid == geteuid() && st->st_gid == getegid()))
        return true;
    return getpwuid_r(st->st_uid, &p, text, sizeof(text), &found) == 0 &&
           found != NULL && found->pw_gid == st->st_gid;
}

/* In a sticky one (/tmp) nobody takes away what is another's. */
static bool others_may_write(const struct stat *st)
{
    if ((st->st_mode & S_ISVTX) != 0)
        return false;
    return (st->st_mode & S_IWOTH) != 0 ||
           ((st->st_mode & S_IWGRP) != 0 && !is_own_group(st));
}

/* As ssh does it: what is above somebody's home is the machine's affair. */
static bool is_above_home(const char *at, const char *dir, uid_t owner)
{
    char text[PASSWD_LEN], home[PATH_MAX];
    struct passwd p, *found = NULL;
    if (getpwuid_r(owner, &p, text, sizeof(text), &found) != 0 || found == NULL ||
        realpath(found->pw_dir, home) == NULL)
        return false;
    size_t len = strlen(home), above = strlen(at);
    return above < len && strncmp(dir, home, len) == 0 &&
           (dir[len] == '/' || dir[len] == '\0');
}

static int check_above(const char *dir, uid_t owner, struct fault *f)
{
    char at[PATH_MAX];
    struct stat st;
    (void)snprintf(at, sizeof(at), "%s", dir);
    for (char *slash; (slash = strrchr(at, '/')) != NULL && at[1] != '\0';) {
        slash[slash == at ? 1 : 0] = '\0';
        if (stat(at, &st) != 0 || !others_may_write(&st) ||
            is_above_home(at, dir, owner))
            continue;
        char advice[240];
        (void)snprintf(advice, sizeof(advice),
                       "run 'chmod go-w %.130s', or choose another with --state", at);
        return fault_set(f, POSTERN_ERR_PERM, advice,
                         "others may write to %.120s, and so put another state "
                         "directory in the place of %.120s",
                         at, dir);
    }
    return 0;
}

int own_dir_check(const char *dir, uid_t owner, struct fault *f)
{
    struct stat st;
    if (lstat(dir, &st) != 0)
        return 0;
    if (!S_ISDIR(st.st_mode))
        return fault_set(f, POSTERN_ERR_PERM, "end this program and start it again",
                         "the state directory %.200s was replaced by %s", dir,
                         S_ISLNK(st.st_mode) ? "a link" : "what is no directory");
    if (owner != OWN_DIR_ANYBODY && st.st_uid != owner)
        return fault_set(f, POSTERN_ERR_PERM, "put the one from before back",
                         "the state directory %.180s belongs to user %u now, not to "
                         "user %u as before",
                         dir, (unsigned)st.st_uid, (unsigned)owner);
    if (is_on_volume(dir))
        return 0;
    int err = check_openness(dir, &st, f);
    return err != 0 ? err : check_above(dir, st.st_uid, f);
}

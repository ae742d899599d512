/*
 * Finds and guards the state directory and keeps the device key in it. It draws the
 * random bytes of keys itself; which role uses them is not known here.
 */
#include "io/statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/db.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/own_dir.h"
#include "io/own_file.h"
#include "io/procstat.h"

enum {
    LOCK_PATIENCE_MS = 2000,
    LOCK_TELL_MS = 1000,
    LOCK_STEP_MS = 20,
    MADE_TRIES = 20,
    MADE_PAUSE_MS = 50,
    PASSWD_LEN = 4096
};

static const char *const key_migrations[] = {
    "CREATE TABLE device_key ("
    " serial INTEGER PRIMARY KEY AUTOINCREMENT," /* the greatest is the current one */
    " seed BLOB NOT NULL,"
    " made_s INTEGER NOT NULL)",
};

static int state_fault(struct fault *f, int e, const char *path)
{
    struct stat st;
    switch (e) {
    case EMFILE:
    case ENFILE:
        errno = e;
        return fault_lack(f, POSTERN_ERR_LIMIT);
    case EACCES:
    case EPERM:
        if (stat(path, &st) == 0 && st.st_uid == geteuid())
            return fault_set(f, POSTERN_ERR_PERM, "run 'chmod 700' on it",
                             "the state directory %.200s is this user's, and its mode "
                             "forbids to use it",
                             path);
        return fault_set(f, POSTERN_ERR_PERM,
                         "run as the user who owns it, or choose another with --state",
                         "no permission to use the state directory %.200s", path);
    case EROFS:
        return fault_set(f, POSTERN_ERR_PERM, "choose another with --state",
                         "the state directory %.200s is on a read-only disk", path);
    case ENOTDIR:
    case EEXIST:
        return fault_set(f, POSTERN_ERR_INVALID, "choose another with --state",
                         "the state directory %.200s is not a directory", path);
    case ELOOP:
        return fault_set(f, POSTERN_ERR_PERM,
                         "take it away, or choose another with --state",
                         "what stands at %.200s is a link, or no file of the "
                         "directory's owner",
                         path);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return fault_set(f, POSTERN_ERR_FULL, "free some space there and try again",
                         "the disk is full: %.200s cannot be made", path);
    default:
        return fault_set(f, POSTERN_ERR_IO, "choose another with --state",
                         "the state directory %.200s cannot be used: %s", path,
                         strerror(e));
    }
}

/* Of HOME, or where that says nothing (cron, systemd, env -i) of the user's entry. */
static int below_home(char *path, size_t cap)
{
    const char *home = getenv("HOME");
    char text[PASSWD_LEN];
    struct passwd p, *found = NULL;
    if ((home == NULL || home[0] == '\0') &&
        getpwuid_r(geteuid(), &p, text, sizeof(text), &found) == 0 && found != NULL)
        home = p.pw_dir;
    return home != NULL && home[0] == '/'
               ? snprintf(path, cap, "%s/.local/state/postern", home)
               : -1;
}

static int choose_path(char *path, size_t cap, const char *option)
{
    const char *env = getenv("POSTERN_STATE");
    const char *xdg = getenv("XDG_STATE_HOME");
    int n;
    path[0] = '\0';
    if (option != NULL)
        n = snprintf(path, cap, "%s", option);
    else if (env != NULL && env[0] != '\0')
        n = snprintf(path, cap, "%s", env);
    else if (geteuid() == 0)
        n = snprintf(path, cap, STATEDIR_ROOT);
    else if (xdg != NULL && xdg[0] == '/')
        n = snprintf(path, cap, "%s/postern", xdg);
    else
        n = below_home(path, cap);
    return n > 0 && (size_t)n < cap && strncmp(path, "~/", 2) != 0
               ? 0
               : POSTERN_ERR_INVALID;
}

/*
 * Root makes it as the owner of the one above, who is to go on with it: with that
 * user's rights, so that nothing there leads elsewhere and nothing is given away.
 */
static int make_one(const char *dir)
{
    char above[STATEDIR_PATH_LEN];
    struct stat st;
    (void)snprintf(above, sizeof(above), "%s", dir);
    char *slash = strrchr(above, '/');
    if (slash == NULL)
        (void)snprintf(above, sizeof(above), ".");
    else
        slash[slash == above ? 1 : 0] = '\0';
    if (geteuid() != 0 || stat(above, &st) != 0 || st.st_uid == 0)
        return mkdir(dir, 0700);
    gid_t group = getegid();
    (void)setfsgid(st.st_gid);
    (void)setfsuid(st.st_uid);
    int rc = mkdir(dir, 0700), err = errno;
    (void)setfsuid(0);
    (void)setfsgid(group);
    errno = err;
    return rc;
}

/* mkdir -p, all of them private; errno is left on failure. */
static int make_dirs(const char *path)
{
    char part[STATEDIR_PATH_LEN];
    (void)snprintf(part, sizeof(part), "%s", path);
    for (char *at = part + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (make_one(part) != 0 && errno != EEXIST) {
            int err = errno; /* of a directory that is there it says nothing */
            if (access(part, F_OK) != 0) {
                errno = err;
                return -1;
            }
        }
        *at = '/';
    }
    return make_one(part) == 0 || errno == EEXIST ? 0 : -1;
}

/* Who became root with sudo, in a directory of their own, knows whose it is. */
static bool is_of_who_called(const struct stat *st)
{
    const char *uid = getenv("SUDO_UID");
    return uid != NULL && uid[0] != '\0' && strtoul(uid, NULL, 10) == st->st_uid;
}

/*
 * As ssh does it: what another user owns is refused, but to root, who may use anybody's
 * (with sudo, for one).
 */
static int check_owner(const char *path, const struct stat *st, struct fault *f)
{
    if (st->st_uid == geteuid() || st->st_uid == 0)
        return 0;
    if (geteuid() != 0)
        return fault_set(f, POSTERN_ERR_PERM, "choose another with --state",
                         "the state directory %.200s belongs to user %u", path,
                         (unsigned)st->st_uid);
    if (is_of_who_called(st))
        return 0;
    /* No cure is named: whose it should be is theirs to know, and may well be so. */
    log_warn("root works here with the keys and lists of user %u (%.200s): all right "
             "if that is you, as another than that user can change them",
             (unsigned)st->st_uid, path);
    return 0;
}

/* `path`: as choose_path left it, which did not take it. */
static int nameless(const char *path, struct fault *f)
{
    if (strncmp(path, "~/", 2) == 0)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "write $HOME in place of ~, or leave a space before it",
                         "the shell has left the ~ of the state directory %.200s as it "
                         "stands",
                         path);
    return fault_set(f, POSTERN_ERR_INVALID, "name one with --state DIR",
                     "there is no usable state directory: HOME is not set and the list "
                     "of users names no home, or the name is empty or too long");
}

/* One that is there. */
static int take_dir(struct statedir *s, const char *path, struct fault *f)
{
    char real[PATH_MAX];
    struct stat st;
    if (stat(path, &st) != 0)
        return state_fault(f, errno, path);
    if (!S_ISDIR(st.st_mode))
        return state_fault(f, ENOTDIR, path);
    int rc = check_owner(path, &st, f);
    if (rc != 0)
        return rc;
    if (realpath(path, real) == NULL)
        return state_fault(f, errno, path);
    if (strlen(real) >= sizeof(s->path))
        return state_fault(f, ENAMETOOLONG, path);
    if (access(real, R_OK | X_OK) != 0)
        return state_fault(f, errno, path);
    memcpy(s->path, real, strlen(real) + 1);
    s->owner = st.st_uid;
    s->has_owner = true;
    return own_dir_check(real, st.st_uid, f);
}

/* What was looked at when it was opened, again: another may stand at its path now. */
static int check_again(const struct statedir *s, struct fault *f)
{
    return s->has_owner ? own_dir_check(s->path, s->owner, f) : 0;
}

int statedir_open(struct statedir *s, const char *option, struct fault *f)
{
    char path[STATEDIR_PATH_LEN];
    if (choose_path(path, sizeof(path), option) != 0)
        return nameless(path, f);
    if (make_dirs(path) != 0)
        return state_fault(f, errno, path);
    return take_dir(s, path, f);
}

int statedir_open_known(struct statedir *s, const char *option, struct fault *f)
{
    char path[STATEDIR_PATH_LEN];
    struct stat st;
    if (choose_path(path, sizeof(path), option) != 0)
        return nameless(path, f);
    if (stat(path, &st) != 0 && errno == ENOENT) {
        s->has_owner = false;
        memcpy(s->path, path, strlen(path) + 1);
        return 0;
    }
    return take_dir(s, path, f);
}

int statedir_find(struct statedir *s, const char *option)
{
    char path[STATEDIR_PATH_LEN], real[PATH_MAX];
    if (choose_path(path, sizeof(path), option) != 0 || realpath(path, real) == NULL ||
        strlen(real) >= sizeof(s->path))
        return POSTERN_ERR_NOTFOUND;
    s->has_owner = false;
    memcpy(s->path, real, strlen(real) + 1);
    return 0;
}

/* Who may write to /proc, as the kernel says, makes nothing there all the same. */
static bool takes_directories(const char *at)
{
    char trial[STATEDIR_PATH_LEN + 32];
    (void)snprintf(trial, sizeof(trial), "%s/.postern-check-XXXXXX", at);
    return mkdtemp(trial) != NULL && rmdir(trial) == 0;
}

int statedir_check_place(const char *option, struct fault *f)
{
    char path[STATEDIR_PATH_LEN], at[STATEDIR_PATH_LEN];
    struct stat st;
    if (choose_path(path, sizeof(path), option) != 0)
        return nameless(path, f);
    (void)snprintf(at, sizeof(at), "%s", path);
    while (stat(at, &st) != 0) { /* the nearest that is there */
        char *slash = strrchr(at, '/');
        if (errno != ENOENT)
            return state_fault(f, errno, path);
        if (slash == NULL)
            (void)snprintf(at, sizeof(at), ".");
        else
            slash[slash == at ? 1 : 0] = '\0';
    }
    if (!S_ISDIR(st.st_mode))
        return state_fault(f, ENOTDIR, path);
    if (access(at, W_OK | X_OK) != 0)
        return state_fault(f, errno, path);
    return strcmp(at, path) == 0 || takes_directories(at) ? 0
                                                          : state_fault(f, errno, path);
}

/* A disk that takes no new file: an old one serves as well, or the directory itself. */
static int open_what_is_there(const struct statedir *s, const char *path)
{
    int fd = own_file_read(s->path, path);
    return fd >= 0 ? fd : open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* One that is told to end and started anew at once: the old one takes its leave first.
 */
static bool lock_within(int fd, const char *role, unsigned patience_ms)
{
    for (unsigned ms = 0;; ms += LOCK_STEP_MS) {
        if (ms == LOCK_TELL_MS)
            log_warn("waiting: a 'postern %s' runs with this state directory; it may "
                     "be about to end",
                     role);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK || ms >= patience_ms)
            return false;
        (void)usleep(LOCK_STEP_MS * 1000);
    }
}

static int already_held(const struct statedir *s, const char *role, const char *pid,
                        struct fault *f)
{
    struct statedir_holder h;
    char advice[120] = "stop that one first, or use another directory with --state";
    if (statedir_held(s, role, &h) && h.stopped)
        (void)snprintf(advice, sizeof(advice),
                       "it is stopped: let it go on with 'kill -CONT %ld'", h.pid);
    return fault_set(f, POSTERN_ERR_INUSE, advice,
                     "'postern %s' already runs with %.200s%s%s%s", role, s->path,
                     pid[0] ? " (process " : "", pid, pid[0] ? ")" : "");
}

static int take_lock(const struct statedir *s, const char *role, unsigned patience_ms,
                     int *fd, struct fault *f)
{
    char path[PATH_MAX], pid[16] = "";
    (void)snprintf(path, sizeof(path), "%s/%s.lock", s->path, role);
    int lock = own_file_open(s->path, path, O_RDWR);
    if (lock < 0 && (errno == EROFS || errno == ENOSPC || errno == EDQUOT))
        lock = open_what_is_there(s, path);
    if (lock < 0 && errno == EACCES && own_file_of_another(path, f) != 0)
        return POSTERN_ERR_PERM;
    if (lock < 0)
        return state_fault(f, errno, errno == ELOOP ? path : s->path);
    if (!lock_within(lock, role, patience_ms)) {
        ssize_t n = pread(lock, pid, sizeof(pid) - 1, 0);
        pid[n > 0 ? n : 0] = '\0';
        pid[strspn(pid, "0123456789")] = '\0';
        (void)close(lock);
        return already_held(s, role, pid, f);
    }
    int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(lock, 0) != 0 || pwrite(lock, pid, (size_t)n, 0) != n)
        errno = 0; /* only a hint for people: a full disk does not matter here */
    *fd = lock;
    return 0;
}

int statedir_lock(const struct statedir *s, const char *role, int *fd, struct fault *f)
{
    return take_lock(s, role, LOCK_PATIENCE_MS, fd, f);
}

static bool is_at(const struct stat *st, const char *path)
{
    struct stat there;
    return stat(path, &there) == 0 && there.st_dev == st->st_dev &&
           there.st_ino == st->st_ino;
}

int statedir_lock_keep(const struct statedir *s, const char *role, int *fd, bool *moved,
                       struct fault *f)
{
    char path[PATH_MAX];
    struct stat st;
    int fresh = -1;
    *moved = false;
    (void)snprintf(path, sizeof(path), "%s/%s.lock", s->path, role);
    if (fstat(*fd, &st) != 0 || is_at(&st, path) || is_at(&st, s->path) ||
        access(s->path, F_OK) != 0 || check_again(s, NULL) != 0)
        return 0;
    int err = take_lock(s, role, 0, &fresh, f);
    if (err == POSTERN_ERR_INUSE)
        return err;
    if (err != 0) { /* no room, no right: as good as it was, and looked at again */
        *f = (struct fault){0};
        return 0;
    }
    (void)close(*fd);
    *fd = fresh;
    *moved = true;
    return 0;
}

bool statedir_held(const struct statedir *s, const char *role,
                   struct statedir_holder *h)
{
    char path[PATH_MAX], pid[16] = "";
    (void)snprintf(path, sizeof(path), "%s/%s.lock", s->path, role);
    *h = (struct statedir_holder){0};
    int lock = own_file_read(s->path, path);
    if (lock < 0)
        return false;
    bool held = flock(lock, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (held && pread(lock, pid, sizeof(pid) - 1, 0) > 0)
        h->pid = strtol(pid, NULL, 10);
    char state = h->pid > 0 ? procstat_of(h->pid).state : '\0';
    h->stopped = state == 'T' || state == 't';
    h->runs = state == 'R';
    h->turns = h->pid > 0 ? procstat_turns(h->pid) : 0;
    (void)close(lock); /* and what was locked for the look */
    return held;
}

void statedir_socket(const struct statedir *s, const char *role,
                     char path[static STATEDIR_SOCKET_LEN])
{
    (void)snprintf(path, STATEDIR_SOCKET_LEN, "%s/%.20s.sock", s->path, role);
}

static int open_keys(const struct statedir *s, struct db **db, struct fault *f)
{
    int err = check_again(s, f);
    if (err != 0)
        return err;
    return db_open(db, s->path, "device.db", key_migrations,
                   sizeof(key_migrations) / sizeof(key_migrations[0]), f);
}

bool statedir_key_changed(const struct statedir *s, struct statedir_mark *m)
{
    char path[PATH_MAX];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/device.db", s->path);
    if (stat(path, &st) != 0)
        return false;
    struct statedir_mark before = *m;
    m->file = (uint64_t)st.st_ino;
    m->changed_ns =
        (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    return before.file != 0 &&
           (before.file != m->file || before.changed_ns != m->changed_ns);
}

/* Keys from the newest on, skipping `skip`; returns their number or an error. */
static int read_keys(struct db *db, struct keypair *out, size_t max, int64_t skip)
{
    size_t n = 0;
    struct db_stmt s = db_prepare(db, "SELECT seed FROM device_key "
                                      "ORDER BY serial DESC LIMIT ? OFFSET ?");
    db_bind_int(&s, (int64_t)max);
    db_bind_int(&s, skip);
    while (n < max && db_step(&s)) {
        uint8_t seed[KEY_LEN];
        db_column_blob(&s, 0, seed, sizeof(seed));
        keypair_from_seed(&out[n++], seed);
        sodium_memzero(seed, sizeof(seed));
    }
    int err = db_finish(&s);
    return err != 0 ? err : (int)n;
}

static int insert_key(struct db *db, struct keypair *kp, int64_t now_s)
{
    uint8_t seed[KEY_LEN];
    randombytes_buf(seed, sizeof(seed));
    keypair_from_seed(kp, seed);
    struct db_stmt s =
        db_prepare(db, "INSERT INTO device_key(seed, made_s) VALUES(?, ?)");
    db_bind_blob(&s, seed, sizeof(seed));
    db_bind_int(&s, now_s);
    int err = db_exec(&s);
    sodium_memzero(seed, sizeof(seed));
    return err;
}

bool statedir_has(const char *dir, const char *file)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, file);
    return access(path, F_OK) == 0 || errno != ENOENT;
}

/* Beside one that has just started it is about to be made. */
static bool is_missing(const struct statedir *s, const char *role, const char *file,
                       struct statedir_holder *h)
{
    const struct timespec pause = {.tv_nsec = MADE_PAUSE_MS * 1000000L};
    for (int i = 0; i < MADE_TRIES; i++) {
        if (statedir_has(s->path, file) || !statedir_held(s, role, h))
            return false;
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

int statedir_check_beside(const struct statedir *s, const char *role, const char *file,
                          struct fault *f)
{
    struct statedir_holder h;
    if (!is_missing(s, role, file, &h))
        return 0;
    char advice[160];
    (void)snprintf(advice, sizeof(advice),
                   "restore it from a backup, or end 'postern %s' and start it again "
                   "to begin anew without what was in it",
                   role);
    return fault_set(f, POSTERN_ERR_CORRUPT, advice,
                     "%.200s/%s was removed beside the running 'postern %s' (process "
                     "%ld), which goes by what it held",
                     s->path, file, role, h.pid);
}

/*
 * Databases of devices are made after the key (statedir_key_first): one that stands
 * without it was restored or copied by halves, and what it says is of another key.
 */
static int check_half(const struct statedir *s, struct fault *f)
{
    static const char *const files[] = {"host.db", "book.db"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (!statedir_has(s->path, files[i]) ||
            statedir_has(s->path, "device.db")) /* in this order */
            continue;
        return fault_set(f, POSTERN_ERR_CORRUPT,
                         "restore it from a backup, or move that away to begin anew "
                         "as another device",
                         "%.200s/device.db, this device's key, is missing beside %s",
                         s->path, files[i]);
    }
    return 0;
}

int statedir_key_first(const char *dir, struct fault *f)
{
    struct statedir s = {.has_owner = false};
    struct keypair kp;
    if (strlen(dir) >= sizeof(s.path))
        return state_fault(f, ENAMETOOLONG, dir);
    memcpy(s.path, dir, strlen(dir) + 1);
    if (statedir_has(s.path, "device.db"))
        return 0;
    int err = statedir_key(&s, &kp, f);
    sodium_memzero(&kp, sizeof(kp));
    return err;
}

int statedir_key(const struct statedir *s, struct keypair *kp, struct fault *f)
{
    struct db *db = NULL;
    int err = sodium_init() < 0 ? POSTERN_ERR_IO : 0;
    if (err != 0)
        return fault_set(f, err, "reinstall libsodium", "libsodium does not start");
    err = check_half(s, f);
    if (err != 0)
        return err;
    err = open_keys(s, &db, f);
    if (err != 0)
        return err;
    err = read_keys(db, kp, 1, 0);
    if (err == 0) {
        err = db_begin(db);
        if (err == 0) {
            err = read_keys(db, kp, 1, 0); /* another process may have been faster */
            if (err == 0)
                err = insert_key(db, kp, statedir_now_s());
            err = db_end(db, err < 0 ? err : 0);
        }
    }
    if (err < 0)
        (void)db_fault(db, err, f);
    db_close(db);
    return err < 0 ? err : 0;
}

int statedir_key_rotate(const struct statedir *s, struct keypair *fresh, int64_t now_s,
                        struct fault *f)
{
    struct db *db = NULL;
    int err = statedir_key(s, fresh, f); /* a first key, so that there is an old one */
    if (err == 0)
        err = open_keys(s, &db, f);
    if (err != 0)
        return err;
    err = insert_key(db, fresh, now_s);
    if (err != 0)
        (void)db_fault(db, err, f);
    db_close(db);
    return err;
}

int statedir_old_keys(const struct statedir *s, struct keypair *out, size_t max,
                      struct fault *f)
{
    struct db *db = NULL;
    int n = open_keys(s, &db, f);
    if (n != 0)
        return n;
    n = read_keys(db, out, max, 1);
    if (n < 0)
        (void)db_fault(db, n, f);
    db_close(db);
    return n;
}

int64_t statedir_now_s(void)
{
    return (int64_t)time(NULL);
}

/*
 * The state directory: where it is, who may use it at once, and the device key in it.
 * What roles keep in their databases is not known here.
 */
#ifndef POSTERN_IO_STATEDIR_H
#define POSTERN_IO_STATEDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/key.h"

#define STATEDIR_PATH_LEN 3072
#define STATEDIR_ROOT "/var/lib/postern" /* root's, where none is named */
#define STATEDIR_SOCKET_LEN (STATEDIR_PATH_LEN + 32)

struct statedir {
    char path[STATEDIR_PATH_LEN]; /* absolute */
    uid_t owner;                  /* when it was opened */
    bool has_owner;
};

/*
 * Finds the directory (`option` if not NULL, then POSTERN_STATE, then
 * /var/lib/postern as root, then XDG_STATE_HOME/postern, then
 * ~/.local/state/postern) and creates it with mode 0700 when it is missing, its
 * parents too. An existing one that others may write to or replace, or of another
 * user, or with secrets in it that others may read, is refused (io/own_dir.h); and
 * what takes a key or a lock anew looks again.
 */
MUST_CHECK int statedir_open(struct statedir *s, const char *option, struct fault *f);

/*
 * The same for who only shows: makes none. Where there is none yet `s` is its path all
 * the same, which has no file and no daemon.
 */
MUST_CHECK int statedir_open_known(struct statedir *s, const char *option,
                                   struct fault *f);
/* The same directory where it is there; makes and says nothing. */
MUST_CHECK int statedir_find(struct statedir *s, const char *option);
/* Where it is not: whether it could be made. Leaves nothing. */
MUST_CHECK int statedir_check_place(const char *option, struct fault *f);

/*
 * Takes ROLE.lock for the life of `*fd` (close it, or exit, to release it).
 * POSTERN_ERR_INUSE when another process holds it, for longer than it takes to end.
 */
MUST_CHECK int statedir_lock(const struct statedir *s, const char *role, int *fd,
                             struct fault *f);

/*
 * For who has held ROLE.lock for a while: another directory may have taken the place of
 * the one where it lies (a copy put back). Then it is taken there too, and `*moved`
 * set. POSTERN_ERR_INUSE when another process has it there: `*fd` is as before.
 */
MUST_CHECK int statedir_lock_keep(const struct statedir *s, const char *role, int *fd,
                                  bool *moved, struct fault *f);

/* Who holds ROLE.lock. */
struct statedir_holder {
    long pid;       /* 0: not known */
    bool stopped;   /* it does not run now: SIGSTOP, or Ctrl-Z in its terminal */
    bool runs;      /* it computes, or waits for a processor */
    uint64_t turns; /* grows while it does anything (io/procstat.h); 0: not known */
};

/* False when nobody holds it. */
bool statedir_held(const struct statedir *s, const char *role,
                   struct statedir_holder *h);

/* The path of the role's local socket: ROLE.sock in the directory. */
void statedir_socket(const struct statedir *s, const char *role,
                     char path[static STATEDIR_SOCKET_LEN]);

/*
 * Loads the device key, or makes one the first time. Safe in several processes.
 * POSTERN_ERR_CORRUPT when the key is missing and what was made with it is there.
 */
MUST_CHECK int statedir_key(const struct statedir *s, struct keypair *kp,
                            struct fault *f);
/* The file that the key was last seen in. */
struct statedir_mark {
    uint64_t file, changed_ns;
};
/* Is it another file than at the call before? The first only takes the mark. */
bool statedir_key_changed(const struct statedir *s, struct statedir_mark *m);
/*
 * Before a database is made in `dir` that says what others know of this device: makes
 * the key that it is about, or fails as statedir_key.
 */
MUST_CHECK int statedir_key_first(const char *dir, struct fault *f);
/* Is there a file of that name, or may there be one that cannot be seen? */
bool statedir_has(const char *dir, const char *file);
/*
 * A file that a running `role` has open and that is no longer at its path. A command
 * that made it anew would take away what the daemon still goes by. 0: it is there, or
 * there is no such daemon.
 */
MUST_CHECK int statedir_check_beside(const struct statedir *s, const char *role,
                                     const char *file, struct fault *f);
/* Makes a new device key the current one at wall clock `now_s`; the old is kept. */
MUST_CHECK int statedir_key_rotate(const struct statedir *s, struct keypair *fresh,
                                   int64_t now_s, struct fault *f);
/*
 * Earlier keys, newest first, so that peers who know only them can be told. Returns
 * how many were written to `out`, or a negative error.
 */
MUST_CHECK int statedir_old_keys(const struct statedir *s, struct keypair *out,
                                 size_t max, struct fault *f);

/* Unix time in seconds. The clock of floors that may not have one is an argument. */
int64_t statedir_now_s(void);

#endif

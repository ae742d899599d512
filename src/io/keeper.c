/* Starts the keeper with posix_spawn, and asks it by messages; see keeper.h. */
#include "io/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/privilege.h"
#include "io/caps.h"
#include "io/fdpass.h"

enum { PATH_LEN = 512 };

extern char **environ;

#ifdef HAVE_HELPER
static const char no_helper[] = "there is no postern-helper; install it beside postern";
#else
static const char no_helper[] =
    "this build of postern has no postern-helper; Debian packages and 'make' do";
#endif

/* Beside this program, or in libexec beside its bin. */
static bool find(char path[static PATH_LEN])
{
    static const char *const places[] = {"", "../libexec/postern/"};
    char own[384];
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
    own[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(own, '/');
    for (size_t i = 0; slash != NULL && i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(path, PATH_LEN, "%.*s/%spostern-helper", (int)(slash - own), own,
                       places[i]);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

void keeper_explain(char *why, size_t cap)
{
    char path[PATH_LEN];
    struct statvfs fs;
    if (!find(path))
        (void)snprintf(why, cap, "%s", no_helper);
    else if (geteuid() == 0)
        (void)snprintf(why, cap,
                       "postern-helper has no privileges although this is root: a "
                       "container or a service unit takes CAP_NET_ADMIN and "
                       "CAP_NET_RAW away");
    else if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        (void)snprintf(why, cap,
                       "postern-helper has no privileges: this program runs with "
                       "NoNewPrivileges, which keeps file capabilities from counting");
    else if (statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOSUID) != 0)
        (void)snprintf(why, cap,
                       "postern-helper has no privileges: it lies on a file system "
                       "that is mounted nosuid; install it elsewhere, or run as root");
    else
        (void)snprintf(why, cap,
                       "postern-helper has no privileges; run as root, or: setcap "
                       "cap_net_admin,cap_net_raw,cap_net_bind_service+ep %.120s",
                       path);
}

/* Ours does not block: whoever may be stopped is asked by it. */
static int open_pair(int pair[static 2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return POSTERN_ERR_IO;
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    return 0;
}

/* What reaches all of a group waits until the keeper has said that it ignores it. */
static int hold_signals(posix_spawnattr_t *attr)
{
    sigset_t held;
    int rc = posix_spawnattr_init(attr);
    if (rc != 0)
        return rc;
    (void)sigemptyset(&held);
    (void)sigaddset(&held, SIGINT);
    (void)sigaddset(&held, SIGHUP);
    (void)sigaddset(&held, SIGTERM);
    (void)posix_spawnattr_setsigmask(attr, &held);
    return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK);
}

static int spawn(pid_t *pid, const char *path, int fd)
{
    char *argv[] = {(char *)(uintptr_t)PRIVILEGE_KEEPER_NAME, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    if (hold_signals(&attr) != 0 || posix_spawn_file_actions_init(&actions) != 0)
        return POSTERN_ERR_NOMEM;
    int rc = posix_spawn_file_actions_adddup2(&actions, fd, PRIVILEGE_FD);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
                                              O_RDONLY, 0);
    if (rc == 0) /* never into a pipe that somebody waits for the end of */
        rc = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
                                              O_WRONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
                                              O_WRONLY, 0);
    if (rc == 0)
        rc = posix_spawn(pid, path, &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? 0 : POSTERN_ERR_IO;
}

static int open_one(struct keeper *k, size_t i, const char *path)
{
    int pair[2];
    if (open_pair(pair) != 0)
        return POSTERN_ERR_IO;
    int rc = spawn(&k->pids[i], path, pair[1]);
    close(pair[1]);
    if (rc != 0)
        close(pair[0]);
    else
        k->fds[i] = pair[0];
    return rc;
}

int keeper_open(struct keeper *k, char *why, size_t cap)
{
    char path[PATH_LEN];
    keeper_explain(why, cap);
    if (!find(path))
        return POSTERN_ERR_NOTFOUND;
    bool given = geteuid() == 0 || caps_have(CAPS_NET_ADMIN) || caps_have(CAPS_NET_RAW);
    if (!given && getxattr(path, "security.capability", NULL, 0) <= 0)
        return POSTERN_ERR_PERM;
    (void)snprintf(why, cap, "the privileged helper could not be started");
    int rc = open_one(k, 0, path);
    return rc == 0 ? open_one(k, 1, path) : rc;
}

static bool is_over(int fd)
{
    struct pollfd p = {.fd = fd};
    return fd < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0);
}

bool keeper_is_gone(const struct keeper *k)
{
    return is_over(k->fds[0]) || is_over(k->fds[1]);
}

void keeper_settle(struct keeper *k)
{
    for (size_t i = 0; i < KEEPERS; i++) {
        if (!is_over(k->fds[i]))
            continue;
        if (k->fds[i] >= 0)
            close(k->fds[i]);
        if (k->pids[i] > 0)
            (void)waitpid(k->pids[i], NULL, 0);
        k->fds[i] = -1;
        k->pids[i] = 0;
    }
    if (k->fds[0] < 0) {
        k->fds[0] = k->fds[1];
        k->pids[0] = k->pids[1];
        k->fds[1] = -1;
        k->pids[1] = 0;
    }
}

static int tell(struct keeper *k, uint32_t op, int give)
{
    struct privilege_request q = {.op = op};
    if (is_over(k->fds[0]))
        return POSTERN_ERR_CLOSED;
    return fdpass_send(k->fds[0], &q, sizeof(q), give) == (ssize_t)sizeof(q)
               ? 0
               : POSTERN_ERR_IO;
}

int keeper_start(struct keeper *k, int *fd)
{
    int pair[2];
    if (open_pair(pair) != 0)
        return POSTERN_ERR_IO;
    int rc = tell(k, PRIVILEGE_START, pair[1]);
    close(pair[1]);
    if (rc != 0)
        close(pair[0]);
    else
        *fd = pair[0];
    return rc;
}

void keeper_end(struct keeper *k)
{
    (void)tell(k, PRIVILEGE_END, -1);
}

int keeper_replace(struct keeper *k, int *theirs)
{
    int pair[2], *at = k->fds[0] < 0 ? &k->fds[0] : &k->fds[1];
    if (*at >= 0) /* it has just ended, and is to be settled first */
        return POSTERN_ERR_AGAIN;
    if (open_pair(pair) != 0)
        return POSTERN_ERR_IO;
    *at = pair[0];
    *theirs = pair[1];
    return 0;
}

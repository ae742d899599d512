/* Starts the keeper with posix_spawn, and asks it by messages; see keeper.h. */
#include "io/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/privilege.h"
#include "io/caps.h"
#include "io/fdpass.h"

enum { PATH_LEN = 512 };

extern char **environ;

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
    if (find(path))
        (void)snprintf(why, cap,
                       "postern-helper has no privileges; run as root, or: setcap "
                       "cap_net_admin,cap_net_raw,cap_net_bind_service+ep %.120s",
                       path);
    else
        (void)snprintf(why, cap,
                       "there is no postern-helper; install it beside postern");
}

/* Ours does not block: whoever may be stopped is asked by it. */
static int open_pair(int pair[static 2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return POSTERN_ERR_IO;
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
    return 0;
}

static int spawn(pid_t *pid, const char *path, int fd)
{
    char *argv[] = {(char *)(uintptr_t)PRIVILEGE_KEEPER_NAME, NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
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
        rc = posix_spawn(pid, path, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? 0 : POSTERN_ERR_IO;
}

int keeper_open(struct keeper *k, char *why, size_t cap)
{
    char path[PATH_LEN];
    int pair[2];
    keeper_explain(why, cap);
    if (!find(path))
        return POSTERN_ERR_NOTFOUND;
    bool given = geteuid() == 0 || caps_have(CAPS_NET_ADMIN) || caps_have(CAPS_NET_RAW);
    if (!given && getxattr(path, "security.capability", NULL, 0) <= 0)
        return POSTERN_ERR_PERM;
    (void)snprintf(why, cap, "the privileged helper could not be started");
    if (open_pair(pair) != 0)
        return POSTERN_ERR_IO;
    int rc = spawn(&k->pid, path, pair[1]);
    close(pair[1]);
    if (rc != 0)
        close(pair[0]);
    else
        k->fd = pair[0];
    return rc;
}

bool keeper_is_gone(const struct keeper *k)
{
    struct pollfd p = {.fd = k->fd};
    return k->fd < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0);
}

void keeper_close(struct keeper *k)
{
    bool gone = keeper_is_gone(k);
    if (k->fd >= 0)
        close(k->fd);
    if (k->pid > 0)
        (void)waitpid(k->pid, NULL, gone ? 0 : WNOHANG);
    *k = (struct keeper){.fd = -1};
}

static int tell(struct keeper *k, uint32_t op, int give)
{
    struct privilege_request q = {.op = op};
    if (keeper_is_gone(k))
        return POSTERN_ERR_CLOSED;
    return fdpass_send(k->fd, &q, sizeof(q), give) == (ssize_t)sizeof(q)
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
    int pair[2];
    keeper_close(k);
    if (open_pair(pair) != 0)
        return POSTERN_ERR_IO;
    k->fd = pair[0];
    *theirs = pair[1];
    return 0;
}

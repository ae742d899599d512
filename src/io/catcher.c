/* The filter, the notifications, and the calls made in the program's place. */
#include "io/catcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/caps.h"
#include "io/fdpass.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/sock.h"

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv)
#define OUR_ARCH AUDIT_ARCH_RISCV64
#else
#define OUR_ARCH 0
#endif

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

enum { X32_BIT = 0x40000000, LOW_PORTS_DEFAULT = 1024 };

struct catcher {
    struct catcher_config config;
    int notify;
    pid_t pid;
};

/* ----------------------------------------------------------------------- the child */

static int install_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bind, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_listen, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 2),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if (geteuid() != 0) /* setuid programs lose their bit; root needs no such promise */
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                      flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
    if (fd < 0 && errno == EINVAL) /* before Linux 5.19 */
        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return (int)fd;
}

/* The errno that came instead, or 0 with the descriptor in `fd`, or -1 at the end. */
static int receive_fd(int sock, int *fd)
{
    int err = 0;
    ssize_t n = fdpass_recv(sock, &err, sizeof(err), 0, fd);
    return n == (ssize_t)sizeof(err) ? err : -1;
}

_Noreturn static void run_child(const struct catcher_config *c, int sock)
{
    if (c->stdout_to_stderr)
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
    int fd = install_filter();
    int err = fd < 0 ? errno : 0;
    (void)!fdpass_send(sock, &err, sizeof(err), fd);
    if (fd >= 0) {
        close(fd);
        (void)sigprocmask(SIG_SETMASK, c->signals, NULL);
        (void)execvp(c->argv[0], c->argv);
        err = errno; /* the socket closes by itself when it works */
    }
    (void)!fdpass_send(sock, &err, sizeof(err), -1);
    _exit(127);
}

int catcher_start(struct catcher **out, const struct catcher_config *config,
                  struct fault *f)
{
    int pair[2], err, again, none;
    if (OUR_ARCH == 0)
        return fault_set(
            f, POSTERN_ERR_INVALID, "publish its port with 'postern serve'",
            "'postern run' does not know this machine's kind of processor");
    struct catcher *c = calloc(1, sizeof(*c));
    if (c == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        free(c);
        return fault_lack(f, POSTERN_ERR_NOMEM);
    }
    c->config = *config;
    c->notify = -1;
    c->pid = fork();
    if (c->pid == 0)
        run_child(config, pair[1]);
    close(pair[1]);
    err = receive_fd(pair[0], &c->notify);
    again = err == 0 ? receive_fd(pair[0], &none) : 0; /* -1: exec went through */
    close(pair[0]);
    if (c->pid > 0 && err == 0 && again <= 0) {
        *out = c;
        return 0;
    }
    if (err != 0)
        (void)fault_set(f, POSTERN_ERR_PERM, "this needs Linux 5.9 with seccomp",
                        "what programs listen to cannot be caught here: %s",
                        strerror(err > 0 ? err : EAGAIN));
    else
        (void)fault_set(f, POSTERN_ERR_NOTFOUND, "check its name and path",
                        "%.100s cannot be started: %s", config->argv[0],
                        strerror(again));
    (void)waitpid(c->pid, NULL, 0);
    catcher_close(c);
    return f->code;
}

/* --------------------------------------------------------------- looking at a task */

/* One line of /proc/TID/status, its value as a number; `base` 10 or 16. */
static unsigned long long status_of(pid_t tid, const char *field, int base)
{
    char path[40], line[128];
    unsigned long long value = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
    FILE *in = fopen(path, "re");
    while (in != NULL && fgets(line, sizeof(line), in) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            value = strtoull(line + strlen(field), NULL, base);
    if (in != NULL)
        (void)fclose(in);
    return value;
}

static void name_of(pid_t pid, char name[static 16])
{
    char path[40];
    (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, name, 15) : 0;
    name[n > 0 ? n : 0] = '\0';
    name[strcspn(name, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static int low_ports_end(void)
{
    char line[16];
    int first = LOW_PORTS_DEFAULT;
    FILE *in = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    if (in != NULL && fgets(line, sizeof(line), in) != NULL)
        first = (int)strtol(line, NULL, 10);
    if (in != NULL)
        (void)fclose(in);
    return first;
}

/* We may be root where the program is not: its own right to low ports counts. */
static bool may_bind(pid_t tid, uint16_t port)
{
    return port == 0 || port >= low_ports_end() ||
           (status_of(tid, "CapEff:", 16) & CAPS_NET_BIND_SERVICE) != 0;
}

static bool still_waits(const struct catcher *c, uint64_t id)
{
    return ioctl(c->notify, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

/* A copy of the program's descriptor, or -1. */
static int copy_fd(const struct catcher *c, const struct seccomp_notif *n)
{
    pid_t group = (pid_t)status_of((pid_t)n->pid, "Tgid:", 10);
    int pidfd = (int)syscall(SYS_pidfd_open, group, 0);
    if (pidfd < 0)
        return -1;
    int fd = still_waits(c, n->id)
                 ? (int)syscall(SYS_pidfd_getfd, pidfd, (int)n->data.args[0], 0)
                 : -1;
    int err = errno;
    close(pidfd);
    errno = err;
    return fd;
}

/* ----------------------------------------------------------------------- the calls */

static void respond(const struct catcher *c, uint64_t id, int err, bool go_on)
{
    struct seccomp_notif_resp r = {
        .id = id, .error = -err, .flags = go_on ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0};
    (void)ioctl(c->notify, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static void to_loopback(struct sockaddr_storage *ss)
{
    if (ss->ss_family == AF_INET) {
        ((struct sockaddr_in *)ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    if (memcmp(&in6->sin6_addr, mapped, 12) == 0)
        memcpy(&in6->sin6_addr, mapped, sizeof(mapped));
    else
        in6->sin6_addr = in6addr_loopback;
}

static int option_of(int fd, int option)
{
    int value = 0;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

/* What serves at `fd`; false when it is no server's socket. */
static bool describe(struct caught *out, int fd, pid_t tid, bool tcp)
{
    socklen_t len = sizeof(out->cookie);
    *out = (struct caught){.pid = tid, .tcp = tcp, .fd = -1};
    name_of(tid, out->program);
    return sock_local(fd, &out->local) == 0 && out->local.port != 0 &&
           getsockopt(fd, SOL_SOCKET, SO_COOKIE, &out->cookie, &len) == 0;
}

/* Returns the errno for the program. */
static int do_bind(struct catcher *c, const struct seccomp_notif *n, int fd, int domain)
{
    struct sockaddr_storage ss;
    uint8_t bytes[sizeof(ss)] = {0};
    size_t len = (size_t)n->data.args[2];
    size_t least = domain == AF_INET ? sizeof(struct sockaddr_in)
                                     : offsetof(struct sockaddr_in6, sin6_scope_id);
    if (len > sizeof(bytes))
        return EINVAL;
    struct iovec ours = {bytes, len};
    struct iovec its = {(void *)(uintptr_t)n->data.args[1], len};
    if (process_vm_readv((pid_t)n->pid, &ours, 1, &its, 1, 0) != (ssize_t)len)
        return EFAULT;
    if (!still_waits(c, n->id))
        return EINTR;
    memcpy(&ss, bytes, sizeof(ss));
    if (ss.ss_family == domain && len >= least) {
        uint16_t port =
            ntohs(domain == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port
                                    : ((struct sockaddr_in6 *)&ss)->sin6_port);
        if (!may_bind((pid_t)n->pid, port))
            return EACCES;
        if (c->config.loopback)
            to_loopback(&ss);
    }
    return bind(fd, (struct sockaddr *)&ss, (socklen_t)len) == 0 ? 0 : errno;
}

/* A socket that was never bound gets its port from listen(). */
static void bind_to_loopback(const struct catcher *c, int fd, int domain)
{
    struct addr now;
    struct sockaddr_storage ss = {.ss_family = (sa_family_t)domain};
    if (!c->config.loopback || sock_local(fd, &now) != 0 || now.port != 0)
        return;
    to_loopback(&ss);
    (void)!bind(fd, (struct sockaddr *)&ss,
                domain == AF_INET ? sizeof(struct sockaddr_in)
                                  : sizeof(struct sockaddr_in6));
}

static int serve(struct catcher *c, const struct seccomp_notif *n, struct caught *out)
{
    int fd = copy_fd(c, n);
    if (fd < 0) {
        respond(c, n->id, errno == EPERM ? EACCES : errno, false);
        return 0;
    }
    int domain = option_of(fd, SO_DOMAIN), type = option_of(fd, SO_TYPE);
    bool inet = domain == AF_INET || domain == AF_INET6;
    if (!inet || (type != SOCK_STREAM && type != SOCK_DGRAM)) {
        respond(c, n->id, 0, true); /* a local socket, a device: not of the network */
        close(fd);
        return 0;
    }
    if (n->data.nr == SYS_bind) {
        int err = do_bind(c, n, fd, domain);
        bool served =
            err == 0 && type == SOCK_DGRAM && describe(out, fd, (pid_t)n->pid, false);
        respond(c, n->id, err, false);
        close(fd);
        return served;
    }
    bind_to_loopback(c, fd, domain);
    bool known = type == SOCK_STREAM && describe(out, fd, (pid_t)n->pid, true);
    if (!known)
        *out = (struct caught){.pid = (pid_t)n->pid};
    out->id = n->id;
    out->fd = fd;
    out->backlog = (int)n->data.args[1];
    if (known)
        return 1;
    (void)catcher_allow(c, out); /* listen() gives it a port: the sweep will find it */
    return 0;
}

int catcher_next(struct catcher *c, struct caught *out)
{
    struct seccomp_notif n = {0};
    struct pollfd p = {.fd = c->notify, .events = POLLIN};
    if (poll(&p, 1, 0) > 0 && (p.revents & POLLIN) == 0)
        return POSTERN_ERR_CLOSED;
    if ((p.revents & POLLIN) == 0 ||
        ioctl(c->notify, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0)
        return 0;
    return serve(c, &n, out);
}

int catcher_allow(struct catcher *c, struct caught *s)
{
    int err = listen(s->fd, s->backlog) == 0 ? 0 : errno;
    close(s->fd);
    s->fd = -1;
    respond(c, s->id, err, false);
    return err;
}

int catcher_fd(const struct catcher *c)
{
    return c->notify;
}

pid_t catcher_pid(const struct catcher *c)
{
    return c->pid;
}

void catcher_close(struct catcher *c)
{
    if (c == NULL)
        return;
    if (c->notify >= 0)
        close(c->notify);
    free(c);
}

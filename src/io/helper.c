/*
 * The helper's child process and the pair of sockets to it; decides nothing. One lock
 * guards all of it but the knocks that are waited for, which belong to the thread of
 * the loop, like the loop's own. No callback is called with the lock held.
 */
#include "io/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "io/caps.h"
#include "io/fdpass.h"
#include "io/log.h"
#include "io/loop.h"

enum { ANSWER_MS = 5000, EVENTS_MAX = 64 };

extern char **environ;

struct knock_watch {
    uint32_t serial; /* 0: free */
    helper_knock_cb cb;
    void *ctx;
};

static struct {
    unsigned users;
    int fd; /* -1: none */
    pid_t pid;
    uint32_t can, last_serial;
    pthread_t thread; /* of the loop, while `answers` is open */
    struct watch answers;
    struct wake late; /* events that came while an answer was waited for */
    struct knock_watch watches[PRIVILEGE_KNOCKS_MAX];
    struct privilege_reply events[EVENTS_MAX];
    size_t event_count;
    char why[256];
} helper = {.fd = -1};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ----------------------------------------------------------------------- the child */

/* Beside this program, or in libexec beside its bin. */
static bool find(char *path, size_t cap)
{
    static const char *const places[] = {"", "../libexec/postern/"};
    char own[384];
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
    own[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(own, '/');
    for (size_t i = 0; slash != NULL && i < sizeof(places) / sizeof(places[0]); i++) {
        (void)snprintf(path, cap, "%.*s/%spostern-helper", (int)(slash - own), own,
                       places[i]);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static void missing(const char *what, const char *path)
{
    (void)snprintf(helper.why, sizeof(helper.why), "%s; %s%.120s%s", what,
                   path != NULL ? "run as root, or: setcap cap_net_admin,cap_net_raw,"
                                  "cap_net_bind_service+ep "
                                : "install it beside postern",
                   path != NULL ? path : "", "");
}

static int spawn(const char *path, int fd)
{
    char *argv[] = {(char *)(uintptr_t) "postern-helper", NULL};
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
        rc = posix_spawn(&helper.pid, path, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? 0 : POSTERN_ERR_IO;
}

static void detach(void)
{
    watch_close(&helper.answers);
    wake_close(&helper.late);
    helper.event_count = 0;
    memset(helper.watches, 0, sizeof(helper.watches));
}

/* With the lock. */
static void lose(const char *why)
{
    helper.can = 0;
    if (why != NULL)
        (void)snprintf(helper.why, sizeof(helper.why),
                       "%s; restart this program to have it again", why);
    if (watch_is_open(&helper.answers) &&
        pthread_equal(helper.thread, pthread_self()) == 0) {
        (void)shutdown(helper.fd, SHUT_RDWR); /* on_answer does the rest */
        return;
    }
    detach();
    if (helper.fd >= 0)
        close(helper.fd);
    helper.fd = -1;
    if (helper.pid > 0)
        (void)waitpid(helper.pid, NULL, 0);
    helper.pid = 0;
}

/* -------------------------------------------------------------------------- events */

static void tell(const struct privilege_reply *r)
{
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX; i++) {
        struct knock_watch *w = &helper.watches[i];
        if (r->op == PRIVILEGE_KNOCK_SEEN && w->serial == r->serial && r->serial != 0) {
            w->cb(w->ctx, &r->from);
            return;
        }
    }
}

static void on_late(void *ctx)
{
    struct privilege_reply events[EVENTS_MAX];
    (void)ctx;
    (void)pthread_mutex_lock(&lock);
    size_t n = helper.event_count;
    memcpy(events, helper.events, n * sizeof(events[0]));
    helper.event_count = 0;
    (void)pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < n; i++)
        tell(&events[i]);
}

static void keep_event(const struct privilege_reply *r)
{
    if (helper.event_count < EVENTS_MAX)
        helper.events[helper.event_count++] = *r;
    if (wake_is_open(&helper.late))
        wake_up(&helper.late);
}

static void on_answer(void *ctx, int ready)
{
    struct privilege_reply r = {0};
    int fd;
    (void)ctx, (void)ready;
    (void)pthread_mutex_lock(&lock); /* or an answer for another thread is taken */
    ssize_t n = fdpass_recv(helper.fd, &r, sizeof(r), MSG_DONTWAIT, &fd);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        lose("the privileged helper ended");
    (void)pthread_mutex_unlock(&lock);
    if (fd >= 0) /* of a request that was given up */
        close(fd);
    if (n == (ssize_t)sizeof(r))
        tell(&r);
}

/* ------------------------------------------------------------------------ requests */

/* With the lock. */
static int ask_locked(const struct privilege_request *q, int give,
                      struct privilege_reply *reply, int *fd)
{
    int got = -1;
    *reply = (struct privilege_reply){0};
    if (helper.fd < 0 ||
        fdpass_send(helper.fd, q, sizeof(*q), give) != (ssize_t)sizeof(*q)) {
        (void)snprintf(reply->reason, sizeof(reply->reason), "%s", helper_missing());
        return POSTERN_ERR_PERM;
    }
    for (;;) {
        struct pollfd p = {.fd = helper.fd, .events = POLLIN};
        int ready = poll(&p, 1, ANSWER_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t n = ready > 0 ? fdpass_recv(helper.fd, reply, sizeof(*reply),
                                            MSG_DONTWAIT, &got)
                              : 0;
        if (n != (ssize_t)sizeof(*reply)) {
            lose(ready > 0 ? "the privileged helper ended"
                           : "the privileged helper does not answer");
            return POSTERN_ERR_PERM;
        }
        if (reply->op == q->op && reply->serial == q->serial)
            break;
        if (got >= 0)
            close(got);
        keep_event(reply);
    }
    reply->reason[sizeof(reply->reason) - 1] = '\0';
    if (fd != NULL && reply->err == 0 && got >= 0)
        *fd = got;
    else if (got >= 0)
        close(got);
    if (fd != NULL && reply->err == 0 && got < 0)
        return POSTERN_ERR_PROTO;
    return reply->err;
}

static int ask(const struct privilege_request *q, int give,
               struct privilege_reply *reply, int *fd)
{
    (void)pthread_mutex_lock(&lock);
    int rc = ask_locked(q, give, reply, fd);
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

static uint32_t next_serial(void)
{
    (void)pthread_mutex_lock(&lock);
    uint32_t serial = ++helper.last_serial;
    (void)pthread_mutex_unlock(&lock);
    return serial;
}

static int attach(struct loop *loop)
{
    int rc = wake_open(&helper.late, loop, on_late, NULL);
    if (rc == 0)
        rc = watch_start(&helper.answers, loop, helper.fd, WATCH_READ, on_answer, NULL);
    if (rc != 0) {
        wake_close(&helper.late);
        return rc;
    }
    helper.thread = pthread_self();
    watch_in_background(&helper.answers);
    wake_in_background(&helper.late);
    return 0;
}

static int greet(void)
{
    struct privilege_request q = {.op = PRIVILEGE_HELLO};
    struct privilege_reply r;
    if (ask_locked(&q, -1, &r, NULL) != 0 || r.version != PRIVILEGE_VERSION)
        return POSTERN_ERR_PROTO;
    helper.can = r.can;
    return 0;
}

static void open_locked(struct loop *loop)
{
    char path[512];
    int pair[2];
    if (helper.users++ > 0)
        return;
    if (helper.fd >= 0) { /* of an earlier user, on another loop */
        if (attach(loop) != 0)
            lose("out of memory");
        return;
    }
    if (!find(path, sizeof(path))) {
        missing("there is no postern-helper", NULL);
        return;
    }
    bool given = geteuid() == 0 || caps_have(CAPS_NET_ADMIN) || caps_have(CAPS_NET_RAW);
    if (!given && getxattr(path, "security.capability", NULL, 0) <= 0) {
        missing("postern-helper has no privileges", path);
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    helper.fd = pair[0];
    int rc = spawn(path, pair[1]);
    close(pair[1]);
    if (rc == 0)
        rc = greet();
    if (rc == 0)
        rc = attach(loop);
    if (rc != 0)
        lose("the privileged helper could not be started");
    else if (helper.can == 0)
        missing("postern-helper has no privileges", path);
    log_debug("privileged helper: %s", helper.can != 0 ? "running" : helper.why);
    caps_keep(CAPS_CHOWN | CAPS_DAC_OVERRIDE | CAPS_DAC_READ_SEARCH | CAPS_FOWNER |
              CAPS_NET_BIND_SERVICE);
}

void helper_open(struct loop *loop)
{
    (void)pthread_mutex_lock(&lock);
    open_locked(loop);
    (void)pthread_mutex_unlock(&lock);
}

void helper_close(void)
{
    (void)pthread_mutex_lock(&lock);
    if (helper.users > 0 && --helper.users == 0)
        detach();
    (void)pthread_mutex_unlock(&lock);
}

bool helper_can(uint32_t can)
{
    (void)pthread_mutex_lock(&lock);
    bool yes = helper.fd >= 0 && (helper.can & can) == can;
    (void)pthread_mutex_unlock(&lock);
    return yes;
}

const char *helper_missing(void)
{
    return helper.why[0] != '\0' ? helper.why
                                 : "the privileged helper may not do that here";
}

int helper_ask(struct privilege_request *q, struct privilege_reply *reply, int *fd)
{
    q->serial = next_serial();
    return ask(q, -1, reply, fd);
}

void helper_enlarge(int fd)
{
    struct privilege_request q = {.op = PRIVILEGE_BUFFERS, .serial = next_serial()};
    struct privilege_reply r;
    if (helper_can(PRIVILEGE_CAN_FILTER))
        (void)ask(&q, fd, &r, NULL);
}

int helper_low_port(const struct addr *local, bool tcp)
{
    struct privilege_request q = {
        .op = PRIVILEGE_LOW_PORT, .local = *local, .tcp = tcp};
    struct privilege_reply r;
    int fd = -1;
    return helper_can(PRIVILEGE_CAN_BIND) && helper_ask(&q, &r, &fd) == 0 ? fd : -1;
}

int helper_knock_add(struct privilege_request *q, struct privilege_reply *reply,
                     helper_knock_cb cb, void *ctx)
{
    struct knock_watch *w = NULL;
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX && w == NULL; i++)
        if (helper.watches[i].serial == 0)
            w = &helper.watches[i];
    if (w == NULL) {
        *reply = (struct privilege_reply){0};
        (void)snprintf(reply->reason, sizeof(reply->reason),
                       "%d knocks are waited for already", PRIVILEGE_KNOCKS_MAX);
        return POSTERN_ERR_LIMIT;
    }
    q->op = PRIVILEGE_KNOCK_ADD;
    int rc = helper_ask(q, reply, NULL);
    if (rc == 0)
        *w = (struct knock_watch){q->serial, cb, ctx};
    return rc;
}

uint64_t helper_knock_remove(uint32_t serial)
{
    struct privilege_request q = {.op = PRIVILEGE_KNOCK_REMOVE, .serial = serial};
    struct privilege_reply r;
    bool known = false;
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX; i++) {
        if (helper.watches[i].serial == serial && serial != 0) {
            helper.watches[i] = (struct knock_watch){0};
            known = true;
        }
    }
    return known && ask(&q, -1, &r, NULL) == 0 ? r.dropped : 0;
}

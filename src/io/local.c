/*
 * The local socket, both sides. Reads exactly one framed request and not a byte more,
 * so that the descriptor can become a byte stream afterwards.
 */
#include "io/local.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "core/wire.h"
#include "io/acceptor.h"
#include "io/fdpass.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/own_dir.h"
#include "io/sockfile.h"

enum {
    LOCAL_QUEUE_MAX_BYTES = 64 << 10,
    LOCAL_BACKLOG = 512,
    LOCAL_CONN_MAX = 512,
    DIAL_S = 5,
    LOCAL_SILENT_MAX = 256 /* that asked for nothing yet; then the oldest goes */
};

struct local_conn {
    struct local_server *server;
    struct local_conn *next;
    struct watch watch;
    int fd;
    int passed_fd;
    void *data;
    bool asked;   /* the request was handed to the daemon */
    bool closing; /* only waits for its queue to go out */
    int lack; /* of errno: there is no descriptor to serve it with; 0: it is served */
    size_t in_len;
    uint8_t *out;
    size_t out_len;
    uint8_t in[PROTO_FRAME_MAX + PROTO_FRAME_HEADER];
};

struct local_server {
    struct loop *loop;
    struct acceptor *door;
    size_t count;
    struct local_conn *conns;
    const struct local_events *events;
    void *ctx;
    char path[PATH_MAX];
    uid_t dir_owner; /* when it began */
    uid_t owner;     /* who may ask beside this user and root */
    int spare;       /* kept for whoever asks when no descriptor is left; -1: in use */
    struct sockfile file; /* that is ours */
};

static bool is_of(int fd, uid_t user)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return false;
    return cred.uid == geteuid() || cred.uid == user || cred.uid == 0;
}

/* Whose daemon may be at `path`, beside the own and root's: to root the owner's of the
 * directory, whose files it goes by as well. */
static uid_t whose(const char *path)
{
    char dir[PATH_MAX];
    struct stat st;
    (void)snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (geteuid() != 0 || slash == NULL || slash == dir)
        return geteuid();
    *slash = '\0';
    return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) ? st.st_uid : geteuid();
}

/* False, with errno, when no descriptor is left. */
static bool has_spare(struct local_server *s)
{
    if (s->spare < 0)
        s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return s->spare >= 0;
}

/* Unlinks and frees; the descriptor is closed unless it was given away before. */
static void conn_free(struct local_conn *c)
{
    struct local_conn **at = &c->server->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->server->count--;
    watch_close(&c->watch);
    if (c->fd >= 0)
        (void)close(c->fd);
    if (c->passed_fd >= 0)
        (void)close(c->passed_fd);
    (void)has_spare(c->server);
    free(c->out);
    free(c);
}

static void conn_gone(struct local_conn *c)
{
    if (c->asked && !c->closing)
        c->server->events->on_gone(c->server->ctx, c);
    conn_free(c);
}

static void conn_watch(struct local_conn *c)
{
    watch_for(&c->watch, WATCH_HANGUP | (c->asked ? 0 : WATCH_READ) |
                             (c->out_len > 0 ? WATCH_WRITE : 0));
}

/* 0 when all went out, POSTERN_ERR_AGAIN when some is left, else the command left. */
static int conn_flush(struct local_conn *c)
{
    while (c->out_len > 0) {
        ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? POSTERN_ERR_AGAIN : POSTERN_ERR_CLOSED;
        c->out_len -= (size_t)n;
        memmove(c->out, c->out + n, c->out_len);
    }
    return 0;
}

/* Keeps the first descriptor of a control message and closes any other. */
static void take_descriptors(struct local_conn *c, struct msghdr *m)
{
    struct cmsghdr *h;
    for (h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
            if (c->passed_fd < 0)
                c->passed_fd = fd;
            else
                (void)close(fd);
        }
    }
}

static ssize_t conn_receive(struct local_conn *c, size_t want)
{
    union {
        char buf[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = c->in + c->in_len, .iov_len = want};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.buf,
                       .msg_controllen = sizeof(control.buf)};
    ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n >= 0)
        take_descriptors(c, &m);
    return n;
}

/* How many bytes are still missing of the frame, or a negative error. */
static int frame_missing(const uint8_t *in, size_t len)
{
    if (len < PROTO_FRAME_HEADER)
        return (int)(PROTO_FRAME_HEADER - len);
    struct wire_reader r = wire_reader(in, PROTO_FRAME_HEADER);
    uint32_t body = wire_get_u32(&r);
    if (body > PROTO_FRAME_MAX)
        return POSTERN_ERR_PROTO;
    return (int)(body + PROTO_FRAME_HEADER - len);
}

static int decode_request(struct local_conn *c, LocalRequest *req)
{
    *req = (LocalRequest)LocalRequest_init_zero;
    return proto_decode(LocalRequest_fields, req, c->in + PROTO_FRAME_HEADER,
                        c->in_len - PROTO_FRAME_HEADER);
}

/* 1 when the request is whole, 0 when more must come, negative when it is over. */
static int conn_read(struct local_conn *c)
{
    int missing;
    while ((missing = frame_missing(c->in, c->in_len)) > 0) {
        ssize_t n = conn_receive(c, (size_t)missing);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return POSTERN_ERR_CLOSED;
        c->in_len += (size_t)n;
    }
    return missing < 0 ? missing : 1;
}

/* What is done with less than one descriptor is this word. */
static void tell_lack(struct local_conn *c)
{
    struct fault f;
    errno = c->lack;
    (void)fault_lack(&f, POSTERN_ERR_LIMIT);
    if (c->lack == EMFILE)
        (void)fault_set(&f, POSTERN_ERR_LIMIT,
                        "raise its limit of open files (ulimit -n, or LimitNOFILE)",
                        "the running program has too many open files: it may have %zu",
                        descriptors_max());
    local_conn_finish(c, f.code, &f);
}

static void conn_request(struct local_conn *c)
{
    LocalRequest req;
    c->asked = true;
    if (c->lack != 0) {
        tell_lack(c);
        return;
    }
    if (decode_request(c, &req) != 0) {
        struct fault f;
        (void)fault_set(&f, POSTERN_ERR_PROTO, "use the same version for both",
                        "the running daemon does not understand this command");
        local_conn_finish(c, POSTERN_ERR_PROTO, &f);
        return;
    }
    int fd = c->passed_fd;
    c->passed_fd = -1;
    conn_watch(c);
    c->server->events->on_request(c->server->ctx, c, &req, fd);
}

static void on_conn_ready(void *ctx, int events)
{
    struct local_conn *c = ctx;
    if ((events & WATCH_WRITE) != 0) {
        int r = conn_flush(c);
        if ((r == 0 && c->closing) || r == POSTERN_ERR_CLOSED) {
            conn_gone(c);
            return;
        }
        conn_watch(c);
    }
    if ((events & WATCH_READ) != 0 && !c->asked) {
        int r = conn_read(c);
        if (r < 0)
            conn_gone(c);
        else if (r == 1)
            conn_request(c);
        return;
    }
    if ((events & WATCH_HANGUP) != 0)
        conn_gone(c);
}

/* Of those that asked for nothing yet; the oldest, or NULL. */
static struct local_conn *find_silent(const struct local_server *s, unsigned *count)
{
    struct local_conn *oldest = NULL;
    *count = 0;
    for (struct local_conn *c = s->conns; c != NULL; c = c->next) {
        if (!c->asked) {
            oldest = c; /* the newest stands first */
            (*count)++;
        }
    }
    return oldest;
}

static bool make_room(void *ctx)
{
    struct local_server *s = ctx;
    unsigned count;
    struct local_conn *oldest = find_silent(s, &count);
    if (oldest != NULL)
        conn_gone(oldest);
    if (s->spare < 0)
        return oldest != NULL;
    (void)close(s->spare); /* and on_connection misses it */
    s->spare = -1;
    return true;
}

/*
 * In a crowd the newcomers are accepted before the requests of the others are read: one
 * whose request has come is served, and only who is silent goes.
 */
static void make_place(struct local_server *s)
{
    unsigned silent;
    struct local_conn *oldest = find_silent(s, &silent);
    if (oldest == NULL || (silent < LOCAL_SILENT_MAX && s->count < LOCAL_CONN_MAX))
        return;
    if (conn_read(oldest) == 1)
        conn_request(oldest);
    else
        conn_gone(oldest);
}

static void on_connection(void *ctx, int fd, const struct addr *from)
{
    struct local_server *s = ctx;
    struct local_conn *c = NULL;
    (void)from;
    make_place(s);
    if (is_of(fd, s->owner) && s->count < LOCAL_CONN_MAX)
        c = calloc(1, sizeof(*c));
    if (c == NULL || watch_open(&c->watch, s->loop, fd, on_conn_ready, c) != 0) {
        log_debug("a local command was turned away");
        free(c);
        (void)close(fd);
        return;
    }
    c->server = s;
    c->fd = fd;
    c->passed_fd = -1;
    c->lack = has_spare(s) ? 0 : errno;
    c->next = s->conns;
    s->conns = c;
    s->count++;
    conn_watch(c);
}

static void dir_of(const struct local_server *s, char dir[static PATH_MAX])
{
    const char *slash = strrchr(s->path, '/');
    if (slash == NULL)
        (void)snprintf(dir, PATH_MAX, ".");
    else
        (void)snprintf(dir, PATH_MAX, "%.*s",
                       slash == s->path ? 1 : (int)(slash - s->path), s->path);
}

/*
 * Root's socket in another user's directory becomes that user's, if the daemon says so.
 * What stands at the path is the owner's to change: only a socket without a second name
 * is given away, by a descriptor that cannot be led elsewhere.
 */
static void give_to_owner(struct local_server *s)
{
    char dir[PATH_MAX];
    struct stat st;
    dir_of(s, dir);
    s->owner = geteuid();
    s->dir_owner = stat(dir, &st) == 0 ? st.st_uid : OWN_DIR_ANYBODY;
    if (!s->events->for_owner || geteuid() != 0 || s->dir_owner == OWN_DIR_ANYBODY ||
        s->dir_owner == 0)
        return;
    uid_t owner = st.st_uid;
    gid_t group = st.st_gid;
    int fd = open(s->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_nlink == 1 &&
        fchownat(fd, "", owner, group, AT_EMPTY_PATH) == 0)
        s->owner = owner;
    else
        log_debug("the local socket stays root's: %s", strerror(errno));
    if (fd >= 0)
        (void)close(fd);
}

/* Takes its place in the directory; what was there before is left alone on failure. */
static int take_place(struct local_server *s)
{
    struct acceptor_config door = {.loop = s->loop,
                                   .who = "the local socket",
                                   .on_connection = on_connection,
                                   .make_room = make_room,
                                   .ctx = s};
    struct acceptor *fresh;
    struct sockfile file;
    door.fd = sockfile_listen(s->path, LOCAL_BACKLOG, false, &file);
    if (door.fd < 0)
        return -1;
    if (acceptor_open(&fresh, &door) != 0) {
        (void)unlink(s->path);
        errno = ENOMEM;
        return -1;
    }
    acceptor_close(s->door);
    s->door = fresh;
    s->file = file;
    give_to_owner(s);
    return 0;
}

static int open_fault(struct fault *f, const char *path, int e)
{
    if (e == EMFILE || e == ENFILE) {
        errno = e;
        return fault_lack(f, POSTERN_ERR_LIMIT);
    }
    int code = e == ENOSPC                               ? POSTERN_ERR_FULL
               : e == EACCES || e == EROFS || e == EPERM ? POSTERN_ERR_PERM
               : e == EADDRINUSE                         ? POSTERN_ERR_INUSE
                                                         : POSTERN_ERR_IO;
    return fault_set(f, code, "choose another directory with --state",
                     "the local socket %.150s cannot be made: %s", path, strerror(e));
}

int local_server_open(struct local_server **out, struct loop *loop, const char *path,
                      const struct local_events *events, void *ctx, struct fault *f)
{
    struct local_server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    s->loop = loop;
    s->spare = -1;
    s->events = events;
    s->ctx = ctx;
    int n = snprintf(s->path, sizeof(s->path), "%s", path);
    errno = ENAMETOOLONG;
    if ((size_t)n >= sizeof(s->path) || take_place(s) != 0) {
        int err = errno;
        free(s);
        return open_fault(f, path, err);
    }
    (void)has_spare(s);
    *out = s;
    return 0;
}

int local_server_open_if_room(struct local_server **out, struct loop *loop,
                              const char *path, const struct local_events *events,
                              void *ctx, struct fault *f)
{
    int rc = local_server_open(out, loop, path, events, ctx, f);
    if (rc != POSTERN_ERR_FULL && rc != POSTERN_ERR_PERM)
        return rc;
    log_warn("%s; other commands will not find this program", f->what);
    *f = (struct fault){0};
    *out = NULL;
    return 0;
}

void local_server_renew(struct local_server *s)
{
    if (s == NULL || sockfile_is(s->path, &s->file))
        return;
    char dir[PATH_MAX];
    dir_of(s, dir);
    if (own_dir_check(dir, s->dir_owner, NULL) != 0)
        return; /* others put it there: the databases in it say so */
    if (take_place(s) != 0)
        log_warn("the local socket %.150s cannot be made: %s; other commands will not "
                 "find this program",
                 s->path, strerror(errno));
}

void local_server_close(struct local_server *s)
{
    if (s == NULL)
        return;
    while (s->conns != NULL)
        conn_free(s->conns);
    if (sockfile_is(s->path, &s->file))
        (void)unlink(s->path);
    acceptor_close(s->door);
    if (s->spare >= 0)
        (void)close(s->spare);
    free(s);
}

void local_conn_set_data(struct local_conn *c, void *data)
{
    c->data = data;
}

void *local_conn_data(const struct local_conn *c)
{
    return c->data;
}

/* Queues without sending. */
static int conn_queue(struct local_conn *c, const LocalReply *reply)
{
    if (c->out == NULL)
        c->out = malloc(LOCAL_QUEUE_MAX_BYTES);
    if (c->out == NULL)
        return POSTERN_ERR_NOMEM;
    int n = proto_encode_frame(c->out + c->out_len, LOCAL_QUEUE_MAX_BYTES - c->out_len,
                               LocalReply_fields, reply);
    if (n < 0)
        return n;
    c->out_len += (size_t)n;
    return 0;
}

int local_conn_reply(struct local_conn *c, const LocalReply *reply)
{
    int err = conn_queue(c, reply);
    if (err != 0)
        return err;
    (void)conn_flush(c); /* a command that left is noticed by the poll */
    conn_watch(c);
    return 0;
}

void local_conn_say(struct local_conn *c, struct event *e, bool last)
{
    LocalReply r = {.last = last};
    (void)snprintf(r.json, sizeof(r.json), "%s", event_end(e));
    (void)!local_conn_reply(c, &r);
}

bool local_conn_is_read(const struct local_conn *c)
{
    return c->out_len == 0;
}

void local_conn_finish(struct local_conn *c, int code, const struct fault *f)
{
    LocalReply reply = LocalReply_init_zero;
    reply.code = (uint32_t)code;
    reply.last = true;
    if (f != NULL) {
        (void)snprintf(reply.reason, sizeof(reply.reason), "%s", f->what);
        (void)snprintf(reply.advice, sizeof(reply.advice), "%s", f->advice);
    }
    if (conn_queue(c, &reply) != 0)
        log_debug("a local command does not read its replies");
    local_conn_close(c);
}

int local_conn_hand_over(struct local_conn *c, const LocalReply *reply)
{
    int err = conn_queue(c, reply);
    if (err == 0)
        err = conn_flush(c);
    int fd = c->fd;
    if (err == 0) {
        watch_close(&c->watch);
        c->fd = -1;
    }
    conn_free(c);
    return err == 0 ? fd : err;
}

void local_conn_close(struct local_conn *c)
{
    c->closing = true;
    if (conn_flush(c) == POSTERN_ERR_AGAIN)
        conn_watch(c);
    else
        conn_free(c);
}

/* A stopped daemon's queue fills up, and connect would wait for ever. */
int local_dial(const char *path, int *out)
{
    int fd = sockfile_connect(path, DIAL_S);
    if (fd < 0)
        return errno == ENAMETOOLONG                      ? POSTERN_ERR_INVALID
               : errno == ENOENT || errno == ECONNREFUSED ? POSTERN_ERR_NOTFOUND
               : errno == EAGAIN                          ? POSTERN_ERR_TIMEOUT
               : errno == EACCES                          ? POSTERN_ERR_PERM
                                                          : POSTERN_ERR_IO;
    if (!is_of(fd, whose(path))) {
        (void)close(fd);
        return POSTERN_ERR_PERM;
    }
    *out = fd;
    return 0;
}

int local_send(int fd, const LocalRequest *req, int pass_fd)
{
    uint8_t buf[PROTO_FRAME_HEADER + LocalRequest_size];
    int n = proto_encode_frame(buf, sizeof(buf), LocalRequest_fields, req);
    if (n < 0)
        return n;
    /* Far below the socket's buffer: all or nothing goes. */
    return fdpass_send(fd, buf, (size_t)n, pass_fd) == n ? 0 : POSTERN_ERR_CLOSED;
}

static int64_t clock_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Waits until `fd` can be read; `deadline_ms` < 0 waits for ever. */
static int wait_readable(int fd, int64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (true) {
        int64_t left = deadline_ms < 0 ? -1 : deadline_ms - clock_ms();
        if (deadline_ms >= 0 && left <= 0)
            return POSTERN_ERR_TIMEOUT;
        int r = poll(&p, 1, (int)left);
        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR)
            return POSTERN_ERR_IO;
    }
}

int local_recv(int fd, LocalReply *reply, int timeout_ms)
{
    uint8_t in[PROTO_FRAME_HEADER + PROTO_FRAME_MAX];
    size_t len = 0;
    int missing;
    int64_t deadline_ms = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
    while ((missing = frame_missing(in, len)) > 0) {
        int err = wait_readable(fd, deadline_ms);
        if (err != 0)
            return err;
        ssize_t n = recv(fd, in + len, (size_t)missing, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return POSTERN_ERR_CLOSED;
        len += (size_t)n;
    }
    if (missing < 0)
        return missing;
    *reply = (LocalReply)LocalReply_init_zero;
    return proto_decode(LocalReply_fields, reply, in + PROTO_FRAME_HEADER,
                        len - PROTO_FRAME_HEADER);
}

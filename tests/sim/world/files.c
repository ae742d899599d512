/* Descriptors: sockets, pairs, pipes, event counters, epoll; see house.h. */
#include "house_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { PIPE_ROOM = 256 * 1024, LOCAL_WAITING = 64, PASSED_MAX = 8 };

enum file_kind { FILE_SOCK, FILE_END, FILE_EVENT, FILE_EPOLL, FILE_DOOR };

struct epoll_item {
    struct vwait wait; /* first */
    struct vfile *set;
    struct list queued;
    struct epoll_item *next;
    int fd;
    struct epoll_event event;
};

struct vfile {
    enum file_kind kind;
    int refs;
    struct list waits;
    struct vsock *sock;
    /* An end of a pair or pipe; FILE_DOOR: a local socket before it is connected. */
    struct vfile *peer;
    struct fifo in;
    bool ended, writes, reads; /* `ended`: nothing more comes */
    bool is_local, never_blocks;
    struct vfile *passed[PASSED_MAX];
    unsigned passed_count;
    char path[108];
    bool listens;
    struct vfile *waiting[LOCAL_WAITING];
    unsigned waiting_count;
    uint64_t counter; /* FILE_EVENT */
    struct epoll_item *items;
    struct list queue; /* of items that may be ready */
};

/* ----------------------------------------------------------------------- the table */

/* What a program's standard numbers stand for. */
static int meant(int fd)
{
    const struct house *h = house_now();
    unsigned group = h != NULL ? group_now() : 0;
    return fd >= 0 && fd < 2 && group != 0 && h->stdio[group].given
               ? h->stdio[group].fds[fd]
               : fd;
}

static struct vfile **slot(int fd)
{
    struct house *h = house_now();
    fd = meant(fd);
    if (h == NULL || fd < FILE_BASE || fd >= FILE_BASE + HOUSE_FILES)
        return NULL;
    return &h->files[fd - FILE_BASE];
}

bool file_is_ours(int fd)
{
    return house_now() != NULL && meant(fd) >= FILE_BASE;
}

struct vfile *file_of(int fd)
{
    struct vfile **s = slot(fd);
    return s != NULL ? *s : NULL;
}

static struct vfile *file_new(enum file_kind kind)
{
    struct vfile *f = calloc(1, sizeof(*f));
    assert(f != NULL);
    f->kind = kind;
    list_init(&f->waits);
    list_init(&f->queue);
    return f;
}

size_t group_files(unsigned group)
{
    const struct house *h = house_now();
    size_t n = 0;
    for (int i = 0; i < HOUSE_FILES; i++)
        n += h->files[i] != NULL && h->owners[i] == group;
    return n;
}

/* For so many descriptors more of who runs. */
static bool has_room(size_t count)
{
    const struct machine *m = machine_now();
    return m == NULL || m->starved == 0 || m->starved != group_now() ||
           group_files(m->starved) + count <= m->files_max;
}

/* The number of a new descriptor for it. Numbers come again late, so that who uses one
 * that was closed is found out. */
static int enter(struct vfile *f)
{
    struct house *h = house_now();
    if (!has_room(1))
        return -EMFILE;
    for (int i = 0; i < HOUSE_FILES; i++) {
        int at = (h->next_file + i) % HOUSE_FILES;
        if (h->files[at] == NULL) {
            h->files[at] = f;
            h->owners[at] = group_now();
            h->next_file = at + 1;
            f->refs++;
            h->machine_of[at] = machine_now();
            if (machine_now() != NULL)
                machine_now()->files++;
            return FILE_BASE + at;
        }
    }
    return -EMFILE;
}

static void tell(struct vfile *f, int edges)
{
    struct list *next;
    for (struct list *l = f->waits.next; l != &f->waits; l = next) {
        struct vwait *w = LIST_OWNER(l, struct vwait, entry);
        next = l->next;
        w->cb(w, edges);
    }
}

void file_wait(struct vfile *f, struct vwait *w)
{
    w->file = f;
    list_push(&f->waits, &w->entry);
}

void file_wait_end(struct vwait *w)
{
    if (w->file != NULL)
        list_remove(&w->entry);
    w->file = NULL;
}

static void on_sock(void *ctx, int edges)
{
    tell(ctx, edges);
}

/* ------------------------------------------------------------------------- to make */

static int enter_sock(struct vsock *s)
{
    struct vfile *f = file_new(FILE_SOCK);
    f->sock = s;
    vsock_watch(s, on_sock, f);
    int fd = enter(f);
    if (fd < 0) {
        vsock_close(s);
        free(f);
    }
    return fd;
}

static int enter_new(enum file_kind kind, bool is_local)
{
    struct vfile *f = file_new(kind);
    f->is_local = is_local;
    int fd = enter(f);
    if (fd < 0)
        free(f);
    return fd;
}

int file_socket(int domain, int type)
{
    struct machine *m = machine_now();
    int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (domain == AF_UNIX && kind == SOCK_STREAM)
        return enter_new(FILE_DOOR, true);
    if (m == NULL || (domain != AF_INET && domain != AF_INET6))
        return -EAFNOSUPPORT;
    return enter_sock(vsock_new(m->stack, kind == SOCK_STREAM ? VPROTO_TCP : VPROTO_UDP,
                                domain == AF_INET ? ADDR_V4 : ADDR_V6));
}

static int enter_two(int fds[static 2], bool both_ways)
{
    if (!has_room(2))
        return -EMFILE;
    struct vfile *a = file_new(FILE_END), *b = file_new(FILE_END);
    a->peer = b;
    b->peer = a;
    a->reads = b->writes = true;
    a->writes = b->reads = both_ways;
    a->is_local = b->is_local = both_ways;
    fds[0] = enter(a);
    fds[1] = enter(b);
    assert(fds[0] >= 0 && fds[1] >= 0);
    return 0;
}

int file_pair(int fds[static 2])
{
    return enter_two(fds, true);
}

int file_pipe(int fds[static 2])
{
    return enter_two(fds, false);
}

int file_event(void)
{
    return enter_new(FILE_EVENT, false);
}

int file_epoll(void)
{
    return enter_new(FILE_EPOLL, false);
}

int file_dup(struct vfile *f)
{
    return enter(f);
}

static void free_items(struct vfile *f)
{
    while (f->items != NULL) {
        struct epoll_item *i = f->items;
        f->items = i->next;
        file_wait_end(&i->wait);
        free(i);
    }
}

static void forget(struct vfile *f);

static void drop_ref(struct vfile *f)
{
    if (--f->refs == 0)
        forget(f);
}

static void on_item(struct vwait *w, int edges);

/* An epoll forgets by itself what is closed; anybody else had to look away before. */
static void look_away(struct vfile *f)
{
    while (!list_empty(&f->waits)) {
        struct vwait *w = LIST_OWNER(f->waits.next, struct vwait, entry);
        assert(w->cb == on_item); /* closed while a loop or poll watches it */
        struct epoll_item *i = (struct epoll_item *)(void *)w;
        struct epoll_item **at = &i->set->items;
        while (*at != i)
            at = &(*at)->next;
        *at = i->next;
        list_remove(&i->queued);
        file_wait_end(w);
        free(i);
    }
}

static void forget(struct vfile *f)
{
    look_away(f);
    if (f->sock != NULL)
        vsock_close(f->sock);
    if (f->peer != NULL) {
        f->peer->peer = NULL;
        f->peer->ended = true;
        tell(f->peer, POLLIN | POLLOUT);
    }
    for (unsigned i = 0; i < f->passed_count; i++)
        drop_ref(f->passed[i]);
    for (unsigned i = 0; i < f->waiting_count; i++)
        drop_ref(f->waiting[i]);
    free_items(f);
    free(f->in.data);
    free(f);
}

int file_close(int fd)
{
    struct vfile **s = slot(fd);
    if (s == NULL || *s == NULL)
        return -EBADF;
    struct house *h = house_now();
    struct vfile *f = *s;
    *s = NULL;
    struct machine *m = h->machine_of[meant(fd) - FILE_BASE];
    if (m != NULL)
        m->files--;
    drop_ref(f);
    return 0;
}

/* Of loops and polls that turn no more; what an epoll has goes with the file. */
static void stop_waiting(struct vfile *f)
{
    struct list *next;
    for (struct list *l = f->waits.next; l != &f->waits; l = next) {
        struct vwait *w = LIST_OWNER(l, struct vwait, entry);
        next = l->next;
        if (w->cb != on_item)
            file_wait_end(w);
    }
}

void group_stdio(struct machine *m, unsigned group, int fd)
{
    struct house *h = m->house;
    h->stdio[group].given = true;
    for (int i = 0; i < 2; i++) {
        int own = i == 0 ? fd : file_dup(file_of(fd));
        h->stdio[group].fds[i] = own;
        h->owners[own - FILE_BASE] = group;
        h->machine_of[own - FILE_BASE] = m;
        m->files++;
    }
}

void files_kill(struct house *h, unsigned group)
{
    for (int i = 0; i < HOUSE_FILES; i++)
        if (h->files[i] != NULL && h->owners[i] == group)
            stop_waiting(h->files[i]);
    for (int i = 0; i < HOUSE_FILES; i++)
        if (h->files[i] != NULL && h->owners[i] == group)
            (void)file_close(FILE_BASE + i);
}

void files_free(struct house *h)
{
    for (int i = 0; i < HOUSE_FILES; i++)
        if (h->files[i] != NULL) {
            struct vfile *f = h->files[i];
            h->files[i] = NULL;
            while (!list_empty(&f->waits))
                file_wait_end(LIST_OWNER(f->waits.next, struct vwait, entry));
            drop_ref(f);
        }
}

struct vsock *file_sock(struct vfile *f)
{
    return f->sock;
}

void file_set_blocking(struct vfile *f, bool blocks)
{
    f->never_blocks = !blocks;
}

bool file_blocks(const struct vfile *f)
{
    return !f->never_blocks;
}

bool file_is_pipe(const struct vfile *f)
{
    return f->kind == FILE_END && !f->is_local && f->reads != f->writes;
}

bool file_is_local(const struct vfile *f)
{
    return f->is_local;
}

/* --------------------------------------------------------------------------- epoll */

static int item_ready(const struct epoll_item *i)
{
    return file_ready(i->wait.file) & (int)(i->event.events | EPOLLERR | EPOLLHUP);
}

static void queue(struct epoll_item *i)
{
    if (list_empty(&i->queued))
        list_push(&i->set->queue, &i->queued);
    tell(i->set, POLLIN);
}

static void on_item(struct vwait *w, int edges)
{
    struct epoll_item *i = (struct epoll_item *)(void *)w;
    (void)edges;
    if (item_ready(i) != 0)
        queue(i);
}

static struct epoll_item **item_of(struct vfile *f, int fd)
{
    struct epoll_item **at = &f->items;
    while (*at != NULL && ((*at)->fd != fd || (*at)->wait.file != file_of(fd)))
        at = &(*at)->next;
    return at;
}

int file_epoll_change(struct vfile *f, int op, int fd, const struct epoll_event *e)
{
    struct vfile *what = file_of(fd);
    struct epoll_item **at = item_of(f, fd), *i = *at;
    if (f->kind != FILE_EPOLL || what == NULL)
        return f->kind != FILE_EPOLL ? -EINVAL : -EBADF;
    if (op == EPOLL_CTL_ADD && i != NULL)
        return -EEXIST;
    if (op != EPOLL_CTL_ADD && i == NULL)
        return -ENOENT;
    if (op == EPOLL_CTL_DEL) {
        *at = i->next;
        list_remove(&i->queued);
        file_wait_end(&i->wait);
        free(i);
        return 0;
    }
    if (op == EPOLL_CTL_ADD) {
        i = calloc(1, sizeof(*i));
        assert(i != NULL);
        i->set = f;
        i->fd = fd;
        i->wait.cb = on_item;
        list_init(&i->queued);
        *at = i;
        file_wait(what, &i->wait);
    }
    i->event = *e;
    if (item_ready(i) != 0)
        queue(i);
    return 0;
}

int file_epoll_take(struct vfile *f, struct epoll_event *out, int max)
{
    struct list level;
    int n = 0;
    list_init(&level);
    while (n < max && !list_empty(&f->queue)) {
        struct epoll_item *i = LIST_OWNER(f->queue.next, struct epoll_item, queued);
        int ready = item_ready(i);
        list_remove(&i->queued);
        if (ready == 0)
            continue;
        out[n] = i->event;
        out[n++].events = (uint32_t)ready;
        if ((i->event.events & EPOLLET) == 0)
            list_push(&level, &i->queued);
    }
    while (!list_empty(&level)) {
        struct list *l = level.next;
        list_remove(l);
        list_push(&f->queue, l);
    }
    return n;
}

static bool has_ready_item(const struct vfile *f)
{
    for (struct list *l = f->queue.next; l != &f->queue; l = l->next)
        if (item_ready(LIST_OWNER(l, struct epoll_item, queued)) != 0)
            return true;
    return false;
}

/* ------------------------------------------------------------------- ends of pairs */

static int ready_end(const struct vfile *f)
{
    int is = 0;
    if (f->reads && (f->in.len > 0 || f->ended))
        is |= POLLIN;
    if (f->ended && f->is_local)
        is |= POLLRDHUP;
    if (f->peer == NULL)
        is |= f->writes ? POLLOUT | POLLHUP | (f->is_local ? 0 : POLLERR) : POLLHUP;
    else if (f->writes && f->peer->in.len < PIPE_ROOM)
        is |= POLLOUT;
    if (f->ended && f->is_local && !f->writes)
        is |= POLLHUP;
    return is;
}

int file_ready(const struct vfile *f)
{
    switch (f->kind) {
    case FILE_SOCK:
        return vsock_ready(f->sock);
    case FILE_END:
        return ready_end(f);
    case FILE_EVENT:
        return POLLOUT | (f->counter > 0 ? POLLIN : 0);
    case FILE_EPOLL:
        return has_ready_item(f) ? POLLIN : 0;
    case FILE_DOOR:
        return f->listens ? f->waiting_count > 0 ? POLLIN : 0 : POLLOUT | POLLHUP;
    }
    return 0;
}

static long read_end(struct vfile *f, void *buf, size_t cap, bool peek)
{
    if (!f->reads)
        return -EBADF;
    size_t n = fifo_copy(&f->in, 0, buf, cap);
    if (n == 0)
        return f->ended || cap == 0 ? 0 : -EAGAIN;
    if (!peek) {
        fifo_skip(&f->in, n);
        if (f->peer != NULL)
            tell(f->peer, POLLOUT);
    }
    return (long)n;
}

static long write_end(struct vfile *f, const void *buf, size_t len)
{
    if (!f->writes || f->peer == NULL)
        return f->writes || f->is_local ? -EPIPE : -EBADF;
    size_t room = f->peer->in.len < PIPE_ROOM ? PIPE_ROOM - f->peer->in.len : 0;
    if (room == 0)
        return -EAGAIN;
    size_t n = len < room ? len : room;
    fifo_put(&f->peer->in, buf, n);
    tell(f->peer, POLLIN);
    return (long)n;
}

static long read_event(struct vfile *f, void *buf, size_t cap)
{
    if (cap < sizeof(f->counter))
        return -EINVAL;
    if (f->counter == 0)
        return -EAGAIN;
    memcpy(buf, &f->counter, sizeof(f->counter));
    f->counter = 0;
    return sizeof(f->counter);
}

long file_read(struct vfile *f, void *buf, size_t cap, bool peek)
{
    struct addr from, to;
    switch (f->kind) {
    case FILE_SOCK:
        return vsock_proto(f->sock) == VPROTO_TCP
                   ? vsock_read(f->sock, buf, cap, peek)
                   : vsock_receive(f->sock, buf, cap, peek, &from, &to);
    case FILE_END:
        return read_end(f, buf, cap, peek);
    case FILE_EVENT:
        return read_event(f, buf, cap);
    default:
        return f->kind == FILE_DOOR ? -ENOTCONN : -EINVAL;
    }
}

long file_write(struct vfile *f, const void *buf, size_t len)
{
    struct addr none = {0};
    uint64_t add;
    switch (f->kind) {
    case FILE_SOCK:
        return vsock_proto(f->sock) == VPROTO_TCP
                   ? vsock_write(f->sock, buf, len)
                   : vsock_send(f->sock, buf, len, &none, NULL);
    case FILE_END:
        return write_end(f, buf, len);
    case FILE_EVENT:
        memcpy(&add, buf, sizeof(add));
        f->counter += add;
        tell(f, POLLIN);
        return sizeof(add);
    default:
        return f->kind == FILE_DOOR ? -ENOTCONN : -EINVAL;
    }
}

int file_shutdown(struct vfile *f, int how)
{
    if (f->kind == FILE_SOCK)
        return vsock_shutdown(f->sock, how);
    if (f->kind != FILE_END || !f->is_local)
        return f->kind == FILE_DOOR ? -ENOTCONN : -ENOTSOCK;
    if (how != SHUT_RD) {
        f->writes = false;
        if (f->peer != NULL) {
            f->peer->ended = true;
            tell(f->peer, POLLIN);
        }
    }
    if (how != SHUT_WR) {
        f->ended = true;
        if (f->peer != NULL) {
            f->peer->writes = false;
            tell(f->peer, POLLOUT);
        }
    }
    tell(f, POLLIN | POLLOUT);
    return 0;
}

size_t file_unsent(const struct vfile *f)
{
    if (f->kind == FILE_SOCK)
        return vsock_unsent(f->sock);
    return f->peer != NULL ? f->peer->in.len : 0;
}

size_t file_unread(const struct vfile *f)
{
    return f->kind == FILE_SOCK ? vsock_unread(f->sock) : f->in.len;
}

/* ------------------------------------------------------------------- local sockets */

static struct vfile *door_at(const char *path)
{
    struct house *h = house_now();
    for (int i = 0; i < HOUSE_FILES; i++)
        if (h->files[i] != NULL && h->files[i]->kind == FILE_DOOR &&
            strcmp(h->files[i]->path, path) == 0)
            return h->files[i];
    return NULL;
}

int file_bind(struct vfile *f, const char *path)
{
    if (f->kind != FILE_DOOR || door_at(path) != NULL)
        return f->kind != FILE_DOOR ? -EINVAL : -EADDRINUSE;
    if (mknod(path, S_IFSOCK | 0600, 0) != 0)
        return errno == EEXIST ? -EADDRINUSE : -errno;
    (void)snprintf(f->path, sizeof(f->path), "%s", path);
    return 0;
}

int file_listen(struct vfile *f)
{
    if (f->kind != FILE_DOOR || f->path[0] == '\0')
        return -EINVAL;
    f->listens = true;
    return 0;
}

int file_connect(struct vfile *f, const char *path)
{
    struct stat st;
    struct vfile *door = door_at(path);
    if (f->kind != FILE_DOOR || f->listens)
        return -EISCONN;
    if (door == NULL || !door->listens || door->waiting_count == LOCAL_WAITING)
        return lstat(path, &st) != 0 ? -errno : -ECONNREFUSED;
    struct vfile *far = file_new(FILE_END);
    f->kind = FILE_END;
    f->peer = far;
    far->peer = f;
    f->reads = f->writes = far->reads = far->writes = far->is_local = true;
    far->refs = 1; /* the door's */
    door->waiting[door->waiting_count++] = far;
    tell(door, POLLIN);
    tell(f, POLLOUT);
    return 0;
}

int file_accept(struct vfile *f)
{
    if (!has_room(1))
        return -EMFILE; /* who waits is left waiting */
    if (f->kind == FILE_SOCK) {
        struct vsock *s = vsock_accept(f->sock);
        if (s == NULL)
            return vsock_is_listening(f->sock) ? -EAGAIN : -EINVAL;
        return enter_sock(s);
    }
    if (f->kind != FILE_DOOR || !f->listens)
        return -EINVAL;
    if (f->waiting_count == 0)
        return -EAGAIN;
    struct vfile *far = f->waiting[0];
    memmove(&f->waiting[0], &f->waiting[1], --f->waiting_count * sizeof(far));
    int fd = enter(far);
    far->refs--; /* the door's */
    return fd;
}

void file_pass(struct vfile *f, struct vfile *along)
{
    assert(f->kind == FILE_END && f->peer != NULL &&
           f->peer->passed_count < PASSED_MAX);
    along->refs++;
    f->peer->passed[f->peer->passed_count++] = along;
}

int file_passed(struct vfile *f)
{
    if (f->kind != FILE_END || f->passed_count == 0)
        return -1;
    struct vfile *along = f->passed[0];
    memmove(&f->passed[0], &f->passed[1], --f->passed_count * sizeof(along));
    int fd = enter(along);
    along->refs--;
    return fd;
}

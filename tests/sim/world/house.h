/*
 * A world in which programs run: machines on a simulated internet, tasks on them, and
 * virtual time for all. One at a time in a process; while it stands, the names of libc
 * that libc.c defines are its own, for descriptors from FILE_BASE on and for clocks.
 */
#ifndef POSTERN_SIM_HOUSE_H
#define POSTERN_SIM_HOUSE_H

#include <ucontext.h>

#include "core/list.h"
#include "stack.h"

enum {
    FILE_BASE = 1 << 16,
    HOUSE_FILES = 8192,
    HOUSE_MACHINES = 16,
    HOUSE_NAMES = 16,
    HOUSE_GROUPS = 256,
    TURN_US = 5, /* what a turn of a loop takes */
};

struct house;
struct loop;
struct netmon;

struct machine {
    struct house *house;
    struct vnet_node *node;
    struct vstack *stack;
    size_t files, loops; /* that are open */
    bool disk_full;
    unsigned starved; /* 0, or the group that gets no descriptor beyond `files_max` */
    size_t files_max;
    struct netmon *monitors;
    struct stop *stops;
};

/* ----------------------------------------------------------------------- the world */

struct house *house_new(uint64_t seed);
/* Every task must have ended. */
void house_free(struct house *h);
struct vnet *house_net(struct house *h);
/* The one that stands, or NULL. */
struct house *house_now(void);
struct machine *house_machine(struct house *h, const char *name);
void house_name(struct house *h, const char *name, const char *address);
/* What a resolver takes to answer, on all machines, from now on. */
void house_names_take(struct house *h, uint64_t us);
uint64_t house_lookup_us(const struct house *h);
/* Addresses of a name; how many. */
size_t house_resolve(const struct house *h, const char *name, struct addr *out,
                     size_t max);
/* Runs for so long, or until `until` (may be NULL) says true: then true. */
bool house_run(struct house *h, uint64_t us, bool (*until)(void *ctx), void *ctx);
uint64_t house_now_us(const struct house *h);
/* Descriptors, loops, sockets and tasks that are left, in words; "" when it is clean.
 */
const char *house_left(struct house *h, char *buf, size_t cap);
/* Sees each packet where it reaches a node. */
void house_watch(struct house *h,
                 void (*on_packet)(void *ctx, const struct vnet_iface *at,
                                   const struct vpacket *p),
                 void *ctx);
/* The wall clocks of all machines jump, by what NTP or a person set. */
void house_jump(struct house *h, int64_t us);
int64_t house_wall_us(const struct house *h);
/* What programs hold open on each machine now. */
struct house_level {
    struct house_level_of {
        const char *name;
        size_t files, pipes, sockets,
            loops; /* `pipes`: ends, which are no files here */
    } of[HOUSE_MACHINES];
    unsigned count;
    uint64_t turns; /* the caller's */
};
void house_level(const struct house *h, struct house_level *l);
/* How often tasks had the processor. */
uint64_t house_turns(const struct house *h);
/* A number made of all that happened so far: the same for the same run. */
uint64_t house_trace(const struct house *h);

/* --------------------------------------------------------------------------- tasks */

struct task;
/* Begins when the world next turns. */
struct task *task_start(struct machine *m, void *(*run)(void *arg), void *arg);
/* The one that runs, or NULL: the test. */
struct task *task_now(void);
struct machine *machine_now(void);
/* Gives up the processor until task_wake, or that time. */
void task_sleep(uint64_t until_us);
void task_wake(struct task *t);
bool task_is_over(const struct task *t);
/* Waits, as pthread_join; frees it. From the test: it must be over. */
void *task_join(struct task *t);
bool task_exists(const struct task *t);
/* It frees itself when it is over. */
void task_detach(struct task *t);
/*
 * A task that the test starts and all that it starts are one group. As kill -9: its
 * tasks run no more and its descriptors are closed by the kernel; its memory, and what
 * it holds of the real kernel's, stay until the process ends.
 */
unsigned task_group(const struct task *t);
void group_kill(struct machine *m, unsigned group);
/* As SIGSTOP: no task of it runs, until that of none (0) or another is said. */
void group_stop(struct house *h, unsigned group);
size_t group_files(unsigned group);
/* That of who runs, 0: the test. */
unsigned group_now(void);
/* Its open loops. */
size_t *group_loops(unsigned group);

/* The group's standard input and output are that descriptor from now on, and its own.
 */
void group_stdio(struct machine *m, unsigned group, int fd);

/* Sends what a signal would send to the program: io/stop.h's callback. */
void machine_stop(struct machine *m, int signum);
/* The same to one of them. */
void group_signal(struct machine *m, unsigned group, int signum);

/* --------------------------------------------------------------------- descriptors */

struct vfile;

/* Told of each change of a file, until it is taken out. Zeroed: stands nowhere. */
struct vwait {
    struct list entry; /* first */
    struct vfile *file;
    void (*cb)(struct vwait *w, int edges);
};

bool file_is_ours(int fd);
/* NULL when it is not open. */
struct vfile *file_of(int fd);
/* POLLIN and so on. */
int file_ready(const struct vfile *f);
void file_wait(struct vfile *f, struct vwait *w);
void file_wait_end(struct vwait *w);

/* As the system calls, but with negative errno. */
int file_socket(int domain, int type);
int file_pair(int fds[static 2]);
int file_pipe(int fds[static 2]);
int file_event(void);
int file_epoll(void);
int file_accept(struct vfile *f);
int file_dup(struct vfile *f);
int file_close(int fd);
/* Whether reads and writes wait; those of a new one do. */
void file_set_blocking(struct vfile *f, bool blocks);
bool file_blocks(const struct vfile *f);
/* NULL: it is none. */
struct vsock *file_sock(struct vfile *f);
long file_read(struct vfile *f, void *buf, size_t cap, bool peek);
long file_write(struct vfile *f, const void *buf, size_t len);
int file_shutdown(struct vfile *f, int how);
size_t file_unsent(const struct vfile *f);
size_t file_unread(const struct vfile *f);
bool file_is_local(const struct vfile *f);
bool file_is_pipe(const struct vfile *f);
/* Local sockets by their path. */
int file_bind(struct vfile *f, const char *path);
int file_listen(struct vfile *f);
int file_connect(struct vfile *f, const char *path);
/* A descriptor that goes along with the next bytes, and one that came; -1: none. */
void file_pass(struct vfile *f, struct vfile *along);
int file_passed(struct vfile *f);
struct epoll_event;
int file_epoll_change(struct vfile *f, int op, int fd, const struct epoll_event *e);
int file_epoll_take(struct vfile *f, struct epoll_event *out, int max);

#endif

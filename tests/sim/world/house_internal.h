/* What house.c, task.c and files.c share. */
#ifndef POSTERN_SIM_HOUSE_INTERNAL_H
#define POSTERN_SIM_HOUSE_INTERNAL_H

#include <setjmp.h>

#include "house.h"
#include "stack_internal.h"

/* Where a coroutine is, while another runs. */
struct place {
    ucontext_t context;
    jmp_buf jump;
    bool begun; /* `jump` is where it is; else the context's begin */
};

struct task {
    struct list entry; /* first: of all, or of those that may run */
    struct machine *machine;
    struct place place;
    void *stack;
    void *fiber; /* AddressSanitizer's */
    void *(*run)(void *arg);
    void *arg, *result;
    bool over, ready, detached;
    unsigned group;
    struct task *joiner;
    struct valarm alarm;
    struct task *next; /* of all */
};

struct house {
    struct vnet *net;
    struct machine machines[HOUSE_MACHINES];
    size_t machine_count;
    struct {
        char name[64];
        struct addr address;
    } names[HOUSE_NAMES];
    size_t name_count;
    uint64_t lookup_us;
    uint64_t secrets, trace;
    bool prints;
    struct task *tasks, *running;
    struct list ready; /* tasks, in the order in which they woke */
    unsigned stopped;  /* the group whose tasks do not run */
    struct list held;  /* those of them that would */
    struct place outside;
    void *outside_fiber;
    const void *outside_stack;
    size_t outside_size;
    struct vfile *files[HOUSE_FILES];
    struct machine *machine_of[HOUSE_FILES];
    unsigned owners[HOUSE_FILES]; /* the groups in which they were made */
    int next_file;
    unsigned groups;
    struct {
        bool given;
        int fds[2];
    } stdio[HOUSE_GROUPS]; /* what a group's numbers 0 and 1 mean */
    size_t group_loops[HOUSE_GROUPS];
    uint64_t turns;
    void (*on_packet)(void *ctx, const struct vnet_iface *at, const struct vpacket *p);
    void *on_packet_ctx;
    int64_t wall_us; /* what wall clocks are ahead of where they began */
};

/* Runs every task that may. */
void tasks_run(struct house *h);
void tasks_free(struct house *h);
void files_free(struct house *h);
void files_kill(struct house *h, unsigned group);
void tasks_kill(struct house *h, unsigned group);
void stops_kill(struct machine *m, unsigned group);
void monitors_kill(struct machine *m, unsigned group);
void locks_kill(unsigned group);

#endif

/* Coroutines: programs and their threads; see house.h. */
#include "house_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FIBER_LEAVE(save, stack, size) __sanitizer_start_switch_fiber(save, stack, size)
#define FIBER_ENTER(saved, stack, size)                                                \
    __sanitizer_finish_switch_fiber(saved, stack, size)
#else
#define FIBER_LEAVE(save, stack, size) ((void)(save), (void)(stack), (void)(size))
#define FIBER_ENTER(saved, stack, size) ((void)(saved), (void)(stack), (void)(size))
#endif

/*
 * From one coroutine to another. swapcontext asks the kernel for the signal mask each
 * time, which is a tenth of a run; a jump does not. AddressSanitizer does not follow
 * jumps between stacks.
 */
static void change(struct place *from, struct place *to)
{
#if defined(__SANITIZE_ADDRESS__)
    to->begun = true;
    (void)swapcontext(&from->context, &to->context);
#else
    if (_setjmp(from->jump) != 0)
        return;
    if (to->begun)
        _longjmp(to->jump, 1);
    to->begun = true;
    (void)setcontext(&to->context);
#endif
}

enum { STACK_BYTES = 2 * 1024 * 1024, STILL_MAX = 2000000 };

struct task *task_now(void)
{
    struct house *h = house_now();
    return h != NULL ? h->running : NULL;
}

unsigned task_group(const struct task *t)
{
    return t->group;
}

unsigned group_now(void)
{
    struct task *t = task_now();
    return t != NULL ? t->group : 0;
}

struct machine *machine_now(void)
{
    struct task *t = task_now();
    return t != NULL ? t->machine : NULL;
}

/* Back to the world. */
static void leave(struct task *t)
{
    struct house *h = t->machine->house;
    FIBER_LEAVE(t->over ? NULL : &t->fiber, h->outside_stack, h->outside_size);
    change(&t->place, &h->outside);
    FIBER_ENTER(t->fiber, NULL, NULL);
}

static void enter(void)
{
    struct task *t = task_now();
    struct house *h = t->machine->house;
    FIBER_ENTER(NULL, &h->outside_stack, &h->outside_size);
    t->result = t->run(t->arg);
    t->over = true;
    if (t->joiner != NULL)
        task_wake(t->joiner);
    leave(t);
    abort();
}

static void on_alarm(void *ctx)
{
    task_wake(ctx);
}

struct task *task_start(struct machine *m, void *(*run)(void *arg), void *arg)
{
    struct house *h = m->house;
    struct task *t = calloc(1, sizeof(*t));
    assert(t != NULL);
    t->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert(t->stack != MAP_FAILED);
    (void)mprotect(t->stack, 4096, PROT_NONE);
    t->machine = m;
    t->group = h->running != NULL ? h->running->group : ++h->groups;
    assert(t->group < HOUSE_GROUPS);
    t->run = run;
    t->arg = arg;
    t->alarm = (struct valarm){.cb = on_alarm, .ctx = t};
    (void)getcontext(&t->place.context);
    t->place.context.uc_stack.ss_sp = t->stack;
    t->place.context.uc_stack.ss_size = STACK_BYTES;
    t->place.context.uc_link = NULL;
    makecontext(&t->place.context, enter, 0);
    t->next = h->tasks;
    h->tasks = t;
    list_init(&t->entry);
    task_wake(t);
    return t;
}

void task_wake(struct task *t)
{
    if (t->ready || t->over)
        return;
    t->ready = true;
    valarm_off(&t->machine->house->net->clock, &t->alarm);
    list_push(&t->machine->house->ready, &t->entry);
}

void task_sleep(uint64_t until_us)
{
    struct task *t = task_now();
    assert(t != NULL); /* the test itself does not wait: house_run */
    if (until_us != UINT64_MAX)
        valarm_set(&t->machine->house->net->clock, &t->alarm, until_us);
    leave(t);
}

static void forget(struct task *t)
{
    struct task **at = &t->machine->house->tasks;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    list_remove(&t->entry);
    valarm_off(&t->machine->house->net->clock, &t->alarm);
    (void)munmap(t->stack, STACK_BYTES);
    free(t);
}

void tasks_run(struct house *h)
{
    unsigned long turns = 0;
    while (!list_empty(&h->ready)) {
        struct task *t = LIST_OWNER(h->ready.next, struct task, entry);
        assert(turns++ < STILL_MAX); /* time stands still: something turns in circles */
        list_remove(&t->entry);
        if (t->group == h->stopped) {
            list_push(&h->held, &t->entry);
            continue;
        }
        t->ready = false;
        h->running = t;
        h->turns++;
        FIBER_LEAVE(&h->outside_fiber, t->stack, STACK_BYTES);
        h->outside.begun = true;
        change(&h->outside, &t->place);
        FIBER_ENTER(h->outside_fiber, NULL, NULL);
        h->running = NULL;
        if (t->over && t->detached)
            forget(t);
    }
}

void group_stop(struct house *h, unsigned group)
{
    h->stopped = group;
    while (!list_empty(&h->held)) {
        struct list *first = h->held.next;
        list_remove(first);
        list_push(&h->ready, first);
    }
}

bool task_is_over(const struct task *t)
{
    return t->over;
}

bool task_exists(const struct task *t)
{
    const struct house *h = house_now();
    const struct task *x = h != NULL ? h->tasks : NULL;
    while (x != NULL && x != t)
        x = x->next;
    return x != NULL;
}

void *task_join(struct task *t)
{
    while (!t->over) {
        t->joiner = task_now();
        task_sleep(UINT64_MAX);
    }
    void *result = t->result;
    forget(t);
    return result;
}

void task_detach(struct task *t)
{
    t->detached = true;
}

void tasks_kill(struct house *h, unsigned group)
{
    struct task *next;
    for (struct task *t = h->tasks; t != NULL; t = next) {
        next = t->next;
        if (t->group == group)
            forget(t);
    }
}

void tasks_free(struct house *h)
{
    while (h->tasks != NULL)
        forget(h->tasks);
}

/*
 * The loop of one thread: timers, descriptors that became ready, calls from other
 * threads. The only place, with the few files beside it that include loop_uv.h, that
 * knows which library turns it. Everything here belongs to the thread that runs the
 * loop, but for wake_up.
 *
 * Timers, watches and wakes stand in their owners' memory. Once stopped or closed they
 * call nothing, and their memory is the owner's again at once: nobody waits for a late
 * close. Callbacks come from the loop only, never from inside a call made here, and may
 * stop, close and free whatever they like, the loop excepted.
 */
#ifndef POSTERN_IO_LOOP_H
#define POSTERN_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/agenda.h"
#include "core/err.h"

struct loop;

MUST_CHECK int loop_open(struct loop **out);
/* Nothing may stand in it any more, but what loop_finish has left: then its memory
 * stays. NULL is fine. */
void loop_close(struct loop *l);
/* Until loop_stop, or until there is nothing left that could call. */
void loop_run(struct loop *l);
/*
 * As the last thing but loop_close: until there is nothing left, for goodbyes and for
 * what threads do, at most `ms`. False: some of it is left, calls nobody any more, and
 * keeps what it has.
 */
bool loop_finish(struct loop *l, uint64_t ms);
/* Once: waits until something is due or ready, and calls it. */
void loop_turn(struct loop *l);
/* The same without waiting. */
void loop_poll(struct loop *l);
/* Ends loop_run when the running callback has returned. */
void loop_stop(struct loop *l);

/* Monotonic, as of when the loop woke up. */
uint64_t loop_now_ms(const struct loop *l);
/* Looks at the clock again: before a timer is started after long work, or from outside
 * of callbacks. */
void loop_refresh(struct loop *l);

typedef void (*loop_cb)(void *ctx);

/*
 * `cb` is told of each session with another machine that something on this loop begins:
 * a TCP connection, or a UDP socket's first packet to an address. Each is an entry in
 * the tables of NATs and firewalls on the way. NULL: nobody is.
 */
void loop_on_session(struct loop *l, loop_cb cb, void *ctx);
/* It begins now; towards this machine itself and within its link none does. */
void loop_begin_session(struct loop *l, const struct addr *to);

/* Initialised by timer_init; then it may be stopped and started any number of times. */
struct timer {
    struct agenda_entry entry; /* first */
    struct loop *loop;
    loop_cb cb;
    void *ctx;
    uint64_t every_ms; /* 0: once */
    bool fine;
};

void timer_init(struct timer *t, struct loop *l, loop_cb cb, void *ctx);
/* Calls once, `ms` after loop_now_ms (0: when the loop next turns). One that runs
 * starts anew. */
void timer_start(struct timer *t, uint64_t ms);
/* Calls after `first_ms`, and then every `every_ms` until it is stopped. */
void timer_every(struct timer *t, uint64_t first_ms, uint64_t every_ms);
/* Calls once, when clock_ns() has come to `at_ns`: finer than milliseconds, and dearer.
 * One that alone runs does not keep loop_run going. */
void timer_at_ns(struct timer *t, uint64_t at_ns);
/* Harmless when it does not run, and on a zeroed one. */
void timer_stop(struct timer *t);
bool timer_is_active(const struct timer *t);
/* 0 when it does not run; not for timer_at_ns. */
uint64_t timer_due_in_ms(const struct timer *t);

enum {
    WATCH_READ = 1, /* bytes or their end */
    WATCH_WRITE = 2,
    WATCH_HANGUP = 4, /* the other end writes no more, with or without unread bytes */
    WATCH_END = 8     /* over both ways; for who does not read just now */
};

/* `events`: what became ready, out of those asked for. */
typedef void (*watch_cb)(void *ctx, int events);

/* Zeroed: closed. */
struct watch {
    struct loop_poll *poll;
};

/*
 * Watches a non-blocking descriptor, borrowed, for nothing as yet. The watch must be
 * closed before the descriptor is. POSTERN_ERR_NOMEM; POSTERN_ERR_IO where the kernel
 * cannot watch it (a file).
 */
MUST_CHECK int watch_open(struct watch *w, struct loop *l, int fd, watch_cb cb,
                          void *ctx);
/* From now on calls for these events, again and again as long as they hold; 0: none.
 * An error of the descriptor counts as each of those asked for. Harmless when closed.
 */
void watch_for(struct watch *w, int events);
/* Both at once, for what always reads. */
MUST_CHECK int watch_start(struct watch *w, struct loop *l, int fd, int events,
                           watch_cb cb, void *ctx);
/* The same watch calls somebody else from now on. */
void watch_pass(struct watch *w, watch_cb cb, void *ctx);
/* Harmless when closed. */
void watch_close(struct watch *w);
bool watch_is_open(const struct watch *w);
/* A watch that alone does not keep loop_run going. */
void watch_in_background(struct watch *w);

/* Zeroed: closed. */
struct wake {
    struct loop_async *async;
};

MUST_CHECK int wake_open(struct wake *w, struct loop *l, loop_cb cb, void *ctx);
/* From any thread: `cb` is called from the loop, once at least after the last call. */
void wake_up(struct wake *w);
void wake_close(struct wake *w);
bool wake_is_open(const struct wake *w);
/* One that alone does not keep loop_run going. */
void wake_in_background(struct wake *w);

#endif

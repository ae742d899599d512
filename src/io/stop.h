/*
 * What ends a command that runs for long: SIGINT, SIGTERM, SIGHUP (also: its terminal
 * was closed), SIGPIPE from another process, and, for those who ask, the end of whoever
 * reads its output. All become one call from the loop, so that sessions are closed with
 * a word to the peer. What was ignored when the program started stays ignored (nohup,
 * and systemd's IgnoreSIGPIPE). What a command does then is not known here.
 */
#ifndef POSTERN_IO_STOP_H
#define POSTERN_IO_STOP_H

#include <signal.h>
#include <stdbool.h>

#include "core/err.h"
#include "io/loop.h"

struct stop;

/*
 * Once, at the start of the process: from now on a write to a closed pipe or socket is
 * an error of that write and no more, so is one beyond the limit of a file
 * (RLIMIT_FSIZE), and SIGPIPE that another process sends is SIGTERM; none is blocked,
 * whatever the parent had blocked for itself. A program that is executed ignores what
 * was ignored before.
 */
void stop_prepare(void);
/*
 * Once, for a process that is one command which runs until it is ended: where nothing
 * is open here that could end in order, before the first stop_open, between two and
 * behind the last, those signals end it at once with status 0.
 */
void stop_prepare_command(void);

/*
 * Calls `on_stop` from the loop with the signal's number, once for each signal until
 * stop_close.
 */
MUST_CHECK int stop_open(struct stop **out, struct loop *loop,
                         void (*on_stop)(void *ctx, int signum), void *ctx);
/*
 * Counts the closed other end of stdout, a pipe or socket, as SIGPIPE; and of a
 * terminal too that was the process's own at stop_open, unless SIGHUP is ignored: who
 * was started in the background of a shell that has ended gets no signal from it.
 */
void stop_watch_output(struct stop *s);
/*
 * True when the process had a terminal at stop_open and that was closed since: what
 * tells this SIGHUP from one that somebody sent.
 */
bool stop_terminal_closed(const struct stop *s);
/*
 * Stops what stop_open watches for, as SIGTERM does. False when there is nothing: the
 * caller ends by itself.
 */
MUST_CHECK bool stop_now(void);
/*
 * NULL is fine; the loop must run once more. Signals do what they did before; one that
 * came is blocked and pending from here on, for stop_end_by_signal.
 */
void stop_close(struct stop *s);
/*
 * Last of all, for a command that has an end: when a signal came before that, the
 * process dies of it here, so that whoever waits for it knows. Else it returns.
 */
void stop_end_by_signal(void);

/*
 * For what runs without a loop: the signals wait from now on, stop_is_due says whether
 * one does, and stop_forget, when all was done before it came, lets things be as
 * `before`.
 */
void stop_hold(sigset_t *before);
bool stop_is_due(void);
void stop_forget(const sigset_t *before);

#endif

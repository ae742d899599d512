/*
 * TCP's sweep opens sessions in our NAT in waves too (core/waves.h), each after a
 * canary (path/canary.h): a table is one for UDP and TCP in many NATs. It asks before
 * the first wave, by which the socket beside the canary gets its own session. Where
 * neither is answered then no UDP comes through here, and the sum alone bounds the
 * sweep. Knows no attempt.
 */
#ifndef POSTERN_PATH_TCP_WAVES_H
#define POSTERN_PATH_TCP_WAVES_H

#include <stdbool.h>

#include "path/target.h"

struct tcp_waves;

/* NULL: out of memory. */
struct tcp_waves *tcp_waves_open(struct approach *a);
/* NULL is fine. What counts already and was not opened is given back. */
void tcp_waves_close(struct tcp_waves *w);
/* To be called often, before the ones below. */
void tcp_waves_ask(struct tcp_waves *w);
/* One may be opened, of `more` that are wanted. */
bool tcp_waves_may_open(struct tcp_waves *w, unsigned more);
/* It was. */
void tcp_waves_opened(struct tcp_waves *w);
/* Another may be soon, as a canary is out. */
bool tcp_waves_waits(const struct tcp_waves *w);
/* Nothing more is to be sent, not to what seemed open either. */
bool tcp_waves_is_full(const struct tcp_waves *w);

#endif

/*
 * What prediction opens in this device's NAT, of all programs of a state directory: a
 * sum in a small file there, so that many short ones learn from each other what the
 * network bears (core/sessions.h decides). A hint: it may be lost, or deleted.
 */
#ifndef POSTERN_PATH_NET_SESSIONS_H
#define POSTERN_PATH_NET_SESSIONS_H

#include <stdbool.h>

#include "core/budget.h"

/* NULL is fine. */
void net_budget_free(struct budget *b);
/* Where the file cannot be written each program counts for itself. */
void net_budget_share(struct budget *b, const char *dir);
/* As sessions_take, _bear, _full and _forget. */
bool net_take_session(struct budget *b);
/* Opened within the last life by this device's other programs. */
unsigned net_sessions_of_others(struct budget *b);
void net_bear_sessions(struct budget *b);
void net_sessions_full(struct budget *b);
void net_forget_sessions(struct budget *b);

#endif

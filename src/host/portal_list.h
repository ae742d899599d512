/*
 * The list that this host gives the broker's portal: the services that it opens, and
 * the accounts that may use them; and what follows for who came by it, when it changes.
 */
#ifndef POSTERN_HOST_PORTAL_LIST_H
#define POSTERN_HOST_PORTAL_LIST_H

#include "host/presence.h"

struct portal_list;

/* NULL: no memory. */
struct portal_list *portal_list_new(struct host *h);
/* NULL is fine. */
void portal_list_free(struct portal_list *l);
void portal_list_on_up(struct portal_list *l, struct presence *p);
/* What is published has changed. */
void portal_list_on_services(struct portal_list *l);
/* Accounts or public services have changed: for what is under way. */
void portal_list_on_change(struct portal_list *l);
/* Every few seconds: what nobody told. */
void portal_list_sweep(struct portal_list *l);

#endif

/* The parts of the privileged helper; see core/privilege.h for what it does. */
#ifndef POSTERN_HELPER_HELPER_H
#define POSTERN_HELPER_HELPER_H

#include "core/err.h"
#include "core/privilege.h"

/* Fills `r->err` and `r->reason`; returns `err`. */
PRINTF_LIKE(3, 4)
int refuse(struct privilege_reply *r, int err, const char *fmt, ...);

/* knock.c: the packet filter. `seen` tells the program of a knock. */
typedef void (*knock_seen_cb)(uint32_t serial, const struct addr *from);
int knock_add(const struct privilege_request *q, struct privilege_reply *r);
int knock_remove(const struct privilege_request *q, struct privilege_reply *r);
/* The descriptor to poll for knock_read, or -1 while there is no knock. */
int knock_fd(void);
void knock_read(knock_seen_cb seen);

/* sockets.c: each leaves a descriptor in `fd`, or returns an error. */
int socket_sequenced(const struct privilege_request *q, struct privilege_reply *r,
                     int *fd);
int socket_transparent(const struct privilege_request *q, struct privilege_reply *r,
                       int *fd);
int socket_low_port(const struct privilege_request *q, struct privilege_reply *r,
                    int *fd);
int socket_buffers(int fd, struct privilege_reply *r);

/* arranged.c */
int arranged_begin(const struct privilege_request *q, struct privilege_reply *r,
                   int *fd);
int arranged_answer(const struct privilege_request *q, struct privilege_reply *r);

#endif

/* The parts of the privileged helper; see core/privilege.h for what it does. */
#ifndef POSTERN_HELPER_PARTS_H
#define POSTERN_HELPER_PARTS_H

#include <poll.h>
#include <stddef.h>

#include "core/err.h"
#include "core/privilege.h"
#include "helper/edge.h"
#include "io/caps.h"

/* text.c. Fills `r->err` and `r->reason`; returns `err`. */
PRINTF_LIKE(3, 4)
int refuse(struct privilege_reply *r, int err, const char *fmt, ...);

/* keeper_process.c */
#define PRIVILEGE_CAPS (CAPS_NET_ADMIN | CAPS_NET_RAW | CAPS_NET_BIND_SERVICE)
/* Whether `name`, argv[0], is the keeper's; and calls this process as it should be. */
bool keeper_is_named(const char *name);
/* Until the program is gone; what main returns. */
int keeper_run(void);
/* In the helper: a keeper with `fd` as its end of a pair. */
int keeper_start(int fd, struct privilege_reply *r);

/* given.c: `fd` as edge_check wants it; -1: nothing came. */
enum edge_given given_kind(int fd);

/* packet.c: what the packet filter handed over, from the IP header on. */
struct packet {
    struct addr from, to; /* with their ports */
    bool tcp;             /* else UDP */
    uint32_t sequence;
};
/* False when it is neither or not whole. */
bool packet_parse(struct packet *p, const uint8_t *bytes, size_t len);

/* knock_filter.c: the packet filter. `seen` tells the program of a knock. */
typedef void (*knock_seen_cb)(uint32_t serial, const struct addr *from);
int knock_add(const struct privilege_request *q, struct privilege_reply *r);
int knock_remove(const struct privilege_request *q, struct privilege_reply *r);
/* The descriptor to poll for knock_read, or -1 while there is no knock. */
int knock_fd(void);
void knock_read(knock_seen_cb seen);

/*
 * sockets.c: each leaves a descriptor in `fd`, or returns an error. Of a request their
 * fields are as edge.c allows, here and in all below.
 */
int socket_sequenced(const struct privilege_request *q, struct privilege_reply *r,
                     int *fd);
int socket_transparent(const struct privilege_request *q, struct privilege_reply *r,
                       int *fd);
int socket_low_port(const struct privilege_request *q, struct privilege_reply *r,
                    int *fd);
int socket_buffers(int fd, struct privilege_reply *r);
/* Is that address this machine's? */
bool socket_is_own(const struct addr *a);

/* names_link.c: the link leaves as `fd`. */
int names_link(struct privilege_reply *r, int *fd);

/* syn_gate.c: connections that wait for a verdict; `fd` is the program's end of the
 * gate.
 */
enum { GATE_POLL_MAX = 1 + PRIVILEGE_GATES_MAX };
int gate_add(const struct privilege_request *q, struct privilege_reply *r, int *fd);
/* What to poll for gate_serve: fills `p`, returns how many. */
size_t gate_poll(struct pollfd p[static GATE_POLL_MAX]);
void gate_serve(const struct pollfd *p, size_t n);
/* How long to poll at most, -1: for ever. */
int gate_timeout_ms(void);
/* Takes all rules away. */
void gate_end(void);
/* Takes away what helpers left behind that could not. */
void gate_tidy(void);

/* gate_rules.c: the rules for syn_gate.c. */
struct gate_queue {
    uint16_t number; /* of the queue that is ours */
    uint32_t mark;   /* on what shall be refused */
    /* Whether nobody reads that queue: then rules that name it are left over. */
    bool (*is_abandoned)(uint16_t number);
};
/* Holds what comes to these, as PRIVILEGE_GATE says; `count` > 0. */
int gate_rules_set(const struct gate_queue *queue, const struct addr *gates,
                   size_t count, struct privilege_reply *r);
/* Takes them away; nothing happens when there are none. */
void gate_rules_clear(void);
/* Takes away those that name a queue which is abandoned. */
void gate_rules_tidy(const struct gate_queue *queue);

/* run_program.c: another program with this one's privileges, without a shell. */
/*
 * Runs `name` of /usr/sbin or /sbin with `argv`, `input` (may be NULL) as its standard
 * input, for at most RUN_S. Returns its exit status, -1 when it did not end well.
 * `output` (may be NULL): what it wrote, cut off at `cap` - 1 bytes; to standard output
 * when it ended with 0, else to standard error.
 */
enum { RUN_S = 3 };
int run_program(const char *name, const char *const *argv, const char *input,
                char *output, size_t cap);

/* In a child: lets the next execve keep these of ours; CAPS_NET_ADMIN and so on. */
void run_hand_down(uint64_t caps);

/* arranged.c */
int arranged_begin(const struct privilege_request *q, struct privilege_reply *r,
                   int *fd);
int arranged_answer(const struct privilege_request *q, struct privilege_reply *r);

#endif

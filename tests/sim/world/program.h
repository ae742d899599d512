/*
 * A `postern` command on a machine of the world, as its main() would run it, with its
 * events kept; and plain programs that stand for a service and its user.
 */
#ifndef POSTERN_SIM_PROGRAM_H
#define POSTERN_SIM_PROGRAM_H

#include <stdio.h>

#include "core/err.h"
#include "house.h"

enum { PROGRAM_ARGS = 24, PROGRAM_FIELD = 512 };

struct program {
    struct task *task;
    char line[1024];
    char *args[PROGRAM_ARGS];
    int arg_count;
    FILE *out;
    char *text; /* its events so far, a JSON object a line */
    size_t text_len;
    bool is_piped;
    int result; /* once it is over */
    struct fault fault;
};

/* Starts it; words are parted by spaces. --json and --state STATE are added. */
void program_start(struct program *p, struct machine *m, const char *state,
                   const char *format, ...) PRINTF_LIKE(4, 5);
/* The same with standard input and output, of which the other end is returned. */
int program_start_piped(struct program *p, struct machine *m, const char *state,
                        const char *format, ...) PRINTF_LIKE(4, 5);
/* Once it is over: what it left running ends with it, as a process does. */
void program_exit(struct program *p, struct machine *m);
/* Once it is over. */
void program_fini(struct program *p);
/* As kill -9, and then as program_fini. */
void program_kill(struct program *p, struct machine *m);
/* The first event of that name with `field` (NULL: any) has come; its value goes to
 * `value` (may be NULL). */
bool program_said(const struct program *p, const char *event, const char *field,
                  char value[static PROGRAM_FIELD]);
/* The same of the last event of that name. */
bool program_said_last(const struct program *p, const char *event, const char *field,
                       char value[static PROGRAM_FIELD]);
/* The same of the first event of that name whose `key` is `is`. */
bool program_said_of(const struct program *p, const char *event, const char *key,
                     const char *is, const char *field,
                     char value[static PROGRAM_FIELD]);
/* So many events of that name hold that text. */
unsigned program_count(const struct program *p, const char *event, const char *text);

/* Sends back what each connection to that port of loopback says, until `*stop`. */
struct echo {
    struct task *task;
    uint16_t port;
    bool stop;
    unsigned accepted, open;
    unsigned used; /* by who said something */
};
void echo_start(struct echo *e, struct machine *m, uint16_t port);

/* Sends back each packet to that UDP port of loopback, until `*stop`. */
struct udp_echo {
    struct task *task;
    uint16_t port;
    bool stop;
};
void udp_echo_start(struct udp_echo *e, struct machine *m, uint16_t port);

/* Asks there again and again, each time something else, and hears answers. */
struct asker {
    struct task *task;
    uint32_t ip; /* of loopback, as a number */
    uint16_t port;
    bool stop;
    uint64_t silent_us; /* until then it says nothing */
    uint32_t asked;
    unsigned answered, wrong; /* wrong: what it never asked */
    uint64_t answered_us;     /* when it was last */
};
void asker_start(struct asker *a, struct machine *m);

/* Connects to that port of loopback, writes so many bytes of a stream that `seed`
 * makes, and compares what comes back. */
struct talker {
    struct task *task;
    uint16_t port;
    uint32_t ip;      /* of loopback: 127.80.1.2 as a number; 0: 127.0.0.1 */
    int fd;           /* instead of a connection to that port; closed in the end */
    const char *host; /* there is a SOCKS proxy, which is asked for that host's... */
    uint16_t service; /* ... port */
    uint64_t seed;
    size_t bytes, sent, got;
    unsigned pause_ms;   /* between its writes */
    uint64_t silent_us;  /* until then it says nothing */
    int error;           /* errno of what broke it; 0: all came back, and its end */
    uint64_t last_us;    /* when something came last */
    uint64_t longest_us; /* the longest silence between two arrivals */
};
void talker_start(struct talker *t, struct machine *m);
/* The same from a task of the caller's; NULL. */
void *talker_run(struct talker *t);

#endif

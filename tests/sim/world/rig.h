/*
 * What scenarios have in common: a town with a running broker, a host that serves an
 * echo, and a client that has joined it; and their orderly end. What goes wrong is told
 * with the seed, and ends the process.
 */
#ifndef POSTERN_SIM_RIG_H
#define POSTERN_SIM_RIG_H

#include "../../unit/scratch.h"
#include "program.h"
#include "town.h"

#define SECONDS(n) ((uint64_t)(n)*1000000)

enum { ECHO_PORT = 7000, LOCAL_PORT = 9000 };

struct rig {
    uint64_t seed;
    struct town *town;
    char dir[SCRATCH_LEN];
    char state[3][SCRATCH_LEN + 16]; /* broker, host, client */
    struct program broker, serve, connect;
    struct echo echo;
    char link[PROGRAM_FIELD];
    int kernel_fds; /* of this process, before */
};

struct rig_config {
    uint64_t seed;
    const struct nat_config *host_nat, *client_nat;
    const struct vnet_wire
        *wire; /* of each home's access; NULL: 5 ms and nothing else */
};

void rig_init(struct rig *r, const struct rig_config *c);
/* Ends all, and looks whether everything is where it began. */
void rig_fini(struct rig *r);
/* `postern connect` to the echo at LOCAL_PORT of the client's loopback. */
void rig_connect(struct rig *r);
void rig_disconnect(struct rig *r);

/* Ends it in order, and begins it anew after a while. */
void rig_restart_broker(struct rig *r, uint64_t after_us);
void rig_restart_host(struct rig *r, uint64_t after_us);

/* A link with which one device may join. */
void rig_invite(struct rig *r, char link[static PROGRAM_FIELD]);

/* The event comes within so long, or the process ends. */
void rig_await(struct rig *r, const struct program *p, const char *event,
               const char *field, char value[static PROGRAM_FIELD], uint64_t us);
/* A command that ends by itself, without an error. */
void rig_run_to_end(struct rig *r, struct program *p, uint64_t us);
/* SIGTERM to what runs on the machine, of which `p` ends without an error. */
void rig_stop(struct rig *r, struct machine *m, struct program *p);
void rig_check(struct rig *r, bool holds, const char *format, ...) PRINTF_LIKE(3, 4);

#endif

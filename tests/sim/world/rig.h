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

/* The host publishes `echo`, `clock` over UDP, and `other`, where nothing listens. */
enum { ECHO_PORT = 7000, OTHER_PORT, CLOCK_PORT, LOCAL_PORT = 9000 };

struct rig {
    uint64_t seed;
    struct town *town;
    char dir[SCRATCH_LEN];
    char state[3][SCRATCH_LEN + 16]; /* broker, host, client */
    struct program broker, serve, connect;
    struct echo echo;
    struct udp_echo clock;
    char link[PROGRAM_FIELD];
    char used_invite[PROGRAM_FIELD]; /* the client's */
    const char *portal;              /* its certificate: the broker has one */
    char other[32];                  /* where the host's service of that name is */
    bool one_address;                /* the broker's STUN has no second one */
    unsigned crashes;
    /* The host is away, and about to be back; or NULL. */
    void (*on_away)(void *ctx);
    void *on_away_ctx;
    int kernel_fds; /* of this process, before */
};

struct rig_config {
    struct town_config town;
    const char *portal;
    bool one_address;
    const char *other; /* as in struct rig; NULL: on the host, at OTHER_PORT */
    /* Once there is a town, before any program runs; or NULL. */
    void (*on_town)(void *ctx, struct rig *r);
    void *ctx;
};

void rig_init(struct rig *r, const struct rig_config *c);
/* Ends all, and looks whether everything is where it began. */
void rig_fini(struct rig *r);
/* `postern connect` to the echo at LOCAL_PORT of the client's loopback. */
void rig_connect(struct rig *r);
void rig_disconnect(struct rig *r);

/* Ends it in order, and begins it anew after a while. */
void rig_restart_broker(struct rig *r, uint64_t after_us);
/* The two halves of that, for what happens between. */
void rig_stop_broker(struct rig *r);
void rig_start_broker(struct rig *r, uint64_t after_us);
void rig_restart_host(struct rig *r, uint64_t after_us);
/* Kills it, and begins it anew with the files that it left. */
void rig_crash_host(struct rig *r, uint64_t after_us);
void rig_revive_host(struct rig *r); /* one that was killed */
/* What is in the files of a state directory now, in another one: in those whose names
 * begin so. */
void rig_copy_state(struct rig *r, const char *from, const char *to, const char *names);

/* A link with which one device may join. */
void rig_invite(struct rig *r, char link[static PROGRAM_FIELD]);

/* The event comes within so long, or the process ends. */
void rig_await(struct rig *r, const struct program *p, const char *event,
               const char *field, char value[static PROGRAM_FIELD], uint64_t us);
/* A command that ends by itself; and one that ends without an error. */
void rig_await_end(struct rig *r, const struct program *p, uint64_t us);
void rig_run_to_end(struct rig *r, struct program *p, uint64_t us);
/* SIGTERM to what runs on the machine, of which `p` ends without an error. */
void rig_stop(struct rig *r, struct machine *m, struct program *p);
void rig_check(struct rig *r, bool holds, const char *format, ...) PRINTF_LIKE(3, 4);

#endif

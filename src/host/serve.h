/*
 * The host role: stays present at the broker, lets in whom its own list names, and
 * connects their streams to the services it publishes. It never listens on the
 * network, unless it is told to be its LAN's agent (host/agent.h). With another host's
 * agent in place of a broker it hands its services to that one.
 */
#ifndef POSTERN_HOST_SERVE_H
#define POSTERN_HOST_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "host/roster.h"
#include "host/service.h"
#include "io/events.h"

struct serve_config {
    const char *state;  /* --state, or NULL */
    const char *broker; /* link text, or NULL: the one used last */
    bool was_invite;    /* the environment's link is an invite; for words only */
    const char *via; /* an agent in place of a broker: link, or ADDR[:PORT]; or NULL */
    const char *agent;   /* be one: "" or the ADDR:PORT to listen on; NULL: do not */
    const char *metrics; /* where figures are shown (io/scrape.h); NULL: nowhere */
    const char *name;    /* or NULL: the one used last, else the machine's name */
    const char *const *services;
    size_t service_count;   /* 0: the ones used last */
    uint32_t paths;         /* mask of enum path_kind */
    const char *const *tls; /* --tls; none: the ones used last */
    size_t tls_count;
    const char *tls_command; /* NULL: the one used last */
    bool for_programs;       /* begin with no service: `postern run` publishes them */
    unsigned jit_window_ms;  /* 0: the default */
    int64_t absent_s;   /* patience with silent clients; 0: the one used last, -1: the
                           default */
    struct events *out; /* borrowed */
    /*
     * Once, behind the `ready` event: what is published, and the list of who may come
     * in; NULL where that is an agent's. May be NULL.
     */
    void (*on_ready)(void *ctx, const struct service_list *published, struct roster *r);
    /* SIGHUP: before the settings are read again. May be NULL. */
    int (*on_hangup)(void *ctx, struct fault *f);
    void *ctx;
};

/* 0, or what is wrong with `name` as a host's. */
MUST_CHECK int serve_check_name(const char *name, struct fault *f);
/* Runs until a signal to stop (io/stop.h). 0, or a negative error with `f` filled. */
MUST_CHECK int serve_run(const struct serve_config *c, struct fault *f);

#endif

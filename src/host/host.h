/*
 * What the parts of a host share: facts, which each reads as it needs them, and the
 * parts themselves as they see one another, each a name here; who wants more of one
 * includes its header. They stand in the order in which they know of others, and a part
 * tells what it knows to those after it by an event only; so no two know each other
 * (`make lint` looks).
 */
#ifndef POSTERN_HOST_HOST_H
#define POSTERN_HOST_HOST_H

#include "core/kinds.h"
#include "core/link.h"
#include "core/metrics.h"
#include "core/proto.h"
#include "host/roster.h"
#include "host/service.h"
#include "io/events.h"
#include "io/loop.h"
#include "io/spare.h"
#include "io/statedir.h"

struct host;
struct pump;

struct host_events {
    /* What is published or open has changed: each session and the portal are told. */
    void (*on_services)(struct host *h);
    /* A question of the portal; on 0 the pump is taken over. */
    int (*on_question)(struct host *h, struct pump *p, const Visit *v);
    /* What a command of this machine, or an owner at the portal, wants done. */
    int (*reload)(struct host *h, struct event *e, struct fault *f);
    int (*hangup)(struct host *h, struct fault *f); /* by a signal */
    /* Returns how many sessions of the device ended by it. */
    unsigned (*revoke)(struct host *h, const uint8_t key[static KEY_LEN]);
    void (*stop)(struct host *h, int result);
};

/* What is counted, of the whole run; all zero at its start. */
struct host_figures {
    uint64_t introductions, opened;
    uint64_t refused[REFUSE_ENDED + 1];  /* by enum refuse_code */
    uint64_t ended[PATH_KIND_COUNT + 1]; /* by their last path; last: they had none */
    struct histogram opening;            /* from the introduction to the open session */
};

struct host {
    struct loop *loop;
    const struct statedir *state;
    struct roster *roster;
    struct access *access;
    struct audit *audit; /* NULL when it cannot be written */
    struct events *out;
    struct net_budget *budget; /* of what all keys of the host send */
    struct keypair key;        /* the newest */
    struct link broker;
    bool to_agent; /* `broker` is an agent's link */
    Names called;  /* what the agent calls our services */
    struct roster_settings settings;
    struct service_list services;
    bool for_programs;      /* they come and go: `postern run` says what is published */
    uint32_t paths;         /* mask of enum path_kind */
    unsigned jit_window_ms; /* 0: the default */
    struct spare spare;     /* counts sessions and streams */
    struct host_figures figures;
    const struct host_events *events;
    struct agent *agent;             /* of a LAN's hosts, when it is one; NULL */
    struct certs *certs;             /* of the services that the host ends TLS for */
    struct portal_visits *visits;    /* people who come through the portal */
    struct service_streams *streams; /* streams to services */
    struct presences *presences;     /* the keys under which it is at its broker */
    struct clients *clients;
};

#endif

/*
 * The rooms of the portal, as they see one another: each is a name here, and who wants
 * more of it includes its header. They stand in the order in which they know of others,
 * and a room tells what it knows to those below it by an event only; so no two know
 * each other (`make lint` looks).
 */
#ifndef POSTERN_PORTAL_ROOMS_H
#define POSTERN_PORTAL_ROOMS_H

#include <stdbool.h>
#include <stdint.h>

struct login;
struct request;
struct rooms;

/* Where people find the portal and, by name, the services. */
struct place {
    char name[256]; /* or address: the broker's public one */
    uint16_t port;
    char domain[256]; /* services are SERVICE--HOST.domain; empty: none by name */
};

struct rooms_events {
    /* Lists, or what accounts may by the clock, have changed: who may use less now? */
    void (*on_lists)(const struct rooms *rs);
    /* The host of that number is forgotten, or what it opened. */
    void (*on_host_forgotten)(const struct rooms *rs, uint32_t number);
    /* What the login opened ends, or finds an heir; or goes on at its new address. */
    void (*on_login_end)(const struct rooms *rs, const struct login *l);
    void (*on_login_move)(const struct rooms *rs, const struct login *l);
    /* Does anything that it opened move? */
    bool (*is_login_used)(const struct rooms *rs, const struct login *l);
    /* Every request, once it is whole. */
    void (*on_request)(struct request *r);
    /* The pages begin anew: who waits for an answer shall have it now. */
    void (*on_renew)(const struct rooms *rs);
};

struct rooms {
    struct loop *loop;
    struct audit *audit;
    const struct portal_config *config;
    struct broker *broker;
    struct endpoint *endpoint;
    struct place place;
    const struct rooms_events *events;
    struct hosts *hosts;
    struct asks *asks;             /* questions to hosts */
    struct logins *logins;         /* who is logged in */
    const struct devices *devices; /* browsers that were */
    struct passwords *passwords;   /* who wants to be */
    struct names *names;           /* services by name */
    struct doors *doors;           /* and by port */
    struct web *web;               /* the pages */
};

#endif

/*
 * What a host publishes: SERVICE of the command line as a table of names, ports and
 * targets. It resolves and connects nothing.
 *
 *   22                          port 22 of this machine
 *   web=8080                    the same with a name
 *   dns=udp:53                  datagrams
 *   cam=192.168.1.20:554        another machine
 *   app=10.0.0.2:80,10.0.0.3:80 the first that connects
 *   app=blue@10.0.0.2:80,...    the same, and app/blue asks for that instance alone
 *   v6=[2001:db8::5]:80         IPv6 in brackets
 *   docker=/run/docker.sock     a socket that is a file
 *   web=8080 Holiday pictures   a title for people, behind a space
 *   22,8080                     a list only: two services
 *   8000-8010                   a list only: eleven services; web=8000-8010 calls them
 *                               web-8000, web-8001, ...
 */
#ifndef POSTERN_HOST_SERVICE_H
#define POSTERN_HOST_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "io/events.h"

#define SERVICE_NAME_LEN 64
#define SERVICE_HOST_LEN 254
#define SERVICE_TARGET_MAX 8
#define SERVICE_MAX 64
#define SERVICE_TEXT_LEN 2700 /* eight targets, each with its name */
#define SERVICE_AUDIENCE_LEN 160
#define SERVICE_TITLE_LEN 48 /* as in postern.options */
/* A service that is a file is addressed by a port of these. */
enum { SERVICE_FILE_PORT = 20000, SERVICE_FILE_PORTS = 10000 };

struct service_target {
    char
        name[SERVICE_NAME_LEN]; /* as an instance, in lower case; "" when it has none */
    /* A name, a numeric address without brackets, or the path of a socket. */
    char host[SERVICE_HOST_LEN];
    uint16_t port;
    /*
     * 0: dialled from here. Else the number of the agent's host (host/agent.h) that is
     * asked for it, TCP or UDP, and `host` is its own name for the service.
     */
    uint64_t by;
};

/*
 * A port of this machine has the targets 127.0.0.1 and, for TCP, ::1. When all
 * targets fail, the first one's reason is the one to report. SERVICE/INSTANCE is
 * shorter than SERVICE_NAME_LEN, so that it can be asked for.
 */
struct service {
    char name[SERVICE_NAME_LEN];   /* as given, in lower case; else "22" or "udp:53" */
    char title[SERVICE_TITLE_LEN]; /* what people see; "": none */
    uint16_t port;                 /* the first target's port: how it is addressed */
    bool udp;
    uint8_t target_count;
    struct service_target targets[SERVICE_TARGET_MAX];
    char audience[SERVICE_AUDIENCE_LEN]; /* devices and accounts, comma-separated, for
                                            whom it is; "": as their lists say */
    /*
     * A socket on which each connection is handed to a program of this machine
     * (host/taker.h), in place of the targets; borrowed. 0: the targets are dialled.
     */
    int taker;
    const void *owner; /* who publishes it while it runs; NULL: the host's own list */
};

struct service_list {
    struct service *items; /* owned */
    size_t count;
};

/* An event about a service that came, or went. */
void service_event(struct event *e, const char *what, const char *service,
                   unsigned port, bool udp);

MUST_CHECK int service_parse(struct service *s, const char *text, struct fault *f);
/* 0, or what is wrong with it as a service's name. */
MUST_CHECK int service_name_check(const char *name, struct fault *f);

/*
 * Parses `n` SERVICE texts into a fresh list; free it with service_list_fini. The
 * list stays empty on failure. Names must be unique among TCP and UDP together.
 */
MUST_CHECK int service_list_parse(struct service_list *l, const char *const *texts,
                                  size_t n, struct fault *f);
/* The same from one text with a SERVICE a line, as roster_settings keeps it. */
MUST_CHECK int service_list_parse_lines(struct service_list *l, const char *lines,
                                        struct fault *f);
void service_list_fini(struct service_list *l);

/*
 * Adds one that `owner` publishes; its name gets a suffix -2, -3... when it is taken.
 * POSTERN_ERR_LIMIT when there are too many.
 */
MUST_CHECK int service_list_add(struct service_list *l, struct service *s,
                                const void *owner);
/* How many are the host's own, that nobody publishes only while it runs. */
size_t service_list_own(const struct service_list *l);
/* What `postern receive` and `share` publish, while they run. */
bool service_is_of_program(const char *name);
bool service_list_has(const struct service_list *l, const char *name);
/* The `publishes` event; `note` may be NULL. */
void service_list_event(struct event *e, const struct service_list *l, const char *host,
                        const char *note);
/* Takes away what `owner` publishes; true when there was something. */
bool service_list_drop(struct service_list *l, const void *owner);
/*
 * What `by`, a host of the agent `owner`, offers as `name`: an instance of what another
 * host offered under that name, else a service of its own (with a suffix as above).
 * POSTERN_ERR_INVALID when the names are none, too long together, or it offers `name`
 * already; POSTERN_ERR_LIMIT.
 */
struct service_offer {
    const char *name, *instance;
    const char *title; /* a stranger's word; the first one's of several instances */
    uint16_t port;
    bool udp;
};
MUST_CHECK int service_list_offer(struct service_list *l, const struct service_offer *o,
                                  const void *owner, uint64_t by);
/* Its title is another now; true when that changed what people see. */
bool service_list_retitle(struct service_list *l, uint64_t by, const char *name,
                          const char *title);
/* Takes one offer of `by` away, or with NULL all of them; true when there was
 * something. */
bool service_list_withdraw(struct service_list *l, uint64_t by, const char *name);
/* SERVICE/INSTANCE, as which that offer is published; false when it is not. */
bool service_list_called(const struct service_list *l, uint64_t by, const char *name,
                         char out[static SERVICE_NAME_LEN]);
/* Moves what has owners from one list to another, as far as there is room. */
void service_list_carry(struct service_list *to, const struct service_list *from);

/*
 * By name, else by port ("8080", "udp:53"): TCP before UDP, in the order published;
 * with "/INSTANCE" behind it only when the service has that one. NULL when there is
 * none.
 */
const struct service *service_find(const struct service_list *l, const char *name);
/* That there is none of that name, and which may be meant. POSTERN_ERR_NOTFOUND. */
int service_unknown(const struct service_list *l, const char *name, struct fault *f);
/*
 * Copies `list` (names or ports, comma-separated, with spaces or not) as names into
 * `out`. Every item must be published, or be what a program publishes while it runs,
 * else POSTERN_ERR_NOTFOUND and a fault. NULL and "" give "".
 */
MUST_CHECK int service_choose(const struct service_list *published, const char *list,
                              char *out, size_t cap, struct fault *f);
/*
 * True when `allowed` (names or ports, comma-separated, each perhaps with an instance;
 * "" is all) includes `s` or one of its instances.
 */
bool service_allowed(const char *allowed, const struct service *s);
/*
 * The same for `who`, the name of a device or an account: where the service has an
 * audience that one counts, and `allowed` otherwise.
 */
bool service_is_for(const struct service *s, const char *who, const char *allowed);
/*
 * Leaves in `s`, which service_find found by `name`, the targets that both the name and
 * `allowed` include. False when none is left.
 */
MUST_CHECK bool service_narrow(struct service *s, const char *name,
                               const char *allowed);

#endif

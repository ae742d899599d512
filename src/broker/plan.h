/*
 * Where the broker is: which addresses it binds, which it names to others. Worked out
 * once at the start from the configuration and the machine, but for what a name stands
 * for (broker/own_name.h); the threads then open their own sockets from it.
 */
#ifndef POSTERN_BROKER_PLAN_H
#define POSTERN_BROKER_PLAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "broker/broker_config.h"
#include "core/addr.h"
#include "core/err.h"
#include "core/link.h"

#define PLAN_PUBLIC_MAX                                                                \
    3 /* one place of Welcome.stun is left for what a device sees                      \
       */

/* One listen address with its STUN alternates (RFC 5780). */
struct plan_site {
    struct addr bind;    /* port never 0 */
    bool wildcard;       /* binds no specific address */
    bool dual;           /* an IPv6 wildcard that serves IPv4 too */
    uint16_t other_port; /* 0: none */
    /* Per family, the main and the second address; ADDR_NONE: none. Port 0. */
    struct addr main_v4, other_v4, main_v6, other_v6;
    int tcp_fd, udp_fd; /* of systemd, for as long as the process lives; 0: none */
};

struct plan {
    struct plan_site sites[BROKER_LISTEN_MAX];
    size_t site_count;
    char host[LINK_HOST_LEN]; /* what the link names */
    uint16_t port;
    bool named;                           /* `host` is a name, and not an address */
    struct addr publics[PLAN_PUBLIC_MAX]; /* known addresses, for Welcome.stun */
    atomic_size_t public_count;           /* 0 while those of a name are not known */
};

/* Tries every address out, without SO_REUSEPORT, so that a taken one is noticed. */
MUST_CHECK int plan_make(struct plan *p, const struct broker_config *c,
                         struct fault *f);

/*
 * What its name stands for, with the plan's port; once at most, while other threads
 * read the plan. Warns where that leads nobody here.
 */
void plan_take_public(struct plan *p, const struct addr *all, size_t n);

/* Non-blocking and SO_REUSEPORT; both return a descriptor or a negative error. */
MUST_CHECK int plan_open_tcp(const struct plan_site *s);
/* Delivers the local address of each packet. `a` is bound as `s` is. */
MUST_CHECK int plan_open_udp(const struct plan_site *s, const struct addr *a);
/* The addresses of the machine with a port on `s`: what UDP sockets to open. */
size_t plan_udp_binds(const struct plan_site *s, struct addr out[static 4]);

#endif

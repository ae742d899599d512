/*
 * What systemd and the programs that it starts say to each other: sd_notify(3) and
 * sd_listen_fds(3), which are some variables and a datagram. Elsewhere all of it does
 * nothing.
 */
#ifndef POSTERN_IO_SYSTEMD_H
#define POSTERN_IO_SYSTEMD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"
#include "io/loop.h"

/* The program is up, and does what `status` says. */
void systemd_ready(const char *status);
/* What it does now, for 'systemctl status'. */
void systemd_status(const char *format, ...) __attribute__((format(printf, 1, 2)));
void systemd_stopping(void);
/* As long as the loop turns the unit's watchdog is told so. */
void systemd_watchdog_start(struct timer *t, struct loop *loop);

#define SYSTEMD_SOCKETS_MAX 16
/* Sockets that listen already (a .socket unit's); read once, and known to no child. */
struct systemd_sockets {
    int fds[SYSTEMD_SOCKETS_MAX]; /* -1: taken */
    size_t count;
};
void systemd_sockets_read(struct systemd_sockets *s);
/* The first that is a stream's (else: of datagrams), at `at` (NULL: wherever): it is
 * the caller's. -1: there is none. */
int systemd_sockets_take(struct systemd_sockets *s, bool stream, const struct addr *at);

#endif

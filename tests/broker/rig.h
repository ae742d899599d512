/*
 * A broker in this process and devices that speak to it, for tests: each wait runs the
 * devices' loop until a condition holds, or fails the test after RIG_WAIT_MS.
 */
#ifndef POSTERN_TESTS_BROKER_RIG_H
#define POSTERN_TESTS_BROKER_RIG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/broker.h"
#include "core/key.h"
#include "core/link.h"
#include "core/proto.h"
#include "io/channel.h"
#include "io/loop.h"

enum { RIG_WAIT_MS = 20000, RIG_INBOX = 64, RIG_DEVICES = 600 };

struct rig;

struct device {
    struct rig *rig;
    struct keypair key;
    struct channel *channel;
    int fd; /* the channel's */
    bool open, closed;
    int close_err;
    Control inbox[RIG_INBOX]; /* oldest first; more are dropped */
    size_t inbox_count;
};

struct rig {
    char dir[64];
    char listen[64];
    const char *listens[1];
    struct broker_config config;
    struct broker *broker;
    struct link link;
    struct loop *loop;
    struct timer guard; /* wakes the loop, so that a wait can time out */
    struct device *devices[RIG_DEVICES];
    size_t device_count;
};

/*
 * A port of this process's own, and the next one, below the kernel's own range, from
 * which everybody's connections take theirs: so it is free after a restart of the
 * broker too.
 */
unsigned rig_port(unsigned attempt);
/* `config` may preset anything; listen and state_dir are filled in when absent. */
void rig_open(struct rig *r, const struct broker_config *config);
/* Ends the broker, and starts one on the same port and state. */
void rig_stop_broker(struct rig *r);
void rig_start_broker(struct rig *r);
void rig_close(struct rig *r);

/* Of a device's channel, for a test that makes one itself. */
extern const struct channel_events rig_events;

/* A fresh key (or the key of `same`), connected and past the TLS handshake. */
struct device *rig_connect(struct rig *r, const struct device *same);
/* The same from another address of this machine. */
struct device *rig_connect_from(struct rig *r, const struct device *same,
                                const char *source);
void device_close(struct device *d);
/* Resets its connection, as its machine does where it is killed with something unread.
 */
void device_kill(struct device *d);
/* rig_connect, Hello and Welcome. */
struct device *rig_join(struct rig *r, bool host);
void device_hello(struct device *d, bool host, bool token);
void device_send(struct device *d, const Control *m);
/* An introduction to that host, sealed and early parts of random bytes. */
Control introduce_to(const struct device *host);
/* All that it was sent before has come when this returns. */
void ping_pong(struct device *d);
/* What a host answers to the Introduce that it lets in: `listed`, or only invited. */
void device_accept(struct device *host, const Control *in, bool listed);
/* Waits for a message with this tag and takes it and all before it. */
Control device_expect(struct device *d, pb_size_t tag);
/* Waits for one and takes nothing. */
void device_await(struct device *d, pb_size_t tag);
/* True when such a message has arrived. */
bool device_has(const struct device *d, pb_size_t tag);
void device_wait_closed(struct device *d);

/* Runs the loop until `*flag`; fails the test when it takes too long. */
void rig_wait(struct rig *r, bool (*done)(void *ctx), void *ctx);

/* A blocking TCP connection to the broker with a receive timeout of RIG_WAIT_MS. */
int rig_dial(const struct rig *r);
/* The same from another address of this machine. */
int rig_dial_from(const struct rig *r, const char *source);
/* The same, showing a relay ticket. */
int rig_dial_relay(const struct rig *r, const uint8_t ticket[static TICKET_LEN]);

#endif

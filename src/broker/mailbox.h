/*
 * How the broker's threads speak to each other: a bounded queue into one loop, from
 * any thread. What the letters mean is the receiver's business.
 */
#ifndef POSTERN_BROKER_MAILBOX_H
#define POSTERN_BROKER_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/limits.h"
#include "core/addr.h"
#include "core/err.h"
#include "core/key.h"
#include "core/proto.h"
#include "io/loop.h"

struct channel;
struct mailbox;

enum mail_type {
    MAIL_CHANNEL, /* a device's detached channel moves in */
    MAIL_RELAY,   /* a relay connection that showed `ticket` moves in */
    MAIL_ROUTE,   /* an encoded Control for device `to` from device `from` */
    MAIL_SPOKEN,  /* to the first shard: a Spoken of the device `from` */
    MAIL_GRANTS,  /* to an address's shard: a NatSessions of `from` at `remote` */
    MAIL_WEB,     /* to the portal: a TLS connection; `bytes` is the name it asks for */
    MAIL_PORTAL,  /* to the portal: `bytes` is a Control of the host `from`; empty: gone
                   */
    MAIL_DRAIN,   /* send the devices away, and relay what is relayed; never refused */
    MAIL_STOP,    /* say goodbye and end; never refused */
};

struct mail {
    struct mail *next;
    enum mail_type type;
    struct channel *channel; /* owned */
    int fd;                  /* owned; -1 for none */
    struct addr local;       /* MAIL_CHANNEL: where the device connected to */
    struct addr remote;      /* MAIL_PORTAL, MAIL_GRANTS: where the device is */
    struct addr_place place; /* MAIL_CHANNEL, MAIL_SPOKEN: counters of its address */
    uint8_t to[KEY_LEN], from[KEY_LEN];
    bool to_host; /* MAIL_ROUTE: to the device as a host, else as a client;
                   * MAIL_GRANTS: from */
    bool over;    /* MAIL_ROUTE: an introduction above its address's share */
    bool badged;  /* MAIL_ROUTE: an introduction that showed a badge for that host */
    bool own;     /* MAIL_ROUTE: what the broker itself says of `from` */
    uint8_t ticket[TICKET_LEN];
    size_t len;
    uint8_t bytes[]; /* MAIL_ROUTE */
};

/* NULL when out of memory. */
struct mail *mail_new(enum mail_type type, const void *bytes, size_t len);
/* Frees with whatever it owns: the descriptor, the channel. NULL is fine. */
void mail_free(struct mail *m);

/* Receives ownership of `m`; runs on the loop. */
typedef void (*mailbox_cb)(void *ctx, struct mail *m);

MUST_CHECK int mailbox_open(struct mailbox **out, struct loop *loop, mailbox_cb on_mail,
                            void *ctx);
/*
 * Any thread. Takes ownership on success only; POSTERN_ERR_LIMIT when the box is full
 * and POSTERN_ERR_CLOSED after mailbox_close.
 */
MUST_CHECK int mailbox_post(struct mailbox *b, struct mail *m);
/* On the loop's thread, once: refuses further posts; on_mail is not called again. */
void mailbox_close(struct mailbox *b);
/* When the loop has ended and no thread posts any more. NULL is fine. */
void mailbox_free(struct mailbox *b);

#endif

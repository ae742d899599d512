/* What the files of a host's clients share. */
#ifndef POSTERN_HOST_CLIENTS_INTERNAL_H
#define POSTERN_HOST_CLIENTS_INTERNAL_H

#include "core/holdings.h"
#include "core/invitees.h"
#include "host/invite.h"
#include "host/clients.h"
#include "host/service_streams.h"
#include "session/tie.h"

enum {
    CLIENTS_MAX = 4096,
    SESSIONS_PER_DEVICE_MAX = 256, /* then the longest silent goes */
    SLEEPERS_KEPT = 256,           /* devices known to sleep */
    CONVS_KEPT = 4096,
    CLIENTS_SWEEP_MS = 5000,
};

/* One client, with the tie to it. */
struct host_client {
    struct clients *all;
    struct host *host;
    struct presence *presence;
    struct host_client *next, *prev;
    uint8_t key[KEY_LEN]; /* proven by this session */
    struct stream_client who;
    char name[ROSTER_NAME_LEN];
    uint8_t invite_id[INVITE_ID_LEN];
    bool has_invite;
    bool spoke;    /* a message or a stream came: living clients begin with one */
    bool unlisted; /* it named an invite, and has not shown its secret yet */
    struct tie *tie;
    uint64_t since_ms;
    uint8_t scope[8]; /* the place that its device's lists of live programs are about */
    uint64_t alive_since_us; /* by a clock of the scope: later lists have it */
    bool listed_alive;       /* it stands in them while its program lives */
    bool away, asked;        /* for clients_silence.c */
    uint64_t doubt_us;       /* since when it must be heard, or ends; 0: no doubt */
    uint64_t asked_us;       /* when room was short, and since then without an answer */
    bool dead;               /* freed by the next sweep */
    struct holding held;
};

struct clients {
    struct host *host;
    struct host_client *first;
    unsigned count;
    struct holdings sessions; /* by device, of CLIENTS_MAX */
    struct invitees invitees;
    uint8_t convs[CONVS_KEPT][CONV_LEN]; /* the latest introductions */
    size_t conv_next;
    uint8_t sleepers[SLEEPERS_KEPT][KEY_LEN];
    size_t sleeper_next;
    int64_t roster_version; /* of what the sessions were judged by */
    struct timer sweep;
    char over[INVITE_OVER_LEN]; /* invite_why_over, told last */
};

/* Why the invite of that id lets nobody in; good until it is asked again. */
const char *clients_why_over(struct clients *cs,
                             const uint8_t id[static INVITE_ID_LEN]);

/* host_client.c */
/* By that Introduce. NULL: no memory. */
struct host_client *host_client_new(struct presence *p, const Control *m,
                                    const Offer *o, bool unlisted);
void host_client_send_services(struct host_client *c);
/* The `session` event of one that has a session. */
void host_client_event(struct event *e, const struct host_client *c);
/* Why that kind is not in use, as this side knows it; false: there is nothing to say.
 */
bool host_client_rejected_event(struct event *e, const struct host_client *c,
                                enum path_kind kind);
/* Not one that is dead, and with a session that stands. */
bool host_client_is_open(const struct host_client *c);
void host_client_end(struct host_client *c, unsigned code, const char *reason);
void host_client_free(struct host_client *c);
/* From the loop, at once: what has died is freed and its services told. */
void clients_sweep_soon(struct clients *cs);

/* clients_silence.c */
/* Since a packet of it arrived on any path; since the introduction before its session.
 */
uint64_t silence_of(const struct host_client *c, uint64_t now_us);
void silence_on_alive(struct host_client *c, const Alive *a);
/* Of an open session, every few seconds; may end it. */
void silence_check(struct host_client *c, uint64_t now_us);
/* This device has come back from a long silence. */
void silence_note_sleeper(struct clients *cs, const uint8_t key[static KEY_LEN]);
/*
 * For one more session of this key, where all places are taken or `scarce`,
 * descriptors; frees at most one client: of who has most sessions the longest silent.
 * What is young or heard of just now goes for another device only, never for one more
 * of its own. False: none may go, and the newcomer waits.
 */
bool silence_make_room(struct clients *cs, const uint8_t key[static KEY_LEN],
                       bool scarce);
void silence_init(struct clients *cs);

#endif

/* What the files of host/ share, and nobody else may include. */
#ifndef POSTERN_HOST_INTERNAL_H
#define POSTERN_HOST_INTERNAL_H

#include "core/invitees.h"
#include "core/holdings.h"
#include "core/repeat.h"
#include "host/access.h"
#include "host/agent.h"
#include "host/caller.h"
#include "host/certs.h"
#include "host/roster.h"
#include "host/serve.h"
#include "host/service.h"
#include "host/via.h"
#include "io/audit.h"
#include "io/local.h"
#include "io/loop.h"
#include "io/spare.h"
#include "io/statedir.h"
#include "path/approach.h"
#include "session/endpoint.h"
#include "session/pump.h"

enum {
    FACES_MAX = 3,
    GUESTS_MAX = 4096,
    GUESTS_PER_CLIENT_MAX = 256, /* then the longest silent goes */
    SLEEPERS_KEPT = 256,         /* devices known to sleep */
    GUEST_PATHS_MAX = 32,
    HELLO_TIMEOUT_MS = 60000,   /* an introduction that no session follows */
    HELLO_SILENT_MS = 30000,    /* and no packet either */
    JOIN_TIMEOUT_MS = 10000,    /* an invite that was named and not used */
    INVITEES_MAX = 64,          /* approaches by invite at the same time */
    INVITEE_PATIENCE_MS = 2000, /* then it makes way for another */
    /* Of the descriptors beside the program's own: connections to services have a
     * bound of their own; of what clients' paths take beside them, those who have not
     * joined yet may have some only. */
    YOUNG_MS = 2000,
    COMING_SOCKETS = 8, /* that one opens until its session stands */
    YOUNG_SOCKETS = 3,  /* and after that, while it is young */
    SERVICES_PERCENT = 40,
    INVITEE_PERCENT = 25,
    LISTED_PERCENT = 45,
    MADE_ROOM_PERCENT = 50,
    HOST_FILES_MIN = 64, /* with fewer open files a host is no use */
    SWEEP_MS = 5000,
    TELL_MS = 5000, /* not ready yet: what it waits for is said */
    CONVS_KEPT = 4096,
};

struct serve;

/* One key of this host at its broker. */
struct face {
    struct serve *serve;
    struct endpoint endpoint;
    bool open;
    bool up;           /* as the last event about its broker said */
    struct news why;   /* it is lost */
    bool retired;      /* an earlier key's: kept for clients who know no newer one */
    bool portal_given; /* on this connection, a list that was not empty */
    bool portal_due;   /* one could not be sent */
};

/* One client's approach and session. */
struct guest {
    struct serve *serve;
    struct face *face;
    struct guest *next, *prev;
    uint8_t key[KEY_LEN];    /* proven by this session */
    uint8_t listed[KEY_LEN]; /* on the host's list: another after a rotation */
    char name[ROSTER_NAME_LEN];
    uint8_t invite_id[INVITE_ID_LEN];
    bool has_invite, member;
    bool spoke;    /* a message or a stream came: living clients begin with one */
    bool unlisted; /* it named an invite, and has not shown its secret yet */
    bool portal;   /* the broker's: no device, each stream says for whom it is */
    bool agent;    /* this host's, which has judged for whom it asks */
    struct approach *approach;
    struct session *session;
    struct path *paths[GUEST_PATHS_MAX]; /* before the session owns them */
    uint64_t since_ms;
    uint8_t scope[8]; /* the place that its device's lists of live programs are about */
    uint64_t alive_since_us; /* by a clock of the scope: later lists have it */
    bool listed_alive;       /* it stands in them while its program lives */
    bool away, asked;        /* for absent.c */
    uint64_t doubt_us;       /* since when it must be heard, or ends; 0: no doubt */
    uint64_t asked_us;       /* when room was short, and since then without an answer */
    bool dead;               /* freed by the next sweep of the loop */
    struct holding held;
};

struct serve {
    const struct serve_config *config;
    struct loop *loop;
    const struct statedir *state;
    int lock; /* of the state directory; -1: not held */
    struct serve_control *control;
    struct keypair key; /* the newest */
    struct statedir_mark key_seen;
    struct link broker;
    struct budget *budget;        /* of what all of them send */
    struct face faces[FACES_MAX]; /* one for it, others for the keys before it */
    struct roster *roster;
    struct roster_settings settings;
    struct access *access;
    int64_t access_version;    /* of what the callers were judged by */
    int64_t roster_version;    /* of what the sessions were judged by */
    struct certs *certs;       /* of the services that the host ends TLS for */
    struct audit *audit;       /* NULL when it cannot be written */
    struct timer portal_timer; /* the list waits for it */
    uint64_t portal_next_ms;   /* when it may be sent again */
    struct caller *callers;    /* streams of the portal */
    unsigned answers;          /* that the portal waits for */
    uint64_t public_since_ms;
    unsigned public_told; /* connections of strangers in the log since then */
    struct service_list services;
    struct agent *agent; /* of a LAN's hosts, when it is one; NULL */
    struct guest *guests;
    unsigned guest_count;
    struct holdings sessions;    /* by device, of GUESTS_MAX */
    struct holdings outlets;     /* by device, of the descriptors for services */
    struct holdings lan_outlets; /* by device, of the streams to hosts of the LAN */
    struct invitees invitees;
    uint8_t convs[CONVS_KEPT][CONV_LEN]; /* the latest introductions */
    size_t conv_next;
    uint8_t sleepers[SLEEPERS_KEPT][KEY_LEN];
    size_t sleeper_next;
    struct spare spare; /* counts sessions and streams */
    struct timer sweep;
    struct timer tell; /* until it is ready: says what it waits for */
    bool ready, stopping;
    bool met_before; /* this broker took us in an earlier run */
    bool to_agent;   /* `broker` is an agent's link */
    Names called;    /* what the agent calls our services */
    int result;
    struct fault *fault; /* of the caller */
};

/* guest.c */
void guest_on_introduce(struct face *face, const Control *m);
void guest_on_control(struct face *face, const Control *m);
void guest_close(struct guest *g, unsigned code, const char *reason);
void guest_free(struct guest *g);
void guest_sweep(struct serve *s, uint64_t now_ms);
/* Its paths are looked into, and what has become possible is begun. */
void guest_on_uplink(struct guest *g, bool up);
void guest_on_network_change(struct guest *g);
/* From the loop, at once: what has died is freed and its services told. */
void guest_sweep_soon(struct serve *s);
/* Since a packet of it arrived on any path; since the introduction before its session.
 */
uint64_t guest_silent_us(const struct guest *g, uint64_t now_us);

/* absent.c: silent clients */
void absent_on_alive(struct guest *g, const Alive *a);
/* Of an open session, every few seconds; may close it. */
void absent_check(struct guest *g, uint64_t now_us);
/* This device has come back from a long silence. */
void absent_note_sleeper(struct serve *s, const uint8_t key[static KEY_LEN]);
/*
 * For one more session of this key, where all places are taken or `scarce`,
 * descriptors; frees at most one guest: of who has most sessions the longest silent.
 * What is young or heard of just now goes for another device only, never for one more
 * of its own. False: none may go, and the newcomer waits.
 */
bool absent_make_room(struct serve *s, const uint8_t key[static KEY_LEN], bool scarce);
void absent_open(struct serve *s);
void guest_send_services(struct guest *g);

/* The `session` event of one that has a session. */
void guest_session_event(struct guest *g, struct event *e);

/* outlet.c: a stream of a guest to a service's machine */
void outlets_init(struct serve *s);
void outlet_accept(struct guest *g, struct stream *st);
/* The host's first message on a stream; and one that is its last. */
MUST_CHECK int stream_reply(struct pump *p, enum stream_code code, const char *reason,
                            bool datagrams);
void stream_refuse(struct pump *p, enum stream_code code, const char *reason);

/* answer.c: answers a question of the portal; on 0 the pump is taken over. */
MUST_CHECK int answer_start(struct serve *s, struct pump *pump, const Visit *v);

/* portal.c: the list for the broker's portal */
void host_portal_open(struct serve *s);
void host_portal_close(struct serve *s);
void host_portal_on_up(struct face *face);
/* What is published has changed. */
void host_portal_on_services(struct serve *s);
/* Accounts or public services have changed: for what is under way. */
void host_portal_on_change(struct serve *s);
void host_portal_sweep(struct serve *s);

/* control.c: signals and the local socket */
struct serve_control;
/* In the directory that is there now. */
void serve_control_renew(struct serve_control *c);
MUST_CHECK int serve_control_open(struct serve_control **out, struct serve *s,
                                  const char *socket_path, struct fault *f);
void serve_control_close(struct serve_control *c);

/* Our newest key, for a client whose session proved an earlier one. */
void guest_announce_rotation(struct guest *g);
/*
 * To who joins: each earlier key says that the newest follows it, also those that have
 * no face any more. The device may have met this host under any of them.
 */
void guest_announce_earlier(struct guest *g);

/* face.c */
MUST_CHECK int faces_open(struct serve *s, const struct link *broker, struct fault *f);
/* Takes up a key that was made since; sessions under earlier keys go on. */
MUST_CHECK int faces_renew(struct serve *s, struct fault *f);
/* The same when device.db is another file than before; what it means is said. */
void faces_keep(struct serve *s);
void faces_close(struct serve *s);

/* serve.c */
extern const struct uplink_events serve_uplink_events;
MUST_CHECK int serve_reload(struct serve *s, struct fault *f);
/* What is published or open has changed: each session and the portal are told. */
void serve_tell_services(struct serve *s);
unsigned serve_revoke(struct serve *s, const uint8_t key[static KEY_LEN]);
void serve_stop(struct serve *s, int result);
/* One entry of the audit log, now. */
void serve_audit(struct serve *s, const char *what, const char *who, const char *from,
                 const char *object, const char *detail);

#endif

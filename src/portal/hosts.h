/*
 * The hosts that opened something to people without a device: their lists, as they
 * send them, and the sessions to them. A list is the host's word about itself only, and
 * bounded. Passwords and pages are not known here.
 */
#ifndef POSTERN_PORTAL_HOSTS_H
#define POSTERN_PORTAL_HOSTS_H

#include "client/call.h"
#include "core/list.h"
#include "core/routes.h"

struct hosts;
struct rooms;

enum {
    HOST_SERVICES_MAX = 64, /* as many as a bit set holds */
    HOST_ACCOUNTS_MAX = 64,
    HOST_LABEL_LEN = 64, /* RFC 1035 section 2.3.4, with NUL */
    HOST_RATES_MAX = 64,
    HOST_RATE_NAME_LEN = 128,
};

struct portal_service {
    char name[ROUTES_SERVICE_LEN];
    char title[48]; /* for people; "": none */
    char label[HOST_LABEL_LEN];
    uint16_t port;
    bool udp, open, tls;
};

struct portal_account {
    char name[64];
    char hash[128];
    uint8_t totp[64];
    size_t totp_len;
    int64_t totp_step; /* the last one that was used */
    int64_t expires_s; /* 0: does not */
    bool owner;
    uint64_t services; /* bit by number */
    /*
     * Which of them are there, as the host said at `up_ms`: it says of each account's
     * own instances, so it is no other account's.
     */
    uint64_t up, up_known, refused;
    uint64_t up_ms;
    bool silent; /* it was asked at `up_ms` and did not answer */
};

struct portal_list {
    struct portal_service services[HOST_SERVICES_MAX];
    size_t service_count;
    struct portal_account accounts[HOST_ACCOUNTS_MAX];
    size_t account_count;
};

/* How fast one of its sessions was, as the owner's page looked at it last. */
struct host_rate {
    char name[HOST_RATE_NAME_LEN];
    double bytes, rate;
    uint64_t at_ms;
};

/*
 * A host as all may see it; hosts.c has the rest. What it said of itself only hosts.c
 * writes; who uses a code, asks what is up or looks at rates writes that down here.
 */
struct portal_host {
    uint32_t number; /* never used again; 0 is no host's */
    uint8_t key[KEY_LEN];
    char name[64], label[HOST_LABEL_LEN];
    struct addr from; /* where it was last */
    bool online;
    struct portal_list *list; /* in force; NULL: none came whole yet, or it is gone */
    struct host_rate rates[HOST_RATES_MAX];
};

/* Of the rooms: loop, endpoint and events. */
MUST_CHECK int hosts_new(struct hosts **out, const struct rooms *rooms);
/* Forgets all, and ends their calls; NULL is fine. */
void hosts_free(struct hosts *hs);
/*
 * What a host said to the broker from that address: Portal...; and that it is gone.
 * Its list is kept for a while then, so that its people stay logged in, and its name
 * for a day.
 */
void hosts_on_message(struct hosts *hs, const uint8_t key[static KEY_LEN],
                      const struct addr *from, const Control *m);
void hosts_on_gone(struct hosts *hs, const uint8_t key[static KEY_LEN]);
/* Of the portal's own connection to the broker. */
void hosts_on_uplink(struct hosts *hs, bool up);
void hosts_on_control(struct hosts *hs, const Control *m);
void hosts_sweep(struct hosts *hs);

/* The one after `h`, the eldest first; NULL: the first, and after the last. */
struct portal_host *hosts_next(const struct hosts *hs, const struct portal_host *h);
struct portal_host *host_by_number(const struct hosts *hs, uint32_t number);
struct portal_host *host_by_key(const struct hosts *hs,
                                const uint8_t key[static KEY_LEN]);
struct portal_account *host_account(const struct portal_host *h, const char *name);
/* Its number, or -1. */
int host_service(const struct portal_host *h, const char *name);

/* Begins a session to it when there is none; false: it is away. */
bool host_reach(struct portal_host *h);
/* A call to it, which host_reach must have allowed; its `peer` is set here. */
MUST_CHECK int host_call(struct portal_host *h, struct call **out,
                         const struct call_config *c);
/* Calls to it that are under way. */
unsigned host_calls(const struct portal_host *h);

#endif

/*
 * What a seed draws: two homes with their NATs, their wires, a stream between them, and
 * what goes wrong meanwhile. Any of it may be left out, so that what fails can be told
 * with less; the rest stays as it was drawn. Knows no program.
 */
#ifndef POSTERN_SIM_SCENE_H
#define POSTERN_SIM_SCENE_H

#include "net.h"

enum { SCENE_USUAL = 6, SCENE_FAULTS = SCENE_USUAL + 3, SCENE_OTHERS = 2 };

enum fault_kind {
    FAULT_FLUSH_HOST, /* a router restarts */
    FAULT_FLUSH_CLIENT,
    FAULT_FLUSH_BOTH,
    FAULT_ROAM,      /* the client's device goes to another network */
    FAULT_HOST_ROAM, /* the host's */
    FAULT_IDLE,      /* nobody says anything for a long while */
    FAULT_CLOCK,     /* the wall clocks of host and client jump */
    /* These last for a while. */
    FAULT_CABLE_CLIENT,  /* out, and in again */
    FAULT_OUTAGE_HOST,   /* the host's access loses everything */
    FAULT_OUTAGE_BROKER, /* so does the broker's */
    FAULT_ONE_WAY_HOST,  /* what the host sends is lost */
    FAULT_ONE_WAY_CLIENT,
    FAULT_BROKER_RESTARTS, /* the program, by its administrator */
    /* Streams do not outlive these. */
    FAULT_HOST_RESTARTS,
    FAULT_HOST_CRASHES, /* killed, or its machine */
    /* What a machine has too little of, for a while. */
    FAULT_FILES_HOST, /* descriptors */
    FAULT_FILES_CLIENT,
    FAULT_FILES_BROKER,
    FAULT_DISK_HOST, /* room on its disk */
    FAULT_DISK_CLIENT,
    FAULT_DISK_BROKER,
    /* Each is made for what few others meet. */
    FAULT_APART,       /* the homes do not reach each other; the broker they do */
    FAULT_BROKER_AWAY, /* for minutes, just after the host's router restarted */
    FAULT_WIFI_AWAY,   /* the same, and the router has no network for the host yet */
    /* Only where the client's device has an `up`. */
    FAULT_UP_HANGS,
    FAULT_UP_RESTARTS,
    FAULT_UP_CRASHES,
    FAULT_KINDS
};

/* What else may be left out, by name. */
enum scene_part {
    SCENE_LOSS,
    SCENE_JITTER, /* with what comes double or out of order */
    SCENE_RATE,
    SCENE_MTU,
    SCENE_HOST_NAT, /* leaves the usual one */
    SCENE_CLIENT_NAT,
    SCENE_CARRIER,  /* a second NAT before the client's */
    SCENE_SIX,      /* IPv6 beside IPv4 */
    SCENE_STRANGER, /* somebody who is not on the list tries to come in */
    SCENE_LIAR,     /* a listed device names others' addresses as its own */
    SCENE_OTHER,    /* more devices, each with a stream of its own */
    SCENE_NC,       /* theirs are of `nc` */
    SCENE_UP,       /* the streams go through `up`: those of others are its device's */
    SCENE_SOCKS,    /* theirs go through a SOCKS proxy */
    SCENE_PORTAL,   /* the other stream is a person's, who has no device */
    SCENE_PARTS
};

struct scene_fault {
    enum fault_kind kind;
    uint64_t after_us, lasts_us;
    uint64_t call_us; /* a command begins so long before it; 0: none does */
    bool unrelayed;   /* without the relay, where the NATs permit that */
};

struct scene {
    uint64_t seed;
    uint32_t dropped, plain; /* faults and parts that are left out */
    struct nat_config host_nat, client_nat;
    struct vnet_wire wire;
    bool carrier, six, stranger, liar;
    struct scene_fault faults[SCENE_FAULTS];
    unsigned fault_count;
    size_t bytes;
    unsigned pause_ms;
    unsigned others;
    bool nc; /* theirs are commands, one a stream */
    bool up, portal, socks;
};

void scene_draw(struct scene *s, uint64_t seed, uint32_t dropped, uint32_t plain);
bool scene_has_fault(const struct scene *s, unsigned i);
/* False: it was not drawn, so that leaving it out changes nothing. */
bool scene_has_part(const struct scene *s, enum scene_part part);
bool fault_breaks_streams(enum fault_kind kind);
const char *fault_name(enum fault_kind kind);
const char *scene_part_name(enum scene_part part);

/* In words, on stdout. */
void scene_tell(const struct scene *s);
/* The options that draw it again: "--from 5 --drop 0,2 --plain loss". */
const char *scene_options(const struct scene *s, char *buf, size_t cap);
/* Their values back; false: a name that is none. */
bool scene_parse_drop(const char *text, uint32_t *mask);
bool scene_parse_plain(const char *text, uint32_t *mask);

#endif

/*
 * Outlets: a client's stream to the machine that serves it. TCP services are
 * connected to, by a race of their targets, and pumped; UDP services get a socket of
 * their own a flow; what a host of the LAN serves is a stream to it, joined to the
 * client's. A refusal is handed back with its reason.
 */
#include "host/outlet.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/holdings.h"
#include "host/certs.h"
#include "host/portal_visits.h"
#include "host/race.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/resolve.h"
#include "io/sock.h"
#include "path/net.h"

enum {
    SERVICES_PERCENT = 40, /* of the descriptors beside the program's own */
    UDP_IDLE_MS = 5 * 60000,
    DATAGRAM_MAX = 65535,
    /* Those of one session, for all hosts of the LAN together; some are still ending.
     */
    LAN_STREAMS_MAX = SESSION_STREAMS_MAX - 64,
};

struct outlets {
    struct host *host;
    struct holdings all; /* by device, of the descriptors for services */
    struct holdings lan; /* by device, of the streams to hosts of the LAN */
};

struct outlet {
    struct holding held;     /* of all */
    struct holding lan_held; /* of lan */
    struct outlets *of;
    struct host *host;
    const struct outlet_client *who; /* NULL once its header was handled */
    struct pump *pump;               /* NULL at the end */
    struct service service;          /* a copy: reload may replace the list */
    struct portal_visit visit;       /* when it is the portal's */
    struct race *race;               /* TCP, and what hosts of the LAN serve */
    struct resolve *resolve;
    int udp_fd; /* of this machine's UDP */
    struct watch udp_watch;
    struct timer idle;
};

static struct outlet *owner(const struct holding *e)
{
    return (struct outlet *)((char *)(uintptr_t)e - offsetof(struct outlet, held));
}

static struct outlet *lan_owner(const struct holding *e)
{
    return (struct outlet *)((char *)(uintptr_t)e - offsetof(struct outlet, lan_held));
}

/* What moves bytes has proven more than what was only opened. */
static uint64_t moved_bytes(const struct outlet *o)
{
    struct pump_stats moved =
        o->pump != NULL ? pump_stats(o->pump) : (struct pump_stats){0};
    return moved.to_peer_bytes + moved.from_peer_bytes;
}

static uint64_t worth(const struct holding *e)
{
    return moved_bytes(owner(e));
}

static uint64_t lan_worth(const struct holding *e)
{
    return moved_bytes(lan_owner(e));
}

struct outlets *outlets_new(struct host *h)
{
    struct outlets *os = calloc(1, sizeof(*os));
    if (os == NULL)
        return NULL;
    os->host = h;
    holdings_init(&os->all, net_descriptors_share(SERVICES_PERCENT), worth);
    holdings_init(&os->lan, LAN_STREAMS_MAX, lan_worth);
    return os;
}

size_t outlets_count(const struct outlets *os)
{
    return os != NULL ? os->all.count : 0;
}

static void outlet_free(struct outlet *o)
{
    holdings_give_back(&o->of->all, &o->held);
    holdings_give_back(&o->of->lan, &o->lan_held);
    race_free(o->race);
    resolve_cancel(o->resolve);
    watch_close(&o->udp_watch);
    if (o->udp_fd >= 0)
        close(o->udp_fd);
    timer_stop(&o->idle);
    free(o);
}

int stream_reply(struct pump *p, enum stream_code code, const char *reason,
                 bool datagrams)
{
    StreamReply r = {.code = code, .datagrams = datagrams};
    uint8_t buf[256];
    (void)snprintf(r.reason, sizeof(r.reason), "%s", reason);
    int n = proto_encode_frame(buf, sizeof(buf), StreamReply_fields, &r);
    return n < 0 ? n : pump_send_header(p, buf, (size_t)n);
}

void stream_refuse(struct pump *p, enum stream_code code, const char *reason)
{
    if (stream_reply(p, code, reason, false) == 0)
        pump_finish(p);
    else
        pump_abort(p, code);
}

/* The service is there, or it is not. */
static int reply_open(struct outlet *o, bool datagrams)
{
    int err = stream_reply(o->pump, STREAM_OK, "", datagrams);
    if (err == 0 && o->visit.all != NULL)
        portal_visit_opened(&o->visit);
    return err;
}

static void refuse(struct outlet *o, enum stream_code code, const char *reason)
{
    if (o->visit.all != NULL)
        portal_visit_refused(&o->visit, reason);
    stream_refuse(o->pump, code, reason);
}

/* -----------------------------------------------------------------------------------
 * a connection */

/* The host's own TLS in front of it; NULL: raw bytes. */
static struct certs *certs_for(const struct outlet *o)
{
    struct certs *certs = o->visit.by_name ? o->host->certs : NULL;
    return certs_has(certs, o->service.name) ? certs : NULL;
}

static void end_race(struct outlet *o)
{
    race_free(o->race);
    o->race = NULL;
}

static void on_won(void *ctx, int fd)
{
    struct outlet *o = ctx;
    struct certs *certs = certs_for(o);
    end_race(o);
    if (certs != NULL && (fd = certs_wrap(certs, o->service.name, fd)) < 0) {
        refuse(o, STREAM_REFUSED, "the host has no certificate for it yet");
        return;
    }
    if (reply_open(o, false) != 0) {
        close(fd);
        pump_abort(o->pump, STREAM_LIMIT);
    } else if (pump_attach(o->pump, fd) != 0) {
        log_debug("a stream ended before its service was connected");
    }
}

/* TLS in front of it needs a socket, and so both streams get an end of one. */
static void wrap_stream(struct outlet *o, struct pump *stream)
{
    int pair[2];
    if (sock_pair(pair) != 0) {
        pump_drop(stream);
        refuse(o, STREAM_LIMIT, "the host has no descriptors left");
        return;
    }
    pump_disown(stream);
    pump_set_owned(stream);
    if (pump_attach(stream, pair[0]) != 0)
        log_debug("a stream ended before its service was connected");
    on_won(o, pair[1]);
}

static void on_won_there(void *ctx, struct pump *stream)
{
    struct outlet *o = ctx;
    if (certs_for(o) != NULL) {
        wrap_stream(o, stream);
        return;
    }
    end_race(o);
    if (o->service.udp)
        pump_set_datagrams(o->pump);
    if (reply_open(o, o->service.udp) != 0)
        pump_abort(o->pump, STREAM_LIMIT);
    pump_join(o->pump, stream);
}

static void on_lost(void *ctx, enum stream_code code, const char *reason)
{
    refuse(ctx, code, reason);
}

static const struct race_events race_events = {on_won, on_won_there, on_lost};

static void start_race(struct outlet *o)
{
    if (race_start(&o->race, o->host->loop, o->host->agent, &o->service, &race_events,
                   o) != 0) {
        o->race = NULL;
        refuse(o, STREAM_LIMIT, "the host is out of memory");
    }
}

/* -----------------------------------------------------------------------------------
 * UDP */

static void refuse_for(struct outlet *o, int err)
{
    char reason[160];
    const struct service_target *t = &o->service.targets[0];
    (void)snprintf(reason, sizeof(reason), "%.60s at %.60s:%u: %s", o->service.name,
                   t->host, t->port, postern_strerror(err));
    refuse(o, err == POSTERN_ERR_TIMEOUT ? STREAM_TIMEOUT : STREAM_UNREACHABLE, reason);
}

static void on_idle(void *ctx)
{
    struct outlet *o = ctx;
    if (o->pump != NULL)
        pump_abort(o->pump, STREAM_TIMEOUT);
}

static void udp_alive(struct outlet *o)
{
    timer_start(&o->idle, UDP_IDLE_MS);
}

static void on_udp(void *ctx, int events)
{
    struct outlet *o = ctx;
    uint8_t buf[DATAGRAM_MAX];
    (void)events;
    if (o->pump == NULL)
        return;
    for (int i = 0; i < 64 && o->pump != NULL; i++) {
        ssize_t n = sock_read(o->udp_fd, buf, sizeof(buf));
        if (n == POSTERN_ERR_AGAIN)
            return;
        if (n < 0)
            continue; /* the error is told once; answers may stand behind it */
        udp_alive(o);
        (void)!pump_send_datagram(o->pump, buf, (size_t)n);
    }
}

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct outlet *o = ctx;
    o->resolve = NULL;
    if (err != 0 || n == 0) {
        refuse_for(o, err != 0 ? err : POSTERN_ERR_NOTFOUND);
        return;
    }
    o->udp_fd = sock_udp_to(&addrs[0]);
    timer_init(&o->idle, o->host->loop, on_idle, o);
    if (o->udp_fd < 0 || watch_start(&o->udp_watch, o->host->loop, o->udp_fd,
                                     WATCH_READ, on_udp, o) != 0) {
        refuse_for(o, POSTERN_ERR_UNREACHABLE);
        return;
    }
    udp_alive(o);
    pump_set_datagrams(o->pump);
    if (reply_open(o, true) != 0)
        pump_abort(o->pump, STREAM_LIMIT);
}

static void on_datagram(void *ctx, struct pump *p, const uint8_t *data, size_t len)
{
    struct outlet *o = ctx;
    (void)p;
    if (o->udp_fd < 0 || o->visit.ended)
        return;
    udp_alive(o);
    /* A second try: the first may only tell the ICMP error that the last one met. */
    for (int i = 0; i < 2; i++)
        if (sock_write(o->udp_fd, data, len) != POSTERN_ERR_REFUSED)
            break;
}

/* ------------------------------------------------------------------------ the call */

/* A device's: 0, or it was refused. */
static int judge_device(struct outlet *o, const struct outlet_client *who,
                        const StreamOpen *open)
{
    const struct service *s = service_find(&o->host->services, open->service);
    struct roster_client listed;
    char reason[160];
    (void)snprintf(reason, sizeof(reason), "%.40s publishes no service '%.60s'",
                   o->host->settings.name, open->service);
    if (open->has_visit) {
        refuse(o, STREAM_DENIED, "only the broker's portal may visit");
    } else if (!who->member) {
        refuse(o, STREAM_DENIED, "this device has not joined this host");
    } else if (s == NULL) {
        refuse(o, STREAM_NOTFOUND, reason);
    } else {
        o->service = *s;
        if (who->agent)
            return 0; /* which has judged its client */
        if (roster_client_find(o->host->roster, who->listed, &listed) == 0 &&
            service_is_for(s, listed.name, listed.allowed) &&
            service_narrow(&o->service, open->service,
                           s->audience[0] != '\0' ? "" : listed.allowed))
            return 0;
        refuse(o, STREAM_DENIED, "this device may not use that service");
    }
    return POSTERN_ERR_DENIED;
}

/* The portal's: 0, or it was refused. */
static int judge_visit(struct outlet *o, const StreamOpen *open)
{
    const char *reason = "the portal must say for whom it comes";
    enum stream_code code = STREAM_DENIED;
    if (open->has_visit)
        code =
            portal_visit_begin(&o->visit, o->host->visits, open, &o->service, &reason);
    if (code != STREAM_OK) {
        stream_refuse(o->pump, code, reason); /* the log has it already */
        return POSTERN_ERR_DENIED;
    }
    portal_visit_list(&o->visit, o->pump);
    return 0;
}

/* A stream of the one session that a host of the LAN has with us, likewise. */
static int take_lan_place(struct outlet *o, const uint8_t *device)
{
    struct holding *leaves;
    if (holdings_take(&o->of->lan, &o->lan_held, device, &leaves) != 0) {
        refuse(o, STREAM_LIMIT,
               "the host has no room for more connections of this device to its LAN");
        return POSTERN_ERR_LIMIT;
    }
    if (leaves != NULL)
        pump_abort(lan_owner(leaves)->pump, STREAM_LIMIT);
    return 0;
}

static bool is_of_lan(const struct service *s)
{
    for (size_t i = 0; i < s->target_count; i++)
        if (s->targets[i].by != 0)
            return true;
    return false;
}

/* A descriptor for it: of who has most, what moved least makes room. */
static int take_place(struct outlet *o, const uint8_t *device)
{
    struct holding *leaves;
    if (holdings_take(&o->of->all, &o->held, device, &leaves) != 0) {
        refuse(o, STREAM_LIMIT,
               "the host has no descriptors for more connections of this device");
        return POSTERN_ERR_LIMIT;
    }
    if (leaves != NULL)
        pump_abort(owner(leaves)->pump, STREAM_LIMIT);
    return is_of_lan(&o->service) ? take_lan_place(o, device) : 0;
}

static void connect_service(struct outlet *o)
{
    if (!o->service.udp || o->service.targets[0].by != 0) {
        start_race(o);
    } else if (resolve_start(&o->resolve, o->host->loop, o->service.targets[0].host,
                             o->service.targets[0].port, on_resolved, o) != 0) {
        o->resolve = NULL;
        refuse_for(o, POSTERN_ERR_IO);
    }
}

static void on_header(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    struct outlet *o = ctx;
    const struct outlet_client *who = o->who;
    StreamOpen open = StreamOpen_init_zero;
    o->who = NULL;
    if (proto_decode(StreamOpen_fields, &open, msg, len) != 0) {
        pump_abort(p, STREAM_LIMIT);
        return;
    }
    if (who->portal && open.has_visit && open.visit.ask != PORTAL_ASK_NONE) {
        if (o->host->events->on_question(o->host, p, &open.visit) == 0)
            outlet_free(o);
        else
            stream_refuse(p, STREAM_LIMIT, "the host is asked too much at once");
        return;
    }
    int err = who->portal ? judge_visit(o, &open) : judge_device(o, who, &open);
    if (err == 0)
        err = take_place(o, who->listed);
    if (err == 0)
        connect_service(o);
}

static void on_end(void *ctx, struct pump *p, uint64_t code)
{
    struct outlet *o = ctx;
    struct pump_stats stats = pump_stats(p);
    (void)code;
    o->pump = NULL;
    portal_visit_end(&o->visit, &stats);
    outlet_free(o);
}

static const struct pump_events outlet_events = {on_header, on_datagram, on_end};

void outlet_accept(struct outlets *os, const struct outlet_client *who,
                   struct stream *st)
{
    struct outlet *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return; /* a stream without events is reset */
    spare_count(&os->host->spare);
    o->of = os;
    o->host = os->host;
    o->who = who;
    o->udp_fd = -1;
    if (pump_accept(&o->pump, st, &outlet_events, o) != 0)
        free(o);
}

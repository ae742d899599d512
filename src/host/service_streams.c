/*
 * TCP services are connected to, by a race of their targets, and pumped; UDP services
 * get a socket of their own a flow; what a host of the LAN serves is a stream to it,
 * joined to the client's. A refusal is handed back with its reason.
 */
#include "host/service_streams.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/holdings.h"
#include "core/repeat.h"
#include "host/certs.h"
#include "host/portal_visits.h"
#include "host/race.h"
#include "io/audit.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/resolve.h"
#include "io/sock.h"
#include "path/net.h"
#include "session/tie.h"

enum {
    SERVICES_PERCENT = 40, /* of the descriptors beside the program's own */
    UDP_IDLE_MS = 5 * 60000,
    DATAGRAM_MAX = 65535,
    /* Those of one session, for all hosts of the LAN together; some are still ending.
     */
    LAN_STREAMS_MAX = SESSION_STREAMS_MAX - 64,
};

struct service_streams {
    struct host *host;
    struct holdings all;    /* by device, of the descriptors for services */
    struct holdings lan;    /* by device, of the streams to hosts of the LAN */
    struct minute refusals; /* of devices, in the log */
    struct repeat told;     /* the same, on the screen */
};

struct service_stream {
    struct holding held;     /* of all */
    struct holding lan_held; /* of lan */
    struct service_streams *of;
    struct host *host;
    const struct tie *tie;           /* its device's */
    const struct stream_client *who; /* NULL once its header was handled */
    struct pump *pump;               /* NULL at the end */
    char name[ROSTER_NAME_LEN];      /* of the device or account */
    char from[ADDR_TEXT_LEN];        /* where a device's path came from, at the start */
    char kind[24];                   /* its kind */
    uint64_t since_ms;
    bool opened;               /* of a device: that is in the log */
    struct service service;    /* a copy: reload may replace the list */
    struct portal_visit visit; /* when it is the portal's */
    struct race *race;         /* TCP, and what hosts of the LAN serve */
    struct resolve *resolve;
    int udp_fd; /* of this machine's UDP */
    struct watch udp_watch;
    struct timer idle;
};

static struct service_stream *owner(const struct holding *e)
{
    return (struct service_stream *)((char *)(uintptr_t)e -
                                     offsetof(struct service_stream, held));
}

static struct service_stream *lan_owner(const struct holding *e)
{
    return (struct service_stream *)((char *)(uintptr_t)e -
                                     offsetof(struct service_stream, lan_held));
}

/* What moves bytes has proven more than what was only opened. */
static uint64_t moved_bytes(const struct service_stream *ss)
{
    struct pump_stats moved =
        ss->pump != NULL ? pump_stats(ss->pump) : (struct pump_stats){0};
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

struct service_streams *service_streams_new(struct host *h)
{
    struct service_streams *os = calloc(1, sizeof(*os));
    if (os == NULL)
        return NULL;
    os->host = h;
    holdings_init(&os->all, net_descriptors_share(SERVICES_PERCENT), worth);
    holdings_init(&os->lan, LAN_STREAMS_MAX, lan_worth);
    return os;
}

size_t service_streams_count(const struct service_streams *os)
{
    return os != NULL ? os->all.count : 0;
}

static void service_stream_free(struct service_stream *ss)
{
    holdings_give_back(&ss->of->all, &ss->held);
    holdings_give_back(&ss->of->lan, &ss->lan_held);
    race_free(ss->race);
    resolve_cancel(ss->resolve);
    watch_close(&ss->udp_watch);
    if (ss->udp_fd >= 0)
        close(ss->udp_fd);
    timer_stop(&ss->idle);
    free(ss);
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

/*
 * A device's connection in the log: by which path it went last, and from where. Through
 * the relay it is the address that the broker saw, without a port.
 */
static void look_where(struct service_stream *ss, bool at_begin)
{
    const struct tie_way *way = tie_way(ss->tie);
    if (way->kind != PATH_KIND_NONE)
        (void)snprintf(ss->kind, sizeof(ss->kind), "%s", path_kind_name(way->kind));
    if (path_kind_is_direct(way->kind) && way->remote.family != ADDR_NONE) {
        (void)addr_format(&way->remote, ss->from);
    } else if (at_begin) { /* at the end there may be no approach any more */
        struct addr seen = approach_peer_seen(tie_approach(ss->tie));
        if (seen.family != ADDR_NONE)
            (void)addr_format_ip(&seen, ss->from);
    }
}

static void log_opened(struct service_stream *ss)
{
    char detail[48];
    if (ss->tie == NULL)
        return;
    ss->opened = true;
    ss->since_ms = loop_now_ms(ss->host->loop);
    look_where(ss, true);
    (void)snprintf(detail, sizeof(detail), "by %s", ss->kind);
    audit_note(ss->host->audit, "opened", ss->name, ss->from, ss->service.name,
               ss->kind[0] != '\0' ? detail : "");
}

static void log_closed(struct service_stream *ss, const struct pump_stats *stats)
{
    char detail[AUDIT_TEXT_LEN * 2];
    if (!ss->opened)
        return;
    look_where(ss, false);
    (void)snprintf(
        detail, sizeof(detail), "%llu bytes sent, %llu received, %llu s, by %s",
        (unsigned long long)stats->to_peer_bytes,
        (unsigned long long)stats->from_peer_bytes,
        (unsigned long long)(loop_now_ms(ss->host->loop) - ss->since_ms) / 1000,
        ss->kind);
    audit_note(ss->host->audit, "closed", ss->name, ss->from, ss->service.name, detail);
}

/* The service is there, or it is not. */
static int reply_open(struct service_stream *ss, bool datagrams)
{
    int err = stream_reply(ss->pump, STREAM_OK, "", datagrams);
    if (err == 0 && ss->visit.all != NULL)
        portal_visit_opened(&ss->visit);
    else if (err == 0)
        log_opened(ss);
    return err;
}

/* Whoever serves sees at once that a service is down, or that somebody lacks it. */
static void tell_refused(struct service_stream *ss, const char *who, const char *reason)
{
    struct event e;
    const char *service = ss->service.name;
    char text[sizeof(ss->of->told.text)];
    size_t len = strlen(service); /* "web at PLACE: WHY": which service is said */
    bool again =
        strncmp(reason, service, len) == 0 && strncmp(reason + len, " at ", 4) == 0;
    unsigned left_out;
    (void)snprintf(text, sizeof(text), "%s %s %s", who, service, reason);
    if (ss->host->out == NULL ||
        !repeat_tell(&ss->of->told, text, loop_now_ms(ss->host->loop), &left_out))
        return;
    event_begin(&e, "refused");
    event_text(&e, "who", who);
    event_text(&e, "service", service);
    event_text(&e, "reason", again ? reason + len + 1 : reason);
    if (left_out > 0)
        event_int(&e, "repeated", left_out);
    events_print(ss->host->out, &e);
}

static void refuse(struct service_stream *ss, enum stream_code code, const char *reason)
{
    const struct portal_visit *v = &ss->visit;
    bool visit = v->all != NULL, device = ss->tie != NULL && ss->name[0] != '\0';
    bool tell = (visit || device) &&
                minute_tell(&ss->of->refusals, loop_now_ms(ss->host->loop));
    if (visit) {
        portal_visit_refused(&ss->visit, reason);
    } else if (tell) {
        look_where(ss, true);
        audit_note(ss->host->audit, "refused", ss->name, ss->from, ss->service.name,
                   reason);
    }
    if (tell)
        tell_refused(ss,
                     !visit                  ? ss->name
                     : v->account[0] != '\0' ? v->account
                                             : v->visitor,
                     reason);
    stream_refuse(ss->pump, code, reason);
}

/* -----------------------------------------------------------------------------------
 * a connection */

/* The host's own TLS in front of it; NULL: raw bytes. */
static struct certs *certs_for(const struct service_stream *ss)
{
    struct certs *certs = ss->visit.by_name ? ss->host->certs : NULL;
    return certs_has(certs, ss->service.name) ? certs : NULL;
}

static void end_race(struct service_stream *ss)
{
    race_free(ss->race);
    ss->race = NULL;
}

static void on_won(void *ctx, int fd)
{
    struct service_stream *ss = ctx;
    struct certs *certs = certs_for(ss);
    end_race(ss);
    if (certs != NULL && (fd = certs_wrap(certs, ss->service.name, fd)) < 0) {
        refuse(ss, STREAM_REFUSED, "the host has no certificate for it yet");
        return;
    }
    if (reply_open(ss, false) != 0) {
        close(fd);
        pump_abort(ss->pump, STREAM_LIMIT);
    } else if (pump_attach(ss->pump, fd) != 0) {
        log_debug("a stream ended before its service was connected");
    }
}

/* TLS in front of it needs a socket, and so both streams get an end of one. */
static void wrap_stream(struct service_stream *ss, struct pump *stream)
{
    int pair[2];
    if (sock_pair(pair) != 0) {
        pump_drop(stream);
        refuse(ss, STREAM_LIMIT, "the host has no descriptors left");
        return;
    }
    pump_disown(stream);
    pump_set_owned(stream);
    if (pump_attach(stream, pair[0]) != 0)
        log_debug("a stream ended before its service was connected");
    on_won(ss, pair[1]);
}

static void on_won_there(void *ctx, struct pump *stream)
{
    struct service_stream *ss = ctx;
    if (certs_for(ss) != NULL) {
        wrap_stream(ss, stream);
        return;
    }
    end_race(ss);
    if (ss->service.udp)
        pump_set_datagrams(ss->pump);
    if (reply_open(ss, ss->service.udp) != 0)
        pump_abort(ss->pump, STREAM_LIMIT);
    pump_join(ss->pump, stream);
}

static void on_lost(void *ctx, enum stream_code code, const char *reason)
{
    refuse(ctx, code, reason);
}

static const struct race_events race_events = {on_won, on_won_there, on_lost};

static void start_race(struct service_stream *ss)
{
    if (race_start(&ss->race, ss->host->loop, ss->host->agent, &ss->service, ss->name,
                   &race_events, ss) != 0) {
        ss->race = NULL;
        refuse(ss, STREAM_LIMIT, "the host is out of memory");
    }
}

/* -----------------------------------------------------------------------------------
 * UDP */

static void refuse_for(struct service_stream *ss, int err)
{
    char reason[160];
    const struct service_target *t = &ss->service.targets[0];
    (void)snprintf(reason, sizeof(reason), "%.60s at %.60s:%u: %s", ss->service.name,
                   t->host, t->port, postern_strerror(err));
    refuse(ss, err == POSTERN_ERR_TIMEOUT ? STREAM_TIMEOUT : STREAM_UNREACHABLE,
           reason);
}

static void on_idle(void *ctx)
{
    struct service_stream *ss = ctx;
    if (ss->pump != NULL)
        pump_abort(ss->pump, STREAM_TIMEOUT);
}

static void udp_alive(struct service_stream *ss)
{
    timer_start(&ss->idle, UDP_IDLE_MS);
}

static void on_udp(void *ctx, int events)
{
    struct service_stream *ss = ctx;
    READ_INTO uint8_t buf[DATAGRAM_MAX];
    (void)events;
    if (ss->pump == NULL)
        return;
    for (int i = 0; i < 64 && ss->pump != NULL; i++) {
        ssize_t n = sock_read(ss->udp_fd, buf, sizeof(buf));
        if (n == POSTERN_ERR_AGAIN)
            return;
        if (n < 0)
            continue; /* the error is told once; answers may stand behind it */
        udp_alive(ss);
        (void)!pump_send_datagram(ss->pump, buf, (size_t)n);
    }
}

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct service_stream *ss = ctx;
    ss->resolve = NULL;
    if (err != 0 || n == 0) {
        refuse_for(ss, err != 0 ? err : POSTERN_ERR_NOTFOUND);
        return;
    }
    ss->udp_fd = sock_udp_to(&addrs[0]);
    timer_init(&ss->idle, ss->host->loop, on_idle, ss);
    if (ss->udp_fd < 0 || watch_start(&ss->udp_watch, ss->host->loop, ss->udp_fd,
                                      WATCH_READ, on_udp, ss) != 0) {
        refuse_for(ss, POSTERN_ERR_UNREACHABLE);
        return;
    }
    udp_alive(ss);
    pump_set_datagrams(ss->pump);
    if (reply_open(ss, true) != 0)
        pump_abort(ss->pump, STREAM_LIMIT);
}

static void on_datagram(void *ctx, struct pump *p, const uint8_t *data, size_t len)
{
    struct service_stream *ss = ctx;
    (void)p;
    if (ss->udp_fd < 0 || ss->visit.ended)
        return;
    udp_alive(ss);
    /* A second try: the first may only tell the ICMP error that the last one met. */
    for (int i = 0; i < 2; i++)
        if (sock_write(ss->udp_fd, data, len) != POSTERN_ERR_REFUSED)
            break;
}

/* ------------------------------------------------------------------------ the call */

/*
 * What a program publishes while it runs does not run now: to start it helps only who
 * may use it then.
 */
static bool may_ever(const struct service_stream *ss, const struct stream_client *who,
                     const char *name)
{
    struct roster_client listed;
    struct service s = {.target_count = 1};
    (void)snprintf(s.name, sizeof(s.name), "%.63s", name);
    return who->agent || !service_is_of_program(name) ||
           roster_client_find(ss->host->roster, who->listed, &listed) != 0 ||
           service_allowed(listed.allowed, &s);
}

/* A device's: 0, or it was refused. */
static int judge_device(struct service_stream *ss, const struct stream_client *who,
                        const StreamOpen *open)
{
    const struct service *s = service_find(&ss->host->services, open->service);
    struct roster_client listed;
    char reason[160];
    /* Not by its own name: each device has one of its own for this host. */
    (void)snprintf(reason, sizeof(reason), "the host publishes no service '%.60s'",
                   open->service);
    if (open->has_visit) {
        refuse(ss, STREAM_DENIED, "only the broker's portal may visit");
    } else if (!who->member) {
        refuse(ss, STREAM_DENIED, "this device has not joined this host");
    } else if (s == NULL && !may_ever(ss, who, open->service)) {
        refuse(ss, STREAM_DENIED, "this device may not use that service");
    } else if (s == NULL) {
        refuse(ss, STREAM_NOTFOUND, reason);
    } else {
        ss->service = *s;
        (void)snprintf(ss->name, sizeof(ss->name), "%s", who->agent ? "the agent" : "");
        if (who->agent)
            return 0; /* which has judged its client */
        bool found = roster_client_find(ss->host->roster, who->listed, &listed) == 0;
        if (found)
            (void)snprintf(ss->name, sizeof(ss->name), "%s", listed.name);
        if (found && service_is_for(s, listed.name, listed.allowed) &&
            service_narrow(&ss->service, open->service,
                           s->audience[0] != '\0' ? "" : listed.allowed))
            return 0;
        refuse(ss, STREAM_DENIED, "this device may not use that service");
    }
    return POSTERN_ERR_DENIED;
}

/* The portal's: 0, or it was refused. */
static int judge_visit(struct service_stream *ss, const StreamOpen *open)
{
    const char *reason = "the portal must say for whom it comes";
    enum stream_code code = STREAM_DENIED;
    if (open->has_visit)
        code = portal_visit_begin(&ss->visit, ss->host->visits, open, &ss->service,
                                  &reason);
    if (code != STREAM_OK) {
        stream_refuse(ss->pump, code, reason); /* the log has it already */
        return POSTERN_ERR_DENIED;
    }
    portal_visit_list(&ss->visit, ss->pump);
    (void)snprintf(ss->name, sizeof(ss->name), "%.63s", ss->visit.account);
    return 0;
}

/* A stream of the one session that a host of the LAN has with us, likewise. */
static int take_lan_place(struct service_stream *ss, const uint8_t *device)
{
    struct holding *leaves;
    if (holdings_take(&ss->of->lan, &ss->lan_held, device, &leaves) != 0) {
        refuse(ss, STREAM_LIMIT,
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
static int take_place(struct service_stream *ss, const uint8_t *device)
{
    struct holding *leaves;
    if (holdings_take(&ss->of->all, &ss->held, device, &leaves) != 0) {
        refuse(ss, STREAM_LIMIT,
               "the host has no descriptors for more connections of this device");
        return POSTERN_ERR_LIMIT;
    }
    if (leaves != NULL)
        pump_abort(owner(leaves)->pump, STREAM_LIMIT);
    return is_of_lan(&ss->service) ? take_lan_place(ss, device) : 0;
}

static void connect_service(struct service_stream *ss)
{
    if (!ss->service.udp || ss->service.targets[0].by != 0) {
        start_race(ss);
    } else if (resolve_start(&ss->resolve, ss->host->loop, ss->service.targets[0].host,
                             ss->service.targets[0].port, on_resolved, ss) != 0) {
        ss->resolve = NULL;
        refuse_for(ss, POSTERN_ERR_IO);
    }
}

static void on_header(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    struct service_stream *ss = ctx;
    const struct stream_client *who = ss->who;
    StreamOpen open = StreamOpen_init_zero;
    ss->who = NULL;
    if (proto_decode(StreamOpen_fields, &open, msg, len) != 0) {
        pump_abort(p, STREAM_LIMIT);
        return;
    }
    if (who->portal && open.has_visit && open.visit.ask != PORTAL_ASK_NONE) {
        if (ss->host->events->on_question(ss->host, p, &open.visit) == 0)
            service_stream_free(ss);
        else
            stream_refuse(p, STREAM_LIMIT, "the host is asked too much at once");
        return;
    }
    int err = who->portal ? judge_visit(ss, &open) : judge_device(ss, who, &open);
    if (err == 0)
        err = take_place(ss, who->listed);
    if (err == 0)
        connect_service(ss);
}

static void on_end(void *ctx, struct pump *p, uint64_t code)
{
    struct service_stream *ss = ctx;
    struct pump_stats stats = pump_stats(p);
    (void)code;
    ss->pump = NULL;
    log_closed(ss, &stats);
    portal_visit_end(&ss->visit, &stats);
    service_stream_free(ss);
}

static const struct pump_events stream_events = {on_header, on_datagram, on_end};

void service_stream_accept(struct service_streams *os, const struct stream_client *who,
                           struct stream *st)
{
    struct service_stream *ss = calloc(1, sizeof(*ss));
    if (ss == NULL)
        return; /* a stream without events is reset */
    spare_count(&os->host->spare);
    ss->of = os;
    ss->host = os->host;
    ss->who = who;
    ss->tie = who->portal || who->agent ? NULL : who->tie;
    ss->udp_fd = -1;
    if (pump_accept(&ss->pump, st, &stream_events, ss) != 0)
        free(ss);
}

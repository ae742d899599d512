/* Calls of local applications. Which application, and what it says, is not known. */
#include "client/call.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/list.h"
#include "io/lack.h"
#include "io/linger.h"
#include "io/loop.h"
#include "io/spare.h"

enum {
    WAIT_MS = 20000,
    PATIENT_MS = 60000,
    OFFLINE_WAIT_MS = 5000, /* for a host that is off: perhaps it is starting again */
    BROKER_WAIT_MS = 10000, /* for a command that has nothing else to do */
    TELL_MS = 5000,         /* then whoever waits is told why */
    TELL_KNOWN_MS = 1500,   /* when the broker has said that it may take longer */
    TICK_MS = 500,
    REASON_LEN =
        sizeof(((struct fault *)0)->what) + sizeof(((struct fault *)0)->advice) + 2,
    LATE_MS = 2 * TICK_MS, /* this program did not run: nobody had a chance */
};

struct call {
    struct list link;
    struct calls *calls;
    struct call_config config;
    StreamOpen open;
    struct pump *pump; /* NULL while waiting for a session */
    int fd;            /* -1 once the pump has it */
    uint64_t since_ms;
    uint64_t deadline_ms; /* for the host's answer */
    bool answered, told, quiet;
    const char *advice; /* within on_answer */
    uint64_t code;
    struct pump_stats stats;
};

struct calls {
    struct loop *loop;
    struct timer timer;
    struct list all; /* struct call, the newest first */
    unsigned count;
    struct spare spare;
    uint64_t ticked_ms;
    struct fault last;          /* why there is no session */
    const struct peer *last_of; /* with whom: NULL: with none; compared only */
};

static void reset_fd(struct call *c)
{
    if (c->fd >= 0)
        linger_break(c->fd);
    c->fd = -1;
}

static void call_free(struct call *c)
{
    struct calls *cs = c->calls;
    list_remove(&c->link);
    cs->count--;
    spare_look(&cs->spare, cs->count);
    reset_fd(c);
    if (!c->quiet && c->config.on_end != NULL)
        c->config.on_end(c->config.ctx, c);
    free(c);
}

static void answer(struct call *c, unsigned code, const char *reason)
{
    if (c->answered)
        return;
    c->answered = true;
    if (!c->quiet && c->config.on_answer != NULL)
        c->config.on_answer(c->config.ctx, c, code, reason);
}

/* What this side says in the host's place. */
static void answer_fault(struct call *c, unsigned code, const struct fault *why)
{
    c->advice = why->advice;
    answer(c, code, why->what);
    c->advice = "";
}

/* Nothing went out: it is this program that lacks something. */
static void answer_lack(struct call *c, int code)
{
    struct fault f;
    errno = 0;
    if (code == POSTERN_ERR_NOMEM)
        (void)fault_lack(&f, code);
    else
        (void)fault_set(&f, code, "try again", "%s", postern_strerror(code));
    answer_fault(c, STREAM_LIMIT, &f);
}

/* --------------------------------------------------------------------- pump events */

static void on_header(void *ctx, struct pump *p, const uint8_t *msg, size_t len)
{
    struct call *c = ctx;
    StreamReply r = StreamReply_init_zero;
    if (proto_decode(StreamReply_fields, &r, msg, len) != 0) {
        answer(c, STREAM_UNREACHABLE, "the host's answer was malformed");
        pump_abort(p, STREAM_LIMIT);
        return;
    }
    if (r.code == STREAM_OK && r.datagrams && c->config.fd >= 0) {
        r.code = STREAM_NOTFOUND; /* what has no ends and loses packets is no stream */
        (void)snprintf(
            r.reason, sizeof(r.reason),
            "'%.60s' is a UDP service, which 'postern connect' and 'up' carry",
            c->config.service);
    }
    answer(c, r.code, r.reason);
    if (r.code != STREAM_OK) {
        pump_abort(p, r.code);
    } else if (r.datagrams) {
        pump_set_datagrams(p);
    } else if (c->fd >= 0) {
        int fd = c->fd;
        c->fd = -1;
        if (pump_attach(p, fd) != 0)
            pump_abort(p, SESSION_RESET_BY_APP);
    }
}

static void on_datagram(void *ctx, struct pump *p, const uint8_t *data, size_t len)
{
    struct call *c = ctx;
    (void)p;
    if (c->config.on_datagram != NULL && !c->quiet)
        c->config.on_datagram(c->config.ctx, c, data, len);
}

static void on_end(void *ctx, struct pump *p, uint64_t code)
{
    struct call *c = ctx;
    c->stats = pump_stats(p);
    c->code = code;
    c->pump = NULL;
    const struct fault *why = peer_why_none(c->config.peer);
    if (code != 0 && why != NULL)
        answer_fault(c, STREAM_UNREACHABLE, why);
    else if (code != 0)
        answer(c, STREAM_UNREACHABLE, "the connection to the host was lost");
    call_free(c);
}

static const struct pump_events pump_events = {on_header, on_datagram, on_end};

/* --------------------------------------------------------------------------- calls */

/* Opens the stream when there is a session. Returns false when the call is gone. */
static bool try_open(struct call *c)
{
    int rc = peer_call(c->config.peer, &c->pump, &c->open, &pump_events, c);
    if (rc == POSTERN_ERR_CLOSED || rc == POSTERN_ERR_LIMIT) {
        c->pump = NULL;
        return true; /* later */
    }
    if (rc != 0) {
        c->pump = NULL;
        answer_lack(c, rc);
        call_free(c);
        return false;
    }
    if (c->config.owned)
        pump_set_owned(c->pump);
    if (!c->config.answer_first && c->fd >= 0) {
        int fd = c->fd;
        c->fd = -1;
        if (pump_attach(c->pump, fd) != 0) /* data travels with the request */
            pump_abort(c->pump, SESSION_RESET_BY_APP);
    }
    return true;
}

static bool is_known(const struct call *c)
{
    const struct calls *cs = c->calls;
    return cs->last.what[0] != '\0' &&
           (cs->last_of == NULL || cs->last_of == c->config.peer);
}

/* What keeps the session or its answer from coming: the broker's absence above all. An
 * advice only where waiting may not be the cure. */
static void why_none(const struct call *c, struct fault *why)
{
    const struct peer *p = c->config.peer;
    const struct fault *f = peer_broker_fault(p, NULL);
    char words[LADDER_REASON_LEN];
    if (f != NULL && (c->pump == NULL || peer_is_silent(p))) {
        *why = *f;
        return;
    }
    f = is_known(c) ? &c->calls->last : peer_why_none(p);
    if ((c->pump != NULL || peer_is_ready(p)) && !peer_is_silent(p))
        (void)fault_set(why, 0, "", "the host has not answered the request yet");
    else
        (void)fault_set(why, 0, "", "%s",
                        f != NULL ? f->what : peer_why_waiting(p, words));
}

/* Waiting helps only when somebody changes something; one more try was made for it. */
static bool is_hopeless(const struct call *c)
{
    bool fatal = false;
    uint64_t waited_ms = loop_now_ms(c->calls->loop) - c->since_ms;
    if (waited_ms >= OFFLINE_WAIT_MS && peer_is_offline(c->config.peer) &&
        !peer_may_return(c->config.peer, OFFLINE_WAIT_MS * 1000ull))
        return true;
    bool apart = c->pump == NULL || peer_is_silent(c->config.peer);
    if (c->config.brief && apart && waited_ms >= BROKER_WAIT_MS &&
        peer_broker_fault(c->config.peer, NULL) != NULL)
        return true;
    return waited_ms >= TICK_MS && peer_broker_fault(c->config.peer, &fatal) != NULL &&
           fatal && (!peer_is_ready(c->config.peer) || peer_is_silent(c->config.peer));
}

static void give_up(struct call *c)
{
    struct fault why;
    why_none(c, &why);
    if (why.advice[0] == '\0')
        (void)snprintf(why.advice, sizeof(why.advice), "see 'postern ping --why %.63s'",
                       peer_name(c->config.peer));
    answer_fault(c, STREAM_TIMEOUT, &why);
    if (c->pump != NULL)
        pump_abort(c->pump, SESSION_RESET_BY_APP);
    else
        call_free(c);
}

static void tell_wait(struct call *c)
{
    bool asked = is_known(c) && c->calls->last.code == POSTERN_ERR_TIMEOUT;
    bool early = c->pump == NULL && (asked || peer_is_offline(c->config.peer));
    uint64_t after_ms = early ? TELL_KNOWN_MS : TELL_MS;
    char words[REASON_LEN];
    struct fault why;
    if (c->told || loop_now_ms(c->calls->loop) < c->since_ms + after_ms)
        return;
    c->told = true;
    if (c->quiet || c->config.on_wait == NULL)
        return;
    why_none(c, &why);
    (void)snprintf(words, sizeof(words), "%s%s%s", why.what,
                   why.advice[0] != '\0' ? "; " : "", why.advice);
    c->config.on_wait(c->config.ctx, c, words);
}

/* After a sleep, answers may have come and not been read yet. */
static uint64_t lateness_ms(struct calls *cs)
{
    uint64_t now_ms = loop_now_ms(cs->loop), gap_ms = now_ms - cs->ticked_ms;
    cs->ticked_ms = now_ms;
    return gap_ms > LATE_MS ? gap_ms - TICK_MS : 0;
}

static void on_tick(void *ctx)
{
    struct calls *cs = ctx;
    bool waiting = false;
    uint64_t late_ms = lateness_ms(cs);
    LIST_EACH_REMOVABLE (struct call, c, next, &cs->all, link) {
        if (c->answered)
            continue;
        c->since_ms += late_ms;
        if (c->deadline_ms != 0)
            c->deadline_ms += late_ms;
        if (loop_now_ms(cs->loop) >= c->deadline_ms || is_hopeless(c)) {
            give_up(c);
        } else if (c->pump != NULL || try_open(c)) {
            waiting = true;
            tell_wait(c);
        }
    }
    if (!waiting)
        timer_stop(&cs->timer);
}

static void start_ticks(struct calls *cs)
{
    if (timer_is_active(&cs->timer))
        return;
    cs->ticked_ms = loop_now_ms(cs->loop);
    timer_every(&cs->timer, TICK_MS, TICK_MS);
}

int call_check_service(const char *service, struct fault *f)
{
    size_t digits = strspn(service, "0123456789");
    bool port = digits > 0 && service[digits] == '\0';
    unsigned long number = port && digits < 6 ? strtoul(service, NULL, 10) : 0;
    if (port ? number >= 1 && number <= UINT16_MAX
             : isalnum((unsigned char)service[0]) &&
                   strlen(service) < sizeof(((StreamOpen *)NULL)->service))
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE, "give its name, or a port from 1 to 65535",
                     "'%.60s' is no service", service);
}

int calls_new(struct calls **out, struct loop *loop)
{
    struct calls *cs = calloc(1, sizeof(*cs));
    if (cs == NULL)
        return POSTERN_ERR_NOMEM;
    cs->loop = loop;
    list_init(&cs->all);
    timer_init(&cs->timer, loop, on_tick, cs);
    *out = cs;
    return 0;
}

void calls_free(struct calls *cs)
{
    if (cs == NULL)
        return;
    while (!list_empty(&cs->all))
        call_forget(LIST_FIRST(&cs->all, struct call, link));
    timer_stop(&cs->timer);
    free(cs);
}

void calls_on_ready(struct calls *cs, struct peer *p)
{
    cs->last = (struct fault){0};
    LIST_EACH_REMOVABLE (struct call, c, next, &cs->all, link) {
        if (c->pump == NULL && c->config.peer == p && c->deadline_ms != 0)
            (void)try_open(c); /* else it was aborted, and ends with the next tick */
    }
}

void calls_on_fault(struct calls *cs, struct peer *p, const struct fault *f, bool fatal)
{
    cs->last = *f;
    cs->last_of = p;
    LIST_EACH_REMOVABLE (struct call, c, next, &cs->all, link) {
        if (fatal && c->pump == NULL && (p == NULL || c->config.peer == p)) {
            answer_fault(c, STREAM_DENIED, f);
            call_free(c);
        }
    }
}

unsigned calls_of_peer(const struct calls *cs, const struct peer *p)
{
    unsigned n = 0;
    LIST_EACH (const struct call, c, &cs->all, link)
        n += c->config.peer == p;
    return n;
}

void calls_drop_peer(struct calls *cs, const struct peer *p)
{
    LIST_EACH_REMOVABLE (struct call, c, next, &cs->all, link) {
        if (c->config.peer != p)
            continue;
        if (c->pump != NULL)
            pump_drop(c->pump);
        call_free(c);
    }
}

void calls_mute(struct calls *cs, const void *ctx)
{
    LIST_EACH_REMOVABLE (struct call, c, next, &cs->all, link)
        if (c->config.ctx == ctx)
            c->quiet = true;
}

int call_start(struct call **out, struct calls *cs, const struct call_config *config)
{
    struct call *c = calloc(1, sizeof(*c));
    if (c == NULL || strlen(config->service) >= sizeof(c->open.service)) {
        if (config->fd >= 0)
            linger_break(config->fd);
        free(c);
        return c == NULL ? POSTERN_ERR_NOMEM : POSTERN_ERR_INVALID;
    }
    c->calls = cs;
    c->advice = "";
    c->code = STREAM_UNREACHABLE; /* until it has ended in order */
    c->config = *config;
    (void)snprintf(c->open.service, sizeof(c->open.service), "%s", config->service);
    c->config.service = c->open.service;
    c->open.has_visit = config->visit != NULL;
    if (config->visit != NULL)
        c->open.visit = *config->visit;
    c->config.visit = NULL;
    c->fd = config->fd;
    if (c->fd >= 0)
        linger_reset(c->fd);
    loop_refresh(cs->loop);
    c->since_ms = loop_now_ms(cs->loop);
    c->deadline_ms = c->since_ms + (config->patient ? PATIENT_MS : WAIT_MS);
    list_push_first(&cs->all, &c->link);
    cs->count++;
    spare_count(&cs->spare);
    if (out != NULL)
        *out = c;
    if (!try_open(c))
        return 0;
    if (c->pump == NULL)
        peer_hurry(config->peer);
    start_ticks(cs);
    return 0;
}

int call_attach(struct call *c, int fd)
{
    if (c->pump != NULL)
        return pump_attach(c->pump, fd);
    linger_break(fd);
    return POSTERN_ERR_CLOSED;
}

void call_abort(struct call *c)
{
    if (c->pump != NULL) {
        pump_abort(c->pump, SESSION_RESET_BY_APP);
        return;
    }
    c->deadline_ms = 0;
    timer_every(&c->calls->timer, 0, TICK_MS);
}

void call_forget(struct call *c)
{
    c->quiet = true;
    if (c->pump != NULL)
        pump_drop(c->pump);
    call_free(c);
}

int call_send_datagram(struct call *c, const uint8_t *data, size_t len)
{
    return c->pump != NULL ? pump_send_datagram(c->pump, data, len) : POSTERN_ERR_AGAIN;
}

uint64_t call_code(const struct call *c)
{
    return c->code;
}

const char *call_advice(const struct call *c)
{
    return c->advice;
}

bool call_is_sent(const struct call *c)
{
    return c->pump != NULL && pump_is_sent(c->pump);
}

struct pump_stats call_stats(const struct call *c)
{
    return c->pump != NULL ? pump_stats(c->pump) : c->stats;
}

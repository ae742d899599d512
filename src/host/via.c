/*
 * The handing side of an agent: one channel, and a connection a client. What is asked
 * for is dialled like a guest's; who asks is the agent's to know.
 */
#include "host/via.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/backoff.h"
#include "host/internal.h"
#include "host/lan.h"
#include "host/race.h"
#include "io/channel.h"
#include "io/dial.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/tcp.h"
#include "io/tlspipe.h"

enum {
    CONNECT_TIMEOUT_MS = 8000,
    WELCOME_TIMEOUT_MS = 15000,
    YIELDS = 5,       /* then the place is taken back: two to three minutes */
    CALLS_MAX = 4096, /* connections that stand, with those that begin */
};

static const struct backoff_policy policy = {
    .first_ms = 200, .max_ms = 15000, .health_ms = 30000};
/* Somebody must change something first. */
static const struct backoff_policy policy_fatal = {
    .first_ms = 2000, .max_ms = 60000, .health_ms = 120000};
/* Another has the same key, and may think the same of this one. */
static const struct backoff_policy policy_replaced = {
    .first_ms = 5000, .max_ms = 600000, .health_ms = 1200000};

enum via_state { VIA_WAITING, VIA_DIALING, VIA_GREETING, VIA_UP };

/* One connection that the agent asked for. */
struct via_call {
    struct via *via;
    struct via_call *next, *prev;
    uint8_t id[CALL_ID_LEN];
    struct race *race; /* to the service; NULL when it is won */
    struct dial *dial; /* back to the agent */
    int fd;            /* the service's, until the pipe has it; then -1 */
    struct tlspipe *pipe;
};

struct via {
    struct serve *serve;
    struct loop *loop;
    struct keypair key;
    struct link link;
    enum via_state state;
    struct dial *dial;
    struct channel *channel;
    struct addr agent;  /* as connected */
    struct timer timer; /* retry or welcome, as `state` says */
    struct backoff backoff, fatal, replaced;
    unsigned yields; /* tries left that leave another of this key in peace */
    unsigned call_count;
    bool met; /* in this run */
    struct via_call *calls;
    AgentServices told;
    AgentNames names; /* what the agent calls them */
    const struct via_events *events;
};

static uint64_t rng_seed(void)
{
    uint64_t seed;
    randombytes_buf(&seed, sizeof(seed));
    return seed;
}

static int send_message(struct via *v, const Agent *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode(buf, sizeof(buf), Agent_fields, m);
    if (v->channel == NULL)
        return POSTERN_ERR_CLOSED;
    return n < 0 ? n : channel_send(v->channel, buf, (size_t)n);
}

/* ----------------------------------------------------------------------- the calls */

static void call_free(struct via_call *c)
{
    struct via *v = c->via;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        v->calls = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    v->call_count--;
    race_free(c->race);
    dial_cancel(c->dial);
    tlspipe_break(c->pipe);
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

static void answer(struct via *v, const uint8_t id[static CALL_ID_LEN],
                   enum stream_code code, const char *reason)
{
    Agent m = {.which_body = Agent_answer_tag, .body.answer.code = code};
    memcpy(m.body.answer.id, id, CALL_ID_LEN);
    (void)snprintf(m.body.answer.reason, sizeof(m.body.answer.reason), "%s", reason);
    if (send_message(v, &m) != 0)
        log_debug("an answer could not be sent to the agent");
}

static void refuse(struct via_call *c, enum stream_code code, const char *reason)
{
    answer(c->via, c->id, code, reason);
    call_free(c);
}

static void on_pipe_end(void *ctx, bool broken)
{
    struct via_call *c = ctx;
    (void)broken;
    c->pipe = NULL;
    call_free(c);
}

static void on_agent_dialed(void *ctx, int err, int fd)
{
    struct via_call *c = ctx;
    c->dial = NULL;
    if (err != 0) {
        refuse(c, STREAM_UNREACHABLE, "the way back to the agent failed");
        return;
    }
    struct tlspipe_join j = {.config = {.loop = c->via->loop,
                                        .protocol = PROTO_ALPN_AGENT_DATA,
                                        .expect = c->via->link.broker_key},
                             .fd = fd,
                             .plain = c->fd,
                             .first = c->id,
                             .first_len = sizeof(c->id),
                             .on_end = on_pipe_end,
                             .ctx = c};
    tcp_no_delay(fd);
    tcp_keep_alive(fd);
    c->fd = -1;
    if (tlspipe_join(&c->pipe, &j) != 0) {
        c->pipe = NULL;
        refuse(c, STREAM_LIMIT, "the service's host is out of memory");
    }
}

static void on_won(void *ctx, int fd)
{
    struct via_call *c = ctx;
    race_free(c->race);
    c->race = NULL;
    c->fd = fd;
    answer(c->via, c->id, STREAM_OK, "");
    if (dial_start(&c->dial, c->via->loop, &c->via->agent, 1, CONNECT_TIMEOUT_MS,
                   on_agent_dialed, c) != 0) {
        c->dial = NULL;
        refuse(c, STREAM_LIMIT, "the service's host is out of memory");
    }
}

static void on_lost(void *ctx, enum stream_code code, const char *reason)
{
    refuse(ctx, code, reason);
}

static void on_broken(void *ctx)
{
    call_free(ctx);
}

static const struct race_events race_events = {on_won, on_lost, on_broken};

static struct via_call *call_find(struct via *v, const uint8_t id[static CALL_ID_LEN])
{
    for (struct via_call *c = v->calls; c != NULL; c = c->next)
        if (memcmp(c->id, id, CALL_ID_LEN) == 0)
            return c;
    return NULL;
}

static void on_call(struct via *v, const AgentCall *m)
{
    const struct service *s = service_find(&v->serve->services, m->service);
    if (s == NULL || s->udp) {
        answer(v, m->id, STREAM_NOTFOUND, "this host hands over no such service");
        return;
    }
    struct via_call *c = v->call_count < CALLS_MAX && call_find(v, m->id) == NULL
                             ? calloc(1, sizeof(*c))
                             : NULL;
    if (c == NULL) {
        answer(v, m->id, STREAM_LIMIT, "the service's host has too many connections");
        return;
    }
    c->via = v;
    c->fd = -1;
    memcpy(c->id, m->id, sizeof(c->id));
    c->next = v->calls;
    if (v->calls != NULL)
        v->calls->prev = c;
    v->calls = c;
    v->call_count++;
    if (race_start(&c->race, v->loop, NULL, s, &race_events, c) != 0) {
        c->race = NULL;
        refuse(c, STREAM_LIMIT, "the service's host is out of memory");
    }
}

/* ------------------------------------------------------------------------ services */

void via_tell_services(struct via *v)
{
    Agent m = {.which_body = Agent_services_tag};
    AgentServices *list = &m.body.services;
    if (v == NULL || v->state != VIA_UP)
        return;
    const struct service_list *l = &v->serve->services;
    const pb_size_t max = sizeof(list->services) / sizeof(list->services[0]);
    for (size_t i = 0; i < l->count && list->services_count < max; i++) {
        AgentService *sv = &list->services[list->services_count++];
        (void)snprintf(sv->name, sizeof(sv->name), "%s", l->items[i].name);
        sv->port = l->items[i].port;
        sv->udp = l->items[i].udp;
    }
    v->told = *list;
    if (send_message(v, &m) != 0)
        log_debug("the list of services could not be sent to the agent");
}

static bool is_called(const AgentNames *names, const char *name)
{
    for (pb_size_t i = 0; i < names->names_count; i++)
        if (strcmp(names->names[i], name) == 0)
            return true;
    return false;
}

/* People are told what is new. */
static void on_names(struct via *v, const AgentNames *m)
{
    for (pb_size_t i = 0; i < m->names_count && i < v->told.services_count; i++) {
        const AgentService *sv = &v->told.services[i];
        struct event e;
        if (m->names[i][0] == '\0')
            log_warn(
                "the agent does not publish %s: it has no room for it, or the names "
                "of service and host are too long together",
                sv->name);
        if (m->names[i][0] == '\0' || is_called(&v->names, m->names[i]))
            continue;
        event_begin(&e, "published");
        event_text(&e, "service", m->names[i]);
        event_int(&e, "port", sv->port);
        event_bool(&e, "udp", sv->udp);
        events_print(v->serve->config->out, &e);
    }
    v->names = *m;
}

/* --------------------------------------------------------------------- the channel */

static void on_timer(void *ctx);

static void set_timer(struct via *v, uint64_t ms)
{
    loop_refresh(v->loop);
    timer_start(&v->timer, ms);
}

/* Calls that the agent waits for are lost with the channel; connections go on. */
static void drop_connection(struct via *v)
{
    struct via_call *next;
    for (struct via_call *c = v->calls; c != NULL; c = next) {
        next = c->next;
        if (c->pipe == NULL)
            call_free(c);
    }
    dial_cancel(v->dial);
    v->dial = NULL;
    channel_free(v->channel);
    v->channel = NULL;
    v->names.names_count = 0;
}

static void go_down(struct via *v, const struct fault *why, struct backoff *pause)
{
    uint32_t ms = backoff_on_down(pause, loop_now_ms(v->loop));
    bool fatal = pause != &v->backoff;
    drop_connection(v);
    v->state = VIA_WAITING;
    set_timer(v, ms);
    v->events->on_down(v->serve, why, ms, fatal);
}

static void fail(struct via *v, int err)
{
    struct fault f = {0};
    char place[LAN_PLACE_LEN];
    bool fatal = err == POSTERN_ERR_KEY;
    lan_place(&v->link, place);
    if (err == POSTERN_ERR_KEY)
        (void)fault_set(
            &f, err,
            "use --via with the link that the agent prints now; do not go on "
            "if this is unexpected",
            "the agent at %s holds another key than before", place);
    else if (err == POSTERN_ERR_REFUSED)
        (void)fault_set(&f, err, "start it with 'postern serve --agent'",
                        "no agent listens at %s", place);
    else if (err == POSTERN_ERR_NOTFOUND || err == POSTERN_ERR_DNS)
        (void)fault_set(&f, err, "check the name and this machine's DNS",
                        "the agent's name %s cannot be resolved", place);
    else if (err == POSTERN_ERR_TIMEOUT || err == POSTERN_ERR_UNREACHABLE)
        (void)fault_set(&f, err, "check this LAN and the agent's firewall",
                        "the agent at %s cannot be reached (%s)", place,
                        postern_strerror(err));
    else
        (void)fault_set(&f, err, "check that a Postern agent listens there",
                        "the connection to the agent at %s failed (%s)", place,
                        postern_strerror(err));
    go_down(v, &f, fatal ? &v->fatal : &v->backoff);
}

/*
 * A copy of the state directory, most likely. As at a broker: who was thrown out asks
 * whether the place is free, and takes it back only after some tries in vain (the
 * other may be dead, and the agent not know).
 */
static void on_replaced(struct via *v)
{
    if (v->state == VIA_UP)
        v->yields = YIELDS;
    else
        v->yields -= v->yields > 0;
}

static void on_bye(struct via *v, const AgentBye *b)
{
    struct fault f = {0};
    struct backoff *pause = &v->fatal;
    switch (b->code) {
    case BYE_TOKEN:
    case BYE_REMOVED:
        (void)fault_set(&f, POSTERN_ERR_DENIED,
                        "use --via with the link that the agent prints now",
                        "the agent does not know this host, or knows it no more");
        break;
    case BYE_VERSION:
        (void)fault_set(&f, POSTERN_ERR_NEWER, "update the older of the two",
                        "the agent speaks another version of the protocol");
        break;
    case BYE_REPLACED:
        (void)fault_set(
            &f, POSTERN_ERR_INUSE,
            "stop it there, or give one of the two a state directory of its "
            "own (--state): a copied one has the same key",
            "another machine or program is connected with this device's key");
        pause = &v->replaced;
        on_replaced(v);
        break;
    default:
        pause = &v->backoff;
        (void)fault_set(&f, POSTERN_ERR_LIMIT, ADVICE_RETRIED,
                        "the agent ended the connection: %s",
                        b->reason[0] != '\0' ? b->reason : "it gave no reason");
    }
    go_down(v, &f, pause);
}

static void on_welcome(struct via *v)
{
    bool first = !v->met;
    v->state = VIA_UP;
    v->yields = 0;
    backoff_on_up(&v->backoff, loop_now_ms(v->loop));
    backoff_on_up(&v->fatal, loop_now_ms(v->loop));
    backoff_on_up(&v->replaced, loop_now_ms(v->loop));
    v->met = true;
    timer_stop(&v->timer);
    v->events->on_up(v->serve, first);
    via_tell_services(v);
}

static void on_cancel(struct via *v, const AgentCancel *m)
{
    struct via_call *c = call_find(v, m->id);
    if (c != NULL && c->pipe == NULL)
        call_free(c);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct via *v = ctx;
    Agent m = Agent_init_zero;
    bool up = v->state == VIA_UP;
    if (proto_decode(Agent_fields, &m, msg, len) != 0)
        fail(v, POSTERN_ERR_PROTO);
    else if (m.which_body == Agent_bye_tag)
        on_bye(v, &m.body.bye);
    else if (!up && m.which_body == Agent_welcome_tag)
        on_welcome(v);
    else if (up && m.which_body == Agent_names_tag)
        on_names(v, &m.body.names);
    else if (up && m.which_body == Agent_call_tag)
        on_call(v, &m.body.call);
    else if (up && m.which_body == Agent_cancel_tag)
        on_cancel(v, &m.body.cancel);
    else
        fail(v, POSTERN_ERR_PROTO);
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    (void)ctx, (void)peer; /* the key is the expected one; Hello is under way */
}

static void on_close(void *ctx, int err, const char *why)
{
    struct via *v = ctx;
    log_debug("the channel to the agent ended: %s", why);
    fail(v, err);
}

static const struct channel_events channel_events = {on_open, on_message, on_close};

static void say_hello(struct via *v)
{
    Agent m = {.which_body = Agent_hello_tag, .body.hello.version = PROTO_VERSION};
    AgentHello *h = &m.body.hello;
    (void)snprintf(h->name, sizeof(h->name), "%s", v->serve->settings.name);
    h->yields = v->yields > 0;
    if (v->link.has_token) {
        h->token.size = LINK_SECRET_LEN;
        memcpy(h->token.bytes, v->link.token, LINK_SECRET_LEN);
    }
    if (send_message(v, &m) != 0)
        log_debug("the greeting could not be sent"); /* on_close follows */
}

static void on_dialed(void *ctx, int err, int fd)
{
    struct via *v = ctx;
    struct channel_config cc = {.loop = v->loop,
                                .protocol = PROTO_ALPN_AGENT,
                                .own = &v->key,
                                .events = &channel_events,
                                .ctx = v};
    v->dial = NULL;
    if (err == 0)
        err = channel_new_client(&v->channel, &cc, fd, v->link.broker_key);
    if (err != 0) {
        fail(v, err);
        return;
    }
    channel_remote(v->channel, &v->agent);
    v->state = VIA_GREETING;
    set_timer(v, WELCOME_TIMEOUT_MS);
    say_hello(v);
}

static void connect_now(struct via *v)
{
    v->state = VIA_DIALING;
    int rc = dial_start_name(&v->dial, v->loop, v->link.host, v->link.port,
                             CONNECT_TIMEOUT_MS, on_dialed, v);
    if (rc != 0) {
        v->dial = NULL;
        fail(v, rc);
    }
}

static void on_timer(void *ctx)
{
    struct via *v = ctx;
    if (v->state == VIA_WAITING)
        connect_now(v);
    else if (v->state == VIA_GREETING)
        fail(v, POSTERN_ERR_TIMEOUT);
}

void via_kick(struct via *v)
{
    if (v != NULL && v->state == VIA_WAITING)
        set_timer(v, 0);
}

int via_open(struct via **out, struct serve *s, const struct link *link,
             const struct via_events *events, struct fault *f)
{
    struct via *v = calloc(1, sizeof(*v));
    if (v == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    int rc = statedir_key(s->state, &v->key, f);
    if (rc != 0) {
        free(v);
        return rc;
    }
    v->serve = s;
    v->loop = s->loop;
    v->link = *link;
    v->events = events;
    timer_init(&v->timer, v->loop, on_timer, v);
    backoff_init(&v->backoff, &policy, rng_seed());
    backoff_init(&v->fatal, &policy_fatal, rng_seed());
    backoff_init(&v->replaced, &policy_replaced, rng_seed());
    v->state = VIA_WAITING;
    set_timer(v, 0);
    *out = v;
    return 0;
}

void via_close(struct via *v)
{
    if (v == NULL)
        return;
    drop_connection(v);
    while (v->calls != NULL)
        call_free(v->calls);
    timer_stop(&v->timer);
    sodium_memzero(&v->key, sizeof(v->key));
    free(v);
}

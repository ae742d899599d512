/*
 * The agent: a door of a broker's kind on the LAN, and behind it one client, itself. A
 * host comes as to a broker, is introduced to the agent's own key, and brings its half
 * of a relay pair, of which the agent is the other end: the path of one session to it.
 *
 *   door: TLS ---> greeting --Hello--> ready: introduced --Accept--> ticket given
 *   door: ticket ---> pair ---> session --Services--> published
 *
 * When the control connection ends the host's services are withdrawn; streams that
 * stand go on until their session or its pair ends. A host is hostile input.
 */
#include "host/agent.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <sodium.h>

#include "core/list.h"
#include "core/relay_preface.h"
#include "host/agent_door.h"
#include "host/host.h"
#include "host/lan.h"
#include "io/channel.h"
#include "io/clock.h"
#include "io/identity.h"
#include "io/local.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/sock.h"
#include "path/approach.h"
#include "path/framed.h"
#include "path/offer.h"
#include "session/pump.h"
#include "session/session.h"

enum {
    GREETING_MAX = 64, /* hosts that have not said Hello yet */
    GREETING_MS = 10000,
    TICK_MS = 500,
    INTRODUCE_MS = 3000, /* without a pair, a host is introduced again */
    SILENT_MS = 30000,   /* then a host is taken for gone */
    UPDATES_MAX = 10,    /* lists of services a host may send in a second */
};

enum host_state {
    GREETING, /* its Hello is awaited */
    READY,
    LEFT, /* without a control connection, for the streams that stand */
};

struct agent_host {
    struct list link;
    struct agent *agent;
    enum host_state state;
    uint64_t number; /* of this connection; no other ever has it */
    struct channel *channel;
    uint64_t since_ms;
    struct lan_host known; /* the key is proven once the channel is open */
    unsigned updates;      /* in the second that began at updates_ms */
    uint64_t updates_ms;
    Services *offered; /* the latest list; NULL: none yet */
    /* The session to it. */
    uint8_t conv[CONV_LEN], ticket[TICKET_LEN];
    bool awaited; /* the ticket was given, and not used yet */
    uint64_t introduced_ms;
    struct framed *pair;
    uint32_t path_id;
    struct session *session;
};

struct agent {
    struct host *host; /* which it serves beside */
    struct loop *loop;
    struct net net; /* its own key, the serve's newest at its start */
    struct session_env env;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    struct agent_door *door;
    uint8_t told[LINK_SECRET_LEN]; /* the token of the link that was printed last */
    struct list hosts;
    struct timer timer; /* runs while something has a time limit */
    uint64_t last_number;
};

static void host_free(struct agent_host *h);

/* There is a new time limit. */
static void wake(struct agent *a)
{
    if (!timer_is_active(&a->timer))
        timer_every(&a->timer, TICK_MS, TICK_MS);
}

/* What its connection does not take is lost: it is slow beyond all bounds, or gone. */
static void send_message(struct agent_host *h, const Control *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode_control(buf, sizeof(buf), m);
    if (n < 0 || channel_send(h->channel, buf, (size_t)n) != 0)
        log_debug("a message could not be sent to %s", h->known.name);
}

static void say_bye(struct agent_host *h, enum bye_code code, const char *reason)
{
    Control m = {.which_body = Control_bye_tag, .body.bye.code = code};
    (void)snprintf(m.body.bye.reason, sizeof(m.body.bye.reason), "%s", reason);
    log_debug("a host of the LAN is sent away: %s", reason);
    send_message(h, &m);
}

static void send_bye(struct agent_host *h, enum bye_code code, const char *reason)
{
    say_bye(h, code, reason);
    host_free(h);
}

/* ------------------------------------------------------------------------ services */

static void tell(const struct agent_host *h, const char *what, const char *service,
                 const ServiceInfo *sv)
{
    struct event e;
    service_event(&e, what, service, sv->port, sv->udp);
    event_text(&e, "from", h->known.name);
    events_print(h->agent->host->out, &e);
}

static bool withdraw(struct agent_host *h, const ServiceInfo *sv)
{
    struct service_list *l = &h->agent->host->services;
    char name[SERVICE_NAME_LEN];
    if (!service_list_called(l, h->number, sv->name, name))
        return false;
    (void)service_list_withdraw(l, h->number, sv->name);
    tell(h, "withdrawn", name, sv);
    return true;
}

/* What each is called here, as far as it is published. */
static void send_names(struct agent_host *h)
{
    const Services *o = h->offered;
    Meta *m = o != NULL ? calloc(1, sizeof(*m)) : NULL;
    if (m == NULL)
        return;
    m->which_body = Meta_names_tag;
    m->body.names.names_count = o->services_count;
    for (pb_size_t i = 0; i < o->services_count; i++)
        if (!service_list_called(&h->agent->host->services, h->number,
                                 o->services[i].name, m->body.names.names[i]))
            m->body.names.names[i][0] = '\0';
    if (session_send_meta(h->session, m) != 0)
        log_debug("the names of its services could not be sent to %s", h->known.name);
    free(m);
}

static bool is_listed(const Services *l, const ServiceInfo *sv)
{
    for (pb_size_t i = 0; i < l->services_count; i++)
        if (strcmp(l->services[i].name, sv->name) == 0)
            return l->services[i].port == sv->port && l->services[i].udp == sv->udp;
    return false;
}

static bool offer(struct agent_host *h, const ServiceInfo *sv)
{
    struct host *host = h->agent->host;
    struct service_list *l = &host->services;
    struct service_offer o = {sv->name, h->known.name, sv->title, (uint16_t)sv->port,
                              sv->udp};
    char name[SERVICE_NAME_LEN];
    if (service_list_retitle(l, h->number, sv->name, sv->title))
        return true;
    if (sv->port == 0 || sv->port > 65535 ||
        service_list_offer(l, &o, h->agent, h->number) != 0 ||
        !service_list_called(l, h->number, sv->name, name))
        return false;
    tell(h, "published", name, sv);
    if (!h->known.published && lan_host_published(host->roster, h->known.key) == 0)
        h->known.published = true;
    return true;
}

/* Only what differs from the list before is touched: connections to the rest go on. */
static void on_services(struct agent_host *h, const Services *m)
{
    bool changed = false;
    if (h->offered == NULL)
        h->offered = calloc(1, sizeof(*h->offered));
    if (h->offered == NULL)
        return;
    for (pb_size_t i = 0; i < h->offered->services_count; i++)
        if (!is_listed(m, &h->offered->services[i]))
            changed = withdraw(h, &h->offered->services[i]) || changed;
    *h->offered = *m;
    for (pb_size_t i = 0; i < m->services_count; i++)
        changed = offer(h, &m->services[i]) || changed;
    send_names(h);
    if (changed)
        h->agent->host->events->on_services(h->agent->host);
}

/* All of them, when it is gone or nothing can be asked of it. */
static void withdraw_all(struct agent_host *h)
{
    bool changed = false;
    for (pb_size_t i = 0; h->offered != NULL && i < h->offered->services_count; i++)
        changed = withdraw(h, &h->offered->services[i]) || changed;
    free(h->offered);
    h->offered = NULL;
    if (changed)
        h->agent->host->events->on_services(h->agent->host);
}

void agent_renamed(struct agent *a)
{
    if (a == NULL)
        return;
    LIST_EACH (struct agent_host, h, &a->hosts, link)
        send_names(h);
}

/* A list of services makes every client's anew: not too often. */
static bool too_often(struct agent_host *h)
{
    uint64_t now = loop_now_ms(h->agent->loop);
    if (now - h->updates_ms >= 1000) {
        h->updates_ms = now;
        h->updates = 0;
    }
    return ++h->updates > UPDATES_MAX;
}

/* ------------------------------------------------------------------- the session */

static struct agent_host *find_number(struct agent *a, uint64_t number)
{
    LIST_EACH (struct agent_host, h, &a->hosts, link)
        if (h->state == READY && h->number == number)
            return h;
    return NULL;
}

int agent_open_stream(struct pump **out, struct agent *a, uint64_t host,
                      const char *service, const struct pump_events *events, void *ctx)
{
    uint8_t buf[PROTO_FRAME_HEADER + StreamOpen_size];
    StreamOpen open = StreamOpen_init_zero;
    struct agent_host *h = a != NULL ? find_number(a, host) : NULL;
    if (h == NULL || h->session == NULL || !session_is_open(h->session))
        return POSTERN_ERR_UNREACHABLE;
    (void)snprintf(open.service, sizeof(open.service), "%s", service);
    int n = proto_encode_frame(buf, sizeof(buf), StreamOpen_fields, &open);
    return n < 0 ? n : pump_open(out, h->session, events, ctx, buf, (size_t)n);
}

static void drop_pair(struct agent_host *h)
{
    struct framed *pair = h->pair;
    if (pair == NULL)
        return;
    h->pair = NULL;
    if (h->session != NULL)
        session_remove_path(h->session, framed_path(pair));
    framed_free(pair);
}

/* Nothing can be asked of it until there is another. */
static void end_session(struct agent_host *h)
{
    struct session *s = h->session;
    withdraw_all(h);
    h->awaited = false;
    if (s != NULL)
        session_close(s, 0, "closed");
    drop_pair(h); /* before the session, which may go later */
    h->session = NULL;
    session_free(s);
}

static void begin_anew(struct agent_host *h)
{
    end_session(h);
    randombytes_buf(h->conv, sizeof(h->conv));
    wake(h->agent); /* which introduces it */
}

static void on_open(void *ctx)
{
    struct agent_host *h = ctx;
    Meta list = {.which_body = Meta_list_tag, .body.list = true};
    Meta copies = {.which_body = Meta_copies_tag, .body.copies = true};
    session_keep_alive(h->session);
    if (session_send_meta(h->session, &list) != 0 ||
        session_send_meta(h->session, &copies) != 0)
        log_debug("the list of services could not be asked for");
}

static void on_meta(void *ctx, const Meta *m)
{
    struct agent_host *h = ctx;
    if (h->state != READY || m->which_body != Meta_services_tag)
        return;
    if (too_often(h))
        send_bye(h, BYE_BUSY, "its services changed too often");
    else
        on_services(h, &m->body.services);
}

static void on_silent(void *ctx)
{
    wake(((struct agent_host *)ctx)->agent); /* which watches how long */
}

static void on_path_dead(void *ctx, struct path *p, uint64_t silent_us)
{
    (void)p, (void)silent_us;
    on_silent(ctx);
}

static void on_session_close(void *ctx, int err, const char *why)
{
    struct agent_host *h = ctx;
    log_debug("the session to %s ended: %s (%s)", h->known.name, why,
              postern_strerror(err));
    if (h->state == READY)
        begin_anew(h);
    else
        host_free(h);
}

static const struct session_events session_events = {
    .on_open = on_open,
    .on_meta = on_meta,
    .on_path_dead = on_path_dead,
    .on_silent = on_silent,
    .on_close = on_session_close,
};

static void on_pair_broke(void *ctx, struct framed *f, const char *why)
{
    struct agent_host *h = ctx;
    (void)f;
    log_debug("the pair with %s: %s", h->known.name, why);
    drop_pair(h);
    if (h->state == READY)
        wake(h->agent); /* another is made, and the session goes on */
    else
        host_free(h);
}

/* The host has come with its ticket; `fd` is taken over. */
static void join(struct agent_host *h, int fd)
{
    static const uint8_t joined[] = {RELAY_JOINED};
    struct agent *a = h->agent;
    struct session_config sc = {.env = &a->env,
                                .events = &session_events,
                                .ctx = h,
                                .rtt_hint_us = channel_min_rtt_us(h->channel)};
    h->awaited = false;
    drop_pair(h);
    if (!sock_say(fd, joined, sizeof(joined)) ||
        framed_new(&h->pair, &a->net, fd, PATH_RELAY, ++h->path_id, on_pair_broke, h) !=
            0) {
        h->pair = NULL;
        close(fd);
        return;
    }
    if (h->session != NULL) {
        session_add_path(h->session, framed_path(h->pair));
        session_use_path(h->session, framed_path(h->pair));
    } else if (session_new_client(&h->session, &sc, h->known.key,
                                  framed_path(h->pair)) != 0) {
        h->session = NULL;
        drop_pair(h);
    }
}

/* Of the agent's own, about the session that is or is to be. */
static Control message_to(const struct agent_host *h)
{
    Control m = Control_init_zero;
    memcpy(m.peer, h->agent->net.own.pub, KEY_LEN);
    memcpy(m.conv, h->conv, CONV_LEN);
    return m;
}

/* In the broker's place: tells the host of its one client. */
static void introduce(struct agent_host *h)
{
    Control m = message_to(h);
    h->introduced_ms = loop_now_ms(h->agent->loop);
    wake(h->agent);
    offer_introduce(&m, &h->agent->net.own, h->known.key,
                    h->session == NULL || !session_is_open(h->session));
    send_message(h, &m);
}

static void give_ticket(struct agent_host *h)
{
    Control m = message_to(h);
    Ticket *t = &m.body.ticket;
    m.which_body = Control_ticket_tag;
    randombytes_buf(h->ticket, sizeof(h->ticket));
    h->awaited = true;
    t->ticket.size = TICKET_LEN;
    memcpy(t->ticket.bytes, h->ticket, TICKET_LEN);
    send_message(h, &m);
}

/* --------------------------------------------------------------------------- hosts */

static void host_free(struct agent_host *h)
{
    list_remove(&h->link);
    h->state = LEFT;
    end_session(h);
    channel_free(h->channel);
    free(h);
}

/* What an earlier connection of that host has left goes: there is one at most. */
static void forget_left(struct agent *a, const uint8_t key[static KEY_LEN])
{
    LIST_EACH_REMOVABLE (struct agent_host, h, next, &a->hosts, link)
        if (h->state == LEFT && memcmp(h->known.key, key, KEY_LEN) == 0)
            host_free(h);
}

/* Its control connection is over; streams that stand go on. */
static void host_left(struct agent_host *h)
{
    if (h->state != READY || h->pair == NULL || session_stream_count(h->session) == 0) {
        host_free(h);
        return;
    }
    forget_left(h->agent, h->known.key);
    withdraw_all(h);
    h->state = LEFT;
    channel_free(h->channel);
    h->channel = NULL;
    wake(h->agent);
}

/* The ready one of that key. */
static struct agent_host *find_ready(struct agent *a, const uint8_t key[static KEY_LEN])
{
    LIST_EACH (struct agent_host, h, &a->hosts, link)
        if (h->state == READY && memcmp(h->known.key, key, KEY_LEN) == 0)
            return h;
    return NULL;
}

static bool is_connected(void *ctx, const uint8_t key[static KEY_LEN])
{
    return find_ready(ctx, key) != NULL;
}

/* Who proved least may lose the place for it. */
static int take_in(struct agent_host *h, const Hello *m)
{
    struct agent *a = h->agent;
    struct lan_room room = {.is_connected = is_connected, .ctx = a};
    struct lan_comer c = {.name = m->name, .now_s = statedir_now_s()};
    if (m->token.size == LINK_SECRET_LEN)
        c.token = m->token.bytes;
    memcpy(c.key, h->known.key, KEY_LEN);
    randombytes_buf(c.fresh, sizeof(c.fresh));
    int err = lan_host_admit(a->host->roster, &c, &room, &h->known);
    struct agent_host *gone =
        err == 0 && room.left ? find_ready(a, room.who.key) : NULL;
    if (gone != NULL)
        send_bye(gone, BYE_BUSY, "another host needs the place: it published nothing");
    return err;
}

static void on_hello(struct agent_host *h, const Hello *m)
{
    Control welcome = {.which_body = Control_welcome_tag};
    if (m->version != PROTO_VERSION) {
        send_bye(h, BYE_VERSION, "the agent speaks another version of the protocol");
        return;
    }
    int err = take_in(h, m);
    if (err == POSTERN_ERR_DENIED) {
        send_bye(h, BYE_TOKEN, "the agent does not know this host");
        return;
    }
    if (err != 0) {
        send_bye(h, BYE_BUSY,
                 err == POSTERN_ERR_LIMIT ? "its list of hosts is full: 'postern serve "
                                            "--agent-forget NAME' there makes room"
                                          : "the agent cannot read its list of hosts");
        return;
    }
    struct agent_host *other = find_ready(h->agent, h->known.key);
    if (other != NULL && m->yields) {
        send_bye(h, BYE_REPLACED, "the same host is connected elsewhere");
        return;
    }
    if (other != NULL) {
        say_bye(other, BYE_REPLACED, "the same host connected again");
        host_left(other);
    }
    h->state = READY;
    welcome.body.welcome.time_s = (uint64_t)statedir_now_s();
    send_message(h, &welcome);
    introduce(h);
}

/* What else a broker is told has no place here. */
static void on_routed(struct agent_host *h, const Control *m)
{
    bool ours = memcmp(m->conv, h->conv, CONV_LEN) == 0;
    switch (m->which_body) {
    case Control_ping_tag: {
        Control pong = {.which_body = Control_pong_tag,
                        .body.pong.nonce = m->body.ping.nonce};
        send_message(h, &pong);
        break;
    }
    case Control_accept_tag:
        if (ours)
            give_ticket(h);
        break;
    case Control_signal_tag:
        if (ours && offer_says_forgotten(m, &h->agent->net.own, h->known.key))
            begin_anew(h);
        break;
    case Control_refuse_tag:
        if (ours)
            send_bye(h, BYE_BUSY, m->body.refuse.reason);
        break;
    case Control_carry_tag:
        break; /* the pair is made again at once, and loses nothing */
    default:
        send_bye(h, BYE_PROTOCOL, "the host sent what is not permitted now");
    }
}

static void on_channel_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct agent_host *h = ctx;
    memcpy(h->known.key, peer, KEY_LEN);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct agent_host *h = ctx;
    Control m;
    bool good = proto_decode_control(&m, msg, len) == 0;
    if (good && h->state == READY)
        on_routed(h, &m);
    else if (good && m.which_body == Control_hello_tag)
        on_hello(h, &m.body.hello);
    else
        send_bye(h, BYE_PROTOCOL, "the host sent what is not permitted now");
}

static void on_channel_close(void *ctx, int err, const char *why)
{
    log_debug("a host of the LAN left: %s (%s)", why, postern_strerror(err));
    host_left(ctx);
}

static const struct channel_events channel_events = {on_channel_open, on_message,
                                                     on_channel_close};

/* All places before Hello are taken: who has had one for longest gives it. */
static void bound_greeting(struct agent *a)
{
    struct agent_host *oldest = NULL;
    unsigned count = 0;
    for (struct list *n = a->hosts.prev; n != &a->hosts; n = n->prev) {
        struct agent_host *h = LIST_OWNER(n, struct agent_host, link);
        if (h->state == GREETING && ++count >= GREETING_MAX)
            oldest = h;
    }
    if (oldest != NULL)
        host_free(oldest);
}

static void on_host(void *ctx, int fd)
{
    struct agent *a = ctx;
    bound_greeting(a);
    struct agent_host *h = calloc(1, sizeof(*h));
    struct channel_config cc = {.loop = a->loop,
                                .protocol = PROTO_ALPN_AGENT,
                                .own = &a->net.own,
                                .events = &channel_events,
                                .ctx = h,
                                .credentials = a->credentials,
                                .priority = a->priority};
    if (h == NULL) {
        close(fd);
        return;
    }
    h->agent = a;
    h->number = ++a->last_number;
    h->since_ms = loop_now_ms(a->loop);
    randombytes_buf(h->conv, sizeof(h->conv));
    if (channel_new_server(&h->channel, &cc, fd) != 0) {
        free(h);
        return;
    }
    list_push(&a->hosts, &h->link);
    wake(a);
}

/* Ends it when it is overdue; true: it still has a time limit. */
static bool host_tick(struct agent_host *h, uint64_t now_ms)
{
    uint64_t silent_us = h->session != NULL ? session_silent_since_us(h->session) : 0;
    if ((h->state == GREETING && now_ms - h->since_ms > GREETING_MS) ||
        (h->state == LEFT && session_stream_count(h->session) == 0) ||
        (silent_us != 0 && clock_us() - silent_us > SILENT_MS * 1000ull)) {
        host_free(h);
        return false;
    }
    if (h->state == READY && h->pair == NULL &&
        now_ms - h->introduced_ms > INTRODUCE_MS)
        introduce(h);
    return h->state != READY || h->pair == NULL || silent_us != 0;
}

static void tell_link(struct agent *a)
{
    struct link l = {.type = LINK_AGENT, .has_token = true};
    uint8_t fresh[LINK_SECRET_LEN];
    char text[LINK_TEXT_LEN], ip[ADDR_TEXT_LEN];
    struct addr at;
    struct event e;
    randombytes_buf(fresh, sizeof(fresh));
    if (lan_token(a->host->roster, l.token, fresh) != 0 ||
        sodium_memcmp(l.token, a->told, sizeof(a->told)) == 0)
        return;
    memcpy(a->told, l.token, sizeof(a->told));
    agent_door_address(a->door, &at);
    (void)snprintf(l.host, sizeof(l.host), "%s", addr_format_ip(&at, ip));
    l.port = at.port;
    memcpy(l.broker_key, a->net.own.pub, KEY_LEN);
    link_format(&l, text);
    event_begin(&e, "agent");
    event_text(&e, "link", text);
    event_addr(&e, "listen", agent_door_bound(a->door));
    events_print(a->host->out, &e);
    sodium_memzero(text, sizeof(text));
    sodium_memzero(&l, sizeof(l));
}

bool agent_forget(struct agent *a, const uint8_t key[static KEY_LEN])
{
    if (a == NULL)
        return false;
    struct agent_host *h = find_ready(a, key);
    if (h != NULL)
        send_bye(h, BYE_REMOVED, "the agent took this host off its list");
    forget_left(a, key);
    tell_link(a); /* it has another token, when this was a host of its own */
    return h != NULL;
}

/* Hosts of the LAN that are not there hold places and names all the same. */
static void reply_away(struct agent *a, struct local_conn *c)
{
    struct lan_host hosts[LAN_HOSTS_MAX];
    size_t n = 0;
    if (lan_host_list(a->host->roster, hosts, &n) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        struct event e;
        if (is_connected(a, hosts[i].key))
            continue;
        event_begin(&e, "lan-away");
        event_text(&e, "name", hosts[i].name);
        local_conn_say(c, &e, false);
    }
}

void agent_status(struct agent *a, struct local_conn *c)
{
    LIST_EACH (struct agent_host, h, &a->hosts, link) {
        struct event e;
        struct addr from;
        if (h->state != READY)
            continue;
        channel_remote(h->channel, &from);
        event_begin(&e, "lan-host");
        event_text(&e, "name", h->known.name);
        event_addr(&e, "remote", &from);
        event_int(&e, "services", h->offered != NULL ? h->offered->services_count : 0);
        local_conn_say(c, &e, false);
    }
    reply_away(a, c);
}

static void on_tick(void *ctx)
{
    struct agent *a = ctx;
    uint64_t now = loop_now_ms(a->loop);
    bool waits = false;
    LIST_EACH_REMOVABLE (struct agent_host, h, next, &a->hosts, link)
        waits = host_tick(h, now) || waits;
    if (!waits)
        timer_stop(&a->timer);
}

/* ----------------------------------------------------------------------- the whole */

/* A ticket that nobody was given is closed. */
static void on_pair(void *ctx, int fd, const uint8_t ticket[static TICKET_LEN])
{
    struct agent *a = ctx;
    LIST_EACH (struct agent_host, h, &a->hosts, link) {
        if (h->state == READY && h->awaited &&
            sodium_memcmp(h->ticket, ticket, TICKET_LEN) == 0) {
            join(h, fd);
            return;
        }
    }
    close(fd);
}

static const struct agent_door_events door_events = {on_host, on_pair};

int agent_open(struct agent **out, struct host *h, const char *listen, struct fault *f)
{
    struct keypair key;
    int rc = statedir_key(h->state, &key, f);
    if (rc != 0)
        return rc;
    struct agent *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    a->host = h;
    a->loop = h->loop;
    list_init(&a->hosts);
    timer_init(&a->timer, a->loop, on_tick, a);
    rc = net_init(&a->net, a->loop, &key, h->budget);
    sodium_memzero(&key, sizeof(key));
    if (rc == 0)
        rc = session_env_init(&a->env, a->loop, &a->net.own);
    if (rc == 0)
        rc = identity_credentials(&a->credentials, &a->net.own);
    if (rc == 0 && gnutls_priority_init(&a->priority, IDENTITY_TLS_PRIORITY, NULL) != 0)
        rc = POSTERN_ERR_NOMEM;
    if (rc != 0)
        (void)fault_lack(f, rc);
    else
        rc = agent_door_open(&a->door, a->loop, listen, &door_events, a, f);
    if (rc != 0) {
        agent_close(a);
        return rc;
    }
    tell_link(a);
    *out = a;
    return 0;
}

void agent_close(struct agent *a)
{
    if (a == NULL)
        return;
    while (!list_empty(&a->hosts))
        host_free(LIST_OWNER(a->hosts.next, struct agent_host, link));
    agent_door_close(a->door);
    timer_stop(&a->timer);
    if (a->credentials != NULL)
        gnutls_certificate_free_credentials(a->credentials);
    if (a->priority != NULL)
        gnutls_priority_deinit(a->priority);
    session_env_fini(&a->env);
    net_fini(&a->net);
    sodium_memzero(a->told, sizeof(a->told));
    free(a);
}

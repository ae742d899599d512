/*
 * The agent's hosts: who is taken in, what each offers, and what each is asked for.
 * A host is hostile input like any other: it may name services and answer calls, no
 * more.
 */
#include "host/agent_state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "io/log.h"
#include "io/loop.h"

static int send_message(struct agent_host *h, const Agent *m)
{
    uint8_t buf[PROTO_FRAME_MAX];
    int n = proto_encode(buf, sizeof(buf), Agent_fields, m);
    return n < 0 ? n : channel_send(h->channel, buf, (size_t)n);
}

/* ------------------------------------------------------------------------ services */

static void tell(const struct agent_host *h, const char *what, const char *service,
                 uint32_t port)
{
    struct event e;
    event_begin(&e, what);
    event_text(&e, "service", service);
    event_int(&e, "port", port);
    event_bool(&e, "udp", false);
    event_text(&e, "from", h->known.name);
    events_print(h->agent->serve->config->out, &e);
}

static bool withdraw(struct agent_host *h, const AgentService *sv)
{
    struct service_list *l = &h->agent->serve->services;
    char name[SERVICE_NAME_LEN];
    if (!service_list_called(l, h->number, sv->name, name))
        return false;
    (void)service_list_withdraw(l, h->number, sv->name);
    tell(h, "withdrawn", name, sv->port);
    return true;
}

/* What it is called here, as far as it is published. */
static void send_names(struct agent_host *h)
{
    Agent m = {.which_body = Agent_names_tag};
    const AgentServices *o = h->offered;
    if (o == NULL)
        return;
    m.body.names.names_count = o->services_count;
    for (pb_size_t i = 0; i < o->services_count; i++)
        if (!service_list_called(&h->agent->serve->services, h->number,
                                 o->services[i].name, m.body.names.names[i]))
            m.body.names.names[i][0] = '\0';
    if (send_message(h, &m) != 0)
        log_debug("the names of its services could not be sent to %s", h->known.name);
}

static bool is_listed(const AgentServices *l, const AgentService *sv)
{
    for (pb_size_t i = 0; i < l->services_count; i++)
        if (strcmp(l->services[i].name, sv->name) == 0)
            return l->services[i].port == sv->port && l->services[i].udp == sv->udp;
    return false;
}

static bool offer(struct agent_host *h, const AgentService *sv)
{
    struct serve *serve = h->agent->serve;
    struct service_list *l = &serve->services;
    struct service_offer o = {sv->name, h->known.name, (uint16_t)sv->port};
    char name[SERVICE_NAME_LEN];
    if (sv->udp || sv->port == 0 || sv->port > 65535 ||
        service_list_offer(l, &o, h->agent, h->number) != 0 ||
        !service_list_called(l, h->number, sv->name, name))
        return false;
    tell(h, "published", name, sv->port);
    if (!h->known.published && lan_host_published(serve->roster, h->known.key) == 0)
        h->known.published = true;
    return true;
}

/* Only what differs from the list before is touched: connections to the rest go on. */
static void on_services(struct agent_host *h, const AgentServices *m)
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
        serve_tell_services(h->agent->serve);
}

void agent_renamed(struct agent *a)
{
    for (struct agent_host *h = a != NULL ? a->hosts : NULL; h != NULL; h = h->next)
        if (h->ready)
            send_names(h);
}

/* --------------------------------------------------------------------------- calls */

static void call_fail(struct agent_call *call, enum stream_code code,
                      const char *reason)
{
    call->host->calls--;
    call->host = NULL;
    call->events->on_failed(call->ctx, code, reason);
}

struct agent_call *agent_call_find(struct agent *a,
                                   const uint8_t id[static CALL_ID_LEN])
{
    for (struct agent_call *c = a->calls; c != NULL; c = c->next)
        if (c->host != NULL && sodium_memcmp(c->id, id, CALL_ID_LEN) == 0)
            return c;
    return NULL;
}

void agent_call_connected(struct agent_call *call, struct agent_conn *conn, int fd)
{
    call->host->calls--;
    call->host = NULL;
    call->conn = conn;
    call->events->on_connected(call->ctx, fd);
}

static struct agent_host *find_number(const struct agent *a, uint64_t number)
{
    for (struct agent_host *h = a->hosts; h != NULL; h = h->next)
        if (h->ready && h->number == number)
            return h;
    return NULL;
}

int agent_call_start(struct agent_call **out, struct agent *a, uint64_t host,
                     const char *service, const struct agent_call_events *events,
                     void *ctx)
{
    Agent m = {.which_body = Agent_call_tag};
    struct agent_host *h = a != NULL ? find_number(a, host) : NULL;
    if (h == NULL)
        return POSTERN_ERR_UNREACHABLE;
    if (a->call_count >= AGENT_CALLS_MAX || h->calls >= AGENT_CALLS_HOST_MAX)
        return POSTERN_ERR_LIMIT;
    struct agent_call *call = calloc(1, sizeof(*call));
    if (call == NULL)
        return POSTERN_ERR_NOMEM;
    call->agent = a;
    call->events = events;
    call->ctx = ctx;
    loop_refresh(a->loop);
    call->since_ms = loop_now_ms(a->loop);
    randombytes_buf(call->id, sizeof(call->id));
    memcpy(m.body.call.id, call->id, sizeof(call->id));
    (void)snprintf(m.body.call.service, sizeof(m.body.call.service), "%s", service);
    int rc = send_message(h, &m);
    if (rc != 0) {
        free(call);
        return rc;
    }
    call->host = h;
    h->calls++;
    call->next = a->calls;
    if (a->calls != NULL)
        a->calls->prev = call;
    a->calls = call;
    a->call_count++;
    agent_wake(a);
    *out = call;
    return 0;
}

void agent_call_free(struct agent_call *call)
{
    if (call == NULL)
        return;
    struct agent *a = call->agent;
    if (call->host != NULL) {
        Agent m = {.which_body = Agent_cancel_tag};
        memcpy(m.body.cancel.id, call->id, sizeof(call->id));
        call->host->calls--;
        if (send_message(call->host, &m) != 0)
            log_debug("a call could not be cancelled at %s", call->host->known.name);
    }
    if (call->conn != NULL)
        call->conn->call = NULL;
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        a->calls = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    a->call_count--;
    free(call);
}

/* 0 promises a connection; the call waits for it. */
static void on_answer(struct agent_host *h, const AgentAnswer *m)
{
    struct agent_call *call = agent_call_find(h->agent, m->id);
    if (call == NULL || call->host != h || m->code == STREAM_OK)
        return;
    enum stream_code code =
        m->code <= STREAM_LIMIT ? (enum stream_code)m->code : STREAM_UNREACHABLE;
    call_fail(call, code, m->reason);
}

/* --------------------------------------------------------------------------- hosts */

void agent_host_free(struct agent_host *h)
{
    struct agent *a = h->agent;
    char reason[80];
    bool changed = false;
    if (h->prev != NULL)
        h->prev->next = h->next;
    else
        a->hosts = h->next;
    if (h->next != NULL)
        h->next->prev = h->prev;
    a->host_greeting -= !h->ready;
    for (pb_size_t i = 0; h->offered != NULL && i < h->offered->services_count; i++)
        changed = withdraw(h, &h->offered->services[i]) || changed;
    (void)snprintf(reason, sizeof(reason), "%s left the agent", h->known.name);
    for (struct agent_call *c = a->calls; c != NULL;) {
        bool mine = c->host == h;
        if (mine)
            call_fail(c, STREAM_UNREACHABLE, reason);
        c = mine ? a->calls : c->next; /* others may have gone with it */
    }
    channel_free(h->channel);
    free(h->offered);
    free(h);
    if (changed)
        serve_tell_services(a->serve);
}

static void send_bye(struct agent_host *h, enum bye_code code, const char *reason)
{
    Agent m = {.which_body = Agent_bye_tag, .body.bye.code = code};
    (void)snprintf(m.body.bye.reason, sizeof(m.body.bye.reason), "%s", reason);
    log_debug("a host of the LAN is sent away: %s", reason);
    if (send_message(h, &m) != 0)
        log_debug("it could not be told why");
    agent_host_free(h);
}

static struct agent_host *find_key(const struct agent *a,
                                   const uint8_t key[static KEY_LEN],
                                   const struct agent_host *but)
{
    for (struct agent_host *o = a->hosts; o != NULL; o = o->next)
        if (o != but && o->ready && memcmp(o->known.key, key, KEY_LEN) == 0)
            return o;
    return NULL;
}

static bool is_connected(void *ctx, const uint8_t key[static KEY_LEN])
{
    return find_key(ctx, key, NULL) != NULL;
}

/* Its key is remembered; who proved least may lose the place for it. */
static int take_in(struct agent_host *h, const char *name)
{
    struct agent *a = h->agent;
    struct lan_room room = {.is_connected = is_connected, .ctx = a};
    uint8_t key[KEY_LEN];
    memcpy(key, h->known.key, KEY_LEN);
    int err =
        lan_host_add(a->serve->roster, key, name, statedir_now_s(), &room, &h->known);
    struct agent_host *gone =
        err == 0 && room.left ? find_key(a, room.who.key, NULL) : NULL;
    if (gone != NULL)
        send_bye(gone, BYE_BUSY, "another host needs the place: it published nothing");
    return err;
}

/* Known by its key, or by the token, and then its key is remembered. */
static int admit(struct agent_host *h, const AgentHello *m)
{
    struct roster *r = h->agent->serve->roster;
    uint8_t token[LINK_SECRET_LEN], fresh[LINK_SECRET_LEN], key[KEY_LEN];
    memcpy(key, h->known.key, KEY_LEN);
    int err = lan_host_find(r, key, &h->known);
    if (err != POSTERN_ERR_NOTFOUND)
        return err;
    randombytes_buf(fresh, sizeof(fresh));
    err = lan_token(r, token, fresh);
    if (err == 0 && (m->token.size != LINK_SECRET_LEN ||
                     sodium_memcmp(m->token.bytes, token, LINK_SECRET_LEN) != 0))
        err = POSTERN_ERR_DENIED;
    sodium_memzero(token, sizeof(token));
    return err != 0 ? err : take_in(h, m->name);
}

static void on_hello(struct agent_host *h, const AgentHello *m)
{
    struct agent *a = h->agent;
    static const Agent welcome = {.which_body = Agent_welcome_tag};
    if (m->version != PROTO_VERSION) {
        send_bye(h, BYE_VERSION, "the agent speaks another version of the protocol");
        return;
    }
    int err = admit(h, m);
    if (err == POSTERN_ERR_DENIED) {
        send_bye(h, BYE_TOKEN, "the agent does not know this host");
        return;
    }
    if (err != 0) {
        send_bye(h, BYE_BUSY,
                 err == POSTERN_ERR_LIMIT ? "the agent serves as many hosts as it can"
                                          : "the agent cannot read its list of hosts");
        return;
    }
    struct agent_host *other = find_key(a, h->known.key, h); /* one at most */
    if (other != NULL && m->yields) {
        send_bye(h, BYE_REPLACED, "the same host is connected elsewhere");
        return;
    }
    if (other != NULL)
        send_bye(other, BYE_REPLACED, "the same host connected again");
    h->ready = true;
    a->host_greeting--;
    if (send_message(h, &welcome) != 0)
        log_debug("a welcome could not be sent to %s", h->known.name);
}

/* A list of services makes every client's anew: not too often. */
static bool too_often(struct agent_host *h)
{
    uint64_t now = loop_now_ms(h->agent->loop);
    if (now - h->updates_ms >= 1000) {
        h->updates_ms = now;
        h->updates = 0;
    }
    return ++h->updates > AGENT_UPDATES_MAX;
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct agent_host *h = ctx;
    memcpy(h->known.key, peer, KEY_LEN);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct agent_host *h = ctx;
    Agent m = Agent_init_zero;
    int rc = proto_decode(Agent_fields, &m, msg, len);
    if (rc == 0 && !h->ready && m.which_body == Agent_hello_tag)
        on_hello(h, &m.body.hello);
    else if (rc == 0 && h->ready && m.which_body == Agent_services_tag && too_often(h))
        send_bye(h, BYE_BUSY, "its services changed too often");
    else if (rc == 0 && h->ready && m.which_body == Agent_services_tag)
        on_services(h, &m.body.services);
    else if (rc == 0 && h->ready && m.which_body == Agent_answer_tag)
        on_answer(h, &m.body.answer);
    else
        send_bye(h, BYE_PROTOCOL, "the host sent what is not permitted now");
}

static void on_close(void *ctx, int err, const char *why)
{
    struct agent_host *h = ctx;
    log_debug("a host of the LAN left: %s (%s)", why, postern_strerror(err));
    agent_host_free(h);
}

static const struct channel_events channel_events = {on_open, on_message, on_close};

/* All places before Hello are taken: who has had one for longest gives it. */
static void drop_oldest_greeting(struct agent *a)
{
    struct agent_host *oldest = NULL;
    for (struct agent_host *h = a->hosts; h != NULL; h = h->next)
        if (!h->ready)
            oldest = h; /* the newest stands first */
    if (oldest != NULL)
        agent_host_free(oldest);
}

void agent_host_accept(struct agent *a, int fd)
{
    if (a->host_greeting >= AGENT_GREETING_MAX)
        drop_oldest_greeting(a);
    struct agent_host *h = calloc(1, sizeof(*h));
    struct channel_config cc = {.loop = a->loop,
                                .protocol = PROTO_ALPN_AGENT,
                                .own = &a->key,
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
    if (channel_new_server(&h->channel, &cc, fd) != 0) {
        free(h);
        return;
    }
    h->next = a->hosts;
    if (a->hosts != NULL)
        a->hosts->prev = h;
    a->hosts = h;
    a->host_greeting++;
    agent_wake(a);
}

bool agent_hosts_tick(struct agent *a, uint64_t now_ms)
{
    struct agent_host *next;
    bool waiting = false;
    for (struct agent_host *h = a->hosts; h != NULL; h = next) {
        next = h->next;
        if (!h->ready && now_ms - h->since_ms > AGENT_NEW_TIMEOUT_MS)
            agent_host_free(h);
    }
    for (struct agent_call *c = a->calls; c != NULL;) {
        bool late = c->host != NULL && now_ms - c->since_ms > AGENT_CALL_TIMEOUT_MS;
        waiting = waiting || (c->host != NULL && !late);
        if (late)
            call_fail(c, STREAM_TIMEOUT, "the service's host did not answer");
        c = late ? a->calls : c->next;
    }
    return waiting || a->host_greeting > 0;
}

bool agent_forget(struct agent *a, const uint8_t key[static KEY_LEN])
{
    bool connected = false;
    if (a == NULL)
        return false;
    for (struct agent_host *h = a->hosts, *next; h != NULL; h = next) {
        next = h->next;
        if (!h->ready || memcmp(h->known.key, key, KEY_LEN) != 0)
            continue;
        connected = true;
        send_bye(h, BYE_REMOVED, "the agent took this host off its list");
    }
    agent_break_conns(a, key);
    agent_tell_link(a); /* it has another token, when this was a host of its own */
    return connected;
}

void agent_status(struct agent *a, struct local_conn *c)
{
    for (struct agent_host *h = a != NULL ? a->hosts : NULL; h != NULL; h = h->next) {
        LocalReply r = LocalReply_init_zero;
        struct event e;
        struct addr from;
        if (!h->ready)
            continue;
        channel_remote(h->channel, &from);
        event_begin(&e, "lan-host");
        event_text(&e, "name", h->known.name);
        event_addr(&e, "remote", &from);
        event_int(&e, "services", h->offered != NULL ? h->offered->services_count : 0);
        (void)strncpy(r.json, event_end(&e), sizeof(r.json) - 1);
        if (local_conn_reply(c, &r) != 0)
            return;
    }
}

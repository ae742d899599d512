/*
 * The engine of the client commands. Knows which peers there are and tells people what
 * happens to them; what is done with a session is the commands' business.
 */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/client_words.h"
#include "client/homes.h"
#include "client/waiting.h"
#include "core/list.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/netmon.h"
#include "io/stop.h"
#include "path/detour.h"
#include "path/net_sessions.h"
#include "path/uplink_words.h"

enum {
    FLAPS_MAX = 2,     /* lost connections to the broker before any session stood */
    GOODBYE_MS = 1000, /* for what is under way to others at the end */
    SWEEP_MS = 50,     /* until what ends by a key that was left has ended */
};

enum { OLD_KEYS = 32 }; /* as many are kept: hosts may not have heard of the newest */

struct entry {
    struct list link;
    struct home *home;
    struct peer *peer;
    int64_t joined_s; /* as the book said */
    bool was_ready;
    uint64_t refused;     /* our keys that its host did since: bit 0 is the newest */
    struct fault refusal; /* what it said of them */
};

struct client {
    struct client_config config;
    const struct client_events *events;
    void *ctx;
    struct statedir state;
    struct keypair key;
    struct keypair old_keys[OLD_KEYS];
    size_t old_count;
    struct book *book;
    struct loop *loop;
    struct stop *stop;
    struct share_list shares;
    struct netmon *netmon;
    struct detour *detour;
    struct net_budget *budget; /* of what all of them send */
    struct homes homes;
    struct list entries;    /* the newest first */
    struct waiting waiting; /* while no session stood */
    struct timer sweep;     /* closes homes that all have left */
    bool stopped;
    bool ended; /* by a signal */
    int result;
    struct fault fault;
};

static int read_keys(struct client *c, struct fault *f)
{
    int rc = statedir_key(&c->state, &c->key, f);
    if (rc != 0)
        return rc;
    int n = statedir_old_keys(&c->state, c->old_keys, OLD_KEYS, f);
    c->old_count = n > 0 ? (size_t)n : 0;
    return n < 0 ? n : 0;
}

static struct entry *entry_of(struct client *c, const struct peer *p)
{
    LIST_EACH (struct entry, e, &c->entries, link)
        if (e->peer == p)
            return e;
    return NULL;
}

/* -------------------------------------------------------------------------- events */

/* By which of our keys the host knows this device. */
static void write_own_key(struct client *c, const struct peer *p,
                          const uint8_t own_key[static KEY_LEN])
{
    if (book_set_own_key(c->book, peer_key(p), own_key) != 0)
        log_debug("%s knows our key, but that was not written down", peer_name(p));
}

/* Another than `p` had a session, and has none now. */
static bool is_awaited(const struct client *c, const struct peer *p)
{
    LIST_EACH (const struct entry, e, &c->entries, link)
        if (e->peer != p && e->was_ready &&
            (!peer_is_ready(e->peer) || peer_is_silent(e->peer)))
            return true;
    return false;
}

static void on_ready(void *ctx, struct peer *p)
{
    struct client *c = ctx;
    struct entry *e = entry_of(c, p);
    if (!is_awaited(c, p))
        waiting_on_session(&c->waiting);
    if (e != NULL) {
        e->was_ready = true;
        if (e->refused != 0) /* another key than the book has it */
            write_own_key(c, p, e->home->key);
        e->refused = 0;
    }
    if (c->events->on_ready != NULL)
        c->events->on_ready(c->ctx, p);
}

static void on_path(void *ctx, struct peer *p, const struct path *path,
                    uint64_t elapsed_us)
{
    struct client *c = ctx;
    if (!c->config.quiet) {
        struct event e;
        client_path_event(&e, p, path);
        events_print(c->config.out, &e);
    }
    if (c->events->on_path != NULL)
        c->events->on_path(c->ctx, p, path, elapsed_us);
}

static void on_rejected(void *ctx, struct peer *p, enum path_kind kind,
                        const char *reason)
{
    struct client *c = ctx;
    const struct events *out = c->config.out;
    bool json = out != NULL && out->json;
    if (!c->config.quiet &&
        (json || (c->config.unfold && peer_is_news(p, kind, reason)))) {
        struct event e;
        client_rejected_event(&e, peer_name(p), kind, reason);
        events_print(c->config.out, &e);
    }
}

static void on_relayed(void *ctx, struct peer *p, enum path_kind kind,
                       const char *reason)
{
    struct client *c = ctx;
    if (!c->config.quiet) {
        struct event e;
        client_relayed_event(&e, peer_name(p), kind, reason);
        events_print(c->config.out, &e);
    }
}

static void on_recall(void *ctx, struct peer *p, struct peer_memory *m)
{
    struct client *c = ctx;
    struct book_network n;
    uint8_t network[NETMON_NETWORK_LEN];
    netmon_network(network);
    if (book_network_get(c->book, peer_key(p), network, &n) != 0)
        return;
    m->kind = path_kind_from_name(n.kind);
    m->keepalive_us = n.keepalive_us;
}

static void on_learned(void *ctx, struct peer *p, const struct peer_memory *m)
{
    struct client *c = ctx;
    struct book_host known;
    struct book_network n = {.keepalive_us = m->keepalive_us};
    uint8_t network[NETMON_NETWORK_LEN];
    if (book_find_key(c->book, peer_key(p), &known) != 0)
        return; /* still joining */
    netmon_network(network);
    if (m->kind != PATH_KIND_NONE)
        (void)snprintf(n.kind, sizeof(n.kind), "%s", path_kind_name(m->kind));
    if (book_network_set(c->book, peer_key(p), network, &n) != 0)
        log_debug("what was learned of this network was not kept");
}

static void on_services(void *ctx, struct peer *p, const Services *m)
{
    struct client *c = ctx;
    struct book_service list[BOOK_SERVICE_MAX];
    size_t n = client_services(m, list);
    struct book_host known;
    if (book_find_key(c->book, peer_key(p), &known) == 0 && /* not while joining */
        book_services_set(c->book, peer_key(p), list, n) != 0)
        log_debug("the services of %s were not written down", peer_name(p));
    if (c->events->on_services != NULL)
        c->events->on_services(c->ctx, p, m);
}

static void on_pong(void *ctx, struct peer *p, uint64_t nonce)
{
    struct client *c = ctx;
    if (c->events->on_pong != NULL)
        c->events->on_pong(c->ctx, p, nonce);
}

/* One home stays one home: told once, whichever of our programs heard of the key. */
static void take_key(struct client *c, struct peer *p,
                     const uint8_t new_key[static KEY_LEN])
{
    struct event e;
    char text[KEY_TEXT_LEN];
    if (memcmp(peer_key(p), new_key, KEY_LEN) == 0)
        return;
    event_begin(&e, "rotated");
    event_text(&e, "peer", peer_name(p));
    event_text(&e, "old", key_format(peer_key(p), text));
    event_text(&e, "key", key_format(new_key, text));
    peer_rekey(p, new_key);
    if (!c->config.quiet)
        events_print(c->config.out, &e);
}

static void on_rotated(void *ctx, struct peer *p, const uint8_t new_key[static KEY_LEN])
{
    struct client *c = ctx;
    struct book_host old;
    if (book_rotate(c->book, peer_key(p), new_key) == 0 ||
        /* Still joining, or another of our programs wrote it. */
        book_find_key(c->book, peer_key(p), &old) == POSTERN_ERR_NOTFOUND)
        take_key(c, p, new_key);
    else
        log_debug("the new key of %s was not written down", peer_name(p));
}

/* A home that the device knows by that key is the one that it joins. */
static void on_earlier(void *ctx, struct peer *p, const uint8_t old_key[static KEY_LEN])
{
    struct client *c = ctx;
    int rc = book_rotate(c->book, old_key, peer_key(p));
    if (rc != 0 && rc != POSTERN_ERR_NOTFOUND)
        log_debug("that the host is known was not written down");
}

static bool is_answered(const struct client *c)
{
    LIST_EACH (const struct entry, e, &c->entries, link)
        if (e->peer != NULL && peer_is_answered(e->peer))
            return true;
    return false;
}

/* The first that has no session, or one from which nothing comes; else the first. */
static const struct entry *awaited_of(const struct client *c)
{
    LIST_EACH (const struct entry, e, &c->entries, link)
        if (e->peer == NULL || !peer_is_ready(e->peer) || peer_is_silent(e->peer))
            return e;
    return list_empty(&c->entries) ? NULL : LIST_FIRST(&c->entries, struct entry, link);
}

static void look(void *ctx, struct waiting_view *v)
{
    const struct client *c = ctx;
    const struct entry *e = awaited_of(c);
    v->waits = e != NULL && !c->stopped;
    v->asks = v->waits && uplink_is_up(e->home->endpoint.uplink);
    v->names = v->waits && uplink_name(e->home->endpoint.uplink) == UPLINK_NAME_ASKED;
    v->broker_is_up = homes_is_up(&c->homes);
    v->broker_was_up = homes_was_up(&c->homes);
    v->answered = is_answered(c);
    v->settles_ms = homes_settle_ms(&c->homes);
}

static void describe_wait(void *ctx, char *why, size_t cap)
{
    struct client *c = ctx;
    char reason[LADDER_REASON_LEN];
    const struct entry *e = awaited_of(c);
    if (!uplink_is_up(e->home->endpoint.uplink))
        uplink_describe_wait(e->home->endpoint.uplink, why, cap);
    else
        (void)snprintf(why, cap, "%s", peer_why_waiting(e->peer, reason));
}

static void on_wait_over(void *ctx, const struct fault *f)
{
    client_stop(ctx, f->code, f);
}

static bool reminds(void *ctx)
{
    return !((const struct client *)ctx)->events->lasting;
}

static const struct waiting_events waiting_events = {look, describe_wait, reminds,
                                                     on_wait_over};

void client_stop_unless(struct client *c, const struct fault *f, bool fatal)
{
    waiting_on_fault(&c->waiting, f, fatal);
}

static void fault_up(struct client *c, struct peer *p, const struct fault *f,
                     bool fatal, bool stood)
{
    if (c->events->on_fault != NULL)
        c->events->on_fault(c->ctx, p, f, fatal);
    else if (fatal || !stood)
        client_stop_unless(c, f, fatal);
    else if (stood)
        events_fault(c->config.out, f);
}

bool client_gives_up(struct client *c, const struct fault *f, bool fatal)
{
    return waiting_is_over(&c->waiting, f, fatal);
}

/* Key `i`, the newest first; NULL: there are no more. */
static const struct keypair *key_at(const struct client *c, size_t i)
{
    if (i == 0)
        return &c->key;
    return i <= c->old_count ? &c->old_keys[i - 1] : NULL;
}

/* One connection a key at most: that which it leaves is closed when nobody needs it. */
static void move_to(struct client *c, struct entry *e, struct home *home,
                    const struct keypair *key)
{
    if (e->home != home)
        timer_start(&c->sweep, 0);
    e->home = home;
    peer_come_as(e->peer, &home->endpoint, key != &c->key ? &c->key : NULL);
}

static void on_own_rotated(void *ctx, struct peer *p,
                           const uint8_t new_key[static KEY_LEN])
{
    write_own_key(ctx, p, new_key);
}

/*
 * The host may know this device by another of its keys: a receipt was lost, or another
 * of our programs has told it of a newer one, or this one began before that was made.
 * The others are tried in turn. False: it knows none of them.
 */
static bool try_another_key(struct client *c, struct entry *e)
{
    struct fault f;
    struct book_host h;
    const struct keypair *key;
    if (book_find_key(c->book, peer_key(e->peer), &h) != 0)
        return false; /* it is being joined */
    (void)!read_keys(c, &f);
    for (size_t i = 0; (key = key_at(c, i)) != NULL; i++)
        if (memcmp(e->home->key, key->pub, KEY_LEN) == 0)
            e->refused |= 1ull << i;
    for (size_t i = 0; (key = key_at(c, i)) != NULL; i++) {
        struct home *home = (e->refused >> i & 1) == 0
                                ? homes_get(&c->homes, &e->home->broker, key)
                                : NULL;
        if (home == NULL)
            continue;
        move_to(c, e, home, key);
        return true;
    }
    e->refused = 0;
    return false;
}

static void on_fault(void *ctx, struct peer *p, const struct fault *f, bool fatal)
{
    struct client *c = ctx;
    struct entry *e = entry_of(c, p);
    if (f->code == POSTERN_ERR_DENIED && e != NULL) {
        f = client_keep_refusal(&e->refusal, f, e->refused != 0);
        if (try_another_key(c, e))
            return;
    }
    fault_up(c, p, f, fatal, e != NULL && e->was_ready);
}

static void on_heard(void *ctx, struct peer *p, unsigned silent_s)
{
    struct client *c = ctx;
    struct event e;
    char what[BOOK_NAME_LEN + 64];
    if (!is_awaited(c, p))
        waiting_on_session(&c->waiting);
    client_back_event(&e, peer_name(p), silent_s);
    if (!c->config.quiet)
        events_print(c->config.out, &e);
    (void)snprintf(what, sizeof(what), "%.64s answers again, after %u s", peer_name(p),
                   silent_s);
    if (c->events->on_heard != NULL)
        c->events->on_heard(c->ctx, p, what);
}

static void on_sure(void *ctx, struct peer *p)
{
    struct client *c = ctx;
    if (c->events->on_sure != NULL)
        c->events->on_sure(c->ctx, p);
}

static const struct peer_events peer_events = {
    .on_recall = on_recall,
    .on_learned = on_learned,
    .on_ready = on_ready,
    .on_path = on_path,
    .on_rejected = on_rejected,
    .on_relayed = on_relayed,
    .on_services = on_services,
    .on_pong = on_pong,
    .on_rotated = on_rotated,
    .on_earlier = on_earlier,
    .on_own_rotated = on_own_rotated,
    .on_fault = on_fault,
    .on_heard = on_heard,
    .on_sure = on_sure,
};

/* --------------------------------------------------------------------------- homes */

static void on_up(void *ctx, struct home *h)
{
    struct client *c = ctx;
    if (h->told_lost && c->events->on_broker != NULL)
        c->events->on_broker(c->ctx, NULL);
    h->told_lost = false;
    waiting_on_broker(&c->waiting);
    LIST_EACH (struct entry, e, &c->entries, link)
        if (e->home == h && e->peer != NULL)
            peer_on_uplink(e->peer, true);
}

/* A session that stands needs no broker, and has perhaps a path without it. */
static bool a_session_stands(const struct client *c, const struct home *h)
{
    LIST_EACH (const struct entry, e, &c->entries, link)
        if (e->home == h && e->peer != NULL && peer_is_ready(e->peer))
            return true;
    return false;
}

static void on_down(void *ctx, struct home *h, const struct fault *why, bool fatal,
                    bool news)
{
    struct client *c = ctx;
    LIST_EACH (struct entry, e, &c->entries, link)
        if (e->home == h && e->peer != NULL)
            peer_on_uplink(e->peer, false);
    if (h->flaps > FLAPS_MAX && waiting_on_flaps(&c->waiting, why))
        return;
    if (!h->was_up || (fatal && news)) { /* once, however often it is tried again */
        h->told_lost = true;
        fault_up(c, NULL, why, fatal && !a_session_stands(c, h), h->was_up);
    } else if (h->downs > 1 && !h->told_lost) { /* the first may be a moment's */
        h->told_lost = true;
        if (c->events->on_broker != NULL)
            c->events->on_broker(c->ctx, why);
    }
}

static void on_control(void *ctx, struct home *h, const Control *m)
{
    struct client *c = ctx;
    LIST_EACH (struct entry, e, &c->entries, link) {
        if (e->home == h && e->peer != NULL && peer_owns(e->peer, m)) {
            peer_on_control(e->peer, m);
            return;
        }
    }
}

static const struct homes_events homes_events = {on_up, on_down, on_control};

static void on_sweep(void *ctx)
{
    struct client *c = ctx;
    bool later = false;
    LIST_EACH_REMOVABLE (struct home, h, next, &c->homes.list, link) {
        bool used = false, held = false;
        LIST_EACH (const struct entry, e, &c->entries, link) {
            used = used || e->home == h;
            held = held || peer_holds(e->peer, &h->endpoint);
        }
        later = later || (held && !used);
        if (!held && !used)
            home_free(h);
    }
    if (later)
        timer_start(&c->sweep, SWEEP_MS);
}

/* --------------------------------------------------------------------------- peers */

static int add_peer(struct client *c, struct home *h, struct peer_config *pc,
                    int64_t joined_s, struct peer **out, struct fault *f)
{
    struct entry *e = h != NULL ? calloc(1, sizeof(*e)) : NULL;
    if (e == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    pc->endpoint = &h->endpoint;
    pc->state = &c->state;
    pc->paths = c->config.paths;
    pc->jit_window_ms = c->config.jit_window_ms;
    pc->events = &peer_events;
    pc->ctx = c;
    e->home = h;
    e->joined_s = joined_s;
    list_push_first(&c->entries, &e->link);
    int rc = peer_open(&e->peer, pc);
    if (rc != 0) {
        list_remove(&e->link);
        free(e);
        return fault_lack(f, rc);
    }
    *out = e->peer;
    return 0;
}

/* The key by which the host knows us: an older one until it has heard of the new. */
static const struct keypair *key_for(const struct client *c, const struct book_host *h)
{
    for (size_t i = 0; i < c->old_count; i++)
        if (memcmp(c->old_keys[i].pub, h->own_key, KEY_LEN) == 0)
            return &c->old_keys[i];
    return &c->key;
}

/* Also by another broker than before: as it was joined. */
static void renew(struct client *c, struct entry *e, const struct book_host *h)
{
    struct fault f;
    struct link broker;
    e->joined_s = h->joined_s;
    if (peer_is_ready(e->peer) || link_parse(&broker, h->broker, &f) != 0)
        return;
    (void)!read_keys(c, &f);
    e->refused = 0;
    const struct keypair *key = key_for(c, h);
    struct home *home = homes_get(&c->homes, &broker, key);
    peer_again(e->peer);
    if (home != NULL)
        move_to(c, e, home, key);
}

void client_take_keys(struct client *c)
{
    struct fault f;
    if (read_keys(c, &f) != 0) {
        log_fault(LOG_LEVEL_WARN, &f);
        return;
    }
    LIST_EACH (struct entry, e, &c->entries, link) {
        e->refused = 0; /* it counts the keys in their order */
        if (memcmp(e->home->key, c->key.pub, KEY_LEN) != 0)
            peer_rotated(e->peer, &c->key);
    }
}

int client_renew(struct client *c, const char *host, struct fault *f)
{
    struct book_host h;
    struct peer *p = NULL;
    int rc = client_peer(c, host, &p, f);
    if (rc == 0)
        rc = book_find(c->book, host, &h, f);
    if (rc == 0)
        renew(c, entry_of(c, p), &h);
    return rc;
}

int client_peer(struct client *c, const char *host, struct peer **out, struct fault *f)
{
    struct book_host h;
    struct link broker;
    struct peer_config pc = {0};
    int rc = book_find(c->book, host, &h, f);
    if (rc != 0)
        return rc;
    LIST_EACH (struct entry, e, &c->entries, link) {
        if (strcmp(peer_name(e->peer), h.name) == 0) {
            take_key(c, e->peer, h.key); /* the book may know a newer one */
            if (h.joined_s != e->joined_s)
                renew(c, e, &h);
            *out = e->peer;
            return 0;
        }
    }
    rc = link_parse(&broker, h.broker, f);
    if (rc != 0)
        return rc;
    (void)snprintf(pc.name, sizeof(pc.name), "%s", h.name);
    memcpy(pc.key, h.key, KEY_LEN);
    const struct keypair *key = key_for(c, &h);
    if (key != &c->key)
        pc.rotated = &c->key;
    return add_peer(c, homes_get(&c->homes, &broker, key), &pc, h.joined_s, out, f);
}

void client_drop(struct client *c, struct peer *p)
{
    struct entry *e = entry_of(c, p);
    list_remove(&e->link);
    peer_close(e->peer);
    free(e);
    timer_start(&c->sweep, SWEEP_MS); /* nobody may need its broker any more */
}

int client_join(struct client *c, const struct link *invite, const char *own_name,
                struct peer **out, struct fault *f)
{
    struct link broker = {.type = LINK_BROKER, .port = invite->port};
    struct peer_config pc = {.joining = true};
    struct book_host h; /* joined before: on its list we stay one device */
    bool again = book_find_key(c->book, invite->host_key, &h) == 0;
    memcpy(broker.host, invite->host, sizeof(broker.host));
    memcpy(broker.broker_key, invite->broker_key, KEY_LEN);
    memcpy(pc.key, invite->host_key, KEY_LEN);
    memcpy(pc.secret, invite->secret, LINK_SECRET_LEN);
    (void)snprintf(pc.name, sizeof(pc.name), "the host");
    if (own_name != NULL)
        (void)snprintf(pc.own_name, sizeof(pc.own_name), "%s", own_name);
    else
        client_device_name(pc.own_name);
    const struct keypair *key = again ? key_for(c, &h) : &c->key;
    return add_peer(c, homes_get(&c->homes, &broker, key), &pc, 0, out, f);
}

void client_each_broker(struct client *c,
                        void (*each)(void *ctx, const struct uplink *u), void *ctx)
{
    homes_each(&c->homes, each, ctx);
}

void client_ask_brokers(struct client *c)
{
    homes_ask(&c->homes);
}

bool client_awaits_broker(const struct client *c)
{
    return homes_await(&c->homes);
}

void client_each(struct client *c, void (*each)(void *ctx, struct peer *p), void *ctx)
{
    LIST_EACH_REMOVABLE (struct entry, e, next, &c->entries, link)
        each(ctx, e->peer);
}

static void on_detour(void *ctx)
{
    struct client *c = ctx;
    net_sessions_enter(c->budget);
    homes_kick(&c->homes);
    LIST_EACH (struct entry, e, &c->entries, link)
        peer_on_network_change(e->peer);
    if (c->events->on_network != NULL)
        c->events->on_network(c->ctx);
}

static void on_network(void *ctx, enum netmon_reason reason)
{
    struct client *c = ctx;
    log_info("the network changed (%s)", netmon_reason_name(reason));
    detour_on_network_change(c->detour);
    on_detour(c);
}

void client_tell_empty(struct client *c)
{
    struct book_host one;
    if (!c->config.out->json && book_hosts(c->book, &one, 1) == 0) {
        (void)fprintf(c->config.out->out,
                      "No host joined yet: postern join LINK, with the link that "
                      "'postern invite' prints there.\n"
                      "This goes on, and will know the host.\n");
        (void)fflush(c->config.out->out);
    }
}

/* ---------------------------------------------------------------------- life cycle */

static void on_stop(void *ctx, int signum)
{
    struct client *c = ctx;
    (void)signum;
    c->ended = true;
    client_stop(c, 0, NULL);
}

bool client_was_ended(const struct client *c)
{
    return c->ended;
}

int client_open(struct client **out, const struct client_config *config,
                const struct client_events *events, void *ctx, struct fault *f)
{
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    c->config = *config;
    c->events = events;
    c->ctx = ctx;
    list_init(&c->homes.list);
    list_init(&c->entries);
    list_init(&c->shares.all);
    int rc = statedir_open(&c->state, config->state, f);
    if (rc == 0)
        rc = read_keys(c, f);
    if (rc == 0)
        rc = book_open(&c->book, &c->state, f);
    if (rc == 0 && (rc = loop_open(&c->loop)) != 0)
        rc = fault_lack(f, rc);
    if (rc != 0) {
        book_close(c->book);
        free(c);
        return rc;
    }
    c->budget = net_budget_new();
    net_budget_share(c->budget, c->state.path);
    c->homes.loop = c->loop;
    c->homes.budget = c->budget;
    c->homes.state = c->state.path;
    c->homes.events = &homes_events;
    c->homes.ctx = c;
    c->waiting = (struct waiting){.loop = c->loop,
                                  .events = &waiting_events,
                                  .ctx = c,
                                  .wait_ms = config->wait_ms,
                                  .end_ms = config->end_ms,
                                  .soon = config->soon,
                                  .standing = events->standing};
    waiting_init(&c->waiting);
    timer_init(&c->sweep, c->loop, on_sweep, c);
    if (events->on_broker == NULL) /* else all is told as it comes */
        waiting_tell(&c->waiting);
    rc = stop_open(&c->stop, c->loop, on_stop, c);
    if (rc != 0) {
        client_close(c);
        return fault_lack(f, rc);
    }
    if (!config->quiet)
        stop_watch_output(c->stop);
    if (netmon_open(&c->netmon, c->loop, on_network, c) != 0)
        log_warn("changes of the network cannot be watched");
    if (detour_open(&c->detour, c->loop, c->budget, on_detour, c) != 0)
        c->detour = NULL;
    *out = c;
    return 0;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    while (!list_empty(&c->entries)) {
        struct entry *e = LIST_FIRST(&c->entries, struct entry, link);
        list_remove(&e->link);
        peer_close(e->peer);
        free(e);
    }
    homes_close(&c->homes);
    timer_stop(&c->sweep);
    waiting_fini(&c->waiting);
    netmon_close(c->netmon);
    detour_close(c->detour);
    stop_close(c->stop);
    share_forget(&c->shares);
    if (!loop_finish(c->loop, GOODBYE_MS))
        log_debug("not waited for any longer: the router or the resolver");
    loop_close(c->loop);
    net_budget_free(c->budget);
    book_close(c->book);
    free(c);
}

bool client_finds_up(struct client *c)
{
    struct statedir_holder h = {0};
    int rc = share_find(&c->state);
    if (rc == POSTERN_ERR_TIMEOUT) {
        (void)statedir_held(&c->state, "up", &h);
        log_warn("waiting: 'postern up' %sdoes not answer; going on without it",
                 h.stopped ? "is stopped and " : "");
        loop_refresh(c->loop);
        waiting_begin_anew(&c->waiting);
    }
    return rc == 0;
}

static bool a_first_is_awaited(const struct client *c)
{
    LIST_EACH (const struct entry, e, &c->entries, link)
        if (!e->was_ready)
            return true;
    return false;
}

void client_tell_retried(struct client *c, const struct fault *f)
{
    struct fault told = *f;
    if (strstr(f->advice, ADVICE_RETRIED) == NULL)
        (void)snprintf(told.advice, sizeof(told.advice), "%.200s%s" ADVICE_RETRIED,
                       f->advice, f->advice[0] != '\0' ? "; " : "");
    events_fault(c->config.out, &told);
    if (c->events->lasting || a_first_is_awaited(c))
        waiting_was_told(&c->waiting, f->what);
    else
        waiting_again(&c->waiting, f->what);
}

void client_tell_wait(struct client *c, const char *why)
{
    if (waiting_takes(&c->waiting, why))
        log_warn("waiting: %s", why);
}

int client_run(struct client *c, struct fault *f)
{
    if (!c->stopped)
        loop_run(c->loop);
    if (c->result != 0)
        *f = c->fault;
    return c->result;
}

void client_stop(struct client *c, int result, const struct fault *f)
{
    if (!c->stopped) {
        c->result = result;
        if (f != NULL)
            c->fault = *f;
    }
    c->stopped = true;
    loop_stop(c->loop);
}

struct share_list *client_shares(struct client *c)
{
    return &c->shares;
}

struct loop *client_loop(struct client *c)
{
    return c->loop;
}

struct book *client_book(struct client *c)
{
    return c->book;
}

const struct statedir *client_statedir(const struct client *c)
{
    return &c->state;
}

struct events *client_out(struct client *c)
{
    return c->config.out;
}

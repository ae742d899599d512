/*
 * Which path a session uses: core/paths decides, here its probes are sent and answered
 * and its choices carried out. QUIC does not know of paths. To it the other end stands
 * at one made-up address, the *label*; that of the client is a count, that of the host
 * the connection id by which the client calls it. So a session changes its path without
 * using up a connection id, and can do so as often as the network makes it.
 *
 * After a change of path the client goes to a new label where it has a connection id to
 * spare (RFC 9000 section 9): round trip, congestion window and packet size are then
 * learned anew (sections 9.4 and 14.2.1), unless the path is known to be like the one
 * left. Until then packets keep to the size that
 * every path must bear.
 */
#include "session/internal.h"

#include <string.h>

#include "io/clock.h"
#include "io/log.h"

enum {
    SHORT_HEADER_DCID = 1,       /* where it begins: RFC 9000 section 17.3.1 */
    ACTIONS_MAX = 4 * PATHS_MAX, /* in one round; then others get their turn */
    VOUCH_HALVES = 2,            /* with each a round's bytes and more are let pass */
    VOUCH_EVERY = 256 * 1024,
    SLOW_NS = 150000000,      /* a packet of 1,200 bytes each way at 128 kbit/s */
    LEARNT_BYTES = 32 * 1024, /* moved, before QUIC knows a path */
};

static const uint64_t raise_after_ns = 600 * 1000000000ull; /* RFC 8899 section 5.1.1 */
static const uint64_t tried_for_ns = 800000000ull;

// clang-format off
static const uint8_t label_next[] = {
    [LABEL_GOOD]        = 1u << LABEL_STALE,
    [LABEL_STALE]       = 1u << LABEL_GOOD | 1u << LABEL_TRIED,
    [LABEL_TRIED]       = 1u << LABEL_GOOD | 1u << LABEL_TRIED_STALE,
    [LABEL_TRIED_STALE] = 1u << LABEL_TRIED | 1u << LABEL_STALE,
};
// clang-format on

static struct path *path_by_id(const struct session *s, uint32_t id)
{
    LIST_EACH (struct path, p, &s->paths, user_link)
        if (p->id == id)
            return p;
    return NULL;
}

/* -------------------------------------------------------------------------- labels */

ngtcp2_path label_path(struct label *l, uint64_t name)
{
    struct sockaddr_in6 *sa = &l->remote;
    memset(l, 0, sizeof(*l));
    sa->sin6_family = AF_INET6;
    sa->sin6_port = 1;
    sa->sin6_addr.s6_addr[0] = 0xfd;
    for (int i = 0; i < 8; i++)
        sa->sin6_addr.s6_addr[8 + i] = (uint8_t)(name >> (56 - 8 * i));
    /*
     * Who migrates does so with its own address; and at the other side a new address of
     * our own takes a new connection id at any time. Else one may serve two labels,
     * when the first packet of a label finds none to spare, and ngtcp2 1.11 then
     * retires it while it is in use: ERR_CONNECTION_ID_LIMIT ends the session.
     */
    l->local = *sa;
    return (ngtcp2_path){
        .local = {.addr = (ngtcp2_sockaddr *)&l->local, .addrlen = sizeof(l->local)},
        .remote = {.addr = (ngtcp2_sockaddr *)&l->remote,
                   .addrlen = sizeof(l->remote)}};
}

uint64_t label_of_cid(const uint8_t cid[static SESSION_CID_LEN])
{
    uint64_t name = 0;
    for (int i = 0; i < SESSION_CID_LEN; i++)
        name = name << 8 | cid[i];
    return name;
}

/* Shall the client have another label? A host follows and has none to choose. */
static void want_label(struct session *s, bool another)
{
    bool tried = s->label_state == LABEL_TRIED || s->label_state == LABEL_TRIED_STALE;
    enum session_label good = tried ? LABEL_TRIED : LABEL_GOOD;
    enum session_label stale = tried ? LABEL_TRIED_STALE : LABEL_STALE;
    if (s->is_client)
        STATE_GO(label_next, s->label_state, another ? stale : good);
}

/* The host follows what is more than a probe of QUIC's. */
void steer_want_renewal(struct session *s)
{
    s->ping_due = true;
    want_label(s, true);
}

void steer_on_validated(struct session *s)
{
    if (s->label_state == LABEL_TRIED)
        STATE_GO(label_next, s->label_state, LABEL_GOOD);
    else if (s->label_state == LABEL_TRIED_STALE)
        STATE_GO(label_next, s->label_state, LABEL_STALE);
}

uint64_t steer_label(const struct session *s, const uint8_t *packet, size_t len)
{
    if (s->is_client || len < SHORT_HEADER_DCID + SESSION_CID_LEN ||
        (packet[0] & LONG_HEADER) != 0)
        return s->label;
    return label_of_cid(packet + SHORT_HEADER_DCID);
}

/*
 * A host may send to an address three times what came from there, until QUIC has
 * validated it (RFC 9000 section 8.1), lest it floods who never asked. A label is no
 * address: packets go to the path in use, which has carried the handshake or a probe of
 * the peer's. And where ngtcp2 1.11 meets that bound it stops the timer that misses
 * lost packets, so that with enough of them lost the host falls silent for ever, its
 * acknowledgements and its challenge of the next label too. What counts as come is each
 * datagram, also one whose packets are discarded, as this one's is.
 */
void steer_vouch(struct session *s, uint64_t ts)
{
    static const uint8_t discarded[] = {0xc0, 0, 0, 0, 1, 0xff}; /* no id is so long */
    uint8_t *buf = s->env->batch;
    const ngtcp2_path *path = ngtcp2_conn_get_path(s->conn);
    const struct sockaddr_in6 *sa = (const void *)path->remote.addr;
    if (s->is_client || !session_is_secure(s) ||
        (memcmp(&sa->sin6_addr, &s->vouched, sizeof(s->vouched)) == 0 &&
         s->sent_bytes < s->vouched_bytes + VOUCH_EVERY))
        return;
    if (memcmp(&sa->sin6_addr, &s->vouched, sizeof(s->vouched)) != 0) {
        bundle_on_label(s, ts);
        paths_on_renewed(&s->net); /* its client has begun anew */
    }
    s->vouched = sa->sin6_addr;
    s->vouched_bytes = s->sent_bytes;
    memcpy(buf, discarded, sizeof(discarded));
    memset(buf + STREAM_BATCH_MAX - NGTCP2_STATELESS_RESET_TOKENLEN, 0,
           NGTCP2_STATELESS_RESET_TOKENLEN);
    for (int i = 0; i < VOUCH_HALVES; i++)
        (void)ngtcp2_conn_read_pkt(s->conn, path, NULL, buf, STREAM_BATCH_MAX, ts);
}

uint64_t steer_late_us(const struct session *s, uint64_t now_us)
{
    const struct lateness *line = s->env->late;
    uint64_t own = lateness_us(&s->late, now_us);
    uint64_t others = line != NULL ? lateness_us(line, now_us) : 0;
    return own > others ? own : others;
}

/* A client's sessions all go over its own line; a host's each over that of its client.
 */
void steer_note_late(struct session *s, uint64_t took_us, uint64_t least_us,
                     uint64_t now_us)
{
    struct lateness *l = s->is_client && s->env->late != NULL ? s->env->late : &s->late;
    lateness_note(l, took_us, least_us, now_us);
}

/* A label is on its way: what would take it back must wait for an answer. */
static bool is_trying(const struct session *s)
{
    uint64_t now_ns = clock_ns(), takes_us = paths_answer_takes_us(&s->net),
             late_us = steer_late_us(s, now_ns / 1000);
    uint64_t for_ns = 2000 * (takes_us > late_us ? takes_us : late_us);
    return (s->label_state == LABEL_TRIED || s->label_state == LABEL_TRIED_STALE) &&
           now_ns <= s->tried_ns + (for_ns > tried_for_ns ? for_ns : tried_for_ns);
}

/* Packets above the base size wait until QUIC's own search begins anew. */
static void bind_size(struct session *s)
{
    bool stream = s->current != NULL && s->current->stream;
    if (!stream && size_of_quic(s) > PROBE_LEN_BASE)
        s->packet_max = PROBE_LEN_BASE;
}

void steer_renew(struct session *s)
{
    struct label l;
    if (s->raise_ns != 0 && clock_ns() > s->raise_ns) {
        s->raise_ns = 0;
        if (s->current != NULL)
            size_forget(s->current);
        want_label(s, true);
    }
    if (s->label_state == LABEL_TRIED_STALE && !is_trying(s))
        STATE_GO(label_next, s->label_state, LABEL_STALE); /* its window may be full */
    if (s->label_state == LABEL_STALE && s->confirmed && s->current != NULL) {
        ngtcp2_path path = label_path(&l, s->label + 1);
        int rc = ngtcp2_conn_initiate_immediate_migration(s->conn, &path, clock_ns());
        s->label += rc == 0;
        s->tried_ns = rc == 0 ? clock_ns() : s->tried_ns;
        if (rc == 0)
            bundle_on_label(s, s->tried_ns);
        if (rc == 0)
            STATE_GO(label_next, s->label_state, LABEL_TRIED);
        else if (rc != NGTCP2_ERR_CONN_ID_BLOCKED) /* else one comes with an answer */
            want_label(s, false);
    }
    if (s->packet_max < PACKET_MAX && size_of_quic(s) <= PROBE_LEN_BASE) {
        s->packet_max = PACKET_MAX;
        paths_on_renewed(&s->net);
    }
}

/* ------------------------------------------------------------------------- packets */

int steer_on_secure(struct session *s)
{
    static const char label[] = "EXPORTER-postern-probe";
    return gnutls_prf_rfc5705(s->tls, sizeof(label) - 1, label, 0, NULL,
                              sizeof(s->probe_key), (char *)s->probe_key);
}

static void send_probe(struct session *s, struct path *p, const struct path_probe *q,
                       uint64_t now_us)
{
    uint8_t *buf = s->env->probe;
    probe_encode(q, s->probe_key, buf);
    s->sent_bytes += q->len;
    keepalive_on_sent(&s->keep, now_us);
    (void)path_send(p, buf, q->len, q->len);
}

void steer_on_probe(struct session *s, struct path *p, const uint8_t *buf, size_t len,
                    uint64_t now_us)
{
    struct path_probe q, reply;
    if (!session_is_secure(s) || probe_decode(&q, s->probe_key, buf, len) != 0 ||
        ((q.flags & PROBE_CLIENT) != 0) == s->is_client)
        return;
    s->heard_us = now_us;
    keepalive_on_received(&s->keep, now_us);
    if ((q.flags & PROBE_RESPONSE) != 0) {
        uint32_t rtt_us = paths_on_response(&s->net, p->id, &q, now_us);
        if (rtt_us > 0) {
            steer_note_late(s, rtt_us, paths_least_us(&s->net, p->id), now_us);
            s->answered_us = now_us;
            p->rtt_us = rtt_us;
            if (s->events->on_path_rtt != NULL)
                s->events->on_path_rtt(s->ctx, p);
        }
        return;
    }
    /* Asked for again and again until it is seen: one answer is enough. */
    if (s->is_client && (q.flags & PROBE_RENEW) != 0 && !is_trying(s)) {
        steer_want_renewal(s);
        s->raise_ns = now_us * 1000 + raise_after_ns;
    }
    if (paths_on_request(&s->net, p->id, &q, &reply, now_us))
        send_probe(s, p, &reply, now_us);
}

/* ------------------------------------------------------------------------- choices */

/*
 * Before much was moved QUIC has little to unlearn, and a new label costs 5 KB each
 * way: none is taken from the broker's own connection to the relay's, which goes the
 * same way, nor to a path whose own probe took so long that those would take long as
 * well.
 */
static bool goes_on(const struct session *s, const struct path *p)
{
    const struct path *c = s->current;
    if (c == NULL || !(c->meagre || c->stream) || size_of_quic(s) > PROBE_LEN_BASE ||
        s->sent_bytes + s->received_bytes > LEARNT_BYTES)
        return false;
    return p->kind == c->kind || p->rtt_us > SLOW_NS / 1000;
}

/* The table's choice becomes the session's. */
void steer_follow(struct session *s)
{
    struct path *p = path_by_id(s, paths_current(&s->net));
    if (p == s->current)
        return;
    bool first = s->current == NULL && !session_is_secure(s);
    bool like = p != NULL && (p->id == s->like_path || goes_on(s, p));
    if (s->current != NULL)
        output_drop_path(s, s->current);
    s->current = p;
    if (p == NULL)
        return;
    keepalive_on_new_path(&s->keep, clock_us());
    flight_begin(s, clock_ns());
    size_begin(s, clock_ns());
    bundle_begin(s);
    s->like_path = 0;
    want_label(s, !first && !like);
    if (!session_is_secure(s))
        return;
    copies_on_moved(s);
    s->ping_due = true;
    s->raise_ns = like && s->is_client ? clock_ns() + raise_after_ns : 0;
    bind_size(s);
    if (s->events->on_path != NULL)
        s->events->on_path(s->ctx, p);
}

static void carry_out(struct session *s, const struct paths_action *a, uint64_t now_us)
{
    struct path *p = path_by_id(s, a->id);
    switch (a->type) {
    case PATHS_SEND:
        if (p != NULL)
            send_probe(s, p, &a->probe, now_us);
        break;
    case PATHS_MOVE:
        if (s->current != NULL && paths_silent_since_us(&s->net) != 0)
            keepalive_on_dead(&s->keep);
        steer_follow(s);
        break;
    case PATHS_DEAD:
        if (p == s->current)
            keepalive_on_dead(&s->keep);
        if (p != NULL && s->events->on_path_dead != NULL)
            s->events->on_path_dead(s->ctx, p, a->silent_us);
        break;
    case PATHS_SUSPECT: /* what all ways share is asked at once */
    case PATHS_DOUBT:
        if (s->events->on_doubt != NULL)
            s->events->on_doubt(s->ctx);
        break;
    case PATHS_SILENT:
        if (s->events->on_silent != NULL)
            s->events->on_silent(s->ctx);
        break;
    case PATHS_REVIVED:
        copies_on_moved(s);
        bundle_begin(s); /* all was lost, not bundles alone */
        if (!stall_is_waiting(s))
            break;          /* nothing was lost, and a new label costs 5 KB each way */
        s->ping_due = true; /* QUIC's own timer has backed off */
        want_label(s, true);
        break;
    case PATHS_SHRINK:
        log_debug("packets above %d bytes are lost on %s path %u", PROBE_LEN_BASE,
                  p != NULL ? path_kind_name(p->kind) : "a", a->id);
        s->packet_max = PROBE_LEN_BASE;
        want_label(s, true);
        s->raise_ns = s->is_client ? now_us * 1000 + raise_after_ns : 0;
        break;
    }
}

void steer_run(struct session *s)
{
    struct paths_action a;
    uint64_t now_us = clock_us();
    if (!session_is_secure(s))
        return;
    paths_set_size(&s->net, (uint16_t)size_of_packets(s));
    paths_set_late(&s->net, steer_late_us(s, now_us));
    for (unsigned i = 0; i < ACTIONS_MAX && session_lives(s); i++) {
        if (!paths_next(&s->net, now_us, &a))
            break;
        carry_out(s, &a, now_us);
    }
}

uint64_t steer_deadline_ns(const struct session *s)
{
    uint64_t at = session_is_secure(s) ? paths_deadline_us(&s->net) : UINT64_MAX;
    return at < UINT64_MAX / 1000 ? at * 1000 : UINT64_MAX;
}

/* ----------------------------------------------------------------------- the table */

/*
 * Until both ends have ended the handshake nobody can answer a probe, and so no path be
 * proven: where none is left any one is taken, or what the handshake lost is never sent
 * again.
 */
static void take_any(struct session *s, uint64_t now_us)
{
    if (!s->confirmed && paths_current(&s->net) == PATHS_NONE && !list_empty(&s->paths))
        paths_force(&s->net, LIST_FIRST(&s->paths, struct path, user_link)->id, now_us);
}

/* `lost`: the path in use so far is gone. */
static void follow(struct session *s, bool lost)
{
    const struct path *before = s->current;
    steer_follow(s);
    if (s->current != before)
        opening_on_change(s, lost);
}

static bool has_path(const struct session *s, const struct path *p)
{
    return p->user == &session_path_user && p->user_ctx == s;
}

void session_add_path(struct session *s, struct path *p)
{
    uint64_t now_us = clock_us();
    if (has_path(s, p) || paths_add(&s->net, p->id, p->stream, now_us) != 0)
        return;
    list_push(&s->paths, &p->user_link);
    p->user = &session_path_user;
    p->user_ctx = s;
    take_any(s, now_us);
    follow(s, s->current == NULL);
    if (p->meagre)
        paths_set_meagre(&s->net, p->id);
    session_touch(s);
}

void session_use_path(struct session *s, struct path *p)
{
    uint64_t now_us = clock_us();
    session_add_path(s, p);
    if (!session_is_secure(s)) {
        s->opening.wish = p->id;
        paths_want(&s->net, p->id, now_us); /* or an earlier wish takes it back */
        paths_force(&s->net, p->id, now_us);
        follow(s, false);
    } else {
        paths_want(&s->net, p->id, now_us);
    }
    session_touch(s);
}

void session_on_proven(struct session *s, struct path *p)
{
    if (!has_path(s, p))
        return;
    opening_on_proven(s, p);
    session_touch(s);
}

void session_return_to_path(struct session *s, struct path *p)
{
    s->like_path = p->id;
    session_use_path(s, p);
}

void session_remove_path(struct session *s, struct path *p)
{
    uint64_t now_us = clock_us();
    output_drop_path(s, p);
    if (has_path(s, p)) {
        list_remove(&p->user_link);
        p->user = NULL;
    }
    paths_remove(&s->net, p->id, now_us);
    take_any(s, now_us);
    follow(s, p == s->current);
    session_touch(s);
}

struct path *session_path(const struct session *s)
{
    return s->current;
}

void session_probe(struct session *s)
{
    paths_ask(&s->net, clock_us());
    session_touch(s);
}

void session_doubt(struct session *s, bool hinted)
{
    paths_doubt(&s->net, hinted, clock_us());
    session_touch(s);
}

uint64_t session_answered_us(const struct session *s)
{
    return s->answered_us;
}

uint64_t session_silent_since_us(const struct session *s)
{
    return paths_silent_since_us(&s->net);
}

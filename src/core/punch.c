/*
 * Candidates, pairs and checks of one approach. Decides what to send where and when;
 * knows packets only through core/punch_wire.h and the words only in punch_reason.c.
 */
#include "core/punch.h"

#include <assert.h>
#include <string.h>

#include "core/key.h"
#include "core/rng.h"

enum { RTO_UNKNOWN_US = 100000, RTT_SLACK_US = 2000, SEEN_WINDOW = PUNCH_TRANSACTIONS };

void punch_init(struct punch *p, const struct punch_config *config)
{
    memset(p, 0, sizeof(*p));
    p->config = *config;
    if (p->config.generation == 0)
        p->config.generation = 1;
    p->peer_generation = config->peer_generation;
    p->seen_generation = config->peer_generation;
    p->rng = config->seed;
    p->next_count = 1;
    p->awaits_peer = true;
    p->state = PUNCH_IDLE;
}

uint32_t punch_generation(const struct punch *p)
{
    return p->config.generation;
}

enum punch_state punch_state(const struct punch *p)
{
    return p->state;
}

void punch_allow_loopback(struct punch *p)
{
    p->config.allow_loopback = true;
}

void punch_set_hint(struct punch *p, const struct punch_hint *hint)
{
    p->hint = *hint;
}

void punch_set_remote_complete(struct punch *p)
{
    p->remote_complete = true;
}

/* ---------------------------------------------------------------------- candidates */

static uint32_t first_rto_us(const struct punch *p)
{
    uint32_t rto =
        p->config.rtt_hint_us > 0 ? p->config.rtt_hint_us : (uint32_t)RTO_UNKNOWN_US;
    if (rto < PUNCH_RTO_MIN_US)
        return PUNCH_RTO_MIN_US;
    return rto > PUNCH_RTO_MAX_US ? PUNCH_RTO_MAX_US : rto;
}

static int find_remote(const struct punch *p, const struct addr *a)
{
    for (unsigned i = 0; i < p->remote_count; i++)
        if (addr_equal(&p->remotes[i].addr, a) && p->remotes[i].addr.scope == a->scope)
            return (int)i;
    return -1;
}

static int pair_of(const struct punch *p, unsigned sock, int remote)
{
    for (unsigned i = 0; i < p->pair_count; i++)
        if (p->pairs[i].sock == sock && p->pairs[i].remote_idx == remote)
            return (int)i;
    return PUNCH_NO_PAIR;
}

int punch_find_pair(const struct punch *p, unsigned sock, const struct addr *remote)
{
    int r = find_remote(p, remote);
    return r < 0 ? PUNCH_NO_PAIR : pair_of(p, sock, r);
}

static int add_pair(struct punch *p, unsigned sock, int remote)
{
    int found = pair_of(p, sock, remote);
    if (found != PUNCH_NO_PAIR || p->pair_count == PUNCH_MAX_PAIRS)
        return found;
    p->pairs[p->pair_count] = (struct punch_pair){
        .sock = (uint8_t)sock,
        .remote_idx = (uint8_t)remote,
        .remote = p->remotes[remote].addr,
        .type = p->remotes[remote].type,
        .rto_us = first_rto_us(p),
    };
    p->fresh_pair = true;
    return (int)p->pair_count++;
}

void punch_add_socket(struct punch *p, unsigned idx, enum addr_family family)
{
    assert(idx < PUNCH_MAX_SOCKETS);
    p->families[idx] = (uint8_t)family;
    p->adopted[idx] = false;
    for (unsigned r = 0; r < p->remote_count; r++)
        if (p->remotes[r].addr.family == family)
            (void)add_pair(p, idx, (int)r);
}

void punch_adopt_socket(struct punch *p, unsigned idx, enum addr_family family)
{
    assert(idx < PUNCH_MAX_SOCKETS);
    p->families[idx] = (uint8_t)family;
    p->adopted[idx] = true;
}

void punch_remove_socket(struct punch *p, unsigned idx)
{
    assert(idx < PUNCH_MAX_SOCKETS);
    p->families[idx] = ADDR_NONE;
    for (unsigned i = 0; i < p->pair_count; i++)
        if (p->pairs[i].sock == idx)
            p->pairs[i].proven = p->pairs[i].triggered = false;
}

static bool usable(const struct punch *p, const struct addr *a)
{
    switch (addr_scope_of(a)) {
    case ADDR_SCOPE_UNUSABLE:
        return false;
    case ADDR_SCOPE_LOOPBACK:
        return p->config.allow_loopback;
    case ADDR_SCOPE_LINK:
        return a->family == ADDR_V4 || a->scope != 0;
    case ADDR_SCOPE_PRIVATE:
    case ADDR_SCOPE_GLOBAL:
        return true;
    }
    return false;
}

/* Index of the new remote, or a negative error. */
static int new_remote(struct punch *p, enum cand_type type, const struct addr *a)
{
    unsigned same_ip = 0;
    if (!usable(p, a))
        return POSTERN_ERR_INVALID;
    for (unsigned i = 0; i < p->remote_count; i++)
        same_ip += addr_ip_equal(&p->remotes[i].addr, a);
    if (same_ip >= PUNCH_MAX_PER_IP || p->remote_count == PUNCH_MAX_REMOTES)
        return POSTERN_ERR_LIMIT;
    p->remotes[p->remote_count] = (struct punch_remote){.addr = *a, .type = type};
    return (int)p->remote_count++;
}

int punch_add_remote(struct punch *p, enum cand_type type, const struct addr *addr)
{
    if (find_remote(p, addr) >= 0)
        return 0;
    if (p->listed_count == PUNCH_MAX_LISTED)
        return POSTERN_ERR_LIMIT;
    int r = new_remote(p, type, addr);
    if (r < 0)
        return r;
    p->listed_count++;
    for (unsigned s = 0; s < PUNCH_MAX_SOCKETS; s++)
        if (p->families[s] == addr->family && !p->adopted[s])
            (void)add_pair(p, s, r);
    return 0;
}

/* --------------------------------------------------------------------- generations */

static void forget_remotes(struct punch *p)
{
    p->remote_count = p->listed_count = p->pair_count = 0;
    p->response_count = 0;
    p->remote_complete = p->fresh_pair = p->died = false;
    p->fates = (struct fates){0};
    memset(p->sent, 0, sizeof(p->sent));
}

static void begin(struct punch *p, uint64_t now_us, bool answers)
{
    uint64_t earliest = p->began_us + PUNCH_RESTART_MIN_US;
    if (!answers && now_us >= p->hold_us && p->began_us != 0 && now_us < earliest)
        p->hold_us = earliest; /* nothing was sent yet under a hold that still lasts */
    p->began_us = now_us > p->hold_us ? now_us : p->hold_us;
    p->give_up_us = p->began_us + PUNCH_GIVE_UP_US;
    p->state = PUNCH_CHECKING;
}

void punch_start(struct punch *p, uint64_t now_us)
{
    if (p->state == PUNCH_IDLE)
        begin(p, now_us, false);
}

void punch_restart(struct punch *p, uint64_t now_us)
{
    forget_remotes(p);
    memset(p->families, 0, sizeof(p->families));
    memset(p->adopted, 0, sizeof(p->adopted));
    p->config.generation++;
    p->awaits_peer = true;
    begin(p, now_us, false);
}

bool punch_on_peer_generation(struct punch *p, uint32_t generation, uint64_t now_us)
{
    if (generation <= p->peer_generation)
        return false;
    bool first = p->peer_generation == 0, answers = p->awaits_peer;
    p->peer_generation = generation;
    p->awaits_peer = false;
    if (first && (p->remote_count == 0 || p->seen_generation == generation))
        return true; /* checks may have come before it: it only got its name */
    forget_remotes(p);
    if (p->state != PUNCH_IDLE)
        begin(p, now_us, answers);
    return true;
}

/* ------------------------------------------------------------------------- arrival */

static void set_known(struct punch *p, unsigned sock, const struct addr *from)
{
    if (punch_known_remote(p, sock, from))
        return;
    if (p->known_count == PUNCH_MAX_KNOWN) {
        memmove(p->known, p->known + 1, sizeof(p->known) - sizeof(p->known[0]));
        p->known_count--;
    }
    p->known[p->known_count].sock = (uint8_t)sock;
    p->known[p->known_count++].addr = *from;
}

bool punch_known_remote(const struct punch *p, unsigned sock, const struct addr *from)
{
    for (unsigned i = 0; i < p->known_count; i++)
        if (p->known[i].sock == sock && addr_equal(&p->known[i].addr, from))
            return true;
    return false;
}

/* Takes note of an id of the peer's current generation; false when it was seen. */
static bool is_fresh(struct punch *p, uint32_t generation, uint64_t id)
{
    if (generation > p->seen_generation) {
        p->seen_generation = generation;
        p->seen_max = 0;
        memset(p->seen_bits, 0, sizeof(p->seen_bits));
    }
    id >>= 32; /* the part that counts */
    if (id == 0 || (p->seen_max >= SEEN_WINDOW && id <= p->seen_max - SEEN_WINDOW))
        return false; /* older than the window: cannot be told from a replay */
    for (uint64_t d = 1; id > p->seen_max && d <= SEEN_WINDOW; d++) {
        uint64_t i = (p->seen_max + d) % SEEN_WINDOW;
        p->seen_bits[i / 64] &= ~(1ull << i % 64);
        if (p->seen_max + d == id)
            break;
    }
    if (id > p->seen_max)
        p->seen_max = id;
    uint64_t bit = 1ull << id % 64;
    uint64_t *word = &p->seen_bits[id % SEEN_WINDOW / 64];
    bool fresh = (*word & bit) == 0;
    *word |= bit;
    return fresh;
}

static void queue_response(struct punch *p, unsigned sock, int remote,
                           const struct punch_check *c)
{
    if (p->response_count == PUNCH_MAX_RESPONSES)
        return; /* the peer asks again */
    p->responses[p->response_count].sock = (uint8_t)sock;
    p->responses[p->response_count].remote = (uint8_t)remote;
    p->responses[p->response_count].generation = c->generation;
    p->responses[p->response_count++].id = c->id;
}

/* A check arrived on an unproven pair: ours is sent at once (RFC 8445 section 7.3.1.4)
 */
static void trigger(struct punch *p, struct punch_pair *pair, uint64_t now_us)
{
    if (pair->proven)
        return;
    if (!pair->valid_inbound || p->state == PUNCH_FAILED)
        pair->triggered = true;
    else if (pair->due_us > now_us + PUNCH_RTO_MIN_US)
        pair->due_us = now_us + PUNCH_RTO_MIN_US;
}

static void on_request(struct punch *p, unsigned sock, const struct addr *from,
                       const struct punch_check *c, uint64_t now_us)
{
    if (c->generation < p->peer_generation || c->generation < p->seen_generation)
        return; /* of a network that the peer has left */
    bool fresh = is_fresh(p, c->generation, c->id);
    int r = find_remote(p, from);
    if (!fresh) {
        /* Duplicated or replayed: answered on the budget, believed never. */
        if (r >= 0 && p->remotes[r].replays < PUNCH_MAX_REPLAYS) {
            p->remotes[r].replays++;
            queue_response(p, sock, r, c);
        }
        return;
    }
    if (r < 0)
        r = new_remote(p, CAND_PEER, from);
    int i = r < 0 ? PUNCH_NO_PAIR : add_pair(p, sock, r);
    if (i == PUNCH_NO_PAIR)
        return;
    set_known(p, sock, from);
    queue_response(p, sock, r, c);
    trigger(p, &p->pairs[i], now_us);
    p->pairs[i].valid_inbound = true;
}

static void on_response(struct punch *p, unsigned sock, const struct addr *from,
                        const struct punch_check *c, uint64_t now_us)
{
    unsigned slot = (c->id >> 32) % PUNCH_TRANSACTIONS;
    if (c->generation != p->config.generation || c->id == 0 ||
        p->sent[slot].id != c->id)
        return;
    struct punch_pair *pair = &p->pairs[p->sent[slot].pair];
    if (pair->sock != sock || !addr_equal(&pair->remote, from))
        return; /* RFC 8445 section 7.2.5.2.1: not the way it went */
    uint64_t sent_us = p->sent[slot].sent_us;
    uint64_t sample = now_us > sent_us ? now_us - sent_us : 0;
    uint32_t rtt = sample > UINT32_MAX ? UINT32_MAX : (uint32_t)sample;
    p->sent[slot].id = 0;
    if (!pair->proven || rtt < pair->rtt_us) /* what waited in a queue says nothing */
        pair->rtt_us = rtt;
    pair->proven = true;
    pair->seen = c->seen;
    pair->answered_us = now_us;
    struct punch_remote *r = &p->remotes[pair->remote_idx];
    r->answered = true;
    r->requests = r->responses = r->replays = 0;
    set_known(p, sock, from);
    p->state = PUNCH_PROVEN;
}

bool punch_is_authentic(const struct punch *p, const uint8_t *buf, size_t len)
{
    struct punch_check c;
    return punch_check_decode(&c, p->config.key, buf, len) == 0 &&
           c.controlling != p->config.controlling;
}

int punch_on_packet(struct punch *p, unsigned sock, const struct addr *from,
                    const uint8_t *buf, size_t len, uint64_t now_us)
{
    struct punch_check c;
    if (sock >= PUNCH_MAX_SOCKETS || p->families[sock] != from->family ||
        punch_check_decode(&c, p->config.key, buf, len) != 0)
        return 0;
    if (c.controlling == p->config.controlling)
        return 0; /* our own, reflected */
    if (c.response)
        on_response(p, sock, from, &c, now_us);
    else
        on_request(p, sock, from, &c, now_us);
    return 1;
}

/* ------------------------------------------------------------------------- sending */

static bool may_answer(const struct punch *p, unsigned i, uint64_t now_us)
{
    const struct punch_remote *r = &p->remotes[p->responses[i].remote];
    return r->answered || (now_us >= p->hold_us && r->responses < PUNCH_MAX_ANSWERS);
}

static bool next_response(struct punch *p, uint64_t now_us, struct punch_packet *out)
{
    while (p->response_count > 0) {
        if (now_us < p->hold_us && !may_answer(p, 0, now_us))
            return false; /* waits with all that is held */
        bool go = may_answer(p, 0, now_us);
        struct punch_remote *r = &p->remotes[p->responses[0].remote];
        struct punch_check c = {.response = true,
                                .controlling = p->config.controlling,
                                .generation = p->responses[0].generation,
                                .id = p->responses[0].id,
                                .seen = r->addr};
        out->sock = p->responses[0].sock;
        out->to = r->addr;
        out->request = false;
        p->response_count--;
        memmove(p->responses, p->responses + 1,
                p->response_count * sizeof(p->responses[0]));
        if (!go)
            continue;
        if (!r->answered)
            r->responses++;
        out->len = punch_check_encode(&c, p->config.key, out->buf);
        return true;
    }
    return false;
}

/* Whether a request may ever go out on the pair as things stand. */
static bool may_ask(const struct punch *p, const struct punch_pair *pair)
{
    const struct punch_remote *r = &p->remotes[pair->remote_idx];
    if (p->state == PUNCH_IDLE || r->requests >= PUNCH_MAX_REQUESTS ||
        p->families[pair->sock] == ADDR_NONE) /* its socket is gone */
        return false;
    if (pair->triggered)
        return true;
    if (pair->proven || p->state == PUNCH_FAILED)
        return false;
    return p->state != PUNCH_PROVEN || pair->tries < PUNCH_MAX_TRIES_AFTER_PROOF;
}

static uint64_t ask_at_us(const struct punch_pair *pair)
{
    return pair->triggered || pair->tries == 0 ? 0 : pair->due_us;
}

/* Lower goes first among pairs never tried, and wins among equal round trips. */
static unsigned rank(const struct punch_pair *pair)
{
    static const uint8_t by_type[] = {
        [CAND_HOST] = 0,
        [CAND_PEER] = 1,
        [CAND_MAPPED] = 2,
        [CAND_REFLEXIVE] = 3,
    };
    unsigned type = (unsigned)pair->type;
    return (pair->remote.family == ADDR_V6 ? 0u : 8u) +
           (type < sizeof(by_type) ? by_type[type] : 7u);
}

/* The pair to ask next: triggered, then untried by rank, then the longest overdue. */
static struct punch_pair *pick_pair(struct punch *p, uint64_t now_us)
{
    struct punch_pair *best = NULL;
    uint64_t best_key = UINT64_MAX;
    for (unsigned i = 0; i < p->pair_count; i++) {
        struct punch_pair *pair = &p->pairs[i];
        if (!may_ask(p, pair) || ask_at_us(pair) > now_us)
            continue;
        uint64_t key = pair->triggered    ? 0
                       : pair->tries == 0 ? 1 + rank(pair)
                                          : 64 + pair->due_us;
        if (best == NULL || key < best_key) {
            best = pair;
            best_key = key;
        }
    }
    return best;
}

static uint64_t next_id(struct punch *p)
{
    uint64_t key[2] = {p->config.seed, ~p->config.seed}, count = p->next_count++;
    uint8_t hash[32];
    uint32_t guard;
    key_hash(hash, &count, sizeof(count), key, sizeof(key));
    memcpy(&guard, hash, sizeof(guard));
    return count << 32 | guard;
}

static void fill_request(struct punch *p, struct punch_pair *pair, uint64_t now_us,
                         struct punch_packet *out)
{
    struct punch_check c = {.controlling = p->config.controlling,
                            .generation = p->config.generation,
                            .id = next_id(p)};
    unsigned slot = (c.id >> 32) % PUNCH_TRANSACTIONS;
    p->sent[slot].id = c.id;
    p->sent[slot].sent_us = now_us;
    p->sent[slot].pair = (int)(pair - p->pairs);
    out->sock = pair->sock;
    out->to = pair->remote;
    out->request = true;
    out->len = punch_check_encode(&c, p->config.key, out->buf);
}

size_t punch_make_probe(struct punch *p, uint8_t buf[static PUNCH_PACKET_MAX])
{
    struct punch_check c = {.controlling = p->config.controlling,
                            .generation = p->config.generation,
                            .id = next_id(p)};
    return punch_check_encode(&c, p->config.key, buf);
}

static bool next_request(struct punch *p, uint64_t now_us, struct punch_packet *out)
{
    if (now_us < p->pace_us || now_us < p->hold_us)
        return false;
    struct punch_pair *pair = pick_pair(p, now_us);
    if (pair == NULL)
        return false;
    fill_request(p, pair, now_us, out);
    uint32_t rto = pair->rto_us;
    pair->due_us = now_us + rto - rto / 10 + rng_below(&p->rng, rto / 5 + 1);
    pair->rto_us = rto + rto / 2 > PUNCH_RTO_MAX_US ? PUNCH_RTO_MAX_US : rto + rto / 2;
    pair->triggered = false;
    if (pair->tries < UINT8_MAX)
        pair->tries++;
    p->remotes[pair->remote_idx].requests++;
    p->pace_us = now_us + PUNCH_PACE_US;
    return true;
}

static void pass_time(struct punch *p, uint64_t now_us)
{
    if (p->state == PUNCH_IDLE)
        return;
    if (p->fresh_pair) {
        p->fresh_pair = false;
        if (p->give_up_us < now_us + PUNCH_LATE_US)
            p->give_up_us = now_us + PUNCH_LATE_US;
        if (p->state == PUNCH_FAILED)
            p->state = PUNCH_CHECKING;
    }
    bool hopeless = p->pair_count == 0 && p->remote_count > 0 && p->remote_complete;
    if (p->state == PUNCH_CHECKING && (hopeless || now_us >= p->give_up_us))
        p->state = PUNCH_FAILED;
}

bool punch_next_packet(struct punch *p, uint64_t now_us, struct punch_packet *out)
{
    pass_time(p, now_us);
    return next_response(p, now_us, out) || next_request(p, now_us, out);
}

void punch_on_sent(struct punch *p, const struct punch_packet *pkt, enum fate fate)
{
    int r = find_remote(p, &pkt->to);
    if (!pkt->request)
        return;
    p->fates.of[fate]++;
    if (r >= 0 && fate == FATE_LEFT)
        p->remotes[r].asked = true;
}

uint64_t punch_deadline_us(const struct punch *p)
{
    uint64_t at = p->state == PUNCH_CHECKING ? p->give_up_us : UINT64_MAX;
    uint64_t gate = p->pace_us > p->hold_us ? p->pace_us : p->hold_us;
    if (p->response_count > 0 || (p->fresh_pair && p->state != PUNCH_IDLE)) {
        bool held = !p->fresh_pair && !p->remotes[p->responses[0].remote].answered;
        return held ? p->hold_us : 0;
    }
    for (unsigned i = 0; i < p->pair_count; i++) {
        if (!may_ask(p, &p->pairs[i]))
            continue;
        uint64_t due = ask_at_us(&p->pairs[i]);
        due = due > gate ? due : gate;
        at = due < at ? due : at;
    }
    return at;
}

int punch_probe(struct punch *p, int pair_idx, uint64_t now_us)
{
    (void)now_us;
    if (pair_idx < 0 || (unsigned)pair_idx >= p->pair_count)
        return POSTERN_ERR_INVALID;
    struct punch_pair *pair = &p->pairs[pair_idx];
    if (p->remotes[pair->remote_idx].requests >= PUNCH_MAX_REQUESTS)
        return POSTERN_ERR_LIMIT;
    pair->triggered = true;
    return 0;
}

void punch_on_dead(struct punch *p, int pair_idx)
{
    if (pair_idx < 0 || (unsigned)pair_idx >= p->pair_count ||
        !p->pairs[pair_idx].proven)
        return;
    p->pairs[pair_idx].proven = false;
    p->pairs[pair_idx].tries = UINT8_MAX; /* only a restart asks there again */
    p->died = true;
    if (punch_best_index(p) == PUNCH_NO_PAIR)
        p->state = PUNCH_FAILED;
}

/* ------------------------------------------------------------------------- results */

int punch_best_index(const struct punch *p)
{
    uint32_t fastest = UINT32_MAX;
    int best = PUNCH_NO_PAIR;
    for (unsigned i = 0; i < p->pair_count; i++)
        if (p->pairs[i].proven && p->pairs[i].rtt_us < fastest)
            fastest = p->pairs[i].rtt_us;
    uint64_t slack = fastest / 5 > RTT_SLACK_US ? fastest / 5 : RTT_SLACK_US;
    for (unsigned i = 0; i < p->pair_count; i++) {
        const struct punch_pair *pair = &p->pairs[i];
        if (!pair->proven || pair->rtt_us > fastest + slack)
            continue;
        if (best == PUNCH_NO_PAIR || rank(pair) < rank(&p->pairs[best]) ||
            (rank(pair) == rank(&p->pairs[best]) &&
             pair->rtt_us < p->pairs[best].rtt_us))
            best = (int)i;
    }
    return best;
}

const struct punch_pair *punch_pair_at(const struct punch *p, int idx)
{
    return idx < 0 || (unsigned)idx >= p->pair_count ? NULL : &p->pairs[idx];
}

bool punch_is_proven(const struct punch *p, unsigned sock, const struct addr *remote)
{
    const struct punch_pair *pair = punch_pair_at(p, punch_find_pair(p, sock, remote));
    return pair != NULL && pair->proven;
}

const struct punch_pair *punch_best(const struct punch *p)
{
    return punch_pair_at(p, punch_best_index(p));
}

/*
 * The meeting's phases, as the header draws them: which may follow which stands in one
 * table and is asserted. Then the steps of the plans, and what an Offer says of both.
 */
#include "core/meeting.h"

#include <stdio.h>
#include <string.h>

#include "core/privilege.h"
#include "core/state.h"

enum {
    PEER_WAIT_MS = 8000,    /* for the other side's addresses */
    CONNECT_DELAY_MS = 100, /* the opener's SYN or listener comes first */
    STEP_BASE_MS = 250,
    STEP_MAX_MS = 2000,
    SWEEP_MS = 2500,    /* the kernel sends each SYN again after a second */
    ANSWER_MS = 130,    /* an answer to a SYN that cannot be seen, and the next one */
    GREETING_MS = 1500, /* after the last step, and two round trips */
    LAST_ANSWERS_MS = 900, /* of UDP, after the last turn */
    SWEEP_HOPS = 2,
};

#define PLAN(...) __VA_ARGS__ /* NOLINT: the initialisers of a row */
#define ROW(kind, engine, name, delay_ms, flags, plan) [PATH_##kind] = {PLAN plan},

/* cppcheck-suppress syntaxError; it does not see PLAN in the rows */
static const struct meeting_plan plans[PATH_KIND_COUNT] = {PATH_KINDS(ROW)};

/* NOLINTNEXTLINE(bugprone-macro-parentheses): a term of a sum */
#define COUNTED(kind, engine, name, delay_ms, flags, plan) +1
_Static_assert(0 PATH_KINDS(COUNTED) - 2 <=
                   sizeof(((Offer *)NULL)->meets) / sizeof(((Offer *)NULL)->meets[0]),
               "an Offer has room for each plan: all kinds but udp-punch and relay");

#define FITS(constant, engine, name, delay_ms, flags, plan)                            \
    _Static_assert(sizeof(name) <= sizeof(((Meet *)NULL)->kind), "it is cut: " name);
PATH_KINDS(FITS)

const struct meeting_plan *meeting_plan_of(enum path_kind kind)
{
    return plans[kind].steps != 0 ? &plans[kind] : NULL;
}

/* -------------------------------------------------------------------------- phases */

#define TO(phase) (1u << MEETING_##phase)
#define ANEW(from) ((TO(IDLE) | TO(ASLEEP) | TO(GATHERING)) & ~TO(from))
// clang-format off
/* Row: from; bits: the phases that may follow. ANEW: a stop, or a new round. */
static const uint8_t phase_next[MEETING_PHASE_COUNT] = {
    [MEETING_IDLE]      = ANEW(IDLE) | TO(MET), /* the other side's try outlived ours */
    [MEETING_ASLEEP]    = ANEW(ASLEEP),
    [MEETING_GATHERING] = ANEW(GATHERING) | TO(PREPARING),
    [MEETING_PREPARING] = ANEW(PREPARING) | TO(WAITING),
    [MEETING_WAITING]   = ANEW(WAITING) | TO(MEETING),
    [MEETING_MEETING]   = ANEW(MEETING) | TO(LINGERING) | TO(MET),
    [MEETING_LINGERING] = ANEW(LINGERING) | TO(MEETING) | TO(MET),
    [MEETING_MET]       = ANEW(MET),
};
// clang-format on

static void set_phase(struct meeting *m, enum meeting_phase to, uint64_t wait_ms)
{
    STATE_GO(phase_next, m->phase, to);
    m->due_ms = wait_ms == UINT64_MAX ? UINT64_MAX : m->now_ms + wait_ms;
}

static void want(struct meeting *m, enum meeting_action_type type)
{
    m->todo |= 1u << type;
}

/* What was about to be done for this round is not done any more; what is to be told of
 * it is. */
static void end_round(struct meeting *m, enum meeting_phase to)
{
    set_phase(m, to, UINT64_MAX);
    m->todo &= 1u << MEETING_TELL;
    want(m, MEETING_END);
}

static void say(struct meeting *m, const char *words)
{
    if (words != m->words)
        words_cut(m->words, sizeof(m->words),
                  snprintf(m->words, sizeof(m->words), "%s", words));
}

void meeting_init(struct meeting *m, enum path_kind kind, bool client,
                  unsigned window_ms)
{
    *m = (struct meeting){.plan = meeting_plan_of(kind),
                          .kind = kind,
                          .client = client,
                          .udp = (PATH_KINDS_UDP >> kind & 1) != 0,
                          .window_ms = window_ms,
                          .due_ms = UINT64_MAX};
}

void meeting_at(struct meeting *m, uint64_t now_ms, uint32_t rtt_ms)
{
    m->now_ms = now_ms;
    m->rtt_ms = rtt_ms;
}

/* `told_ms`: what the client said, 0 on its side. */
static void set_step(struct meeting *m, unsigned told_ms)
{
    unsigned ms = m->plan->step_ms;
    if (!m->udp && m->plan->steps > 1) {
        ms = told_ms != 0 ? told_ms : STEP_BASE_MS + 2 * m->rtt_ms;
        ms = ms < STEP_MAX_MS ? ms : STEP_MAX_MS;
    }
    m->step_ms = ms > m->plan->step_ms ? ms : m->plan->step_ms;
}

static void begin_round(struct meeting *m)
{
    end_round(m, MEETING_GATHERING);
    want(m, MEETING_GATHER);
    m->own = (struct meeting_side){0};
    m->refused = false;
    m->stranger = (struct addr){0};
    m->fates = (struct fates){0};
    memset(m->left, 0, sizeof(m->left));
    m->rejected = m->swept = 0;
    m->words[0] = '\0';
}

void meeting_start(struct meeting *m, bool uplink_is_up)
{
    m->round++;
    m->peer_count = 0;
    end_round(m, MEETING_ASLEEP);
    if (uplink_is_up)
        meeting_on_uplink(m);
}

void meeting_on_uplink(struct meeting *m)
{
    if (m->phase != MEETING_ASLEEP)
        return;
    set_step(m, 0);
    begin_round(m);
}

void meeting_stop(struct meeting *m)
{
    end_round(m, MEETING_IDLE);
}

void meeting_fail(struct meeting *m, const char *words)
{
    say(m, words);
    end_round(m, MEETING_IDLE);
    want(m, MEETING_FAILED);
}

void meeting_regret(struct meeting *m, const char *words)
{
    say(m, words);
    m->refused = true;
}

void meeting_refuse(struct meeting *m, const char *words)
{
    meeting_regret(m, words);
    meeting_fail(m, m->words);
    if (!m->client)
        want(m, MEETING_TELL);
}

void meeting_gathered(struct meeting *m, const struct meeting_side *own)
{
    if (m->phase != MEETING_GATHERING)
        return;
    m->own = *own;
    set_phase(m, MEETING_PREPARING, UINT64_MAX);
    want(m, MEETING_PREPARE);
}

/* The steps begin, or begin anew. */
static void meet(struct meeting *m)
{
    bool first = m->udp || meeting_opens(m);
    m->step = 0;
    set_phase(m, MEETING_MEETING, first ? 0 : CONNECT_DELAY_MS + m->rtt_ms / 2);
}

/* Both sides know each other's addresses, the one about half a round trip later. */
static void meet_if_told(struct meeting *m)
{
    if (m->phase == MEETING_WAITING && m->peer_round == m->round && m->peer_count > 0)
        meet(m);
}

void meeting_ready(struct meeting *m)
{
    if (m->phase != MEETING_PREPARING)
        return;
    set_phase(m, MEETING_WAITING, PEER_WAIT_MS);
    want(m, MEETING_TELL);
    meet_if_told(m);
}

void meeting_found(struct meeting *m)
{
    if (m->phase != MEETING_WAITING)
        return;
    want(m, MEETING_TELL);
    meet(m); /* the host's checks come */
}

bool meeting_awaits_path(const struct meeting *m)
{
    return (phase_next[m->phase] >> MEETING_MET & 1) != 0;
}

void meeting_on_path(struct meeting *m)
{
    if (!meeting_awaits_path(m))
        return;
    if (m->client) { /* it chooses: the first is the one */
        end_round(m, MEETING_MET);
        return;
    }
    set_phase(m, MEETING_MET, GREETING_MS + 2 * m->rtt_ms);
    want(m, MEETING_LAST);
}

/* Perhaps it was the other side, by an address that it did not know of. */
static void stranger_words(struct meeting *m)
{
    char from[ADDR_TEXT_LEN];
    (void)snprintf(m->words, sizeof(m->words),
                   "the temporary port was closed when %s touched it, an address that "
                   "the other side had not named",
                   addr_format_ip(&m->stranger, from));
}

/* "7 tries to 2 addresses" */
static const char *tried_words(const struct meeting *m, char *buf, size_t cap)
{
    unsigned left = m->fates.of[FATE_LEFT], to = 0;
    const char *what = m->udp ? "packet" : m->plan->listens ? "connection" : "try";
    const char *many = m->udp ? "packets" : m->plan->listens ? "connections" : "tries";
    for (size_t i = 0; i < m->peer_count; i++)
        to += m->left[i];
    (void)snprintf(buf, cap, "%u %s to %u %s%s", left, left == 1 ? what : many, to,
                   to == 1 ? "address" : "addresses", fates_passed_over(&m->fates));
    return buf;
}

static void unanswered_words(struct meeting *m)
{
    char tried[128], more[80] = "";
    size_t n = 0;
    (void)tried_words(m, tried, sizeof(tried));
    if (m->rejected > 0)
        n = (size_t)snprintf(more, sizeof(more), ", of which %u were refused",
                             m->rejected);
    if (m->swept > 0)
        (void)snprintf(more + n, sizeof(more) - n, ", and %u to ports of a guess",
                       m->swept);
    if (m->fates.of[FATE_LEFT] == 0)
        (void)snprintf(m->words, sizeof(m->words), "nothing of the other side came%s",
                       m->plan->knocks    ? ": no knock"
                       : m->plan->listens ? " while the port was open"
                                          : "");
    else
        (void)snprintf(m->words, sizeof(m->words), "%s%s%s",
                       m->udp ? "no answer to " : "no connection came through: ", tried,
                       more);
}

static void fail_at_last(struct meeting *m)
{
    const char *unsent = fates_unsent(&m->fates);
    if (m->stranger.family != ADDR_NONE)
        stranger_words(m);
    else if (unsent != NULL)
        say(m, unsent);
    else
        unanswered_words(m);
    meeting_fail(m, m->words);
}

void meeting_over(struct meeting *m)
{
    if (m->phase == MEETING_MET)
        end_round(m, MEETING_MET);
    else if (m->phase == MEETING_LINGERING)
        fail_at_last(m);
}

/* --------------------------------------------------------------------------- steps */

bool meeting_opens(const struct meeting *m)
{
    if (m->plan->predicts && m->own.symmetric != m->peer.symmetric)
        return m->peer.symmetric;
    return m->client != m->plan->host_opens;
}

bool meeting_arranges(const struct meeting *m)
{
    return m->plan->predicts && m->own.sequence != 0 && m->peer.sequence != 0 &&
           !m->own.symmetric && !m->peer.symmetric;
}

static bool is_arranged(unsigned hops)
{
    return hops == MEETING_HOPS_ARRANGED || hops == MEETING_HOPS_BACK;
}

static bool sweeps_both(const struct meeting *m)
{
    return m->plan->predicts && m->own.symmetric && m->peer.symmetric && m->own.low &&
           m->peer.low;
}

/* The answering side's SYN comes first, also where it is the side that begins later. */
static void arranged_move(const struct meeting *m, struct meeting_step *s)
{
    bool answers = meeting_opens(m) == (s->hops == MEETING_HOPS_ARRANGED);
    s->move = answers ? MEETING_ANSWER : MEETING_CALL;
    if (answers)
        s->answer_ms = ANSWER_MS;
    else if (s->hops == MEETING_HOPS_BACK)
        s->answer_ms = 2 * CONNECT_DELAY_MS + m->rtt_ms;
}

struct meeting_step meeting_step_now(const struct meeting *m)
{
    struct meeting_step s = {.number = m->step};
    if (m->step == 0) {
        s.move = MEETING_KEEP_STEP;
        return s;
    }
    if (m->udp) {
        s.move = MEETING_CHECK;
        return s;
    }
    s.hops = m->plan->hops[m->step - 1];
    if (sweeps_both(m)) {
        s.move = MEETING_SWEEP;
        /* NATs that answer RST end what comes too early: in each second round the SYNs
         * die on the way, and those that the kernel repeats after a second meet. */
        s.hops = m->round % 2 == 0 ? SWEEP_HOPS : 0;
    } else if (is_arranged(s.hops)) {
        arranged_move(m, &s);
    } else if (!meeting_opens(m)) {
        s.move = MEETING_CONNECT;
        s.hops = 0;
    } else if (m->plan->knocks) {
        s.move = MEETING_AWAIT;
    } else {
        s.move = MEETING_OPEN;
        s.sweeps = m->plan->predicts && m->peer.low && s.hops > 0;
    }
    return s;
}

static void linger(struct meeting *m)
{
    set_phase(m, MEETING_LINGERING,
              m->udp ? LAST_ANSWERS_MS : GREETING_MS + 2 * m->rtt_ms);
    want(m, MEETING_LAST);
}

/* What cannot be arranged takes no time: the other side passes over it as well. */
static void next_step(struct meeting *m)
{
    m->step++;
    if (sweeps_both(m))
        m->step = m->step > 1 ? m->plan->steps + 1 : m->step;
    else
        while (!m->udp && m->step <= m->plan->steps &&
               is_arranged(m->plan->hops[m->step - 1]) && !meeting_arranges(m))
            m->step++;
    if (m->step > m->plan->steps) {
        m->step = m->plan->steps;
        linger(m);
        return;
    }
    bool window = m->plan->listens && !m->plan->lasts && m->window_ms != 0;
    m->due_ms = m->now_ms + (sweeps_both(m) ? SWEEP_MS
                             : window       ? m->window_ms
                                            : m->step_ms);
    want(m, MEETING_STEP);
}

static void on_due(struct meeting *m)
{
    switch (m->phase) {
    case MEETING_WAITING:
        meeting_fail(m, m->udp ? "the other side told no address"
                               : "the other side told no TCP address");
        break;
    case MEETING_MEETING:
        next_step(m);
        break;
    default:
        meeting_over(m);
        break;
    }
}

bool meeting_next(struct meeting *m, enum meeting_action_type *out)
{
    if (m->todo == 0 && m->now_ms >= m->due_ms)
        on_due(m);
    for (unsigned i = 0; i < MEETING_ACTION_COUNT; i++) {
        if (m->todo >> i & 1) {
            m->todo &= ~(1u << i);
            *out = (enum meeting_action_type)i;
            return true;
        }
    }
    return false;
}

bool meeting_rests(const struct meeting *m)
{
    return (m->phase == MEETING_IDLE || m->phase == MEETING_MET) &&
           m->due_ms == UINT64_MAX;
}

uint64_t meeting_due_ms(const struct meeting *m)
{
    return m->due_ms;
}

const char *meeting_words(const struct meeting *m)
{
    return m->words;
}

/* --------------------------------------------------------------------------- peers */

bool meeting_try(struct meeting *m, size_t i)
{
    if (m->tries[i] >= (m->udp ? MEETING_TURNS : MEETING_TRIES_MAX))
        return false;
    m->tries[i]++;
    return true;
}

void meeting_sent(struct meeting *m, size_t i, enum fate fate)
{
    m->fates.of[fate]++;
    m->left[i] = m->left[i] || fate == FATE_LEFT;
}

void meeting_on_rejected(struct meeting *m)
{
    m->rejected++;
}

bool meeting_add_peer(struct meeting *m, const struct addr *a)
{
    for (size_t i = 0; i < m->peer_count; i++)
        if (addr_equal(&m->peers[i], a))
            return false;
    if (m->peer_count == MEETING_PEERS_MAX)
        return false;
    m->tries[m->peer_count] = 0;
    m->left[m->peer_count] = false;
    m->peers[m->peer_count++] = *a;
    return true;
}

bool meeting_on_knock(struct meeting *m, const struct addr *from)
{
    if (m->phase != MEETING_MEETING && m->phase != MEETING_WAITING)
        return false;
    bool known = m->peer_count == 1 && addr_equal(&m->peers[0], from);
    if (!known) {
        m->peer_count = 0;
        (void)meeting_add_peer(m, from);
    }
    meet_if_told(m);
    return true;
}

void meeting_on_stranger(struct meeting *m, const struct addr *from)
{
    m->stranger = *from;
}

/* ---------------------------------------------------------------------- Offers out */

bool meeting_tells(const struct meeting *m)
{
    return m->phase == MEETING_WAITING || m->phase == MEETING_MEETING ||
           m->phase == MEETING_LINGERING;
}

static void fill_addresses(const struct meeting *m, const struct meeting_address *own,
                           size_t n, Meet *out)
{
    const size_t room = sizeof(out->candidates) / sizeof(out->candidates[0]);
    for (size_t i = 0; i < n && i < room; i++) {
        Candidate *c = &out->candidates[out->candidates_count++];
        if (m->udp)
            c->type = own[i].shown ? CAND_REFLEXIVE : CAND_HOST;
        c->port = own[i].addr.port;
        c->ip.size = (pb_size_t)addr_ip_len(&own[i].addr);
        memcpy(c->ip.bytes, own[i].addr.ip, c->ip.size);
    }
}

void meeting_fill(const struct meeting *m, const struct meeting_address *own, size_t n,
                  Offer *o)
{
    const pb_size_t max = sizeof(o->meets) / sizeof(o->meets[0]);
    bool refuses = m->refused && !m->client;
    if ((!meeting_tells(m) && !refuses) || o->meets_count == max)
        return;
    Meet *out = &o->meets[o->meets_count++];
    (void)snprintf(out->kind, sizeof(out->kind), "%s", path_kind_name(m->kind));
    if (refuses)
        words_cut(out->refused, sizeof(out->refused),
                  snprintf(out->refused, sizeof(out->refused), "%s", m->words));
    out->round = m->round;
    if (!meeting_tells(m))
        return;
    out->symmetric = m->own.symmetric;
    out->low = m->own.low;
    out->sequence = m->own.sequence;
    out->ways = m->own.ways;
    out->step_ms = m->udp ? 0 : m->step_ms;
    if (m->udp && m->plan->knocks && !m->client) {
        out->knock.size = sizeof(m->knock);
        memcpy(out->knock.bytes, m->knock, sizeof(m->knock));
    }
    fill_addresses(m, own, n, out);
}

/* ----------------------------------------------------------------------- Offers in */

/* Only addresses that somebody may be asked to send to. */
static void take_addresses(struct meeting *m, const Meet *in,
                           bool (*fits)(void *ctx, const struct addr *a), void *ctx)
{
    for (pb_size_t i = 0; i < in->candidates_count; i++) {
        const Candidate *c = &in->candidates[i];
        struct addr a;
        if (addr_from_bytes(&a, c->ip.bytes, c->ip.size, c->port) != 0)
            continue;
        enum addr_scope scope = addr_scope_of(&a);
        bool shown = m->udp && c->type == CAND_REFLEXIVE;
        if (scope == ADDR_SCOPE_LINK || scope == ADDR_SCOPE_UNUSABLE ||
            (m->udp && scope == ADDR_SCOPE_LOOPBACK))
            continue;
        if (!shown && fits(ctx, &a))
            (void)meeting_add_peer(m, &a);
        else if (a.family == ADDR_V4 && m->peer_seen.family == ADDR_NONE)
            m->peer_seen = a;
    }
}

static void new_peer(struct meeting *m, const Meet *in,
                     bool (*fits)(void *ctx, const struct addr *a), void *ctx)
{
    m->peer_round = in->round;
    m->peer = (struct meeting_side){.symmetric = in->symmetric,
                                    .low = in->symmetric && in->low,
                                    .sequence = in->sequence,
                                    .ways = in->ways & TCP_WAYS_ALL};
    if ((m->peer.ways & TCP_WAYS_SCALE_MASK) > TCP_WAYS_SCALE_MAX)
        m->peer.ways = 0;
    m->peer_count = 0;
    m->peer_seen = (struct addr){0};
    take_addresses(m, in, fits, ctx);
}

static void host_cannot(struct meeting *m, const Meet *in)
{
    words_cut(m->words, sizeof(m->words),
              snprintf(m->words, sizeof(m->words), "the host cannot: %s", in->refused));
    meeting_fail(m, m->words);
}

static void hear_host(struct meeting *m, const Meet *in,
                      bool (*fits)(void *ctx, const struct addr *a), void *ctx)
{
    if (in->round != m->round)
        return;
    if (m->peer_round == m->round) {
        if (in->refused[0] != '\0' && m->phase == MEETING_MEETING && !m->plan->maps)
            host_cannot(m, in); /* any more: the filter for our knock is gone */
        return;
    }
    new_peer(m, in, fits, ctx);
    if (in->knock.size == sizeof(m->knock))
        memcpy(m->knock, in->knock.bytes, sizeof(m->knock));
    if (m->peer_count > 0) {
        meet_if_told(m);
    } else if (m->udp && m->plan->maps && m->phase == MEETING_WAITING) {
        say(m, in->refused[0] != '\0' ? in->refused : "no reason was given");
        want(m, MEETING_ALONE);
    } else if (in->refused[0] != '\0') {
        host_cannot(m, in);
    }
}

static void hear_client(struct meeting *m, const Meet *in,
                        bool (*fits)(void *ctx, const struct addr *a), void *ctx)
{
    size_t before = m->peer_count;
    if (in->round > m->round) {
        m->round = in->round;
        new_peer(m, in, fits, ctx);
        set_step(m, in->step_ms);
        begin_round(m);
    } else if (in->round == m->round && m->udp && !m->plan->knocks) {
        take_addresses(m, in, fits, ctx); /* some come late */
        if (m->peer_count == before)
            return;
        if (m->phase == MEETING_MEETING || m->phase == MEETING_LINGERING)
            meet(m); /* at most MEETING_PEERS_MAX times */
        else
            meet_if_told(m);
    }
}

void meeting_on_offer(struct meeting *m, const Offer *o,
                      bool (*fits)(void *ctx, const struct addr *a), void *ctx)
{
    for (pb_size_t i = 0; i < o->meets_count; i++) {
        if (strcmp(o->meets[i].kind, path_kind_name(m->kind)) != 0)
            continue;
        if (m->client)
            hear_host(m, &o->meets[i], fits, ctx);
        else
            hear_client(m, &o->meets[i], fits, ctx);
        return;
    }
}

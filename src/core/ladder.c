/*
 * The ladder's rungs and the choice among proven paths. Which state may follow which
 * stands in one table and is asserted; what a kind does stands in path/.
 */
#include "core/ladder.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "core/state.h"

enum { SWITCH_GAIN_US = 2000 };

// clang-format off
/* Row: from; bits: the states that may follow. */
static const uint8_t rung_next[RUNG_STATE_COUNT] = {
    [RUNG_OFF]      = 1u << RUNG_WAITING,
    [RUNG_WAITING]  = 1u << RUNG_STARTING | 1u << RUNG_UP | 1u << RUNG_OFF,
    [RUNG_STARTING] = 1u << RUNG_TRYING | 1u << RUNG_UP | 1u << RUNG_WAITING |
                      1u << RUNG_OFF,
    [RUNG_TRYING]   = 1u << RUNG_STARTING | 1u << RUNG_UP | 1u << RUNG_WAITING |
                      1u << RUNG_OFF,
    [RUNG_UP]       = 1u << RUNG_WAITING | 1u << RUNG_OFF,
};
// clang-format on

static void set_state(struct ladder *l, enum path_kind kind, enum ladder_rung_state to,
                      uint64_t now_us)
{
    struct ladder_rung *r = &l->rungs[kind];
    if (r->state == to)
        return;
    STATE_GO(rung_next, r->state, to);
    r->since_us = now_us;
}

static void set_reason(struct ladder_rung *r, const char *reason)
{
    const char *words =
        reason != NULL && *reason != '\0' ? reason : "no reason was given";
    words_cut(r->reason, sizeof(r->reason),
              snprintf(r->reason, sizeof(r->reason), "%s", words));
}

/* A waiting kind starts at `at_us`, and not later than `bare_us` if no path stands. */
static void start_at(struct ladder_rung *r, uint64_t at_us)
{
    r->at_us = r->bare_us = at_us;
}

void ladder_init(struct ladder *l, uint32_t allowed_mask, uint64_t seed,
                 uint64_t now_us)
{
    memset(l, 0, sizeof(*l));
    l->rng = seed;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        struct ladder_rung *r = &l->rungs[k];
        bool allowed = (allowed_mask >> k & 1) != 0;
        r->state = allowed ? RUNG_WAITING : RUNG_OFF;
        r->since_us = now_us;
        start_at(r, now_us + path_kind_delay_us((enum path_kind)k));
        r->allowed = allowed;
        bool optional = (PATH_KINDS_OPTIONAL >> k & 1) != 0;
        set_reason(r, allowed    ? "not tried yet"
                      : optional ? "off unless both sides switch it on"
                                 : "not allowed: --paths");
    }
}

/* --------------------------------------------------------------------------- paths */

static struct ladder_path *find_path(const struct ladder *l, uint32_t id)
{
    for (unsigned i = 0; id != LADDER_NO_PATH && i < LADDER_MAX_PATHS; i++)
        if (l->paths[i].id == id)
            return (struct ladder_path *)&l->paths[i];
    return NULL;
}

static unsigned count_paths(const struct ladder *l, enum path_kind kind)
{
    unsigned n = 0;
    for (unsigned i = 0; i < LADDER_MAX_PATHS; i++)
        n += l->paths[i].id != LADDER_NO_PATH && l->paths[i].kind == kind;
    return n;
}

static void forget_paths(struct ladder *l, enum path_kind kind)
{
    for (unsigned i = 0; i < LADDER_MAX_PATHS; i++)
        if (l->paths[i].kind == kind)
            l->paths[i] = (struct ladder_path){0};
}

/* What the window lets through; UINT64_MAX: whatever the network does. */
static uint64_t bound_bit_s(const struct ladder_path *p)
{
    if (p->window_bytes == 0 || p->rtt_us == 0)
        return UINT64_MAX;
    return p->window_bytes * 8ull * 1000000 / p->rtt_us;
}

static void judge(struct ladder_path *p)
{
    uint64_t limit = LADDER_NARROW_BIT_S;
    if (p->narrow) /* a path at the limit does not move the session to and fro */
        limit += limit / 2;
    p->narrow = bound_bit_s(p) < limit;
}

static void add_sample(struct ladder_path *p, uint32_t rtt_us)
{
    if (rtt_us == 0)
        return;
    p->samples[p->sample_count++ % LADDER_SAMPLES] = rtt_us;
    p->rtt_us = rtt_us;
    for (unsigned i = 0; i < LADDER_SAMPLES && i < p->sample_count; i++)
        if (p->samples[i] < p->rtt_us)
            p->rtt_us = p->samples[i];
    judge(p);
}

/* For an order: what is not known comes last. */
static uint32_t rtt_or_max(const struct ladder_path *p)
{
    return p->rtt_us != 0 ? p->rtt_us : UINT32_MAX;
}

static bool is_slow(const struct ladder *l, const struct ladder_path *p)
{
    bool suspect = l->outdone && path_kind_is_direct(p->kind);
    return !l->rungs[p->kind].cleared && (p->narrow || suspect);
}

/* The higher the better, whatever the round trips. */
static int class_of(const struct ladder *l, const struct ladder_path *p)
{
    return (is_slow(l, p) ? 0 : 2) + (path_kind_is_direct(p->kind) ? 1 : 0);
}

/* A free slot, or that of the slowest path not selected. */
static struct ladder_path *take_slot(struct ladder *l)
{
    struct ladder_path *slowest = NULL;
    for (unsigned i = 0; i < LADDER_MAX_PATHS; i++) {
        struct ladder_path *p = &l->paths[i];
        if (p->id == LADDER_NO_PATH)
            return p;
        if (p->id != l->selected &&
            (slowest == NULL || rtt_or_max(p) > rtt_or_max(slowest)))
            slowest = p;
    }
    return slowest;
}

/* Whether `a` is to be preferred with nothing selected. */
static bool better(const struct ladder *l, const struct ladder_path *a,
                   const struct ladder_path *b)
{
    if (class_of(l, a) != class_of(l, b))
        return class_of(l, a) > class_of(l, b);
    if (a->rtt_us != b->rtt_us)
        return rtt_or_max(a) < rtt_or_max(b);
    return a->kind != b->kind ? a->kind < b->kind : a->id < b->id;
}

/* Whether `a` is so much better that the session leaves `selected` for it. */
static bool worth_switching(const struct ladder *l, const struct ladder_path *a,
                            const struct ladder_path *selected)
{
    if (class_of(l, a) != class_of(l, selected))
        return class_of(l, a) > class_of(l, selected);
    if (a->sample_count < LADDER_SAMPLES_MIN ||
        selected->sample_count < LADDER_SAMPLES_MIN)
        return false;
    uint64_t gain = selected->rtt_us > a->rtt_us ? selected->rtt_us - a->rtt_us : 0;
    return gain >= SWITCH_GAIN_US && gain * 5 >= selected->rtt_us && gain >= l->late_us;
}

static const struct ladder_path *choose(const struct ladder *l)
{
    const struct ladder_path *selected = find_path(l, l->selected), *best = NULL;
    for (unsigned i = 0; i < LADDER_MAX_PATHS; i++) {
        const struct ladder_path *p = &l->paths[i];
        if (p->id == LADDER_NO_PATH || (best != NULL && !better(l, p, best)))
            continue;
        if (selected == NULL || p == selected || worth_switching(l, p, selected))
            best = p;
    }
    return best;
}

/* One that leaves nothing to be wished for. */
static bool direct_selected(const struct ladder *l)
{
    const struct ladder_path *p = find_path(l, l->selected);
    return p != NULL && path_kind_is_direct(p->kind) && !is_slow(l, p);
}

/* ------------------------------------------------------------------------- reports */

/* The pause doubles with each failure in a row: 2 s, 4 s, ... 5 min, and jitter. */
static void pause_until(struct ladder *l, enum path_kind kind, uint64_t now_us)
{
    struct ladder_rung *r = &l->rungs[kind];
    bool direct = path_kind_is_direct(kind);
    uint64_t max = direct ? LADDER_RETRY_MAX_US : LADDER_RELAY_RETRY_MAX_US;
    uint64_t pause = direct ? LADDER_RETRY_MIN_US : LADDER_RELAY_RETRY_MIN_US;
    for (unsigned i = 1; i < r->failures && pause < max; i++)
        pause *= 2;
    pause = pause < max ? pause : max;
    uint64_t bare = pause < LADDER_BARE_RETRY_MAX_US ? pause : LADDER_BARE_RETRY_MAX_US;
    uint64_t jitter = rng_below(&l->rng, pause / 4);
    r->at_us = now_us + pause + jitter;
    r->bare_us = now_us + bare + jitter % (bare / 4);
}

static void wait_to_retry(struct ladder *l, enum path_kind kind, const char *reason,
                          uint64_t now_us)
{
    struct ladder_rung *r = &l->rungs[kind];
    if (r->failures < 64)
        r->failures++;
    pause_until(l, kind, now_us);
    r->start_again = false;
    set_reason(r, reason);
    set_state(l, kind, RUNG_WAITING, now_us);
}

void ladder_refuse(struct ladder *l, enum path_kind kind, const char *reason)
{
    struct ladder_rung *r = &l->rungs[kind];
    if (r->state != RUNG_WAITING && r->state != RUNG_OFF)
        r->stop = true;
    r->start_again = false;
    set_reason(r, reason);
    forget_paths(l, kind);
    set_state(l, kind, RUNG_OFF, r->since_us);
}

void ladder_set_late(struct ladder *l, uint64_t late_us)
{
    l->late_us = late_us;
}

void ladder_prefer(struct ladder *l, enum path_kind kind)
{
    if (kind < PATH_KIND_COUNT && l->rungs[kind].state == RUNG_WAITING)
        start_at(&l->rungs[kind], l->rungs[kind].since_us);
}

void ladder_permit(struct ladder *l, enum path_kind kind, uint64_t now_us)
{
    struct ladder_rung *r = &l->rungs[kind];
    if (r->state != RUNG_OFF)
        return;
    r->failures = 0;
    start_at(r, now_us);
    set_reason(r, "not tried yet");
    set_state(l, kind, RUNG_WAITING, now_us);
}

void ladder_on_started(struct ladder *l, enum path_kind kind, uint64_t now_us)
{
    if (l->rungs[kind].state == RUNG_STARTING)
        set_state(l, kind, RUNG_TRYING, now_us);
}

void ladder_on_proven(struct ladder *l, enum path_kind kind, uint32_t path_id,
                      uint32_t rtt_us, uint64_t now_us)
{
    struct ladder_path *p = find_path(l, path_id);
    assert(path_id != LADDER_NO_PATH);
    if (l->rungs[kind].state == RUNG_OFF)
        return;
    if (p != NULL) {
        add_sample(p, rtt_us);
        return;
    }
    p = take_slot(l);
    *p = (struct ladder_path){.id = path_id, .kind = kind, .proven_us = now_us};
    add_sample(p, rtt_us);
    set_state(l, kind, RUNG_UP, now_us);
}

void ladder_on_failed(struct ladder *l, enum path_kind kind, const char *reason,
                      uint64_t now_us)
{
    enum ladder_rung_state state = l->rungs[kind].state;
    if (state == RUNG_STARTING || state == RUNG_TRYING)
        wait_to_retry(l, kind, reason, now_us);
}

void ladder_on_busy(struct ladder *l, enum path_kind kind, const char *reason,
                    uint64_t wait_us, uint64_t now_us)
{
    struct ladder_rung *r = &l->rungs[kind];
    unsigned failures = r->failures;
    if (r->state != RUNG_STARTING && r->state != RUNG_TRYING)
        return;
    wait_to_retry(l, kind, reason, now_us);
    r->failures = failures > 0 ? failures : 1;
    r->at_us = now_us + wait_us + rng_below(&l->rng, wait_us / 4 + 1);
}

void ladder_on_lost(struct ladder *l, uint32_t path_id, const char *reason,
                    uint64_t now_us)
{
    struct ladder_path *p = find_path(l, path_id);
    if (p == NULL)
        return;
    enum path_kind kind = p->kind;
    struct ladder_rung *r = &l->rungs[kind];
    bool stable = now_us - p->proven_us >= LADDER_STABLE_US;
    *p = (struct ladder_path){0};
    if (count_paths(l, kind) > 0 || r->state != RUNG_UP)
        return;
    if (!stable) {
        wait_to_retry(l, kind, reason, now_us);
        return;
    }
    r->failures = 0;
    start_at(r, now_us); /* it worked for long: begin anew at once */
    set_reason(r, reason);
    set_state(l, kind, RUNG_WAITING, now_us);
}

void ladder_on_rtt(struct ladder *l, uint32_t path_id, uint32_t rtt_us)
{
    struct ladder_path *p = find_path(l, path_id);
    if (p != NULL)
        add_sample(p, rtt_us);
}

void ladder_on_window(struct ladder *l, uint32_t path_id, uint32_t window_bytes)
{
    struct ladder_path *p = find_path(l, path_id);
    if (p == NULL)
        return;
    p->window_bytes = window_bytes;
    judge(p);
}

static bool is_rival(const struct ladder *l, const struct ladder_path *p, uint32_t skip)
{
    const struct ladder_path *selected = find_path(l, l->selected);
    if (p->id == LADDER_NO_PATH || selected == NULL || p->kind == selected->kind ||
        (skip >> p->kind & 1) != 0)
        return false;
    if (!path_kind_is_direct(p->kind))
        return true;
    return path_kind_is_direct(selected->kind)
               ? !is_slow(l, p)
               : !p->narrow && l->rungs[p->kind].carried_bit_s == 0;
}

uint32_t ladder_rival(const struct ladder *l, uint32_t skip)
{
    const struct ladder_path *best = NULL;
    for (unsigned i = 0; i < LADDER_MAX_PATHS; i++) {
        const struct ladder_path *p = &l->paths[i];
        if (!is_rival(l, p, skip))
            continue;
        bool relay = !path_kind_is_direct(p->kind);
        bool best_relay = best != NULL && !path_kind_is_direct(best->kind);
        if (best == NULL || (relay && !best_relay) ||
            (relay == best_relay && better(l, p, best)))
            best = p;
    }
    return best != NULL ? best->id : LADDER_NO_PATH;
}

void ladder_on_outdone(struct ladder *l, enum path_kind kind, uint64_t own_bit_s,
                       enum path_kind rival, uint64_t rival_bit_s)
{
    struct ladder_rung *r = &l->rungs[kind];
    l->outdone = true;
    r->carried_bit_s = own_bit_s > 0 ? own_bit_s : 1;
    r->rival_bit_s = rival_bit_s;
    r->rival = rival;
    r->cleared = false;
    l->rungs[rival].cleared = true;
}

void ladder_on_cleared(struct ladder *l, enum path_kind kind)
{
    l->rungs[kind].cleared = true;
}

void ladder_forgive(struct ladder *l)
{
    l->outdone = false;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        l->rungs[k].carried_bit_s = 0;
        l->rungs[k].cleared = false;
    }
}

void ladder_on_network_change(struct ladder *l, uint64_t now_us)
{
    ladder_forgive(l);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        struct ladder_rung *r = &l->rungs[k];
        if (r->state == RUNG_OFF)
            continue;
        r->failures = 0;
        start_at(r, now_us + path_kind_delay_us((enum path_kind)k));
        r->start_again =
            r->state != RUNG_WAITING &&
            (path_kind_is_direct((enum path_kind)k) || r->state != RUNG_UP);
    }
}

void ladder_on_peer_change(struct ladder *l, uint64_t now_us)
{
    if (l->peer_change_us != 0 && now_us - l->peer_change_us < LADDER_PEER_CHANGE_US)
        return;
    l->peer_change_us = now_us;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        struct ladder_rung *r = &l->rungs[k];
        if (!path_kind_is_direct((enum path_kind)k) || r->state == RUNG_OFF)
            continue;
        r->failures = 0;
        start_at(r, now_us + path_kind_delay_us((enum path_kind)k));
        r->start_again = r->start_again || (r->state == RUNG_UP && k != PATH_UDP_PUNCH);
    }
}

void ladder_on_heard(struct ladder *l, uint64_t now_us)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        struct ladder_rung *r = &l->rungs[k];
        if (r->state != RUNG_WAITING || r->failures == 0)
            continue;
        r->failures = 0;
        start_at(r, now_us + path_kind_delay_us((enum path_kind)k));
    }
}

void ladder_again(struct ladder *l, enum path_kind kind)
{
    struct ladder_rung *r = &l->rungs[kind];
    r->start_again =
        r->start_again || (r->state == RUNG_UP && path_kind_is_direct(kind));
}

/* ------------------------------------------------------------------------- actions */

static bool give(struct ladder_action *out, enum ladder_action_type type,
                 enum path_kind kind, uint32_t path_id)
{
    *out = (struct ladder_action){.type = type, .kind = kind, .path_id = path_id};
    return true;
}

/* A direct kind waits as long as a direct path carries the session. */
static bool is_held(const struct ladder *l, enum path_kind kind)
{
    return path_kind_is_direct(kind) && direct_selected(l);
}

/* When the pause of a waiting kind is over. */
static uint64_t due_us(const struct ladder *l, const struct ladder_rung *r)
{
    return l->selected == LADDER_NO_PATH && r->bare_us < r->at_us ? r->bare_us
                                                                  : r->at_us;
}

static bool next_rung(struct ladder *l, enum path_kind kind, uint64_t now_us,
                      struct ladder_action *out)
{
    struct ladder_rung *r = &l->rungs[kind];
    if (r->stop) {
        r->stop = false;
        return give(out, LADDER_STOP, kind, LADDER_NO_PATH);
    }
    if (r->start_again) {
        r->start_again = false;
        if (r->state != RUNG_UP)
            set_state(l, kind, RUNG_STARTING, now_us);
        return give(out, LADDER_START, kind, LADDER_NO_PATH);
    }
    if (r->state == RUNG_WAITING && now_us >= due_us(l, r) && !is_held(l, kind)) {
        set_state(l, kind, RUNG_STARTING, now_us);
        return give(out, LADDER_START, kind, LADDER_NO_PATH);
    }
    bool trying = r->state == RUNG_STARTING || r->state == RUNG_TRYING;
    if (trying && is_held(l, kind) && now_us >= l->selected_us + LADDER_SETTLE_US) {
        set_reason(r, "no answer before another direct path was in use");
        start_at(r, now_us);
        set_state(l, kind, RUNG_WAITING, now_us);
        return give(out, LADDER_STOP, kind, LADDER_NO_PATH);
    }
    return false;
}

bool ladder_next(struct ladder *l, uint64_t now_us, struct ladder_action *out)
{
    const struct ladder_path *best = choose(l);
    uint32_t id = best != NULL ? best->id : LADDER_NO_PATH;
    if (id != l->selected) {
        l->selected = id;
        l->selected_us = now_us;
        return give(out, LADDER_SELECT, best != NULL ? best->kind : PATH_KIND_NONE, id);
    }
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (next_rung(l, (enum path_kind)k, now_us, out))
            return true;
    return false;
}

uint64_t ladder_deadline_us(const struct ladder *l)
{
    const struct ladder_path *best = choose(l);
    uint64_t at = UINT64_MAX;
    if ((best != NULL ? best->id : LADDER_NO_PATH) != l->selected)
        return 0;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        const struct ladder_rung *r = &l->rungs[k];
        bool held = is_held(l, (enum path_kind)k);
        bool trying = r->state == RUNG_STARTING || r->state == RUNG_TRYING;
        uint64_t due = UINT64_MAX;
        if (r->stop || r->start_again)
            due = 0;
        else if (r->state == RUNG_WAITING && !held)
            due = due_us(l, r);
        else if (trying && held)
            due = l->selected_us + LADDER_SETTLE_US;
        at = due < at ? due : at;
    }
    return at;
}

/* ------------------------------------------------------------------------- answers */

enum path_kind ladder_selected_kind(const struct ladder *l)
{
    const struct ladder_path *p = find_path(l, l->selected);
    return p != NULL ? p->kind : PATH_KIND_NONE;
}

uint32_t ladder_selected_path(const struct ladder *l)
{
    return l->selected;
}

enum ladder_rung_state ladder_rung_state(const struct ladder *l, enum path_kind kind)
{
    return l->rungs[kind].state;
}

bool ladder_kind_failed(const struct ladder *l, enum path_kind kind)
{
    const struct ladder_rung *r = &l->rungs[kind];
    return r->state == RUNG_OFF || (r->state != RUNG_UP && r->failures > 0);
}

bool ladder_kind_ended(const struct ladder *l, enum path_kind kind)
{
    const struct ladder_rung *r = &l->rungs[kind];
    return r->state == RUNG_OFF ||
           (r->state == RUNG_WAITING && (r->failures > 0 || is_held(l, kind)));
}

enum path_kind ladder_telling_kind(const struct ladder *l)
{
    enum path_kind refused = PATH_KIND_NONE;
    bool awaited = false;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        const struct ladder_rung *r = &l->rungs[k];
        if (!path_kind_is_direct((enum path_kind)k) || !r->allowed)
            continue;
        if (r->state != RUNG_OFF && r->failures > 0)
            return (enum path_kind)k;
        awaited = awaited || r->state != RUNG_OFF;
        if (r->state == RUNG_OFF && refused == PATH_KIND_NONE)
            refused = (enum path_kind)k;
    }
    return awaited ? PATH_KIND_NONE : refused;
}

const char *ladder_last_reason(const struct ladder *l, enum path_kind kind)
{
    return l->rungs[kind].reason;
}

static double seconds(uint64_t from_us, uint64_t to_us)
{
    return to_us > from_us ? (double)(to_us - from_us) / 1e6 : 0;
}

static const struct ladder_path *narrow_path(const struct ladder *l,
                                             enum path_kind kind)
{
    for (unsigned i = 0; i < LADDER_MAX_PATHS; i++)
        if (l->paths[i].id != LADDER_NO_PATH && l->paths[i].kind == kind &&
            l->paths[i].narrow)
            return &l->paths[i];
    return NULL;
}

/* "12", "3.4" */
static const char *mbit(uint64_t bit_s, char buf[static 24])
{
    (void)snprintf(buf, 24, bit_s < 10000000 ? "%.1f" : "%.0f", (double)bit_s / 1e6);
    return buf;
}

/* "carries 3 Mbit/s, relay 40" */
static int outdone_words(const struct ladder_rung *r, char *buf, size_t cap)
{
    char own[24], other[24];
    return snprintf(buf, cap, "carries %s Mbit/s, %s %s", mbit(r->carried_bit_s, own),
                    path_kind_name(r->rival), mbit(r->rival_bit_s, other));
}

const char *ladder_preference(const struct ladder *l,
                              char buf[static LADDER_REASON_LEN])
{
    buf[0] = '\0';
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        const struct ladder_rung *r = &l->rungs[k];
        if (r->carried_bit_s == 0 || r->state != RUNG_UP ||
            ladder_selected_kind(l) == k)
            continue;
        int n =
            snprintf(buf, LADDER_REASON_LEN, "%s ", path_kind_name((enum path_kind)k));
        (void)outdone_words(r, buf + n, LADDER_REASON_LEN - (size_t)n);
    }
    return buf;
}

static void standby_words(const struct ladder *l, enum path_kind kind,
                          char buf[static LADDER_REASON_LEN])
{
    const struct ladder_rung *r = &l->rungs[kind];
    const struct ladder_path *narrow = narrow_path(l, kind);
    enum path_kind used = ladder_selected_kind(l);
    char what[120] = "";
    if (r->carried_bit_s != 0)
        (void)outdone_words(r, what, sizeof(what));
    else if (narrow != NULL)
        (void)snprintf(
            what, sizeof(what),
            "carries at most %.0f Mbit/s, since its TCP window does not scale",
            (double)bound_bit_s(narrow) / 1e6);
    (void)snprintf(buf, LADDER_REASON_LEN, "standby: %s%s%s is in use", what,
                   what[0] != '\0' ? "; " : "", path_kind_name(used));
}

const char *ladder_reason(const struct ladder *l, enum path_kind kind, uint64_t now_us,
                          char buf[static LADDER_REASON_LEN])
{
    const struct ladder_rung *r = &l->rungs[kind];
    enum path_kind used = ladder_selected_kind(l);
    double age = seconds(r->since_us, now_us);
    switch (r->state) {
    case RUNG_OFF:
        (void)snprintf(buf, LADDER_REASON_LEN, "%s", r->reason);
        break;
    case RUNG_WAITING:
        if (is_held(l, kind) && r->failures == 0)
            (void)snprintf(buf, LADDER_REASON_LEN, "not needed: %s is in use",
                           path_kind_name(used));
        else if (is_held(l, kind))
            (void)snprintf(buf, LADDER_REASON_LEN, "%s; not tried again: %s is in use",
                           r->reason, path_kind_name(used));
        else
            (void)snprintf(buf, LADDER_REASON_LEN, "%s", r->reason);
        break;
    case RUNG_STARTING:
    case RUNG_TRYING:
        (void)snprintf(buf, LADDER_REASON_LEN, "being tried%s since %.1f s%s%s",
                       r->failures > 0 ? " again" : "", age,
                       r->failures > 0 ? "; before: " : "",
                       r->failures > 0 ? r->reason : "");
        break;
    case RUNG_UP:
    case RUNG_STATE_COUNT:
        if (used == kind)
            (void)snprintf(buf, LADDER_REASON_LEN, "in use");
        else if (used != PATH_KIND_NONE)
            standby_words(l, kind, buf);
        else
            (void)snprintf(buf, LADDER_REASON_LEN,
                           "it works: used as soon as data was answered");
        break;
    }
    return buf;
}

const char *ladder_closing_reason(const struct ladder *l, enum path_kind kind,
                                  uint64_t now_us, char buf[static LADDER_REASON_LEN])
{
    const struct ladder_rung *r = &l->rungs[kind];
    if (r->state != RUNG_STARTING && r->state != RUNG_TRYING)
        return ladder_reason(l, kind, now_us, buf);
    if (r->failures > 0)
        (void)snprintf(buf, LADDER_REASON_LEN, "%s", r->reason);
    else
        (void)snprintf(buf, LADDER_REASON_LEN,
                       "nothing had come of it after %.1f s, when this ended",
                       seconds(r->since_us, now_us));
    return buf;
}

/* Doubt, census and choice over a table of paths; arithmetic over times and counts. One
 * machine: each of these reads what the others left, the search for a packet size too,
 * since only an answer beside it tells a size from a dead path. */
#include "core/paths.h"

#include "core/least.h"

enum {
    USE_TRIES = 6,
    USE_SUSPECT = 2, /* from that one on an answer is missing */
    DEAD_TRIES = 4,
    QUIET_TRIES = 4,
    RENEW_TRIES = 6,
    RENEW_AGAIN = 2, /* tries where each is heeded */
    RENEW_EVERY_US = 100000,
    ROUNDS_QUICK = 8,     /* of a census, before its pauses grow */
    FULL_ASKS = 3,        /* of the base size in a census, before small ones go ahead */
    LATE_TIMES = 2,       /* the least, and more: the line is full */
    LATE_SLOW_TIMES = 12, /* before a stream that brings something, but no answer */
    LATE_DEAD_TIMES = 4,  /* where answers are late, before a silent path is dead */
    IDLE_TIMES = 3,       /* the patience of who waits for nothing */
};

/* ----------------------------------------------------------------------- the table */

static struct paths_path *find(const struct paths *p, uint32_t id)
{
    for (size_t i = 0; id != PATHS_NONE && i < PATHS_MAX; i++)
        if (p->list[i].id == id)
            return (struct paths_path *)&p->list[i];
    return NULL;
}

static struct paths_path *in_use(const struct paths *p)
{
    return find(p, p->current);
}

static bool in_doubt(const struct paths_path *x)
{
    return x->asked_us != 0;
}

/* It answered a request of this census. */
static bool answered(const struct paths *p, const struct paths_path *x)
{
    return x->answered_us != 0 && x->answered_us >= p->census_us;
}

/* ------------------------------------------------------------------------ patience */

/* Twice the probe timeout, but not where that is long already. */
static uint64_t ack_takes_us(const struct paths *p)
{
    return max64(PATHS_ACK_MIN_US, p->pto_us + min64(p->pto_us, PATHS_ACK_MORE_US));
}

static uint64_t ack_patience_us(const struct paths *p)
{
    uint64_t base = ack_takes_us(p);
    unsigned shift = p->fruitless < 7 ? p->fruitless : 7;
    return min64(base << shift, max64(base, PATHS_PAUSE_MAX_US));
}

static uint64_t silence_us(const struct paths *p)
{
    return max64(PATHS_SILENCE_MIN_US, 4 * (uint64_t)p->rtt_us);
}

static uint64_t patience_us(const struct paths *p)
{
    return max64(PATHS_PATIENCE_MIN_US, p->pto_us + (uint64_t)p->pto_us / 2);
}

static uint64_t grace_us(const struct paths *p)
{
    return p->hinted ? max64(PATHS_GRACE_HINTED_US, 2 * (uint64_t)p->rtt_us)
                     : max64(PATHS_GRACE_MIN_US, 2 * (uint64_t)p->pto_us);
}

/* How long it took for its latest answer, when that was late; 0 when it was not. */
static uint64_t late_us(const struct paths_path *x)
{
    return x->latest_us > LATE_TIMES * (uint64_t)x->least_us + PATHS_LATE_US
               ? x->latest_us
               : 0;
}

/* Whatever is asked here fills a line that keeps its packets for long as it is. */
static bool is_late(const struct paths *p)
{
    return p->late_us >= PATHS_CRAWLS_US;
}

/* The path in use: it was taken away, or the network has changed. */
static bool is_gone(const struct paths *p)
{
    return p->hinted || p->current == PATHS_NONE;
}

/* The same, or something of ours waits for it, or data came over it and then nothing.
 */
static bool somebody_waits(const struct paths *p)
{
    return is_gone(p) || p->pending_us != 0 || p->awaited;
}

/* Nothing else has answered since it was asked. Else *others_late_us says how late. */
static bool is_alone(const struct paths *p, const struct paths_path *x,
                     uint64_t *others_late_us)
{
    bool alone = true;
    *others_late_us = 0;
    for (size_t i = 0; i < PATHS_MAX; i++) {
        if (p->list[i].id == PATHS_NONE || p->list[i].answered_us <= x->asked_us)
            continue;
        alone = false;
        *others_late_us = max64(*others_late_us, late_us(&p->list[i]));
    }
    return alone;
}

static uint64_t dead_after_us(const struct paths *p, const struct paths_path *x)
{
    uint64_t pto = max64(p->pto_us, 2 * (uint64_t)x->rtt_us), late;
    unsigned times = somebody_waits(p) ? 1 : IDLE_TIMES;
    uint64_t us = is_alone(p, x, &late)
                      ? max64(PATHS_DEAD_ALONE_US, 6 * pto)
                      : max64(PATHS_DEAD_MIN_US, 4 * max64(pto, late));
    if (p->late_us != 0) /* and it may become later still */
        us = max64(us, LATE_DEAD_TIMES * max64(p->late_us, PATHS_LATE_LEAST_US));
    return times * us;
}

/* A byte stream below, its own or the broker's. */
static bool in_order(const struct paths_path *x)
{
    return x->stream || x->meagre;
}

/* It carries something towards us. */
static uint64_t lately_until_us(const struct paths *p, const struct paths_path *x)
{
    return x->heard_us + max64(max64(PATHS_GRACE_MIN_US, 4 * (uint64_t)p->pto_us),
                               LATE_TIMES * p->late_us);
}

static uint64_t slow_most_us(const struct paths *p, const struct paths_path *x)
{
    return x->asked_us + max64(PATHS_SLOW_MAX_US, LATE_SLOW_TIMES * p->late_us);
}

/*
 * A stream on which packets still arrive is slow, not dead: our question waits behind
 * what was sent before it. It may be that one direction is cut, so not for ever.
 */
static uint64_t slow_until_us(const struct paths *p, const struct paths_path *x)
{
    return in_order(x) ? min64(lately_until_us(p, x), slow_most_us(p, x)) : 0;
}

/*
 * Where a third of all packets is lost each way, four requests in a row often are. Who
 * buries such a path needs the broker for another, and that may take far longer.
 */
static uint64_t lossy_until_us(const struct paths *p, const struct paths_path *x)
{
    return min64(lately_until_us(p, x), x->asked_us + PATHS_LOSSY_MAX_US);
}

static uint64_t dead_at_us(const struct paths *p, const struct paths_path *x)
{
    if (x->id == PATHS_NONE || !in_doubt(x) || x->told_dead ||
        x->unanswered < DEAD_TRIES)
        return UINT64_MAX;
    uint64_t after = dead_after_us(p, x);
    uint64_t lives = max64(slow_until_us(p, x), lossy_until_us(p, x));
    if (in_order(x) && x->heard_us > x->asked_us) /* it came behind our question */
        lives = max64(lives, min64(x->heard_us + after, slow_most_us(p, x)));
    return max64(x->asked_us + after, lives);
}

/* ------------------------------------------------------------------------ requests */

static void send_request(struct paths *p, struct paths_path *x, uint16_t len,
                         uint8_t flags, uint64_t now_us, struct paths_action *out)
{
    const struct paths_path *cur = in_use(p);
    struct paths_request *r = &p->requests[++p->txn % PATHS_REQUESTS];
    bool trouble = !p->leads && p->census && (cur == NULL || in_doubt(cur));
    *r = (struct paths_request){.txn = p->txn,
                                .path = x->id,
                                .len = len,
                                .use = (flags & PROBE_USE) != 0,
                                .open = true,
                                .sent_us = now_us};
    if (x->stream || len <= PROBE_LEN_BASE) { /* a lost large one is another matter */
        if (x->asked_us == 0)
            x->asked_us = now_us;
        x->streak = x->unanswered > 0 ? 0 : x->streak;
        x->unanswered++;
        x->sent_us = now_us;
    }
    *out = (struct paths_action){.type = PATHS_SEND, .id = x->id};
    out->probe = (struct path_probe){.len = len, .txn = p->txn, .use = p->use};
    out->probe.flags =
        (uint8_t)(flags | (p->leads ? PROBE_CLIENT : 0) |
                  (trouble ? PROBE_TROUBLE : 0) | (p->renew ? PROBE_RENEW : 0));
}

static uint16_t base_len(const struct paths_path *x)
{
    if (in_order(x) && x->large)
        return PROBE_LEN_MIN;
    return x->stream ? PROBE_LEN_STREAM : PROBE_LEN_BASE;
}

/* --------------------------------------------------------------------------- doubt */

/* Since when the path in use owes something and carries nothing. */
static uint64_t quiet_since_us(const struct paths *p, uint64_t now_us)
{
    const struct paths_path *cur = in_use(p);
    if (cur == NULL || !in_doubt(cur))
        return now_us;
    uint64_t owed_us = p->pending_us != 0 ? p->pending_us : cur->asked_us;
    return max64(min64(owed_us, cur->asked_us), p->received_us);
}

static void begin_census(struct paths *p, bool hinted, uint64_t now_us)
{
    if (!p->census) {
        p->census = true;
        p->hinted = hinted;
        p->census_us = now_us;
        p->silent_since_us = quiet_since_us(p, now_us);
        p->silent_at_us =
            now_us + (somebody_waits(p) || hinted ? 1 : IDLE_TIMES) * PATHS_SILENT_US;
    }
    p->hinted = p->hinted || hinted;
    p->round = 0;
    p->round_at_us = p->stir_at_us = now_us;
    for (size_t i = 0; i < PATHS_MAX; i++)
        p->list[i].round = p->list[i].full_asks = 0;
}

/* Client: tells the host where to send, until it has answered. */
static void begin_use(struct paths *p, uint64_t now_us)
{
    if (!p->leads || p->current == PATHS_NONE)
        return;
    p->use++;
    p->use_open = true;
    p->use_tries = 0;
    p->use_at_us = now_us;
}

static void end_census(struct paths *p, uint64_t now_us)
{
    p->census = p->hinted = false;
    p->silent_since_us = 0;
    p->check_at_us = now_us + ack_patience_us(p);
    begin_use(p, now_us); /* the host may have gone its own way */
}

/* Every path has answered or been given up, and the one in use answered. */
static bool census_is_over(const struct paths *p)
{
    const struct paths_path *cur = in_use(p);
    if (cur == NULL || !answered(p, cur))
        return false;
    for (size_t i = 0; i < PATHS_MAX; i++)
        if (p->list[i].id != PATHS_NONE && !answered(p, &p->list[i]) &&
            !p->list[i].told_dead)
            return false;
    return true;
}

static uint64_t round_pause_us(const struct paths *p)
{
    static const unsigned pause_ms[ROUNDS_QUICK] = {60,  80,  100, 150,
                                                    200, 250, 300, 400};
    uint64_t quick = p->round < ROUNDS_QUICK ? pause_ms[p->round] * 1000ull : 500000;
    if (p->round > 60)
        quick = p->round > 180   ? PATHS_PAUSE_MAX_US
                : p->round > 120 ? 3000000
                                 : 1000000;
    uint64_t pause = somebody_waits(p) ? quick : min64(4 * quick, PATHS_PAUSE_MAX_US);
    return max64(pause, max64(p->rtt_us, p->late_us / 2));
}

static void ask_full(struct paths *p, struct paths_path *x, uint64_t now_us,
                     struct paths_action *out)
{
    x->stirs = false;
    x->full_us = now_us;
    x->full_asks++;
    send_request(p, x, base_len(x), 0, now_us, out);
}

static uint64_t stir_pause_us(const struct paths_path *x)
{
    return max64(PATHS_STIR_US, 2 * (uint64_t)x->latest_us);
}

/* Who was asked least: of those the one in use, then the quickest. */
static bool stirs_before(const struct paths *p, const struct paths_path *a,
                         const struct paths_path *b)
{
    if (a->full_asks != b->full_asks)
        return a->full_asks < b->full_asks;
    return b->id != p->current && (a->id == p->current || a->latest_us < b->latest_us);
}

static struct paths_path *first_stirring(const struct paths *p)
{
    const struct paths_path *best = NULL;
    for (size_t i = 0; p->census && i < PATHS_MAX; i++) {
        const struct paths_path *x = &p->list[i];
        bool stirs = x->id != PATHS_NONE && x->stirs;
        best = stirs && (best == NULL || stirs_before(p, x, best)) ? x : best;
    }
    return (struct paths_path *)best;
}

/* What answered a small request is asked in full, but not again and again; and one path
 * after the other, since many such questions fill a line that is slow. */
static bool stir_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    struct paths_path *x = first_stirring(p);
    if (x == NULL || now_us < p->stir_at_us)
        return false;
    p->stir_at_us = now_us + stir_pause_us(x);
    ask_full(p, x, now_us, out);
    return true;
}

/* Where the path in use is known to be gone, a few requests have the size that proves a
 * path. Else, and after them, small ones go ahead: no line is filled by questions. */
static bool census_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    if (!p->census || now_us < p->round_at_us)
        return false;
    for (size_t i = 0; i < PATHS_MAX; i++) {
        struct paths_path *x = &p->list[i];
        bool fine = answered(p, x) && (x->id != p->current || !in_doubt(x));
        if (x->id == PATHS_NONE || x->round > p->round || fine)
            continue;
        x->round = p->round + 1;
        if (x->full_asks < FULL_ASKS && is_gone(p) && !is_late(p))
            ask_full(p, x, now_us, out);
        else
            send_request(p, x, PROBE_LEN_MIN, 0, now_us, out);
        return true;
    }
    p->round_at_us = now_us + round_pause_us(p);
    p->round++;
    return false;
}

/* In a census whose path in use has answered, and owes nothing now. */
static uint64_t again_at_us(const struct paths *p)
{
    const struct paths_path *cur = in_use(p);
    bool fine = p->census && cur != NULL && answered(p, cur) && !in_doubt(cur);
    return fine ? max64(cur->sent_us, p->received_us) + PATHS_SILENT_US : UINT64_MAX;
}

/* A census lasts as long as any path is neither answered nor given up, and new ones may
 * come all the time: meanwhile the one in use is asked again. */
static bool again_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    if (now_us < again_at_us(p))
        return false;
    p->silent_at_us = max64(p->silent_at_us, now_us + PATHS_SILENT_US);
    send_request(p, in_use(p), PROBE_LEN_MIN, 0, now_us, out);
    return true;
}

/* When the path in use is to be asked because of what is missing on it. */
static uint64_t doubt_at_us(const struct paths *p)
{
    uint64_t at = UINT64_MAX;
    if (p->pending_us != 0)
        at = max64(p->pending_us + ack_patience_us(p), p->check_at_us);
    if (p->armed && p->streams > 0)
        at = min64(at, p->received_us + silence_us(p));
    return at;
}

/* From when on an unanswered question is trouble: what was sent is not acknowledged
 * either (where it is, the answer waits behind other data). Repeats put nothing off. */
static uint64_t trouble_at_us(const struct paths *p, const struct paths_path *cur)
{
    if (p->pending_us == 0 && !p->awaited)
        return UINT64_MAX;
    uint64_t acked = p->progress_us != 0 ? p->progress_us + ack_takes_us(p) : 0;
    uint64_t asked = min64(cur->sent_us, max64(cur->asked_us, p->pending_us));
    return max64(asked + patience_us(p), acked);
}

/* Who waits for nothing asks again in pauses that grow: 0.3, 0.6, 1.2 and 2.4 s. */
static uint64_t doubted_until_us(const struct paths *p, const struct paths_path *cur)
{
    unsigned shift = cur->unanswered < QUIET_TRIES ? cur->unanswered : QUIET_TRIES;
    return min64(cur->sent_us + (patience_us(p) << shift), trouble_at_us(p, cur));
}

/* The quiet question on the path in use, before all are asked. */
static bool doubt_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    struct paths_path *cur = in_use(p);
    if (p->census || cur == NULL)
        return false;
    if (in_doubt(cur)) {
        if (now_us < doubted_until_us(p, cur))
            return false;
        if (now_us >= trouble_at_us(p, cur) || cur->unanswered >= QUIET_TRIES) {
            begin_census(p, false, now_us);
            *out = (struct paths_action){.type = PATHS_DOUBT, .id = p->current};
            return true;
        }
        send_request(p, cur, PROBE_LEN_MIN, 0, now_us, out); /* nobody waits: be sure */
        return true;
    }
    bool due = now_us >= doubt_at_us(p);
    if (!due && !p->asked)
        return false;
    bool missing = due && p->pending_us != 0;
    p->awaited = due && !missing;
    p->suspect = missing && p->fruitless == 0 && patience_us(p) > PATHS_SUSPECT_US;
    if (missing) {
        p->fruitless++;
        p->full_at_us = min64(p->full_at_us, now_us); /* perhaps only large ones */
    }
    p->check_at_us = now_us + ack_patience_us(p);
    p->armed = p->asked = false;
    send_request(p, cur, missing && !is_late(p) ? base_len(cur) : PROBE_LEN_MIN, 0,
                 now_us, out);
    return true;
}

/* ------------------------------------------------------------------------- choices */

static void set_rtt(struct paths *p, uint32_t smoothed_us, uint32_t variation_us)
{
    /* RFC 9002 section 6.2.1, with the default max_ack_delay of 25 ms. */
    uint32_t spread = variation_us > 250 ? 4 * variation_us : 1000;
    const struct paths_path *cur = in_use(p);
    uint64_t bound = PATHS_PTO_MAX_US + 2 * (uint64_t)(cur != NULL ? cur->rtt_us : 0);
    p->rtt_us = (uint32_t)min64(smoothed_us, bound);
    p->pto_us = (uint32_t)min64(smoothed_us + (uint64_t)spread + 25000, bound);
}

/*
 * What QUIC has measured was another path: until it can know better this one's own
 * probes say how long an answer takes. Where none was sent, as at a host that follows
 * its client, patience begins anew, and one is: if the path is lost at once, who has no
 * measure of it would find that out a second later.
 */
static void expect_own_rtt(struct paths *p, uint64_t now_us)
{
    const struct paths_path *x = in_use(p);
    uint32_t rtt_us = x->latest_us > x->rtt_us ? x->latest_us : x->rtt_us;
    p->own_guessed = rtt_us == 0 && p->begun;
    if (p->own_guessed) {
        rtt_us = PATHS_RTT_UNKNOWN_US;
        p->asked = true;
    }
    if (rtt_us == 0)
        return;
    set_rtt(p, rtt_us, rtt_us / 4);
    p->own_rtt_us = p->rtt_us;
    p->own_until_us = now_us + 3 * (uint64_t)p->rtt_us;
}

static void use_path(struct paths *p, uint32_t id, uint64_t now_us)
{
    p->current = id;
    expect_own_rtt(p, now_us);
    p->begun = true;
    p->pending_us = 0;
    p->progress_us = 0;
    p->awaited = false;
    p->received_us = p->check_at_us = now_us;
    p->full_since_us = p->large_us = 0;
    p->full_tries = 0;
    p->fruitless = 0;
    p->revived = false;
}

/* The path that was wished for does not answer now: it must show that it does again. */
static void leave(struct paths *p, uint64_t now_us)
{
    struct paths_path *w = find(p, p->wanted);
    if (w == NULL || w->id != p->current)
        return;
    if (now_us > p->left_us + PATHS_FORGIVE_US)
        p->leaves = 0;
    p->need = PATHS_RETURN_STREAK << p->leaves;
    p->leaves += p->leaves < 4;
    p->left_us = p->wanted_at_us = now_us;
    w->streak = 0;
}

static bool move(struct paths *p, uint32_t id, uint64_t now_us,
                 struct paths_action *out)
{
    use_path(p, id, now_us);
    begin_use(p, now_us);
    *out = (struct paths_action){.type = PATHS_MOVE, .id = id};
    return true;
}

/* The best path that answered in this census: the wish, else the quickest of those that
 * carry much. */
static const struct paths_path *best_answer(const struct paths *p)
{
    const struct paths_path *best = NULL;
    for (size_t i = 0; i < PATHS_MAX; i++) {
        const struct paths_path *x = &p->list[i];
        if (x->id == PATHS_NONE || !answered(p, x))
            continue;
        if (x->id == p->wanted)
            return x;
        if (best == NULL || (x->meagre ? best->meagre && x->rtt_us < best->rtt_us
                                       : best->meagre || x->rtt_us < best->rtt_us))
            best = x;
    }
    return best;
}

static uint64_t leave_at_us(const struct paths *p)
{
    const struct paths_path *cur = in_use(p), *best = best_answer(p);
    if (!p->census || best == NULL ||
        (cur != NULL && answered(p, cur) && (best->meagre || !cur->meagre)))
        return UINT64_MAX;
    if (cur == NULL || !in_doubt(cur))
        return 0;
    uint64_t late = p->hinted ? 0 : LATE_TIMES * late_us(best);
    uint64_t at =
        max64(cur->asked_us, p->hinted ? p->census_us : 0) + max64(grace_us(p), late);
    return best->meagre ? max64(at, slow_until_us(p, cur)) : at;
}

static bool choose(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    const struct paths_path *w = find(p, p->wanted);
    if (w != NULL && w->id != p->current && w->answered_us != 0 &&
        w->answered_us >= p->wanted_at_us && w->streak >= p->need)
        return move(p, w->id, now_us, out);
    if (now_us < leave_at_us(p))
        return false;
    leave(p, now_us);
    return move(p, best_answer(p)->id, now_us, out);
}

static bool bury(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    for (size_t i = 0; i < PATHS_MAX; i++) {
        struct paths_path *x = &p->list[i];
        if (now_us < dead_at_us(p, x))
            continue;
        x->told_dead = true;
        if (!p->leads && p->wanted == x->id)
            p->wanted = PATHS_NONE;
        if (!p->leads)
            continue;
        *out = (struct paths_action){.type = PATHS_DEAD, .id = x->id};
        out->silent_us = now_us - x->heard_us;
        return true;
    }
    return false;
}

static uint64_t silent_at_us(const struct paths *p)
{
    return p->census && again_at_us(p) == UINT64_MAX ? p->silent_at_us : UINT64_MAX;
}

static bool tell_silent(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    if (now_us < silent_at_us(p))
        return false;
    p->silent_at_us = now_us + PATHS_SILENT_AGAIN_US;
    *out = (struct paths_action){.type = PATHS_SILENT, .id = p->current};
    return true;
}

/* Before its own probes have told: what QUIC measured, or nothing is known yet. */
static uint32_t rtt_of(const struct paths *p, const struct paths_path *x)
{
    return x->rtt_us != 0 ? x->rtt_us : p->rtt_us;
}

static uint64_t wanted_next_us(const struct paths *p)
{
    const struct paths_path *w = find(p, p->wanted);
    if (w == NULL || w->id == p->current || w->told_dead ||
        (p->census && !answered(p, w))) /* that asks it too */
        return UINT64_MAX;
    if (w->sent_us < p->wanted_at_us)
        return p->wanted_at_us;
    uint64_t pause = max64(60000 * (1 + min64(w->unanswered, 7)), rtt_of(p, w));
    if (in_order(w)) /* nothing is lost there but by who had not begun to listen */
        pause = max64(pause, 2ull * p->pto_us);
    return w->sent_us + pause;
}

static bool wanted_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    if (now_us < wanted_next_us(p))
        return false;
    struct paths_path *w = find(p, p->wanted);
    send_request(p, w, base_len(w), 0, now_us, out);
    return true;
}

static bool use_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    struct paths_path *cur = in_use(p);
    if (!p->use_open || cur == NULL || now_us < p->use_at_us)
        return false;
    if (p->use_tries == USE_TRIES) {
        p->use_open = false;
        begin_census(p, false, now_us);
        return false;
    }
    p->suspect = ++p->use_tries == USE_SUSPECT && patience_us(p) > PATHS_SUSPECT_US;
    p->use_at_us = now_us + max64(50000ull * p->use_tries, rtt_of(p, cur) * 3ull / 2);
    send_request(p, cur, PROBE_LEN_MIN, PROBE_USE, now_us, out);
    return true;
}

/* --------------------------------------------------------------------- packet size */

static uint64_t full_next_us(const struct paths *p)
{
    const struct paths_path *cur = in_use(p);
    bool matters = cur != NULL && !cur->stream && p->size > PROBE_LEN_BASE;
    bool wanted = p->full_since_us != 0 || p->large_us != 0;
    return matters && wanted ? p->full_at_us : UINT64_MAX;
}

static bool full_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    struct paths_path *cur = in_use(p);
    if (now_us < full_next_us(p))
        return false;
    if (p->full_tries >= PATHS_FULL_TRIES) {
        if (cur->answered_us > p->full_since_us) {
            p->full_since_us = p->large_us = 0;
            p->full_tries = 0;
            p->size = PROBE_LEN_BASE;
            p->renew = !p->leads;
            p->renew_tries = 0;
            p->renew_at_us = now_us;
            p->fruitless = 0;
            *out = (struct paths_action){.type = PATHS_SHRINK, .id = cur->id};
            return true;
        }
        p->asked = !in_doubt(cur) && !p->census; /* the witness is missing */
        p->full_at_us = now_us + patience_us(p);
        return false;
    }
    if (p->full_since_us == 0)
        p->full_since_us = now_us;
    else
        p->asked = true; /* is it the size, or the path? */
    p->full_tries++;
    p->large_us = 0;
    p->full_at_us = now_us + max64(120000, p->pto_us);
    send_request(p, cur, p->size, 0, now_us, out);
    return true;
}

/* Tells the client that the search for the packet size should begin anew. */
static bool renew_send(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    struct paths_path *cur = in_use(p);
    if (!p->renew || cur == NULL || now_us < p->renew_at_us)
        return false;
    if (p->renew_tries == RENEW_TRIES) {
        p->renew = false;
        return false;
    }
    p->renew_tries++;
    p->renew_at_us = now_us + RENEW_EVERY_US + p->rtt_us;
    send_request(p, cur, PROBE_LEN_MIN, 0, now_us, out);
    return true;
}

/* ---------------------------------------------------------------------- life cycle */

void paths_init(struct paths *p, bool leads, uint64_t now_us)
{
    *p = (struct paths){.leads = leads,
                        .received_us = now_us,
                        .rtt_us = PATHS_RTT_UNKNOWN_US,
                        .pto_us = 2 * PATHS_RTT_UNKNOWN_US};
}

int paths_add(struct paths *p, uint32_t id, bool stream, uint64_t now_us)
{
    size_t i = 0;
    while (i < PATHS_MAX && p->list[i].id != PATHS_NONE)
        i++;
    if (find(p, id) != NULL)
        return 0;
    if (i == PATHS_MAX)
        return POSTERN_ERR_LIMIT;
    p->list[i] = (struct paths_path){.id = id, .stream = stream, .heard_us = now_us};
    if (!p->begun)
        use_path(p, id, now_us);
    else if (p->census || p->current == PATHS_NONE)
        begin_census(p, false, now_us); /* perhaps this one answers */
    else if (p->leads && in_use(p)->meagre && p->wanted == PATHS_NONE)
        paths_want(p, id, now_us);
    return 0;
}

void paths_set_meagre(struct paths *p, uint32_t id)
{
    struct paths_path *x = find(p, id);
    if (x != NULL)
        x->meagre = x->large = true; /* the session's first packets came over it */
}

void paths_remove(struct paths *p, uint32_t id, uint64_t now_us)
{
    struct paths_path *x = find(p, id);
    if (x == NULL)
        return;
    *x = (struct paths_path){0};
    if (p->wanted == id)
        p->wanted = PATHS_NONE;
    if (p->current != id)
        return;
    p->current = PATHS_NONE;
    p->use_open = false;
    begin_census(p, false, now_us);
}

void paths_want(struct paths *p, uint32_t id, uint64_t now_us)
{
    struct paths_path *x = find(p, id);
    if (p->wanted == id || x == NULL)
        return;
    p->wanted = id;
    p->wanted_at_us = now_us;
    p->need = 1;
    if (id == p->current)
        return;
    x->told_dead = false;
    x->asked_us = x->unanswered = x->streak = 0;
}

void paths_force(struct paths *p, uint32_t id, uint64_t now_us)
{
    if (find(p, id) == NULL)
        return;
    use_path(p, id, now_us);
    begin_use(p, now_us); /* as soon as probes can be made */
}

/* ------------------------------------------------------------------------- reports */

void paths_on_received(struct paths *p, uint32_t id, uint64_t now_us)
{
    struct paths_path *x = find(p, id);
    if (x != NULL)
        x->heard_us = now_us;
    if (x != NULL && in_order(x) && p->census) {
        p->silent_since_us = now_us;
        p->silent_at_us = now_us + PATHS_SILENT_US;
    }
    if (id == p->current) {
        p->received_us = now_us;
        p->awaited = false;
    }
}

void paths_on_sent(struct paths *p, bool large, uint64_t now_us)
{
    if (p->pending_us == 0) {
        p->pending_us = now_us;
        p->round_at_us = min64(p->round_at_us, now_us); /* now somebody waits */
        p->silent_at_us = min64(p->silent_at_us, p->silent_since_us + PATHS_SILENT_US);
    }
    if (large)
        p->large_us = now_us;
}

void paths_on_rtt(struct paths *p, uint32_t smoothed_us, uint32_t variation_us,
                  uint64_t now_us)
{
    if (now_us < p->own_until_us && smoothed_us < p->own_rtt_us)
        return;
    set_rtt(p, smoothed_us, variation_us);
}

void paths_want_renewal(struct paths *p, uint64_t now_us)
{
    if (p->renew || p->leads)
        return;
    p->renew = true;
    p->renew_tries = RENEW_TRIES - RENEW_AGAIN;
    p->renew_at_us = now_us;
}

uint32_t paths_least_us(const struct paths *p, uint32_t id)
{
    const struct paths_path *x = find(p, id);
    return x != NULL ? x->least_us : 0;
}

uint32_t paths_answer_takes_us(const struct paths *p)
{
    const struct paths_path *x = in_use(p);
    if (x == NULL)
        return 0;
    return x->latest_us > x->rtt_us ? x->latest_us : x->rtt_us;
}

uint64_t paths_answered_us(const struct paths *p)
{
    const struct paths_path *x = in_use(p);
    return x != NULL ? x->answered_us : 0;
}

void paths_ask(struct paths *p, uint64_t now_us)
{
    const struct paths_path *cur = in_use(p);
    if (cur != NULL && !in_doubt(cur))
        p->asked = true;
    else if (cur == NULL)
        begin_census(p, false, now_us);
}

void paths_doubt(struct paths *p, bool hinted, uint64_t now_us)
{
    if (!p->begun)
        return;
    const struct paths_path *cur = in_use(p);
    p->fruitless = 0;
    /* Answers from before count no more. A path in use that has not answered is asked
     * already, and no hint puts off its end. */
    if (p->census && hinted && (!p->hinted || (cur != NULL && answered(p, cur)))) {
        p->hinted = true;
        p->census_us = now_us;
    }
    begin_census(p, hinted, now_us);
}

/* By what the peer's question came ours may go: no pause of the census is waited for.
 * What carries little waits for others, as long as they may take. */
static void ask_who_asks(const struct paths *p, struct paths_path *x, uint64_t now_us)
{
    if (p->census && !answered(p, x) && now_us >= x->full_us + stir_pause_us(x) &&
        (!x->meagre || now_us >= p->census_us + grace_us(p)))
        x->stirs = true;
}

bool paths_on_request(struct paths *p, uint32_t id, const struct path_probe *q,
                      struct path_probe *reply, uint64_t now_us)
{
    if (find(p, id) == NULL || !replay_is_fresh(&p->seen, q->txn))
        return false;
    paths_on_received(p, id, now_us);
    ask_who_asks(p, find(p, id), now_us);
    if (p->leads) {
        if ((q->flags & PROBE_TROUBLE) != 0 && !p->census)
            paths_doubt(p, false, now_us);
    } else if ((q->flags & PROBE_USE) != 0 && q->use > p->use) {
        struct paths_path *x = find(p, id);
        p->use = q->use;
        p->wanted = id;
        p->wanted_at_us = 0;
        p->need = 0;
        x->answered_us = now_us; /* it came on it just now */
        x->asked_us = x->unanswered = 0;
        x->large = true; /* the client has proven it */
    }
    *reply = (struct path_probe){.flags = PROBE_RESPONSE, .txn = q->txn, .use = p->use};
    reply->flags |= p->leads ? PROBE_CLIENT : 0;
    uint16_t max = find(p, id)->stream ? PROBE_LEN_STREAM_MAX : PROBE_LEN_BASE;
    reply->len = q->len < max ? q->len : max;
    return true;
}

static void add_sample(struct paths_path *x, uint32_t rtt_us)
{
    x->latest_us = rtt_us;
    if (x->least_us == 0 || rtt_us < x->least_us)
        x->least_us = rtt_us;
    bool least = x->rtt_us == 0 || rtt_us < x->rtt_us;
    x->rtt_us = least ? rtt_us : (7 * x->rtt_us + rtt_us) / 8;
}

uint32_t paths_on_response(struct paths *p, uint32_t id, const struct path_probe *q,
                           uint64_t now_us)
{
    struct paths_request *r = &p->requests[q->txn % PATHS_REQUESTS];
    struct paths_path *x = find(p, id);
    if (x == NULL || !r->open || r->txn != q->txn || r->path != id)
        return 0;
    uint32_t rtt = (uint32_t)max64(min64(now_us - r->sent_us, UINT32_MAX), 1);
    r->open = false;
    paths_on_received(p, id, now_us);
    if (rtt > PATHS_RTT_MAX_US) /* one of us slept meanwhile */
        rtt = 0;
    else
        add_sample(x, rtt);
    /* What it was moved to by may have waited for a cut: the next ones tell. */
    bool less = now_us < p->own_until_us && max64(rtt, x->rtt_us) < p->own_rtt_us;
    if (id == p->current && (p->own_guessed || less) && rtt > 0) {
        expect_own_rtt(p, now_us);
        p->check_at_us = now_us;
    }
    bool of_census = p->census && r->sent_us >= p->census_us;
    if (p->census && !p->hinted && id == p->current && !of_census &&
        r->sent_us >= x->asked_us)
        p->census_us = r->sent_us; /* it was late, and is an answer to the doubt */
    p->silent_since_us = p->silent_since_us != 0 ? now_us : 0;
    p->silent_at_us = now_us + PATHS_SILENT_US;
    if (of_census && r->len < base_len(x)) {
        x->stirs = !answered(p, x) && now_us >= x->full_us + stir_pause_us(x);
        return rtt; /* large ones may be lost all the same */
    }
    x->large = x->large || r->len >= base_len(x);
    bool first = p->census && id == p->current && !answered(p, x);
    if (r->sent_us > x->answered_us)
        x->answered_us = r->sent_us;
    if (first && answered(p, x))
        begin_use(p, now_us); /* to the host it may be another one now */
    uint64_t was_silent_us = x->asked_us != 0 ? now_us - x->asked_us : 0;
    x->asked_us = x->unanswered = 0;
    x->streak++;
    x->told_dead = x->stirs = false;
    if (r->use && id == p->current)
        p->use_open = false;
    /* What is answered late was on its way all the time. */
    bool long_silent = was_silent_us > p->pto_us + LATE_TIMES * (uint64_t)rtt;
    p->revived = p->revived || (id == p->current && long_silent);
    if (r->len > PROBE_LEN_BASE && id == p->current && r->len == p->size) {
        p->full_since_us = 0;
        p->full_tries = 0;
        p->full_at_us = now_us + max64(PATHS_FULL_EVERY_US, 4 * (uint64_t)p->rtt_us);
    }
    return rtt;
}

/* ------------------------------------------------------------------------- actions */

bool paths_next(struct paths *p, uint64_t now_us, struct paths_action *out)
{
    if (p->suspect) {
        p->suspect = false;
        *out = (struct paths_action){.type = PATHS_SUSPECT, .id = p->current};
        return true;
    }
    if (p->revived && p->current != PATHS_NONE) {
        p->revived = false;
        *out = (struct paths_action){.type = PATHS_REVIVED, .id = p->current};
        return true;
    }
    if (choose(p, now_us, out) || bury(p, now_us, out) || tell_silent(p, now_us, out))
        return true;
    if (p->census && census_is_over(p))
        end_census(p, now_us);
    return use_send(p, now_us, out) || wanted_send(p, now_us, out) ||
           doubt_send(p, now_us, out) || stir_send(p, now_us, out) ||
           census_send(p, now_us, out) || again_send(p, now_us, out) ||
           full_send(p, now_us, out) || renew_send(p, now_us, out);
}

uint64_t paths_deadline_us(const struct paths *p)
{
    const struct paths_path *cur = in_use(p);
    uint64_t at = min64(min64(leave_at_us(p), silent_at_us(p)), wanted_next_us(p));
    if (p->revived && cur != NULL)
        return 0;
    for (size_t i = 0; i < PATHS_MAX; i++)
        at = min64(at, dead_at_us(p, &p->list[i]));
    if (first_stirring(p) != NULL)
        at = min64(at, p->stir_at_us);
    if (p->census)
        at = min64(min64(at, p->round_at_us), again_at_us(p));
    else if (cur != NULL && in_doubt(cur))
        at = min64(at, doubted_until_us(p, cur));
    else if (cur != NULL)
        at = min64(at, p->asked ? 0 : doubt_at_us(p));
    if (p->use_open && cur != NULL)
        at = min64(at, p->use_at_us);
    if (p->renew && cur != NULL)
        at = min64(at, p->renew_at_us);
    return min64(at, full_next_us(p));
}

/*
 * How much may be under way on a line that has shown to be slow. What QUIC and TCP find
 * by loss fills every queue before such a line, and whoever types behind it waits for
 * seconds. So there bulk stays behind what leaves in half a second; what is brief
 * (stream.c) goes all the same, within a little more. All packets leave one by one
 * there, what QUIC repeats too, and another path begins with what this one bore.
 *
 * A line is slow here while it carries less than SLOW_BYTES_S, its answers take
 * QUEUE_NS longer than twice the least of the last half minute, and it does not carry
 * more from one second to the next, as the TCP of a far path does that is finding its
 * speed. That least is looked for anew: what was a queue may have become the way, and
 * others may fill it.
 */
#include "core/least.h"
#include "session/internal.h"

enum {
    SLOW_BYTES_S = 256 * 1024,
    CRAWL_BYTES_S = 32 * 1024,   /* no such line is waited for */
    FLIGHT_MIN_BYTES = 8 * 1024, /* or one who shares the queue gets nothing */
    FLIGHT_DRAINED_BYTES = 3 * 1024,
    BRIEF_MORE_BYTES = 8 * 1024,
    PACE_MIN_BYTES_S = 8 * 1024,
    FELL_TIMES = 4,
    STEADY = 1, /* rates in a row that did not grow */
};
static const uint64_t queue_ns = 250000000ull;       /* more, and there is a queue */
static const uint64_t target_ns = 500000000ull;      /* what may wait in it */
static const uint64_t base_max_ns = 600000000ull;    /* what a far path may take */
static const uint64_t rate_ns = 1000000000ull;       /* over which a rate is taken */
static const uint64_t sound_ns = 500000000ull;       /* and while one is sounded */
static const uint64_t moved_ns = 3 * 1000000000ull;  /* and so soon after a move, whose
                                                        first answers waited for bulk */
static const uint64_t least_ns = 15 * 1000000000ull; /* then it is looked for anew */
static const uint64_t clear_ns = 500000000ull;       /* so long no queue shows */
static const uint64_t pause_max_ns = 300000000ull;   /* acknowledgements wait as well */

/* What the path before was known to bear is what this one begins with. */
void flight_begin(struct session *s, uint64_t now_ns)
{
    struct flight before = s->flight;
    s->flight = (struct flight){.least_ns = {UINT64_MAX, UINT64_MAX},
                                .turned_ns = now_ns + moved_ns - least_ns,
                                .since_ns = now_ns,
                                .queued_ns = now_ns,
                                .young_ns = now_ns + moved_ns,
                                .max = FLIGHT_MIN_BYTES,
                                .seen_bytes = s->acked_bytes,
                                .acked_bytes = s->acked_bytes};
    if (!before.held)
        return;
    s->flight.young_ns = 0;
    s->flight.held = true;
    s->flight.steady = STEADY;
    s->flight.rate = before.rate;
    for (unsigned i = 0; i < FLIGHT_RATES; i++)
        s->flight.rates[i] = before.rate;
}

static uint64_t base_ns(const struct flight *f)
{
    return f->least_ns[0] < f->least_ns[1] ? f->least_ns[0] : f->least_ns[1];
}

/*
 * How long a byte may be under way. Where both ways of a line are full, the least round
 * trip is no more than the queues of both, and to allow for it made them longer still.
 */
static uint64_t stays_ns(uint64_t base)
{
    return min64(base, base_max_ns) + target_ns;
}

static void note_rtt(struct flight *f, uint64_t rtt_ns, uint64_t now_ns)
{
    f->latest_ns = rtt_ns;
    if (now_ns - f->turned_ns > least_ns) {
        f->least_ns[1] = f->least_ns[0];
        f->least_ns[0] = UINT64_MAX;
        f->turned_ns = now_ns;
        f->drained_ns = now_ns + 2 * rtt_ns;
    }
    f->draining = now_ns < f->drained_ns;
    if (rtt_ns < f->least_ns[0])
        f->least_ns[0] = rtt_ns;
}

/* Nothing waits in the line, and so it is not the line that is the limit. */
static bool is_clear(const struct flight *f, uint64_t now_ns)
{
    return now_ns - f->queued_ns > clear_ns && f->latest_ns >= 1000;
}

/*
 * An answer that was under way at the move came by the path before. Where that was a
 * near one, a far path seems to have a queue: it must not be kept from growing.
 */
static bool is_young(const struct flight *f, uint64_t now_ns)
{
    return now_ns < f->young_ns;
}

/*
 * A rate is taken over a second and two round trips: where the other way is full too,
 * acknowledgements come in heaps. Of a line that has fallen it is known after the
 * second, and what it carried before says nothing any more. Of one that is held and
 * shows no queue a rate says only that it carries that much, however little it is.
 */
static void note_rate(struct session *s, bool queued, uint64_t now_ns)
{
    struct flight *f = &s->flight;
    uint64_t span = now_ns - f->since_ns;
    bool clear = f->held && is_clear(f, now_ns);
    if (span < (clear ? sound_ns : rate_ns))
        return;
    uint64_t us = span / 1000;
    uint64_t bytes = s->acked_bytes - f->acked_bytes;
    if (f->held) /* what was kept back by one lost packet comes at once */
        bytes = min64(bytes, f->left_bytes);
    uint64_t rate = bytes * 1000000 / us;
    bool fell = queued && rate < f->rate / FELL_TIMES;
    if (span < 2 * f->latest_ns && !fell)
        return;
    bool counts = !f->held || f->queued_ns >= f->since_ns || rate > f->rate;
    f->steady = rate > f->rate + f->rate / 4 ? 0 : f->steady + 1;
    if (counts)
        f->rates[f->turn++ % FLIGHT_RATES] = rate;
    f->since_ns = now_ns;
    f->acked_bytes = s->acked_bytes;
    f->left_bytes = 0;
    f->rate = 0;
    for (unsigned i = 0; i < FLIGHT_RATES; i++) {
        if (fell)
            f->rates[i] = rate;
        f->rate = f->rates[i] > f->rate ? f->rates[i] : f->rate;
    }
}

/*
 * Held, it grows like QUIC's window in slow start as long as nothing waits, and falls
 * to what leaves in time when something does.
 */
void flight_on_acked(struct session *s, uint64_t rtt_ns, uint64_t now_ns)
{
    struct flight *f = &s->flight;
    if (rtt_ns == 0 || rtt_ns == UINT64_MAX) /* after a move there is none yet */
        return;
    if (rtt_ns != f->latest_ns) /* else it was noted already */
        steer_note_late(s, rtt_ns / 1000, base_ns(f) / 1000, now_ns / 1000);
    uint64_t news = s->acked_bytes - f->seen_bytes;
    f->seen_bytes = s->acked_bytes;
    note_rtt(f, rtt_ns, now_ns);
    uint64_t base = base_ns(f);
    bool queued = rtt_ns > 2 * base + queue_ns;
    if (queued)
        f->queued_ns = now_ns;
    note_rate(s, queued, now_ns);
    uint64_t fits =
        max64(f->rate * (stays_ns(base) / 1000) / 1000000, FLIGHT_MIN_BYTES);
    bool grows = f->steady < STEADY && f->rate > CRAWL_BYTES_S;
    bool slow = f->rate < SLOW_BYTES_S && !grows;
    bool sticks = queued && !is_young(f, now_ns);
    f->held = f->held ? slow || sticks : slow && queued;
    uint64_t most = f->held ? fits : SESSION_WINDOW_MAX;
    if (queued)
        f->max = fits;
    else if (rtt_ns < base + (base + queue_ns) / 2 && f->max < most)
        f->max = min64(f->max + news, most);
}

uint64_t flight_room(const struct session *s, uint64_t in_flight, bool brief)
{
    const struct flight *f = &s->flight;
    uint64_t max = f->max;
    if (!f->held)
        return UINT64_MAX;
    if (f->draining && max > FLIGHT_DRAINED_BYTES)
        max = FLIGHT_DRAINED_BYTES;
    max += brief ? BRIEF_MORE_BYTES : 0;
    return in_flight < max ? max - in_flight : 0;
}

uint64_t flight_pause_until_ns(const struct session *s)
{
    return s->flight.held ? s->flight.next_ns : 0;
}

/*
 * No quicker than the line carries them, but a little more while nothing waits. How
 * much that is was learnt from what left, which is no more than was let go: where no
 * queue shows all that may be under way leaves in a round trip, and that doubles with
 * each (see above). Or a line that has become quick again were never found to be.
 */
static uint64_t pace_bytes_s(const struct flight *f, uint64_t in_flight,
                             uint64_t now_ns)
{
    uint64_t rate = max64(f->rate, PACE_MIN_BYTES_S);
    if (in_flight > f->max)
        return rate - rate / 4;
    rate += rate / 2;
    if (!is_clear(f, now_ns))
        return rate;
    return max64(rate, f->max * 1000000 / (f->latest_ns / 1000));
}

/*
 * What QUIC repeats is bound by its own window only, which knows nothing of such a line
 * yet: a second of a quick one that a slow one lost came over it again and again. So
 * packets leave one by one there, no quicker than the line carries them. Where answers
 * come at once nobody waits for longer than for one.
 *
 * BBR's own pace does not count meanwhile. It knows only of what was let go, and each
 * of the two kept the other at that: on a line that had become quick again a session
 * stayed at 12 KB/s for as long as it was watched.
 */
void flight_on_sent(struct session *s, uint64_t before, uint64_t in_flight,
                    uint64_t now_ns)
{
    struct flight *f = &s->flight;
    if (in_flight <= before)
        return;
    f->left_bytes += in_flight - before;
    if (!f->held || is_young(f, now_ns))
        return;
    uint64_t rate = pace_bytes_s(f, in_flight, now_ns);
    uint64_t pause_ns = (in_flight - before) * 1000000 / rate * 1000;
    uint64_t most_ns = f->latest_ns != 0 ? f->latest_ns : pause_max_ns;
    f->next_ns = now_ns + min64(pause_ns, min64(most_ns, pause_max_ns));
}

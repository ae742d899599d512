/*
 * Whether QUIC moves at all. It may stand though its path is as good as any:
 *   - QUIC misses what was lost only by what is acknowledged later, or by a timer that
 *     waits twice as long each time: after seconds of loss, seconds. A window full of
 *     lost packets holds back its questions too.
 *   - A client whose handshake is not confirmed has no such timer for what it sent.
 *   - After a change of label the first acknowledgement may be of a packet that left
 *     seconds before; its age then counts as the round trip, and what is lost next is
 *     missed only three times as long after, doubled each time.
 *   - Answers to QUIC's challenges count as under way but have no timer in ngtcp2 1.11,
 *     and are learned to be lost by nothing else where all that follows are
 *     acknowledgements. Two of them fill the least window: who only receives is then
 *     silent but for those, and the peer's credit runs out.
 *
 * Probes are not bound by that. Where the path in use answered one that was sent after
 * QUIC moved last, and what QUIC holds is not acknowledged for max(1 s, 4 answers of
 * that path as long as the latest; on a line that has shown to be slow, late ones as
 * come over it, which elsewhere are such ages as those above), window and timers
 * begin anew: a client takes another label, a host asks its client to (PROBE_RENEW).
 * Again after twice that time, and four times. Then the path is dead to the client,
 * since another may carry what it does not; and if that was no help either, the session
 * fails, so that another can begin. All of it counts from new on another path, but that
 * a session fails after twice as many tries in all: unless the network was away
 * meanwhile, who stands still on one path after the other does not do so for ever. A
 * path that does not answer is core/paths' matter.
 */
#include "io/clock.h"
#include "io/log.h"
#include "session/internal.h"

#include <stdio.h>

enum { RENEWALS = 3 };
static const uint64_t patience_min_us = 1000000, fail_us = 12000000;

static uint64_t patience_us(const struct session *s)
{
    uint64_t takes = paths_answer_takes_us(&s->net);
    uint64_t late = s->flight.held ? steer_late_us(s, clock_us()) : 0;
    uint64_t us = 4 * (takes > late ? takes : late);
    return us > patience_min_us ? us : patience_min_us;
}

/* Whatever QUIC has to say itself waits too, as credit. */
static bool is_window_full(const struct session *s)
{
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(s->conn, &info);
    return info.bytes_in_flight >= info.cwnd;
}

/* Something waits that QUIC could have brought over. */
bool stall_is_waiting(const struct session *s)
{
    return s->unacked > 0 || !list_empty(&s->datagrams) ||
           (stream_is_any_ready(s) && ngtcp2_conn_get_max_data_left(s->conn) > 0) ||
           is_window_full(s);
}

void stall_renew(struct session *s, const char *why, uint64_t now_us)
{
    log_debug("%s QUIC begins anew on %s path %u", why,
              path_kind_name(s->current->kind), s->current->id);
    if (s->is_client)
        steer_want_renewal(s);
    else
        paths_want_renewal(&s->net, now_us);
}

static void fail(struct session *s)
{
    static const char why[] = "nothing that was sent is acknowledged any more";
    output_close(s, 0, why);
    session_fail(s, POSTERN_ERR_TIMEOUT, why);
}

static void act(struct session *s, uint64_t now_us)
{
    struct stall *st = &s->stall;
    if (st->acts == 0)
        st->first_us = now_us;
    if ((st->acts >= RENEWALS && now_us >= st->first_us + fail_us) ||
        st->acts_in_all >= 2 * RENEWALS) {
        fail(s);
        return;
    }
    st->acts++;
    st->acts_in_all++;
    st->from_us = now_us;
    st->at_us =
        now_us + (patience_us(s) << (st->acts < RENEWALS ? st->acts : RENEWALS));
    char why[64];
    (void)snprintf(why, sizeof(why), "nothing is acknowledged for %.1f s:",
                   (double)(now_us - st->since_us) / 1e6);
    stall_renew(s, why, now_us);
    if (s->is_client && st->acts == RENEWALS && s->events->on_path_dead != NULL)
        s->events->on_path_dead(s->ctx, s->current, now_us - st->since_us);
}

void stall_run(struct session *s)
{
    struct stall *st = &s->stall;
    uint64_t now_us = clock_us();
    if (paths_silent_since_us(&s->net) != 0)
        st->acts_in_all = 0;
    if (!session_is_secure(s) || s->current == NULL || !stall_is_waiting(s)) {
        st->since_us = 0;
    } else if (st->since_us == 0 || st->moved != s->moved) {
        unsigned before = st->moved == s->moved ? st->acts_in_all : 0;
        *st = (struct stall){.moved = s->moved,
                             .since_us = now_us,
                             .from_us = now_us,
                             .acts_in_all = before};
        st->at_us = now_us + patience_us(s) / 2;
    } else if (now_us >= st->at_us) {
        bool answered = st->asked && paths_answered_us(&s->net) >= st->from_us;
        if (answered && now_us >= st->from_us + patience_us(s)) {
            act(s, now_us);
            return;
        }
        if (answered) { /* as late as the line is by now */
            st->at_us = st->from_us + patience_us(s);
            return;
        }
        st->asked = true;
        st->at_us = now_us + patience_us(s) / 2;
        paths_ask(&s->net, now_us);
    }
}

uint64_t stall_deadline_ns(const struct session *s)
{
    return s->stall.since_us != 0 ? s->stall.at_us * 1000 : UINT64_MAX;
}

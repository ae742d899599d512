/*
 * When nothing comes from the host any more: how long its session waits for it, and
 * what whoever waits is told. Knows times; paths and packets are the session's.
 */
#include "client/peer_internal.h"

#include "io/log.h"

enum {
    GONE_MIN_MS = 250, /* for a probe's answer, once the broker has lost the host */
    GONE_MAX_MS = 700,
    TELL_S = 4,     /* then people are told that nothing comes through */
    PRESENT_S = 15, /* a host that speaks to us through the broker all the while */
    ABSENT_S = 60,  /* one of whom nothing is known */
    OFFLINE_S = 30, /* one that the broker misses */
};

static uint64_t seconds_us(unsigned s)
{
    return s * 1000000ull;
}

void peer_on_gone(struct peer *p)
{
    uint64_t ms = GONE_MIN_MS + 3 * (uint64_t)session_rtt_us(p->session) / 1000;
    p->gone_us = net_now_us();
    session_doubt(p->session, true);
    (void)uv_timer_start(p->timer, p->timer->timer_cb,
                         ms < GONE_MAX_MS ? ms : GONE_MAX_MS, 0);
}

void peer_check_gone(struct peer *p)
{
    struct fault f;
    if (p->gone_us == 0 || session_answered_us(p->session) > p->gone_us) {
        p->gone_us = 0;
        return;
    }
    p->gone_us = 0;
    (void)fault_set(&f, POSTERN_ERR_CLOSED, "it is tried again by itself",
                    "%.64s has ended or lost its network; open connections through it "
                    "are lost",
                    p->config.name);
    peer_restart(p, &f, false);
}

bool peer_gives_up_offline(struct peer *p)
{
    uint64_t now_us = net_now_us();
    uint64_t silent_us = now_us - session_heard_us(p->session);
    if (silent_us < seconds_us(OFFLINE_S) / 2) {
        p->offline_us = 0;
        return false;
    }
    if (p->offline_us == 0)
        p->offline_us = now_us - silent_us;
    return now_us - p->offline_us > seconds_us(OFFLINE_S);
}

static void tell_silence(struct peer *p, uint64_t silent_us)
{
    struct fault f;
    bool broker = uplink_is_up(p->config.endpoint->uplink);
    if (p->told_silent || silent_us < seconds_us(TELL_S))
        return;
    p->told_silent = true;
    (void)fault_set(&f, POSTERN_ERR_TIMEOUT,
                    "connections wait; it is tried again by itself",
                    broker ? "nothing comes from %.64s on any path"
                           : "nothing comes from %.64s on any path, and the broker "
                             "cannot be reached",
                    p->config.name);
    peer_fault(p, &f, false);
}

void peer_watch_silence(struct peer *p)
{
    struct fault f;
    uint64_t since_us = p->ready ? session_silent_since_us(p->session) : 0;
    uint64_t now_us = net_now_us();
    if (since_us == 0 || p->restarting) {
        p->told_silent = false;
        return;
    }
    tell_silence(p, now_us - since_us);
    if (!uplink_is_up(p->config.endpoint->uplink)) {
        p->waited_us = now_us; /* nothing could be begun anew */
        return;
    }
    if (p->waited_us > since_us)
        since_us = p->waited_us;
    bool present = p->signal_us > since_us;
    unsigned limit_s = present ? PRESENT_S : ABSENT_S;
    if (now_us - since_us < seconds_us(limit_s))
        return;
    (void)fault_set(&f, POSTERN_ERR_TIMEOUT, "it is tried again by itself",
                    "nothing came from %.64s on any path for %u s; open connections "
                    "through it are lost",
                    p->config.name, limit_s);
    peer_restart(p, &f, false);
}

/* One canary, and a socket beside it. */
#include "path/tcp_waves.h"

#include <stdlib.h>

#include "core/waves.h"
#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/udp.h"
#include "path/canary.h"
#include "path/kind.h"
#include "path/net_sessions.h"

struct tcp_waves {
    struct approach *approach;
    struct net *net;
    struct opener opener;
    struct waves waves;
    struct canary canary;
    struct udp *beside;
    unsigned reserved, asked; /* sessions that count already; that were open then */
    uint64_t asked_us;        /* the last time */
    bool heard, deaf;         /* by the socket beside; for good */
};

static uint64_t now_ms(const struct tcp_waves *w)
{
    loop_refresh(w->net->loop);
    return loop_now_ms(w->net->loop);
}

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct tcp_waves *w = ctx;
    (void)s;
    if (!addr_equal(from, &w->canary.server) ||
        !canary_is_beside(&w->canary, buf, len < segment_len ? len : segment_len))
        return;
    w->heard = true;
    waves_spare(&w->waves);
    waves_on_answer(&w->waves, true);
}

static void on_writable(void *ctx, struct udp *s)
{
    (void)ctx, (void)s;
}

static const struct udp_events udp_events = {on_packets, on_writable};

static void on_canary(void *ctx)
{
    struct tcp_waves *w = ctx;
    if (w->waves.stage == WAVES_ASKING)
        net_sessions_saw(&w->opener, w->asked);
    waves_spare(&w->waves);
    waves_on_answer(&w->waves, false);
}

struct tcp_waves *tcp_waves_open(struct approach *a)
{
    struct uplink *u = approach_config_of(a)->uplink;
    struct addr servers[UPLINK_STUN_MAX], any = {.family = ADDR_V4};
    struct tcp_waves *w = calloc(1, sizeof(*w));
    size_t n = uplink_stun(u, servers), i = 0;
    if (w == NULL)
        return NULL;
    w->approach = a;
    w->net = approach_config_of(a)->net;
    w->opener = target_opener(a);
    while (i < n && servers[i].family != ADDR_V4)
        i++;
    waves_init(&w->waves, uplink_rtt_us(u) / 1000);
    waves_ask_first(&w->waves, now_ms(w));
    w->deaf = i == n || udp_open(&w->beside, w->net->loop, &any, w->net->scratch,
                                 &udp_events, w) != 0;
    if (w->deaf)
        w->beside = NULL;
    else
        canary_init(&w->canary, &servers[i], uplink_proof(u), on_canary, w);
    return w;
}

void tcp_waves_close(struct tcp_waves *w)
{
    if (w == NULL)
        return;
    net_sessions_return(&w->opener, w->reserved);
    uplink_return_sessions(approach_config_of(w->approach)->uplink);
    canary_close(&w->canary);
    udp_close(w->beside);
    free(w);
}

static void send_canary(struct tcp_waves *w)
{
    uint8_t beside[STUN_MESSAGE_MAX];
    if (w->canary.socket == NULL) {
        w->asked = net_sessions_open(&w->opener);
        (void)net_sessions_take(&w->opener, 1); /* its own */
    }
    w->asked_us = clock_us();
    size_t len = canary_send(&w->canary, w->net, beside);
    if (len > 0)
        (void)!udp_send(w->beside, &w->canary.server, beside, len, len);
}

/* UDP came through here, and does not any more. */
static void look_whether_cut(struct tcp_waves *w)
{
    if (w->net->relay_heard_us > w->asked_us)
        waves_spare(&w->waves);
    unsigned n = waves_cut(&w->waves, now_ms(w));
    if (n == 0)
        return;
    net_sessions_cut(&w->opener, n);
    log_debug("tcp-punch: this network cut us off after %u sessions in a second", n);
}

void tcp_waves_ask(struct tcp_waves *w)
{
    if (w->deaf)
        return;
    if (waves_asks(&w->waves, now_ms(w))) {
        if (target_may_ask(w->approach, &w->canary.server, 2))
            send_canary(w);
        else
            waves_spare(&w->waves);
    }
    if (w->waves.stage == WAVES_ASKING)
        return;
    if (w->waves.stage == WAVES_UNKNOWN && w->heard) {
        look_whether_cut(w);
        return;
    }
    bool asked = w->canary.socket != NULL;
    canary_close(&w->canary);
    if (w->waves.stage == WAVES_FULL && asked) {
        net_sessions_full(&w->opener);
        log_debug("tcp-punch: this network takes only %u sessions of a sweep",
                  w->net->budget->opened.borne);
    }
    w->deaf = w->waves.stage == WAVES_UNKNOWN && asked && !w->heard;
}

bool tcp_waves_may_open(struct tcp_waves *w, unsigned more)
{
    unsigned room = w->deaf ? more : waves_room(&w->waves);
    if (room > 0 && w->reserved == 0)
        uplink_want_sessions(approach_config_of(w->approach)->uplink, &w->opener, more);
    if (room > 0 && w->reserved == 0)
        w->reserved = net_sessions_take(&w->opener, room < more ? room : more);
    return room > 0 && w->reserved > 0;
}

void tcp_waves_opened(struct tcp_waves *w)
{
    w->reserved--;
    if (!w->deaf)
        waves_opened(&w->waves, now_ms(w));
}

bool tcp_waves_waits(const struct tcp_waves *w)
{
    return !w->deaf && w->waves.stage == WAVES_ASKING;
}

bool tcp_waves_is_full(const struct tcp_waves *w)
{
    return w->waves.stage == WAVES_FULL || net_sessions_are_too_many(&w->opener);
}

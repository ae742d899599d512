/*
 * Judges the direct path in use by what it carries: core/trial decides when another one
 * is to be tried and whether it stays; here its wishes are carried out and its verdicts
 * told.
 */
#include "client/peer_internal.h"

#include "io/clock.h"
#include "io/log.h"
#include "io/loop.h"

static const uint64_t pressed_for_us = 1700000; /* it is said once a second */

static struct path *path_by_id(const struct peer *p, uint32_t id)
{
    return approach_path(tie_approach(p->tie), id);
}

static void use(struct peer *p, uint32_t id)
{
    struct path *path = path_by_id(p, id);
    if (path != NULL)
        session_use_path(peer_session(p), path);
}

/* Back: what was learned meanwhile holds where the other path carries about as much. */
static void go_back(struct peer *p)
{
    uint64_t own = p->trial.own_bit_s, rival = p->trial.rival_bit_s;
    struct path *path = path_by_id(p, ladder_selected_path(peer_ladder(p)));
    if (path == NULL)
        return;
    if (!p->trial.reverse && 5 * rival >= 4 * own)
        session_return_to_path(peer_session(p), path);
    else
        session_use_path(peer_session(p), path);
}

static void set_pace(struct peer *p, uint64_t tick_us)
{
    timer_every(&p->reject, tick_us / 1000, tick_us / 1000);
}

/* What is to be tried: of a direct path's rivals each in its turn. */
static const struct path *pick_rival(struct peer *p, const struct ladder *l)
{
    uint32_t id = ladder_rival(l, p->rivals_tried);
    if (id == LADDER_NO_PATH && path_kind_is_direct(peer_path(p)->kind)) {
        p->rivals_tried = 0;
        id = ladder_rival(l, 0);
    }
    const struct path *rival = id != LADDER_NO_PATH ? path_by_id(p, id) : NULL;
    return rival != NULL && !rival->meagre ? rival : NULL;
}

static struct trial_report report(struct peer *p, const struct ladder *l)
{
    uint64_t now_us = clock_us(), pressed_us = session_pressed_us(peer_session(p));
    struct trial_report r = {.now_us = now_us,
                             .bytes = session_bytes_carried(peer_session(p))};
    if (p->pressed_us > pressed_us)
        pressed_us = p->pressed_us;
    r.pressed = pressed_us != 0 && now_us < pressed_us + pressed_for_us;
    const struct path *used = peer_path(p);
    bool judged =
        used != NULL && (p->trial.running || used->id == ladder_selected_path(l));
    r.path = judged ? used->id : TRIAL_NO_PATH;
    r.path_us = judged ? used->rtt_us : 0;
    r.direct = judged && path_kind_is_direct(used->kind);
    bool wanted = judged && (r.direct ? r.pressed : p->trial.held);
    const struct path *rival = wanted ? pick_rival(p, l) : NULL;
    if (rival != NULL)
        r.rival = rival->id;
    return r;
}

/* The kinds that the same would hold down. */
static uint32_t like(enum path_kind k)
{
    bool udp = (PATH_KINDS_UDP >> k & 1) != 0;
    return udp ? PATH_KINDS_UDP : PATH_KINDS_ALL & ~(PATH_KINDS_UDP | 1u << PATH_RELAY);
}

static void tell_rates(const struct peer *p, enum path_kind own, enum path_kind tried)
{
    log_debug("trial: %s carries %.1f Mbit/s, %s %.1f", path_kind_name(own),
              (double)p->trial.own_bit_s / 1e6, path_kind_name(tried),
              (double)p->trial.rival_bit_s / 1e6);
}

static void carry_out(struct peer *p, enum trial_action a)
{
    const struct ladder *l = peer_ladder(p);
    const struct path *rival = path_by_id(p, p->trial.rival);
    enum path_kind tried = rival != NULL ? rival->kind : PATH_RELAY;
    enum path_kind own = ladder_selected_kind(l);
    switch (a) {
    case TRIAL_NOTHING:
        break;
    case TRIAL_BEGIN:
        log_debug("trial: %s carries %.1f Mbit/s; now %s", path_kind_name(own),
                  (double)p->trial.own_bit_s / 1e6, path_kind_name(tried));
        set_pace(p, TRIAL_TICK_US);
        use(p, p->trial.rival);
        break;
    case TRIAL_KEEP:
        tell_rates(p, own, tried);
        p->rivals_tried = like(own);
        set_pace(p, PEER_TICK_MS * 1000);
        approach_on_outdone(tie_approach(p->tie), own, p->trial.own_bit_s, tried,
                            p->trial.rival_bit_s);
        break;
    case TRIAL_CLEAR:
        tell_rates(p, own, tried);
        set_pace(p, PEER_TICK_MS * 1000);
        approach_on_cleared(tie_approach(p->tie), tried);
        break;
    case TRIAL_BACK:
        tell_rates(p, own, tried);
        p->rivals_tried |= p->trial.reverse ? like(tried) : 1u << tried;
        set_pace(p, PEER_TICK_MS * 1000);
        go_back(p);
        break;
    case TRIAL_FORGIVE:
        p->rivals_tried = 0;
        approach_forgive(tie_approach(p->tie));
        break;
    }
}

void peer_run_trial(struct peer *p)
{
    if (!peer_is_ready(p))
        return;
    struct trial_report r = report(p, peer_ladder(p));
    carry_out(p, trial_next(&p->trial, &r));
}

void peer_end_trial(struct peer *p)
{
    if (!p->trial.running)
        return;
    trial_abort(&p->trial, clock_us());
    set_pace(p, PEER_TICK_MS * 1000);
}

void peer_reset_trial(struct peer *p)
{
    bool running = p->trial.running;
    peer_end_trial(p);
    trial_init(&p->trial);
    p->rivals_tried = 0;
    p->pressed_us = 0;
    if (running && peer_session(p) != NULL)
        use(p, ladder_selected_path(peer_ladder(p)));
}

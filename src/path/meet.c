/*
 * Meeting by TCP: the steps in time, the attempts and what came of them. Which side
 * opens, and how, stands in the plan.
 */
#include "path/meet_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "io/helper.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/sock.h"

enum {
    SYN_AGAIN_MS = 1000,
    CONNECT_DELAY_MS = 100, /* the opener's SYN or listener comes first */
    RETRY_MS = 60,          /* after a refusal: the other side was not ready yet */
    STEP_BASE_MS = 250,
    STEP_MAX_MS = 2000,
    SWEEP_MS = 2500,     /* the kernel sends each SYN again after a second */
    ARRANGED_MS = 130,   /* between two SYN-ACKs */
    GREETING_MS = 1500,  /* after the last step, and two round trips */
    PEER_WAIT_MS = 8000, /* for the other side's addresses */
};

static void on_timer(void *ctx);
static void on_port(void *ctx);

/* A side whose port nobody can know connects; the other opens. */
static bool opens(const struct meet *m)
{
    if (m->plan->predicts && m->symmetric != m->peer_symmetric)
        return m->peer_symmetric;
    return meet_config(m)->client != m->plan->host_opens;
}

bool meet_has_path(const struct meet *m)
{
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] != NULL)
            return true;
    return false;
}

/* --------------------------------------------------------------------- cleaning up */

static void attempts_free(struct meet *m, bool also_connected)
{
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        if (m->attempts[i] == NULL ||
            (!also_connected && attempt_is_connected(m->attempts[i])))
            continue;
        attempt_free(m->attempts[i]);
        m->attempts[i] = NULL;
    }
}

/* Everything of a round but the paths that came of it. */
static void round_end(struct meet *m)
{
    m->phase = IDLE;
    timer_stop(&m->timer);
    timer_stop(&m->retry);
    attempts_free(m, true);
    meet_close_listeners(m);
    tcp_port_close(m->port);
    m->port = NULL;
    m->port_done = false;
    m->arranged_count = 0;
    if (!meet_has_path(m))
        meet_release(m);
}

void meet_fail(struct meet *m, const char *reason)
{
    round_end(m);
    if (!meet_has_path(m))
        approach_failed(m->approach, m->plan->kind, reason);
}

void meet_refuse(struct meet *m, const char *reason)
{
    if (reason != m->refused)
        (void)snprintf(m->refused, sizeof(m->refused), "%s", reason);
    if (!meet_config(m)->client)
        approach_offer_soon(m->approach);
    meet_fail(m, m->refused);
}

static void path_drop(struct meet *m, int i, const char *why)
{
    struct framed *f = m->paths[i];
    m->paths[i] = NULL;
    if (why != NULL)
        approach_lost(m->approach, framed_path(f), why);
    approach_path_retire(m->approach, framed_path(f));
    framed_free(f);
    if (!meet_has_path(m) && m->phase == IDLE)
        meet_release(m);
}

static void leave(struct meet *m)
{
    m->busy = false;
    if (m->freed)
        free(m);
}

/* ------------------------------------------------------------------------- success */

static void on_broke(void *ctx, struct framed *f, const char *why)
{
    struct meet *m = ctx;
    m->busy = true;
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] == f)
            path_drop(m, i, why);
    leave(m);
}

static void add_path(struct meet *m, int fd)
{
    struct addr from;
    int slot = -1;
    if (sock_remote(fd, &from) == 0)
        target_answered(m->approach, &from);
    for (int i = 0; i < PATHS_MAX && slot < 0; i++)
        if (m->paths[i] == NULL)
            slot = i;
    struct framed *f = NULL;
    if (slot < 0 || framed_new(&f, meet_config(m)->net, fd, m->plan->kind,
                               approach_next_path_id(m->approach), on_broke, m) != 0) {
        close(fd);
        return;
    }
    m->paths[slot] = f;
    if (meet_config(m)->client) /* it chooses: the first is the one */
        round_end(m);
    else
        meet_close_listeners(m); /* one client came, and it was the right one */
    approach_path_new(m->approach, framed_path(f));
    if (!m->freed)
        approach_proven(m->approach, framed_path(f));
}

/* ------------------------------------------------------------------------ attempts */

struct greeting_terms meet_terms(const struct meet *m)
{
    struct greeting_terms t = {.client = meet_config(m)->client, .kind = m->plan->kind};
    memcpy(t.key, approach_check_key(m->approach), sizeof(t.key));
    return t;
}

struct attempt **meet_free_slot(struct meet *m)
{
    for (int i = 0; i < PLAIN_MAX; i++) {
        if (m->attempts[i] != NULL)
            continue;
        m->told[i] = false;
        return &m->attempts[i];
    }
    return NULL;
}

static bool under_way(const struct meet *m, const struct addr *remote)
{
    for (int i = 0; i < ATTEMPTS_MAX; i++)
        if (m->attempts[i] != NULL &&
            addr_equal(attempt_remote(m->attempts[i]), remote))
            return true;
    return false;
}

/* From the port that was told, or one of its own with the number that was asked for. */
static int connect_one(struct meet *m, struct attempt **slot, const struct addr *to,
                       unsigned hops)
{
    struct greeting_terms terms = meet_terms(m);
    struct addr local;
    if (!tcp_port_local(m->port, (enum addr_family)to->family, &local))
        return POSTERN_ERR_UNREACHABLE;
    if (m->knock_port != 0)
        local.port = m->knock_port;
    bool knocks = m->plan->knocks && meet_config(m)->client;
    if (!knocks && !meet_can_arrange(m))
        return attempt_connect(slot, meet_config(m)->net, &local, to, hops, &terms,
                               meet_on_attempt, m);
    if (knocks)
        local.port = 0;
    int fd = knocks ? meet_sequenced_socket(&local, m->peer_sequence)
                    : meet_sequenced_socket(&local, meet_next_sequence(m, m->sequence));
    if (fd < 0)
        return fd;
    int rc = attempt_connect_on(slot, meet_config(m)->net, fd, to, hops, &terms,
                                meet_on_attempt, m);
    if (rc != 0)
        close(fd);
    return rc;
}

/* The kernel repeats a SYN after a second. */
unsigned meet_syn_cost(const struct meet *m)
{
    return m->step_ms < SYN_AGAIN_MS ? 1 : 2;
}

void meet_connect_all(struct meet *m, unsigned hops)
{
    for (size_t i = 0; i < m->peer_count; i++) {
        struct attempt **slot = meet_free_slot(m);
        if (slot == NULL || m->syns[i] >= MEET_SYNS_MAX || under_way(m, &m->peers[i]) ||
            !target_may_send(m->approach, &m->peers[i], meet_syn_cost(m)))
            continue;
        m->syns[i]++;
        if (connect_one(m, slot, &m->peers[i], hops) != 0)
            *slot = NULL;
    }
}

static bool sweeps_both(const struct meet *m)
{
    return m->plan->predicts && m->symmetric && m->peer_symmetric && m->low &&
           m->peer_low;
}

/* Towards every port that the peer's NAT may have drawn from its low ones. */
static void sweep(struct meet *m, unsigned hops, unsigned which)
{
    struct greeting_terms terms = meet_terms(m);
    struct addr local, to = {0};
    for (size_t i = 0; i < m->peer_count && to.family == ADDR_NONE; i++)
        if (m->peers[i].family == ADDR_V4) /* the first is the reflexive one */
            to = m->peers[i];
    if (to.family == ADDR_NONE || !tcp_port_local(m->port, ADDR_V4, &local) ||
        !target_is_time_to_sweep(m->approach) || !target_may_be_swept(m->approach, &to))
        return;
    if (which > 0) /* the peer need not know it: it tries them all */
        local.port = tcp_port_find_low();
    if (local.port == 0)
        return;
    for (unsigned i = 0; i < PREDICT_LOW_COUNT; i++) {
        struct attempt **slot = &m->attempts[PLAIN_MAX + which * PREDICT_LOW_COUNT + i];
        to.port = (uint16_t)(PREDICT_LOW_FIRST + i);
        if (*slot == NULL && (which > 0 || !under_way(m, &to)) &&
            target_may_sweep(m->approach, &to, meet_syn_cost(m)) &&
            attempt_connect(slot, meet_config(m)->net, &local, &to, hops, &terms,
                            meet_on_attempt, m) != 0)
            *slot = NULL;
    }
}

static unsigned hops_now(const struct meet *m)
{
    return m->plan->hops[m->step > 0 ? m->step - 1 : 0];
}

static bool is_arranged(unsigned hops)
{
    return hops == MEET_HOPS_ARRANGED || hops == MEET_HOPS_ARRANGED_BACK;
}

/* In the arranged steps: the side whose SYN dies, and that answers what it cannot see.
 */
static bool answers(const struct meet *m)
{
    return opens(m) == (hops_now(m) == MEET_HOPS_ARRANGED);
}

static void on_retry(void *ctx)
{
    struct meet *m = ctx;
    if (m == NULL || m->phase != MEETING || sweeps_both(m))
        return;
    unsigned hops = hops_now(m);
    bool opener = opens(m);
    if (is_arranged(hops) && answers(m)) {
        if (meet_arranged_answer(m))
            timer_start(&m->retry, ARRANGED_MS);
    } else if (is_arranged(hops)) {
        if (!m->arranged_tried)
            meet_arranged_connect(m);
        m->arranged_tried = true;
    } else if (!m->plan->knocks || !opener || m->knocked) {
        meet_connect_all(m, opener ? hops : 0);
    }
}

/* The answering side's SYN comes first, also where it is the side that begins later. */
static void run_arranged(struct meet *m)
{
    m->arranged_tried = false;
    if (answers(m))
        meet_arrange(m);
    unsigned ms = answers(m) ? ARRANGED_MS
                  : hops_now(m) == MEET_HOPS_ARRANGED
                      ? 0
                      : 2 * CONNECT_DELAY_MS + approach_rtt_hint_us(m->approach) / 1000;
    timer_start(&m->retry, ms);
}

void meet_on_attempt(void *ctx, struct attempt *a, int err, int fd)
{
    struct meet *m = ctx;
    m->busy = true;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        if (m->attempts[i] != a)
            continue;
        m->attempts[i] = NULL;
        if (err == 0 && i < PLAIN_MAX && m->told[i] && !meet_arranged_agrees(m, fd)) {
            close(fd);
            err = POSTERN_ERR_CLOSED;
        }
    }
    if (err == 0)
        add_path(m, fd);
    else if (err == POSTERN_ERR_DENIED && m->plan->listens && opens(m))
        meet_fail(m,
                  "the first message on the temporary port was wrong: it was closed");
    else if (m->phase == MEETING)
        timer_start(&m->retry, RETRY_MS);
    leave(m);
}

/* ---------------------------------------------------------------------------- time */

static void run_step(struct meet *m)
{
    attempts_free(m, false);
    m->step++;
    unsigned hops = m->plan->hops[m->step - 1];
    if (sweeps_both(m)) { /* the one step there is */
        m->step = m->plan->steps;
        /* NATs that answer RST end what comes too early: in each second round the SYNs
         * die on the way, and those that the kernel repeats after a second meet. */
        for (unsigned i = 0; i < SWEEP_PORTS; i++)
            sweep(m, m->round % 2 == 0 ? 2 : 0, i);
        timer_start(&m->timer, SWEEP_MS);
        return;
    }
    if (is_arranged(hops) && !meet_can_arrange(m)) {
        timer_start(&m->timer, 0);
        return;
    }
    if (is_arranged(hops)) {
        if (!m->strips) /* else this side only keeps step */
            run_arranged(m);
    } else if (opens(m) && m->plan->knocks) {
        m->knocked = false; /* waits for it */
    } else if (opens(m)) {
        if (!m->plan->lasts)
            meet_connect_all(m, hops);
        if (m->plan->predicts && m->peer_low && hops > 0)
            sweep(m, hops, 0);
        if (m->plan->listens)
            meet_open_listeners(m);
    } else {
        meet_connect_all(m, 0);
    }
    unsigned window_ms = meet_config(m)->jit_window_ms;
    timer_start(&m->timer, m->plan->listens && !m->plan->lasts && window_ms != 0
                               ? window_ms
                               : m->step_ms);
}

static void end_steps(struct meet *m)
{
    attempts_free(m, false);
    meet_close_listeners(m);
    m->phase = LAST_WORDS;
    bool waits = false;
    for (int i = 0; i < ATTEMPTS_MAX; i++)
        waits = waits || m->attempts[i] != NULL;
    unsigned ms = GREETING_MS + 2 * approach_rtt_hint_us(m->approach) / 1000;
    timer_start(&m->timer, waits ? ms : 0);
}

static void tell_failed(struct meet *m)
{
    char reason[160];
    unsigned syns = 0;
    for (size_t i = 0; i < m->peer_count; i++)
        syns += m->syns[i];
    if (m->stranger)
        (void)snprintf(reason, sizeof(reason),
                       "somebody else touched the temporary port: it was closed");
    else
        (void)snprintf(reason, sizeof(reason),
                       "no connection came through: %u tries to %zu addresses%s", syns,
                       m->peer_count,
                       m->plan->listens ? " while the port was open" : "");
    meet_fail(m, reason);
}

static void on_timer(void *ctx)
{
    struct meet *m = ctx;
    m->busy = true;
    switch (m->phase) {
    case WAITING:
        meet_fail(m, "the other side told no TCP address");
        break;
    case MEETING:
        if (m->step < m->plan->steps)
            run_step(m);
        else
            end_steps(m);
        break;
    case LAST_WORDS:
        tell_failed(m);
        break;
    default:
        break;
    }
    leave(m);
}

/* Both sides know each other's addresses, the one about half a round trip later. */
void meet_begin(struct meet *m)
{
    if (m->phase != WAITING || !m->port_done || m->peer_count == 0 ||
        m->peer_round != m->round)
        return;
    unsigned delay =
        opens(m) ? 0 : CONNECT_DELAY_MS + approach_rtt_hint_us(m->approach) / 2000;
    m->phase = MEETING;
    m->step = 0;
    m->stranger = false;
    memset(m->syns, 0, sizeof(m->syns));
    timer_start(&m->timer, delay);
}

static void on_port(void *ctx)
{
    struct meet *m = ctx;
    if (m->plan->predicts && !m->symmetric && tcp_port_is_changed(m->port)) {
        m->symmetric = true;
        struct tcp_port *changed = m->port;
        m->low = tcp_port_open(&m->port, m->approach, true, on_port, m) == 0;
        if (m->low) {
            tcp_port_close(changed);
            return; /* asks again, from a port that can be predicted */
        }
        m->port = changed;
    }
    if (m->plan->knocks && !meet_config(m)->client && !meet_knock_open(m)) {
        meet_refuse(m, m->refused);
        return;
    }
    if (m->plan->maps && !meet_config(m)->client) {
        if (!meet_map(m))
            meet_refuse(m, m->refused);
        return; /* meet_on_mapped goes on */
    }
    meet_on_addresses(m);
}

void meet_on_addresses(struct meet *m)
{
    struct tcp_candidate found[TCP_PORT_CANDIDATES_MAX];
    /* A NAT that does not keep low ports low cannot be foreseen so. */
    m->low = m->low && tcp_port_is_mapped_low(m->port);
    m->port_done = true;
    m->phase = WAITING;
    if (tcp_port_candidates(m->port, found) == 0) {
        meet_refuse(m, "no address there that TCP could reach");
        return;
    }
    timer_start(&m->timer, PEER_WAIT_MS);
    approach_offer_soon(m->approach);
    meet_begin(m);
}

void meet_begin_round(struct meet *m)
{
    round_end(m);
    m->phase = GATHERING;
    m->symmetric = m->low = false;
    m->refused[0] = '\0';
    m->sequence = 0;
    if ((m->plan->knocks && meet_config(m)->client) || m->plan->predicts)
        m->sequence = helper_can(PRIVILEGE_CAN_FILTER) && !m->strips
                          ? 1 + randombytes_uniform(UINT32_MAX - 1)
                          : 0;
    if (m->plan->knocks && meet_config(m)->client && m->sequence == 0) {
        meet_fail(m, helper_missing());
        return;
    }
    if (tcp_port_open(&m->port, m->approach, false, on_port, m) != 0) {
        m->port = NULL;
        meet_fail(m, "out of memory");
    }
}

/*
 * A SYN must arrive before the other side's next step begins, so a step lasts two round
 * trips and a bit; the client, who knows one of them, says so to both.
 */
void meet_set_step(struct meet *m, unsigned told_ms)
{
    unsigned ms = m->plan->step_ms;
    unsigned rtt_ms = approach_rtt_hint_us(m->approach) / 1000;
    if (m->plan->steps > 1)
        ms = told_ms != 0 ? told_ms : STEP_BASE_MS + 2 * rtt_ms;
    m->step_ms = ms < m->plan->step_ms                    ? m->plan->step_ms
                 : ms > STEP_MAX_MS && m->plan->steps > 1 ? STEP_MAX_MS
                                                          : ms;
}

/* ------------------------------------------------------------------------ the kind */

void *meet_new(struct approach *a, const void *plan)
{
    struct meet *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return NULL;
    m->approach = a;
    m->plan = plan;
    timer_init(&m->timer, meet_config(m)->net->loop, on_timer, m);
    timer_init(&m->retry, meet_config(m)->net->loop, on_retry, m);
    return m;
}

/* The host begins when the client's addresses of a new round arrive. */
void meet_start(void *k)
{
    struct meet *m = k;
    approach_started(m->approach, m->plan->kind);
    if (!meet_config(m)->client)
        return;
    m->round++;
    m->peer_count = 0;
    m->waits_for_uplink = !uplink_is_up(meet_config(m)->uplink);
    if (!m->waits_for_uplink) {
        meet_set_step(m, 0);
        meet_begin_round(m);
    }
}

/* A cold start: nobody could say yet where we are seen. */
void meet_on_uplink(void *k, bool up)
{
    struct meet *m = k;
    if (!up || !m->waits_for_uplink)
        return;
    m->waits_for_uplink = false;
    meet_set_step(m, 0);
    meet_begin_round(m);
}

void meet_stop(void *k)
{
    struct meet *m = k;
    m->waits_for_uplink = false;
    round_end(m);
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] != NULL)
            path_drop(m, i, NULL);
    meet_release(m);
}

void meet_free(void *k)
{
    struct meet *m = k;
    round_end(m);
    for (int i = 0; i < PATHS_MAX; i++)
        framed_free(m->paths[i]);
    meet_release(m);
    timer_stop(&m->timer);
    timer_stop(&m->retry);
    m->freed = true;
    if (!m->busy)
        free(m);
}

void meet_on_dead(void *k, struct path *p)
{
    struct meet *m = k;
    for (int i = 0; i < PATHS_MAX; i++)
        if (m->paths[i] != NULL && framed_path(m->paths[i]) == p)
            path_drop(m, i, NULL);
}

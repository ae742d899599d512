/*
 * A meeting that hears hostile Offers in any phase: the input is a row of events, each
 * a byte, Offers with their length and bytes behind it. Nothing may trip the machine's
 * own asserts, and no address gets more tries than stated.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/meeting.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool fits(void *ctx, const struct addr *a)
{
    (void)ctx;
    return a->port % 5 != 0;
}

static void check(struct meeting *m)
{
    enum meeting_action_type a;
    int pulled = 0;
    while (meeting_next(m, &a)) {
        if (++pulled > 2 * MEETING_ACTION_COUNT)
            abort();
        if (a == MEETING_STEP && meeting_step_now(m).move == MEETING_KEEP_STEP)
            abort();
    }
    if (m->peer_count > MEETING_PEERS_MAX || m->step > m->plan->steps ||
        m->due_ms <= m->now_ms)
        abort();
    for (size_t i = 0; i < m->peer_count; i++)
        if (m->tries[i] > MEETING_TURNS)
            abort();
}

static void tell(const struct meeting *m)
{
    struct meeting_address own[2] = {{{.family = ADDR_V4, .port = 1}, false},
                                     {{.family = ADDR_V6, .port = 2}, true}};
    Offer o = Offer_init_zero;
    uint8_t buf[4096];
    meeting_fill(m, own, 2, &o);
    if (proto_encode_offer(buf, sizeof(buf), &o) < 0)
        abort();
}

/* How many bytes of it were used. */
static size_t hear(struct meeting *m, const uint8_t *data, size_t size)
{
    Offer o;
    size_t len = size > 0 ? data[0] : 0;
    if (size == 0)
        return 0;
    len = len < size - 1 ? len : size - 1;
    if (proto_decode_offer(&o, data + 1, len) >= 0)
        meeting_on_offer(m, &o, fits, NULL);
    return 1 + len;
}

static void apply(struct meeting *m, uint8_t event)
{
    struct addr from = {.family = ADDR_V4, .port = 7, .ip = {192, 0, 2, 1}};
    struct meeting_side own = {
        .symmetric = event & 16, .low = event & 32, .sequence = event & 64};
    switch (event % 14) {
    case 0:
        if (m->client)
            meeting_start(m, event & 16);
        break;
    case 1:
        meeting_on_uplink(m);
        break;
    case 2:
        meeting_gathered(m, &own);
        break;
    case 3:
        meeting_ready(m);
        break;
    case 4:
        meeting_refuse(m, "words");
        break;
    case 5:
        meeting_found(m);
        break;
    case 6:
        (void)meeting_on_knock(m, &from);
        break;
    case 7:
        meeting_on_path(m);
        break;
    case 8:
        meeting_over(m);
        break;
    case 9:
        meeting_stop(m);
        break;
    case 10:
        for (size_t i = 0; i < m->peer_count; i++)
            (void)meeting_try(m, i);
        break;
    default:
        meeting_at(m, m->now_ms + event * 8u, event * 2u);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct meeting m;
    if (size < 1 ||
        meeting_plan_of((enum path_kind)(data[0] / 2 % PATH_KIND_COUNT)) == NULL)
        return 0;
    meeting_init(&m, (enum path_kind)(data[0] / 2 % PATH_KIND_COUNT), data[0] & 1, 0);
    meeting_at(&m, 1000, 50);
    for (size_t at = 1; at < size;) {
        uint8_t event = data[at++];
        if (event >= 224)
            at += hear(&m, data + at, size - at);
        else
            apply(&m, event);
        check(&m);
        tell(&m);
    }
    return 0;
}

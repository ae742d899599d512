/* When an introduction is to be said; states and times, nothing else. */
#include "core/introduction.h"

#include "core/state.h"

static const struct backoff_policy pauses = {
    .first_ms = 700, .max_ms = 11200, .health_ms = UINT32_MAX};

// clang-format off
static const uint8_t introduction_next[] = {
    [INTRODUCTION_UNSAID]   = 1u << INTRODUCTION_ASKED,
    [INTRODUCTION_ASKED]    = 1u << INTRODUCTION_ANSWERED | 1u << INTRODUCTION_VAIN,
    [INTRODUCTION_ANSWERED] = 1u << INTRODUCTION_ASKED | 1u << INTRODUCTION_VAIN,
    [INTRODUCTION_VAIN]     = 1u << INTRODUCTION_ASKED,
};
// clang-format on

static void go(struct introduction *i, enum introduction_state to)
{
    STATE_GO(introduction_next, i->state, to);
}

void introduction_init(struct introduction *i, uint64_t seed)
{
    *i = (struct introduction){.state = INTRODUCTION_UNSAID};
    backoff_init(&i->pauses, &pauses, seed);
}

uint64_t introduction_due_ms(const struct introduction *i)
{
    return introduction_is_answered(i) ? UINT64_MAX : i->at_ms;
}

void introduction_on_sent(struct introduction *i, bool sent, uint64_t now_ms)
{
    if (sent)
        go(i, INTRODUCTION_ASKED);
    i->at_ms = now_ms + backoff_on_down(&i->pauses, now_ms);
}

void introduction_on_offer(struct introduction *i)
{
    if (i->state == INTRODUCTION_ASKED)
        go(i, INTRODUCTION_ANSWERED);
    else if (i->state == INTRODUCTION_VAIN)
        i->at_ms = 0;
    else
        return;
    introduction_reset_pauses(i);
}

void introduction_on_ticket(struct introduction *i)
{
    if (i->state == INTRODUCTION_ASKED)
        introduction_on_offer(i);
}

void introduction_on_offline(struct introduction *i, uint64_t now_ms)
{
    if (i->state == INTRODUCTION_UNSAID)
        return;
    go(i, INTRODUCTION_VAIN);
    i->at_ms = now_ms + backoff_on_down(&i->pauses, now_ms);
}

void introduction_again(struct introduction *i, uint64_t at_ms)
{
    if (i->state == INTRODUCTION_ANSWERED)
        go(i, INTRODUCTION_ASKED);
    i->at_ms = at_ms;
}

void introduction_reset_pauses(struct introduction *i)
{
    backoff_reset(&i->pauses);
}

bool introduction_was_said(const struct introduction *i)
{
    return i->state != INTRODUCTION_UNSAID;
}

bool introduction_is_answered(const struct introduction *i)
{
    return i->state == INTRODUCTION_ANSWERED;
}

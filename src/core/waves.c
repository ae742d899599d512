/* When the next wave goes out, and when none does any more. */
#include "core/waves.h"

#include "core/state.h"

// clang-format off
static const uint8_t stage_next[] = {
    [WAVES_OPENING] = 1u << WAVES_ASKING,
    [WAVES_ASKING]  = 1u << WAVES_OPENING | 1u << WAVES_FULL | 1u << WAVES_UNKNOWN,
    [WAVES_FULL]    = 0,
    [WAVES_UNKNOWN] = 0,
};
// clang-format on

void waves_init(struct waves *w, unsigned rtt_ms)
{
    *w = (struct waves){.wait_ms = 2 * rtt_ms + WAVES_WAIT_MS};
}

static unsigned size_of(unsigned number)
{
    unsigned size = WAVES_FIRST;
    while (number-- > 0 && size < WAVES_LARGEST)
        size *= 2;
    return size < WAVES_LARGEST ? size : WAVES_LARGEST;
}

static void ask(struct waves *w, uint64_t now_ms)
{
    STATE_GO(stage_next, w->stage, WAVES_ASKING);
    w->tries = 0;
    w->known_answered = false;
    w->due_ms = now_ms;
}

void waves_ask_first(struct waves *w, uint64_t now_ms)
{
    ask(w, now_ms);
}

bool waves_may_open(const struct waves *w)
{
    return w->stage == WAVES_OPENING;
}

unsigned waves_room(const struct waves *w)
{
    return waves_may_open(w) ? size_of(w->number) - w->opened : 0;
}

void waves_opened(struct waves *w, uint64_t now_ms)
{
    if (w->opened == 0 && now_ms - w->recent_ms > WAVES_RECENT_MS) {
        w->recent = 0;
        w->recent_ms = now_ms;
    }
    w->recent++;
    if (++w->opened >= size_of(w->number))
        ask(w, now_ms);
}

void waves_end(struct waves *w, uint64_t now_ms)
{
    if (w->stage == WAVES_OPENING && w->number > 0 && w->opened > 0)
        ask(w, now_ms);
}

bool waves_asks(struct waves *w, uint64_t now_ms)
{
    if (w->stage != WAVES_ASKING || now_ms < w->due_ms)
        return false;
    if (w->tries == WAVES_TRIES) {
        STATE_GO(stage_next, w->stage, w->known_answered ? WAVES_FULL : WAVES_UNKNOWN);
        w->due_ms = now_ms + WAVES_QUIET_MS;
        return false;
    }
    w->tries++;
    w->due_ms = now_ms + w->wait_ms;
    return true;
}

void waves_on_answer(struct waves *w, bool known)
{
    if (w->stage != WAVES_ASKING || w->tries == 0)
        return;
    if (known) {
        w->known_answered = true;
        return;
    }
    STATE_GO(stage_next, w->stage, WAVES_OPENING);
    w->number += w->opened > 0;
    w->opened = 0;
}

void waves_spare(struct waves *w)
{
    bool last = w->stage == WAVES_ASKING && w->tries == WAVES_TRIES;
    if (last || w->stage == WAVES_UNKNOWN)
        w->recent = 0;
}

unsigned waves_cut(struct waves *w, uint64_t now_ms)
{
    unsigned n = w->recent > WAVES_HARM ? w->recent : 0;
    if (w->stage != WAVES_UNKNOWN || now_ms < w->due_ms)
        return 0;
    w->recent = 0;
    return n;
}

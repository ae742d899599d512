/* Asks path/target for each pair; the marks are the broker's, and only kept. */
#include "path/accept.h"

#include <string.h>

#include "io/log.h"
#include "io/loop.h"
#include "path/kind.h"

static bool is_relayed(const struct approach *a)
{
    return (approach_config_of(a)->allowed >> PATH_RELAY & 1) != 0;
}

static void say(struct approach *a, Introduce_mark_t mark, bool no_pair)
{
    const struct approach_config *c = approach_config_of(a);
    Control m = {.which_body = Control_accept_tag};
    Accept *ac = &m.body.accept;
    memcpy(m.peer, c->peer, KEY_LEN);
    memcpy(m.conv, c->conv, CONV_LEN);
    ac->no_pair = no_pair;
    ac->listed = !c->unlisted;
    ac->mark.size = mark.size;
    memcpy(ac->mark.bytes, mark.bytes, mark.size);
    if (uplink_send(c->uplink, &m) != 0)
        log_debug("the broker could not be told of a session");
}

/* False: none now; what waits for one is remembered. */
static bool take_pair(struct accept *ac, struct approach *a, Introduce_mark_t mark)
{
    *ac = (struct accept){0};
    if (!is_relayed(a))
        return false;
    if (target_may_pair(a))
        return true;
    uint64_t wait_ms = target_pair_wait_ms(a);
    if (wait_ms > 0)
        ac->turn_ms = loop_now_ms(approach_config_of(a)->net->loop) + wait_ms;
    if (wait_ms > 0 || !approach_is_established(a))
        ac->mark = mark;
    return false;
}

void accept_say(struct accept *ac, struct approach *a, Introduce_mark_t mark)
{
    say(a, mark, !take_pair(ac, a, mark));
}

void accept_ask(struct accept *ac, struct approach *a)
{
    Introduce_mark_t mark = ac->mark;
    if (mark.size > 0 && take_pair(ac, a, mark))
        say(a, mark, false);
}

uint64_t accept_due_ms(const struct accept *ac, const struct approach *a)
{
    bool waits = ac->mark.size > 0 && ac->turn_ms != 0 && approach_is_established(a);
    return waits ? ac->turn_ms : UINT64_MAX;
}

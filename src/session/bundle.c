/*
 * How many packets may leave in one bundle (UDP_SEGMENT). There are paths that swallow
 * bundles and let single packets pass: a filter or a policer that sees a bundle as one
 * long packet. QUIC's repeats then leave in bundles again, and are lost again, while
 * whatever asks for the path goes singly and is answered.
 *
 * So one packet of a bundle carries a witness: a DATAGRAM frame, of which QUIC says
 * whether its packet was acknowledged or lost. Before streams' bytes it is an empty one
 * of 2 bytes; where datagrams are sent the first of them is it. Whether others leave
 * with it is known later: one whose packet left alone says nothing. Where none was
 * acknowledged for max(0.15 s, 2 probe timeouts) and some were lost, or nothing is
 * acknowledged at all though the path answers what it was asked later, bundles are in
 * doubt: packets leave singly, which costs processor time and nothing else. But loss
 * by chance takes a few in a row as well, and a window that is lost whole looks like
 * that. So in doubt bundles of 2 are tried in quick order: where some are lost by
 * chance one of the first comes over, and where all are lost none does. SURE of them
 * in a row (0.3^SURE is one in five thousand) are a judgement: the pause between two
 * tries is PAUSE then, and doubles with each. After a try that came over bundles of 4,
 * 8 ... are tried, as long as they are acknowledged; each size may fail as often.
 *
 * QUIC begins anew where nothing is acknowledged at all, or else with the judgement:
 * its window and timers are those of a dead path.
 *
 * A witness that is late says nothing: on a slow line it waits behind others. But QUIC
 * takes back what left before a probe timeout, and then never says that it was lost: a
 * try is over where something is acknowledged so much later, or nothing is under way.
 */
#include "session/internal.h"

enum {
    TRIES = 3,
    SURE = 7,
    ENOUGH = 32,         /* packets: what longer ones spare is little */
    EVERY_NS = 1000000,  /* between two witnesses */
    QUICK_NS = 8000000,  /* between two tries in doubt */
    GRACE_NS = 30000000, /* an acknowledgement may leave after the answer */
    PAUSE_NS = 500000000,
};
static const uint64_t pause_max_ns = 600 * 1000000000ull;

/* Only where one packet is one datagram. */
static struct bundles *of_path(const struct session *s)
{
    struct path *p = s->current;
    return p != NULL && !p->stream && !p->meagre ? &p->bundles : NULL;
}

static uint64_t max_ns(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t patience_ns(const struct session *s)
{
    return 1000 * max_ns(PATHS_PATIENCE_MIN_US, 2 * (uint64_t)s->net.pto_us);
}

/* From when on it is strange that no witness was acknowledged. */
static uint64_t overdue_ns(const struct session *s, const struct bundles *b)
{
    return b->since_ns + patience_ns(s);
}

static bool tries_now(const struct bundles *b, uint64_t now_ns)
{
    return b->most != 0 && b->trial == 0 && now_ns >= b->next_ns;
}

/* Did it leave with others? Of the latest only: later its place is another's. */
static uint8_t *in_bundle(struct session *s, uint64_t witness)
{
    return &s->in_bundle[witness % SESSION_WITNESSES];
}

void bundle_begin(struct session *s)
{
    struct bundles *b = of_path(s);
    if (b == NULL)
        return;
    b->first = b->known = s->witness;
    b->trial = 0;
    b->open = b->missed = 0;
    b->since_ns = 0;
}

void bundle_on_label(struct session *s, uint64_t now_ns)
{
    s->singly_ns = now_ns + patience_ns(s);
}

unsigned bundle_limit(const struct session *s, uint64_t now_ns)
{
    const struct bundles *b = of_path(s);
    if (b == NULL)
        return BUNDLE_MAX;
    if (now_ns < s->singly_ns || (b->since_ns != 0 && now_ns >= overdue_ns(s, b)))
        return 1;
    if (b->most == 0)
        return BUNDLE_MAX;
    return tries_now(b, now_ns) ? 2 * b->most : b->most;
}

uint64_t bundle_witness(struct session *s, uint64_t now_ns)
{
    struct bundles *b = of_path(s);
    if (b == NULL || !session_is_secure(s))
        return 0;
    bool more = stream_is_any_ready(s) || !list_empty(&s->datagrams); /* to fill it */
    bool due = (more && now_ns >= b->left_ns + EVERY_NS) || b->missed > 0;
    if (!due && !tries_now(b, now_ns))
        return 0;
    s->witness++;
    *in_bundle(s, s->witness) = 0;
    return s->witness;
}

void bundle_on_sent(struct session *s, uint64_t witness, size_t count, uint64_t now_ns)
{
    struct bundles *b = of_path(s);
    if (b == NULL || count < 2)
        return;
    *in_bundle(s, witness) = 1;
    b->left_ns = now_ns;
    b->open++;
    if (b->most != 0 && count > b->most) {
        b->trial = witness;
        b->trial_ns = now_ns;
        b->tried = (unsigned)count;
    } else if (b->most != 1 && b->since_ns == 0) {
        b->since_ns = now_ns;
        b->look_ns = now_ns + patience_ns(s);
        b->answered_ns = 0;
    }
}

static void pause_longer(struct bundles *b, uint64_t now_ns)
{
    b->pause_ns = 2 * b->pause_ns < pause_max_ns ? 2 * b->pause_ns : pause_max_ns;
    b->next_ns = now_ns + b->pause_ns;
}

/* Bundles of this size are lost, all of them. */
static void judge(struct session *s, struct bundles *b, uint64_t now_ns)
{
    bool again = b->fell_ns != 0 && now_ns < b->fell_ns + pause_max_ns;
    b->fell_ns = now_ns;
    if (!again)
        b->pause_ns = PAUSE_NS / 2;
    if (b->most == 1 && !b->renewed)
        stall_renew(s, "bundles are lost: packets leave singly, and", now_ns / 1000);
    b->renewed = true;
}

/* The try is lost; what is said of it from now on counts no more. */
static void try_later(struct session *s, struct bundles *b, uint64_t now_ns)
{
    *in_bundle(s, b->trial) = 0;
    b->trial = 0;
    b->failed++;
    if (b->failed == SURE)
        judge(s, b, now_ns);
    if (b->failed < SURE)
        b->next_ns = now_ns + QUICK_NS;
    else
        pause_longer(b, now_ns);
}

void bundle_on_acked(struct session *s, uint64_t witness, uint64_t now_ns)
{
    struct bundles *b = of_path(s);
    if (b == NULL || witness <= b->first || *in_bundle(s, witness) == 0)
        return;
    b->open -= b->open > 0;
    if (witness == b->trial) {
        b->trial = 0;
        b->failed = 0;
        b->most = b->tried >= ENOUGH ? 0 : b->tried;
        b->next_ns = now_ns;
    }
    if (witness <= b->known)
        return;
    b->known = witness;
    b->missed = 0;
    b->since_ns = b->open > 0 ? now_ns : 0;
    b->look_ns = now_ns + patience_ns(s);
    b->answered_ns = 0;
}

void bundle_on_lost(struct session *s, uint64_t witness, uint64_t now_ns)
{
    struct bundles *b = of_path(s);
    if (b == NULL || witness <= b->first || *in_bundle(s, witness) == 0)
        return;
    b->open -= b->open > 0;
    if (witness == b->trial) {
        try_later(s, b, now_ns);
    } else if (witness > b->known) {
        b->missed++;
    }
}

void bundle_on_settled(struct session *s, uint64_t now_ns)
{
    struct bundles *b = of_path(s);
    if (b == NULL)
        return;
    b->open = 0;
    if (b->trial != 0)
        try_later(s, b, now_ns);
}

/* Something that left later was acknowledged, and of this one nothing is heard. */
static bool is_taken_back(const struct session *s, uint64_t left_ns)
{
    return s->net.progress_us * 1000 >= left_ns + patience_ns(s);
}

/* Does all stand still on a path that answers? Else when to look again. */
static bool stands(struct session *s, struct bundles *b, uint64_t now_ns)
{
    uint64_t quiet_ns = max_ns(b->since_ns, s->net.progress_us * 1000);
    if (now_ns < quiet_ns + patience_ns(s)) {
        b->look_ns = quiet_ns + patience_ns(s);
        b->answered_ns = 0;
        return false;
    }
    if (paths_answered_us(&s->net) <= quiet_ns / 1000) {
        b->look_ns = now_ns + patience_ns(s); /* or with the answer */
        b->answered_ns = 0;
        paths_ask(&s->net, now_ns / 1000);
        return false;
    }
    if (b->answered_ns == 0)
        b->answered_ns = now_ns;
    b->look_ns = b->answered_ns + GRACE_NS;
    return now_ns >= b->look_ns;
}

/* Packets leave singly, until a try comes over. */
static void doubt(struct session *s, struct bundles *b, bool renewed, uint64_t now_ns)
{
    *b = (struct bundles){.most = 1,
                          .first = s->witness,
                          .known = s->witness,
                          .renewed = renewed,
                          .fell_ns = b->fell_ns,
                          .pause_ns = b->pause_ns,
                          .next_ns = now_ns + QUICK_NS};
}

static void decide(struct session *s, struct bundles *b, uint64_t now_ns)
{
    if (stands(s, b, now_ns)) {
        stall_renew(s, "bundles may be lost: packets leave singly, and", now_ns / 1000);
        doubt(s, b, true, now_ns);
    } else if (b->missed >= TRIES || b->open == 0 || is_taken_back(s, b->since_ns)) {
        doubt(s, b, false, now_ns);
    }
}

void bundle_run(struct session *s, uint64_t now_ns)
{
    struct bundles *b = of_path(s);
    if (b == NULL)
        return;
    if (b->trial != 0 && is_taken_back(s, b->trial_ns)) {
        b->open -= b->open > 0;
        try_later(s, b, now_ns);
    }
    if (b->since_ns == 0)
        return;
    if (b->open == 0 && b->missed == 0) {
        b->since_ns = 0;
    } else if (now_ns >= overdue_ns(s, b)) {
        decide(s, b, now_ns);
    }
}

uint64_t bundle_deadline_ns(const struct session *s)
{
    const struct bundles *b = of_path(s);
    return b != NULL && b->since_ns != 0 ? b->look_ns : UINT64_MAX;
}

/*
 * Clients that fell silent: how long their sessions wait (core/absence.h), which ones
 * end because their program is dead, and whose makes room when a newcomer finds the
 * house full. A session is known by what was heard of it, a program by what its device
 * says.
 */
#include <stdlib.h>
#include <string.h>

#include "core/absence.h"
#include "host/internal.h"
#include "io/clock.h"
#include "io/log.h"

enum {
    DOUBT_US = 5000000, /* for an answer of one that its device does not name */
    /* Of silence behind the handshake: killed, most likely. A client whose machine has
     * no time for it begins anew by itself after 12 s, and must find its session. */
    UNSPOKEN_US = 15000000,
    ASK_AFTER_US = 60000000, /* of silence: do its device's other programs know more? */
    AWAKE_US = 10000000,     /* heard so lately, asking wakes nobody */
    UNOPENED_US = 20000000,  /* what never opened counts as silent for longer */
    CROWD_QUIET_US = 2000000, /* in a crowd these are probed: the dead stay silent */
    SETTLED_US = 5000000,     /* what is younger is still being made, or used at once */
};

uint64_t guest_silent_us(const struct guest *g, uint64_t now_us)
{
    uint64_t since = g->since_ms * 1000;
    if (tie_open_session(g->tie) != NULL)
        since = session_heard_us(tie_session(g->tie));
    return now_us > since ? now_us - since : 0;
}

/* ---------------------------------------------------------------- what devices say */

static bool is_sleeper(const struct serve *s, const uint8_t key[static KEY_LEN])
{
    for (size_t i = 0; i < SLEEPERS_KEPT; i++)
        if (memcmp(s->sleepers[i], key, KEY_LEN) == 0)
            return true;
    return false;
}

void absent_note_sleeper(struct serve *s, const uint8_t key[static KEY_LEN])
{
    if (!is_sleeper(s, key))
        memcpy(s->sleepers[s->sleeper_next++ % SLEEPERS_KEPT], key, KEY_LEN);
}

static bool names(const Alive *a, const uint8_t conv[static CONV_LEN])
{
    for (size_t at = 0; at + CONV_LEN <= a->convs.size; at += CONV_LEN)
        if (memcmp(a->convs.bytes + at, conv, CONV_LEN) == 0)
            return true;
    return false;
}

/*
 * Ends at once what a program of the same place would be named for. A list of another
 * place (a copy of the state directory, or the machine has restarted) only raises a
 * doubt, which any answer of the session settles.
 */
static void compare(struct guest *g, struct guest *o, const Alive *a)
{
    if (o == g || o->dead || !o->listed_alive || tie_session(o->tie) == NULL ||
        o->face != g->face || /* a list is of the sessions to one key of the host's */
        memcmp(o->listed, g->listed, KEY_LEN) != 0 ||
        names(a, approach_conv(tie_approach(o->tie))))
        return;
    if (memcmp(o->scope, a->scope.bytes, sizeof(o->scope)) == 0) {
        if (o->alive_since_us >= a->at_us)
            return; /* the list is older */
        guest_close(o, 0, "its program has ended");
        return;
    }
    o->doubt_us = clock_us();
    session_probe(tie_session(o->tie));
}

void absent_on_alive(struct guest *g, const Alive *a)
{
    struct serve *s = g->serve;
    bool placed = a->scope.size == sizeof(g->scope);
    if (a->sleeps)
        absent_note_sleeper(s, g->listed);
    g->listed_alive = a->listed;
    g->alive_since_us = a->since_us;
    if (placed)
        memcpy(g->scope, a->scope.bytes, sizeof(g->scope));
    if (!a->whole || !placed)
        return;
    for (struct guest *o = s->guests; o != NULL; o = o->next)
        compare(g, o, a);
    guest_sweep_soon(s);
}

/* --------------------------------------------------------------------- the silence */

/* Another program of the device, awake now, may know that this one is dead. */
static void ask_others(struct guest *g, uint64_t now_us)
{
    Meta *m = calloc(1, sizeof(*m));
    g->asked = true;
    if (m == NULL)
        return;
    m->which_body = Meta_alive_tag;
    for (struct guest *o = g->serve->guests; o != NULL; o = o->next) {
        if (o == g || o->dead || tie_open_session(o->tie) == NULL ||
            memcmp(o->listed, g->listed, KEY_LEN) != 0 ||
            guest_silent_us(o, now_us) > AWAKE_US)
            continue;
        if (session_send_meta(tie_session(o->tie), m) == 0)
            break;
    }
    free(m);
}

static void settle_doubt(struct guest *g, uint64_t now_us)
{
    if (session_heard_us(tie_session(g->tie)) > g->doubt_us)
        g->doubt_us = 0;
    else if (now_us - g->doubt_us > DOUBT_US)
        guest_close(g, 0, "its program has ended");
    else
        session_probe(tie_session(g->tie));
}

void absent_check(struct guest *g, uint64_t now_us)
{
    struct serve *s = g->serve;
    struct absence a = {.told_us = (uint64_t)s->settings.absent_s * 1000000,
                        .streams = session_stream_count(tie_session(g->tie)) > 0,
                        .sleeps = is_sleeper(s, g->listed)};
    uint64_t silent_us = guest_silent_us(g, now_us);
    switch (absence_judge(&a, silent_us)) {
    case ABSENCE_FINE:
        if (g->away && silent_us < AWAKE_US) { /* back from a silence without answers */
            absent_note_sleeper(s, g->listed);
            g->away = false;
        }
        break;
    case ABSENCE_PROBE:
        g->away = silent_us > 2 * ABSENCE_PROBE_US;
        session_probe(tie_session(g->tie));
        break;
    case ABSENCE_OVER:
        guest_close(g, 0, "nothing was heard of this device for too long");
        return;
    }
    if (!g->spoke && g->doubt_us == 0 && silent_us > UNSPOKEN_US) {
        g->doubt_us = now_us;
        session_probe(tie_session(g->tie));
    }
    if (g->doubt_us != 0)
        settle_doubt(g, now_us);
    if (silent_us < AWAKE_US)
        g->asked = false;
    else if (!g->asked && silent_us > ASK_AFTER_US)
        ask_others(g, now_us);
}

/* ----------------------------------------------------------------------- the crowd */

/* It was asked, and has not answered since: its program or its machine is gone. */
static bool is_mute(const struct guest *g, uint64_t now_us)
{
    return g->asked_us > session_heard_us(tie_session(g->tie)) &&
           now_us - g->asked_us > CROWD_QUIET_US;
}

/* Connections go through it, and the device is there. */
static bool is_used(const struct guest *g, uint64_t now_us)
{
    return tie_open_session(g->tie) != NULL &&
           session_stream_count(tie_session(g->tie)) > 0 && !is_mute(g, now_us);
}

/*
 * Of the device: the longest silent, those in use behind all others, and before any
 * other one that proved nothing.
 */
static uint64_t worth(const struct holding *e)
{
    const struct guest *g =
        (const struct guest *)((const char *)e - offsetof(struct guest, held));
    uint64_t now_us = clock_us(), silent_us = guest_silent_us(g, now_us);
    return (g->member ? UINT64_MAX : UINT64_MAX / 2) - silent_us -
           (is_used(g, now_us) ? 0 : UINT64_MAX / 4);
}

void absent_open(struct serve *s)
{
    holdings_init(&s->sessions, SIZE_MAX, worth);
}

/* May it go for another of its own device? */
static bool is_idle(const struct guest *g, uint64_t now_us)
{
    return now_us - g->since_ms * 1000 > SETTLED_US &&
           guest_silent_us(g, now_us) > CROWD_QUIET_US && !is_used(g, now_us);
}

/* The longest silent of this device that is not in use; NULL: there is none. */
static struct guest *first_to_go(struct serve *s, const uint8_t *key, uint64_t now_us)
{
    struct guest *first = NULL;
    uint64_t most = 0;
    for (struct guest *g = s->guests; g != NULL; g = g->next) {
        if (g->dead || memcmp(g->key, key, KEY_LEN) != 0 || !is_idle(g, now_us))
            continue;
        uint64_t silent_us = guest_silent_us(g, now_us);
        if (tie_open_session(g->tie) == NULL)
            silent_us += UNOPENED_US; /* its device has begun anew, most likely */
        if (first == NULL || silent_us > most) {
            first = g;
            most = silent_us;
        }
    }
    return first;
}

/* So that the living of a crowd have been heard when one must go. */
static void ask(struct guest *g, uint64_t now_us)
{
    if (g->asked_us <= session_heard_us(tie_session(g->tie)))
        g->asked_us = now_us;
    session_probe(tie_session(g->tie));
}

static unsigned count_and_ask(struct serve *s, const uint8_t *key, bool scarce,
                              uint64_t now_us)
{
    unsigned n = 0;
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        n += !g->dead && memcmp(g->key, key, KEY_LEN) == 0;
    if (n < GUESTS_PER_CLIENT_MAX / 2 && !scarce)
        return n;
    for (struct guest *g = s->guests; g != NULL; g = g->next)
        if (!g->dead && tie_open_session(g->tie) != NULL &&
            memcmp(g->key, key, KEY_LEN) == 0 &&
            guest_silent_us(g, now_us) > CROWD_QUIET_US)
            ask(g, now_us);
    return n;
}

bool absent_make_room(struct serve *s, const uint8_t key[static KEY_LEN], bool scarce)
{
    uint64_t now_us = clock_us();
    struct guest *g = NULL;
    bool crowd = count_and_ask(s, key, scarce, now_us) >= GUESTS_PER_CLIENT_MAX;
    if (!crowd && !scarce && s->guest_count < GUESTS_MAX)
        return true;
    struct holding *e = crowd ? NULL : holdings_weakest(&s->sessions, key);
    if (e != NULL)
        g = (struct guest *)((char *)e - offsetof(struct guest, held));
    else
        g = first_to_go(s, key, now_us);
    if (g == NULL)
        return false;
    log_debug("a session of %s makes room", g->name);
    guest_close(g, REFUSE_LIMIT, "it was silent longest, and others need its place");
    guest_free(g);
    return true;
}

/*
 * Clients that fell silent: how long their sessions wait (core/absence.h), which ones
 * end because their program is dead, and whose makes room when a newcomer finds the
 * house full. A session is known by what was heard of it, a program by what its device
 * says.
 */
#include <stdlib.h>
#include <string.h>

#include "core/absence.h"
#include "host/clients_internal.h"
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

uint64_t silence_of(const struct host_client *c, uint64_t now_us)
{
    uint64_t since = c->since_ms * 1000;
    if (tie_open_session(c->tie) != NULL)
        since = session_heard_us(tie_session(c->tie));
    return now_us > since ? now_us - since : 0;
}

/* ---------------------------------------------------------------- what devices say */

static bool is_sleeper(const struct clients *cs, const uint8_t key[static KEY_LEN])
{
    for (size_t i = 0; i < SLEEPERS_KEPT; i++)
        if (memcmp(cs->sleepers[i], key, KEY_LEN) == 0)
            return true;
    return false;
}

void silence_note_sleeper(struct clients *cs, const uint8_t key[static KEY_LEN])
{
    if (!is_sleeper(cs, key))
        memcpy(cs->sleepers[cs->sleeper_next++ % SLEEPERS_KEPT], key, KEY_LEN);
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
static void compare(struct host_client *c, struct host_client *o, const Alive *a)
{
    if (o == c || o->dead || !o->listed_alive || tie_session(o->tie) == NULL ||
        o->presence !=
            c->presence || /* a list is of the sessions to one key of the host's */
        memcmp(o->who.listed, c->who.listed, KEY_LEN) != 0 ||
        names(a, approach_conv(tie_approach(o->tie))))
        return;
    if (memcmp(o->scope, a->scope.bytes, sizeof(o->scope)) == 0) {
        if (o->alive_since_us >= a->at_us)
            return; /* the list is older */
        host_client_end(o, 0, "its program has ended");
        return;
    }
    o->doubt_us = clock_us();
    session_probe(tie_session(o->tie));
}

void silence_on_alive(struct host_client *c, const Alive *a)
{
    struct clients *cs = c->all;
    bool placed = a->scope.size == sizeof(c->scope);
    if (a->sleeps)
        silence_note_sleeper(cs, c->who.listed);
    c->listed_alive = a->listed;
    c->alive_since_us = a->since_us;
    if (placed)
        memcpy(c->scope, a->scope.bytes, sizeof(c->scope));
    if (!a->whole || !placed)
        return;
    for (struct host_client *o = cs->first; o != NULL; o = o->next)
        compare(c, o, a);
    clients_sweep_soon(cs);
}

/* --------------------------------------------------------------------- the silence */

/* Another program of the device, awake now, may know that this one is dead. */
static void ask_others(struct host_client *c, uint64_t now_us)
{
    Meta *m = calloc(1, sizeof(*m));
    c->asked = true;
    if (m == NULL || c->who.portal) { /* that one has no programs */
        free(m);
        return;
    }
    m->which_body = Meta_alive_tag;
    for (struct host_client *o = c->all->first; o != NULL; o = o->next) {
        if (o == c || !host_client_is_open(o) ||
            memcmp(o->who.listed, c->who.listed, KEY_LEN) != 0 ||
            silence_of(o, now_us) > AWAKE_US)
            continue;
        if (session_send_meta(tie_session(o->tie), m) == 0)
            break;
    }
    free(m);
}

static void settle_doubt(struct host_client *c, uint64_t now_us)
{
    if (session_heard_us(tie_session(c->tie)) > c->doubt_us)
        c->doubt_us = 0;
    else if (now_us - c->doubt_us > DOUBT_US)
        host_client_end(c, 0, "its program has ended");
    else
        session_probe(tie_session(c->tie));
}

void silence_check(struct host_client *c, uint64_t now_us)
{
    struct clients *cs = c->all;
    struct absence a = {.told_us = (uint64_t)cs->host->settings.absent_s * 1000000,
                        .streams = session_stream_count(tie_session(c->tie)) > 0,
                        .sleeps = !c->who.portal && is_sleeper(cs, c->who.listed)};
    uint64_t silent_us = silence_of(c, now_us);
    switch (absence_judge(&a, silent_us)) {
    case ABSENCE_FINE:
        if (c->away && silent_us < AWAKE_US) { /* back from a silence without answers */
            silence_note_sleeper(cs, c->who.listed);
            c->away = false;
        }
        break;
    case ABSENCE_PROBE:
        /* A quiet session is silent for as long as its keepalive, and answers. */
        c->away = silent_us + ABSENCE_PROBE_US > absence_patience_us(&a) + AWAKE_US;
        session_probe(tie_session(c->tie));
        break;
    case ABSENCE_OVER:
        host_client_end(c, 0, "nothing was heard of this device for too long");
        return;
    }
    if (!c->spoke && c->doubt_us == 0 && silent_us > UNSPOKEN_US) {
        c->doubt_us = now_us;
        session_probe(tie_session(c->tie));
    }
    if (c->doubt_us != 0)
        settle_doubt(c, now_us);
    if (silent_us < AWAKE_US)
        c->asked = false;
    else if (!c->asked && silent_us > ASK_AFTER_US)
        ask_others(c, now_us);
}

/* ----------------------------------------------------------------------- the crowd */

/* It was asked, and has not answered since: its program or its machine is gone. */
static bool is_mute(const struct host_client *c, uint64_t now_us)
{
    return c->asked_us > session_heard_us(tie_session(c->tie)) &&
           now_us - c->asked_us > CROWD_QUIET_US;
}

/* Connections go through it, and the device is there. */
static bool is_used(const struct host_client *c, uint64_t now_us)
{
    return tie_open_session(c->tie) != NULL &&
           session_stream_count(tie_session(c->tie)) > 0 && !is_mute(c, now_us);
}

/*
 * Of the device: the longest silent, those in use behind all others, and before any
 * other one that proved nothing.
 */
static uint64_t worth(const struct holding *e)
{
    const struct host_client *c = LIST_OWNER(e, struct host_client, held);
    uint64_t now_us = clock_us(), silent_us = silence_of(c, now_us);
    return (c->who.member ? UINT64_MAX : UINT64_MAX / 2) - silent_us -
           (is_used(c, now_us) ? 0 : UINT64_MAX / 4);
}

void silence_init(struct clients *cs)
{
    holdings_init(&cs->sessions, SIZE_MAX, worth);
}

/* May it go for another of its own device? */
static bool is_idle(const struct host_client *c, uint64_t now_us)
{
    return now_us - c->since_ms * 1000 > SETTLED_US &&
           silence_of(c, now_us) > CROWD_QUIET_US && !is_used(c, now_us);
}

/* The longest silent of this device that is not in use; NULL: there is none. */
static struct host_client *first_to_go(struct clients *cs, const uint8_t *key,
                                       uint64_t now_us)
{
    struct host_client *first = NULL;
    uint64_t most = 0;
    for (struct host_client *c = cs->first; c != NULL; c = c->next) {
        if (c->dead || memcmp(c->key, key, KEY_LEN) != 0 || !is_idle(c, now_us))
            continue;
        uint64_t silent_us = silence_of(c, now_us);
        if (tie_open_session(c->tie) == NULL)
            silent_us += UNOPENED_US; /* its device has begun anew, most likely */
        if (first == NULL || silent_us > most) {
            first = c;
            most = silent_us;
        }
    }
    return first;
}

/* So that the living of a crowd have been heard when one must go. */
static void ask(struct host_client *c, uint64_t now_us)
{
    if (c->asked_us <= session_heard_us(tie_session(c->tie)))
        c->asked_us = now_us;
    session_probe(tie_session(c->tie));
}

static unsigned count_and_ask(struct clients *cs, const uint8_t *key, bool scarce,
                              uint64_t now_us)
{
    unsigned n = 0;
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        n += !c->dead && memcmp(c->key, key, KEY_LEN) == 0;
    if (n < SESSIONS_PER_DEVICE_MAX / 2 && !scarce)
        return n;
    for (struct host_client *c = cs->first; c != NULL; c = c->next)
        if (host_client_is_open(c) && memcmp(c->key, key, KEY_LEN) == 0 &&
            silence_of(c, now_us) > CROWD_QUIET_US)
            ask(c, now_us);
    return n;
}

bool silence_make_room(struct clients *cs, const uint8_t key[static KEY_LEN],
                       bool scarce)
{
    uint64_t now_us = clock_us();
    struct host_client *c = NULL;
    bool crowd = count_and_ask(cs, key, scarce, now_us) >= SESSIONS_PER_DEVICE_MAX;
    if (!crowd && !scarce && cs->count < CLIENTS_MAX)
        return true;
    struct holding *e = crowd ? NULL : holdings_weakest(&cs->sessions, key);
    if (e != NULL)
        c = LIST_OWNER(e, struct host_client, held);
    else
        c = first_to_go(cs, key, now_us);
    if (c == NULL)
        return false;
    log_debug("a session of %s makes room", c->name);
    host_client_end(c, REFUSE_LIMIT,
                    "it was silent longest, and others need its place");
    host_client_free(c);
    return true;
}

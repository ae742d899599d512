/*
 * The badges that the broker gave this device, kept in the state directory for its next
 * program: one for the door, and one for each host that lists it (the 32 newest). Whose
 * they are and what they are worth is the broker's to know.
 */
#include <string.h>

#include <sodium.h>

#include "io/notes.h"
#include "path/uplink_internal.h"

enum { TEXT_LEN = 2 * BADGE_LEN + 1 };
static const char door_file[] = "badges", host_file[] = "host-badges";

static bool load(const struct uplink *u, const char *file, const uint8_t *about,
                 uint8_t *badge, size_t want)
{
    char name[KEY_TEXT_LEN], text[NOTES_LINE_MAX];
    size_t len = 0;
    return u->config.state != NULL && !u->config.lan &&
           notes_load(u->config.state, file, key_format(about, name), text) &&
           sodium_hex2bin(badge, want, text, strlen(text), NULL, &len, NULL) == 0 &&
           len == want;
}

static void save(const struct uplink *u, const char *file, const uint8_t *about,
                 const Badge *b)
{
    char name[KEY_TEXT_LEN], text[TEXT_LEN];
    if (u->config.state != NULL)
        (void)notes_save(
            u->config.state, file, key_format(about, name),
            sodium_bin2hex(text, sizeof(text), b->badge.bytes, b->badge.size));
}

/* A host may be at several brokers, each of which gives its own. */
static void name_host(uint8_t about[static KEY_LEN], const struct uplink *u,
                      const uint8_t *host)
{
    key_hash(about, host, KEY_LEN, u->config.broker.broker_key, KEY_LEN);
}

void uplink_load_badge(struct uplink *u)
{
    u->has_badge = load(u, door_file, u->config.broker.broker_key, u->badge, BADGE_LEN);
}

bool uplink_host_badge(const struct uplink *u, const uint8_t host[static KEY_LEN],
                       uint8_t badge[static BADGE_HOST_LEN])
{
    uint8_t about[KEY_LEN];
    name_host(about, u, host);
    return load(u, host_file, about, badge, BADGE_HOST_LEN);
}

/* The same for a whole day: a file is not written for each session. */
static void take_host_badge(const struct uplink *u, const uint8_t *host, const Badge *b)
{
    uint8_t about[KEY_LEN], kept[BADGE_HOST_LEN];
    if (b->badge.size != BADGE_HOST_LEN)
        return;
    name_host(about, u, host);
    if (!load(u, host_file, about, kept, sizeof(kept)) ||
        memcmp(kept, b->badge.bytes, sizeof(kept)) != 0)
        save(u, host_file, about, b);
}

void uplink_take_badge(struct uplink *u, const Control *m)
{
    const Badge *b = &m->body.badge;
    if (u->config.lan)
        return;
    if (!sodium_is_zero(m->peer, KEY_LEN)) {
        take_host_badge(u, m->peer, b);
        return;
    }
    if (b->badge.size != BADGE_LEN)
        return;
    memcpy(u->badge, b->badge.bytes, BADGE_LEN);
    u->has_badge = true;
    save(u, door_file, u->config.broker.broker_key, b);
}

const uint8_t *uplink_badge(const struct uplink *u)
{
    return u->has_badge ? u->badge : NULL;
}

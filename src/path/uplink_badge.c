/*
 * The badge that the broker gave this device, kept in the state directory for its next
 * program. Whose it is and what it is worth is the broker's to know.
 */
#include <string.h>

#include <sodium.h>

#include "io/notes.h"
#include "path/uplink_internal.h"

enum { TEXT_LEN = 2 * BADGE_LEN + 1 };
static const char file[] = "badges";

void uplink_load_badge(struct uplink *u)
{
    char about[KEY_TEXT_LEN], text[NOTES_LINE_MAX];
    size_t len = 0;
    if (u->config.state == NULL || u->config.lan)
        return;
    u->has_badge = notes_load(u->config.state, file,
                              key_format(u->config.broker.broker_key, about), text) &&
                   sodium_hex2bin(u->badge, sizeof(u->badge), text, strlen(text), NULL,
                                  &len, NULL) == 0 &&
                   len == BADGE_LEN;
}

void uplink_take_badge(struct uplink *u, const Badge *b)
{
    char about[KEY_TEXT_LEN], text[TEXT_LEN];
    if (b->badge.size != BADGE_LEN || u->config.lan)
        return;
    memcpy(u->badge, b->badge.bytes, BADGE_LEN);
    u->has_badge = true;
    if (u->config.state != NULL)
        (void)notes_save(u->config.state, file,
                         key_format(u->config.broker.broker_key, about),
                         sodium_bin2hex(text, sizeof(text), u->badge, BADGE_LEN));
}

const uint8_t *uplink_badge(const struct uplink *u)
{
    return u->has_badge ? u->badge : NULL;
}

/*
 * The keys under which a host is present at its broker. The newest is its identity;
 * the ones before it stay present so that clients who know only them come in and are
 * told the new one. Knows nothing of what clients may do.
 */
#include "host/internal.h"
#include "io/lack.h"
#include "io/log.h"

#include <string.h>

#include <sodium.h>

enum { EARLIER_KEYS_MAX = 32 }; /* that a joiner may know this host by */

static const uint8_t *key_of(const struct face *face)
{
    return face->endpoint.net.own.pub;
}

static struct face *face_of(struct serve *s, const uint8_t key[static KEY_LEN])
{
    for (size_t i = 0; i < FACES_MAX; i++)
        if (s->faces[i].open && memcmp(key_of(&s->faces[i]), key, KEY_LEN) == 0)
            return &s->faces[i];
    return NULL;
}

static void send_rotation(struct guest *g, const struct keypair *old, bool named)
{
    const uint8_t *newest = g->serve->key.pub;
    Meta m = {.which_body = Meta_rotate_tag};
    Rotate *r = &m.body.rotate;
    if (memcmp(old->pub, newest, KEY_LEN) == 0)
        return;
    memcpy(r->new_key, newest, KEY_LEN);
    key_sign_rotation(r->signature, newest, old);
    if (named) {
        r->old_key.size = KEY_LEN;
        memcpy(r->old_key.bytes, old->pub, KEY_LEN);
    }
    if (session_send_meta(g->session, &m) != 0)
        log_debug("the new key could not be announced");
}

void guest_announce_rotation(struct guest *g)
{
    send_rotation(g, &g->face->endpoint.net.own, false);
}

void guest_announce_earlier(struct guest *g)
{
    struct keypair old[EARLIER_KEYS_MAX];
    int n = statedir_old_keys(g->serve->state, old, EARLIER_KEYS_MAX, NULL);
    for (int i = 0; i < n; i++)
        send_rotation(g, &old[i], true);
    sodium_memzero(old, sizeof(old));
}

/* Its guests' sessions end: they know a key that is too old. */
static void face_close(struct serve *s, struct face *face)
{
    for (struct guest *g = s->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (g->face != face)
            continue;
        guest_close(g, 0, "the host's key was replaced");
        guest_free(g);
    }
    endpoint_close(&face->endpoint);
    *face = (struct face){0};
}

static int face_open(struct serve *s, const struct keypair *key)
{
    struct face *face = NULL;
    for (size_t i = 0; i < FACES_MAX && face == NULL; i++)
        if (!s->faces[i].open)
            face = &s->faces[i];
    if (face == NULL)
        return POSTERN_ERR_LIMIT;
    struct endpoint_config ec = {.loop = s->loop,
                                 .key = key,
                                 .budget = s->budget,
                                 .broker = &s->broker,
                                 .lan = s->to_agent,
                                 .host = true,
                                 .name = s->settings.name,
                                 .state = s->state->path,
                                 .events = &serve_uplink_events,
                                 .ctx = face};
    *face = (struct face){.serve = s};
    int rc = endpoint_open(&face->endpoint, &ec);
    face->open = rc == 0;
    return rc;
}

/* The newest keys of the state directory and nothing else have faces. */
static int settle(struct serve *s, struct keypair *keys, size_t count)
{
    int rc = 0;
    for (size_t i = 0; i < FACES_MAX; i++) {
        bool wanted = false;
        for (size_t k = 0; k < count && s->faces[i].open; k++)
            wanted = wanted || memcmp(key_of(&s->faces[i]), keys[k].pub, KEY_LEN) == 0;
        if (s->faces[i].open && !wanted)
            face_close(s, &s->faces[i]);
    }
    for (size_t k = 0; k < count && rc == 0; k++) {
        if (face_of(s, keys[k].pub) == NULL)
            rc = face_open(s, &keys[k]);
        if (rc == 0)
            face_of(s, keys[k].pub)->retired = k > 0;
    }
    return rc;
}

int faces_renew(struct serve *s, struct fault *f)
{
    struct keypair keys[FACES_MAX];
    int rc = statedir_key(s->state, &keys[0], f);
    int old = rc == 0 && s->to_agent ? 0 /* which knows the newest, by its token */
              : rc == 0 ? statedir_old_keys(s->state, keys + 1, FACES_MAX - 1, f)
                        : rc;
    if (old < 0)
        return old;
    bool changed = memcmp(keys[0].pub, s->key.pub, KEY_LEN) != 0;
    s->key = keys[0];
    if (settle(s, keys, 1 + (size_t)old) != 0)
        rc = fault_lack(f, POSTERN_ERR_NOMEM);
    sodium_memzero(keys, sizeof(keys));
    for (struct guest *g = s->guests; g != NULL && rc == 0 && changed; g = g->next)
        if (!g->dead && g->member && session_is_open(g->session))
            guest_announce_rotation(g);
    return rc;
}

/* A key that follows ours came by `postern keys rotate`; any other took its place. */
void faces_keep(struct serve *s)
{
    struct fault f = {0};
    char text[KEY_TEXT_LEN];
    uint8_t before[KEY_LEN];
    if (s->to_agent || !statedir_key_changed(s->state, &s->key_seen))
        return;
    memcpy(before, s->key.pub, KEY_LEN);
    if (faces_renew(s, &f) != 0)
        log_error("device.db was changed, and this host keeps its key: %s", f.what);
    else if (face_of(s, before) == NULL)
        log_warn("device.db was replaced: this host's key is %s now, and who knows it "
                 "by the one before does not reach it",
                 key_format(s->key.pub, text));
}

int faces_open(struct serve *s, const struct link *broker, struct fault *f)
{
    s->broker = *broker;
    (void)statedir_key_changed(s->state, &s->key_seen);
    return faces_renew(s, f);
}

void faces_close(struct serve *s)
{
    for (size_t i = 0; i < FACES_MAX; i++)
        if (s->faces[i].open)
            face_close(s, &s->faces[i]);
}

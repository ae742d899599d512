/* One endpoint for each key that counts. */
#include "host/presence.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/familiar.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/statedir.h"

enum { INVITES_TOLD_MAX = 128, USED_MAX = 256 };

struct presences {
    struct host *host;
    const struct presence_events *events;
    struct presence all[PRESENCES_MAX];
    struct statedir_mark seen;       /* of device.db */
    uint8_t used[USED_MAX][KEY_LEN]; /* listed devices, who came last is first */
    size_t used_count;
};

static const uint8_t *key_of(const struct presence *p)
{
    return p->endpoint.net.own.pub;
}

struct presence *presences_next(struct presences *ps, const struct presence *p)
{
    for (size_t i = p == NULL ? 0 : (size_t)(p - ps->all) + 1; i < PRESENCES_MAX; i++)
        if (ps->all[i].open)
            return &ps->all[i];
    return NULL;
}

static struct presence *find(struct presences *ps, const uint8_t key[static KEY_LEN])
{
    struct presence *p = presences_next(ps, NULL);
    while (p != NULL && memcmp(key_of(p), key, KEY_LEN) != 0)
        p = presences_next(ps, p);
    return p;
}

static void send_rotation(const struct host *h, const struct keypair *old, bool named,
                          struct session *session)
{
    Meta m = {.which_body = Meta_rotate_tag};
    Rotate *r = &m.body.rotate;
    if (memcmp(old->pub, h->key.pub, KEY_LEN) == 0)
        return;
    memcpy(r->new_key, h->key.pub, KEY_LEN);
    key_sign_rotation(r->signature, h->key.pub, old);
    if (named) {
        r->old_key.size = KEY_LEN;
        memcpy(r->old_key.bytes, old->pub, KEY_LEN);
    }
    if (session_send_meta(session, &m) != 0)
        log_debug("the new key could not be announced");
}

void presence_announce(const struct presence *p, struct session *session)
{
    send_rotation(p->host, &p->endpoint.net.own, false, session);
}

void presence_announce_earlier(const struct host *h, struct session *session)
{
    struct keypair old[EARLIER_KEYS_MAX];
    int n = statedir_old_keys(h->state, old, EARLIER_KEYS_MAX, NULL);
    for (int i = 0; i < n; i++)
        send_rotation(h, &old[i], true, session);
    sodium_memzero(old, sizeof(old));
}

/* What joiners by the open invites show the broker; returns how many there are. */
static int read_passes(const struct host *h, uint8_t passes[][INVITE_PASS_LEN],
                       uint8_t hash[static 32])
{
    uint8_t secrets[INVITES_TOLD_MAX][LINK_SECRET_LEN];
    int n = roster_invites_open(h->roster, statedir_now_s(), secrets, INVITES_TOLD_MAX);
    for (int i = 0; i < n; i++)
        link_invite_pass(passes[i], secrets[i]);
    sodium_memzero(secrets, sizeof(secrets));
    key_hash(hash, passes[0], n > 0 ? (size_t)n * INVITE_PASS_LEN : 0, NULL, 0);
    return n;
}

void presence_note_used(const struct host *h, const uint8_t key[static KEY_LEN])
{
    struct presences *ps = h->presences;
    size_t at = 0;
    while (at < ps->used_count && memcmp(ps->used[at], key, KEY_LEN) != 0)
        at++;
    if (at == ps->used_count && at < USED_MAX)
        ps->used_count++;
    else if (at == USED_MAX)
        at--; /* who came longest ago makes room */
    memmove(ps->used[1], ps->used[0], at * KEY_LEN);
    memcpy(ps->used[0], key, KEY_LEN);
}

/* Those that are listed still. */
static size_t add_used(const struct host *h, uint8_t *list, size_t len)
{
    const struct presences *ps = h->presences;
    for (size_t i = 0; i < ps->used_count; i++)
        if (roster_client_find(h->roster, ps->used[i], NULL) == 0)
            len = familiar_add(list, len, ps->used[i]);
    return len;
}

/*
 * An agent knows its hosts itself. Where they are too many the invites have their
 * places first, then who came since this program began, then who joined last.
 */
size_t presence_familiar(void *ctx, uint8_t *list)
{
    struct presence *p = ctx;
    struct roster_client *clients = NULL;
    uint8_t salt[FAMILIAR_SALT_LEN], passes[INVITES_TOLD_MAX][INVITE_PASS_LEN];
    if (p->host->to_agent)
        return 0;
    int open = read_passes(p->host, passes, p->invites);
    int n = roster_clients_all(p->host->roster, &clients);
    randombytes_buf(salt, sizeof(salt));
    size_t len = familiar_begin(list, salt);
    for (int i = 0; i < open; i++)
        len = familiar_add(list, len, passes[i]);
    len = add_used(p->host, list, len);
    for (int i = n; i > 0 && len < FAMILIAR_BYTES; i--)
        if (!familiar_has(list, len, clients[i - 1].key))
            len = familiar_add(list, len, clients[i - 1].key);
    free(clients);
    return len > FAMILIAR_SALT_LEN ? len : 0;
}

void presences_tell_invites(struct presences *ps)
{
    uint8_t passes[INVITES_TOLD_MAX][INVITE_PASS_LEN], hash[32];
    if (ps == NULL || ps->host->to_agent || read_passes(ps->host, passes, hash) < 0)
        return;
    for (struct presence *p = presences_next(ps, NULL); p != NULL;
         p = presences_next(ps, p)) {
        Control m = {.which_body = Control_familiar_tag};
        Familiar *f = &m.body.familiar;
        if (memcmp(hash, p->invites, sizeof(hash)) == 0 ||
            !uplink_takes_familiar(p->endpoint.uplink))
            continue;
        f->list.size = (pb_size_t)presence_familiar(p, f->list.bytes);
        if (uplink_send(p->endpoint.uplink, &m) != 0)
            memset(p->invites, 0, sizeof(p->invites)); /* another time */
    }
}

static void end(struct presences *ps, struct presence *p)
{
    ps->events->on_end(p);
    endpoint_close(&p->endpoint);
    *p = (struct presence){0};
}

static int begin(struct presences *ps, const struct keypair *key)
{
    struct host *h = ps->host;
    struct presence *p = ps->all;
    while (p < ps->all + PRESENCES_MAX && p->open)
        p++;
    if (p == ps->all + PRESENCES_MAX)
        return POSTERN_ERR_LIMIT;
    struct endpoint_config ec = {.loop = h->loop,
                                 .key = key,
                                 .budget = h->budget,
                                 .broker = &h->broker,
                                 .lan = h->to_agent,
                                 .host = true,
                                 .name = h->settings.name,
                                 .state = h->state->path,
                                 .events = &ps->events->uplink,
                                 .ctx = p};
    *p = (struct presence){.host = h};
    int rc = endpoint_open(&p->endpoint, &ec);
    p->open = rc == 0;
    return rc;
}

/* The newest keys of the state directory and nothing else are present. */
static int settle(struct presences *ps, struct keypair *keys, size_t count)
{
    int rc = 0;
    for (struct presence *p = presences_next(ps, NULL); p != NULL;
         p = presences_next(ps, p)) {
        bool wanted = false;
        for (size_t k = 0; k < count; k++)
            wanted = wanted || memcmp(key_of(p), keys[k].pub, KEY_LEN) == 0;
        if (!wanted)
            end(ps, p);
    }
    for (size_t k = 0; k < count && rc == 0; k++) {
        if (find(ps, keys[k].pub) == NULL)
            rc = begin(ps, &keys[k]);
        if (rc == 0)
            find(ps, keys[k].pub)->retired = k > 0;
    }
    return rc;
}

int presences_renew(struct presences *ps, bool *changed, struct fault *f)
{
    struct host *h = ps->host;
    struct keypair keys[PRESENCES_MAX];
    int rc = statedir_key(h->state, &keys[0], f);
    int old = rc == 0 && h->to_agent ? 0 /* which knows the newest, by its token */
              : rc == 0 ? statedir_old_keys(h->state, keys + 1, PRESENCES_MAX - 1, f)
                        : rc;
    if (old < 0)
        return old;
    *changed = memcmp(keys[0].pub, h->key.pub, KEY_LEN) != 0;
    h->key = keys[0];
    if (settle(ps, keys, 1 + (size_t)old) != 0)
        rc = fault_lack(f, POSTERN_ERR_NOMEM);
    sodium_memzero(keys, sizeof(keys));
    return rc;
}

/* A key that follows ours came by `postern keys rotate`; any other took its place. */
bool presences_keep(struct presences *ps)
{
    struct host *h = ps->host;
    struct fault f = {0};
    char text[KEY_TEXT_LEN];
    uint8_t before[KEY_LEN];
    bool changed = false;
    if (h->to_agent || !statedir_key_changed(h->state, &ps->seen))
        return false;
    memcpy(before, h->key.pub, KEY_LEN);
    if (presences_renew(ps, &changed, &f) != 0)
        log_error("device.db was changed, and this host keeps its key: %s; %s", f.what,
                  f.advice);
    else if (find(ps, before) == NULL)
        log_warn("device.db was replaced: this host's key is %s now, and who knows it "
                 "by the one before does not reach it",
                 key_format(h->key.pub, text));
    return changed;
}

int presences_open(struct host *h, const struct presence_events *events,
                   struct fault *f)
{
    bool changed;
    struct presences *ps = calloc(1, sizeof(*ps));
    h->presences = ps;
    if (ps == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    ps->host = h;
    ps->events = events;
    (void)statedir_key_changed(h->state, &ps->seen);
    return presences_renew(ps, &changed, f);
}

void presences_close(struct presences *ps)
{
    if (ps == NULL)
        return;
    for (struct presence *p = presences_next(ps, NULL); p != NULL;
         p = presences_next(ps, p))
        end(ps, p);
    free(ps);
}

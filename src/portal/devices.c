/* Cookies by which a browser is known again; see devices.h. */
#include "portal/devices.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "core/form.h"
#include "io/statedir.h"

enum {
    TAG_LEN = 16,                    /* cut short: there is one for each host */
    HEAD_LEN = 8 + DEVICE_NONCE_LEN, /* since when, which */
    WHOLE_MAX = HEAD_LEN + TAG_LEN * LOGIN_HOSTS_MAX,
    NAME_HASH_LEN = 5,
    LIFE_S = 180 * 24 * 3600, /* no browser keeps one longer than 400 days */
};

void devices_init(struct devices *d, const struct keypair *broker)
{
    static const char label[] = "postern portal: browsers that logged in";
    key_hash(d->secret, label, sizeof(label), broker->seed, KEY_LEN);
}

/* One for each account that a browser has; the name of it is not told. */
static const char *cookie_name(const struct devices *d, const char *account,
                               char out[static 32])
{
    uint8_t hash[32];
    char text[16];
    key_hash(hash, account, strlen(account), d->secret, sizeof(d->secret));
    base32_encode(hash, NAME_HASH_LEN, text);
    (void)snprintf(out, 32, "__Host-device-%s", text);
    return out;
}

static void tag_of(const struct devices *d, uint8_t tag[static 32],
                   const uint8_t head[static HEAD_LEN], const struct portal_host *h,
                   const struct portal_account *a)
{
    struct {
        uint8_t head[HEAD_LEN], host[KEY_LEN];
        char name[sizeof(a->name)], hash[sizeof(a->hash)];
    } in;
    memset(&in, 0, sizeof(in));
    memcpy(in.head, head, HEAD_LEN);
    memcpy(in.host, h->key, KEY_LEN);
    (void)snprintf(in.name, sizeof(in.name), "%s", a->name);
    (void)snprintf(in.hash, sizeof(in.hash), "%s", a->hash);
    key_hash(tag, &in, sizeof(in), d->secret, sizeof(d->secret));
}

void device_set_cookie(const struct devices *d, const struct logins *ls,
                       const struct login *l, char out[static DEVICE_COOKIE_MAX])
{
    uint8_t whole[WHOLE_MAX], tag[32];
    char text[(WHOLE_MAX * 8 + 4) / 5 + 1], name[32];
    size_t len = HEAD_LEN;
    int64_t now_s = statedir_now_s();
    memcpy(whole, &now_s, sizeof(now_s)); /* for this broker's eyes only */
    randombytes_buf(whole + 8, DEVICE_NONCE_LEN);
    for (size_t i = 0; i < l->host_count; i++) {
        struct portal_host *h;
        const struct portal_account *a = login_account_at(ls, l, i, &h);
        if (a == NULL)
            continue;
        tag_of(d, tag, whole, h, a);
        memcpy(whole + len, tag, TAG_LEN);
        len += TAG_LEN;
    }
    base32_encode(whole, len, text);
    (void)snprintf(out, DEVICE_COOKIE_MAX,
                   "%s=%s; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=%d",
                   cookie_name(d, l->account, name), text, LIFE_S);
}

bool device_knows(const struct devices *d, const char *cookies,
                  const struct portal_host *h, const struct portal_account *a,
                  uint8_t device[static DEVICE_NONCE_LEN])
{
    uint8_t whole[WHOLE_MAX], tag[32];
    char text[(WHOLE_MAX * 8 + 4) / 5 + 1], name[32];
    if (cookies == NULL ||
        form_cookie(cookies, strlen(cookies), cookie_name(d, a->name, name), text,
                    sizeof(text)) != 0)
        return false;
    int len = base32_decode(whole, sizeof(whole), text);
    if (len < HEAD_LEN)
        return false;
    int64_t since_s, now_s = statedir_now_s();
    memcpy(&since_s, whole, sizeof(since_s));
    if (since_s > now_s || now_s - since_s > LIFE_S)
        return false;
    memcpy(device, whole + 8, DEVICE_NONCE_LEN);
    tag_of(d, tag, whole, h, a);
    bool known = false;
    for (size_t at = HEAD_LEN; at + TAG_LEN <= (size_t)len; at += TAG_LEN)
        known = sodium_memcmp(whole + at, tag, TAG_LEN) == 0 || known;
    return known;
}

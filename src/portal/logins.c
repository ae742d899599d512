/* The table of who is logged in; see logins.h. */
#include "portal/logins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/loop.h"
#include "io/statedir.h"
#include "portal/portal_config.h"
#include "portal/rooms.h"
#include "portal/visitor.h"

enum {
    LOGINS_MAX = 4096,
    LOGINS_NAME_MAX = 512, /* of one name, so that no account's people fill the rest */
    TOKEN_LEN = 32,
};

struct logins {
    const struct rooms *rooms;
    uint64_t longest_ms; /* that one lasts */
    struct list all;     /* struct login, the eldest first */
    size_t count;
    uint64_t next_id;
};

struct login *logins_next(const struct logins *ls, const struct login *l)
{
    const struct list *n = l != NULL ? l->link.next : ls->all.next;
    return n != &ls->all ? LIST_OWNER(n, struct login, link) : NULL;
}

struct login *login_by_id(const struct logins *ls, uint64_t id)
{
    struct login *l = NULL;
    while ((l = logins_next(ls, l)) != NULL && l->id != id)
        ;
    return l;
}

bool logins_at(const struct logins *ls, const struct addr *from)
{
    struct login *l = NULL;
    while ((l = logins_next(ls, l)) != NULL && !visitor_same(&l->client, from))
        ;
    return l != NULL;
}

bool login_token_hash(uint8_t hash[static LOGIN_HASH_LEN], const char *token)
{
    uint8_t bytes[TOKEN_LEN];
    if (strlen(token) != LOGIN_TOKEN_TEXT_LEN - 1 ||
        base32_decode(bytes, sizeof(bytes), token) != TOKEN_LEN)
        return false;
    key_hash(hash, bytes, sizeof(bytes), NULL, 0);
    return true;
}

void login_token_new(char text[static LOGIN_TOKEN_TEXT_LEN],
                     uint8_t hash[static LOGIN_HASH_LEN])
{
    uint8_t bytes[TOKEN_LEN];
    randombytes_buf(bytes, sizeof(bytes));
    key_hash(hash, bytes, sizeof(bytes), NULL, 0);
    base32_encode(bytes, sizeof(bytes), text);
}

struct login *login_by_cookie(const struct logins *ls, const char *token)
{
    uint8_t hash[LOGIN_HASH_LEN];
    struct login *l = NULL;
    if (!login_token_hash(hash, token))
        return NULL;
    while ((l = logins_next(ls, l)) != NULL &&
           sodium_memcmp(l->cookie_hash, hash, sizeof(hash)) != 0)
        ;
    return l;
}

void login_proof(uint8_t proof[static LOGIN_HASH_LEN], const struct portal_account *a)
{
    key_hash(proof, a->hash, strlen(a->hash), NULL, 0);
}

struct portal_account *login_account(const struct login *l, const struct portal_host *h)
{
    uint8_t proof[LOGIN_HASH_LEN];
    struct portal_account *a = host_account(h, l->account);
    for (size_t i = 0; a != NULL && i < l->host_count; i++) {
        if (l->hosts[i].host != h->number)
            continue;
        login_proof(proof, a);
        bool expired = a->expires_s != 0 && statedir_now_s() >= a->expires_s;
        bool same = memcmp(proof, l->hosts[i].proof, sizeof(proof)) == 0;
        return !expired && same ? a : NULL;
    }
    return NULL;
}

struct portal_account *login_account_at(const struct logins *ls, const struct login *l,
                                        size_t i, struct portal_host **h)
{
    *h = host_by_number(ls->rooms->hosts, l->hosts[i].host);
    return *h != NULL ? login_account(l, *h) : NULL;
}

bool login_may(const struct login *l, const struct portal_host *h, int service)
{
    const struct portal_account *a = service < 0 ? NULL : login_account(l, h);
    return a != NULL && (a->services >> service & 1) != 0;
}

uint64_t login_rest_ms(const struct logins *ls, const struct login *l)
{
    uint64_t lasted = loop_now_ms(ls->rooms->loop) - l->since_ms;
    return lasted < ls->longest_ms ? ls->longest_ms - lasted : 0;
}

/* ---------------------------------------------------------------------- come and go */

static void login_free(struct logins *ls, struct login *l)
{
    list_remove(&l->link);
    ls->count--;
    sodium_memzero(l, sizeof(*l));
    free(l);
}

void login_end(struct logins *ls, struct login *l, const char *why)
{
    struct portal_host *h;
    visitor_audit(ls->rooms->audit, "logout", l->account, &l->client, NULL, why);
    for (size_t i = 0; i < l->host_count; i++)
        if (login_account_at(ls, l, i, &h) != NULL)
            ask_note(ls->rooms->asks, h, l->account, &l->client, "logout", "");
    ls->rooms->events->on_login_end(ls->rooms, l);
    login_free(ls, l);
}

void login_seen(struct logins *ls, struct login *l, const struct addr *from)
{
    l->used_ms = loop_now_ms(ls->rooms->loop);
    if (visitor_same(&l->client, from))
        return;
    visitor_audit(ls->rooms->audit, "moved", l->account, from, NULL, NULL);
    l->client = *from;
    ls->rooms->events->on_login_move(ls->rooms, l);
}

static bool has_account(const struct logins *ls, const struct login *l)
{
    struct portal_host *h;
    for (size_t i = 0; i < l->host_count; i++)
        if (login_account_at(ls, l, i, &h) != NULL)
            return true;
    return false;
}

void logins_check(struct logins *ls)
{
    for (struct login *l = logins_next(ls, NULL), *next; l != NULL; l = next) {
        next = logins_next(ls, l);
        if (!has_account(ls, l))
            login_end(ls, l, "its account is gone");
    }
}

void logins_sweep(struct logins *ls)
{
    uint64_t now = loop_now_ms(ls->rooms->loop);
    for (struct login *l = logins_next(ls, NULL), *next; l != NULL; l = next) {
        next = logins_next(ls, l);
        if (ls->rooms->events->is_login_used(ls->rooms, l))
            l->used_ms = now;
        if (now - l->since_ms > ls->longest_ms)
            login_end(ls, l, "its time is over");
        else if (now - l->used_ms > PORTAL_LOGIN_UNUSED_S * UINT64_C(1000))
            login_end(ls, l, "not used for long");
    }
}

/* The eldest makes way when there are too many, of the name or of all. */
static struct login *login_new(struct logins *ls, const char *name)
{
    struct login *l = NULL, *own = NULL;
    size_t count = 0;
    while ((l = logins_next(ls, l)) != NULL) {
        if (strcmp(l->account, name) != 0)
            continue;
        own = own != NULL ? own : l;
        count++;
    }
    if (own != NULL && count >= LOGINS_NAME_MAX)
        login_end(ls, own, "too many logins of this name");
    else if (ls->count >= LOGINS_MAX)
        login_end(ls, logins_next(ls, NULL), "too many logins");
    l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->id = ++ls->next_id;
    list_push(&ls->all, &l->link);
    ls->count++;
    return l;
}

const struct login *login_admit(struct logins *ls, const char *name,
                                const struct addr *from, const uint32_t *hosts,
                                size_t count, char token[static LOGIN_TOKEN_TEXT_LEN])
{
    uint8_t unused[LOGIN_HASH_LEN];
    char where[128] = "";
    struct login *l = login_new(ls, name);
    if (l == NULL)
        return NULL;
    (void)snprintf(l->account, sizeof(l->account), "%s", name);
    l->client = *from;
    l->since_ms = l->used_ms = loop_now_ms(ls->rooms->loop);
    login_token_new(token, l->cookie_hash);
    login_token_new(l->csrf, unused);
    for (size_t i = 0; i < count; i++) {
        struct portal_host *h = host_by_number(ls->rooms->hosts, hosts[i]);
        const struct portal_account *a = h != NULL ? host_account(h, name) : NULL;
        size_t used = strlen(where);
        if (a == NULL)
            continue;
        l->hosts[l->host_count].host = h->number;
        login_proof(l->hosts[l->host_count++].proof, a);
        ask_note(ls->rooms->asks, h, name, from, "login", "");
        (void)snprintf(where + used, sizeof(where) - used, "%s%.30s",
                       used > 0 ? ", " : "", h->name);
    }
    visitor_audit(ls->rooms->audit, "login", name, from, where, NULL);
    return l;
}

int logins_new(struct logins **out, const struct rooms *rooms)
{
    struct logins *ls = calloc(1, sizeof(*ls));
    if (ls == NULL)
        return POSTERN_ERR_NOMEM;
    uint32_t longest_s = rooms->config->login_s;
    ls->rooms = rooms;
    ls->longest_ms =
        (longest_s != 0 ? longest_s : PORTAL_LOGIN_DEFAULT_S) * UINT64_C(1000);
    list_init(&ls->all);
    *out = ls;
    return 0;
}

void logins_free(struct logins *ls)
{
    if (ls == NULL)
        return;
    while (!list_empty(&ls->all))
        login_free(ls, logins_next(ls, NULL));
    free(ls);
}

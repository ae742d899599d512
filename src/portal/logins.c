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
    KEPT_MS = 5 * 60000, /* the disk knows how long ago a login was used to that */
};

struct logins {
    const struct rooms *rooms;
    uint64_t longest_ms; /* that one lasts */
    struct list all;     /* struct login, the eldest first */
    size_t count;
    uint64_t next_id;
    struct login_book *book;
    uint8_t secret[32]; /* of the tokens in forms */
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

/* In forms: another for each login, and the same as before the broker began anew. */
static void set_csrf(const struct logins *ls, struct login *l)
{
    uint8_t bytes[TOKEN_LEN];
    key_hash(bytes, l->cookie_hash, sizeof(l->cookie_hash), ls->secret,
             sizeof(ls->secret));
    base32_encode(bytes, sizeof(bytes), l->csrf);
}

static void keep(const struct logins *ls, struct login *l)
{
    struct login_row row = {.host_count = l->host_count};
    memcpy(row.cookie_hash, l->cookie_hash, sizeof(row.cookie_hash));
    memcpy(row.account, l->account, sizeof(row.account));
    row.since_s = row.used_s = statedir_now_s();
    for (size_t i = 0; i < l->host_count; i++) {
        memcpy(row.hosts[i].key, l->hosts[i].key, KEY_LEN);
        memcpy(row.hosts[i].proof, l->hosts[i].proof, LOGIN_HASH_LEN);
    }
    login_book_add(ls->book, &row);
}

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
    login_book_remove(ls->book, l->cookie_hash);
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

/* Hosts that have come back since this broker began say who still has an account. */
static void find_hosts(const struct logins *ls, struct login *l)
{
    for (size_t i = 0; i < l->host_count; i++) {
        const struct portal_host *h =
            l->hosts[i].host == 0 ? host_by_key(ls->rooms->hosts, l->hosts[i].key)
                                  : NULL;
        if (h != NULL && h->list != NULL)
            l->hosts[i].host = h->number;
    }
}

static bool has_account(const struct logins *ls, const struct login *l)
{
    struct portal_host *h;
    for (size_t i = 0; i < l->host_count; i++)
        if (l->hosts[i].host == 0 || login_account_at(ls, l, i, &h) != NULL)
            return true;
    return false;
}

void logins_check(struct logins *ls)
{
    for (struct login *l = logins_next(ls, NULL), *next; l != NULL; l = next) {
        next = logins_next(ls, l);
        find_hosts(ls, l);
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
        if (l->used_ms - l->kept_ms > KEPT_MS) {
            l->kept_ms = l->used_ms;
            login_book_used(ls->book, l->cookie_hash,
                            statedir_now_s() - (int64_t)((now - l->used_ms) / 1000));
        }
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
    char where[128] = "";
    struct login *l = login_new(ls, name);
    if (l == NULL)
        return NULL;
    (void)snprintf(l->account, sizeof(l->account), "%s", name);
    l->client = *from;
    l->since_ms = l->used_ms = l->kept_ms = loop_now_ms(ls->rooms->loop);
    login_token_new(token, l->cookie_hash);
    set_csrf(ls, l);
    for (size_t i = 0; i < count; i++) {
        struct portal_host *h = host_by_number(ls->rooms->hosts, hosts[i]);
        const struct portal_account *a = h != NULL ? host_account(h, name) : NULL;
        size_t used = strlen(where);
        if (a == NULL)
            continue;
        l->hosts[l->host_count].host = h->number;
        memcpy(l->hosts[l->host_count].key, h->key, KEY_LEN);
        login_proof(l->hosts[l->host_count++].proof, a);
        ask_note(ls->rooms->asks, h, name, from, "login", "");
        (void)snprintf(where + used, sizeof(where) - used, "%s%.30s",
                       used > 0 ? ", " : "", h->name);
    }
    visitor_audit(ls->rooms->audit, "login", name, from, where, NULL);
    keep(ls, l);
    return l;
}

/* ---------------------------------------------------------- from before this broker */

/* Of the loop's clock, which may have begun later: all that is asked of it is how long
 * ago it was. */
static uint64_t ago_ms(const struct logins *ls, int64_t then_s)
{
    int64_t now_s = statedir_now_s();
    uint64_t ago_s = now_s > then_s ? (uint64_t)(now_s - then_s) : 0;
    return loop_now_ms(ls->rooms->loop) - ago_s * 1000;
}

/* It is worth nothing until a host of its own says that the account still holds. */
static void take(void *ctx, const struct login_row *row)
{
    struct logins *ls = ctx;
    struct login *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return;
    l->id = ++ls->next_id;
    memcpy(l->cookie_hash, row->cookie_hash, sizeof(l->cookie_hash));
    (void)snprintf(l->account, sizeof(l->account), "%s", row->account);
    l->since_ms = ago_ms(ls, row->since_s);
    l->used_ms = l->kept_ms = ago_ms(ls, row->used_s);
    l->host_count = row->host_count;
    for (size_t i = 0; i < row->host_count; i++) {
        memcpy(l->hosts[i].key, row->hosts[i].key, KEY_LEN);
        memcpy(l->hosts[i].proof, row->hosts[i].proof, LOGIN_HASH_LEN);
    }
    set_csrf(ls, l);
    list_push(&ls->all, &l->link);
    ls->count++;
}

static void take_up(struct logins *ls)
{
    int64_t now_s = statedir_now_s();
    if (ls->rooms->config->state_dir == NULL)
        return;
    struct login_span good = {.since_s = now_s - (int64_t)(ls->longest_ms / 1000),
                              .used_s = now_s - PORTAL_LOGIN_UNUSED_S,
                              .now_s = now_s};
    ls->book = login_book_open(ls->rooms->config->state_dir);
    login_book_each(ls->book, &good, LOGINS_MAX, take, ls);
}

int logins_new(struct logins **out, const struct rooms *rooms,
               const struct keypair *broker)
{
    struct logins *ls = calloc(1, sizeof(*ls));
    if (ls == NULL)
        return POSTERN_ERR_NOMEM;
    uint32_t longest_s = rooms->config->login_s;
    ls->rooms = rooms;
    ls->longest_ms =
        (longest_s != 0 ? longest_s : PORTAL_LOGIN_DEFAULT_S) * UINT64_C(1000);
    list_init(&ls->all);
    static const char label[] = "postern portal: forms of logins";
    key_hash(ls->secret, label, sizeof(label), broker->seed, KEY_LEN);
    take_up(ls);
    *out = ls;
    return 0;
}

void logins_free(struct logins *ls)
{
    if (ls == NULL)
        return;
    while (!list_empty(&ls->all))
        login_free(ls, logins_next(ls, NULL));
    login_book_close(ls->book);
    sodium_memzero(ls->secret, sizeof(ls->secret));
    free(ls);
}

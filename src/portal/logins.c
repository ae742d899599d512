/*
 * Who is logged in. A name may have accounts on several hosts with the same password:
 * one login opens them all. Cookies are kept as hashes, passwords not at all; a check
 * takes memory and time on purpose, so few run at once and failures wait ever longer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/totp.h"
#include "io/log.h"
#include "io/statedir.h"
#include "portal/internal.h"

enum {
    JOBS_MAX = 16,
    STEPS_MAX = 256,
    STEP_MS = 5 * 60 * 1000,
    STEP_TRIES = 5,
    NAME_DELAY_MAX_MS = 60 * 1000,
    ADDRESS_DELAY_MAX_MS = 10 * 60 * 1000,
    HASH_MEMORY_MAX_KIB = 64 * 1024,
    HASH_PASSES_MAX = 8,
    OWN_MEMORY_BYTES = 19922944, /* as `postern access` makes them */
    OWN_PASSES = 2,
};

struct login_step {
    bool used;
    uint8_t hash[32];
    char name[64];
    uint32_t hosts[LOGIN_HOSTS_MAX];
    uint8_t proofs[LOGIN_HOSTS_MAX][32]; /* of the passwords that were right */
    size_t count;
    unsigned tries;
    uint64_t since_ms;
};

struct job {
    uv_work_t work;
    struct portal *portal;
    char name[64], password[256];
    struct addr from;
    struct {
        uint32_t host;
        char hash[crypto_pwhash_STRBYTES];
        bool right;
    } tries[LOGIN_HOSTS_MAX];
    size_t count;
    login_cb cb;
    void *ctx;
};

/* ------------------------------------------------------------------------- the table
 */

struct login *login_by_id(struct portal *p, uint64_t id)
{
    for (struct login *l = p->logins; l != NULL; l = l->next)
        if (l->id == id)
            return l;
    return NULL;
}

static bool token_hash(uint8_t hash[static 32], const char *token)
{
    uint8_t bytes[LOGIN_TOKEN_LEN];
    if (strlen(token) != LOGIN_TOKEN_TEXT_LEN - 1 ||
        base32_decode(bytes, sizeof(bytes), token) != LOGIN_TOKEN_LEN)
        return false;
    key_hash(hash, bytes, sizeof(bytes), NULL, 0);
    return true;
}

static void token_new(char text[static LOGIN_TOKEN_TEXT_LEN], uint8_t hash[static 32])
{
    uint8_t bytes[LOGIN_TOKEN_LEN];
    randombytes_buf(bytes, sizeof(bytes));
    key_hash(hash, bytes, sizeof(bytes), NULL, 0);
    base32_encode(bytes, sizeof(bytes), text);
}

struct login *login_by_cookie(struct portal *p, const char *token)
{
    uint8_t hash[32];
    if (!token_hash(hash, token))
        return NULL;
    for (struct login *l = p->logins; l != NULL; l = l->next)
        if (sodium_memcmp(l->cookie_hash, hash, sizeof(hash)) == 0)
            return l;
    return NULL;
}

static void proof_of(uint8_t proof[static 32], const struct portal_account *a)
{
    key_hash(proof, a->hash, strlen(a->hash), NULL, 0);
}

struct portal_account *login_account(const struct login *l, const struct portal_host *h)
{
    uint8_t proof[32];
    struct portal_account *a = host_account(h, l->account);
    for (size_t i = 0; a != NULL && i < l->host_count; i++) {
        if (l->hosts[i].host != h->number)
            continue;
        proof_of(proof, a);
        bool expired = a->expires_s != 0 && statedir_now_s() >= a->expires_s;
        return !expired && memcmp(proof, l->hosts[i].proof, 32) == 0 ? a : NULL;
    }
    return NULL;
}

bool login_may(const struct login *l, const struct portal_host *h, int service)
{
    const struct portal_account *a = service < 0 ? NULL : login_account(l, h);
    return a != NULL && (a->services >> service & 1) != 0;
}

bool portal_same_client(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family || a->family == ADDR_NONE || a->scope != b->scope)
        return false;
    return memcmp(a->ip, b->ip, a->family == ADDR_V6 && a->scope == 0 ? 8 : 16) == 0;
}

static void login_free(struct portal *p, struct login *l)
{
    for (struct login **at = &p->logins; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            break;
        }
    }
    p->login_count--;
    (void)routes_give_up_login(p->routes, l->id);
    sodium_memzero(l, sizeof(*l));
    free(l);
}

void login_end(struct portal *p, struct login *l, const char *why)
{
    portal_audit(p, "logout", l->account, &l->client, NULL, why);
    for (size_t i = 0; i < l->host_count; i++) {
        struct portal_host *h = host_by_number(p, l->hosts[i].host);
        if (h != NULL && login_account(l, h) != NULL)
            host_note(h, l->account, &l->client, "logout", "");
    }
    names_end_login(p, l->id);
    login_free(p, l);
    doors_trim(p);
}

void login_seen(struct portal *p, struct login *l, const struct addr *from)
{
    l->used_ms = uv_now(&p->loop);
    if (portal_same_client(&l->client, from))
        return;
    portal_audit(p, "moved", l->account, from, NULL, NULL);
    l->client = *from;
    door_move(p, l);
}

void logins_check(struct portal *p)
{
    struct login *next;
    for (struct login *l = p->logins; l != NULL; l = next) {
        bool any = false;
        next = l->next;
        for (size_t i = 0; i < l->host_count && !any; i++) {
            const struct portal_host *h = host_by_number(p, l->hosts[i].host);
            any = h != NULL && login_account(l, h) != NULL;
        }
        if (!any)
            login_end(p, l, "its account is gone");
    }
}

void logins_sweep(struct portal *p)
{
    struct login *next;
    uint64_t now = uv_now(&p->loop);
    uint64_t longest =
        (p->config->login_s != 0 ? p->config->login_s : PORTAL_LOGIN_DEFAULT_S) *
        UINT64_C(1000);
    for (struct login *l = p->logins; l != NULL; l = next) {
        next = l->next;
        if (routes_login_entries(p->routes, l->id) > 0 || names_in_use(p, l->id))
            l->used_ms = now;
        if (now - l->since_ms > longest)
            login_end(p, l, "its time is over");
        else if (now - l->used_ms > PORTAL_LOGIN_UNUSED_S * UINT64_C(1000))
            login_end(p, l, "not used for long");
    }
}

/* ------------------------------------------------------------------------- passwords
 */

/* A host's hash may not make this machine work without bound. */
static bool hash_is_bounded(const char *hash)
{
    static const char start[] = "$argon2id$v=19$m=";
    char *end;
    if (strncmp(hash, start, sizeof(start) - 1) != 0)
        return false;
    unsigned long memory = strtoul(hash + sizeof(start) - 1, &end, 10);
    if (strncmp(end, ",t=", 3) != 0)
        return false;
    unsigned long passes = strtoul(end + 3, &end, 10);
    return strncmp(end, ",p=1$", 5) == 0 && memory <= HASH_MEMORY_MAX_KIB &&
           passes <= HASH_PASSES_MAX;
}

/* On a thread of its own: touches the job only. */
static void check(uv_work_t *w)
{
    struct job *j = w->data;
    bool checked = false;
    for (size_t i = 0; i < j->count; i++) {
        if (!hash_is_bounded(j->tries[i].hash))
            continue;
        checked = true;
        j->tries[i].right = crypto_pwhash_str_verify(j->tries[i].hash, j->password,
                                                     strlen(j->password)) == 0;
    }
    if (!checked) { /* a name that nobody has takes as long */
        char hash[crypto_pwhash_STRBYTES];
        (void)!crypto_pwhash_str(hash, j->password, strlen(j->password), OWN_PASSES,
                                 OWN_MEMORY_BYTES);
    }
}

/*
 * Whom a try concerns: the accounts of that name, each by itself. Else who has one of
 * the same name on another host could forget the failures by logging in there.
 */
struct tried {
    const char *name;
    uint32_t hosts[LOGIN_HOSTS_MAX];
    size_t count; /* 0: nobody is called so */
    const struct addr *from;
};

static struct tried tried_of(const char *name, const uint32_t *hosts, size_t n,
                             const struct addr *from)
{
    struct tried t = {.name = name, .count = n, .from = from};
    memcpy(t.hosts, hosts, n * sizeof(*hosts));
    return t;
}

static size_t name_key(const struct tried *t, size_t i, char key[static 96])
{
    if (t->count == 0)
        return (size_t)snprintf(key, 96, "nobody %.63s", t->name);
    return (size_t)snprintf(key, 96, "%lu %.63s", (unsigned long)t->hosts[i], t->name);
}

static void address_key(const struct addr *from, uint8_t ip[static 17])
{
    ip[0] = from->family;
    memcpy(ip + 1, from->ip, 16);
    if (from->family == ADDR_V6)
        memset(ip + 9, 0, 8);
}

static uint64_t must_wait_ms(struct portal *p, const struct tried *t)
{
    char key[96];
    uint8_t ip[17];
    uint64_t now = uv_now(&p->loop);
    address_key(t->from, ip);
    uint64_t longest = throttle_wait_ms(&p->addresses, ip, sizeof(ip), now);
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        size_t len = name_key(t, i, key);
        uint64_t wait = throttle_wait_ms(&p->names, key, len, now);
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

static void note_failure(struct portal *p, const struct tried *t)
{
    char key[96];
    uint8_t ip[17];
    uint64_t now = uv_now(&p->loop);
    address_key(t->from, ip);
    throttle_failed(&p->addresses, ip, sizeof(ip), now);
    for (size_t i = 0; i == 0 || i < t->count; i++) {
        size_t len = name_key(t, i, key);
        throttle_failed(&p->names, key, len, now);
    }
}

static void note_success(struct portal *p, const struct tried *t)
{
    char key[96];
    uint8_t ip[17];
    address_key(t->from, ip);
    throttle_succeeded(&p->addresses, ip, sizeof(ip));
    for (size_t i = 0; i < t->count; i++) {
        size_t len = name_key(t, i, key);
        throttle_succeeded(&p->names, key, len);
    }
}

/* The oldest makes way when there are too many. */
static struct login *login_new(struct portal *p, const char *name)
{
    struct login *last = p->logins, *own = NULL;
    size_t count = 0;
    for (struct login *l = p->logins; l != NULL; l = l->next) {
        last = l;
        if (strcmp(l->account, name) != 0)
            continue;
        own = l;
        count++;
    }
    if (own != NULL && count >= LOGINS_NAME_MAX)
        login_end(p, own, "too many logins of this name");
    else if (last != NULL && p->login_count >= LOGINS_MAX)
        login_end(p, last, "too many logins");
    struct login *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->id = ++p->next_login;
    l->next = p->logins;
    p->logins = l;
    p->login_count++;
    return l;
}

static enum login_result admit(struct portal *p, const char *name,
                               const uint32_t *hosts, size_t n, const struct addr *from,
                               char token[static LOGIN_TOKEN_TEXT_LEN])
{
    uint8_t unused[32];
    char where[128] = "";
    struct login *l = login_new(p, name);
    if (l == NULL)
        return LOGIN_FAILED;
    (void)snprintf(l->account, sizeof(l->account), "%s", name);
    l->client = *from;
    l->since_ms = l->used_ms = uv_now(&p->loop);
    token_new(token, l->cookie_hash);
    token_new(l->csrf, unused);
    for (size_t i = 0; i < n; i++) {
        struct portal_host *h = host_by_number(p, hosts[i]);
        const struct portal_account *a = h != NULL ? host_account(h, name) : NULL;
        size_t used = strlen(where);
        if (a == NULL)
            continue;
        l->hosts[l->host_count].host = h->number;
        proof_of(l->hosts[l->host_count++].proof, a);
        host_note(h, name, from, "login", "");
        (void)snprintf(where + used, sizeof(where) - used, "%s%.30s",
                       used > 0 ? ", " : "", h->name);
    }
    struct tried t = tried_of(name, hosts, n, from);
    note_success(p, &t);
    portal_audit(p, "login", name, from, where, NULL);
    return LOGIN_OK;
}

static enum login_result ask_code(struct portal *p, const char *name,
                                  const uint32_t *hosts, size_t n,
                                  char token[static LOGIN_TOKEN_TEXT_LEN])
{
    struct login_step *s = &p->steps[0];
    for (size_t i = 0; i < STEPS_MAX; i++) {
        if (!p->steps[i].used) {
            s = &p->steps[i];
            break;
        }
        if (p->steps[i].since_ms < s->since_ms)
            s = &p->steps[i]; /* the oldest, when all are used */
    }
    *s = (struct login_step){.used = true, .count = n, .since_ms = uv_now(&p->loop)};
    (void)snprintf(s->name, sizeof(s->name), "%s", name);
    memcpy(s->hosts, hosts, n * sizeof(*hosts));
    for (size_t i = 0; i < n; i++)
        proof_of(s->proofs[i], host_account(host_by_number(p, hosts[i]), name));
    token_new(token, s->hash);
    return LOGIN_CODE;
}

static void note_refused(const struct job *j)
{
    struct portal *p = j->portal;
    portal_audit(p, "refused", j->name, &j->from, "login", "wrong name or password");
    for (size_t i = 0; i < j->count && !p->stopping; i++) {
        struct portal_host *h = host_by_number(p, j->tries[i].host);
        if (h != NULL)
            host_note(h, j->name, &j->from, "refused", "login");
    }
}

static void on_checked(uv_work_t *w, int status)
{
    struct job *j = w->data;
    struct portal *p = j->portal;
    char token[LOGIN_TOKEN_TEXT_LEN] = "";
    uint32_t hosts[LOGIN_HOSTS_MAX];
    enum login_result r = status == 0 ? LOGIN_WRONG : LOGIN_FAILED;
    size_t n = 0;
    bool code = false;
    for (size_t i = 0; i < j->count; i++) {
        struct portal_host *h = host_by_number(p, j->tries[i].host);
        const struct portal_account *a = h != NULL ? host_account(h, j->name) : NULL;
        if (!j->tries[i].right || a == NULL || strcmp(a->hash, j->tries[i].hash) != 0)
            continue;
        hosts[n++] = h->number;
        code = code || a->totp_len > 0;
    }
    p->jobs--;
    if (n > 0)
        r = code ? ask_code(p, j->name, hosts, n, token)
                 : admit(p, j->name, hosts, n, &j->from, token);
    else if (!p->stopping)
        note_refused(j);
    if (j->cb != NULL && !p->stopping)
        j->cb(j->ctx, r, token);
    sodium_memzero(token, sizeof(token));
    sodium_memzero(j, sizeof(*j));
    free(j);
}

/* "alice" has accounts on all hosts that know her; "alice@home" on that one. */
static void find_tries(struct portal *p, struct job *j, const char *name)
{
    const char *at = strrchr(name, '@');
    size_t len = at != NULL ? (size_t)(at - name) : strlen(name);
    if (len >= sizeof(j->name))
        len = sizeof(j->name) - 1;
    memcpy(j->name, name, len);
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next) {
        const struct portal_account *a = host_account(h, j->name);
        if (a == NULL || j->count == LOGIN_HOSTS_MAX ||
            (a->expires_s != 0 && statedir_now_s() >= a->expires_s) ||
            (at != NULL && strcmp(at + 1, h->name) != 0 &&
             strcmp(at + 1, h->label) != 0))
            continue;
        j->tries[j->count].host = h->number;
        (void)snprintf(j->tries[j->count++].hash, sizeof(j->tries[0].hash), "%s",
                       a->hash);
    }
}

int login_begin(struct portal *p, const char *name, const char *password,
                const struct addr *from, login_cb cb, void *ctx, uint64_t *wait_ms)
{
    struct job *j = p->jobs < JOBS_MAX ? calloc(1, sizeof(*j)) : NULL;
    if (j == NULL)
        return POSTERN_ERR_LIMIT;
    find_tries(p, j, name);
    struct tried t = {.name = j->name, .count = j->count, .from = from};
    for (size_t i = 0; i < j->count; i++)
        t.hosts[i] = j->tries[i].host;
    *wait_ms = must_wait_ms(p, &t);
    if (*wait_ms > 0) {
        free(j);
        return POSTERN_ERR_AGAIN;
    }
    note_failure(p, &t); /* until it is proven: tries side by side count */
    (void)snprintf(j->password, sizeof(j->password), "%s", password);
    j->portal = p;
    j->from = *from;
    j->cb = cb;
    j->ctx = ctx;
    j->work.data = j;
    p->jobs++;
    (void)uv_queue_work(&p->loop, &j->work, check, on_checked);
    return 0;
}

/* Leaves those accounts whose password is still the one that was right. */
static void step_renew(struct portal *p, struct login_step *s)
{
    size_t n = 0;
    uint8_t proof[32];
    for (size_t i = 0; i < s->count; i++) {
        const struct portal_host *h = host_by_number(p, s->hosts[i]);
        const struct portal_account *a = h != NULL ? host_account(h, s->name) : NULL;
        if (a == NULL)
            continue;
        proof_of(proof, a);
        if (memcmp(proof, s->proofs[i], sizeof(proof)) != 0)
            continue;
        s->hosts[n] = s->hosts[i];
        memmove(s->proofs[n++], proof, sizeof(proof));
    }
    s->count = n;
}

/* The code must fit every host of the step that wants one; it is used up then. */
static bool code_is_right(struct portal *p, const struct login_step *s,
                          const char *code)
{
    int64_t now = statedir_now_s();
    int64_t steps[LOGIN_HOSTS_MAX] = {0};
    for (size_t i = 0; i < s->count; i++) {
        const struct portal_account *a =
            host_account(host_by_number(p, s->hosts[i]), s->name);
        if (a->totp_len == 0)
            continue;
        steps[i] = totp_check(a->totp, a->totp_len, now, code);
        if (steps[i] <= a->totp_step)
            return false;
    }
    for (size_t i = 0; i < s->count; i++)
        if (steps[i] > 0)
            host_account(host_by_number(p, s->hosts[i]), s->name)->totp_step = steps[i];
    return true;
}

enum login_result login_code(struct portal *p, const char *step, const char *code,
                             const struct addr *from,
                             char token[static LOGIN_TOKEN_TEXT_LEN], uint64_t *wait_ms)
{
    uint8_t hash[32];
    struct login_step *s = NULL;
    if (!token_hash(hash, step))
        return LOGIN_FAILED;
    for (size_t i = 0; i < STEPS_MAX && s == NULL; i++)
        if (p->steps[i].used && sodium_memcmp(p->steps[i].hash, hash, 32) == 0)
            s = &p->steps[i];
    if (s == NULL || uv_now(&p->loop) - s->since_ms > STEP_MS)
        return LOGIN_FAILED;
    step_renew(p, s);
    if (s->count == 0)
        return LOGIN_FAILED;
    struct tried t = tried_of(s->name, s->hosts, s->count, from);
    *wait_ms = must_wait_ms(p, &t);
    if (*wait_ms > 0)
        return LOGIN_WAIT;
    enum login_result r = LOGIN_WRONG;
    if (code_is_right(p, s, code))
        r = admit(p, s->name, s->hosts, s->count, from, token);
    if (r == LOGIN_WRONG) {
        note_failure(p, &t);
        portal_audit(p, "refused", s->name, from, "login", "wrong one-time code");
        for (size_t i = 0; i < s->count; i++) {
            struct portal_host *h = host_by_number(p, s->hosts[i]);
            if (h != NULL)
                host_note(h, s->name, from, "refused", "login");
        }
    }
    if (r != LOGIN_WRONG || ++s->tries == STEP_TRIES)
        sodium_memzero(s, sizeof(*s));
    return r == LOGIN_WRONG && !s->used ? LOGIN_FAILED : r;
}

/* ----------------------------------------------------------------------- open, close
 */

int logins_open(struct portal *p)
{
    uint8_t secret[THROTTLE_SECRET_LEN];
    p->steps = calloc(STEPS_MAX, sizeof(*p->steps));
    if (p->steps == NULL)
        return POSTERN_ERR_NOMEM;
    randombytes_buf(secret, sizeof(secret));
    throttle_init(&p->names, secret, NAME_DELAY_MAX_MS);
    randombytes_buf(secret, sizeof(secret));
    throttle_init(&p->addresses, secret, ADDRESS_DELAY_MAX_MS);
    return 0;
}

void logins_close(struct portal *p)
{
    while (p->logins != NULL)
        login_free(p, p->logins);
    if (p->steps != NULL)
        sodium_memzero(p->steps, STEPS_MAX * sizeof(*p->steps));
    free(p->steps);
    p->steps = NULL;
}

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
#include "io/work.h"
#include "io/statedir.h"
#include "portal/internal.h"

enum {
    JOBS_MAX = 16, /* of who is known */
    STRANGER_JOBS_MAX = 1,
    LINE_MS = 100,
    LINE_FULL_WAIT_MS = 5000,
    STEPS_MAX = 256,
    STEP_MS = 5 * 60 * 1000,
    STEP_TRIES = 5,
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
    struct portal *portal;
    char password[256];
    struct tried by; /* its hosts are those of `tries` */
    bool stranger;
    struct {
        uint32_t host;
        char hash[crypto_pwhash_STRBYTES];
        bool right;
    } tries[LOGIN_HOSTS_MAX];
    size_t count;
    login_cb cb;
    void *ctx;
};

/* ----------------------------------------------------------------------- the table */

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
    l->used_ms = loop_now_ms(p->loop);
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
    uint64_t now = loop_now_ms(p->loop);
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

/* ----------------------------------------------------------------------- passwords */

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
static void check(void *ctx)
{
    struct job *j = ctx;
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

static enum login_result admit(struct portal *p, const struct tried *t,
                               char token[static LOGIN_TOKEN_TEXT_LEN])
{
    uint8_t unused[32];
    char where[128] = "";
    const char *name = t->name;
    struct login *l = login_new(p, name);
    if (l == NULL)
        return LOGIN_FAILED;
    (void)snprintf(l->account, sizeof(l->account), "%s", name);
    l->client = t->from;
    l->since_ms = l->used_ms = loop_now_ms(p->loop);
    token_new(token, l->cookie_hash);
    token_new(l->csrf, unused);
    for (size_t i = 0; i < t->count; i++) {
        struct portal_host *h = host_by_number(p, t->hosts[i]);
        const struct portal_account *a = h != NULL ? host_account(h, name) : NULL;
        size_t used = strlen(where);
        if (a == NULL)
            continue;
        l->hosts[l->host_count].host = h->number;
        proof_of(l->hosts[l->host_count++].proof, a);
        host_note(h, name, &t->from, "login", "");
        (void)snprintf(where + used, sizeof(where) - used, "%s%.30s",
                       used > 0 ? ", " : "", h->name);
    }
    tries_succeeded(p, t);
    portal_audit(p, "login", name, &t->from, where, NULL);
    return LOGIN_OK;
}

static enum login_result ask_code(struct portal *p, const struct tried *t,
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
    *s = (struct login_step){
        .used = true, .count = t->count, .since_ms = loop_now_ms(p->loop)};
    (void)snprintf(s->name, sizeof(s->name), "%s", t->name);
    memcpy(s->hosts, t->hosts, sizeof(s->hosts));
    for (size_t i = 0; i < s->count; i++)
        proof_of(s->proofs[i], host_account(host_by_number(p, s->hosts[i]), s->name));
    token_new(token, s->hash);
    return LOGIN_CODE;
}

static void note_refused(struct portal *p, const struct tried *t, const char *why)
{
    portal_audit(p, "refused", t->name, &t->from, "login", why);
    for (size_t i = 0; i < t->count && !p->stopping; i++) {
        struct portal_host *h = host_by_number(p, t->hosts[i]);
        if (h != NULL)
            host_note(h, t->name, &t->from, "refused", "login");
    }
}

static void job_end(struct job *j, enum login_result r, const char *token)
{
    if (j->cb != NULL && !j->portal->stopping)
        j->cb(j->ctx, r, token);
    sodium_memzero(j, sizeof(*j));
    free(j);
}

static void advance(struct portal *p);

static void on_checked(void *ctx)
{
    struct job *j = ctx;
    struct portal *p = j->portal;
    char token[LOGIN_TOKEN_TEXT_LEN] = "";
    struct tried right = j->by;
    enum login_result r = LOGIN_WRONG;
    bool code = false;
    right.count = 0;
    for (size_t i = 0; i < j->count && !p->stopping; i++) {
        struct portal_host *h = host_by_number(p, j->tries[i].host);
        const struct portal_account *a = h != NULL ? host_account(h, j->by.name) : NULL;
        if (!j->tries[i].right || a == NULL || strcmp(a->hash, j->tries[i].hash) != 0)
            continue;
        right.by[right.count] = j->by.by[i];
        right.hosts[right.count++] = h->number;
        code = code || a->totp_len > 0;
    }
    p->jobs -= !j->stranger;
    p->stranger_jobs -= j->stranger;
    if (right.count > 0)
        r = code ? ask_code(p, &right, token) : admit(p, &right, token);
    else if (!p->stopping)
        note_refused(p, &j->by, "wrong name or password");
    job_end(j, r, token);
    sodium_memzero(token, sizeof(token));
    if (!p->stopping)
        advance(p);
}

static void job_start(struct job *j)
{
    struct portal *p = j->portal;
    tries_failed(p, &j->by); /* until it is proven: tries side by side count */
    p->jobs += !j->stranger;
    p->stranger_jobs += j->stranger;
    if (work_start(p->loop, check, on_checked, j) == 0)
        return;
    p->jobs -= !j->stranger;
    p->stranger_jobs -= j->stranger;
    job_end(j, LOGIN_FAILED, "");
}

/* --------------------------------------------------------------- strangers in line */

static bool may_start(void *ctx, const void *who)
{
    struct portal *p = ctx;
    const struct job *j = who;
    return tries_own_wait_ms(p, &j->by) == 0 && tries_strangers_wait_ms(p, &j->by) == 0;
}

static void on_line(void *ctx)
{
    struct portal *p = ctx;
    struct job *j;
    advance(p);
    while ((j = turns_overdue(&p->tries->turns, TURNS_PATIENCE_MS,
                              loop_now_ms(p->loop))) != NULL)
        job_end(j, LOGIN_WAIT, "");
}

/* Those whose turn it is begin. */
static void advance(struct portal *p)
{
    struct turns *t = &p->tries->turns;
    while (p->stranger_jobs < STRANGER_JOBS_MAX) {
        struct job *j = turns_next(t, may_start, p, loop_now_ms(p->loop));
        if (j == NULL)
            break;
        job_start(j);
    }
    if (t->count > 0)
        timer_start(&p->line, LINE_MS);
}

void logins_clear_line(struct portal *p)
{
    struct job *j;
    while ((j = turns_overdue(&p->tries->turns, 0, loop_now_ms(p->loop))) != NULL)
        job_end(j, LOGIN_WAIT, "");
}

/* "alice" has accounts on all hosts that know her; "alice@home" on that one. */
static void find_tries(struct portal *p, struct job *j, const char *name,
                       const char *cookies)
{
    const char *at = strrchr(name, '@');
    size_t len = at != NULL ? (size_t)(at - name) : strlen(name);
    if (len >= sizeof(j->by.name))
        len = sizeof(j->by.name) - 1;
    memcpy(j->by.name, name, len);
    for (struct portal_host *h = p->hosts; h != NULL; h = h->next) {
        const struct portal_account *a = host_account(h, j->by.name);
        if (a == NULL || j->count == LOGIN_HOSTS_MAX ||
            (a->expires_s != 0 && statedir_now_s() >= a->expires_s) ||
            (at != NULL && strcmp(at + 1, h->name) != 0 &&
             strcmp(at + 1, h->label) != 0))
            continue;
        j->tries[j->count].host = h->number;
        (void)snprintf(j->tries[j->count++].hash, sizeof(j->tries[0].hash), "%s",
                       a->hash);
        tried_add(p, &j->by, h->number, cookies);
    }
}

/* Who is known somewhere does not wait for where he is not: that is left out. */
static void leave_out_waiting(struct portal *p, struct job *j)
{
    size_t n = 0;
    for (size_t i = 0; i < j->count; i++) {
        struct tried one = j->by;
        one.count = 1;
        one.hosts[0] = j->by.hosts[i];
        one.by[0] = j->by.by[i];
        if (tries_strangers_wait_ms(p, &one) > 0)
            continue;
        j->tries[n] = j->tries[i];
        j->by.hosts[n] = j->by.hosts[i];
        j->by.by[n++] = j->by.by[i];
    }
    j->count = j->by.count = n;
}

int login_begin(struct portal *p, const char *name, const char *password,
                const struct login_from *from, login_cb cb, void *ctx,
                uint64_t *wait_ms)
{
    struct job *j = p->jobs < JOBS_MAX ? calloc(1, sizeof(*j)) : NULL;
    if (j == NULL)
        return POSTERN_ERR_LIMIT;
    j->portal = p;
    j->by.from = from->address;
    find_tries(p, j, name, from->cookies);
    *wait_ms = tries_own_wait_ms(p, &j->by);
    if (*wait_ms > 0) {
        free(j);
        return POSTERN_ERR_AGAIN;
    }
    (void)snprintf(j->password, sizeof(j->password), "%s", password);
    j->stranger = !tried_is_known(&j->by);
    if (j->stranger) {
        struct job *gone =
            turns_enter(&p->tries->turns, j, &j->by.from, loop_now_ms(p->loop));
        if (gone == j) {
            *wait_ms = LINE_FULL_WAIT_MS;
            job_end(j, LOGIN_WAIT, "");
            return POSTERN_ERR_AGAIN;
        }
        if (gone != NULL)
            job_end(gone, LOGIN_WAIT, "");
    }
    j->cb = cb;
    j->ctx = ctx;
    if (j->stranger) {
        advance(p);
        return 0;
    }
    leave_out_waiting(p, j);
    job_start(j);
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
                             const struct login_from *from,
                             char token[static LOGIN_TOKEN_TEXT_LEN], uint64_t *wait_ms)
{
    uint8_t hash[32];
    struct tried t = {.code = true, .from = from->address};
    struct login_step *s = NULL;
    if (!token_hash(hash, step))
        return LOGIN_FAILED;
    for (size_t i = 0; i < STEPS_MAX && s == NULL; i++)
        if (p->steps[i].used && sodium_memcmp(p->steps[i].hash, hash, 32) == 0)
            s = &p->steps[i];
    if (s == NULL || loop_now_ms(p->loop) - s->since_ms > STEP_MS)
        return LOGIN_FAILED;
    step_renew(p, s);
    if (s->count == 0)
        return LOGIN_FAILED;
    memcpy(t.name, s->name, sizeof(t.name));
    for (size_t i = 0; i < s->count; i++)
        tried_add(p, &t, s->hosts[i], from->cookies);
    *wait_ms = tries_own_wait_ms(p, &t);
    if (*wait_ms > 0)
        return LOGIN_WAIT;
    enum login_result r = LOGIN_WRONG;
    if (code_is_right(p, s, code))
        r = admit(p, &t, token);
    if (r == LOGIN_WRONG) {
        tries_failed(p, &t);
        note_refused(p, &t, "wrong one-time code");
    }
    if (r != LOGIN_WRONG || ++s->tries == STEP_TRIES)
        sodium_memzero(s, sizeof(*s));
    return r == LOGIN_WRONG && !s->used ? LOGIN_FAILED : r;
}

/* --------------------------------------------------------------------- open, close */

int logins_open(struct portal *p)
{
    devices_open(p);
    timer_init(&p->line, p->loop, on_line, p);
    p->steps = calloc(STEPS_MAX, sizeof(*p->steps));
    return p->steps != NULL ? tries_open(p) : POSTERN_ERR_NOMEM;
}

void logins_close(struct portal *p)
{
    while (p->logins != NULL)
        login_free(p, p->logins);
    if (p->steps != NULL)
        sodium_memzero(p->steps, STEPS_MAX * sizeof(*p->steps));
    free(p->steps);
    p->steps = NULL;
    if (p->tries != NULL)
        logins_clear_line(p); /* their requests are answered already */
    tries_close(p);
}

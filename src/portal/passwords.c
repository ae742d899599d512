/* Passwords and codes, checked on threads, strangers in turn; see passwords.h. */
#include "portal/passwords.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/totp.h"
#include "io/loop.h"
#include "io/statedir.h"
#include "io/work.h"
#include "portal/rooms.h"
#include "portal/tries.h"
#include "portal/turns.h"
#include "portal/visitor.h"

enum {
    JOBS_MAX = 16,         /* of who is known */
    STRANGER_JOBS_MAX = 1, /* so that they fill one processor, and never two */
    LINE_MS = 100,         /* between looks whose turn it is: a delay may have ended */
    LINE_FULL_WAIT_MS = 5000,
    STEPS_MAX = 256,
    STEP_MS = 5 * 60 * 1000,         /* to find the telephone */
    STEP_TRIES = 5,                  /* of a million codes; then the password again */
    HASH_MEMORY_MAX_KIB = 64 * 1024, /* the host chooses, and it is our memory */
    HASH_PASSES_MAX = 8,             /* and our time */
    OWN_MEMORY_BYTES = 19922944,     /* as `postern access` makes them */
    OWN_PASSES = 2,
};

/* A password that was right, where a code is awaited. */
struct login_step {
    bool used;
    uint8_t hash[LOGIN_HASH_LEN];
    char name[64];
    uint32_t hosts[LOGIN_HOSTS_MAX];
    uint8_t proofs[LOGIN_HOSTS_MAX]
                  [LOGIN_HASH_LEN]; /* of the passwords that were right */
    size_t count;
    unsigned tries;
    uint64_t since_ms;
};

/* A password that is being checked, or a stranger's that stands in line. */
struct job {
    struct passwords *of;
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

struct passwords {
    const struct rooms *rooms;
    struct tries *tries;
    struct turns turns; /* strangers: struct job */
    struct timer line;
    unsigned jobs, stranger_jobs; /* that threads are at */
    bool closed;
    struct login_step steps[STEPS_MAX];
};

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

static enum login_result admit(struct passwords *ps, const struct tried *t,
                               char token[static LOGIN_TOKEN_TEXT_LEN])
{
    if (login_admit(ps->rooms->logins, t->name, &t->from, t->hosts, t->count, token) ==
        NULL)
        return LOGIN_FAILED;
    tries_succeeded(ps->tries, t);
    return LOGIN_OK;
}

static enum login_result ask_code(struct passwords *ps, const struct tried *t,
                                  char token[static LOGIN_TOKEN_TEXT_LEN])
{
    struct login_step *s = &ps->steps[0];
    for (size_t i = 0; i < STEPS_MAX; i++) {
        if (!ps->steps[i].used) {
            s = &ps->steps[i];
            break;
        }
        if (ps->steps[i].since_ms < s->since_ms)
            s = &ps->steps[i]; /* the oldest, when all are used */
    }
    *s = (struct login_step){
        .used = true, .count = t->count, .since_ms = loop_now_ms(ps->rooms->loop)};
    (void)snprintf(s->name, sizeof(s->name), "%s", t->name);
    memcpy(s->hosts, t->hosts, sizeof(s->hosts));
    for (size_t i = 0; i < s->count; i++)
        login_proof(
            s->proofs[i],
            host_account(host_by_number(ps->rooms->hosts, s->hosts[i]), s->name));
    login_token_new(token, s->hash);
    return LOGIN_CODE;
}

static void note_refused(struct passwords *ps, const struct tried *t, const char *why)
{
    visitor_audit(ps->rooms->audit, "refused", t->name, &t->from, "login", why);
    for (size_t i = 0; i < t->count && !ps->closed; i++) {
        struct portal_host *h = host_by_number(ps->rooms->hosts, t->hosts[i]);
        if (h != NULL)
            ask_note(ps->rooms->asks, h, t->name, &t->from, "refused", "login");
    }
}

static void job_end(struct job *j, enum login_result r, const char *token)
{
    if (j->cb != NULL && !j->of->closed)
        j->cb(j->ctx, r, token);
    sodium_memzero(j, sizeof(*j));
    free(j);
}

static void advance(struct passwords *ps);

static void on_checked(void *ctx)
{
    struct job *j = ctx;
    struct passwords *ps = j->of;
    char token[LOGIN_TOKEN_TEXT_LEN] = "";
    struct tried right = j->by;
    enum login_result r = LOGIN_WRONG;
    bool code = false;
    right.count = 0;
    for (size_t i = 0; i < j->count && !ps->closed; i++) {
        struct portal_host *h = host_by_number(ps->rooms->hosts, j->tries[i].host);
        const struct portal_account *a = h != NULL ? host_account(h, j->by.name) : NULL;
        if (!j->tries[i].right || a == NULL || strcmp(a->hash, j->tries[i].hash) != 0)
            continue;
        right.by[right.count] = j->by.by[i];
        right.hosts[right.count++] = h->number;
        code = code || a->totp_len > 0;
    }
    ps->jobs -= !j->stranger;
    ps->stranger_jobs -= j->stranger;
    if (right.count > 0)
        r = code ? ask_code(ps, &right, token) : admit(ps, &right, token);
    else if (!ps->closed)
        note_refused(ps, &j->by, "wrong name or password");
    job_end(j, r, token);
    sodium_memzero(token, sizeof(token));
    if (!ps->closed)
        advance(ps);
}

static void job_start(struct job *j)
{
    struct passwords *ps = j->of;
    tries_failed(ps->tries, &j->by); /* until it is proven: tries side by side count */
    ps->jobs += !j->stranger;
    ps->stranger_jobs += j->stranger;
    if (work_start(ps->rooms->loop, check, on_checked, j) == 0)
        return;
    ps->jobs -= !j->stranger;
    ps->stranger_jobs -= j->stranger;
    job_end(j, LOGIN_FAILED, "");
}

/* --------------------------------------------------------------- strangers in line */

static bool may_start(void *ctx, const void *who)
{
    struct passwords *ps = ctx;
    const struct job *j = who;
    return tries_own_wait_ms(ps->tries, &j->by) == 0 &&
           tries_strangers_wait_ms(ps->tries, &j->by) == 0;
}

static void on_line(void *ctx)
{
    struct passwords *ps = ctx;
    struct job *j;
    advance(ps);
    while ((j = turns_overdue(&ps->turns, TURNS_PATIENCE_MS,
                              loop_now_ms(ps->rooms->loop))) != NULL)
        job_end(j, LOGIN_WAIT, "");
}

/* Those whose turn it is begin. */
static void advance(struct passwords *ps)
{
    struct turns *t = &ps->turns;
    while (ps->stranger_jobs < STRANGER_JOBS_MAX) {
        struct job *j = turns_next(t, may_start, ps, loop_now_ms(ps->rooms->loop));
        if (j == NULL)
            break;
        job_start(j);
    }
    if (t->count > 0)
        timer_start(&ps->line, LINE_MS);
}

void passwords_clear_line(struct passwords *ps)
{
    struct job *j;
    while ((j = turns_overdue(&ps->turns, 0, loop_now_ms(ps->rooms->loop))) != NULL)
        job_end(j, LOGIN_WAIT, "");
}

/* "alice" has accounts on all hosts that know her; "alice@home" on that one. */
static void find_tries(struct passwords *ps, struct job *j, const char *name,
                       const char *cookies)
{
    const char *at = strrchr(name, '@');
    size_t len = at != NULL ? (size_t)(at - name) : strlen(name);
    if (len >= sizeof(j->by.name))
        len = sizeof(j->by.name) - 1;
    memcpy(j->by.name, name, len);
    struct portal_host *h = NULL;
    while ((h = hosts_next(ps->rooms->hosts, h)) != NULL) {
        const struct portal_account *a = host_account(h, j->by.name);
        if (a == NULL || j->count == LOGIN_HOSTS_MAX ||
            (a->expires_s != 0 && statedir_now_s() >= a->expires_s) ||
            (at != NULL && strcmp(at + 1, h->name) != 0 &&
             strcmp(at + 1, h->label) != 0))
            continue;
        j->tries[j->count].host = h->number;
        (void)snprintf(j->tries[j->count++].hash, sizeof(j->tries[0].hash), "%s",
                       a->hash);
        tried_add(ps->tries, &j->by, h, a, cookies);
    }
}

/* Who is known somewhere does not wait for where he is not: that is left out. */
static void leave_out_waiting(struct passwords *ps, struct job *j)
{
    size_t n = 0;
    for (size_t i = 0; i < j->count; i++) {
        struct tried one = j->by;
        one.count = 1;
        one.hosts[0] = j->by.hosts[i];
        one.by[0] = j->by.by[i];
        if (tries_strangers_wait_ms(ps->tries, &one) > 0)
            continue;
        j->tries[n] = j->tries[i];
        j->by.hosts[n] = j->by.hosts[i];
        j->by.by[n++] = j->by.by[i];
    }
    j->count = j->by.count = n;
}

int login_begin(struct passwords *ps, const char *name, const char *password,
                const struct login_from *from, login_cb cb, void *ctx,
                uint64_t *wait_ms)
{
    struct job *j = ps->jobs < JOBS_MAX ? calloc(1, sizeof(*j)) : NULL;
    if (j == NULL)
        return POSTERN_ERR_LIMIT;
    j->of = ps;
    j->by.from = from->address;
    find_tries(ps, j, name, from->cookies);
    *wait_ms = tries_own_wait_ms(ps->tries, &j->by);
    if (*wait_ms > 0) {
        free(j);
        return POSTERN_ERR_AGAIN;
    }
    (void)snprintf(j->password, sizeof(j->password), "%s", password);
    j->stranger = !tried_is_known(&j->by);
    if (j->stranger) {
        struct job *gone =
            turns_enter(&ps->turns, j, &j->by.from, loop_now_ms(ps->rooms->loop));
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
        advance(ps);
        return 0;
    }
    leave_out_waiting(ps, j);
    job_start(j);
    return 0;
}

/* Leaves those accounts whose password is still the one that was right. */
static void step_renew(struct passwords *ps, struct login_step *s)
{
    size_t n = 0;
    uint8_t proof[LOGIN_HASH_LEN];
    for (size_t i = 0; i < s->count; i++) {
        const struct portal_host *h = host_by_number(ps->rooms->hosts, s->hosts[i]);
        const struct portal_account *a = h != NULL ? host_account(h, s->name) : NULL;
        if (a == NULL)
            continue;
        login_proof(proof, a);
        if (memcmp(proof, s->proofs[i], sizeof(proof)) != 0)
            continue;
        s->hosts[n] = s->hosts[i];
        memmove(s->proofs[n++], proof, sizeof(proof));
    }
    s->count = n;
}

/* The code must fit every host of the step that wants one; it is used up then. */
static bool code_is_right(struct passwords *ps, const struct login_step *s,
                          const char *code)
{
    int64_t now = statedir_now_s();
    int64_t steps[LOGIN_HOSTS_MAX] = {0};
    for (size_t i = 0; i < s->count; i++) {
        const struct portal_account *a =
            host_account(host_by_number(ps->rooms->hosts, s->hosts[i]), s->name);
        if (a->totp_len == 0)
            continue;
        steps[i] = totp_check(a->totp, a->totp_len, now, code);
        if (steps[i] <= a->totp_step)
            return false;
    }
    for (size_t i = 0; i < s->count; i++)
        if (steps[i] > 0)
            host_account(host_by_number(ps->rooms->hosts, s->hosts[i]), s->name)
                ->totp_step = steps[i];
    return true;
}

enum login_result login_code(struct passwords *ps, const char *step, const char *code,
                             const struct login_from *from,
                             char token[static LOGIN_TOKEN_TEXT_LEN], uint64_t *wait_ms)
{
    uint8_t hash[LOGIN_HASH_LEN];
    struct tried t = {.code = true, .from = from->address};
    struct login_step *s = NULL;
    if (!login_token_hash(hash, step))
        return LOGIN_FAILED;
    for (size_t i = 0; i < STEPS_MAX && s == NULL; i++)
        if (ps->steps[i].used &&
            sodium_memcmp(ps->steps[i].hash, hash, sizeof(hash)) == 0)
            s = &ps->steps[i];
    if (s == NULL || loop_now_ms(ps->rooms->loop) - s->since_ms > STEP_MS)
        return LOGIN_FAILED;
    step_renew(ps, s);
    if (s->count == 0)
        return LOGIN_FAILED;
    memcpy(t.name, s->name, sizeof(t.name));
    for (size_t i = 0; i < s->count; i++) {
        const struct portal_host *h = host_by_number(ps->rooms->hosts, s->hosts[i]);
        tried_add(ps->tries, &t, h, host_account(h, s->name), from->cookies);
    }
    *wait_ms = tries_own_wait_ms(ps->tries, &t);
    if (*wait_ms > 0)
        return LOGIN_WAIT;
    enum login_result r = LOGIN_WRONG;
    if (code_is_right(ps, s, code))
        r = admit(ps, &t, token);
    if (r == LOGIN_WRONG) {
        tries_failed(ps->tries, &t);
        note_refused(ps, &t, "wrong one-time code");
    }
    if (r != LOGIN_WRONG || ++s->tries == STEP_TRIES)
        sodium_memzero(s, sizeof(*s));
    return r == LOGIN_WRONG && !s->used ? LOGIN_FAILED : r;
}

/* --------------------------------------------------------------------- open, close */

int passwords_new(struct passwords **out, const struct rooms *rooms)
{
    uint8_t secret[KEYMAP_SECRET_LEN];
    struct passwords *ps = calloc(1, sizeof(*ps));
    if (ps == NULL)
        return POSTERN_ERR_NOMEM;
    ps->rooms = rooms;
    timer_init(&ps->line, rooms->loop, on_line, ps);
    randombytes_buf(secret, sizeof(secret));
    int rc = turns_init(&ps->turns, secret);
    if (rc == 0)
        rc = tries_new(&ps->tries, rooms->loop, rooms->devices);
    if (rc != 0)
        passwords_free(ps);
    else
        *out = ps;
    return rc;
}

void passwords_close(struct passwords *ps)
{
    if (ps == NULL)
        return;
    ps->closed = true;
    passwords_clear_line(ps); /* their requests are answered already */
    timer_stop(&ps->line);
}

void passwords_free(struct passwords *ps)
{
    if (ps == NULL)
        return;
    turns_fini(&ps->turns);
    tries_free(ps->tries);
    sodium_memzero(ps->steps, sizeof(ps->steps));
    free(ps);
}

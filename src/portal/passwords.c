/* Passwords and codes, checked on threads, strangers in turn; see passwords.h. */
#include "portal/passwords.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "core/totp.h"
#include "core/turns.h"
#include "io/loop.h"
#include "io/statedir.h"
#include "io/work.h"
#include "portal/candidates.h"
#include "portal/rooms.h"
#include "portal/tries.h"
#include "portal/visitor.h"

enum {
    JOBS_MAX = 16,         /* of who is known */
    STRANGER_JOBS_MAX = 1, /* so that they fill one processor, and never two */
    LINE_MS = 100,         /* between looks whose turn it is: a delay may have ended */
    LOOK_MS = 2000,        /* and at one who must wait: to look at him takes time */
    LINE_FULL_WAIT_MS = 5000,
    CANDIDATES_MAX = 256,  /* accounts of a name that one try is about */
    TOLD_MAX = 32,         /* hosts that hear of its failure */
    HOST_KEY_LEN_MIN = 16, /* characters of a key: 80 bits, which nobody makes anew */
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

/* The less, the more was proven of an account of the name that is asked for. */
enum proof {
    PROOF_BROWSER, /* this one logged in there */
    PROOF_PLACE,   /* somebody at this address did */
    PROOF_NONE,
    PROOF_AWAY,   /* its host is */
    PROOF_COSTLY, /* its hash asks more of this machine than `postern access` would */
};

/*
 * A password that is being checked, or a stranger's that stands in line: for those of
 * the name's accounts that may be tried then, eight at once; and again for the rest.
 */
struct job {
    struct passwords *of;
    char password[256];
    struct tried by;   /* its name and hosts are those of `tries` */
    char names[2][64]; /* what candidates are called (find_candidates) */
    bool stranger;
    bool expired;          /* the password is that of an account whose time is over */
    struct candidate *all; /* owned, in the order in which they are tried */
    size_t all_count, left;
    bool done[CANDIDATES_MAX];
    uint64_t look_ms; /* none may be tried before */
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

/* Memory times passes, in KiB; 0: it would make this machine work without bound. */
static unsigned long hash_cost(const char *hash)
{
    static const char start[] = "$argon2id$v=19$m=";
    char *end;
    if (strncmp(hash, start, sizeof(start) - 1) != 0)
        return 0;
    unsigned long memory = strtoul(hash + sizeof(start) - 1, &end, 10);
    if (strncmp(end, ",t=", 3) != 0)
        return 0;
    unsigned long passes = strtoul(end + 3, &end, 10);
    bool bounded = strncmp(end, ",p=1$", 5) == 0 && memory <= HASH_MEMORY_MAX_KIB &&
                   passes <= HASH_PASSES_MAX;
    return bounded ? memory * passes : 0;
}

/* On a thread of its own: touches the job only. */
static void check(void *ctx)
{
    struct job *j = ctx;
    for (size_t i = 0; i < j->count; i++)
        j->tries[i].right = crypto_pwhash_str_verify(j->tries[i].hash, j->password,
                                                     strlen(j->password)) == 0;
    if (j->count == 0) { /* a name that nobody has takes as long */
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
    if (t->by[0] == TRIED_BY_STRANGER) /* he had a turn */
        turns_return(&ps->turns, &t->from, loop_now_ms(ps->rooms->loop));
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

static void tell_refused(struct passwords *ps, const struct tried *t, uint32_t host)
{
    struct portal_host *h = host_by_number(ps->rooms->hosts, host);
    if (h != NULL)
        ask_note(ps->rooms->asks, h, t->name, &t->from, "refused", "login");
}

static void note_refused(struct passwords *ps, const struct tried *t, const char *why)
{
    visitor_audit(ps->rooms->audit, "refused", t->name, &t->from, "login", why);
}

/* One of its accounts alone, or none where nobody has the name. */
static struct tried one_of(const struct job *j, size_t i)
{
    struct tried one = j->by;
    one.count = i < j->all_count;
    if (one.count > 0) {
        one.hosts[0] = j->all[i].host;
        one.by[0] = j->all[i].by;
        memcpy(one.name, j->names[j->all[i].name], sizeof(one.name));
    }
    return one;
}

static void job_end(struct job *j, enum login_result r, const char *token)
{
    if (j->cb != NULL && !j->of->closed)
        j->cb(j->ctx, r, token);
    free(j->all);
    sodium_memzero(j, sizeof(*j));
    free(j);
}

static void job_wrong(struct job *j)
{
    note_refused(j->of, &j->by,
                 j->expired ? "the account has expired" : "wrong name or password");
    for (size_t i = 0; i < j->all_count && i < TOLD_MAX; i++)
        if (j->done[i]) {
            struct tried one = one_of(j, i);
            tell_refused(j->of, &one, j->all[i].host);
        }
    job_end(j, j->expired ? LOGIN_EXPIRED : LOGIN_WRONG, "");
}

static void advance(struct passwords *ps);

/* False: the line is full, and this one is gone. */
static bool stand_in_line(struct job *j, bool again)
{
    struct passwords *ps = j->of;
    struct job *gone =
        turns_enter(&ps->turns, j, &j->by.from, again, loop_now_ms(ps->rooms->loop));
    bool stands = gone != j;
    if (gone != NULL)
        job_end(gone, LOGIN_WAIT, "");
    return stands;
}

/* Wrong so far; accounts are left. */
static void job_goes_on(struct job *j)
{
    j->stranger = true;
    j->by.counted = true;
    (void)stand_in_line(j, true);
}

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
        if (a->expires_s != 0 && statedir_now_s() >= a->expires_s) {
            j->expired = true; /* which only who knows the password is told */
            continue;
        }
        right.by[right.count] = j->by.by[i];
        right.hosts[right.count++] = h->number;
        code = code || a->totp_len > 0;
    }
    ps->jobs -= !j->stranger;
    ps->stranger_jobs -= j->stranger;
    if (right.count > 0)
        r = code ? ask_code(ps, &right, token) : admit(ps, &right, token);
    if (r != LOGIN_WRONG || ps->closed)
        job_end(j, r, token);
    else if (j->left > 0)
        job_goes_on(j);
    else
        job_wrong(j);
    sodium_memzero(token, sizeof(token));
    if (!ps->closed)
        advance(ps);
}

static uint64_t try_wait_ms(const struct job *j, size_t i)
{
    struct tried one = one_of(j, i);
    uint64_t own = tries_own_wait_ms(j->of->tries, &one);
    uint64_t strangers = tries_strangers_wait_ms(j->of->tries, &one);
    return own > strangers ? own : strangers;
}

static void choose_one(struct job *j, size_t i)
{
    const struct portal_host *h = host_by_number(j->of->rooms->hosts, j->all[i].host);
    const struct portal_account *a = h != NULL ? host_account(h, j->by.name) : NULL;
    j->done[i] = true;
    j->left--;
    if (a == NULL || hash_cost(a->hash) == 0)
        return; /* it is not there any more */
    j->by.hosts[j->count] = h->number;
    j->by.by[j->count] = j->all[i].by;
    j->tries[j->count].host = h->number;
    j->tries[j->count].right = false;
    (void)snprintf(j->tries[j->count].hash, sizeof(j->tries[0].hash), "%s", a->hash);
    j->by.count = ++j->count;
}

/*
 * The next of those that may be tried now, of one name; who waits for one does not for
 * others.
 */
static void choose(struct job *j)
{
    uint8_t name = 0;
    j->count = j->by.count = 0;
    for (size_t i = 0; i < j->all_count && j->count < LOGIN_HOSTS_MAX; i++) {
        bool costly = j->all[i].proof == PROOF_COSTLY;
        bool fits = j->count == 0 || (!costly && j->all[i].name == name);
        if (j->done[i] || !fits || try_wait_ms(j, i) > 0)
            continue;
        name = j->all[i].name;
        memcpy(j->by.name, j->names[name], sizeof(j->by.name));
        choose_one(j, i);
        if (costly)
            return; /* alone */
    }
}

static void job_start(struct job *j)
{
    struct passwords *ps = j->of;
    choose(j);
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

static bool may_start(void *ctx, void *who, bool new)
{
    struct job *j = who;
    uint64_t now = loop_now_ms(j->of->rooms->loop), shortest = LOOK_MS;
    (void)ctx;
    j->by.newcomer = new;
    if (now < j->look_ms)
        return false;
    for (size_t i = 0; (i == 0 || i < j->all_count) && shortest > 0; i++) {
        uint64_t wait = j->done[i] ? LOOK_MS : try_wait_ms(j, i);
        shortest = wait < shortest ? wait : shortest;
    }
    j->look_ms = now + shortest;
    return shortest == 0;
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

/* ------------------------------------------------------------ which accounts it is */

/* `at` is what stands behind the @, or NULL. */
static bool is_asked_for(const struct portal_host *h, const char *at)
{
    char key[KEY_TEXT_LEN];
    if (at == NULL || strcasecmp(at, h->name) == 0 || strcasecmp(at, h->label) == 0)
        return true;
    size_t len = strlen(at);
    return len >= HOST_KEY_LEN_MIN &&
           strncasecmp(at, key_format(h->key, key), len) == 0;
}

static enum proof proof_of(const struct portal_host *h, const struct portal_account *a,
                           const struct tried *one)
{
    static const unsigned long own_cost = OWN_MEMORY_BYTES / 1024 * OWN_PASSES;
    return one->by[0] == TRIED_BY_DEVICE   ? PROOF_BROWSER
           : one->by[0] == TRIED_BY_PLACE  ? PROOF_PLACE
           : hash_cost(a->hash) > own_cost ? PROOF_COSTLY
           : !h->online                    ? PROOF_AWAY
                                           : PROOF_NONE;
}

static bool add_candidate(struct job *j, const struct portal_host *h,
                          const struct portal_account *a, uint8_t name,
                          const char *cookies)
{
    struct tried one = j->by;
    memcpy(one.name, j->names[name], sizeof(one.name));
    if ((j->all_count & (j->all_count - 1)) == 0) { /* doubles */
        size_t room = j->all_count > 0 ? 2 * j->all_count : 1;
        struct candidate *more = realloc(j->all, room * sizeof(*more));
        if (more == NULL)
            return false;
        j->all = more;
    }
    one.count = 0;
    tried_add(j->of->tries, &one, h, a, cookies);
    if (one.by[0] == TRIED_BY_DEVICE) { /* then the address is of no account */
        memcpy(j->by.device, one.device, sizeof(one.device));
        j->by.counted = true;
    }
    j->all[j->all_count++] = (struct candidate){.host = h->number,
                                                .proof = proof_of(h, a, &one),
                                                .by = one.by[0],
                                                .name = name,
                                                .from = h->from};
    return true;
}

/* As its host writes it, whatever its case; "" when no account can be called so. */
static void take_name(char out[static 64], const char *name, size_t len)
{
    for (size_t i = 0; len < 64 && i < len; i++)
        out[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
}

/*
 * "alice" has accounts on all hosts that know her; "alice@home" on those called so, and
 * with the beginning of a host's key on that one alone. An account may itself be called
 * "alice@home": both are meant.
 */
static void find_candidates(struct job *j, const char *name, const char *cookies)
{
    struct hosts *hosts = j->of->rooms->hosts;
    const char *at = strrchr(name, '@');
    const char *behind[2] = {NULL, at != NULL ? at + 1 : NULL};
    bool room = true;
    take_name(j->names[0], name, strlen(name));
    if (at != NULL)
        take_name(j->names[1], name, (size_t)(at - name));
    memcpy(j->by.name, j->names[at != NULL], sizeof(j->by.name)); /* nobody's yet */
    for (struct portal_host *h = NULL; room && (h = hosts_next(hosts, h)) != NULL;) {
        for (uint8_t k = 0; k < 2 && room; k++) {
            const struct portal_account *a =
                j->names[k][0] != '\0' ? host_account(h, j->names[k]) : NULL;
            if (a != NULL && hash_cost(a->hash) > 0 && is_asked_for(h, behind[k]))
                room = add_candidate(j, h, a, k, cookies);
        }
    }
    candidates_order(j->all, j->all_count);
    if (j->all_count > CANDIDATES_MAX)
        j->all_count = CANDIDATES_MAX;
    j->left = j->all_count;
}

static bool is_known(const struct job *j)
{
    return j->all_count > 0 && j->all[0].by != TRIED_BY_STRANGER; /* they come first */
}

/* What he himself must wait: where he is known, else until he may try anything. */
static uint64_t own_wait_ms(const struct job *j)
{
    uint64_t shortest = UINT64_MAX, longest = 0;
    for (size_t i = 0; i == 0 || i < j->all_count; i++) {
        struct tried one = one_of(j, i);
        uint64_t wait = tries_own_wait_ms(j->of->tries, &one);
        shortest = wait < shortest ? wait : shortest;
        if (is_known(j) && one.by[0] != TRIED_BY_STRANGER && wait > longest)
            longest = wait;
    }
    return is_known(j) ? longest : shortest;
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
    find_candidates(j, name, from->cookies);
    j->stranger = !is_known(j);
    (void)snprintf(j->password, sizeof(j->password), "%s", password);
    *wait_ms = own_wait_ms(j);
    if (*wait_ms > 0) {
        job_end(j, LOGIN_WAIT, "");
        return POSTERN_ERR_AGAIN;
    }
    if (j->stranger && !stand_in_line(j, false)) {
        *wait_ms = LINE_FULL_WAIT_MS;
        return POSTERN_ERR_AGAIN;
    }
    j->cb = cb;
    j->ctx = ctx;
    if (j->stranger)
        advance(ps);
    else
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
        for (size_t i = 0; i < t.count; i++)
            tell_refused(ps, &t, t.hosts[i]);
    }
    if (r != LOGIN_WRONG || ++s->tries == STEP_TRIES)
        sodium_memzero(s, sizeof(*s));
    return r == LOGIN_WRONG && !s->used ? LOGIN_FAILED : r;
}

/* --------------------------------------------------------------------- open, close */

int passwords_new(struct passwords **out, const struct rooms *rooms)
{
    uint8_t secret[TURNS_SECRET_LEN];
    struct passwords *ps = calloc(1, sizeof(*ps));
    if (ps == NULL)
        return POSTERN_ERR_NOMEM;
    ps->rooms = rooms;
    timer_init(&ps->line, rooms->loop, on_line, ps);
    randombytes_buf(secret, sizeof(secret));
    turns_init(&ps->turns, secret);
    int rc = tries_new(&ps->tries, rooms->loop, rooms->devices);
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
    tries_free(ps->tries);
    sodium_memzero(ps->steps, sizeof(ps->steps));
    free(ps);
}

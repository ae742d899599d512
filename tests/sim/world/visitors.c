/* See visitors.h. */
#include "visitors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    AGAIN_S = 5,  /* as a person who sees that it did not work */
    WRONG_S = 12, /* or that the name is not known: a few such tries, and one waits */
    PATIENCE_S = 600,
    TRIES_MAX = 5,
    CROWD_MAX = 64, /* places of one address (docs/PORTAL.md) */
    CROWD_MORE = 8, /* sockets of anna, and of what just ends */
    STEPS = 4,
};

#define BROKER_IP 0xcb00710au /* 203.0.113.10 */

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

/* ------------------------------------------------------------------------- accounts */

void visitors_account(struct rig *r, const char *name, const char *services)
{
    char path[SCRATCH_LEN + 32];
    struct program p;
    (void)snprintf(path, sizeof(path), "%s/%s", r->dir, name);
    FILE *f = fopen(path, "w");
    rig_check(r,
              f != NULL && fprintf(f, "password of %s\n", name) > 0 && fclose(f) == 0,
              "%s cannot be written", path);
    program_start(&p, r->town->host.machine, r->state[1],
                  "access add %s --services %s --password-file %s", name, services,
                  path);
    rig_run_to_end(r, &p, SECONDS(10));
    program_fini(&p);
}

void visitors_begin(struct visitors *v, struct rig *r)
{
    memset(v, 0, sizeof(*v));
    v->rig = r;
    visitors_account(r, "anna", "echo");
    visitors_account(r, "bob", "other");
}

bool visitors_log_in(struct browser *b, const char *name)
{
    char form[256], csrf[64];
    b->cookie[0] = '\0';
    browser_ask(b, "/login", NULL);
    if (b->status != 200 || !browser_field(b, "csrf", csrf, sizeof(csrf)))
        return false;
    (void)snprintf(form, sizeof(form), "csrf=%s&name=%s&password=password+of+%s", csrf,
                   name, name);
    browser_ask(b, "/login", form);
    if (b->status != 303)
        b->cookie[0] = '\0';
    return b->status == 303;
}

/* The form of that service, as a page that has its host says it. */
static bool ask_open(struct browser *b, const char *service)
{
    char form[512], csrf[64], host[128];
    if (!browser_field(b, "csrf", csrf, sizeof(csrf)) ||
        !browser_field(b, "host", host, sizeof(host)))
        return false;
    (void)snprintf(form, sizeof(form), "csrf=%s&host=%s&service=%s", csrf, host,
                   service);
    browser_ask(b, "/open", form);
    return b->status != 0;
}

/* ----------------------------------------------------------------------------- anna */

/* True: her page says which port is open for her. */
static bool finds_port(struct visitors *v)
{
    static const char address[] = "<code>meet.example:";
    struct browser *b = &v->anna;
    if (b->cookie[0] == '\0' && !visitors_log_in(b, "anna"))
        return false;
    browser_ask(b, "/", NULL);
    if (b->status == 303) /* the login is over */
        b->cookie[0] = '\0';
    const char *at = b->status == 200 ? strstr(b->page, address) : NULL;
    if (at != NULL)
        v->port = (uint16_t)strtoul(at + sizeof(address) - 1, NULL, 10);
    else if (b->status == 200)
        (void)ask_open(b, "echo"); /* and looks again */
    return at != NULL;
}

/* Until her port is there. */
static void get_in(struct visitors *v, uint64_t since_us)
{
    uint64_t took_us = 0;
    while (!finds_port(v) && took_us < SECONDS(PATIENCE_S)) {
        if (v->anna.status != 303) /* that of a form which worked */
            (void)usleep((v->anna.status == 403 ? WRONG_S : AGAIN_S) * 1000000);
        took_us = house_now_us(house_now()) - since_us;
    }
    took_us = house_now_us(house_now()) - since_us;
    v->longest_us = took_us > v->longest_us ? took_us : v->longest_us;
}

/* A host that the portal does not know to be there refuses at once: she tries again. */
static void *run_anna(void *arg)
{
    struct visitors *v = arg;
    struct talker *t = v->talker;
    uint64_t since_us = house_now_us(house_now());
    for (int i = 0; i < TRIES_MAX; i++) {
        get_in(v, since_us);
        t->ip = BROKER_IP;
        t->port = v->port;
        t->error = 0;
        t->sent = 0;
        v->talks++;
        (void)talker_run(t);
        if (t->error == 0 || t->got > 0)
            break;
        (void)usleep(AGAIN_S * 1000000);
    }
    return NULL;
}

void visitors_talk(struct visitors *v, struct talker *t)
{
    v->talker = t;
    t->task = task_start(v->rig->town->visitor, run_anna, v);
}

static void *run_leaving(void *arg)
{
    struct visitors *v = arg;
    char form[128], csrf[64];
    for (int i = 0; i < 4 && !finds_port(v); i++)
        ;
    if (browser_field(&v->anna, "csrf", csrf, sizeof(csrf))) {
        (void)snprintf(form, sizeof(form), "csrf=%s", csrf);
        browser_ask(&v->anna, "/logout", form);
        v->anna.cookie[0] = '\0';
    }
    return NULL;
}

static void run_as(struct visitors *v, struct machine *m, void *(*run)(void *),
                   const char *what)
{
    struct task *t = task_start(m, run, v);
    rig_check(v->rig, house_run(v->rig->town->house, SECONDS(120), is_over, t),
              "%s does not end", what);
    (void)task_join(t);
}

/* ---------------------------------------------------------------------- the intruder
 */

/* At anna's port, from another address. */
static void try_port(struct visitors *v)
{
    uint8_t byte = 1;
    int fd = browser_dial(v->port != 0 ? v->port : ECHO_PORT);
    v->came_to = INTRUDER_REFUSED;
    if (fd < 0)
        return;
    (void)send(fd, &byte, 1, MSG_NOSIGNAL);
    if (recv(fd, &byte, 1, 0) > 0)
        v->came_to = INTRUDER_ENTERED;
    (void)close(fd);
}

static void try_name(struct visitors *v)
{
    enum browser_hello h = browser_hello("echo--home.meet.example");
    v->came_to = h == HELLO_DENIED     ? INTRUDER_REFUSED
                 : h == HELLO_ANSWERED ? INTRUDER_ENTERED
                                       : INTRUDER_LOST;
}

/* With an account that may use something else of the same host. */
static void try_other_account(struct visitors *v)
{
    struct browser *b = &v->bob;
    v->came_to = INTRUDER_LOST;
    b->status = 0;
    for (int i = 0; i < 2 && b->status != 200; i++) { /* the login may be over */
        if (b->cookie[0] == '\0' && !visitors_log_in(b, "bob"))
            return;
        browser_ask(b, "/", NULL);
        if (b->status == 303)
            b->cookie[0] = '\0';
    }
    if (b->status != 200)
        return;
    if (strstr(b->page, "echo") != NULL) {
        v->came_to = INTRUDER_ENTERED;
        return;
    }
    if (ask_open(b, "echo"))
        v->came_to = b->status == 404   ? INTRUDER_REFUSED
                     : b->status == 303 ? INTRUDER_ENTERED
                                        : INTRUDER_LOST;
}

static void try_password(struct visitors *v)
{
    static struct browser b; /* a fresh one each time, and large */
    char form[256], csrf[64];
    memset(&b, 0, sizeof(b));
    v->came_to = INTRUDER_LOST;
    browser_ask(&b, "/login", NULL);
    if (b.status != 200 || !browser_field(&b, "csrf", csrf, sizeof(csrf)))
        return;
    (void)snprintf(form, sizeof(form), "csrf=%s&name=anna&password=password+of+bob",
                   csrf);
    browser_ask(&b, "/login", form);
    if (b.status == 403 || b.status == 429)
        v->came_to = INTRUDER_REFUSED;
    else if (b.status == 303)
        v->came_to = INTRUDER_ENTERED;
}

/* Whoever guesses passwords is known by his address, at which bob is not. */
static const struct {
    const char *name;
    void (*run)(struct visitors *v);
    bool elsewhere;
} steps[STEPS] = {{"another's port", try_port},
                  {"a name", try_name},
                  {"another account", try_other_account},
                  {"another password", try_password, true}};

static void *run_intruder(void *arg)
{
    struct visitors *v = arg;
    steps[v->tries % STEPS].run(v);
    return NULL;
}

static void begin_try(struct visitors *v)
{
    const struct town *t = v->rig->town;
    unsigned which = v->tries % STEPS;
    v->step = steps[which].name;
    v->intruder =
        task_start(steps[which].elsewhere ? t->stranger : t->intruder, run_intruder, v);
}

static void end_try(struct visitors *v)
{
    (void)task_join(v->intruder);
    v->intruder = NULL;
    v->tries++;
    rig_check(v->rig, v->came_to != INTRUDER_ENTERED,
              "somebody without a right to it came in by %s", v->step);
}

void visitors_intrude(struct visitors *v)
{
    if (v->intruder != NULL && !task_is_over(v->intruder))
        return;
    if (v->intruder != NULL)
        end_try(v);
    begin_try(v);
}

/* ------------------------------------------------------------------------- the crowd
 */

static void *run_crowd(void *arg)
{
    struct visitors *v = arg;
    for (size_t i = 0; i < sizeof(v->knocks) / sizeof(v->knocks[0]); i++)
        v->knocks[i] = browser_knock();
    return NULL;
}

/* Somebody who was not there before. */
static void *run_login(void *arg)
{
    struct visitors *v = arg;
    (void)visitors_log_in(&v->bob, "bob");
    return NULL;
}

static void *run_crowd_away(void *arg)
{
    struct visitors *v = arg;
    for (size_t i = 0; i < sizeof(v->knocks) / sizeof(v->knocks[0]); i++)
        if (v->knocks[i] >= 0)
            (void)close(v->knocks[i]);
    return NULL;
}

static size_t sockets_of(struct machine *m)
{
    return vstack_sockets(m->stack);
}

static void crowd_in(struct visitors *v)
{
    struct town *t = v->rig->town;
    size_t before = sockets_of(t->broker);
    run_as(v, t->intruder, run_crowd, "the crowd");
    run_as(v, t->visitor, run_login, "the login");
    rig_check(v->rig, v->bob.status == 303, "a crowd keeps people out: %u",
              v->bob.status);
    size_t after = sockets_of(t->broker);
    rig_check(v->rig, after <= before + CROWD_MAX + CROWD_MORE,
              "%zu sockets of strangers from one address", after - before);
    run_as(v, t->intruder, run_crowd_away, "the crowd");
}

static void leave(struct visitors *v)
{
    run_as(v, v->rig->town->visitor, run_leaving, "the logout");
    rig_check(v->rig, v->anna.status == 303, "anna cannot log out: %u", v->anna.status);
}

void visitors_use(struct visitors *v)
{
    leave(v); /* for which she logs in and opens her port, as often as needed */
}

static void await_try(struct visitors *v)
{
    rig_check(v->rig,
              house_run(v->rig->town->house, SECONDS(200), is_over, v->intruder),
              "a try of %s does not end", v->step);
    end_try(v);
}

void visitors_end(struct visitors *v, bool crowd)
{
    if (v->intruder != NULL)
        await_try(v);
    for (unsigned i = 0; i < STEPS; i++) {
        begin_try(v);
        await_try(v);
        rig_check(v->rig, v->came_to == INTRUDER_REFUSED, "no refusal of %s: %u",
                  v->step, v->bob.status);
    }
    if (crowd)
        crowd_in(v);
    leave(v);
}

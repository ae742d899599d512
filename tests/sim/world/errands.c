/* See errands.h. */
#include "errands.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "visitors.h"

enum { AT_ONCE_S = 7, BYTES = 4000, GUEST_PORT = 9050 };

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

/* ------------------------------------------------------------------------ a device */

struct guest {
    struct rig *rig;
    char state[SCRATCH_LEN + 32];
    char key[PROGRAM_FIELD];
};

static struct machine *machine_of(const struct guest *g)
{
    return g->rig->town->client.machine;
}

static void enter(struct guest *g, struct rig *r, const char *name, const char *link)
{
    struct program p;
    g->rig = r;
    (void)snprintf(g->state, sizeof(g->state), "%s/%s", r->dir, name);
    program_start(&p, machine_of(g), g->state, "join %s", link);
    rig_run_to_end(r, &p, SECONDS(60));
    program_fini(&p);
    program_start(&p, machine_of(g), g->state, "keys");
    rig_run_to_end(r, &p, SECONDS(10));
    rig_check(r, program_said(&p, "key", "key", g->key), "no key: %s", p.text);
    program_fini(&p);
}

/* `nc` to that service: what it was told, or all that it said back. */
static void use(const struct guest *g, const char *service, bool may)
{
    struct program nc;
    struct talker t = {.seed = 3, .bytes = BYTES};
    t.fd = program_start_piped(&nc, machine_of(g), g->state, "nc home %s", service);
    talker_start(&t, machine_of(g));
    rig_await_end(g->rig, &nc, SECONDS(AT_ONCE_S));
    (void)house_run(g->rig->town->house, SECONDS(1), is_over, t.task);
    (void)task_join(t.task);
    rig_check(g->rig, may == (nc.result == 0) && t.got == (may ? BYTES : 0),
              "%s, which the device %s use: %zu bytes, and %d (%s)", service,
              may ? "may" : "may not", t.got, nc.result, nc.fault.what);
    program_exit(&nc, machine_of(g));
}

/* A device that was taken off the list is told so. */
static void expect_gone(const struct guest *g)
{
    struct program p;
    program_start(&p, machine_of(g), g->state, "ping home --count 1");
    rig_await_end(g->rig, &p, SECONDS(AT_ONCE_S));
    rig_check(g->rig, p.result == POSTERN_ERR_DENIED,
              "a device that was taken off the list heard %d (%s)", p.result,
              p.fault.what);
    program_fini(&p);
}

/* ------------------------------------------------------------------------- refusals */

void errands_refusals(struct rig *r)
{
    struct guest own = {.rig = r}, other;
    struct program p;
    char link[PROGRAM_FIELD];
    memcpy(own.state, r->state[2], sizeof(r->state[2]));
    use(&own, "nothing", false);
    use(&own, "other", false); /* nobody listens */
    program_start(&p, r->town->host.machine, r->state[1], "invite --services other");
    rig_run_to_end(r, &p, SECONDS(10));
    rig_check(r, program_said(&p, "invite", "link", link), "no invite: %s", p.text);
    program_fini(&p);
    enter(&other, r, "limited", link);
    use(&other, "echo", false);
    program_start(&p, r->town->host.machine, r->state[1], "revoke %.12s", other.key);
    rig_run_to_end(r, &p, SECONDS(10));
    program_fini(&p);
    expect_gone(&other);
}

/* ------------------------------------------------------------------------- an owner */

struct owner {
    struct rig *rig;
    struct browser olga, bob;
    char host[128]; /* in the address of its page */
    char link[PROGRAM_FIELD];
    const char *device;
    const char *failed; /* NULL: nothing did */
};

void errands_owner_begin(struct rig *r)
{
    visitors_account(r, "olga", "all --owner");
}

/* What stands in the page behind that, until one of those. */
static bool cut(const struct browser *b, const char *behind, const char *until,
                char *out, size_t cap)
{
    const char *at = strstr(b->page, behind);
    if (at == NULL)
        return false;
    at += strlen(behind);
    (void)snprintf(out, cap, "%.*s", (int)strcspn(at, until), at);
    return true;
}

/* The owner's page, and its form of that verb. */
static bool decide(const struct owner *o, struct browser *b, const char *verb,
                   const char *field, const char *value)
{
    char path[200], form[512], csrf[64];
    (void)snprintf(path, sizeof(path), "/host/%s", o->host);
    browser_ask(b, path, NULL);
    if (b->status != 200 || !browser_field(b, "csrf", csrf, sizeof(csrf)))
        return false;
    (void)snprintf(path, sizeof(path), "/host/%s/%s", o->host, verb);
    (void)snprintf(form, sizeof(form), "csrf=%s&%s=%s", csrf, field, value);
    browser_ask(b, path, form);
    return b->status == 200;
}

static void *run_inviting(void *arg)
{
    struct owner *o = arg;
    if (!visitors_log_in(&o->olga, "olga"))
        o->failed = "the login";
    browser_ask(&o->olga, "/", NULL);
    if (o->failed == NULL && !cut(&o->olga, "/host/", "\"/", o->host, sizeof(o->host)))
        o->failed = "the way to the host's page";
    if (o->failed == NULL &&
        (!decide(o, &o->olga, "invite", "services", "echo") ||
         !cut(&o->olga, "data-copy=\"", "\"", o->link, sizeof(o->link))))
        o->failed = "the invite";
    return NULL;
}

/* Bob is no owner: there is no such page for him. */
static void *run_meddling(void *arg)
{
    struct owner *o = arg;
    char form[512], path[200], csrf[64];
    if (!visitors_log_in(&o->bob, "bob")) {
        o->failed = "the other login";
        return NULL;
    }
    browser_ask(&o->bob, "/", NULL);
    if (!browser_field(&o->bob, "csrf", csrf, sizeof(csrf)))
        csrf[0] = '\0';
    (void)snprintf(path, sizeof(path), "/host/%s/revoke", o->host);
    (void)snprintf(form, sizeof(form), "csrf=%s&device=%s", csrf, o->device);
    browser_ask(&o->bob, path, form);
    if (o->bob.status != 404)
        o->failed = "that who is no owner finds no such page";
    return NULL;
}

static void *run_revoking(void *arg)
{
    struct owner *o = arg;
    if (!decide(o, &o->olga, "revoke", "device", o->device))
        o->failed = "what she took back";
    return NULL;
}

static void run_as_owner(struct owner *o, void *(*run)(void *))
{
    struct task *t = task_start(o->rig->town->visitor, run, o);
    rig_check(o->rig, house_run(o->rig->town->house, SECONDS(60), is_over, t),
              "the owner's page does not answer");
    (void)task_join(t);
    rig_check(o->rig, o->failed == NULL, "in the portal failed %s: %u", o->failed,
              o->olga.status);
}

void errands_owner(struct rig *r)
{
    static struct owner o; /* large */
    struct guest g;
    struct program connect;
    char unused[PROGRAM_FIELD];
    memset(&o, 0, sizeof(o));
    o.rig = r;
    run_as_owner(&o, run_inviting);
    enter(&g, r, "guest", o.link);
    use(&g, "echo", true);
    use(&g, "other", false);
    program_start(&connect, machine_of(&g), g.state, "connect home:echo 127.0.0.1:%d",
                  GUEST_PORT);
    rig_await(r, &connect, "ready", NULL, unused, SECONDS(20));
    o.device = g.key;
    run_as_owner(&o, run_meddling);
    run_as_owner(&o, run_revoking);
    rig_await_end(r, &connect, SECONDS(AT_ONCE_S));
    program_fini(&connect);
    expect_gone(&g);
}

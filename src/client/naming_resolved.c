/*
 * resolvectl is asked four times, one after the other. Nothing need be undone: resolved
 * forgets a link that is gone, and the link goes with its descriptor.
 */
#include "client/naming_resolved.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/helper.h"
#include "io/lack.h"
#include "io/spawn.h"

#define RUNS "/run/systemd/resolve" /* systemd-resolved.service(8) */

enum { DNS_PORT = 53, STEPS = 4 };

struct naming_resolved {
    struct naming_resolved_config config;
    int link;
    char name[16], server[ADDR_TEXT_LEN];
    struct spawned *asked;
    unsigned step;
};

static void next_step(struct naming_resolved *r);

static void end(struct naming_resolved *r, const char *what, int64_t status)
{
    struct fault f;
    (void)fault_set(&f, POSTERN_ERR_IO, "use --names hosts",
                    "systemd-resolved was not told: resolvectl %s ended with %lld",
                    what, (long long)status);
    close(r->link);
    r->link = -1;
    r->config.on_done(r->config.ctx, &f);
}

/* What is asked in that step: the verb and what it is to be. */
static const char *verb_of(const struct naming_resolved *r, unsigned step,
                           const char **value)
{
    static const char *const verbs[STEPS] = {"dns", "domain", "default-route", "llmnr"};
    static const char *const values[STEPS] = {NULL, "~postern", "no", "no"};
    *value = values[step] != NULL ? values[step] : r->server;
    return verbs[step];
}

static void on_exit_status(void *ctx, int64_t status, int signum)
{
    struct naming_resolved *r = ctx;
    const char *value;
    r->asked = NULL;
    if (status != 0 || signum != 0) {
        end(r, verb_of(r, r->step, &value), signum != 0 ? 128 + signum : status);
        return;
    }
    if (++r->step < STEPS)
        next_step(r);
    else
        r->config.on_done(r->config.ctx, NULL);
}

static int ask(struct naming_resolved *r)
{
    const char *value, *verb = verb_of(r, r->step, &value);
    char words[4][ADDR_TEXT_LEN];
    (void)snprintf(words[0], sizeof(words[0]), "resolvectl");
    (void)snprintf(words[1], sizeof(words[1]), "%s", verb);
    (void)snprintf(words[2], sizeof(words[2]), "%s", r->name);
    (void)snprintf(words[3], sizeof(words[3]), "%s", value);
    char *argv[] = {words[0], words[1], words[2], words[3], NULL};
    struct spawn_config c = {.loop = r->config.loop,
                             .argv = argv,
                             .environment = environ,
                             .on_exit = on_exit_status,
                             .ctx = r};
    return spawn_start(&r->asked, &c);
}

static void next_step(struct naming_resolved *r)
{
    const char *value;
    if (ask(r) != 0)
        end(r, verb_of(r, r->step, &value), 127);
}

static int make_link(struct naming_resolved *r, struct fault *f)
{
    struct privilege_request q = {.op = PRIVILEGE_NAMES_LINK};
    struct privilege_reply reply = {0};
    if (!helper_can(PRIVILEGE_CAN_FILTER))
        return fault_set(f, POSTERN_ERR_PERM, "use --names hosts",
                         "a link for names needs the privileged helper: %.200s",
                         helper_missing());
    int rc = helper_ask(&q, &reply, &r->link);
    if (rc != 0 || r->link < 0)
        return fault_set(f, rc != 0 ? rc : POSTERN_ERR_IO, "use --names hosts",
                         "%.120s", reply.reason);
    (void)snprintf(r->name, sizeof(r->name), "%.*s", (int)sizeof(r->name) - 1,
                   reply.reason);
    return 0;
}

int naming_resolved_open(struct naming_resolved **out,
                         const struct naming_resolved_config *c, struct fault *f)
{
    if (access(RUNS, F_OK) != 0)
        return fault_set(f, POSTERN_ERR_NOTFOUND, "use --names hosts",
                         "systemd-resolved does not run here");
    struct naming_resolved *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    r->config = *c;
    r->link = -1;
    helper_open(c->loop);
    if (c->dns.port == DNS_PORT)
        (void)addr_format_ip(&c->dns, r->server);
    else
        (void)addr_format(&c->dns, r->server);
    int rc = make_link(r, f);
    if (rc == 0 && ask(r) != 0)
        rc = fault_set(f, POSTERN_ERR_NOTFOUND, "install it, or use --names hosts",
                       "resolvectl cannot be started");
    if (rc != 0) {
        naming_resolved_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void naming_resolved_close(struct naming_resolved *r)
{
    if (r == NULL)
        return;
    spawn_cancel(r->asked);
    if (r->link >= 0)
        close(r->link);
    helper_close();
    free(r);
}

/* A child process with an environment; what it writes is looked at elsewhere. */
#include "host/certs_command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/access.h"
#include "io/log.h"
#include "io/spawn.h"

enum { RUN_MS = 10 * 60000, OWN_VARIABLES = 4 };

extern char **environ;

struct renewal {
    struct spawned *process;
    struct timer timer;
    char service[SERVICE_NAME_LEN];
    void (*on_end)(void *ctx, struct renewal *r, bool success);
    void *ctx;
};

static void on_exited(void *ctx, int64_t status, int signum)
{
    struct renewal *r = ctx;
    bool success = status == 0 && signum == 0;
    timer_stop(&r->timer);
    if (!success && signum != 0)
        log_warn("the command for the certificate of %s was ended by signal %d; the "
                 "certificate stays as it was",
                 r->service, signum);
    else if (!success)
        log_warn("the command for the certificate of %s ended with status %lld; the "
                 "certificate stays as it was",
                 r->service, (long long)status);
    r->on_end(r->ctx, r, success);
    free(r);
}

static void on_timer(void *ctx)
{
    struct renewal *r = ctx;
    spawn_kill(r->process); /* on_exited follows */
}

/* "NAME=value", owned by the caller. */
static char *variable(const char *name, const char *value)
{
    char *text = NULL;
    return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

static bool is_own(const char *text)
{
    static const char *const names[OWN_VARIABLES] = {
        "POSTERN_SERVICE=", "POSTERN_NAME=", "POSTERN_CERT=", "POSTERN_KEY="};
    for (size_t i = 0; i < OWN_VARIABLES; i++)
        if (strncmp(text, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* This process's environment and four more; free the last four and the array. */
static char **make_environment(const struct renewal_config *c, char *own[OWN_VARIABLES])
{
    size_t n = 0;
    while (environ[n] != NULL)
        n++;
    char **env = calloc(n + OWN_VARIABLES + 1, sizeof(*env));
    own[0] = variable("POSTERN_SERVICE", c->service);
    own[1] = variable("POSTERN_NAME", c->name);
    own[2] = variable("POSTERN_CERT", c->certificate);
    own[3] = variable("POSTERN_KEY", c->key);
    size_t used = OWN_VARIABLES;
    for (size_t i = 0; env != NULL && i < n; i++)
        if (!is_own(environ[i]))
            env[used++] = environ[i];
    for (size_t i = 0; i < OWN_VARIABLES; i++) {
        if (env != NULL && own[i] != NULL) {
            env[i] = own[i];
            continue;
        }
        free(env);
        return NULL;
    }
    return env;
}

static int spawn(struct renewal *r, const struct renewal_config *c)
{
    char *own[OWN_VARIABLES] = {0};
    char *argv[] = {"/bin/sh", "-c", (char *)(uintptr_t)c->command, NULL};
    char **env = make_environment(c, own);
    struct spawn_config sc = {.loop = c->loop,
                              .argv = argv,
                              .environment = env,
                              .on_exit = on_exited,
                              .ctx = r};
    int rc = env != NULL ? spawn_start(&r->process, &sc) : POSTERN_ERR_NOMEM;
    for (size_t i = 0; i < OWN_VARIABLES; i++)
        free(own[i]);
    free(env);
    return rc;
}

int renewal_start(struct renewal **out, const struct renewal_config *c)
{
    struct renewal *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return POSTERN_ERR_NOMEM;
    (void)snprintf(r->service, sizeof(r->service), "%s", c->service);
    r->on_end = c->on_end;
    r->ctx = c->ctx;
    timer_init(&r->timer, c->loop, on_timer, r);
    int rc = spawn(r, c);
    if (rc != 0) {
        free(r);
        return rc;
    }
    timer_start(&r->timer, RUN_MS);
    *out = r;
    return 0;
}

void renewal_cancel(struct renewal *r)
{
    if (r == NULL)
        return;
    timer_stop(&r->timer);
    spawn_cancel(r->process);
    free(r);
}

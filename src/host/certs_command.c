/* A child process with an environment; what it writes is looked at elsewhere. */
#include "host/certs_command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/access.h"
#include "io/log.h"
#include "io/loop_uv.h"

enum { RUN_MS = 10 * 60000, OWN_VARIABLES = 4 };

extern char **environ;

struct renewal {
    uv_process_t process;
    uv_timer_t timer;
    unsigned handles; /* not closed yet */
    bool cancelled;
    char service[SERVICE_NAME_LEN];
    void (*on_end)(void *ctx, struct renewal *r, bool success);
    void *ctx;
};

static void on_closed(uv_handle_t *h)
{
    struct renewal *r = h->data;
    if (--r->handles == 0)
        free(r);
}

static void finish(struct renewal *r)
{
    uv_close((uv_handle_t *)&r->timer, on_closed);
    if (r->handles == 2)
        uv_close((uv_handle_t *)&r->process, on_closed);
}

static void on_exit_status(uv_process_t *process, int64_t status, int signal_number)
{
    struct renewal *r = process->data;
    if (r->cancelled) {
        finish(r);
        return;
    }
    bool success = status == 0 && signal_number == 0;
    if (!success && signal_number != 0)
        log_warn("the command for the certificate of %s was ended by signal %d; the "
                 "certificate stays as it was",
                 r->service, signal_number);
    else if (!success)
        log_warn("the command for the certificate of %s ended with status %lld; the "
                 "certificate stays as it was",
                 r->service, (long long)status);
    r->on_end(r->ctx, r, success);
    finish(r);
}

/* It and what it started: they share a process group. */
static void end_group(struct renewal *r)
{
    (void)kill(-r->process.pid, SIGKILL);
}

static void on_timer(uv_timer_t *t)
{
    struct renewal *r = t->data;
    end_group(r); /* on_exit_status follows */
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
    /* Our stdout carries events: what the command says goes to stderr. */
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    uv_process_options_t po = {.exit_cb = on_exit_status,
                               .file = "/bin/sh",
                               .args = argv,
                               .env = env,
                               .flags = UV_PROCESS_DETACHED,
                               .stdio_count = 3,
                               .stdio = stdio};
    int rc = UV_ENOMEM;
    if (env != NULL) {
        rc = uv_spawn(loop_uv(c->loop), &r->process, &po);
        r->handles = 2; /* also when it failed */
    }
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
    r->process.data = r->timer.data = r;
    (void)uv_timer_init(loop_uv(c->loop), &r->timer);
    r->handles = 1;
    if (spawn(r, c) != 0) {
        finish(r);
        return POSTERN_ERR_IO;
    }
    (void)uv_timer_start(&r->timer, on_timer, RUN_MS, 0);
    *out = r;
    return 0;
}

void renewal_cancel(struct renewal *r)
{
    if (r == NULL)
        return;
    r->cancelled = true;
    end_group(r); /* the loop sees its end and frees `r` */
}

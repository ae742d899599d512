/* See rig.h. */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int count_kernel_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d != NULL && readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

void rig_check(struct rig *r, bool holds, const char *format, ...)
{
    va_list ap;
    if (holds)
        return;
    va_start(ap, format);
    (void)fprintf(stderr, "seed %llu, at %.3f s: ", (unsigned long long)r->seed,
                  (double)house_now_us(r->town->house) / 1e6);
    (void)vfprintf(stderr, format, ap);
    (void)fprintf(stderr, "\n");
    va_end(ap);
    if (r->dir[0] != '\0')
        scratch_remove(r->dir);
    exit(1);
}

struct waiting {
    const struct program *program;
    const char *event, *field;
    char *value;
};

static bool has_said(void *ctx)
{
    struct waiting *w = ctx;
    return program_said(w->program, w->event, w->field, w->value) ||
           task_is_over(w->program->task);
}

void rig_await(struct rig *r, const struct program *p, const char *event,
               const char *field, char value[static PROGRAM_FIELD], uint64_t us)
{
    struct waiting w = {p, event, field, value};
    (void)house_run(r->town->house, us, has_said, &w);
    rig_check(r, program_said(p, event, field, value),
              "%s did not say %s in %llu ms; it said: %s (%s)", p->args[0], event,
              (unsigned long long)(us / 1000), p->text, p->fault.what);
}

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

void rig_await_end(struct rig *r, const struct program *p, uint64_t us)
{
    rig_check(r, house_run(r->town->house, us, is_over, p->task),
              "%s does not end; it said: %s", p->args[0], p->text);
}

void rig_run_to_end(struct rig *r, struct program *p, uint64_t us)
{
    rig_await_end(r, p, us);
    rig_check(r, p->result == 0, "%s failed: %s", p->args[0], p->fault.what);
}

void rig_stop(struct rig *r, struct machine *m, struct program *p)
{
    machine_stop(m, SIGTERM);
    rig_run_to_end(r, p, SECONDS(10));
    program_fini(p);
}

void rig_invite(struct rig *r, char link[static PROGRAM_FIELD])
{
    struct program p;
    program_start(&p, r->town->host.machine, r->state[1], "invite");
    rig_run_to_end(r, &p, SECONDS(10));
    rig_check(r, program_said(&p, "invite", "link", link), "no invite: %s", p.text);
    program_fini(&p);
}

static void join(struct rig *r)
{
    struct program p;
    char invite[PROGRAM_FIELD];
    rig_invite(r, invite);
    memcpy(r->used_invite, invite, sizeof(invite));
    program_start(&p, r->town->client.machine, r->state[2], "join %s", invite);
    rig_run_to_end(r, &p, SECONDS(60));
    program_fini(&p);
}

static void start_broker(struct rig *r)
{
    program_start(
        &r->broker, r->town->broker, r->state[0],
        "broker --listen 0.0.0.0:443 --public meet.example --threads 2 %s %s %s",
        r->portal != NULL ? "--certificate" : "--no-portal",
        r->portal != NULL ? r->portal : "",
        r->one_address ? "--stun-alternate=203.0.113.10:444" : "");
    rig_await(r, &r->broker, "ready", "link", r->link, SECONDS(5));
}

void rig_stop_broker(struct rig *r)
{
    rig_stop(r, r->town->broker, &r->broker);
}

void rig_start_broker(struct rig *r, uint64_t after_us)
{
    (void)house_run(r->town->house, after_us, NULL, NULL);
    start_broker(r);
}

void rig_restart_broker(struct rig *r, uint64_t after_us)
{
    rig_stop_broker(r);
    rig_start_broker(r, after_us);
}

static void start_host(struct rig *r)
{
    char unused[PROGRAM_FIELD];
    program_start(&r->serve, r->town->host.machine, r->state[1],
                  "serve --broker %s --name home echo=%d other=%s clock=udp:%d",
                  r->link, ECHO_PORT, r->other, CLOCK_PORT);
    rig_await(r, &r->serve, "ready", NULL, unused, SECONDS(30));
}

static void tell_away(struct rig *r)
{
    if (r->on_away != NULL)
        r->on_away(r->on_away_ctx);
}

void rig_restart_host(struct rig *r, uint64_t after_us)
{
    rig_stop(r, r->town->host.machine, &r->serve);
    (void)house_run(r->town->house, after_us, NULL, NULL);
    tell_away(r);
    start_host(r);
}

static void copy_file(struct rig *r, const char *from, const char *to)
{
    char buf[16384];
    size_t n;
    FILE *in = fopen(from, "rb"), *out = in != NULL ? fopen(to, "wb") : NULL;
    while (out != NULL && (n = fread(buf, 1, sizeof(buf), in)) > 0)
        rig_check(r, fwrite(buf, 1, n, out) == n, "%s cannot be written", to);
    rig_check(r, out != NULL && fclose(out) == 0, "%s cannot be copied", from);
    (void)fclose(in);
}

void rig_copy_state(struct rig *r, const char *from, const char *to, const char *names)
{
    char a[SCRATCH_LEN + 300], b[SCRATCH_LEN + 300];
    DIR *d = opendir(from);
    rig_check(r, d != NULL && (mkdir(to, 0700) == 0 || errno == EEXIST),
              "no copy of %s", from);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_type != DT_REG || strncmp(e->d_name, names, strlen(names)) != 0)
            continue;
        (void)snprintf(a, sizeof(a), "%s/%s", from, e->d_name);
        (void)snprintf(b, sizeof(b), "%s/%s", to, e->d_name);
        copy_file(r, a, b);
    }
    (void)closedir(d);
}

/* In a copy: what the killed one holds of the old files is never let go. */
void rig_revive_host(struct rig *r)
{
    char left[sizeof(r->state[0])];
    memcpy(left, r->state[1], sizeof(left));
    r->crashes++;
    (void)snprintf(r->state[1], sizeof(r->state[1]), "%s/host%u", r->dir, r->crashes);
    rig_copy_state(r, left, r->state[1], "");
    start_host(r);
}

void rig_crash_host(struct rig *r, uint64_t after_us)
{
    program_kill(&r->serve, r->town->host.machine);
    (void)house_run(r->town->house, after_us, NULL, NULL);
    tell_away(r);
    rig_revive_host(r);
}

void rig_init(struct rig *r, const struct rig_config *c)
{
    static const char *const names[] = {"broker", "host", "client"};
    memset(r, 0, sizeof(*r));
    r->seed = c->town.seed;
    r->portal = c->portal;
    r->one_address = c->one_address;
    (void)snprintf(r->other, sizeof(r->other), "%d", OTHER_PORT);
    if (c->other != NULL)
        (void)snprintf(r->other, sizeof(r->other), "%s", c->other);
    r->kernel_fds = count_kernel_fds();
    r->town = town_new(&c->town);
    if (c->on_town != NULL)
        c->on_town(c->ctx, r);
    /* In memory, where there is such a place: thousands of worlds write. */
    rig_check(r, scratch_make_in("/dev/shm", r->dir) == 0 || scratch_make(r->dir) == 0,
              "no directory in /tmp");
    for (int i = 0; i < 3; i++)
        (void)snprintf(r->state[i], sizeof(r->state[i]), "%s/%s", r->dir, names[i]);
    start_broker(r);
    echo_start(&r->echo, r->town->host.machine, ECHO_PORT);
    udp_echo_start(&r->clock, r->town->host.machine, CLOCK_PORT);
    start_host(r);
    join(r);
}

void rig_fini(struct rig *r)
{
    char left[600];
    r->echo.stop = r->clock.stop = true;
    rig_stop(r, r->town->host.machine, &r->serve);
    rig_stop(r, r->town->broker, &r->broker);
    (void)house_run(r->town->house, SECONDS(1000), NULL, NULL);
    rig_check(r, task_is_over(r->echo.task) && r->echo.open == 0,
              "%u connections of the service are left open", r->echo.open);
    (void)house_left(r->town->house, left, sizeof(left));
    rig_check(r, left[0] == '\0', "left: %s", left);
    int fds = count_kernel_fds();
    rig_check(r, fds == r->kernel_fds || r->crashes > 0, "%d files are left open",
              fds - r->kernel_fds);
    town_free(r->town);
    scratch_remove(r->dir);
}

void rig_connect(struct rig *r)
{
    char unused[PROGRAM_FIELD];
    program_start(&r->connect, r->town->client.machine, r->state[2],
                  "connect home:echo 127.0.0.1:%d", LOCAL_PORT);
    rig_await(r, &r->connect, "ready", NULL, unused, SECONDS(60));
}

void rig_disconnect(struct rig *r)
{
    rig_stop(r, r->town->client.machine, &r->connect);
}

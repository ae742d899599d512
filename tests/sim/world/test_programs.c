/*
 * The real broker, host and client in one process: join, ping, a stream whose bytes are
 * compared, with faults that a seed names, and what must hold at the end.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../unit/scratch.h"
#include "core/rng.h"
#include "program.h"
#include "town.h"

#define SECONDS(n) ((uint64_t)(n)*1000000)

enum { ECHO_PORT = 7000, LOCAL_PORT = 9000 };

/* A town in which a host serves an echo and a client has joined it. */
struct rig {
    struct town *town;
    char dir[SCRATCH_LEN];
    char state[3][SCRATCH_LEN + 16]; /* broker, host, client */
    struct program broker, serve, connect;
    struct echo echo;
    char link[PROGRAM_FIELD];
    int kernel_fds; /* of this process, before */
};

static int count_kernel_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d != NULL && readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
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

static void await(struct rig *r, const struct program *p, const char *event,
                  const char *field, char value[static PROGRAM_FIELD], uint64_t us)
{
    struct waiting w = {p, event, field, value};
    (void)house_run(r->town->house, us, has_said, &w);
    if (!program_said(p, event, field, value))
        fail_msg("%s did not say %s in %llu ms; it said: %s (%d: %s)", p->args[0],
                 event, (unsigned long long)(us / 1000), p->text, p->result,
                 p->fault.what);
}

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

static void await_end(struct rig *r, const struct program *p, uint64_t us)
{
    if (!house_run(r->town->house, us, is_over, p->task))
        fail_msg("%s does not end; it said: %s", p->args[0], p->text);
}

/* A command that ends by itself; 0 or its error. */
static void run_to_end(struct rig *r, struct program *p, uint64_t us)
{
    await_end(r, p, us);
    if (p->result != 0)
        fail_msg("%s failed: %s", p->args[0], p->fault.what);
}

static void rig_join(struct rig *r)
{
    struct program p;
    char invite[PROGRAM_FIELD];
    program_start(&p, r->town->host.machine, r->state[1], "invite");
    run_to_end(r, &p, SECONDS(10));
    assert_true(program_said(&p, "invite", "link", invite));
    program_fini(&p);
    program_start(&p, r->town->client.machine, r->state[2], "join %s", invite);
    run_to_end(r, &p, SECONDS(30));
    program_fini(&p);
}

static void rig_init(struct rig *r, uint64_t seed, const struct nat_config *host_nat,
                     const struct nat_config *client_nat, const struct vnet_wire *wire)
{
    static const char *const names[] = {"broker", "host", "client"};
    memset(r, 0, sizeof(*r));
    r->kernel_fds = count_kernel_fds();
    assert_int_equal(scratch_make(r->dir), 0);
    for (int i = 0; i < 3; i++)
        (void)snprintf(r->state[i], sizeof(r->state[i]), "%s/%s", r->dir, names[i]);
    r->town = town_new(seed, host_nat, client_nat, wire);
    program_start(&r->broker, r->town->broker, r->state[0],
                  "broker --listen 0.0.0.0:443 --public meet.example --threads 2 "
                  "--no-portal");
    await(r, &r->broker, "ready", "link", r->link, SECONDS(5));
    echo_start(&r->echo, r->town->host.machine, ECHO_PORT);
    program_start(&r->serve, r->town->host.machine, r->state[1],
                  "serve --broker %s --name home echo=%d", r->link, ECHO_PORT);
    char unused[PROGRAM_FIELD];
    await(r, &r->serve, "ready", NULL, unused, SECONDS(10));
    rig_join(r);
}

static void stop(struct rig *r, struct machine *m, struct program *p)
{
    machine_stop(m, SIGTERM);
    await_end(r, p, SECONDS(10));
    assert_int_equal(p->result, 0);
    program_fini(p);
}

/* Ends all, and looks whether everything is where it began. */
static void rig_fini(struct rig *r)
{
    char left[600];
    r->echo.stop = true;
    stop(r, r->town->host.machine, &r->serve);
    stop(r, r->town->broker, &r->broker);
    (void)house_run(r->town->house, SECONDS(200), NULL, NULL);
    assert_true(task_is_over(r->echo.task));
    assert_int_equal(r->echo.open, 0);
    assert_string_equal(house_left(r->town->house, left, sizeof(left)), "");
    town_free(r->town);
    scratch_remove(r->dir);
    assert_int_equal(count_kernel_fds(), r->kernel_fds);
}

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

static const struct nat_config hard_nat = {
    .translates = true,
    .mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT,
    .filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
    .ports = NAT_PORTS_RANDOM,
    .blocks_udp = true};

static void test_ping(void **state)
{
    static const struct nat_config *const nats[] = {&usual_nat, &hard_nat};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct rig r;
        struct program p;
        rig_init(&r, 1, nats[i], nats[i], NULL);
        program_start(&p, r.town->client.machine, r.state[2], "ping home");
        run_to_end(&r, &p, SECONDS(30));
        assert_true(program_count(&p, "pong", "home") >= 3);
        if (i == 0)
            assert_true(program_count(&p, "path", "udp-punch") > 0);
        else
            assert_int_equal(program_count(&p, "path", "udp-punch"), 0);
        program_fini(&p);
        rig_fini(&r);
    }
}

static void start_connect(struct rig *r)
{
    char unused[PROGRAM_FIELD];
    program_start(&r->connect, r->town->client.machine, r->state[2],
                  "connect home:echo 127.0.0.1:%d", LOCAL_PORT);
    await(r, &r->connect, "ready", NULL, unused, SECONDS(30));
}

static void test_stream(void **state)
{
    struct rig r;
    (void)state;
    rig_init(&r, 1, &usual_nat, &usual_nat, NULL);
    start_connect(&r);
    struct talker t = {.port = LOCAL_PORT, .seed = 5, .bytes = 3000000};
    talker_start(&t, r.town->client.machine);
    assert_true(house_run(r.town->house, SECONDS(60), is_over, t.task));
    (void)task_join(t.task);
    assert_int_equal(t.error, 0);
    assert_int_equal(t.got, t.bytes);
    stop(&r, r.town->client.machine, &r.connect);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

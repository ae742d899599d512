/*
 * Commands that end by themselves, while the host, its router or the broker begins anew
 * under them at every moment of their life: what another try would mend is tried again,
 * and nobody is told to do so himself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/addr.h"
#include "io/last_good.h"
#include "rig.h"

/* The commands take some 0.6 s on this wire; the last are restarts after their end. */
#if defined(__SANITIZE_ADDRESS__)
#define STEP 50 /* five times as slow */
#else
#define STEP 10
#endif
enum {
    STEP_MS = STEP,
    LAST_MS = 700,
    AWAY_MS = 300,
    SOON_S = 4,
    OWN_S = 6,
    BACK_S = 3, /* a host's pause of a second, the client's own, and the connection */
    ROUTER_S = 5,
    FORGOTTEN_S = 8, /* both find the broker, and the client asks */
    NC_BYTES = 20000,
    ENDLESS_BYTES = 100000000
};

static const struct nat_config usual_nat = {.translates = true,
                                            .mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT,
                                            .filtering =
                                                NAT_FILTERING_ADDRESS_PORT_DEPENDENT,
                                            .ports = NAT_PORTS_PRESERVED};

static void restart_host(struct rig *r)
{
    rig_restart_host(r, AWAY_MS * 1000);
}

static void restart_broker(struct rig *r)
{
    rig_restart_broker(r, AWAY_MS * 1000);
}

/* It says nothing to anybody: what is sent to the host is lost until that notices. */
static void restart_router(struct rig *r)
{
    town_flush(&r->town->host);
}

/* Nor does this one: connections made before it are holes from then on. */
static void restart_own_router(struct rig *r)
{
    town_flush(&r->town->client);
}

/* It ends in order within so long, whatever happens to it. */
static void run_struck(const char *command, void (*strike)(struct rig *r),
                       unsigned patience_s)
{
    static const struct vnet_wire wire = {.delay_us = 15000};
    struct rig_config c = {.town = {.seed = 7,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    struct rig r;
    rig_init(&r, &c);
    for (unsigned ms = 0; ms <= LAST_MS; ms += STEP_MS) {
        struct program p;
        char state[SCRATCH_LEN + 32], link[PROGRAM_FIELD] = "";
        bool joins = command == NULL;
        (void)snprintf(state, sizeof(state), "%s/joins%u", r.dir, ms);
        if (joins)
            rig_invite(&r, link);
        program_start(&p, r.town->client.machine, joins ? state : r.state[2], "%s %s",
                      joins ? "join" : command, link);
        (void)house_run(r.town->house, (uint64_t)ms * 1000, NULL, NULL);
        strike(&r);
        rig_run_to_end(&r, &p, SECONDS(patience_s));
        assert_true(program_count(&p, joins ? "joined" : "pong", "home") >= 1);
        program_fini(&p);
        (void)house_run(r.town->house, SECONDS(30), NULL, NULL); /* back-offs forget */
    }
    rig_fini(&r);
}

/* As ssh's proxy command: what it carries comes back, whatever is struck meanwhile. */
static void run_nc_struck(void (*strike)(struct rig *r), unsigned patience_s)
{
    static const struct vnet_wire wire = {.delay_us = 15000};
    struct rig_config c = {.town = {.seed = 8,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    struct rig r;
    rig_init(&r, &c);
    for (unsigned ms = 0; ms <= LAST_MS; ms += STEP_MS) {
        struct machine *m = r.town->client.machine;
        struct talker t = {.seed = ms, .bytes = NC_BYTES};
        struct program p;
        t.fd = program_start_piped(&p, m, r.state[2], "nc home echo");
        talker_start(&t, m);
        (void)house_run(r.town->house, (uint64_t)ms * 1000, NULL, NULL);
        strike(&r);
        rig_run_to_end(&r, &p, SECONDS(patience_s));
        (void)house_run(r.town->house, SECONDS(30), NULL, NULL); /* back-offs forget */
        (void)task_join(t.task);
        assert_int_equal(t.error, 0);
        assert_int_equal(t.got, NC_BYTES);
        program_exit(&p, m);
    }
    rig_fini(&r);
}

/*
 * A broker that is away for longer than an idle host's first pauses: a command begun
 * with its end, while it is away, or once it is back needs the host to be back soon.
 */
static void run_nc_away(unsigned away_ms, unsigned begun_ms, unsigned seed)
{
    static const struct vnet_wire wire = {.delay_us = 15000};
    struct rig_config c = {.town = {.seed = seed,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    struct talker t = {.seed = seed, .bytes = NC_BYTES};
    struct program p;
    struct rig r;
    rig_init(&r, &c);
    struct machine *m = r.town->client.machine;
    rig_stop_broker(&r);
    if (begun_ms < away_ms)
        (void)house_run(r.town->house, begun_ms * 1000ull, NULL, NULL);
    else
        rig_start_broker(&r, away_ms * 1000ull);
    if (begun_ms > away_ms)
        (void)house_run(r.town->house, (begun_ms - away_ms) * 1000ull, NULL, NULL);
    t.fd = program_start_piped(&p, m, r.state[2], "nc home echo");
    talker_start(&t, m);
    if (begun_ms < away_ms)
        rig_start_broker(&r, (away_ms - begun_ms) * 1000ull);
    rig_run_to_end(&r, &p, SECONDS(BACK_S));
    (void)task_join(t.task);
    assert_int_equal(t.error, 0);
    assert_int_equal(t.got, NC_BYTES);
    program_exit(&p, m);
    rig_fini(&r);
}

static void test_nc_broker_away(void **state)
{
    (void)state;
    for (unsigned ms = 500; ms <= 8000; ms += 500) {
        run_nc_away(ms, 0, ms);
        run_nc_away(ms, ms - 500, ms + 1);
        run_nc_away(ms, ms + 500, ms + 2);
    }
}

/*
 * The host is killed while the broker is away: nobody but the new one can tell the
 * client that its session is no more.
 */
static void test_nc_forgotten(void **state)
{
    static const struct vnet_wire wire = {.delay_us = 15000};
    struct rig_config c = {.town = {.seed = 9,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    struct talker t = {.seed = 9, .bytes = ENDLESS_BYTES, .pause_ms = 200};
    struct program p;
    struct rig r;
    (void)state;
    rig_init(&r, &c);
    struct machine *m = r.town->client.machine;
    t.fd = program_start_piped(&p, m, r.state[2], "nc home echo");
    talker_start(&t, m);
    (void)house_run(r.town->house, SECONDS(2), NULL, NULL);
    rig_stop_broker(&r);
    program_kill(&r.serve, r.town->host.machine);
    rig_start_broker(&r, SECONDS(2));
    rig_revive_host(&r);
    rig_await_end(&r, &p, SECONDS(FORGOTTEN_S));
    assert_true(p.result != 0 && t.got > 0);
    (void)house_run(r.town->house, SECONDS(5), NULL, NULL); /* the other end sees it */
    (void)task_join(t.task);
    program_exit(&p, m);
    rig_fini(&r);
}

static void test_nc_broker(void **state)
{
    (void)state;
    run_nc_struck(restart_broker, SOON_S);
}

static void test_nc_router(void **state)
{
    (void)state;
    run_nc_struck(restart_router, ROUTER_S);
}

static void test_nc_own_router(void **state)
{
    (void)state;
    run_nc_struck(restart_own_router, OWN_S);
}

static void test_join_host(void **state)
{
    (void)state;
    run_struck(NULL, restart_host, SOON_S);
}

static void test_join_broker(void **state)
{
    (void)state;
    run_struck(NULL, restart_broker, SOON_S);
}

static void test_ping_host(void **state)
{
    (void)state;
    run_struck("ping home --count 2", restart_host, SOON_S);
}

static void test_ping_broker(void **state)
{
    (void)state;
    run_struck("ping home --count 2", restart_broker, SOON_S);
}

static void test_join_router(void **state)
{
    (void)state;
    run_struck(NULL, restart_router, ROUTER_S);
}

static void test_ping_router(void **state)
{
    (void)state;
    run_struck("ping home --count 2", restart_router, ROUTER_S);
}

static void test_join_own_router(void **state)
{
    (void)state;
    run_struck(NULL, restart_own_router, OWN_S);
}

static void test_ping_own_router(void **state)
{
    (void)state;
    run_struck("ping home --count 2", restart_own_router, OWN_S);
}

/*
 * The first server in /etc/resolv.conf is dead, or the first two are: each answer takes
 * 5 s, or 10. Who never met the broker, whom its name leads elsewhere than before, and
 * a host that begins, all wait for it; who knows where the broker is does not.
 */
static void run_slow_names(unsigned takes_ms)
{
    static const struct vnet_wire wire = {.delay_us = 15000};
    struct rig_config c = {.town = {.seed = 9,
                                    .host_nat = &usual_nat,
                                    .client_nat = &usual_nat,
                                    .wire = &wire}};
    char state[SCRATCH_LEN + 32], link[PROGRAM_FIELD], unused[PROGRAM_FIELD];
    struct addr gone = {.family = ADDR_NONE};
    struct program p;
    struct rig r;
    rig_init(&r, &c);
    struct machine *m = r.town->client.machine;
    house_names_take(r.town->house, takes_ms * 1000ull);
    program_start(&p, m, r.state[2], "ping home --count 1");
    rig_run_to_end(&r, &p, SECONDS(2));
    program_fini(&p);
    (void)snprintf(state, sizeof(state), "%s/never", r.dir);
    rig_invite(&r, link);
    program_start(&p, m, state, "join %s", link);
    rig_run_to_end(&r, &p, takes_ms * 1000ull + SECONDS(2));
    assert_true(program_count(&p, "joined", "home") >= 1);
    program_fini(&p);
    assert_int_equal(addr_parse_ip(&gone, "203.0.113.99"), 0);
    last_good_save(state, "meet.example", 443, &gone, 1);
    program_start(&p, m, state, "connect home:echo 127.0.0.1:7777");
    rig_await(&r, &p, "path", NULL, unused, takes_ms * 1000ull + SECONDS(8));
    rig_stop(&r, m, &p);
    rig_restart_host(&r, 0);
    rig_fini(&r);
}

static void test_slow_names(void **state)
{
    (void)state;
    run_slow_names(4500);
    run_slow_names(5100);
    run_slow_names(10200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join_host),       cmocka_unit_test(test_join_broker),
        cmocka_unit_test(test_ping_host),       cmocka_unit_test(test_ping_broker),
        cmocka_unit_test(test_join_router),     cmocka_unit_test(test_ping_router),
        cmocka_unit_test(test_join_own_router), cmocka_unit_test(test_ping_own_router),
        cmocka_unit_test(test_nc_broker),       cmocka_unit_test(test_nc_router),
        cmocka_unit_test(test_nc_own_router),   cmocka_unit_test(test_nc_broker_away),
        cmocka_unit_test(test_nc_forgotten),    cmocka_unit_test(test_slow_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The paths of udp-punch's sockets when the other side answers by more of them than
 * there are places. What they are made for is stood in for: each path that is told is
 * asked in full by the session.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/punch.h"
#include "io/loop.h"
#include "io/udp.h"
#include "path/kind.h"

static struct {
    uint64_t now_ms;
    uint32_t next_id;
    unsigned made, retired;
} world;

static const struct approach_config *config_of(const struct approach *a)
{
    static struct net net;
    static struct approach_config config = {.net = &net};
    (void)a;
    return &config;
}

static uint32_t next_id(struct approach *a)
{
    (void)a;
    return ++world.next_id;
}

static void on_new(struct approach *a, struct path *p)
{
    (void)a, (void)p;
    world.made++;
}

static void on_retire(struct approach *a, struct path *p)
{
    (void)a, (void)p;
    world.retired++;
}

static uint64_t loop_time(const struct loop *l)
{
    (void)l;
    return world.now_ms;
}

static void refresh(struct loop *l)
{
    (void)l;
}

static void local_towards(const struct udp *u, const struct addr *to, struct addr *out)
{
    (void)u, (void)to, (void)out;
}

/* All of them have sent an authentic check, none of which proved a pair of ours. */
static bool is_known(const struct punch *p, unsigned sock, const struct addr *from)
{
    (void)p, (void)sock, (void)from;
    return true;
}

static int is_no_check(struct punch *p, unsigned sock, const struct addr *from,
                       const uint8_t *buf, size_t len, uint64_t now_us)
{
    (void)p, (void)sock, (void)from, (void)buf, (void)len, (void)now_us;
    return 0;
}

static bool is_unproven(const struct punch *p, unsigned sock, const struct addr *from)
{
    (void)p, (void)sock, (void)from;
    return false;
}

#define approach_config_of config_of
#define approach_next_path_id next_id
#define approach_path_new on_new
#define approach_path_retire on_retire
#define loop_now_ms loop_time
#define loop_refresh refresh
#define udp_local_towards local_towards
#define punch_known_remote is_known
#define punch_on_packet is_no_check
#define punch_is_proven is_unproven
#include "../../src/path/udp_punch.c"

static void receive(struct udp_punch *u, unsigned remote)
{
    static const uint8_t packet[32] = {0x40};
    struct addr from = {.family = ADDR_V4, .port = (uint16_t)(4000 + remote)};
    on_packets(u, NULL, &from, packet, sizeof(packet), sizeof(packet));
}

static void end(struct udp_punch *u)
{
    for (int i = 0; i < PATHS_MAX; i++)
        if (u->paths[i] != NULL)
            retire(u, i);
}

/* Twelve live, each with a packet all 20 ms: eight are paths, and stay. If each took
 * the place of another, the session would ask each of them in full: 600 a second. */
static void test_who_lives_makes_way_for_none(void **state)
{
    enum { REMOTES = 12, ROUNDS = 500 };
    struct udp_punch u = {.stage = CHECKING};
    (void)state;
    memset(&world, 0, sizeof(world));
    for (unsigned i = 0; i < ROUNDS * REMOTES; i++) {
        world.now_ms += i % REMOTES == 0 ? 20 : 0;
        receive(&u, i % REMOTES);
    }
    assert_int_equal(world.made, PATHS_MAX);
    assert_int_equal(world.retired, 0);
    end(&u);
}

/* Who fell silent makes way after a second, the longest silent first; the one in use
 * stays, and who lives does. */
static void test_who_is_silent_makes_way(void **state)
{
    struct udp_punch u = {.stage = CHECKING};
    struct path *used;
    (void)state;
    memset(&world, 0, sizeof(world));
    for (unsigned i = 0; i < PATHS_MAX; i++, world.now_ms += 10)
        receive(&u, i);
    used = &u.paths[0]->base;
    u.used = used;
    world.now_ms += IDLE_MS / 2;
    for (unsigned i = 2; i < PATHS_MAX; i++)
        receive(&u, i);
    receive(&u, PATHS_MAX);
    assert_int_equal(world.made, PATHS_MAX); /* nobody was silent for so long */
    world.now_ms += IDLE_MS - 100;
    receive(&u, PATHS_MAX);
    assert_int_equal(world.made, PATHS_MAX + 1);
    assert_int_equal(world.retired, 1);
    assert_ptr_equal(&u.paths[0]->base, used);
    assert_int_equal(u.paths[1]->base.remote.port, 4000 + PATHS_MAX);
    for (unsigned i = 2; i < PATHS_MAX; i++)
        assert_int_equal(u.paths[i]->base.remote.port, 4000 + i);
    end(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_lives_makes_way_for_none),
        cmocka_unit_test(test_who_is_silent_makes_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The host's list: invites used up once, devices revoked for good, names, races. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "host/roster.h"
#include "io/db.h"
#include "scratch.h"

struct fixture {
    char dir[SCRATCH_LEN];
    struct roster *r;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    *state = x;
    if (x == NULL || scratch_make(x->dir) != 0)
        return -1;
    return roster_open(&x->r, x->dir, NULL);
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    roster_close(x->r);
    scratch_remove(x->dir);
    free(x);
    return 0;
}

static void make_key(uint8_t key[KEY_LEN], uint8_t n)
{
    memset(key, n, KEY_LEN);
}

static void make_invite(struct roster *r, uint8_t n, const char *allowed, int uses,
                        uint8_t id[INVITE_ID_LEN])
{
    struct roster_invite in = {.expires_s = 1000, .uses_left = uses};
    memset(in.secret, n, sizeof(in.secret));
    (void)snprintf(in.allowed, sizeof(in.allowed), "%s", allowed);
    link_invite_id(id, in.secret);
    assert_int_equal(roster_invite_new(r, &in, 100, NULL), 0);
}

static int consume(struct roster *r, const uint8_t id[INVITE_ID_LEN], uint8_t device,
                   const char *name)
{
    uint8_t key[KEY_LEN];
    make_key(key, device);
    return roster_invite_consume(r, id, key, name, 200, NULL);
}

static void test_invite(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], other[INVITE_ID_LEN] = {9}, key[KEY_LEN];
    struct roster_invite in;
    struct roster_client c;
    struct service web, ssh;
    make_key(key, 1);
    assert_int_equal(service_parse(&web, "web=8080", NULL), 0);
    assert_int_equal(service_parse(&ssh, "22", NULL), 0);
    make_invite(x->r, 1, "web", 1, id);
    assert_int_equal(roster_invite_find(x->r, other, 200, &in), POSTERN_ERR_NOTFOUND);
    assert_int_equal(roster_invite_find(x->r, id, 1000, &in), POSTERN_ERR_EXPIRED);
    assert_int_equal(roster_invite_find(x->r, id, 999, &in), 0);
    assert_int_equal(in.secret[3], 1);
    assert_int_equal(roster_client_find(x->r, key, &c), POSTERN_ERR_NOTFOUND);
    assert_int_equal(roster_client_allowed(x->r, key, &web), POSTERN_ERR_NOTFOUND);
    assert_int_equal(consume(x->r, id, 1, "anna"), 0);
    assert_int_equal(consume(x->r, id, 2, "eve"), POSTERN_ERR_EXPIRED);
    assert_int_equal(roster_client_find(x->r, key, &c), 0);
    assert_string_equal(c.name, "anna");
    assert_int_equal(c.added_s, 200);
    assert_int_equal(roster_client_allowed(x->r, key, &web), 0);
    assert_int_equal(roster_client_allowed(x->r, key, &ssh), POSTERN_ERR_DENIED);
    /* a second invite adds to what it may use */
    make_invite(x->r, 2, "22", 1, id);
    assert_int_equal(consume(x->r, id, 1, "anna"), 0);
    assert_int_equal(roster_client_allowed(x->r, key, &ssh), 0);
    assert_int_equal(roster_client_allowed(x->r, key, &web), 0);
    make_invite(x->r, 3, "", 1, id);
    assert_int_equal(consume(x->r, id, 1, "anna"), 0);
    assert_int_equal(roster_client_find(x->r, key, &c), 0);
    assert_string_equal(c.allowed, "");
    assert_int_equal(roster_clients(x->r, NULL, 0), 1);
    /* one that gains nothing leaves it to the next */
    make_invite(x->r, 4, "", 1, id);
    assert_int_equal(consume(x->r, id, 1, "anna"), 0);
    assert_int_equal(consume(x->r, id, 2, "eve"), 0);
    assert_int_equal(roster_clients(x->r, NULL, 0), 2);
}

static void test_names(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN];
    struct roster_client c[4];
    make_invite(x->r, 1, "", 4, id);
    assert_int_equal(consume(x->r, id, 1, "Laptop"), 0);
    assert_int_equal(consume(x->r, id, 2, "laptop"), 0);
    assert_int_equal(consume(x->r, id, 3, ""), 0);
    assert_int_equal(consume(x->r, id, 4, "a\033[2Jb"), 0);
    assert_int_equal(roster_clients(x->r, c, 4), 4);
    assert_string_equal(c[0].name, "Laptop");
    assert_string_equal(c[1].name, "laptop-2");
    assert_string_equal(c[2].name, "device");
    assert_string_equal(c[3].name, "a?[2Jb");
}

static void test_revoke(void **state)
{
    struct fixture *x = *state;
    uint8_t many[INVITE_ID_LEN], later[INVITE_ID_LEN], key[KEY_LEN];
    struct roster_client c;
    struct fault f = {0};
    char text[KEY_TEXT_LEN];
    make_key(key, 1);
    make_invite(x->r, 1, "", 10, many);
    assert_int_equal(consume(x->r, many, 1, "anna"), 0);
    assert_int_equal(roster_revoke(x->r, "bob", &c, 300, &f), POSTERN_ERR_NOTFOUND);
    assert_int_equal(roster_revoke(x->r, "ANNA", &c, 300, &f), 0);
    assert_memory_equal(c.key, key, KEY_LEN);
    assert_true(roster_is_revoked(x->r, key));
    assert_int_equal(roster_client_find(x->r, key, NULL), POSTERN_ERR_NOTFOUND);
    /* uses are left, but for others only */
    assert_int_equal(consume(x->r, many, 1, "anna"), POSTERN_ERR_DENIED);
    assert_int_equal(consume(x->r, many, 2, "bob"), 0);
    make_invite(x->r, 2, "", 1, later);
    assert_int_equal(consume(x->r, later, 1, "anna"), 0);
    assert_false(roster_is_revoked(x->r, key));
    assert_int_equal(roster_revoke_key(x->r, key, &c, 300, &f), 0);
    assert_string_equal(c.name, "anna");
    assert_true(roster_is_revoked(x->r, key));
    assert_int_equal(roster_revoke_key(x->r, key, &c, 300, &f), POSTERN_ERR_NOTFOUND);
    make_invite(x->r, 7, "", 1, later);
    assert_int_equal(consume(x->r, later, 1, "anna"), 0);
    (void)key_format(key, text);
    text[5] = '\0';
    assert_int_equal(roster_revoke(x->r, text, &c, 300, &f), 0);
    text[3] = '\0'; /* three characters are too few */
    assert_int_equal(roster_revoke(x->r, text, &c, 300, &f), POSTERN_ERR_NOTFOUND);
}

static void test_ambiguous(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], key[KEY_LEN];
    struct roster_client c;
    struct fault f = {0};
    char text[KEY_TEXT_LEN];
    make_invite(x->r, 1, "", 10, id);
    make_key(key, 1);
    assert_int_equal(roster_invite_consume(x->r, id, key, "a", 200, &f), 0);
    key[KEY_LEN - 1] = 2;
    assert_int_equal(roster_invite_consume(x->r, id, key, "b", 200, &f), 0);
    (void)key_format(key, text);
    text[8] = '\0';
    assert_int_equal(roster_revoke(x->r, text, &c, 300, &f), POSTERN_ERR_INVALID);
    assert_int_equal(roster_clients(x->r, NULL, 0), 2);
}

static void test_rotate(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], one[KEY_LEN], two[KEY_LEN], three[KEY_LEN];
    struct roster_client c;
    make_key(one, 1);
    make_key(two, 2);
    make_key(three, 3);
    make_invite(x->r, 1, "web", 10, id);
    assert_int_equal(consume(x->r, id, 1, "anna"), 0);
    assert_int_equal(consume(x->r, id, 3, "bob"), 0);
    assert_int_equal(roster_rotate(x->r, one, two), 0);
    assert_int_equal(roster_client_find(x->r, one, &c), POSTERN_ERR_NOTFOUND);
    assert_int_equal(roster_client_find(x->r, two, &c), 0);
    assert_string_equal(c.name, "anna");
    assert_int_equal(roster_rotate(x->r, one, two), POSTERN_ERR_NOTFOUND);
    assert_int_equal(roster_rotate(x->r, two, three), POSTERN_ERR_INVALID);
    assert_int_equal(roster_revoke(x->r, "bob", &c, 300, NULL), 0);
    assert_int_equal(roster_rotate(x->r, two, three), POSTERN_ERR_DENIED);
}

/* Removed by its newest key, a device is removed by those before, too. */
static void test_revoke_after_a_rotation(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], key[40][KEY_LEN];
    struct roster_client c;
    struct fault f;
    make_invite(x->r, 1, "", 10, id);
    for (uint8_t i = 0; i < 40; i++)
        make_key(key[i], (uint8_t)(i + 1));
    assert_int_equal(roster_invite_consume(x->r, id, key[0], "anna", 200, &f), 0);
    for (unsigned i = 0; i < 39; i++)
        assert_int_equal(roster_rotate(x->r, key[i], key[i + 1]), 0);
    assert_int_equal(roster_revoke(x->r, "anna", &c, 300, NULL), 0);
    for (unsigned i = 0; i < 40; i++)
        assert_true(roster_is_revoked(x->r, key[i]));
    assert_int_equal(roster_invite_consume(x->r, id, key[38], "anna", 400, &f),
                     POSTERN_ERR_DENIED);
}

/* A copy with an earlier key is that device: no open invite makes it another one, no
 * rotation of somebody else's ends there, and it goes when the device is removed. */
static void test_an_earlier_key_is_no_device(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], again[INVITE_ID_LEN], one[KEY_LEN], two[KEY_LEN];
    uint8_t three[KEY_LEN], other[KEY_LEN];
    struct roster_client c;
    struct fault f = {0};
    make_key(one, 1);
    make_key(two, 2);
    make_key(three, 3);
    make_key(other, 9);
    make_invite(x->r, 1, "", 10, id);
    assert_int_equal(roster_invite_consume(x->r, id, one, "anna", 200, &f), 0);
    assert_int_equal(roster_invite_consume(x->r, id, other, "eve", 200, &f), 0);
    assert_false(roster_is_earlier(x->r, one));
    assert_int_equal(roster_rotate(x->r, one, two), 0);
    assert_true(roster_is_earlier(x->r, one));
    assert_false(roster_is_earlier(x->r, two));
    assert_int_equal(roster_invite_consume(x->r, id, one, "copy", 300, &f),
                     POSTERN_ERR_KEY);
    assert_non_null(strstr(f.what, "key was changed since"));
    assert_int_equal(roster_rotate(x->r, other, one), POSTERN_ERR_INVALID);
    assert_int_equal(roster_rotate(x->r, two, three), 0);
    assert_int_equal(roster_rotate(x->r, three, three), 0); /* says it again */
    assert_false(roster_is_earlier(x->r, three));
    assert_int_equal(roster_rotate(x->r, three, two), 0); /* two of its programs */
    assert_true(roster_is_earlier(x->r, three));
    assert_int_equal(roster_revoke(x->r, "anna", &c, 400, NULL), 0);
    assert_true(roster_is_revoked(x->r, one) && roster_is_revoked(x->r, two) &&
                roster_is_revoked(x->r, three));
    assert_false(roster_is_earlier(x->r, one));
    assert_int_equal(roster_clients(x->r, NULL, 0), 1);
    for (uint8_t i = 1; i <= 3; i++)
        assert_int_equal(consume(x->r, id, i, "copy"), POSTERN_ERR_DENIED);
    /* a backup that was restored: removed first, and invited anew */
    make_invite(x->r, 2, "", 1, again);
    assert_int_equal(roster_invite_consume(x->r, again, one, "anna", 500, &f), 0);
    assert_int_equal(roster_client_find(x->r, one, NULL), 0);
}

/* A list of an earlier build's, on which a device stands under another's earlier key.
 */
static void test_a_twin_goes_too(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], one[KEY_LEN], two[KEY_LEN];
    struct roster_client c;
    make_key(one, 1);
    make_key(two, 2);
    make_invite(x->r, 1, "", 10, id);
    assert_int_equal(consume(x->r, id, 1, "anna"), 0);
    assert_int_equal(roster_rotate(x->r, one, two), 0);
    struct db_stmt s =
        db_prepare(roster_db(x->r), "INSERT INTO client(key, name, allowed, added_s) "
                                    "VALUES(?, 'copy', '', 1)");
    db_bind_blob(&s, one, KEY_LEN);
    assert_int_equal(db_exec(&s), 0);
    assert_int_equal(roster_revoke(x->r, "anna", &c, 300, NULL), 0);
    assert_int_equal(roster_clients(x->r, NULL, 0), 0);
    assert_true(roster_is_revoked(x->r, one) && roster_is_revoked(x->r, two));
}

/* Who changes its key without end pushes none out. */
static void test_too_many_rotations(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], key[KEY_LEN] = {1}, next[KEY_LEN] = {1};
    struct roster_client c;
    struct fault f;
    make_invite(x->r, 1, "", 10, id);
    assert_int_equal(roster_invite_consume(x->r, id, key, "anna", 200, &f), 0);
    struct db_stmt s = db_prepare(
        roster_db(x->r), "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM "
                         "n WHERE i < ?) INSERT INTO earlier(key, device) SELECT "
                         "CAST(printf('%032d', i) AS BLOB), serial FROM n, client");
    db_bind_int(&s, ROSTER_EARLIER_MAX);
    assert_int_equal(db_exec(&s), 0);
    next[1] = 1;
    assert_int_equal(roster_rotate(x->r, key, next), 0);
    memcpy(key, next, KEY_LEN);
    next[1] = 2;
    assert_int_equal(roster_rotate(x->r, key, next), POSTERN_ERR_LIMIT);
    assert_int_equal(roster_client_find(x->r, key, NULL), 0); /* as it was */
    assert_int_equal(roster_revoke(x->r, "anna", &c, 300, NULL), 0);
    key[1] = 0;
    assert_true(roster_is_revoked(x->r, key));
}

/* Who was removed by the newest key, and is invited again under an earlier one, is in.
 */
static void test_rotate_to_a_removed_key(void **state)
{
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN], again[INVITE_ID_LEN], one[KEY_LEN], two[KEY_LEN];
    struct roster_client c;
    struct fault f;
    make_key(one, 1);
    make_key(two, 2);
    make_invite(x->r, 1, "", 10, id);
    assert_int_equal(roster_invite_consume(x->r, id, one, "anna", 200, &f), 0);
    assert_int_equal(roster_rotate(x->r, one, two), 0);
    assert_int_equal(roster_revoke(x->r, "anna", &c, 300, NULL), 0);
    make_invite(x->r, 2, "", 10, again);
    assert_int_equal(roster_invite_consume(x->r, again, one, "anna", 400, &f), 0);
    assert_int_equal(roster_rotate(x->r, one, two), 0);
    assert_int_equal(roster_client_find(x->r, two, &c), 0);
    assert_false(roster_is_revoked(x->r, two));
}

/* One use, many processes that want it: exactly one gets it. */
static void test_race(void **state)
{
    enum { PROCESSES = 10 };
    struct fixture *x = *state;
    uint8_t id[INVITE_ID_LEN];
    pid_t pids[PROCESSES];
    int won = 0;
    make_invite(x->r, 1, "", 1, id);
    int64_t version = roster_version(x->r);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct roster *r;
            if (roster_open(&r, x->dir, NULL) != 0)
                _exit(9);
            int err = consume(r, id, (uint8_t)(i + 1), "racer");
            _exit(err == 0 ? 1 : err == POSTERN_ERR_EXPIRED ? 0 : 9);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;
        (void)waitpid(pids[i], &status, 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        won += WEXITSTATUS(status);
    }
    assert_int_equal(won, 1);
    assert_int_equal(roster_clients(x->r, NULL, 0), 1);
    assert_true(roster_version(x->r) != version);
}

static void test_settings(void **state)
{
    struct fixture *x = *state;
    struct roster_settings *s = calloc(1, sizeof(*s)), *got = calloc(1, sizeof(*got));
    assert_true(s != NULL && got != NULL);
    assert_int_equal(roster_settings_get(x->r, got), POSTERN_ERR_NOTFOUND);
    (void)snprintf(s->name, sizeof(s->name), "home");
    (void)snprintf(s->broker, sizeof(s->broker), "postern://x");
    (void)snprintf(s->services, sizeof(s->services), "22\nweb=80");
    assert_int_equal(roster_settings_set(x->r, s, NULL), 0);
    assert_int_equal(roster_settings_set(x->r, s, NULL), 0);
    assert_int_equal(roster_settings_get(x->r, got), 0);
    assert_memory_equal(s, got, sizeof(*s));
    free(s);
    free(got);
}

#define WITH_ROSTER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROSTER(test_invite),
        WITH_ROSTER(test_names),
        WITH_ROSTER(test_revoke),
        WITH_ROSTER(test_ambiguous),
        WITH_ROSTER(test_rotate),
        WITH_ROSTER(test_rotate_to_a_removed_key),
        WITH_ROSTER(test_revoke_after_a_rotation),
        WITH_ROSTER(test_an_earlier_key_is_no_device),
        WITH_ROSTER(test_a_twin_goes_too),
        WITH_ROSTER(test_too_many_rotations),
        WITH_ROSTER(test_race),
        WITH_ROSTER(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

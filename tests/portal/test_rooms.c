/*
 * Rooms of the portal alone, without a broker, a browser or a host: what a host's list
 * does to who is logged in, whom failed tries to log in delay, and whom hosts of others
 * that have accounts of his name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "io/loop.h"
#include "portal/passwords.h"
#include "portal/portal_config.h"
#include "portal/rooms.h"
#include "portal/tries.h"

#include "../unit/scratch.h"

struct house {
    struct rooms rooms; /* first */
    struct portal_config config;
    struct keypair key;
    struct devices devices;
    struct tries *tries;
    struct passwords *passwords;
    unsigned ended, moved, lists;
    char last[64];
};

static struct house *house_of(const struct rooms *rs)
{
    return (struct house *)(uintptr_t)rs;
}

static void on_lists(const struct rooms *rs)
{
    house_of(rs)->lists++;
    logins_check(rs->logins);
}

static void on_host_forgotten(const struct rooms *rs, uint32_t number)
{
    assert_null(host_by_number(rs->hosts, number));
}

static void on_login_end(const struct rooms *rs, const struct login *l)
{
    struct house *h = house_of(rs);
    h->ended++;
    (void)snprintf(h->last, sizeof(h->last), "%s", l->account);
    assert_non_null(login_by_id(rs->logins, l->id)); /* it is there while it is told */
}

static void on_login_move(const struct rooms *rs, const struct login *l)
{
    (void)l;
    house_of(rs)->moved++;
}

static bool is_login_used(const struct rooms *rs, const struct login *l)
{
    (void)rs, (void)l;
    return false;
}

static const struct rooms_events events = {.on_lists = on_lists,
                                           .on_host_forgotten = on_host_forgotten,
                                           .on_login_end = on_login_end,
                                           .on_login_move = on_login_move,
                                           .is_login_used = is_login_used};

static int begin(void **state)
{
    struct house *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    assert_true(sodium_init() >= 0);
    keypair_from_seed(&h->key, (const uint8_t[KEY_LEN]){1});
    devices_init(&h->devices, &h->key);
    h->rooms.config = &h->config;
    h->rooms.events = &events;
    assert_int_equal(loop_open(&h->rooms.loop), 0);
    assert_int_equal(hosts_new(&h->rooms.hosts, &h->rooms), 0);
    assert_int_equal(asks_new(&h->rooms.asks, h->rooms.loop, h->rooms.hosts), 0);
    asks_close(h->rooms.asks); /* nobody is there to be asked */
    assert_int_equal(logins_new(&h->rooms.logins, &h->rooms, &h->key), 0);
    assert_int_equal(tries_new(&h->tries, h->rooms.loop, &h->devices), 0);
    h->rooms.devices = &h->devices;
    assert_int_equal(passwords_new(&h->passwords, &h->rooms), 0);
    *state = h;
    return 0;
}

static int end(void **state)
{
    struct house *h = *state;
    passwords_close(h->passwords);
    hosts_free(h->rooms.hosts);
    tries_free(h->tries);
    logins_free(h->rooms.logins);
    asks_free(h->rooms.asks);
    loop_run(h->rooms.loop);
    passwords_free(h->passwords);
    loop_close(h->rooms.loop);
    free(h);
    return 0;
}

static struct addr address(const char *text)
{
    struct addr a;
    assert_int_equal(addr_parse_ip(&a, text), 0);
    return a;
}

/* A host at that address says that it opens ssh to alice with that hash; NULL: not. */
static struct portal_host *say_at(struct house *h, unsigned number, const char *at,
                                  const char *hash)
{
    const uint8_t key[KEY_LEN] = {(uint8_t)number, (uint8_t)(number >> 8)};
    struct addr from = address(at);
    Control m = {.which_body = Control_portal_begin_tag};
    (void)snprintf(m.body.portal_begin.host, sizeof(m.body.portal_begin.host), "host%u",
                   number);
    hosts_on_message(h->rooms.hosts, key, &from, &m);
    m = (Control){.which_body = Control_portal_service_tag};
    (void)snprintf(m.body.portal_service.name, sizeof(m.body.portal_service.name),
                   "ssh");
    m.body.portal_service.port = 22;
    hosts_on_message(h->rooms.hosts, key, &from, &m);
    m = (Control){.which_body = Control_portal_account_tag};
    PortalAccount *a = &m.body.portal_account;
    (void)snprintf(a->name, sizeof(a->name), "alice");
    (void)snprintf(a->hash, sizeof(a->hash), "%s", hash != NULL ? hash : "");
    a->services_count = 1;
    if (hash != NULL)
        hosts_on_message(h->rooms.hosts, key, &from, &m);
    m = (Control){.which_body = Control_portal_end_tag};
    hosts_on_message(h->rooms.hosts, key, &from, &m);
    return host_by_key(h->rooms.hosts, key);
}

static struct portal_host *say(struct house *h, unsigned number, const char *hash)
{
    return say_at(h, number, "192.0.2.77", hash);
}

/* A login lasts as long as one host has its account with the password it came by. */
static void test_lists_end_logins(void **state)
{
    struct house *h = *state;
    struct rooms *rs = &h->rooms;
    char token[LOGIN_TOKEN_TEXT_LEN];
    struct addr from = address("192.0.2.1");
    const struct portal_host *one = say(h, 1, "first"), *two = say(h, 2, "first");
    const uint32_t hosts[] = {one->number, two->number};
    const struct login *l = login_admit(rs->logins, "alice", &from, hosts, 2, token);
    assert_non_null(l);
    assert_ptr_equal(login_by_cookie(rs->logins, token), l);
    assert_true(login_may(l, one, 0) && login_may(l, two, 0));
    say(h, 1, "second");
    assert_false(login_may(l, one, 0));
    assert_true(login_may(l, two, 0));
    assert_int_equal(h->ended, 0);
    say(h, 2, NULL); /* the account is gone there */
    assert_int_equal(h->ended, 1);
    assert_string_equal(h->last, "alice");
    assert_null(login_by_cookie(rs->logins, token));
    assert_true(h->lists >= 4);
}

/* The broker begins anew: hosts and logins are forgotten, but for the disk. */
static void restart(struct house *h)
{
    logins_free(h->rooms.logins);
    hosts_free(h->rooms.hosts);
    assert_int_equal(hosts_new(&h->rooms.hosts, &h->rooms), 0);
    assert_int_equal(logins_new(&h->rooms.logins, &h->rooms, &h->key), 0);
}

/* What was kept is worth nothing until its host says that the account still holds. */
static void test_logins_outlive_the_broker(void **state)
{
    struct house *h = *state;
    char dir[SCRATCH_LEN], token[4][LOGIN_TOKEN_TEXT_LEN], csrf[LOGIN_TOKEN_TEXT_LEN];
    struct addr from = address("192.0.2.1");
    assert_int_equal(scratch_make(dir), 0);
    h->config.state_dir = dir;
    restart(h);
    uint32_t one = say(h, 1, "first")->number, two = say(h, 2, "other")->number;
    for (int i = 0; i < 4; i++)
        assert_non_null(login_admit(h->rooms.logins, "alice", &from,
                                    i < 3 ? &one : &two, 1, token[i]));
    struct login *l = login_by_cookie(h->rooms.logins, token[0]);
    memcpy(csrf, l->csrf, sizeof(csrf));
    login_end(h->rooms.logins, login_by_cookie(h->rooms.logins, token[1]),
              "logged out");
    restart(h);
    assert_null(login_by_cookie(h->rooms.logins, token[1]));
    l = login_by_cookie(h->rooms.logins, token[0]);
    assert_non_null(l);
    assert_string_equal(l->csrf, csrf);
    assert_false(logins_at(h->rooms.logins, &from));       /* no address is kept */
    const struct portal_host *host = say(h, 2, "changed"); /* another password */
    assert_null(login_by_cookie(h->rooms.logins, token[3]));
    assert_false(login_may(l, host, 0));
    host = say(h, 1, "first");
    assert_true(login_may(l, host, 0));
    assert_false(login_may(l, say(h, 2, "first"), 0)); /* that host is not its own */
    restart(h);
    say(h, 1, NULL); /* removed meanwhile */
    assert_null(login_by_cookie(h->rooms.logins, token[0]));
    restart(h);
    say(h, 1, "first"); /* and so it stays */
    for (int i = 0; i < 4; i++)
        assert_null(login_by_cookie(h->rooms.logins, token[i]));
    logins_free(h->rooms.logins);
    h->config.state_dir = NULL;
    assert_int_equal(logins_new(&h->rooms.logins, &h->rooms, &h->key), 0);
    scratch_remove(dir);
}

static void test_login_moves(void **state)
{
    struct house *h = *state;
    struct rooms *rs = &h->rooms;
    char token[LOGIN_TOKEN_TEXT_LEN];
    struct addr here = address("2001:db8:1::1"), near = address("2001:db8:1::2");
    struct addr there = address("192.0.2.9");
    const uint32_t host = say(h, 1, "first")->number;
    assert_non_null(login_admit(rs->logins, "alice", &here, &host, 1, token));
    struct login *l = login_by_cookie(rs->logins, token);
    login_seen(rs->logins, l, &near); /* of the same /64 */
    assert_int_equal(h->moved, 0);
    login_seen(rs->logins, l, &there);
    assert_int_equal(h->moved, 1);
    assert_true(logins_at(rs->logins, &there));
    assert_false(logins_at(rs->logins, &here));
}

static struct tried tried_from(struct house *h, struct portal_host *host,
                               const char *from, const char *cookies)
{
    struct tried t = {.name = "alice", .from = address(from)};
    tried_add(h->tries, &t, host, host_account(host, "alice"), cookies);
    return t;
}

/* Strangers share a count; who was there before, by address or cookie, has his own. */
static void test_strangers_delay_strangers(void **state)
{
    struct house *h = *state;
    char token[LOGIN_TOKEN_TEXT_LEN], header[DEVICE_COOKIE_MAX];
    struct portal_host *host = say(h, 1, "first"), *other = say(h, 2, "first");
    struct tried home = tried_from(h, host, "192.0.2.1", NULL);
    tries_succeeded(h->tries, &home);
    const struct login *l = login_admit(h->rooms.logins, "alice", &home.from,
                                        home.hosts, home.count, token);
    device_set_cookie(&h->devices, h->rooms.logins, l, header);
    header[strcspn(header, ";")] = '\0'; /* as the browser sends it back */
    for (int i = 0; i < 8; i++) {
        char from[32];
        (void)snprintf(from, sizeof(from), "198.51.100.%d", i);
        struct tried t = tried_from(h, host, from, NULL);
        assert_false(tried_is_known(&t));
        tries_failed(h->tries, &t);
    }
    struct tried stranger = tried_from(h, host, "203.0.113.1", NULL);
    assert_true(tries_strangers_wait_ms(h->tries, &stranger) > 0);
    assert_int_equal(tries_own_wait_ms(h->tries, &stranger), 0);
    struct tried place = tried_from(h, host, "192.0.2.1", NULL);
    assert_true(tried_is_known(&place));
    assert_int_equal(tries_strangers_wait_ms(h->tries, &place), 0);
    struct tried device = tried_from(h, host, "203.0.113.2", header);
    assert_true(tried_is_known(&device));
    assert_int_equal(tries_strangers_wait_ms(h->tries, &device), 0);
    /* The account of the same name on another host is another. */
    struct tried elsewhere = tried_from(h, other, "192.0.2.1", header);
    assert_false(tried_is_known(&elsewhere));
    assert_int_equal(tries_strangers_wait_ms(h->tries, &elsewhere), 0);
    /* With another password no browser is known any more. */
    say(h, 1, "second");
    struct tried changed = tried_from(h, host, "203.0.113.2", header);
    assert_false(tried_is_known(&changed));
}

/* An address pays for what it did itself, on whatever host. */
static void test_own_failures(void **state)
{
    struct house *h = *state;
    struct portal_host *host = say(h, 1, "first"), *other = say(h, 2, "first");
    for (int i = 0; i < 6; i++) {
        struct tried t = tried_from(h, host, "198.51.100.7", NULL);
        tries_failed(h->tries, &t);
    }
    struct tried t = tried_from(h, other, "198.51.100.7", NULL);
    assert_true(tries_own_wait_ms(h->tries, &t) > 0);
    tries_succeeded(h->tries, &t);
    assert_int_equal(tries_own_wait_ms(h->tries, &t), 0);
}

/* ------------------------------------------------------------ many of one name */

struct answer {
    struct house *house;
    int result; /* -1: none yet */
    char token[LOGIN_TOKEN_TEXT_LEN];
};

static void on_login(void *ctx, enum login_result result, const char *token)
{
    struct answer *a = ctx;
    a->result = (int)result;
    (void)snprintf(a->token, sizeof(a->token), "%s", token);
    loop_stop(a->house->rooms.loop);
}

static int log_in(struct house *h, const char *name, const char *password,
                  const char *from, struct answer *a)
{
    struct login_from at = {.address = address(from)};
    uint64_t wait_ms;
    *a = (struct answer){.house = h, .result = -1};
    if (login_begin(h->passwords, name, password, &at, on_login, a, &wait_ms) != 0)
        return LOGIN_WAIT;
    loop_run(h->rooms.loop);
    return a->result;
}

static void make_hash(char hash[static crypto_pwhash_STRBYTES], const char *password)
{
    assert_int_equal(crypto_pwhash_str(hash, password, strlen(password),
                                       crypto_pwhash_OPSLIMIT_MIN,
                                       crypto_pwhash_MEMLIMIT_MIN),
                     0);
}

/* Which host of those that called themselves so the login opens. */
static bool opens(struct house *h, const struct answer *a, const struct portal_host *to)
{
    struct login *l = login_by_cookie(h->rooms.logins, a->token);
    return l != NULL && login_may(l, to, 0);
}

/* Hosts of other people that came first have accounts of the owner's name. */
static void test_hosts_of_that_name_lock_nobody_out(void **state)
{
    struct house *h = *state;
    struct answer a;
    char theirs[crypto_pwhash_STRBYTES], own[crypto_pwhash_STRBYTES], from[32];
    make_hash(theirs, "theirs");
    make_hash(own, "own");
    for (unsigned i = 0; i < 300; i++) { /* 30 of a /16, in ten of these */
        (void)snprintf(from, sizeof(from), "10.%u.%u.1", i % 10, i / 10);
        say_at(h, i, from, theirs);
    }
    struct portal_host *home = say_at(h, 1000, "192.0.2.1", own);
    for (unsigned i = 0; i < 12; i++) { /* also the twelfth time, from one address */
        assert_int_equal(log_in(h, "alice", "own", "198.51.100.1", &a), LOGIN_OK);
        assert_true(opens(h, &a, home));
    }
    assert_int_equal(log_in(h, "alice", "own", "203.0.113.1", &a), LOGIN_OK);
    assert_int_equal(log_in(h, "alice@host1000", "own", "203.0.113.2", &a), LOGIN_OK);
    /* A host says where it is; all others of the same block came before. */
    struct portal_host *last = say_at(h, 1001, "10.3.29.1", own);
    char name[64 + KEY_TEXT_LEN], key[KEY_TEXT_LEN];
    (void)snprintf(name, sizeof(name), "alice@%.16s", key_format(last->key, key));
    assert_int_equal(log_in(h, name, "own", "203.0.113.3", &a), LOGIN_OK);
    assert_true(opens(h, &a, last));
    assert_false(opens(h, &a, home));
    name[strlen(name) - 1] = '\0'; /* shorter than anybody may choose */
    assert_int_equal(log_in(h, name, "own", "203.0.113.4", &a), LOGIN_WRONG);
}

/* They are all tried before a password is wrong. */
static void test_a_wrong_password_is_wrong_everywhere(void **state)
{
    struct house *h = *state;
    struct answer a;
    char own[crypto_pwhash_STRBYTES];
    make_hash(own, "own");
    for (unsigned i = 0; i < 20; i++)
        say_at(h, i, "10.0.0.1", own);
    assert_int_equal(log_in(h, "alice", "wrong", "198.51.100.1", &a), LOGIN_WRONG);
    /* It was one failure of that address, and three are free. */
    assert_int_equal(log_in(h, "nobody", "wrong", "198.51.100.1", &a), LOGIN_WRONG);
    assert_int_equal(log_in(h, "nobody", "wrong", "198.51.100.1", &a), LOGIN_WRONG);
}

/* When no more hosts fit, who is away goes, then one of the most crowded block. */
static void test_a_crowd_of_hosts_makes_way(void **state)
{
    struct house *h = *state;
    char from[32];
    for (unsigned i = 0; i < 4096; i++) {
        (void)snprintf(from, sizeof(from), "10.%u.%u.1", i % 2, i / 2 % 250);
        assert_non_null(say_at(h, i, from, "theirs"));
    }
    assert_null(say_at(h, 5000, "10.0.0.1", "theirs"));
    const struct portal_host *home = say_at(h, 5001, "192.0.2.1", "own");
    assert_non_null(home);
    const uint8_t gone[KEY_LEN] = {7};
    hosts_on_gone(h->rooms.hosts, gone);
    assert_non_null(say_at(h, 5002, "10.0.0.1", "theirs"));
    assert_null(host_by_key(h->rooms.hosts, gone));
    assert_ptr_equal(host_by_key(h->rooms.hosts, home->key), home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lists_end_logins, begin, end),
        cmocka_unit_test_setup_teardown(test_logins_outlive_the_broker, begin, end),
        cmocka_unit_test_setup_teardown(test_login_moves, begin, end),
        cmocka_unit_test_setup_teardown(test_strangers_delay_strangers, begin, end),
        cmocka_unit_test_setup_teardown(test_own_failures, begin, end),
        cmocka_unit_test_setup_teardown(test_hosts_of_that_name_lock_nobody_out, begin,
                                        end),
        cmocka_unit_test_setup_teardown(test_a_wrong_password_is_wrong_everywhere,
                                        begin, end),
        cmocka_unit_test_setup_teardown(test_a_crowd_of_hosts_makes_way, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

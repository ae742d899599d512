/*
 * Who encrypts a session's packets: two ends of which one has the engine and the other
 * GnuTLS alone understand one another, through changes of keys, and no key is left.
 */
#include "session_fixture.h"

#include "session/gcm.h"

enum { CHANGES = 6 };

static unsigned sealed, opened, keys, keys_made;

void __real_gcm_seal(struct gcm_key *k, uint8_t *dest, const uint8_t *plain, size_t len,
                     const uint8_t *nonce, const uint8_t *ad, size_t ad_len);
void __wrap_gcm_seal(struct gcm_key *k, uint8_t *dest, const uint8_t *plain, size_t len,
                     const uint8_t *nonce, const uint8_t *ad, size_t ad_len);
int __real_gcm_open(struct gcm_key *k, uint8_t *dest, const uint8_t *in, size_t len,
                    const uint8_t *nonce, const uint8_t *ad, size_t ad_len);
int __wrap_gcm_open(struct gcm_key *k, uint8_t *dest, const uint8_t *in, size_t len,
                    const uint8_t *nonce, const uint8_t *ad, size_t ad_len);
struct gcm_key *__real_gcm_key_new(const struct gcm_engine *e, const uint8_t *key);
struct gcm_key *__wrap_gcm_key_new(const struct gcm_engine *e, const uint8_t *key);
void __real_gcm_key_free(struct gcm_key *k);
void __wrap_gcm_key_free(struct gcm_key *k);

void __wrap_gcm_seal(struct gcm_key *k, uint8_t *dest, const uint8_t *plain, size_t len,
                     const uint8_t *nonce, const uint8_t *ad, size_t ad_len)
{
    sealed++;
    __real_gcm_seal(k, dest, plain, len, nonce, ad, ad_len);
}

int __wrap_gcm_open(struct gcm_key *k, uint8_t *dest, const uint8_t *in, size_t len,
                    const uint8_t *nonce, const uint8_t *ad, size_t ad_len)
{
    opened++;
    return __real_gcm_open(k, dest, in, len, nonce, ad, ad_len);
}

struct gcm_key *__wrap_gcm_key_new(const struct gcm_engine *e, const uint8_t *key)
{
    keys++;
    keys_made++;
    return __real_gcm_key_new(e, key);
}

void __wrap_gcm_key_free(struct gcm_key *k)
{
    keys -= k != NULL;
    __real_gcm_key_free(k);
}

/* So that side encrypts with GnuTLS, as where there is no engine. */
static void without_engine(struct side *s)
{
    gcm_engine_free(s->env.gcm);
    s->env.gcm = NULL;
}

/* A byte there and back. */
static void exchange(struct world *w)
{
    const uint8_t byte = (uint8_t)next_random(w);
    uint64_t goal = w->client.got + 1;
    crypto_generichash_update(&w->sent_hash, &byte, 1);
    assert_int_equal(stream_write(w->client.stream, &byte, 1), 0);
    RUN_UNTIL(w, w->client.got >= goal);
}

/* New keys by this side, and not by both at once: QUIC refuses them until the ones
 * before are used by both, and for three probe timeouts. */
static void renew(struct world *w, struct side *s)
{
    RUN_UNTIL(w, ngtcp2_conn_initiate_key_update(s->session->conn, clock_ns()) == 0);
    exchange(w);
}

/* An echo of 3 MiB after new keys by one side and the other. */
static void echo_with_new_keys(struct world *w)
{
    open_stream(w);
    exchange(w);
    for (unsigned i = 0; i < CHANGES; i++)
        renew(w, i % 2 == 0 ? &w->client : &w->server);
    w->to_send = TOTAL - w->client.got;
    feed(&w->client);
    assert_whole(w);
}

/* `ends` of the two have the engine; with none of them nothing of it is called. */
static void try_ends(unsigned loss, bool client, bool server)
{
    struct world *w = world_new(loss, 7);
    unsigned ends = (client ? 1u : 0) + (server ? 1u : 0);
    sealed = opened = keys_made = 0;
    if (!client)
        without_engine(&w->client);
    if (!server)
        without_engine(&w->server);
    echo_with_new_keys(w);
    assert_int_equal(sealed > 0, ends > 0);
    assert_int_equal(opened > 0, ends > 0);
    /* two directions, and again with each change */
    assert_true(keys_made >= ends * 2 * (1 + CHANGES));
    assert_int_equal(keys > 0, ends > 0);
    world_free(w);
    assert_int_equal(keys, 0);
}

static bool have_engine(void)
{
    struct gcm_engine *e = gcm_engine_new();
    gcm_engine_free(e);
    return e != NULL;
}

static void test_both_ends_have_it(void **state)
{
    (void)state;
    if (!have_engine())
        skip();
    try_ends(0, true, true);
    try_ends(20, true, true);
}

static void test_one_end_has_it(void **state)
{
    (void)state;
    if (!have_engine())
        skip();
    try_ends(0, true, false);
    try_ends(0, false, true);
}

static void test_neither_has_it(void **state)
{
    (void)state;
    try_ends(0, false, false);
}

/* 3 MiB there and back; how many keys that took. */
static unsigned keys_of_transfer(uint64_t client_packets, uint64_t server_packets)
{
    struct world *w = world_new(20, 7);
    keys_made = 0;
    w->client.env.key_packets = client_packets;
    w->server.env.key_packets = server_packets;
    open_stream(w);
    w->to_send = TOTAL;
    feed(&w->client);
    assert_whole(w);
    world_free(w);
    assert_int_equal(keys, 0);
    return keys_made;
}

/* Of themselves, and the host never: ngtcp2 bears no two beginnings at once. */
static void test_the_client_alone_begins_new_keys(void **state)
{
    (void)state;
    if (!have_engine())
        skip();
    unsigned first = 2 * 2 * 2; /* both ways at both ends; the next ones lie ready */
    assert_int_equal(keys_of_transfer(SESSION_KEY_PACKETS, 100), first);
    assert_true(keys_of_transfer(500, 100) > first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ends_have_it),
        cmocka_unit_test(test_one_end_has_it),
        cmocka_unit_test(test_neither_has_it),
        cmocka_unit_test(test_the_client_alone_begins_new_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

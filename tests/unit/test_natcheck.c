/* RFC 5780's tests against a model of every NAT behaviour of RFC 4787. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/natcheck.h"

enum { RTT_US = 30000, MAX_SENT_TO = 64 };

struct model {
    enum nat_mapping mapping;
    enum nat_filtering filtering;
    bool preserve, blocked, second_address, second_port, hairpin;
    unsigned drop;       /* so many answers are lost */
    unsigned forgets_at; /* with that request for a mapping, whose answer is lost */
    unsigned mapped_count, forgotten;
    struct addr local[2], primary, other;
    struct addr sent_to[2][MAX_SENT_TO];
    unsigned sent_count[2], requests;
};

static struct addr A(const char *text) {
    struct addr a;
    assert_int_equal(addr_parse(&a, text), 0);
    return a;
}

/* The mapped address of socket `s` towards `to`. */
static struct addr
map(const struct model *m, int s, const struct addr *to)
{
    struct addr a = m->local[s];
    if (m->mapping == NAT_MAPPING_NONE)
        return a;
    uint16_t port = a.port;
    a = A("198.51.100.9:1");
    a.port = m->preserve ? port : (uint16_t)(port + 1000);
    if (s == NATCHECK_MAPPING) /* what it does to the other is not looked at here */
        a.port = (uint16_t)(a.port + m->forgotten * 100);
    if (m->mapping >= NAT_MAPPING_ADDRESS_DEPENDENT)
        a.port = (uint16_t)(a.port + to->ip[3] * 8);
    if (m->mapping == NAT_MAPPING_ADDRESS_PORT_DEPENDENT)
        a.port = (uint16_t)(a.port + to->port % 8);
    return a;
}

static bool lets_in(const struct model *m, int s, const struct addr *from)
{
    for (unsigned i = 0; i < m->sent_count[s]; i++) {
        const struct addr *to = &m->sent_to[s][i];
        if (m->filtering == NAT_FILTERING_ENDPOINT_INDEPENDENT ||
            addr_equal(to, from) ||
            (m->filtering == NAT_FILTERING_ADDRESS_DEPENDENT &&
             addr_ip_equal(to, from)))
            return true;
    }
    return false;
}

static void serve(struct model *m, struct natcheck *n, const struct natcheck_request *q,
                  uint64_t now)
{
    m->requests++;
    assert_true(m->sent_count[q->sock] < MAX_SENT_TO);
    m->sent_to[q->sock][m->sent_count[q->sock]++] = q->to;
    struct addr mapped_f = map(m, NATCHECK_FILTERING, &m->primary);
    if (addr_equal(&q->to, &mapped_f)) {
        if (m->hairpin)
            assert_true(natcheck_on_hairpin(n, q->txid));
        return;
    }
    struct addr from = q->to;
    if (q->change_ip)
        memcpy(from.ip, m->other.ip, sizeof(from.ip));
    if (q->change_port)
        from.port = m->other.port;
    if (m->blocked || !lets_in(m, q->sock, &from))
        return;
    if (m->drop > 0) {
        m->drop--;
        return;
    }
    if (q->sock == NATCHECK_MAPPING && ++m->mapped_count == m->forgets_at) {
        m->forgotten++;
        return;
    }
    struct addr mapped = map(m, q->sock, &q->to);
    bool told = m->second_address || m->second_port;
    assert_false(natcheck_on_response(n, !q->sock, q->txid, &mapped, NULL, now));
    assert_true(natcheck_on_response(n, q->sock, q->txid, &mapped,
                                     told ? &m->other : NULL, now + RTT_US));
    assert_false(natcheck_on_response(n, q->sock, q->txid, &mapped, NULL, now));
}

static const struct natcheck_result *run(struct model *m, struct natcheck *n)
{
    m->local[0] = A("192.168.1.2:4001");
    m->local[1] = A("192.168.1.2:4002");
    m->primary = A("203.0.113.1:3478");
    m->other = m->second_address ? A("203.0.113.2:3478") : A("203.0.113.1:3478");
    if (m->second_port)
        m->other.port = 3479;
    struct natcheck_config c = {.server = m->primary,
                                .local = {m->local[0], m->local[1]},
                                .test_hairpin = true,
                                .rtt_hint_us = RTT_US};
    struct natcheck_request q;
    uint64_t now = 1000;
    natcheck_init(n, &c, now);
    for (int step = 0; !natcheck_done(n); step++) {
        assert_true(step < 100);
        while (natcheck_next(n, now, &q))
            serve(m, n, &q, now);
        uint64_t at = natcheck_deadline_us(n);
        assert_true(natcheck_done(n) || (at > now && at != UINT64_MAX));
        now = natcheck_done(n) ? now : at;
    }
    assert_true(now < 15000000);
    char words[NATCHECK_WORDS_LEN];
    assert_true(strlen(natcheck_words(natcheck_result(n), words)) > 10);
    assert_true(strlen(words) < NATCHECK_WORDS_LEN - 1);
    return natcheck_result(n);
}

/* A router that begins anew in the midst of it is no symmetric NAT. */
static void test_forgetful(void **state)
{
    (void)state;
    for (int map_kind = NAT_MAPPING_ENDPOINT_INDEPENDENT;
         map_kind <= NAT_MAPPING_ADDRESS_PORT_DEPENDENT; map_kind++)
        for (unsigned at = 1; at <= 4; at++) {
            struct model m = {.mapping = (enum nat_mapping)map_kind,
                              .filtering = NAT_FILTERING_ENDPOINT_INDEPENDENT,
                              .second_address = true,
                              .second_port = true,
                              .forgets_at = at};
            struct natcheck n;
            const struct natcheck_result *r = run(&m, &n);
            assert_int_equal(r->mapping, map_kind);
        }
}

static void test_all_behaviours(void **state)
{
    (void)state;
    for (int map_kind = NAT_MAPPING_NONE;
         map_kind <= NAT_MAPPING_ADDRESS_PORT_DEPENDENT; map_kind++)
        for (int filter = NAT_FILTERING_ENDPOINT_INDEPENDENT;
             filter <= NAT_FILTERING_ADDRESS_PORT_DEPENDENT; filter++)
            for (unsigned drop = 0; drop < 4; drop++) {
                struct model m = {.mapping = (enum nat_mapping)map_kind,
                                  .filtering = (enum nat_filtering)filter,
                                  .second_address = true,
                                  .second_port = true,
                                  .drop = drop,
                                  .hairpin = drop % 2};
                struct natcheck n;
                const struct natcheck_result *r = run(&m, &n);
                assert_int_equal(r->mapping, map_kind);
                assert_int_equal(r->filtering, filter);
                assert_int_equal(r->udp, NATCHECK_YES);
                assert_int_equal(r->hairpin, m.hairpin ? NATCHECK_YES : NATCHECK_NO);
                if (drop == 0)
                    assert_int_equal(r->rtt_us, RTT_US);
            }
}

static void test_second_port_only(void **state)
{
    (void)state;
    for (int map_kind = NAT_MAPPING_NONE;
         map_kind <= NAT_MAPPING_ADDRESS_PORT_DEPENDENT; map_kind++)
        for (int filter = NAT_FILTERING_ENDPOINT_INDEPENDENT;
             filter <= NAT_FILTERING_ADDRESS_PORT_DEPENDENT; filter++) {
            struct model m = {.mapping = (enum nat_mapping)map_kind,
                              .filtering = (enum nat_filtering)filter,
                              .second_port = true};
            struct natcheck n;
            const struct natcheck_result *r = run(&m, &n);
            bool worst = map_kind == NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
            bool none = map_kind == NAT_MAPPING_NONE;
            assert_int_equal(r->mapping,
                             worst || none ? map_kind : NAT_MAPPING_UNKNOWN);
            assert_int_equal(r->mapping_not_port_dependent, !worst && !none);
            bool by_port = filter == NAT_FILTERING_ADDRESS_PORT_DEPENDENT;
            assert_int_equal(r->filtering, by_port ? filter : NAT_FILTERING_UNKNOWN);
            assert_int_equal(r->filtering_not_port_dependent, !by_port);
            assert_false(r->server_limited);
        }
}

static void test_plain_server(void **state)
{
    (void)state;
    struct model m = {.mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT, .preserve = true};
    struct natcheck n;
    m.filtering = NAT_FILTERING_ADDRESS_DEPENDENT;
    const struct natcheck_result *r = run(&m, &n);
    assert_int_equal(r->udp, NATCHECK_YES);
    assert_true(r->server_limited);
    assert_int_equal(r->mapping, NAT_MAPPING_UNKNOWN);
    assert_int_equal(r->filtering, NAT_FILTERING_UNKNOWN);
    assert_int_equal(r->port_preserved, NATCHECK_YES);
    assert_int_equal(r->mapped[0].port, 4001);
}

static void test_blocked(void **state)
{
    (void)state;
    struct model m = {.mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT, .blocked = true};
    struct natcheck n;
    char words[NATCHECK_WORDS_LEN];
    const struct natcheck_result *r = run(&m, &n);
    assert_int_equal(r->udp, NATCHECK_NO);
    assert_int_equal(r->mapping, NAT_MAPPING_UNKNOWN);
    assert_int_equal(r->port_preserved, NATCHECK_UNKNOWN);
    assert_int_equal(m.requests, 2 * NATCHECK_MAX_SENDS);
    assert_non_null(strstr(natcheck_words(r, words), "no UDP comes back"));
    assert_non_null(strstr(words, "over TCP may work, direct ones too"));
    assert_int_equal(natcheck_deadline_us(&n), UINT64_MAX);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(nat_mapping_name(NAT_MAPPING_NONE), "none");
    assert_string_equal(nat_mapping_name((enum nat_mapping)77), "unknown");
    assert_string_equal(nat_filtering_name(NAT_FILTERING_ADDRESS_PORT_DEPENDENT),
                        "address-and-port-dependent");
    assert_string_equal(nat_filtering_name((enum nat_filtering)77), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_behaviours),   cmocka_unit_test(test_forgetful),
        cmocka_unit_test(test_second_port_only), cmocka_unit_test(test_plain_server),
        cmocka_unit_test(test_blocked),          cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

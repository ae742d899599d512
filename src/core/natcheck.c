/*
 * The tests of RFC 5780 as a table of small exchanges, and what their outcomes mean.
 * Each test is a request with retransmissions; which may begin when stands in ready().
 */
#include "core/natcheck.h"

#include <stdio.h>
#include <string.h>

#include "core/key.h"

enum { IDLE, ASKING, ANSWERED, SILENT, SKIPPED };

static void draw_txid(struct natcheck *n, unsigned test, char what)
{
    uint8_t hash[32], label[2] = {(uint8_t)what, (uint8_t)test};
    key_hash(hash, label, sizeof(label), n->config.seed, sizeof(n->config.seed));
    memcpy(n->tests[test].txid, hash, NATCHECK_TXID_LEN);
}

void natcheck_init(struct natcheck *n, const struct natcheck_config *c, uint64_t now_us)
{
    memset(n, 0, sizeof(*n));
    n->config = *c;
    for (unsigned t = 0; t < NATCHECK_TEST_COUNT; t++) {
        draw_txid(n, t, 'n');
        n->tests[t].due_us = now_us;
    }
    if (!c->test_hairpin)
        n->tests[NATCHECK_TEST_HAIRPIN].state = SKIPPED;
}

static enum natcheck_socket socket_of(unsigned test)
{
    switch ((enum natcheck_test)test) {
    case NATCHECK_TEST_PRIMARY_F:
    case NATCHECK_TEST_CHANGE_ALL:
    case NATCHECK_TEST_CHANGE_PORT:
        return NATCHECK_FILTERING;
    default:
        return NATCHECK_MAPPING;
    }
}

static bool over(const struct natcheck *n, unsigned test)
{
    return n->tests[test].state >= ANSWERED;
}

static bool answered(const struct natcheck *n, unsigned test)
{
    return n->tests[test].state == ANSWERED;
}

static bool same_mapping(const struct natcheck *n, unsigned a, unsigned b)
{
    return addr_equal(&n->tests[a].mapped, &n->tests[b].mapped);
}

static bool has_second_address(const struct natcheck *n)
{
    return n->other.family == n->config.server.family &&
           !addr_ip_equal(&n->other, &n->config.server);
}

static bool has_second_port(const struct natcheck *n)
{
    return n->other.family == n->config.server.family &&
           n->other.port != n->config.server.port;
}

static void skip(struct natcheck *n, unsigned test)
{
    if (n->tests[test].state == IDLE)
        n->tests[test].state = SKIPPED;
}

/* Ends tests whose question has no meaning after what is known. */
static void skip_pointless(struct natcheck *n)
{
    bool f_over = over(n, NATCHECK_TEST_PRIMARY_F);
    bool m_over = over(n, NATCHECK_TEST_PRIMARY_M);
    if (f_over && (!answered(n, NATCHECK_TEST_PRIMARY_F) || !has_second_address(n)))
        skip(n, NATCHECK_TEST_CHANGE_ALL);
    if (f_over && (!answered(n, NATCHECK_TEST_PRIMARY_F) || !has_second_port(n) ||
                   answered(n, NATCHECK_TEST_CHANGE_ALL)))
        skip(n, NATCHECK_TEST_CHANGE_PORT);
    if (m_over && (!answered(n, NATCHECK_TEST_PRIMARY_M) || !has_second_address(n)))
        skip(n, NATCHECK_TEST_OTHER_IP);
    bool independent = answered(n, NATCHECK_TEST_OTHER_IP) &&
                       same_mapping(n, NATCHECK_TEST_PRIMARY_M, NATCHECK_TEST_OTHER_IP);
    if (m_over && (!answered(n, NATCHECK_TEST_PRIMARY_M) || !has_second_port(n) ||
                   independent || n->tests[NATCHECK_TEST_OTHER_IP].state == SILENT))
        skip(n, NATCHECK_TEST_OTHER_BOTH);
    if (f_over && !answered(n, NATCHECK_TEST_PRIMARY_F))
        skip(n, NATCHECK_TEST_HAIRPIN);
}

/* Whether a test may begin; each waits for what its request is made of. */
static bool ready(const struct natcheck *n, unsigned test)
{
    switch ((enum natcheck_test)test) {
    case NATCHECK_TEST_PRIMARY_F:
    case NATCHECK_TEST_PRIMARY_M:
        return true;
    case NATCHECK_TEST_CHANGE_ALL:
        return answered(n, NATCHECK_TEST_PRIMARY_F);
    case NATCHECK_TEST_CHANGE_PORT:
        return over(n, NATCHECK_TEST_CHANGE_ALL);
    case NATCHECK_TEST_OTHER_IP:
        return answered(n, NATCHECK_TEST_PRIMARY_M);
    case NATCHECK_TEST_OTHER_BOTH:
        return over(n, NATCHECK_TEST_OTHER_IP);
    case NATCHECK_TEST_HAIRPIN: /* it opens the filter, so it comes after its tests */
        return over(n, NATCHECK_TEST_CHANGE_ALL) &&
               over(n, NATCHECK_TEST_CHANGE_PORT) &&
               answered(n, NATCHECK_TEST_PRIMARY_F);
    case NATCHECK_TEST_COUNT:
        break;
    }
    return false;
}

static struct addr destination(const struct natcheck *n, unsigned test)
{
    struct addr to = n->config.server;
    if (test == NATCHECK_TEST_OTHER_IP || test == NATCHECK_TEST_OTHER_BOTH) {
        to = n->other;
        if (test == NATCHECK_TEST_OTHER_IP)
            to.port = n->config.server.port;
    } else if (test == NATCHECK_TEST_HAIRPIN) {
        to = n->tests[NATCHECK_TEST_PRIMARY_F].mapped;
    }
    return to;
}

static uint64_t rto_us(const struct natcheck *n)
{
    uint64_t first = n->config.rtt_hint_us * 2ull;
    if (n->result.rtt_us * 2ull > first)
        first = n->result.rtt_us * 2ull;
    return first > NATCHECK_RTO_US ? first : NATCHECK_RTO_US;
}

/* --------------------------------------------------------------------- conclusions */

static void conclude_mapping(struct natcheck *n)
{
    struct natcheck_result *r = &n->result;
    const struct addr *local = &n->config.local[NATCHECK_MAPPING];
    if (!answered(n, NATCHECK_TEST_PRIMARY_M))
        return;
    if (local->port != 0 && addr_equal(local, &r->mapped[NATCHECK_MAPPING])) {
        r->mapping = NAT_MAPPING_NONE;
        return;
    }
    bool both = answered(n, NATCHECK_TEST_OTHER_BOTH);
    if (!has_second_address(n)) {
        bool same =
            both && same_mapping(n, NATCHECK_TEST_PRIMARY_M, NATCHECK_TEST_OTHER_BOTH);
        r->mapping_not_port_dependent = same;
        if (both && !same)
            r->mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
        return;
    }
    if (!answered(n, NATCHECK_TEST_OTHER_IP))
        return;
    if (same_mapping(n, NATCHECK_TEST_PRIMARY_M, NATCHECK_TEST_OTHER_IP))
        r->mapping = NAT_MAPPING_ENDPOINT_INDEPENDENT;
    else if (both && same_mapping(n, NATCHECK_TEST_OTHER_IP, NATCHECK_TEST_OTHER_BOTH))
        r->mapping = NAT_MAPPING_ADDRESS_DEPENDENT;
    else if (both)
        r->mapping = NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
}

static void conclude_filtering(struct natcheck *n)
{
    struct natcheck_result *r = &n->result;
    bool port_over = n->tests[NATCHECK_TEST_CHANGE_PORT].state == SILENT;
    if (answered(n, NATCHECK_TEST_CHANGE_ALL))
        r->filtering = NAT_FILTERING_ENDPOINT_INDEPENDENT;
    else if (port_over)
        r->filtering = NAT_FILTERING_ADDRESS_PORT_DEPENDENT;
    else if (answered(n, NATCHECK_TEST_CHANGE_PORT) && has_second_address(n))
        r->filtering = NAT_FILTERING_ADDRESS_DEPENDENT;
    else if (answered(n, NATCHECK_TEST_CHANGE_PORT))
        r->filtering_not_port_dependent = true;
}

static void conclude(struct natcheck *n)
{
    struct natcheck_result *r = &n->result;
    bool any =
        answered(n, NATCHECK_TEST_PRIMARY_F) || answered(n, NATCHECK_TEST_PRIMARY_M);
    if (any)
        r->udp = NATCHECK_YES;
    else if (over(n, NATCHECK_TEST_PRIMARY_F) && over(n, NATCHECK_TEST_PRIMARY_M))
        r->udp = NATCHECK_NO;
    r->server_limited = any && !has_second_port(n) && !has_second_address(n);
    r->port_preserved = NATCHECK_UNKNOWN;
    for (unsigned s = 0; s < 2; s++) {
        if (r->mapped[s].port == 0 || n->config.local[s].port == 0)
            continue;
        bool same = r->mapped[s].port == n->config.local[s].port;
        if (!same || r->port_preserved == NATCHECK_UNKNOWN)
            r->port_preserved = same ? NATCHECK_YES : NATCHECK_NO;
    }
    conclude_mapping(n);
    conclude_filtering(n);
    if (n->tests[NATCHECK_TEST_HAIRPIN].state == ANSWERED)
        r->hairpin = NATCHECK_YES;
    else if (n->tests[NATCHECK_TEST_HAIRPIN].state == SILENT)
        r->hairpin = NATCHECK_NO;
}

/* ------------------------------------------------------------------------ movement */

static void send_test(struct natcheck *n, unsigned test, uint64_t now_us,
                      struct natcheck_request *out)
{
    if (n->tests[test].state == IDLE) {
        n->tests[test].state = ASKING;
        n->tests[test].to = destination(n, test);
    }
    *out = (struct natcheck_request){
        .sock = socket_of(test),
        .to = n->tests[test].to,
        .change_ip = test == NATCHECK_TEST_CHANGE_ALL,
        .change_port =
            test == NATCHECK_TEST_CHANGE_ALL || test == NATCHECK_TEST_CHANGE_PORT,
    };
    memcpy(out->txid, n->tests[test].txid, NATCHECK_TXID_LEN);
    n->tests[test].sent_us = now_us;
    n->tests[test].due_us = now_us + (rto_us(n) << n->tests[test].sends);
    n->tests[test].sends++;
}

bool natcheck_next(struct natcheck *n, uint64_t now_us, struct natcheck_request *out)
{
    for (unsigned t = 0; t < NATCHECK_TEST_COUNT; t++) {
        skip_pointless(n);
        if (n->tests[t].state == IDLE && ready(n, t)) {
            send_test(n, t, now_us, out);
            return true;
        }
        if (n->tests[t].state != ASKING || now_us < n->tests[t].due_us)
            continue;
        if (n->tests[t].sends < NATCHECK_MAX_SENDS) {
            send_test(n, t, now_us, out);
            return true;
        }
        n->tests[t].state = SILENT;
    }
    skip_pointless(n);
    conclude(n);
    return false;
}

/*
 * Another port than before, in an answer that had to be asked for again: perhaps the
 * NAT forgot everything in between. What answered before is asked once more, and tells.
 */
static void ask_again(struct natcheck *n, unsigned late, uint64_t now_us)
{
    static const unsigned mapping[] = {NATCHECK_TEST_PRIMARY_M, NATCHECK_TEST_OTHER_IP,
                                       NATCHECK_TEST_OTHER_BOTH};
    if (n->asked_again || socket_of(late) != NATCHECK_MAPPING ||
        n->tests[late].sends < 2 || !answered(n, NATCHECK_TEST_PRIMARY_M) ||
        same_mapping(n, NATCHECK_TEST_PRIMARY_M, late))
        return;
    n->asked_again = true;
    for (unsigned i = 0; i < sizeof(mapping) / sizeof(mapping[0]); i++) {
        unsigned t = mapping[i];
        if (t == late || !answered(n, t))
            continue;
        n->tests[t].state = IDLE;
        n->tests[t].sends = 0;
        n->tests[t].due_us = now_us;
        draw_txid(n, t, 'a'); /* not the old answer, doubled */
    }
}

bool natcheck_on_response(struct natcheck *n, enum natcheck_socket sock,
                          const uint8_t txid[static NATCHECK_TXID_LEN],
                          const struct addr *mapped, const struct addr *other,
                          uint64_t now_us)
{
    for (unsigned t = 0; t < NATCHECK_TEST_HAIRPIN; t++) {
        if (n->tests[t].state != ASKING || socket_of(t) != sock ||
            memcmp(txid, n->tests[t].txid, NATCHECK_TXID_LEN) != 0)
            continue;
        uint64_t rtt = now_us > n->tests[t].sent_us ? now_us - n->tests[t].sent_us : 0;
        n->tests[t].state = ANSWERED;
        n->tests[t].mapped = *mapped;
        bool certain = n->tests[t].sends == 1 && rtt <= UINT32_MAX; /* Karn's rule */
        if (certain && (n->result.rtt_us == 0 || rtt < n->result.rtt_us))
            n->result.rtt_us = (uint32_t)rtt;
        if (t == NATCHECK_TEST_PRIMARY_F || t == NATCHECK_TEST_PRIMARY_M)
            n->result.mapped[sock] = *mapped;
        if (other != NULL && n->other.family == ADDR_NONE)
            n->other = *other;
        ask_again(n, t, now_us);
        skip_pointless(n);
        conclude(n);
        return true;
    }
    return false;
}

bool natcheck_on_hairpin(struct natcheck *n,
                         const uint8_t txid[static NATCHECK_TXID_LEN])
{
    if (n->tests[NATCHECK_TEST_HAIRPIN].state != ASKING ||
        memcmp(txid, n->tests[NATCHECK_TEST_HAIRPIN].txid, NATCHECK_TXID_LEN) != 0)
        return false;
    n->tests[NATCHECK_TEST_HAIRPIN].state = ANSWERED;
    conclude(n);
    return true;
}

bool natcheck_done(const struct natcheck *n)
{
    for (unsigned t = 0; t < NATCHECK_TEST_COUNT; t++)
        if (!over(n, t))
            return false;
    return true;
}

const struct natcheck_result *natcheck_result(const struct natcheck *n)
{
    return &n->result;
}

uint64_t natcheck_deadline_us(const struct natcheck *n)
{
    uint64_t at = UINT64_MAX;
    for (unsigned t = 0; t < NATCHECK_TEST_COUNT; t++) {
        uint64_t due = UINT64_MAX;
        if (n->tests[t].state == ASKING)
            due = n->tests[t].due_us;
        else if (n->tests[t].state == IDLE && ready(n, t))
            due = 0;
        at = due < at ? due : at;
    }
    return at;
}

/* --------------------------------------------------------------------------- words */

const char *nat_mapping_name(enum nat_mapping m)
{
    switch (m) {
    case NAT_MAPPING_UNKNOWN:
        return "unknown";
    case NAT_MAPPING_NONE:
        return "none";
    case NAT_MAPPING_ENDPOINT_INDEPENDENT:
        return "endpoint-independent";
    case NAT_MAPPING_ADDRESS_DEPENDENT:
        return "address-dependent";
    case NAT_MAPPING_ADDRESS_PORT_DEPENDENT:
        return "address-and-port-dependent";
    }
    return "unknown";
}

const char *nat_filtering_name(enum nat_filtering f)
{
    switch (f) {
    case NAT_FILTERING_UNKNOWN:
        return "unknown";
    case NAT_FILTERING_ENDPOINT_INDEPENDENT:
        return "endpoint-independent";
    case NAT_FILTERING_ADDRESS_DEPENDENT:
        return "address-dependent";
    case NAT_FILTERING_ADDRESS_PORT_DEPENDENT:
        return "address-and-port-dependent";
    }
    return "unknown";
}

static const char *mapping_words(const struct natcheck_result *r)
{
    switch (r->mapping) {
    case NAT_MAPPING_NONE:
        return "no address translation";
    case NAT_MAPPING_ENDPOINT_INDEPENDENT:
        return "a NAT that keeps one port for all destinations (good for direct paths)";
    case NAT_MAPPING_ADDRESS_DEPENDENT:
        return "a NAT that gives each destination address a new port (symmetric)";
    case NAT_MAPPING_ADDRESS_PORT_DEPENDENT:
        return "a NAT that gives each destination a new port (symmetric, hard for "
               "direct paths)";
    case NAT_MAPPING_UNKNOWN:
        break;
    }
    return r->mapping_not_port_dependent
               ? "a NAT that keeps its port for other ports of one server; whether "
                 "also "
                 "for other addresses could not be tested, as the broker has only one"
               : "whether a NAT keeps its port could not be tested";
}

static const char *filtering_words(const struct natcheck_result *r)
{
    switch (r->filtering) {
    case NAT_FILTERING_ENDPOINT_INDEPENDENT:
        return "packets from anyone get in";
    case NAT_FILTERING_ADDRESS_DEPENDENT:
        return "packets get in from addresses that were sent to";
    case NAT_FILTERING_ADDRESS_PORT_DEPENDENT:
        return "packets get in only from where something was sent to";
    case NAT_FILTERING_UNKNOWN:
        break;
    }
    return r->filtering_not_port_dependent
               ? "packets get in from other ports of one server, other addresses could "
                 "not be tested"
               : "what gets in could not be tested";
}

const char *natcheck_words(const struct natcheck_result *r,
                           char buf[static NATCHECK_WORDS_LEN])
{
    if (r->udp == NATCHECK_YES)
        (void)snprintf(buf, NATCHECK_WORDS_LEN, "UDP works; %s; %s", mapping_words(r),
                       filtering_words(r));
    else
        (void)snprintf(buf, NATCHECK_WORDS_LEN, "%s",
                       r->udp == NATCHECK_NO ? "no UDP comes back: the broker's STUN "
                                               "did not answer, so this network "
                                               "or the broker's blocks or loses UDP, "
                                               "or too many ask from its address; "
                                               "paths over TCP may work, direct "
                                               "ones too, or relayed"
                                             : "not tested yet");
    return buf;
}

/*
 * How long packets may be. QUIC's search for the path's own size (RFC 8899) sends what
 * nobody asked for: 3 packets each of 1,332, 1,452, 4,000 bytes and more. It goes on as
 * far as the data pays for it that was acknowledged on this path: it may cost one byte
 * of SHARE. And no packet may take longer than SEARCH_NS at the rate of the last
 * FLOW_NS, so that a slow line is spared it. What the application held down says
 * nothing of the line, and needs no larger packets either. A size that was tried in
 * vain is not tried again on that path for AGAIN_NS, whatever label QUIC knows it by.
 *
 * A stream path takes packets of any length, and a long one makes all that comes behind
 * it wait: there also data is put into none that takes longer than PACKET_NS.
 */
#include "session/internal.h"

enum {
    SHARE = 20,
    SEARCH_TRIES = 3, /* ngtcp2's */
    FLOW_NS = 200000000,
    PACKET_NS = 10000000,
    SEARCH_NS = 40000000, /* 1,332 bytes at 266 kbit/s */
};
static const uint64_t again_ns = 600 * 1000000000ull; /* RFC 8899 section 5.1.1 */

size_t size_of_quic(const struct session *s)
{
    return ngtcp2_conn_get_path_max_tx_udp_payload_size(s->conn);
}

static bool in_order(const struct session *s)
{
    return s->current != NULL && (s->current->stream || s->current->meagre);
}

static size_t min_size(size_t a, uint64_t b)
{
    return b < a ? (size_t)b : a;
}

/* The longest packet that the search may send now; 0 none. */
static size_t search_limit(const struct session *s)
{
    const struct path *p = s->current;
    const struct flow *f = &s->flow;
    uint64_t pays = (s->acked_bytes - f->begun_bytes) / SHARE;
    if (p == NULL || pays <= f->search_bytes)
        return 0;
    size_t max =
        min_size(SEARCH_NS / PACKET_NS * f->packet_max, pays - f->search_bytes);
    return p->too_long != 0 ? min_size(max, p->too_long - 1) : max;
}

size_t size_limit(const struct session *s)
{
    size_t max = s->packet_max, search = search_limit(s), known = size_of_quic(s);
    if (in_order(s))
        max = min_size(max, s->flow.packet_max);
    max = min_size(max, search > known ? search : known);
    return max > PROBE_LEN_BASE ? max : PROBE_LEN_BASE;
}

size_t size_of_packets(const struct session *s)
{
    return min_size(size_limit(s), size_of_quic(s));
}

void size_begin(struct session *s, uint64_t now_ns)
{
    s->flow = (struct flow){.since_ns = now_ns,
                            .acked_bytes = s->acked_bytes,
                            .begun_bytes = s->acked_bytes};
}

static void note_rate(struct session *s, uint64_t now_ns)
{
    struct flow *f = &s->flow;
    uint64_t span = now_ns - f->since_ns, ns = span > FLOW_NS ? span : FLOW_NS;
    uint64_t fits = (s->acked_bytes - f->acked_bytes) * PACKET_NS / ns;
    if (fits > f->packet_max || (s->pressure.waits && span >= FLOW_NS))
        f->packet_max = min_size(PACKET_MAX, fits);
    if (span < FLOW_NS)
        return;
    f->since_ns = now_ns;
    f->acked_bytes = s->acked_bytes;
}

void size_on_acked(struct session *s, uint64_t now_ns)
{
    struct path *p = s->current;
    note_rate(s, now_ns);
    if (p != NULL && p->too_long != 0 &&
        (p->too_long <= size_of_quic(s) || now_ns > p->too_long_ns + again_ns))
        size_forget(p);
}

void size_on_packet(struct session *s, size_t len, uint64_t now_ns)
{
    struct path *p = s->current;
    if (len <= size_of_quic(s))
        return; /* no probe of QUIC's */
    s->flow.search_bytes += len;
    p->search_tries = len == p->search_size ? p->search_tries + 1 : 1;
    p->search_size = len;
    if (p->search_tries < SEARCH_TRIES)
        return;
    p->search_tries = 0;
    p->too_long = len;
    p->too_long_ns = now_ns;
}

void size_forget(struct path *p)
{
    p->too_long = 0;
    p->search_tries = 0;
}

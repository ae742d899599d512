/* Early copies: offsets, times and one packet; neither streams nor paths. */
#include "core/copies.h"

#include <sodium.h>
#include <string.h>

#include "core/least.h"
#include "core/wire.h"

enum {
    AD_LEN = 5,
    HEAD_LEN = 16,
    TAG_LEN = 16,
    NONCE_LEN = 12,
    ROUND_COUNT = 4, /* packets in a round trip, of all streams */
    AGAIN_MAX = 2,   /* pauses double up to four times the least */
};
static const uint64_t offset_max = 1ull << 62; /* RFC 9000 section 16 */
static const uint64_t ack_delay_us = 25000;    /* RFC 9000 section 18.2 */
static const uint64_t rtt_min_us = 20000, rtt_max_us = 1000000;
static const uint64_t rate_min = 2000, rate_max = 32000; /* bytes a second */
static const uint64_t credit_max = 2000;

_Static_assert(COPY_LEN_MAX == AD_LEN + HEAD_LEN + COPY_DATA_MAX + TAG_LEN, "length");
_Static_assert(COPY_LEN_MIN == AD_LEN + HEAD_LEN + 1 + TAG_LEN, "length");

/* ------------------------------------------------------------------------ the packet
 */

static void nonce_of(uint8_t nonce[static NONCE_LEN], uint32_t number)
{
    struct wire_writer w = wire_writer(nonce, NONCE_LEN);
    wire_put_u64(&w, 0);
    wire_put_u32(&w, number);
}

size_t copy_seal(const struct copy *c, const uint8_t key[static COPY_KEY_LEN],
                 uint32_t number, uint8_t *buf)
{
    uint8_t plain[HEAD_LEN + COPY_DATA_MAX], nonce[NONCE_LEN];
    unsigned long long sealed_len = 0;
    struct wire_writer w = wire_writer(buf, AD_LEN);
    wire_put_u8(&w, COPY_FIRST_BYTE);
    wire_put_u32(&w, number);
    w = wire_writer(plain, sizeof(plain));
    wire_put_u64(&w, c->stream);
    wire_put_u64(&w, c->offset);
    wire_put_bytes(&w, c->data, c->len);
    nonce_of(nonce, number);
    (void)crypto_aead_chacha20poly1305_ietf_encrypt(
        buf + AD_LEN, &sealed_len, plain, w.used, buf, AD_LEN, NULL, nonce, key);
    return AD_LEN + (size_t)sealed_len;
}

int copy_open(struct copy *c, uint32_t *number, const uint8_t key[static COPY_KEY_LEN],
              const uint8_t *buf, size_t len)
{
    uint8_t plain[HEAD_LEN + COPY_DATA_MAX], nonce[NONCE_LEN];
    unsigned long long plain_len = 0;
    if (len < COPY_LEN_MIN || len > COPY_LEN_MAX || buf[0] != COPY_FIRST_BYTE)
        return POSTERN_ERR_PROTO;
    struct wire_reader r = wire_reader(buf + 1, AD_LEN - 1);
    uint32_t n = wire_get_u32(&r);
    nonce_of(nonce, n);
    if (n == 0 || crypto_aead_chacha20poly1305_ietf_decrypt(
                      plain, &plain_len, NULL, buf + AD_LEN, len - AD_LEN, buf, AD_LEN,
                      nonce, key) != 0)
        return POSTERN_ERR_PROTO;
    r = wire_reader(plain, (size_t)plain_len);
    uint64_t stream = wire_get_u64(&r), offset = wire_get_u64(&r);
    size_t data_len = r.left;
    const uint8_t *data = wire_get_bytes(&r, data_len);
    if (wire_end(&r) != 0 || data_len == 0 || stream >= offset_max ||
        offset >= offset_max)
        return POSTERN_ERR_PROTO;
    c->stream = stream;
    c->offset = offset;
    c->len = data_len;
    memcpy(c->data, data, data_len);
    *number = n;
    return 0;
}

/* ------------------------------------------------------------------ who gets copies */

size_t copies_on_quic(struct copies_in *in, uint64_t offset, size_t len, bool fin)
{
    uint64_t end = offset + len;
    uint64_t known =
        in->delivered > offset ? min64(in->delivered - offset, (uint64_t)len) : 0;
    in->carried = max64(in->carried, end);
    in->delivered = max64(in->delivered, end);
    in->over = in->over || fin;
    return (size_t)known;
}

size_t copies_on_copy(struct copies_in *in, uint64_t offset, size_t len)
{
    uint64_t end = offset + len;
    if (in->over || offset > in->delivered || end <= in->delivered ||
        end > in->carried + COPY_AHEAD_MAX)
        return len;
    uint64_t known = in->delivered - offset;
    in->delivered = end;
    return (size_t)known;
}

/* ---------------------------------------------------------------- who sends copies */

static uint64_t bounded_rtt(uint64_t rtt_us)
{
    return max64(min64(rtt_us, rtt_max_us), rtt_min_us);
}

void copies_on_trouble(struct copies_pace *p, uint64_t for_us, uint64_t now_us)
{
    p->until_us = max64(p->until_us, now_us + for_us);
}

/*
 * What QUIC has not taken is copied soon, what it has under way when an answer should
 * have come. The same again leaves in pauses that grow: it may have come over, which
 * only QUIC will say.
 */
uint64_t copies_due_us(struct copies_out *o, uint64_t start, uint64_t end, bool waits,
                       uint64_t left_us, uint64_t rtt_us, uint64_t now_us)
{
    uint64_t rtt = bounded_rtt(rtt_us);
    if (start >= end || end - start > COPY_DATA_MAX) {
        *o = (struct copies_out){0};
        return UINT64_MAX;
    }
    if (o->since_us == 0 || o->start != start) {
        o->since_us = now_us;
        o->start = start;
    }
    uint64_t from = left_us != 0 ? min64(left_us, o->since_us) : o->since_us;
    uint64_t due = from + rtt + rtt / 2 + ack_delay_us;
    if (waits)
        due = min64(due, o->since_us + rtt / 4);
    if (o->copied_us == 0)
        return due;
    uint64_t pause = o->copied_end == end ? rtt / 2 << o->again : rtt / 2;
    return max64(due, o->copied_us + pause);
}

void copies_on_path(struct copies_out *o)
{
    o->copied_us = o->copied_end = 0;
    o->again = 0;
}

void copies_on_sent(struct copies_out *o, uint64_t end, uint64_t now_us)
{
    if (o->copied_end != end)
        o->again = 0;
    else if (o->again < AGAIN_MAX)
        o->again++;
    o->copied_end = end;
    o->copied_us = now_us;
}

uint64_t copies_free_us(struct copies_pace *p, size_t len, uint64_t rate,
                        uint64_t rtt_us, uint64_t now_us)
{
    uint64_t rtt = bounded_rtt(rtt_us), most = credit_max * 1000000;
    uint64_t each = rate == 0 ? rate_max : max64(min64(rate / 10, rate_max), rate_min);
    uint64_t passed = min64(now_us - p->filled_us, rtt_max_us);
    p->credit = min64(p->credit + passed * each, most);
    p->filled_us = now_us;
    if (now_us - p->round_us >= rtt) {
        p->round_us = now_us;
        p->count = 0;
    }
    uint64_t need = (uint64_t)len * 1000000;
    if (p->count >= ROUND_COUNT)
        return p->round_us + rtt;
    return p->credit >= need ? now_us : now_us + (need - p->credit) / each + 1;
}

void copies_spend(struct copies_pace *p, size_t len)
{
    uint64_t spent = (uint64_t)len * 1000000;
    p->count++;
    p->credit -= min64(p->credit, spent);
}

/* One socket, two transaction ids. */
#include "path/canary.h"

#include <string.h>

#include <sodium.h>

static bool answers(const uint8_t *buf, size_t len,
                    const uint8_t txid[static STUN_TXID_LEN])
{
    struct stun_message m;
    return stun_parse(&m, buf, len) == 0 && stun_is_response_to(&m, txid);
}

static void on_packets(void *ctx, struct udp *s, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct canary *c = ctx;
    (void)s;
    if (addr_equal(from, &c->server) &&
        answers(buf, len < segment_len ? len : segment_len, c->own))
        c->answered(c->ctx);
}

static void on_writable(void *ctx, struct udp *s)
{
    (void)ctx, (void)s;
}

static const struct udp_events udp_events = {on_packets, on_writable};

void canary_init(struct canary *c, const struct addr *server,
                 const uint8_t proof[static STUN_MARK_LEN], void (*answered)(void *ctx),
                 void *ctx)
{
    *c = (struct canary){.server = *server, .answered = answered, .ctx = ctx};
    memcpy(c->proof, proof, STUN_MARK_LEN);
}

size_t canary_send(struct canary *c, struct net *net,
                   uint8_t beside[static STUN_MESSAGE_MAX])
{
    uint8_t buf[STUN_MESSAGE_MAX];
    struct addr any = {.family = ADDR_V4};
    if (c->socket == NULL) {
        randombytes_buf(c->own, sizeof(c->own));
        randombytes_buf(c->beside, sizeof(c->beside));
        if (udp_open(&c->socket, net->loop, &any, net->scratch, &udp_events, c) != 0) {
            c->socket = NULL;
            return 0;
        }
        udp_leave_count(c->socket, true);
    }
    int n = stun_build_marked_request(buf, sizeof(buf), c->own, c->proof);
    if (n > 0)
        (void)!udp_send(c->socket, &c->server, buf, (size_t)n, (size_t)n);
    n = stun_build_marked_request(beside, STUN_MESSAGE_MAX, c->beside, c->proof);
    return n > 0 ? (size_t)n : 0;
}

bool canary_is_beside(const struct canary *c, const uint8_t *buf, size_t len)
{
    return c->socket != NULL && answers(buf, len, c->beside);
}

void canary_close(struct canary *c)
{
    udp_close(c->socket);
    c->socket = NULL;
}

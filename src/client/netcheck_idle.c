/* One socket for each silence. */
#include "client/netcheck_idle.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/stun.h"
#include "io/loop.h"

enum { RTO_MS = 400, TRIES = 4 };

static const unsigned silences_s[] = {10, 25, 55, 115};
enum { SILENCES = sizeof(silences_s) / sizeof(silences_s[0]) };

enum stage { SEEN_WHERE, SILENT, CALLED, LIVES, DIES, NEVER_SEEN };

struct silence {
    struct netcheck_idle *all;
    struct udp *socket;
    enum stage stage;
    struct addr mapped;
    uint8_t txid[STUN_TXID_LEN];
    unsigned tries;
    uint64_t due_ms;
};

struct netcheck_idle {
    struct net *net;
    struct addr server;
    struct udp *asker;
    const struct uplink *uplink;
    struct silence each[SILENCES];
};

static void on_packets(void *ctx, struct udp *u, const struct addr *from,
                       const uint8_t *buf, size_t len, size_t segment_len)
{
    struct silence *s = ctx;
    struct stun_message m;
    (void)u, (void)from;
    if (stun_parse(&m, buf, len < segment_len ? len : segment_len) != 0 ||
        m.type != STUN_BINDING_SUCCESS || !stun_is_response_to(&m, s->txid))
        return;
    if (s->stage == CALLED) {
        s->stage = LIVES;
    } else if (s->stage == SEEN_WHERE) {
        size_t i = (size_t)(s - s->all->each);
        s->stage = SILENT;
        s->mapped = m.mapped;
        s->tries = 0;
        loop_refresh(s->all->net->loop);
        s->due_ms = loop_now_ms(s->all->net->loop) + silences_s[i] * 1000ull;
        randombytes_buf(s->txid, sizeof(s->txid));
    }
}

static void on_writable(void *ctx, struct udp *u)
{
    (void)ctx, (void)u;
}

struct netcheck_idle *netcheck_idle_new(struct net *net, const struct addr *server,
                                        struct udp *asker, const struct uplink *uplink)
{
    static const struct udp_events events = {on_packets, on_writable};
    const struct addr any = {.family = server->family};
    struct netcheck_idle *i = calloc(1, sizeof(*i));
    if (i == NULL)
        return NULL;
    i->net = net;
    i->uplink = uplink;
    i->server = *server;
    i->asker = asker;
    for (size_t k = 0; k < SILENCES; k++) {
        struct silence *s = &i->each[k];
        s->all = i;
        randombytes_buf(s->txid, sizeof(s->txid));
        if (udp_open(&s->socket, net->loop, &any, net->scratch, &events, s) != 0)
            s->stage = NEVER_SEEN;
    }
    return i;
}

void netcheck_idle_free(struct netcheck_idle *i)
{
    if (i == NULL)
        return;
    for (size_t k = 0; k < SILENCES; k++)
        udp_close(i->each[k].socket);
    free(i);
}

static void send_one(struct netcheck_idle *i, struct silence *s)
{
    uint8_t buf[STUN_MESSAGE_MAX];
    struct stun_message m = {
        .type = STUN_BINDING_REQUEST, .has_mark = true, .fingerprint = true};
    memcpy(m.mark, uplink_proof(i->uplink), STUN_MARK_LEN);
    for (size_t b = 0; b < STUN_TXID_LEN; b++)
        m.txid[b] = s->txid[b];
    m.response_port = s->stage == CALLED ? s->mapped.port : 0;
    int n = stun_build(buf, sizeof(buf), &m);
    if (n > 0)
        (void)!udp_send(s->stage == CALLED ? i->asker : s->socket, &i->server, buf,
                        (size_t)n, (size_t)n);
}

static void look(struct netcheck_idle *i, struct silence *s, uint64_t now_ms)
{
    if (now_ms < s->due_ms)
        return;
    if (s->stage == SILENT)
        s->stage = CALLED;
    if (s->stage != SEEN_WHERE && s->stage != CALLED)
        return;
    if (s->tries == TRIES) {
        s->stage = s->stage == CALLED ? DIES : NEVER_SEEN;
        return;
    }
    s->tries++;
    s->due_ms = now_ms + RTO_MS;
    send_one(i, s);
}

void netcheck_idle_tick(struct netcheck_idle *i, uint64_t now_ms)
{
    for (size_t k = 0; k < SILENCES; k++)
        look(i, &i->each[k], now_ms);
}

bool netcheck_idle_done(const struct netcheck_idle *i)
{
    for (size_t k = 0; k < SILENCES; k++)
        if (i->each[k].stage < LIVES)
            return false;
    return true;
}

void netcheck_idle_found(const struct netcheck_idle *i, unsigned *lives_s,
                         unsigned *dies_s)
{
    *lives_s = *dies_s = 0;
    for (size_t k = 0; k < SILENCES; k++) {
        if (i->each[k].stage == LIVES)
            *lives_s = silences_s[k];
        else if (i->each[k].stage == DIES && *dies_s == 0)
            *dies_s = silences_s[k];
    }
}

/*
 * The knock filter: a table of nftables of our own before connection tracking, which
 * reports one packet and drops the rest. The table is owned by our netlink socket
 * ("flags owner"): nobody else's flush removes it, and the kernel does when we end.
 * The whole table is written anew in one transaction whenever a knock comes or goes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_log/libnetfilter_log.h>
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/random.h>
#include <unistd.h>

#include "helper/parts.h"
#include "helper/text.h"

enum {
    RULES_MAX = 1024 * 1024,
    GROUP_TRIES = 16,
    SNAP_BYTES = 128,
};

struct knock {
    bool used, open; /* open: it was seen, and its sender may pass */
    struct privilege_request q;
    struct addr peer;
    uint64_t dropped_before; /* by the slot's earlier knocks */
};

static struct {
    struct nft_ctx *nft;
    struct nflog_handle *log;
    struct nflog_g_handle *group;
    unsigned group_number;
    struct knock knocks[PRIVILEGE_KNOCKS_MAX];
    knock_seen_cb seen;
} filter;

/* ----------------------------------------------------------------------- the rules */

static void put_match(struct text *t, const struct knock *k, const struct addr *from)
{
    char ip[ADDR_TEXT_LEN];
    text_put(t, "add rule inet postern_%d pre %s saddr %s %s dport %u ", (int)getpid(),
             from->family == ADDR_V4 ? "ip" : "ip6", addr_format_ip(from, ip),
             k->q.tcp ? "tcp" : "udp", k->q.local.port);
}

static uint32_t sequence_of(const struct knock *k)
{
    uint32_t s;
    memcpy(&s, k->q.id, sizeof(s));
    return ntohl(s);
}

static void put_knock(struct text *t, const struct knock *k, unsigned index)
{
    for (unsigned i = 0; !k->open && i < k->q.source_count; i++) {
        put_match(t, k, &k->q.sources[i]);
        if (k->q.tcp) {
            text_put(t, "tcp flags & (fin|syn|rst|ack) == syn tcp sequence %u ",
                     sequence_of(k));
        } else {
            text_put(t, "udp length %d @th,64,128 0x", 8 + PRIVILEGE_KNOCK_ID_LEN);
            for (int b = 0; b < PRIVILEGE_KNOCK_ID_LEN; b++)
                text_put(t, "%02x", k->q.id[b]);
            text_put(t, " ");
        }
        text_put(t, "log group %u snaplen %d queue-threshold 1 drop\n",
                 filter.group_number, SNAP_BYTES);
    }
    if (k->open) {
        put_match(t, k, &k->peer);
        text_put(t, "%s sport %u return\n", k->q.tcp ? "tcp" : "udp", k->peer.port);
    }
    text_put(t, "add rule inet postern_%d pre %s dport %u counter name k%u drop\n",
             (int)getpid(), k->q.tcp ? "tcp" : "udp", k->q.local.port, index);
}

/* Writes the table as the knocks say. */
static int apply(struct privilege_reply *r)
{
    struct text t = text_new(RULES_MAX);
    bool any = false;
    if (t.buf == NULL)
        return refuse(r, POSTERN_ERR_NOMEM, "out of memory");
    for (unsigned i = 0; i < PRIVILEGE_KNOCKS_MAX; i++)
        any = any || filter.knocks[i].used;
    text_put(&t, "table inet postern_%d {\n flags owner\n", (int)getpid());
    for (unsigned i = 0; i < PRIVILEGE_KNOCKS_MAX; i++)
        if (filter.knocks[i].used)
            text_put(&t, " counter k%u { }\n", i);
    text_put(&t, " chain pre {\n type filter hook prerouting priority -310\n"
                 " policy accept\n }\n}\n");
    if (!any)
        t.len = 0;
    text_put(&t,
             any ? "flush chain inet postern_%d pre\n"
                 : "delete table inet postern_%d\n",
             (int)getpid());
    if (any)
        text_put(&t, "add rule inet postern_%d pre iif \"lo\" return\n", (int)getpid());
    for (unsigned i = 0; i < PRIVILEGE_KNOCKS_MAX; i++)
        if (filter.knocks[i].used)
            put_knock(&t, &filter.knocks[i], i);
    int rc = text_is_whole(&t) ? nft_run_cmd_from_buffer(filter.nft, t.buf) : -1;
    free(t.buf);
    (void)nft_ctx_get_output_buffer(filter.nft);
    if (rc == 0)
        return 0;
    const char *why = nft_ctx_get_error_buffer(filter.nft);
    const char *end = why != NULL ? strchr(why, '\n') : NULL;
    return refuse(r, POSTERN_ERR_IO, "the packet filter refused the rules: %.*s",
                  end != NULL ? (int)(end - why) : 80, why != NULL ? why : "");
}

static uint64_t dropped_by(unsigned index)
{
    char cmd[80];
    (void)snprintf(cmd, sizeof(cmd), "list counter inet postern_%d k%u", (int)getpid(),
                   index);
    int rc = nft_run_cmd_from_buffer(filter.nft, cmd);
    (void)nft_ctx_get_error_buffer(filter.nft);
    if (rc != 0)
        return 0; /* there is no table yet */
    const char *out = nft_ctx_get_output_buffer(filter.nft);
    const char *at = out != NULL ? strstr(out, "packets ") : NULL;
    return at != NULL ? strtoull(at + 8, NULL, 10) : 0;
}

/* ---------------------------------------------------------------- what was matched */

static void knocked(struct knock *k, const struct addr *from)
{
    struct privilege_reply r = {0};
    k->open = true;
    k->peer = *from;
    if (apply(&r) == 0 && filter.seen != NULL)
        filter.seen(k->q.serial, from);
}

static int on_packet(struct nflog_g_handle *g, struct nfgenmsg *m,
                     struct nflog_data *data, void *ctx)
{
    char *payload = NULL;
    struct packet p;
    (void)g, (void)m, (void)ctx;
    int len = nflog_get_payload(data, &payload);
    if (len <= 0 || !packet_parse(&p, (const uint8_t *)payload, (size_t)len))
        return 0;
    for (unsigned i = 0; i < PRIVILEGE_KNOCKS_MAX; i++) {
        struct knock *k = &filter.knocks[i];
        if (k->used && !k->open && k->q.tcp == p.tcp && k->q.local.port == p.to.port)
            for (unsigned s = 0; s < k->q.source_count; s++)
                if (addr_ip_equal(&k->q.sources[s], &p.from)) {
                    knocked(k, &p.from);
                    return 0;
                }
    }
    return 0;
}

int knock_fd(void)
{
    return filter.log != NULL ? nflog_fd(filter.log) : -1;
}

void knock_read(knock_seen_cb seen)
{
    char buf[16384] __attribute__((aligned));
    filter.seen = seen;
    ssize_t n = recv(knock_fd(), buf, sizeof(buf), MSG_DONTWAIT);
    if (n > 0)
        (void)nflog_handle_packet(filter.log, buf, (int)n);
}

/* ------------------------------------------------------------------------ requests */

static int open_log(struct privilege_reply *r)
{
    filter.log = nflog_open();
    for (int i = 0; filter.log != NULL && filter.group == NULL && i < GROUP_TRIES;
         i++) {
        uint16_t number = 0;
        (void)!getrandom(&number, sizeof(number), 0);
        filter.group_number = number;
        if (number > 0)
            filter.group = nflog_bind_group(filter.log, number);
    }
    if (filter.group == NULL ||
        nflog_set_mode(filter.group, NFULNL_COPY_PACKET, SNAP_BYTES) != 0)
        return refuse(r, POSTERN_ERR_IO,
                      "the packet filter's log (nfnetlink_log) cannot be read");
    (void)nflog_callback_register(filter.group, on_packet, NULL);
    return 0;
}

static int open_filter(struct privilege_reply *r)
{
    if (filter.nft == NULL) {
        filter.nft = nft_ctx_new(NFT_CTX_DEFAULT);
        if (filter.nft == NULL)
            return refuse(r, POSTERN_ERR_NOMEM, "out of memory");
        (void)nft_ctx_buffer_output(filter.nft);
        (void)nft_ctx_buffer_error(filter.nft);
    }
    return filter.group != NULL ? 0 : open_log(r);
}

static int check(const struct privilege_request *q, struct privilege_reply *r)
{
    for (unsigned i = 0; i < PRIVILEGE_KNOCKS_MAX; i++)
        if (filter.knocks[i].used && (filter.knocks[i].q.serial == q->serial ||
                                      (filter.knocks[i].q.tcp == q->tcp &&
                                       filter.knocks[i].q.local.port == q->local.port)))
            return refuse(r, POSTERN_ERR_INUSE,
                          "that port is being knocked at already");
    return 0;
}

int knock_add(const struct privilege_request *q, struct privilege_reply *r)
{
    int slot = -1;
    if (check(q, r) != 0)
        return r->err;
    for (int i = 0; i < PRIVILEGE_KNOCKS_MAX && slot < 0; i++)
        if (!filter.knocks[i].used)
            slot = i;
    if (slot < 0)
        return refuse(r, POSTERN_ERR_LIMIT, "%d knocks are waited for already",
                      PRIVILEGE_KNOCKS_MAX);
    if (open_filter(r) != 0)
        return r->err;
    filter.knocks[slot] = (struct knock){
        .used = true, .q = *q, .dropped_before = dropped_by((unsigned)slot)};
    if (apply(r) != 0)
        filter.knocks[slot].used = false;
    return r->err;
}

int knock_remove(const struct privilege_request *q, struct privilege_reply *r)
{
    for (unsigned i = 0; i < PRIVILEGE_KNOCKS_MAX; i++) {
        if (!filter.knocks[i].used || filter.knocks[i].q.serial != q->serial)
            continue;
        r->dropped = dropped_by(i) - filter.knocks[i].dropped_before;
        filter.knocks[i].used = false;
        return apply(r);
    }
    return refuse(r, POSTERN_ERR_NOTFOUND, "no such knock");
}

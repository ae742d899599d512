/*
 * The rules that hold SYNs: a queue before the filter, and behind it a chain that
 * answers with RST what carries our mark. The chain is nftables', in a table that our
 * netlink socket owns, so that the kernel removes it with us. So is the queue, where
 * the kernel has nftables' queue; else iptables' NFQUEUE does it, in a chain of our
 * own. Nobody removes that with us, so that we do when we end, and the next helper when
 * we could not; until then SYNs pass it, since nobody reads the queue (--queue-bypass).
 */
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/parts.h"
#include "helper/text.h"

enum {
    TEXT_MAX = 64 * 1024,
    LIST_MAX = 4 * 1024 * 1024,
    REASON_MAX = 96,
    NAME_LEN = 32
};

#define CHAIN "postern-gate-"
#define JUMP "INPUT -p tcp --syn -j " CHAIN

enum backend { UNKNOWN, NFTABLES, IPTABLES };

static struct {
    struct nft_ctx *nft;
    enum backend backend;
    bool table;     /* ours is there */
    unsigned queue; /* whose chain of iptables may be there; 0: none */
} rules;

static int first_line(const char *s)
{
    return s != NULL ? (int)strcspn(s, "\n") : 0;
}

/* ------------------------------------------------------------------------ nftables */

static int nft_run(const char *text, struct privilege_reply *r)
{
    if (rules.nft == NULL) {
        rules.nft = nft_ctx_new(NFT_CTX_DEFAULT);
        if (rules.nft == NULL)
            return refuse(r, POSTERN_ERR_NOMEM, "out of memory");
        (void)nft_ctx_buffer_output(rules.nft);
        (void)nft_ctx_buffer_error(rules.nft);
    }
    int rc = nft_run_cmd_from_buffer(rules.nft, text);
    (void)nft_ctx_get_output_buffer(rules.nft);
    const char *why = nft_ctx_get_error_buffer(rules.nft);
    if (rc == 0)
        return 0;
    return refuse(r, POSTERN_ERR_IO, "the packet filter refused the rules: %.*s",
                  first_line(why) < REASON_MAX ? first_line(why) : REASON_MAX,
                  why != NULL ? why : "");
}

static bool is_any(const struct addr *a)
{
    static const struct addr none;
    return memcmp(a->ip, none.ip, sizeof(a->ip)) == 0;
}

/* Where a gate stands, in nftables' words. */
static void put_place(struct text *t, const struct addr *a)
{
    char text[ADDR_TEXT_LEN];
    struct addr bare = {.family = a->family}; /* without its scope */
    memcpy(bare.ip, a->ip, sizeof(bare.ip));
    if (a->family != ADDR_NONE && is_any(a))
        text_put(t, "meta nfproto ipv%d ", a->family == ADDR_V4 ? 4 : 6);
    else if (a->family != ADDR_NONE)
        text_put(t, "%s daddr %s ", a->family == ADDR_V4 ? "ip" : "ip6",
                 addr_format_ip(&bare, text));
}

/* The table with the chain that refuses; with `hold` also the one that asks. */
static int nft_set(const struct gate_queue *q, const struct addr *gates, size_t count,
                   bool hold, struct privilege_reply *r)
{
    struct text t = text_new(TEXT_MAX);
    int pid = (int)getpid();
    if (t.buf == NULL)
        return refuse(r, POSTERN_ERR_NOMEM, "out of memory");
    text_put(&t, "table inet postern_gate_%d {\n flags owner\n", pid);
    text_put(&t, " chain hold {\n type filter hook input priority -150\n"
                 " policy accept\n }\n");
    text_put(&t, " chain refuse {\n type filter hook input priority -140\n"
                 " policy accept\n }\n}\n");
    text_put(&t, "flush chain inet postern_gate_%d hold\n", pid);
    text_put(&t, "flush chain inet postern_gate_%d refuse\n", pid);
    text_put(&t,
             "add rule inet postern_gate_%d refuse meta mark 0x%08x meta l4proto tcp "
             "reject with tcp reset\n",
             pid, q->mark);
    for (size_t i = 0; hold && i < count; i++) {
        text_put(&t, "add rule inet postern_gate_%d hold ", pid);
        put_place(&t, &gates[i]);
        text_put(&t,
                 "tcp dport %u tcp flags & (fin|syn|rst|ack) == syn queue num %u "
                 "bypass\n",
                 gates[i].port, q->number);
    }
    int rc = text_is_whole(&t)
                 ? nft_run(t.buf, r)
                 : refuse(r, POSTERN_ERR_LIMIT, "too many rules of the gate");
    free(t.buf);
    rules.table = rules.table || rc == 0;
    return rc;
}

static void nft_clear(void)
{
    struct privilege_reply r = {0};
    char text[80];
    (void)snprintf(text, sizeof(text), "delete table inet postern_gate_%d\n",
                   (int)getpid());
    if (rules.table)
        (void)nft_run(text, &r);
    rules.table = false;
}

/* ------------------------------------------------------------------------ iptables */

static const char *const restore_name[] = {"iptables-restore", "ip6tables-restore"};
static const char *const save_name[] = {"iptables-save", "ip6tables-save"};

static bool have_family(int family)
{
    return family == 0 || access("/proc/net/if_inet6", F_OK) == 0;
}

/* All of `text` or nothing. */
static int restore(int family, const char *text, struct privilege_reply *r)
{
    const char *const argv[] = {restore_name[family], "--noflush", "-w", "2", NULL};
    char why[256];
    int rc = run_program(restore_name[family], argv, text, why, sizeof(why));
    if (rc == 0)
        return 0;
    if (rc == 127)
        return refuse(r, POSTERN_ERR_IO,
                      "the kernel has no queue for nftables, and there is no %s",
                      restore_name[family]);
    return refuse(r, POSTERN_ERR_IO, "the packet filter refused the rules: %.*s",
                  first_line(why) < REASON_MAX ? first_line(why) : REASON_MAX, why);
}

/* What the table says now, which others may have changed; NULL when nobody knows. */
static char *list_rules(int family)
{
    const char *const argv[] = {save_name[family], "-t", "mangle", NULL};
    char *list = have_family(family) ? calloc(1, LIST_MAX) : NULL;
    if (list != NULL && run_program(save_name[family], argv, NULL, list, LIST_MAX) == 0)
        return list;
    free(list);
    return NULL;
}

/* Does INPUT lead to the chain? */
static bool has_jump(const char *list, unsigned queue)
{
    char text[NAME_LEN];
    (void)snprintf(text, sizeof(text), "-j " CHAIN "%u\n", queue);
    return list != NULL && strstr(list, text) != NULL;
}

static bool has_chain(const char *list, unsigned queue)
{
    char text[NAME_LEN];
    (void)snprintf(text, sizeof(text), "\n:" CHAIN "%u ", queue);
    return list != NULL && strstr(list, text) != NULL;
}

static void chain_clear(int family, unsigned queue, const char *list)
{
    struct privilege_reply r = {0};
    char first[80] = "", text[256];
    if (has_jump(list, queue))
        (void)snprintf(first, sizeof(first), "-D " JUMP "%u\n", queue);
    (void)snprintf(text, sizeof(text),
                   "*mangle\n%s-F " CHAIN "%u\n-X " CHAIN "%u\nCOMMIT\n", first, queue,
                   queue);
    if (has_chain(list, queue))
        (void)restore(family, text, &r);
}

/* Chains of helpers that were killed: nobody reads their queues. */
static void clear_abandoned(const struct gate_queue *q, int family)
{
    char *list = list_rules(family);
    const char *at = list != NULL ? strstr(list, "\n:" CHAIN) : NULL;
    for (; at != NULL; at = strstr(at, "\n:" CHAIN)) {
        at += strlen("\n:" CHAIN);
        unsigned long number = strtoul(at, NULL, 10);
        if (number > 0 && number <= UINT16_MAX && q->is_abandoned((uint16_t)number))
            chain_clear(family, (unsigned)number, list);
    }
    free(list);
}

/* `family`: 0 of IPv4, 1 of IPv6. */
static void put_rule(struct text *t, const struct gate_queue *q, int family,
                     const struct addr *a)
{
    char text[ADDR_TEXT_LEN];
    struct addr bare = {.family = a->family}; /* without its scope */
    memcpy(bare.ip, a->ip, sizeof(bare.ip));
    if (a->family != ADDR_NONE && a->family != (family == 0 ? ADDR_V4 : ADDR_V6))
        return;
    text_put(t, "-A " CHAIN "%u -p tcp --dport %u ", q->number, a->port);
    if (!is_any(a))
        text_put(t, "-d %s ", addr_format_ip(&bare, text));
    text_put(t, "-j NFQUEUE --queue-num %u --queue-bypass\n", q->number);
}

static int chain_set(const struct gate_queue *q, int family, const struct addr *gates,
                     size_t count, struct privilege_reply *r)
{
    struct text t = text_new(TEXT_MAX);
    if (t.buf == NULL)
        return refuse(r, POSTERN_ERR_NOMEM, "out of memory");
    char *list = list_rules(family);
    text_put(&t, "*mangle\n:" CHAIN "%u - [0:0]\n", q->number); /* empties it too */
    if (!has_jump(list, q->number))
        text_put(&t, "-I " JUMP "%u\n", q->number);
    free(list);
    for (size_t i = 0; i < count; i++)
        put_rule(&t, q, family, &gates[i]);
    text_put(&t, "COMMIT\n");
    int rc = text_is_whole(&t)
                 ? restore(family, t.buf, r)
                 : refuse(r, POSTERN_ERR_LIMIT, "too many rules of the gate");
    free(t.buf);
    return rc;
}

static int iptables_set(const struct gate_queue *q, const struct addr *gates,
                        size_t count, struct privilege_reply *r)
{
    rules.queue = q->number;
    for (int family = 0; family < 2; family++)
        if (have_family(family) && chain_set(q, family, gates, count, r) != 0)
            return r->err;
    return 0;
}

static void iptables_clear(void)
{
    for (int family = 0; family < 2 && rules.queue != 0; family++) {
        char *list = list_rules(family);
        chain_clear(family, rules.queue, list);
        free(list);
    }
    rules.queue = 0;
}

void gate_rules_tidy(const struct gate_queue *queue)
{
    for (int family = 0; family < 2; family++)
        clear_abandoned(queue, family);
}

/* ---------------------------------------------------------------------------- both */

int gate_rules_set(const struct gate_queue *queue, const struct addr *gates,
                   size_t count, struct privilege_reply *r)
{
    struct privilege_reply ignored = {0};
    if (rules.backend == UNKNOWN) {
        if (nft_set(queue, gates, count, true, &ignored) == 0) {
            rules.backend = NFTABLES;
            return 0;
        }
        rules.backend = IPTABLES;
        gate_rules_tidy(queue);
    }
    if (rules.backend == NFTABLES)
        return nft_set(queue, gates, count, true, r);
    if (!rules.table && nft_set(queue, gates, 0, false, r) != 0)
        return r->err;
    return iptables_set(queue, gates, count, r);
}

void gate_rules_clear(void)
{
    iptables_clear();
    nft_clear();
}

/*
 * Hostile requests at the edge of the privileged helper and of its keeper, and packets
 * that its filters hand over. What the table lets in must be what SECURITY.md says.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/edge.h"
#include "helper/parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool yes)
{
    if (!yes)
        abort();
}

static void check_addr(const struct addr *a)
{
    char text[ADDR_TEXT_LEN];
    expect(a->family == ADDR_NONE || addr_ip_len(a) > 0);
    expect(a->scope == 0 || (a->family == ADDR_V6 && a->ip[0] == 0xfe));
    expect(addr_format(a, text)[0] != '\0');
}

static void check_allowed(const struct privilege_request *q)
{
    expect(q->tcp <= 1 && q->after_gates <= 1 && q->hops <= UINT8_MAX);
    expect(q->source_count <= PRIVILEGE_SOURCES_MAX);
    check_addr(&q->local);
    check_addr(&q->remote);
    for (unsigned i = 0; i < PRIVILEGE_SOURCES_MAX; i++)
        check_addr(&q->sources[i]);
    switch ((enum privilege_op)q->op) {
    case PRIVILEGE_LOW_PORT:
        expect(q->local.port >= 512 && q->local.port < 1024);
        break;
    case PRIVILEGE_SEQUENCED:
        expect(q->local.port == 0 || q->local.port >= 1024);
        break;
    case PRIVILEGE_KNOCK_ADD:
        expect(q->source_count > 0 && q->local.port >= 1024);
        break;
    case PRIVILEGE_ARRANGE:
    case PRIVILEGE_ARRANGE_ANSWER:
        expect(q->local.port >= 1024 && q->local.family == q->remote.family);
        break;
    default:
        expect(q->op > 0 && q->op < PRIVILEGE_OP_COUNT &&
               q->op != PRIVILEGE_KNOCK_SEEN);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct privilege_request q = {0};
    struct packet p;
    if (size == 0)
        return 0;
    if (packet_parse(&p, data + 1, size - 1))
        expect(addr_ip_len(&p.from) > 0 && p.from.family == p.to.family);
    memcpy(&q, data + 1, size - 1 < sizeof(q) ? size - 1 : sizeof(q));
    enum edge_given given = data[0] & 3;
    enum edge_asked asked = (data[0] & 4) != 0 ? EDGE_KEEPER : EDGE_HELPER;
    q.op &= (data[0] & 8) != 0 ? 15 : ~0u;
    if (edge_check(&q, given, asked) == NULL) {
        check_allowed(&q);
        expect((asked == EDGE_KEEPER) ==
               (q.op == PRIVILEGE_START || q.op == PRIVILEGE_END));
    }
    return 0;
}

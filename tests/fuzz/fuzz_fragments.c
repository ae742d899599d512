/*
 * Hostile fragments of large datagrams: any header, any order, any time. What is held
 * keeps its bounds, and what is handed out has been said from end to end.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/age.h"
#include "core/fragments.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FLOWS = 3 };

static void check(const struct partials *p, size_t all)
{
    size_t bytes = 0;
    unsigned count = 0;
    LIST_EACH (struct partial, q, &p->list, link) {
        if (q->lacking == 0 || q->len == 0 || q->len > FRAGMENT_WHOLE_MAX)
            abort();
        bytes += q->len;
        count++;
    }
    if (bytes != p->bytes || bytes != all || count != p->count ||
        count > PARTIALS_MAX || bytes > PARTIALS_BYTES_MAX)
        abort();
}

static void take(struct partials *p, uint64_t flow, const uint8_t *data, size_t len,
                 uint64_t now_ms)
{
    struct fragment f;
    if (fragment_get(&f, data, len) != 0)
        return;
    if (f.from + f.len > f.whole || f.len == 0 || f.data + f.len != data + len)
        abort();
    struct partial *q = partials_take(p, flow, &f, now_ms);
    if (q == NULL)
        return;
    volatile uint8_t sum = 0; /* each byte was written */
    for (size_t i = 0; i < q->len; i++)
        sum = (uint8_t)(sum + q->data[i]);
    if (q->len != f.whole || q->flow != flow || q->number != f.number)
        abort();
    free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partials p;
    struct age age = {0};
    size_t all = 0;
    uint64_t now_ms = 5;
    partials_init(&p, &all);
    while (size >= 8) {
        size_t len = (size_t)(data[1] << 8 | data[2]) % 2000;
        uint64_t flow = data[0] % FLOWS * 4;
        now_ms += data[3];
        uint32_t sent = (uint32_t)data[4] << 24 | (uint32_t)data[5] << 16 |
                        (uint32_t)data[6] << 8 | data[7];
        data += 8;
        size -= 8;
        len = len < size ? len : size;
        if (!age_is_old(&age, sent, now_ms))
            take(&p, flow, data, len, now_ms);
        check(&p, all);
        data += len;
        size -= len;
    }
    partials_fini(&p);
    if (all != 0)
        abort();
    return 0;
}

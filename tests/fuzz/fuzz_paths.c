/*
 * Hostile probes and any order of events against the table of paths: each record of the
 * input is an event; probes come raw, or (odd first byte) with a right MAC.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/key.h"
#include "core/paths.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[PROBE_KEY_LEN] = {1, 2, 3};

static void take_probe(struct paths *p, const uint8_t *data, size_t len, bool seal,
                       uint32_t id, uint64_t now_us)
{
    uint8_t buf[64] = {0}, hash[32];
    struct path_probe q, reply;
    len = len < sizeof(buf) ? len : sizeof(buf);
    memcpy(buf, data, len);
    if (seal && len >= PROBE_LEN_MIN) {
        buf[0] = PROBE_FIRST_BYTE;
        key_hash(hash, buf, 12, key, PROBE_KEY_LEN);
        memcpy(buf + 12, hash, 16);
    }
    if (probe_decode(&q, key, buf, len) != 0)
        return;
    if (q.len != len)
        abort();
    if (q.flags & PROBE_RESPONSE)
        (void)paths_on_response(p, id, &q, now_us);
    else if (paths_on_request(p, id, &q, &reply, now_us) && reply.len > q.len)
        abort(); /* never more than was asked with */
}

static void happen(struct paths *p, uint8_t what, uint32_t id, uint64_t now_us)
{
    switch (what % 10) {
    case 0:
        (void)!paths_add(p, id, (what & 128) != 0, now_us);
        break;
    case 1:
        paths_remove(p, id, now_us);
        break;
    case 2:
        paths_want(p, id, now_us);
        break;
    case 3:
        paths_on_sent(p, (what & 128) != 0, now_us);
        break;
    case 4:
        paths_on_progress(p, now_us);
        break;
    case 5:
        paths_doubt(p, (what & 128) != 0, now_us);
        break;
    case 6:
        paths_ask(p, now_us);
        break;
    case 7:
        paths_set_size(p, (uint16_t)(1000 + 60 * id));
        break;
    case 8:
        paths_on_rtt(p, id * 40000, id * 9000, now_us);
        break;
    case 9:
        paths_on_activity(p);
        paths_set_streams(p, id);
        break;
    }
}

/* The caller pulls all actions; there must be an end to them, and a next time. */
static void pull(struct paths *p, uint64_t now_us)
{
    struct paths_action a;
    for (unsigned n = 0; paths_next(p, now_us, &a); n++)
        if (n > 4 * PATHS_MAX || a.id == PATHS_NONE)
            abort();
    if (paths_deadline_us(p) <= now_us)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct paths p;
    uint64_t now_us = 1000000;
    if (size < 1)
        return 0;
    paths_init(&p, (data[0] & 1) != 0, now_us);
    for (data++, size--; size >= 4;) {
        size_t len = data[1] % 64 < size - 4 ? data[1] % 64 : size - 4;
        uint32_t id = 1 + data[2] % 8;
        now_us += 1000u * data[3] * (data[2] >> 4);
        if (data[0] & 2)
            take_probe(&p, data + 4, len, (data[0] & 1) != 0, id, now_us);
        else
            happen(&p, data[0] >> 2 | (data[0] & 128), id, now_us);
        pull(&p, now_us);
        data += 4 + len;
        size -= 4 + len;
    }
    return 0;
}

/*
 * Hostile datagrams against the punching machine, with and without the check key: each
 * record of the input is a packet, delivered raw or (odd first byte) with a right MAC.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/key.h"
#include "core/punch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void seal(uint8_t *buf, size_t len, const uint8_t *key)
{
    uint8_t hash[32];
    if (len < 17)
        return;
    buf[0] = PUNCH_FIRST_BYTE;
    key_hash(hash, buf, len - 16, key, PUNCH_KEY_LEN);
    memcpy(buf + len - 16, hash, 16);
}

static void check(struct punch *p, uint64_t now_us)
{
    struct punch_packet out;
    int pulled = 0;
    while (punch_next_packet(p, now_us, &out))
        if (out.len > PUNCH_PACKET_MAX || ++pulled > PUNCH_MAX_RESPONSES + 1)
            abort();
    if (punch_deadline_us(p) <= now_us || punch_reason(p)[0] == '\0')
        abort();
    for (unsigned i = 0; i < p->remote_count; i++)
        if (p->remotes[i].requests > PUNCH_MAX_REQUESTS)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct punch_config c = {.controlling = true, .seed = 1, .key = {1, 2, 3}};
    struct addr a = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}};
    struct punch p;
    uint64_t now_us = 1000000;
    punch_init(&p, &c);
    punch_add_socket(&p, 0, ADDR_V4);
    (void)punch_add_remote(&p, CAND_HOST, &a);
    punch_start(&p, now_us);
    check(&p, now_us);
    while (size >= 4) {
        uint8_t buf[64];
        size_t len = data[1] % sizeof(buf);
        len = len < size - 4 ? len : size - 4;
        memcpy(buf, data + 4, len);
        if (data[0] & 1)
            seal(buf, len, c.key);
        a.ip[3] = data[2] % 8;
        a.port = (uint16_t)(1 + data[2] / 8);
        now_us += data[3] * 1000u;
        (void)punch_on_packet(&p, data[0] >> 1 & 3, &a, buf, len, now_us);
        if (data[0] & 8)
            (void)punch_on_peer_generation(&p, data[3], now_us);
        if (data[0] & 16)
            punch_on_dead(&p, data[3] % 8);
        if (data[0] & 32)
            (void)punch_probe(&p, data[3] % 8, now_us);
        check(&p, now_us);
        data += 4 + len;
        size -= 4 + len;
    }
    return 0;
}

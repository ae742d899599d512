/* Any bytes as a STUN message: parsed, built again, answered; never a crash. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/stun.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stun_message m, again;
    struct stun_answer a;
    uint8_t out[STUN_MESSAGE_MAX];
    struct addr source = {.family = ADDR_V4, .port = 40000, .ip = {203, 0, 113, 5}};
    struct stun_site site = {
        .at = {.family = ADDR_V4, .port = 443, .ip = {192, 0, 2, 1}}};
    site.other = site.at;
    site.other.port = 444;
    site.mark = (const uint8_t *)"0123456789abcdef";
    if (stun_parse(&m, data, size) == 0) {
        int n = stun_build(out, sizeof(out), &m);
        /* What we build, we read. */
        if (n > 0 && stun_parse(&again, out, (size_t)n) != 0)
            abort();
    }
    if (stun_answer(&a, out, data, size, &source, &site)) {
        if (a.len > size && a.len > 120)
            abort(); /* amplifies more than stated */
        if (stun_parse(&m, out, a.len) != 0 || m.type == STUN_BINDING_REQUEST)
            abort();
    }
    return 0;
}

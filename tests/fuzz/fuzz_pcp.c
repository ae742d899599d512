/* Any bytes as a router's answer to a port mapping request. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/pcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct pcp_map m = {.lifetime_s = 120,
                              .client = {.family = ADDR_V4, .port = 4000}};
    struct pcp_answer a;
    if (pcp_decode_map(&a, &m, data, size) == 0 && a.result == PCP_SUCCESS &&
        a.external.family == ADDR_NONE)
        abort();
    return 0;
}

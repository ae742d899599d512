/* Any bytes as a connection's requests, whole and in pieces: both pass the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_head whole, pieces;
    http_head_init(&whole);
    http_head_init(&pieces);
    size_t passed = http_head_pass(&whole, data, size), sum = 0;
    size_t step = size > 0 ? 1 + data[size - 1] % 16u : 1;
    for (size_t at = 0; at < size; at += step)
        sum += http_head_pass(&pieces, data + at, size - at < step ? size - at : step);
    if (passed != sum || whole.fault != pieces.fault || passed > size ||
        (whole.fault == NULL) != (passed == size))
        abort();
    return 0;
}

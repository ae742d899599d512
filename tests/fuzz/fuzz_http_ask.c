/* Any bytes as a request for figures: a verdict that more bytes do not take back. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/http_ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[HTTP_ASK_PATH_LEN];
    size_t len = size < HTTP_ASK_MAX ? size : HTTP_ASK_MAX;
    enum http_ask all = http_ask_read(path, (const char *)data, len);
    if (strnlen(path, sizeof(path)) == sizeof(path) ||
        (path[0] != '\0' && path[0] != '/'))
        abort();
    for (size_t cut = 0; cut < len; cut++) {
        enum http_ask part = http_ask_read(path, (const char *)data, cut);
        if (part != HTTP_ASK_MORE && part != all)
            abort();
    }
    return 0;
}

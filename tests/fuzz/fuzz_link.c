/* Any text as a link: never a crash, and what parses comes out again as it went in. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[2 * LINK_INPUT_MAX], again[LINK_TEXT_LEN];
    struct link l, back;
    struct fault f = {0};
    if (size >= sizeof(text))
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (link_parse(&l, text, &f) != 0) {
        if (f.what[0] == '\0' || f.advice[0] == '\0')
            abort();
        return 0;
    }
    link_format(&l, again);
    if (link_parse(&back, again, NULL) != 0 || back.port != l.port ||
        strcmp(back.host, l.host) != 0)
        abort();
    return 0;
}

/* Tells UTF-8 from other bytes, and characters that are shown from those that are
 * obeyed. */
#include "core/utf8.h"

#include <stdbool.h>
#include <string.h>

size_t utf8_len(const void *text)
{
    const unsigned char *s = text;
    unsigned char c = s[0];
    unsigned char lo = 0x80, hi = 0xbf;
    size_t n = c < 0x80   ? 1
               : c < 0xc2 ? 0
               : c < 0xe0 ? 2
               : c < 0xf0 ? 3
               : c < 0xf5 ? 4
                          : 0;
    if (n < 2)
        return n;
    if (c == 0xe0)
        lo = 0xa0; /* shorter forms exist */
    else if (c == 0xed)
        hi = 0x9f; /* surrogates */
    else if (c == 0xf0)
        lo = 0x90;
    else if (c == 0xf4)
        hi = 0x8f; /* beyond U+10FFFF */
    for (size_t i = 1; i < n; i++) {
        if (s[i] < lo || s[i] > hi)
            return 0;
        lo = 0x80;
        hi = 0xbf;
    }
    return n;
}

void utf8_make_plain(char *text)
{
    while (*text != '\0') {
        const unsigned char *s = (const unsigned char *)text;
        size_t n = utf8_len(text), step = n == 0 ? 1 : n;
        bool control = *s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0);
        if (n == 0 || control)
            memset(text, '?', step);
        text += step;
    }
}

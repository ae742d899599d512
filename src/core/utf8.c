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

bool utf8_is_obeyed(const void *text, size_t len)
{
    const unsigned char *s = text;
    unsigned c = s[0];
    if (len == 2)
        c = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    else if (len == 3)
        c = (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    return len <= 3 &&
           (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c ||
            c == 0x200b || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
            (c >= 0x2060 && c <= 0x206f) || c == 0xfeff);
}

void utf8_make_plain(char *text)
{
    while (*text != '\0') {
        size_t n = utf8_len(text), step = n == 0 ? 1 : n;
        if (n == 0 || utf8_is_obeyed(text, n))
            memset(text, '?', step);
        text += step;
    }
}

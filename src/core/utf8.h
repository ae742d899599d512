/* UTF-8 (RFC 3629): where a character ends. */
#ifndef POSTERN_CORE_UTF8_H
#define POSTERN_CORE_UTF8_H

#include <stddef.h>

/*
 * The length of the character that `text`, NUL-terminated, begins with, or 0 when it
 * is not one: broken, overlong, a surrogate or beyond U+10FFFF.
 */
size_t utf8_len(const void *text);

#endif

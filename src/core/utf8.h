/* UTF-8 (RFC 3629): where a character ends. */
#ifndef POSTERN_CORE_UTF8_H
#define POSTERN_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The length of the character that `text`, NUL-terminated, begins with, or 0 when it
 * is not one: broken, overlong, a surrogate or beyond U+10FFFF.
 */
size_t utf8_len(const void *text);
/*
 * The character of `len` bytes there is obeyed and not shown: a control character, or
 * one that turns the text's direction, breaks lines or has no width. Not the joiners
 * (U+200C, U+200D), which scripts need.
 */
bool utf8_is_obeyed(const void *text, size_t len);

/*
 * Makes `text` safe for one line of a terminal, in place: control characters (C0, DEL,
 * and C1, which some terminals obey as well) and broken bytes become '?'. For whatever
 * another device, a broker or a file has said, where it is shown.
 */
void utf8_make_plain(char *text);

#endif

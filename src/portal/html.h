/*
 * A builder of HTML that cannot forget to escape: markup is the format, which is always
 * a literal, and everything else is an argument.
 */
#ifndef POSTERN_PORTAL_HTML_H
#define POSTERN_PORTAL_HTML_H

#include "core/err.h"
#include "portal/pages.h"

/*
 * Adds `markup`. It may hold %s: text, escaped so that it is right between tags and
 * inside double quotes, NULL is nothing; %u, %zu; %.1f; %%. Of a text, what is not
 * UTF-8, control characters and those that turn the direction of writing become U+FFFD;
 * tabs and line breaks become spaces.
 */
void html_add(struct html *h, const char *markup, ...) PRINTF_LIKE(2, 3);
/* Adds `text` as one segment of a path, percent-encoded (RFC 3986 section 3.3). */
void html_add_segment(struct html *h, const char *text);
/* NULL and "" are empty. */
bool html_is_empty(const char *text);

#endif

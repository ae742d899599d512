/* The growing text and its escapes. Knows no page. */
#include "portal/html.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void html_fini(struct html *h)
{
    free(h->text);
    *h = (struct html){.failed = h->failed};
}

static bool grow(struct html *h, size_t more)
{
    size_t cap = h->cap < 4096 ? 4096 : h->cap;
    if (h->failed)
        return false;
    if (h->cap - h->len > more)
        return true;
    while (cap - h->len <= more) {
        if (cap > SIZE_MAX / 2) {
            h->failed = true;
            return false;
        }
        cap *= 2;
    }
    char *text = realloc(h->text, cap);
    if (text == NULL) {
        h->failed = true;
        return false;
    }
    h->text = text;
    h->cap = cap;
    return true;
}

static void put(struct html *h, const char *bytes, size_t len)
{
    if (!grow(h, len))
        return;
    memcpy(h->text + h->len, bytes, len);
    h->len += len;
    h->text[h->len] = '\0';
}

/* U+0080 to U+009F are controls; U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069
 * turn the direction of writing, which would let a name rearrange its neighbours. */
static bool is_unwanted(const unsigned char *s, size_t len)
{
    if (len == 2)
        return s[0] == 0xc2 && s[1] < 0xa0;
    if (len != 3)
        return false;
    if (s[0] == 0xef) /* U+FFFE and U+FFFF are no characters */
        return s[1] == 0xbf && s[2] >= 0xbe;
    if (s[0] != 0xe2)
        return false;
    if (s[1] == 0x80)
        return s[2] == 0x8e || s[2] == 0x8f || (s[2] >= 0xaa && s[2] <= 0xae);
    return s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9;
}

static const char *escape_of(unsigned char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    case '\t':
    case '\n':
    case '\r':
        return " ";
    default:
        return c < 0x20 || c == 0x7f ? REPLACEMENT : NULL;
    }
}

static void put_text(struct html *h, const char *text)
{
    const unsigned char *s = (const unsigned char *)(text == NULL ? "" : text);
    while (*s != '\0') {
        size_t len = utf8_len(s);
        const char *escape = len == 1 ? escape_of(*s) : NULL;
        if (len == 0) {
            escape = REPLACEMENT;
            len = 1;
        } else if (is_unwanted(s, len)) {
            escape = REPLACEMENT;
        }
        if (escape != NULL)
            put(h, escape, strlen(escape));
        else
            put(h, (const char *)s, len);
        s += len;
    }
}

/* Adds what the conversion at `at`, behind its '%', says; returns its end. */
static const char *put_argument(struct html *h, const char *at, va_list *args)
{
    char buf[48];
    if (*at == '%') {
        put(h, "%", 1);
        return at + 1;
    }
    if (*at == 's') {
        put_text(h, va_arg(*args, const char *));
        return at + 1;
    }
    if (*at == 'u') {
        (void)snprintf(buf, sizeof(buf), "%u", va_arg(*args, unsigned));
        put_text(h, buf);
        return at + 1;
    }
    if (strncmp(at, "zu", 2) == 0) {
        (void)snprintf(buf, sizeof(buf), "%zu", va_arg(*args, size_t));
        put_text(h, buf);
        return at + 2;
    }
    if (strncmp(at, ".1f", 3) == 0) {
        (void)snprintf(buf, sizeof(buf), "%.1f", va_arg(*args, double));
        put_text(h, buf);
        return at + 3;
    }
    h->failed = true; /* a conversion that this does not know */
    return at + strlen(at);
}

void html_add(struct html *h, const char *markup, ...)
{
    va_list args;
    va_start(args, markup);
    while (*markup != '\0' && !h->failed) {
        size_t plain = strcspn(markup, "%");
        put(h, markup, plain);
        markup += plain;
        if (*markup == '%')
            markup = put_argument(h, markup + 1, &args);
    }
    va_end(args);
}

void html_add_segment(struct html *h, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-_~";
    for (const char *s = text == NULL ? "" : text; *s != '\0'; s++) {
        char buf[4];
        if (strchr(plain, *s) != NULL) {
            put(h, s, 1);
            continue;
        }
        (void)snprintf(buf, sizeof(buf), "%%%02X", (unsigned)(unsigned char)*s);
        put(h, buf, 3);
    }
}

bool html_is_empty(const char *text)
{
    return text == NULL || *text == '\0';
}

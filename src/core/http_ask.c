/* See http_ask.h. */
#include "core/http_ask.h"

#include <stdbool.h>
#include <string.h>

/* The end of the headers; a lone line feed ends a line too (RFC 9112 section 2.2). */
static bool is_whole(const char *bytes, size_t len)
{
    for (size_t i = 0; i + 1 < len; i++)
        if (bytes[i] == '\n' &&
            (bytes[i + 1] == '\n' ||
             (i + 2 < len && bytes[i + 1] == '\r' && bytes[i + 2] == '\n')))
            return true;
    return false;
}

static bool starts(const char *at, size_t len, const char *with)
{
    size_t n = strlen(with);
    return len >= n && memcmp(at, with, n) == 0;
}

/* `line` is what stands behind the method and its space. */
static enum http_ask read_target(char *path, const char *line, size_t len,
                                 enum http_ask method)
{
    const char *end = memchr(line, ' ', len);
    size_t n = end != NULL ? (size_t)(end - line) : 0;
    if (n == 0 || line[0] != '/' || !starts(end + 1, len - n - 1, "HTTP/1."))
        return HTTP_ASK_BAD;
    const char *query = memchr(line, '?', n);
    n = query != NULL ? (size_t)(query - line) : n;
    if (n >= HTTP_ASK_PATH_LEN)
        return HTTP_ASK_LONG;
    for (size_t i = 0; i < n; i++)
        if (line[i] < 0x21 || line[i] > 0x7e)
            return HTTP_ASK_BAD;
    memcpy(path, line, n);
    path[n] = '\0';
    return method;
}

enum http_ask http_ask_read(char path[static HTTP_ASK_PATH_LEN], const char *bytes,
                            size_t len)
{
    const char *end = memchr(bytes, '\n', len);
    path[0] = '\0';
    if (!is_whole(bytes, len))
        return len >= HTTP_ASK_MAX ? HTTP_ASK_LONG : HTTP_ASK_MORE;
    size_t line = (size_t)(end - bytes);
    if (starts(bytes, line, "GET "))
        return read_target(path, bytes + 4, line - 4, HTTP_ASK_GET);
    if (starts(bytes, line, "HEAD "))
        return read_target(path, bytes + 5, line - 5, HTTP_ASK_HEAD);
    if (line == 0 || bytes[0] < 'A' || bytes[0] > 'Z' ||
        memchr(bytes, ' ', line) == NULL)
        return HTTP_ASK_BAD;
    return HTTP_ASK_METHOD;
}

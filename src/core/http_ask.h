/*
 * The first lines of one HTTP request that only asks (RFC 9112): a method, a path, and
 * headers that nobody reads. For a port that serves a few texts and nothing else: what
 * it does not know it refuses. Bytes in, a verdict out.
 */
#ifndef POSTERN_CORE_HTTP_ASK_H
#define POSTERN_CORE_HTTP_ASK_H

#include <stddef.h>

#define HTTP_ASK_MAX 4096 /* bytes of a request, its headers included */
#define HTTP_ASK_PATH_LEN 64

enum http_ask {
    HTTP_ASK_MORE,   /* not whole yet */
    HTTP_ASK_GET,    /* `path` is what it asks for, without what follows a '?' */
    HTTP_ASK_HEAD,   /* the same without the text */
    HTTP_ASK_BAD,    /* no request, or none that is understood here */
    HTTP_ASK_METHOD, /* one that does something */
    HTTP_ASK_LONG,   /* more than HTTP_ASK_MAX, or the path is longer than any here */
};

/* Of all that has come so far. */
enum http_ask http_ask_read(char path[static HTTP_ASK_PATH_LEN], const char *bytes,
                            size_t len);

#endif

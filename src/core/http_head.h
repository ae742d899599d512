/*
 * The heads of the HTTP/1 requests of one connection, byte by byte, before anything
 * acts on them: whether each has the one meaning that RFC 9112 gives it. Two programs
 * that read an ambiguous head in two ways do not agree where the next request begins,
 * and what one person sends becomes another's request. What a request asks for is not
 * known here, nor what a chunked body holds.
 */
#ifndef POSTERN_CORE_HTTP_HEAD_H
#define POSTERN_CORE_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_HEAD_VALUE_MAX = 264 }; /* a DNS name and a port */

struct http_head {
    int at;
    char word[HTTP_HEAD_VALUE_MAX + 1]; /* of the field's name, then of its value */
    size_t len;                         /* of the whole, also of what does not fit */
    int field;
    unsigned hosts, lengths, codings, empty_lines;
    char major, minor; /* of the version: digits */
    uint64_t body_bytes;
    const char *fault; /* in words, once something was refused */
};

void http_head_init(struct http_head *h);

/*
 * Looks at the next bytes of the connection and returns how many of them may be passed
 * on: all, or those before the first that no request may have there. `fault` is set
 * then and nothing passes any more: the head that it stands in is never passed to its
 * end. Bodies pass by their length. What follows the head of a chunked request passes
 * unseen: its connection must be closed when it was answered.
 */
size_t http_head_pass(struct http_head *h, const uint8_t *data, size_t len);

#endif

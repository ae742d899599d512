/*
 * What a browser's request carries besides its method: form bodies, cookies, where it
 * came from, and the path that it asks for. Bytes in, text out; everything is hostile,
 * bounded, and checked here once. It knows neither connections nor what fields mean.
 *
 * Text that comes out is UTF-8 (RFC 3629), ends with NUL, and has no control characters
 * (U+0000-001F, U+007F-009F), so no line ends either.
 */
#ifndef POSTERN_CORE_FORM_H
#define POSTERN_CORE_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

enum {
    FORM_BODY_MAX = 16 * 1024,
    FORM_NAME_LEN = 64, /* of a field that is wanted, with its NUL */
    FORM_TARGET_MAX = 2048,
    FORM_SEGMENTS_MAX = 8,
    FORM_SEGMENT_LEN = 128, /* with its NUL */
};

/* A field that is wanted: `name` and where its value goes; the rest is the answer. */
struct form_field {
    const char *name; /* shorter than FORM_NAME_LEN; each only once */
    char *value;      /* of `cap` bytes, at least 1 */
    size_t cap;
    size_t len;   /* of the value, without NUL */
    bool present; /* false: it was not sent, and the value is "" */
};

/*
 * Reads application/x-www-form-urlencoded (WHATWG URL, section 5.1): a body, or the
 * query of a target. '+' is a space, %XX a byte. What is not wanted is passed over, but
 * must be well-formed too. Returns, and then all values are wiped and not present:
 * POSTERN_ERR_INVALID  a bad %XX, bad UTF-8, a control character, or a wanted field
 *                      that was sent twice
 * POSTERN_ERR_LIMIT    longer than FORM_BODY_MAX, or a value that does not fit
 */
MUST_CHECK int form_parse(const char *body, size_t len, struct form_field *fields,
                          size_t count);

/*
 * The value of cookie `name` in a Cookie header's value (RFC 6265 sections 4.2.1 and
 * 5.4), without the quotes that may stand around it. Names differ by case.
 * POSTERN_ERR_NOTFOUND; POSTERN_ERR_INVALID when it stands there twice or holds what no
 * cookie may (section 4.1.1); POSTERN_ERR_LIMIT when it does not fit into `cap` bytes
 * with its NUL. `out` is "" then.
 */
MUST_CHECK int form_cookie(const char *header, size_t len, const char *name, char *out,
                           size_t cap);

/*
 * Does an Origin header's value (RFC 6454 section 7) name the server that the Host
 * header names, over https? Without regard to case, and port 443 is the same as none.
 * "null", several origins and anything malformed are not.
 */
bool form_same_origin(const char *origin, size_t origin_len, const char *host,
                      size_t host_len);
/*
 * The name in a Host header's value (RFC 9110 section 7.2) without port and brackets,
 * in lower case. POSTERN_ERR_INVALID, POSTERN_ERR_LIMIT; `out` is "" then. `port` (may
 * be NULL) is 0 when there is none.
 */
MUST_CHECK int form_host(const char *host, size_t len, char *out, size_t cap,
                         unsigned *port);

/* A request target in origin form (RFC 9112 section 3.2.1): /a/b?query */
struct form_path {
    size_t count; /* 0: "/" */
    char segments[FORM_SEGMENTS_MAX][FORM_SEGMENT_LEN];
    const char *query; /* into the target, behind '?', as it came; NULL when none */
    size_t query_len;
};

/*
 * Takes a target apart and decodes %XX in the segments. POSTERN_ERR_INVALID: it does
 * not begin with '/', has an empty segment ("//", or '/' at its end), "." or "..", an
 * encoded '/' or a '\\', or a fragment; or what form_parse calls so. POSTERN_ERR_LIMIT:
 * longer, or more of them, than the bounds above. Then `count` is 0 and no query.
 */
MUST_CHECK int form_split_path(struct form_path *p, const char *target, size_t len);

/* Local path that a login may go on to: "/", not "//" nor "/\\", printable ASCII. */
bool form_local_path(const char *path);

#endif

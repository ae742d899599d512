/*
 * Form bodies, cookies, origins and paths; see form.h. All text passes one decoder,
 * byte by byte, that knows UTF-8 and what a control character is.
 */
#include "core/form.h"

#include <sodium.h>
#include <stdint.h>
#include <string.h>

enum { HOST_LEN = 256, HTTPS_PORT = 443, DEL = 0x7f };

/* --------------------------------------------------------------------- the decoder */

struct text {
    char *out; /* NULL: only looked at */
    size_t cap, len;
    unsigned more;  /* bytes that the character lacks */
    uint8_t lo, hi; /* between which the next of them is */
    bool bad, overflow;
};

static struct text text_into(char *out, size_t cap)
{
    return (struct text){.out = out, .cap = cap};
}

/*
 * Where a character begins (RFC 3629 section 4). The ranges of the second byte leave
 * out overlong forms, surrogates, what is above U+10FFFF, and U+0080-009F.
 */
static void text_begin(struct text *t, uint8_t c)
{
    t->lo = 0x80;
    t->hi = 0xbf;
    if (c < DEL) {
        t->bad = t->bad || c < ' ';
    } else if (c >= 0xc2 && c <= 0xdf) {
        t->more = 1;
        t->lo = c == 0xc2 ? 0xa0 : 0x80;
    } else if (c >= 0xe0 && c <= 0xef) {
        t->more = 2;
        t->lo = c == 0xe0 ? 0xa0 : 0x80;
        t->hi = c == 0xed ? 0x9f : 0xbf;
    } else if (c >= 0xf0 && c <= 0xf4) {
        t->more = 3;
        t->lo = c == 0xf0 ? 0x90 : 0x80;
        t->hi = c == 0xf4 ? 0x8f : 0xbf;
    } else {
        t->bad = true;
    }
}

static void text_put(struct text *t, uint8_t c)
{
    if (t->more == 0) {
        text_begin(t, c);
    } else {
        t->bad = t->bad || c < t->lo || c > t->hi;
        t->more--;
        t->lo = 0x80;
        t->hi = 0xbf;
    }
    if (t->out == NULL || t->bad)
        return;
    if (t->len + 1 < t->cap)
        t->out[t->len++] = (char)c;
    else
        t->overflow = true;
}

static void text_end(struct text *t)
{
    t->bad = t->bad || t->more != 0;
    if (t->out != NULL)
        t->out[t->len] = '\0';
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-encoding (RFC 3986 section 2.1); `plus`: '+' is a space. */
static void decode(struct text *t, const char *at, size_t len, bool plus)
{
    for (size_t i = 0; i < len && !t->bad; i++) {
        if (at[i] == '%') {
            int high = i + 2 < len ? hex(at[i + 1]) : -1;
            int low = i + 2 < len ? hex(at[i + 2]) : -1;
            t->bad = high < 0 || low < 0;
            if (!t->bad)
                text_put(t, (uint8_t)(high << 4 | low));
            i += 2;
        } else {
            text_put(t, plus && at[i] == '+' ? ' ' : (uint8_t)at[i]);
        }
    }
    text_end(t);
}

/* --------------------------------------------------------------------------- forms */

static void wipe(struct form_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        sodium_memzero(fields[i].value, fields[i].cap); /* it may be a password */
        fields[i].len = 0;
        fields[i].present = false;
    }
}

static struct form_field *field_of(struct form_field *fields, size_t count,
                                   const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

static int read_pair(const char *pair, size_t len, struct form_field *fields,
                     size_t count)
{
    char name[FORM_NAME_LEN];
    const char *equals = memchr(pair, '=', len);
    size_t name_len = equals != NULL ? (size_t)(equals - pair) : len;
    size_t value_at = equals != NULL ? name_len + 1 : len;
    struct text n = text_into(name, sizeof(name));
    decode(&n, pair, name_len, true);
    struct form_field *f = n.overflow || n.bad ? NULL : field_of(fields, count, name);
    struct text v = f != NULL ? text_into(f->value, f->cap) : text_into(NULL, 0);
    if (f != NULL && f->present)
        return POSTERN_ERR_INVALID;
    decode(&v, pair + value_at, len - value_at, true);
    if (n.bad || v.bad)
        return POSTERN_ERR_INVALID;
    if (v.overflow)
        return POSTERN_ERR_LIMIT;
    if (f != NULL) {
        f->present = true;
        f->len = v.len;
    }
    return 0;
}

int form_parse(const char *body, size_t len, struct form_field *fields, size_t count)
{
    int rc = len > FORM_BODY_MAX ? POSTERN_ERR_LIMIT : 0;
    wipe(fields, count);
    for (size_t at = 0; at < len && rc == 0;) {
        const char *end = memchr(body + at, '&', len - at);
        size_t pair = end != NULL ? (size_t)(end - body) - at : len - at;
        if (pair > 0)
            rc = read_pair(body + at, pair, fields, count);
        at += pair + 1;
    }
    if (rc != 0)
        wipe(fields, count);
    return rc;
}

/* ------------------------------------------------------------------------- cookies */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* cookie-octet of RFC 6265 section 4.1.1 */
static bool is_cookie_octet(char c)
{
    return c > ' ' && c < DEL && c != '"' && c != ',' && c != ';' && c != '\\';
}

static int take_cookie(const char *at, size_t len, char *out, size_t cap)
{
    if (len >= 2 && at[0] == '"' && at[len - 1] == '"') {
        at++;
        len -= 2;
    }
    for (size_t i = 0; i < len; i++)
        if (!is_cookie_octet(at[i]))
            return POSTERN_ERR_INVALID;
    if (len >= cap)
        return POSTERN_ERR_LIMIT;
    memcpy(out, at, len);
    out[len] = '\0';
    return 0;
}

int form_cookie(const char *header, size_t len, const char *name, char *out, size_t cap)
{
    size_t name_len = strlen(name);
    int rc = POSTERN_ERR_NOTFOUND;
    out[0] = '\0';
    for (size_t at = 0; at < len;) {
        const char *end = memchr(header + at, ';', len - at);
        size_t stop = end != NULL ? (size_t)(end - header) : len;
        size_t next = stop + 1;
        while (at < stop && is_blank(header[at]))
            at++;
        while (stop > at && is_blank(header[stop - 1]))
            stop--;
        if (stop - at > name_len && header[at + name_len] == '=' &&
            memcmp(header + at, name, name_len) == 0) {
            at += name_len + 1;
            /* Twice: one of them was put there by somebody else. */
            rc = rc != POSTERN_ERR_NOTFOUND
                     ? POSTERN_ERR_INVALID
                     : take_cookie(header + at, stop - at, out, cap);
            if (rc != 0)
                break;
        }
        at = next;
    }
    if (rc != 0)
        out[0] = '\0';
    return rc;
}

/* ------------------------------------------------------------------------- origins */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
}

static bool read_port(const char *at, size_t len, unsigned *port)
{
    *port = 0;
    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        *port = *port * 10 + (unsigned)(at[i] - '0');
    }
    return *port >= 1 && *port <= 65535;
}

int form_host(const char *host, size_t len, char *out, size_t cap, unsigned *port)
{
    const char *from = host;
    bool literal = len > 0 && host[0] == '[';
    const char *stop = len == 0 ? NULL : memchr(host, literal ? ']' : ':', len);
    size_t used = stop != NULL ? (size_t)(stop - host) : len;
    size_t name_len = used;
    unsigned number = 0;
    out[0] = '\0';
    if (literal) {
        if (stop == NULL)
            return POSTERN_ERR_INVALID;
        from++;
        name_len--;
        used++; /* the bracket */
    }
    if (name_len == 0 ||
        (used < len &&
         (host[used] != ':' || !read_port(host + used + 1, len - used - 1, &number))))
        return POSTERN_ERR_INVALID;
    for (size_t i = 0; i < name_len; i++) {
        char c = lower(from[i]);
        if (literal ? hex(c) < 0 && c != ':' && c != '.' : !is_name_char(c))
            return POSTERN_ERR_INVALID;
    }
    if (name_len >= cap)
        return POSTERN_ERR_LIMIT;
    for (size_t i = 0; i < name_len; i++)
        out[i] = lower(from[i]);
    out[name_len] = '\0';
    if (port != NULL)
        *port = number;
    return 0;
}

bool form_same_origin(const char *origin, size_t origin_len, const char *host,
                      size_t host_len)
{
    static const char scheme[] = "https://";
    const size_t scheme_len = sizeof(scheme) - 1;
    char theirs[HOST_LEN], ours[HOST_LEN];
    unsigned their_port, our_port;
    if (origin_len < scheme_len)
        return false;
    for (size_t i = 0; i < scheme_len; i++)
        if (lower(origin[i]) != scheme[i])
            return false;
    if (form_host(origin + scheme_len, origin_len - scheme_len, theirs, sizeof(theirs),
                  &their_port) != 0 ||
        form_host(host, host_len, ours, sizeof(ours), &our_port) != 0)
        return false;
    return strcmp(theirs, ours) == 0 && (their_port == 0 ? HTTPS_PORT : their_port) ==
                                            (our_port == 0 ? HTTPS_PORT : our_port);
}

/* --------------------------------------------------------------------------- paths */

static int read_segment(struct form_path *p, const char *at, size_t len)
{
    if (p->count == FORM_SEGMENTS_MAX)
        return POSTERN_ERR_LIMIT;
    char *out = p->segments[p->count];
    struct text t = text_into(out, FORM_SEGMENT_LEN);
    decode(&t, at, len, false);
    if (t.bad || len == 0 || strpbrk(out, "/\\") != NULL || strcmp(out, ".") == 0 ||
        strcmp(out, "..") == 0)
        return POSTERN_ERR_INVALID;
    if (t.overflow)
        return POSTERN_ERR_LIMIT;
    p->count++;
    return 0;
}

static bool is_visible(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] <= ' ' || at[i] >= DEL || at[i] == '#')
            return false;
    return true;
}

int form_split_path(struct form_path *p, const char *target, size_t len)
{
    *p = (struct form_path){0};
    if (len == 0 || target[0] != '/')
        return POSTERN_ERR_INVALID;
    if (len > FORM_TARGET_MAX)
        return POSTERN_ERR_LIMIT;
    if (!is_visible(target, len))
        return POSTERN_ERR_INVALID;
    const char *query = memchr(target, '?', len);
    size_t path_len = query != NULL ? (size_t)(query - target) : len;
    int rc = 0;
    for (size_t at = 1; path_len > 1 && at <= path_len && rc == 0;) {
        const char *slash =
            at < path_len ? memchr(target + at, '/', path_len - at) : NULL;
        size_t stop = slash != NULL ? (size_t)(slash - target) : path_len;
        rc = read_segment(p, target + at, stop - at);
        at = stop + 1;
    }
    if (rc != 0) {
        *p = (struct form_path){0};
    } else if (query != NULL) {
        p->query = query + 1;
        p->query_len = len - path_len - 1;
    }
    return rc;
}

bool form_local_path(const char *path)
{
    size_t len = strnlen(path, FORM_TARGET_MAX + 1);
    return len >= 1 && len <= FORM_TARGET_MAX && path[0] == '/' && path[1] != '/' &&
           is_visible(path, len) && strchr(path, '\\') == NULL;
}

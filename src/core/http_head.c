/*
 * A machine of one state for each place in a head (RFC 9112 sections 2 to 6). Where the
 * RFC lets a recipient choose it is strict: browsers and proxies of today send none of
 * what is refused here.
 */
#include "core/http_head.h"

#include <string.h>

enum { EMPTY_LINES_MAX = 4, LENGTH_DIGITS_MAX = 18 };

enum place {
    AT_START, /* of a request */
    AT_START_LF,
    AT_METHOD,
    AT_TARGET,
    AT_VERSION,
    AT_LINE_LF, /* behind a line's CR */
    AT_LINE,    /* at a line's start */
    AT_NAME,
    AT_VALUE,
    AT_END_LF, /* of the head */
    AT_BODY,
    AT_UNSEEN,
};

enum field { FIELD_OTHER, FIELD_HOST, FIELD_LENGTH, FIELD_CODING };

void http_head_init(struct http_head *h)
{
    *h = (struct http_head){.at = AT_START};
}

/* RFC 9110 section 5.6.2 */
static bool is_token(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static void begin_word(struct http_head *h, enum place at)
{
    h->at = at;
    h->len = 0;
}

static void add(struct http_head *h, uint8_t c)
{
    if (h->len < HTTP_HEAD_VALUE_MAX)
        h->word[h->len] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    h->len++;
}

static bool word_is(const struct http_head *h, const char *text)
{
    return h->len == strlen(text) && memcmp(h->word, text, h->len) == 0;
}

/* "HTTP/1.1", a character at a time. */
static const char *on_version(struct http_head *h, uint8_t c)
{
    static const char form[] = "HTTP/1.1";
    if (h->len == sizeof(form) - 1 && c == '\r') {
        h->at = AT_LINE_LF;
        return NULL;
    }
    bool digit = h->len == 5 || h->len == 7;
    if (h->len >= sizeof(form) - 1 ||
        (digit ? c < '0' || c > '9' : c != (uint8_t)form[h->len]))
        return "the request line does not end in an HTTP version";
    if (digit)
        *(h->len == 5 ? &h->major : &h->minor) = (char)c;
    h->len++;
    return NULL;
}

static enum field field_of(const struct http_head *h)
{
    return word_is(h, "host")                ? FIELD_HOST
           : word_is(h, "content-length")    ? FIELD_LENGTH
           : word_is(h, "transfer-encoding") ? FIELD_CODING
                                             : FIELD_OTHER;
}

static const char *on_length(struct http_head *h)
{
    if (++h->lengths > 1)
        return "Content-Length stands there twice";
    if (h->len == 0 || h->len > LENGTH_DIGITS_MAX)
        return "Content-Length is not a number";
    h->body_bytes = 0;
    for (size_t i = 0; i < h->len; i++) {
        if (h->word[i] < '0' || h->word[i] > '9')
            return "Content-Length is not a number";
        h->body_bytes = h->body_bytes * 10 + (uint64_t)(h->word[i] - '0');
    }
    return NULL;
}

/* A whole field, without the white space around its value. */
static const char *on_field(struct http_head *h)
{
    while (h->len > 0 && h->len <= HTTP_HEAD_VALUE_MAX &&
           is_blank((uint8_t)h->word[h->len - 1]))
        h->len--;
    switch ((enum field)h->field) {
    case FIELD_OTHER:
        return NULL;
    case FIELD_HOST:
        if (++h->hosts > 1)
            return "Host stands there twice";
        if (h->len > HTTP_HEAD_VALUE_MAX)
            return "Host is too long";
        h->word[h->len] = '\0';
        return strcspn(h->word, " \t,/\\@?#\"<>") == h->len ? NULL
                                                            : "Host is not a host";
    case FIELD_LENGTH:
        return on_length(h);
    case FIELD_CODING:
        return ++h->codings == 1 && word_is(h, "chunked")
                   ? NULL
                   : "Transfer-Encoding is something other than chunked";
    }
    return NULL;
}

/* All fields are known. */
static const char *on_head(struct http_head *h)
{
    bool old = h->major == '1' && h->minor == '0';
    if (h->hosts == 0 && !old)
        return "Host is missing";
    if (h->codings > 0 && h->lengths > 0)
        return "both Content-Length and Transfer-Encoding stand there";
    if (h->codings > 0 && old)
        return "HTTP/1.0 has no Transfer-Encoding";
    return NULL;
}

static void after_head(struct http_head *h)
{
    uint64_t body_bytes = h->body_bytes;
    bool unseen = h->codings > 0 || h->major != '1';
    http_head_init(h);
    h->body_bytes = body_bytes;
    if (unseen)
        h->at = AT_UNSEEN;
    else if (body_bytes > 0)
        h->at = AT_BODY;
}

static const char *on_start(struct http_head *h, uint8_t c)
{
    if (c == '\r' && h->empty_lines++ < EMPTY_LINES_MAX)
        h->at = AT_START_LF;
    else if (is_token(c))
        h->at = AT_METHOD;
    else
        return "it does not begin with a method";
    return NULL;
}

static const char *on_line(struct http_head *h, uint8_t c)
{
    if (c == '\r') {
        h->at = AT_END_LF;
        return on_head(h);
    }
    if (is_blank(c))
        return "a line begins with white space";
    if (!is_token(c))
        return "a field's name has a character that none has";
    begin_word(h, AT_NAME);
    add(h, c);
    return NULL;
}

static const char *on_name(struct http_head *h, uint8_t c)
{
    if (c == ':') {
        h->field = (int)field_of(h);
        begin_word(h, AT_VALUE);
    } else if (is_token(c)) {
        add(h, c);
    } else {
        return is_blank(c) ? "white space stands before a colon"
                           : "a field's name has a character that none has";
    }
    return NULL;
}

static const char *on_value(struct http_head *h, uint8_t c)
{
    if (c == '\r') {
        h->at = AT_LINE_LF;
        return on_field(h);
    }
    if ((c < ' ' && c != '\t') || c == 0x7f)
        return "a field has a control character";
    if (h->len > 0 || !is_blank(c))
        add(h, c);
    return NULL;
}

static const char *on_target(struct http_head *h, uint8_t c)
{
    if (c == ' ' && h->len > 0)
        begin_word(h, AT_VERSION);
    else if (c > ' ' && c < 0x7f)
        h->len++;
    else
        return "the request line has a character that none has";
    return NULL;
}

static const char *on_lf(struct http_head *h, uint8_t c)
{
    if (c != '\n')
        return "a carriage return stands alone";
    if (h->at == AT_END_LF)
        after_head(h);
    else
        h->at = h->at == AT_START_LF ? AT_START : AT_LINE;
    return NULL;
}

static const char *on_byte(struct http_head *h, uint8_t c)
{
    switch ((enum place)h->at) {
    case AT_START:
        return on_start(h, c);
    case AT_METHOD:
        if (c == ' ')
            begin_word(h, AT_TARGET);
        else if (!is_token(c))
            return "a method has a character that none has";
        return NULL;
    case AT_TARGET:
        return on_target(h, c);
    case AT_VERSION:
        return on_version(h, c);
    case AT_LINE:
        return on_line(h, c);
    case AT_NAME:
        return on_name(h, c);
    case AT_VALUE:
        return on_value(h, c);
    case AT_START_LF:
    case AT_LINE_LF:
    case AT_END_LF:
        return on_lf(h, c);
    case AT_BODY:
        if (--h->body_bytes == 0)
            h->at = AT_START;
        return NULL;
    case AT_UNSEEN:
        return NULL;
    }
    return NULL;
}

size_t http_head_pass(struct http_head *h, const uint8_t *data, size_t len)
{
    size_t i = 0;
    while (i < len && h->fault == NULL) {
        h->fault = on_byte(h, data[i]);
        i += h->fault == NULL;
    }
    return i;
}

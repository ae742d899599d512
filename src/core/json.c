/*
 * Writes JSON into a fixed buffer and reads back flat objects. It allocates nothing
 * and knows no event. The reader skips nested values by counting brackets outside of
 * text, which is enough for what the writer produces and bounded for anything else.
 */
#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/utf8.h"

struct json json_writer(char *buf, size_t cap)
{
    if (cap > 0)
        buf[0] = '\0';
    return (struct json){.buf = buf, .cap = cap};
}

static void put(struct json *j, const char *text, size_t len)
{
    if (j->failed || j->used >= j->cap || j->cap - j->used <= len) {
        j->failed = true;
        return;
    }
    memcpy(j->buf + j->used, text, len);
    j->used += len;
    j->buf[j->used] = '\0';
}

static void put_escaped(struct json *j, unsigned char c)
{
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char buf[8];
    for (size_t i = 0; letters[i] != '\0'; i += 2)
        if ((unsigned char)letters[i] == c) {
            buf[0] = '\\';
            buf[1] = letters[i + 1];
            put(j, buf, 2);
            return;
        }
    (void)snprintf(buf, sizeof(buf), "\\u%04x", c);
    put(j, buf, 6);
}

static void put_string(struct json *j, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    put(j, "\"", 1);
    while (*s != '\0' && !j->failed) {
        size_t n = utf8_len(s);
        if (n == 0) {
            put(j, "\xef\xbf\xbd", 3);
            s++;
        } else if (*s < 0x20 || *s == '"' || *s == '\\' || *s == 0x7f) {
            put_escaped(j, *s++);
        } else if (*s == 0xc2 && s[1] < 0xa0) {
            put_escaped(j, s[1]); /* C1: some terminals obey them */
            s += 2;
        } else {
            put(j, (const char *)s, n);
            s += n;
        }
    }
    put(j, "\"", 1);
}

static void put_name(struct json *j, const char *name)
{
    if (j->comma)
        put(j, ",", 1);
    j->comma = true;
    if (name != NULL) {
        put_string(j, name);
        put(j, ":", 1);
    }
}

static void put_bracket(struct json *j, const char *name, const char *bracket)
{
    put_name(j, name);
    put(j, bracket, 1);
    j->comma = false;
}

void json_object_begin(struct json *j, const char *name)
{
    put_bracket(j, name, "{");
}

void json_object_end(struct json *j)
{
    put(j, "}", 1);
    j->comma = true;
}

void json_array_begin(struct json *j, const char *name)
{
    put_bracket(j, name, "[");
}

void json_array_end(struct json *j)
{
    put(j, "]", 1);
    j->comma = true;
}

void json_raw(struct json *j, const char *name, const char *raw)
{
    put_name(j, name);
    put(j, raw, strlen(raw));
}

void json_text(struct json *j, const char *name, const char *text)
{
    if (text == NULL) {
        json_raw(j, name, "null");
        return;
    }
    put_name(j, name);
    put_string(j, text);
}

void json_int(struct json *j, const char *name, int64_t v)
{
    char buf[24];
    (void)snprintf(buf, sizeof(buf), "%lld", (long long)v);
    json_raw(j, name, buf);
}

void json_real(struct json *j, const char *name, double v, int decimals)
{
    char buf[64];
    if (!isfinite(v) || fabs(v) >= 1e18) {
        json_raw(j, name, "null");
        return;
    }
    int n = snprintf(buf, sizeof(buf), "%.*f", decimals, v);
    if (strchr(buf, '.') != NULL) {
        while (buf[n - 1] == '0')
            buf[--n] = '\0';
        if (buf[n - 1] == '.')
            buf[--n] = '\0';
    }
    json_raw(j, name, buf);
}

void json_bool(struct json *j, const char *name, bool v)
{
    json_raw(j, name, v ? "true" : "false");
}

int json_end(const struct json *j)
{
    return j->failed ? POSTERN_ERR_LIMIT : (int)j->used;
}

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')
        at++;
    return at;
}

/* `at` is behind the opening quote; returns the closing one, or NULL. */
static const char *string_end(const char *at)
{
    for (; *at != '\0'; at++) {
        if (*at == '"')
            return at;
        if (*at == '\\' && *++at == '\0')
            return NULL;
    }
    return NULL;
}

static const char *nested_end(const char *at)
{
    size_t depth = 0;
    for (; at != NULL && *at != '\0'; at++) {
        if (*at == '"') {
            at = string_end(at + 1);
            if (at == NULL)
                return NULL;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (--depth == 0)
                return at + 1;
        }
    }
    return NULL;
}

/* Reads the value at `at`; returns what is behind it, or NULL. */
static const char *read_value(struct json_value *v, const char *at)
{
    const char *end;
    v->at = at;
    if (*at == '"') {
        end = string_end(at + 1);
        if (end == NULL)
            return NULL;
        *v = (struct json_value){JSON_TEXT, at + 1, (size_t)(end - at - 1)};
        return end + 1;
    }
    if (*at == '{' || *at == '[') {
        v->type = *at == '{' ? JSON_OBJECT : JSON_ARRAY;
        end = nested_end(at);
        if (end == NULL)
            return NULL;
    } else {
        end = at + strcspn(at, ",]} \t\r\n");
        if (end == at)
            return NULL;
        v->type = *at == 't' || *at == 'f' ? JSON_BOOL
                  : *at == 'n'             ? JSON_NULL
                                           : JSON_NUMBER;
    }
    v->len = (size_t)(end - at);
    return end;
}

int json_next(const char *text, const char **at, struct json_value *name,
              struct json_value *v)
{
    const char *p = *at;
    if (p == NULL) {
        p = skip_space(text);
        if (*p++ != '{')
            return POSTERN_ERR_INVALID;
        p = skip_space(p);
        if (*p == '}')
            return 0;
    } else {
        p = skip_space(p);
        if (*p == '}')
            return 0;
        if (*p++ != ',')
            return POSTERN_ERR_INVALID;
        p = skip_space(p);
    }
    if (*p != '"' || (p = read_value(name, p)) == NULL)
        return POSTERN_ERR_INVALID;
    p = skip_space(p);
    if (*p != ':')
        return POSTERN_ERR_INVALID;
    p = read_value(v, skip_space(p + 1));
    if (p == NULL)
        return POSTERN_ERR_INVALID;
    *at = p;
    return 1;
}

int json_find(struct json_value *v, const char *text, const char *name)
{
    const char *at = NULL;
    struct json_value key;
    size_t len = strlen(name);
    int r;
    while ((r = json_next(text, &at, &key, v)) == 1)
        if (key.len == len && memcmp(key.at, name, len) == 0)
            return 0;
    return r == 0 ? POSTERN_ERR_NOTFOUND : r;
}

struct words {
    char *buf;
    size_t cap;
    size_t used;
    bool full;
};

static void words_put(struct words *w, const char *text, size_t len)
{
    if (w->full || w->cap - w->used <= len) {
        w->full = true;
        return;
    }
    memcpy(w->buf + w->used, text, len);
    w->used += len;
}

static int hex4(const char *at, const char *end, unsigned *v)
{
    *v = 0;
    if (end - at < 4)
        return POSTERN_ERR_INVALID;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef";
        const char *d =
            strchr(digits, at[i] >= 'A' && at[i] <= 'F' ? at[i] + 32 : at[i]);
        if (d == NULL || *d == '\0')
            return POSTERN_ERR_INVALID;
        *v = *v << 4 | (unsigned)(d - digits);
    }
    return 0;
}

/* One escape behind its backslash; returns how many characters it took. */
static size_t words_escape(struct words *w, const char *at, const char *end)
{
    static const char controls[] = "bfnrt";
    unsigned v;
    if (*at == 'u' && hex4(at + 1, end, &v) == 0) {
        char c = v < 0x80 && v >= 0x20 && v != 0x7f ? (char)v : '?';
        words_put(w, &c, 1);
        return 5;
    }
    bool control = strchr(controls, *at) != NULL;
    words_put(w, control ? " " : at, 1);
    return 1;
}

static void words_text(struct words *w, const char *at, size_t len)
{
    const char *end = at + len;
    while (at < end && !w->full) {
        if (*at == '\\' && at + 1 < end) {
            at += 1 + words_escape(w, at + 1, end);
            continue;
        }
        size_t n = utf8_len((const unsigned char *)at);
        if (n == 0 || n > (size_t)(end - at) || (unsigned char)*at < 0x20) {
            words_put(w, "?", 1);
            at++;
        } else {
            words_put(w, at, n);
            at += n;
        }
    }
}

static void words_array(struct words *w, const char *at, const char *end)
{
    bool first = true;
    for (at = skip_space(at + 1); at < end && *at != ']';) {
        struct json_value v;
        const char *next = read_value(&v, at);
        if (next == NULL || next > end)
            return;
        if (!first)
            words_put(w, ", ", 2);
        first = false;
        words_text(w, v.at, v.len);
        at = skip_space(next);
        if (*at == ',')
            at = skip_space(at + 1);
    }
}

void json_value_words(const struct json_value *v, char *buf, size_t cap)
{
    if (cap == 0)
        return;
    struct words w = {.buf = buf, .cap = cap};
    if (v->type == JSON_ARRAY)
        words_array(&w, v->at, v->at + v->len);
    else
        words_text(&w, v->at, v->len);
    buf[w.used] = '\0';
}

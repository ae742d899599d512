/* Any bytes as a body, a Cookie header, a host and a path; what comes out is text. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CAP = 40 };

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* NUL-terminated inside `cap`, without control characters. */
static size_t check_text(const char *s, size_t cap)
{
    check(memchr(s, '\0', cap) != NULL);
    for (const char *c = s; *c != '\0'; c++)
        check((unsigned char)*c >= ' ' && *c != 0x7f);
    return strlen(s);
}

static void body(const char *in, size_t size)
{
    char a[CAP], b[1];
    struct form_field fields[] = {{.name = "a", .value = a, .cap = sizeof(a)},
                                  {.name = "b", .value = b, .cap = sizeof(b)}};
    int rc = form_parse(in, size, fields, 2);
    check(check_text(a, sizeof(a)) == fields[0].len);
    check(check_text(b, sizeof(b)) == fields[1].len);
    check(rc == 0 || (!fields[0].present && !fields[1].present && a[0] == '\0'));
    check(fields[0].present || a[0] == '\0');
}

static void path(const char *in, size_t size)
{
    struct form_path p;
    int rc = form_split_path(&p, in, size);
    check(p.count <= FORM_SEGMENTS_MAX && (rc == 0 || (p.count == 0 && !p.query)));
    for (size_t i = 0; i < p.count; i++) {
        check(check_text(p.segments[i], FORM_SEGMENT_LEN) > 0);
        check(strchr(p.segments[i], '/') == NULL && strcmp(p.segments[i], "..") != 0);
    }
    check(p.query == NULL || (p.query > in && p.query + p.query_len == in + size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *in = (const char *)data;
    char out[CAP];
    unsigned port = 0;
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check(!form_local_path(text) || (text[0] == '/' && text[1] != '/'));
    free(text);
    body(in, size);
    path(in, size);
    int rc = form_cookie(in, size, "a", out, sizeof(out));
    check(check_text(out, sizeof(out)) == 0 || rc == 0);
    rc = form_host(in, size, out, sizeof(out), &port);
    check((check_text(out, sizeof(out)) > 0) == (rc == 0) && port <= 65535);
    if (size > 0) { /* the first byte divides the rest */
        size_t cut = data[0] < size ? data[0] : size - 1;
        (void)form_same_origin(in + 1, cut, in + 1 + cut, size - 1 - cut);
    }
    return 0;
}

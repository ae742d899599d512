/*
 * Blocks in a hosts file. A block whose last line was taken away by somebody ends where
 * the lines stop looking like ours, so that nothing of others is lost with it.
 */
#include "core/hosts_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_LEN = 192, MARK_LEN = 512 };

static const char begin_head[] = "# BEGIN 'postern up' of ";
static const char begin_tail[] = " (it takes these lines away)";

struct marks {
    char begin[MARK_LEN], end[MARK_LEN]; /* without their line breaks */
};

static void make_marks(struct marks *m, const char *owner)
{
    char plain[MARK_LEN - 96];
    size_t len = 0;
    for (; len < sizeof(plain) - 1 && owner[len] != '\0'; len++)
        plain[len] = (unsigned char)owner[len] < ' ' ? '?' : owner[len];
    plain[len] = '\0';
    (void)snprintf(m->begin, sizeof(m->begin), "%s%s%s", begin_head, plain, begin_tail);
    (void)snprintf(m->end, sizeof(m->end), "# END 'postern up' of %s", plain);
}

static bool is_line(const char *line, size_t len, const char *what)
{
    return strlen(what) == len && memcmp(line, what, len) == 0;
}

/* One that hosts_text_set may have written between the marks. */
static bool is_ours(const char *line, size_t len)
{
    static const char begin[] = "127.80.", end[] = ".postern";
    size_t b = sizeof(begin) - 1, e = sizeof(end) - 1;
    return len > b + e && memcmp(line, begin, b) == 0 &&
           memcmp(line + len - e, end, e) == 0;
}

static size_t copy_others(char *to, const char *text, size_t len, const struct marks *m)
{
    size_t used = 0;
    bool inside = false;
    for (size_t at = 0, whole; at < len; at += whole) {
        const char *line = text + at, *stop = memchr(line, '\n', len - at);
        size_t n = stop != NULL ? (size_t)(stop - line) : len - at;
        whole = n + (stop != NULL ? 1 : 0);
        if (is_line(line, n, m->begin)) {
            inside = true;
            continue;
        }
        bool ends = inside && is_line(line, n, m->end);
        inside = inside && !ends && is_ours(line, n);
        if (ends || inside)
            continue;
        memcpy(to + used, line, whole);
        used += whole;
    }
    return used;
}

static size_t add_block(char *to, size_t cap, const struct marks *m,
                        const struct hosts_name *names, size_t n)
{
    size_t used = (size_t)snprintf(to, cap, "%s\n", m->begin);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *ip = names[i].addr.ip;
        used += (size_t)snprintf(to + used, cap - used, "%u.%u.%u.%u %s.postern\n",
                                 ip[0], ip[1], ip[2], ip[3], names[i].host);
    }
    return used + (size_t)snprintf(to + used, cap - used, "%s\n", m->end);
}

int hosts_text_set(char **out, size_t *out_len, const char *text, size_t len,
                   const char *owner, const struct hosts_name *names, size_t n)
{
    struct marks m;
    make_marks(&m, owner);
    size_t cap = len + 2 + sizeof(m) + n * LINE_MAX_LEN;
    char *to = malloc(cap);
    if (to == NULL)
        return POSTERN_ERR_NOMEM;
    size_t used = copy_others(to, text, len, &m);
    if (n > 0) {
        if (used > 0 && to[used - 1] != '\n')
            to[used++] = '\n';
        used += add_block(to + used, cap - used, &m, names, n);
    }
    *out = to;
    *out_len = used;
    return 0;
}

bool hosts_text_next(const char *text, size_t len, size_t *at, char *owner, size_t cap)
{
    size_t head = sizeof(begin_head) - 1, tail = sizeof(begin_tail) - 1;
    while (*at < len) {
        const char *line = text + *at, *stop = memchr(line, '\n', len - *at);
        size_t n = stop != NULL ? (size_t)(stop - line) : len - *at;
        *at += n + (stop != NULL ? 1 : 0);
        if (n <= head + tail || n - head - tail >= cap ||
            memcmp(line, begin_head, head) != 0 ||
            memcmp(line + n - tail, begin_tail, tail) != 0)
            continue;
        memcpy(owner, line + head, n - head - tail);
        owner[n - head - tail] = '\0';
        return true;
    }
    return false;
}

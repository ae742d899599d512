/* vsnprintf with a bound that lasts; knows no rule. */
#include "helper/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "helper/parts.h"

int refuse(struct privilege_reply *r, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(r->reason, sizeof(r->reason), fmt, ap);
    va_end(ap);
    r->err = err;
    return err;
}

struct text text_new(size_t cap)
{
    return (struct text){.buf = calloc(1, cap), .cap = cap};
}

void text_put(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->buf + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    if (n > 0)
        t->len = t->len + (size_t)n < t->cap ? t->len + (size_t)n : t->cap;
}

bool text_is_whole(const struct text *t)
{
    return t->len < t->cap - 1;
}

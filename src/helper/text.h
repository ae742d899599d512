/* A bounded text that rules are written into. Cut when full: see text_is_whole. */
#ifndef POSTERN_HELPER_TEXT_H
#define POSTERN_HELPER_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

struct text {
    char *buf; /* of `cap` bytes; free(3) it */
    size_t len, cap;
};

/* `buf` is NULL when memory is short; nothing may be put into it then. */
struct text text_new(size_t cap);
void text_put(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool text_is_whole(const struct text *t);

#endif

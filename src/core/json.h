/*
 * JSON for events: a bounded writer with a sticky error, and a reader of the flat
 * objects that the writer makes. It knows the grammar of RFC 8259 and no event.
 */
#ifndef POSTERN_CORE_JSON_H
#define POSTERN_CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

struct json {
    char *buf; /* borrowed; always NUL-terminated when cap > 0 */
    size_t cap;
    size_t used;
    bool comma;
    bool failed; /* out of room: later calls do nothing */
};

/* `buf` is borrowed while the writer is in use. */
struct json json_writer(char *buf, size_t cap);
/*
 * Every call below takes the member's name, or NULL inside an array and for the
 * outermost value. A NULL text is written as null. Text that is not valid UTF-8 has
 * each bad byte replaced by U+FFFD.
 */
void json_object_begin(struct json *j, const char *name);
void json_object_end(struct json *j);
void json_array_begin(struct json *j, const char *name);
void json_array_end(struct json *j);
void json_text(struct json *j, const char *name, const char *text);
void json_int(struct json *j, const char *name, int64_t v);
/* `v` in decimal with at most `decimals` digits behind the point; NaN becomes null. */
void json_real(struct json *j, const char *name, double v, int decimals);
void json_bool(struct json *j, const char *name, bool v);
/* `raw` is JSON that somebody else wrote and that is known to be valid. */
void json_raw(struct json *j, const char *name, const char *raw);
/* The length of the text, or POSTERN_ERR_LIMIT when it did not fit. */
MUST_CHECK int json_end(const struct json *j);

enum json_type {
    JSON_TEXT,
    JSON_NUMBER,
    JSON_BOOL,
    JSON_NULL,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json_value {
    enum json_type type;
    const char *at; /* inside the text that was searched */
    size_t len;
};

/*
 * Finds member `name` of the object `text`. POSTERN_ERR_NOTFOUND when it has none,
 * POSTERN_ERR_INVALID when the text is not an object or is broken before the member.
 */
MUST_CHECK int json_find(struct json_value *v, const char *text, const char *name);
/*
 * Walks the object `text`: `at` begins as NULL; returns 1 with the next member's name
 * and value, 0 at the end, POSTERN_ERR_INVALID when the text is broken.
 */
MUST_CHECK int json_next(const char *text, const char **at, struct json_value *name,
                         struct json_value *v);
/*
 * Writes the value for people: text without quotes and escapes, arrays of plain
 * values joined by ", ". Cut to `cap` at a character's boundary, NUL-terminated.
 */
void json_value_words(const struct json_value *v, char *buf, size_t cap);

#endif

/*
 * Takes out of a text what tells who somebody is: links, keys, tokens, addresses, and
 * the names that it was given. Each gets a word in its place, the same one each time,
 * so that what belongs together is still seen. Knows no file and no event.
 */
#ifndef POSTERN_CORE_SCRUB_H
#define POSTERN_CORE_SCRUB_H

#include <stddef.h>

enum { SCRUB_WORD_LEN = 256, SCRUB_WORDS_MAX = 256 };

/* Zeroed: nothing is known yet. */
struct scrub {
    struct {
        char text[SCRUB_WORD_LEN]; /* in lower case */
        const char *kind;          /* static: "name", "address" */
        unsigned number;           /* of its kind */
    } words[SCRUB_WORDS_MAX];
    size_t count;
};

/*
 * `word` becomes <KIND-N> wherever it stands by itself, in upper and lower case. One of
 * a single letter, or that is known, is passed over. `kind` is static.
 */
void scrub_know(struct scrub *s, const char *kind, const char *word);
/* Writes `text` without them, cut to `cap`, NUL-terminated. */
void scrub_text(struct scrub *s, const char *text, char *out, size_t cap);

#endif

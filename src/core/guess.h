/*
 * The word that was meant by one that nobody knows: the nearest of those that are
 * known.
 */
#ifndef POSTERN_CORE_GUESS_H
#define POSTERN_CORE_GUESS_H

#include <stddef.h>

#define GUESS_LEN 64 /* longer words are near to none */

struct guess {
    const char *word; /* borrowed */
    char best[GUESS_LEN];
    size_t distance; /* of `best`; the first that is too far while there is none */
};

void guess_begin(struct guess *g, const char *word);
/* `known` is copied when it is the nearest so far. */
void guess_offer(struct guess *g, const char *known);
/* "did you mean 'best'? OTHERWISE", or OTHERWISE alone where no word is near. */
void guess_advice(const struct guess *g, char *out, size_t cap, const char *otherwise);

#endif

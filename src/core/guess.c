/*
 * How far words are from each other: letters put in, left out, mistaken, or exchanged
 * with the next one, in either case. Knows no words.
 */
#include "core/guess.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Both are shorter than GUESS_LEN. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][GUESS_LEN + 1], *before = rows[0], *last = rows[1], *now = rows[2];
    size_t la = strlen(a), lb = strlen(b);
    for (size_t k = 0; k <= lb; k++)
        last[k] = k;
    for (size_t i = 1; i <= la; i++) {
        now[0] = i;
        for (size_t k = 1; k <= lb; k++) {
            now[k] = least(least(last[k], now[k - 1]) + 1,
                           last[k - 1] + !same(a[i - 1], b[k - 1]));
            if (i > 1 && k > 1 && same(a[i - 1], b[k - 2]) && same(a[i - 2], b[k - 1]))
                now[k] = least(now[k], before[k - 2] + 1);
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[lb];
}

void guess_begin(struct guess *g, const char *word)
{
    size_t len = strlen(word);
    *g = (struct guess){.word = word, .distance = len < 3 ? 0 : len < 5 ? 2 : 3};
}

void guess_offer(struct guess *g, const char *known)
{
    size_t len = strlen(g->word), far;
    if (len >= GUESS_LEN || strlen(known) >= GUESS_LEN || g->distance == 0)
        return;
    far = strncasecmp(g->word, known, len) == 0 ? 1 : distance(g->word, known);
    if (far >= g->distance || far >= strlen(known))
        return;
    g->distance = far;
    (void)snprintf(g->best, sizeof(g->best), "%s", known);
}

void guess_advice(const struct guess *g, char *out, size_t cap, const char *otherwise)
{
    if (g->best[0] != '\0')
        (void)snprintf(out, cap, "did you mean '%s'? %s", g->best, otherwise);
    else
        (void)snprintf(out, cap, "%s", otherwise);
}

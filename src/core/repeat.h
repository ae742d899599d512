/*
 * Lines that say the same again and again: the first few are told, then one now and
 * then, with how many were left out. And what is so for long: it is told once, and
 * again when it has changed. Knows neither where they go nor what they mean.
 */
#ifndef POSTERN_CORE_REPEAT_H
#define POSTERN_CORE_REPEAT_H

#include <stdbool.h>
#include <stdint.h>

enum { REPEAT_FREE = 5, REPEAT_MS = 10000 };

/* All zero before the first. */
struct repeat {
    char text[160]; /* the last line, or its beginning */
    uint64_t told_ms;
    unsigned told;     /* equal ones since the first, or since a pause */
    unsigned left_out; /* since the last that was told */
};

/*
 * True: tell it, and that `*left_out` equal ones were not told since. The first
 * REPEAT_FREE equal lines are told, then one each REPEAT_MS; another line, or one
 * after a pause of REPEAT_MS, begins anew.
 */
bool repeat_tell(struct repeat *r, const char *text, uint64_t now_ms,
                 unsigned *left_out);

enum { MINUTE_MS = 60000, MINUTE_LINES = 60 };

/* Lines that strangers can cause, which shall push nothing else out; zero at first. */
struct minute {
    uint64_t since_ms;
    unsigned lines;
};

/* True for the first MINUTE_LINES of each minute. */
bool minute_tell(struct minute *m, uint64_t now_ms);

enum { NEWS_FIRST_MS = 5000, NEWS_MAX_MS = 600000 };

/* What is so for long, and may be so for another reason; all zero where nothing is. */
struct news {
    char text[160]; /* as it was told last, or its beginning */
    uint64_t next_ms;
    unsigned gap_ms;
};

/*
 * True: tell it. The first is told at once; another one when it is still so after
 * NEWS_FIRST_MS since the last that was told, and each time twice that, to NEWS_MAX_MS.
 */
bool news_tell(struct news *n, const char *text, uint64_t now_ms);

#endif

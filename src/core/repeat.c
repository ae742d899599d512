/* Counts equal lines, and compares them. */
#include "core/repeat.h"

#include <stdio.h>
#include <string.h>

bool repeat_tell(struct repeat *r, const char *text, uint64_t now_ms,
                 unsigned *left_out)
{
    bool same = r->told > 0 && strncmp(r->text, text, sizeof(r->text) - 1) == 0;
    bool due = now_ms - r->told_ms >= REPEAT_MS;
    *left_out = 0;
    if (same && !due && r->told >= REPEAT_FREE) {
        r->left_out++;
        return false;
    }
    if (!same || (due && r->left_out == 0))
        r->told = 0;
    if (same)
        *left_out = r->left_out;
    else
        (void)snprintf(r->text, sizeof(r->text), "%s", text);
    r->left_out = 0;
    r->told++;
    r->told_ms = now_ms;
    return true;
}

bool minute_tell(struct minute *m, uint64_t now_ms)
{
    if (now_ms - m->since_ms >= MINUTE_MS)
        *m = (struct minute){.since_ms = now_ms};
    return m->lines++ < MINUTE_LINES;
}

bool news_tell(struct news *n, const char *text, uint64_t now_ms)
{
    bool first = n->gap_ms == 0;
    if (!first &&
        (now_ms < n->next_ms || strncmp(n->text, text, sizeof(n->text) - 1) == 0))
        return false;
    (void)snprintf(n->text, sizeof(n->text), "%s", text);
    n->gap_ms = first ? NEWS_FIRST_MS : 2 * n->gap_ms;
    if (n->gap_ms > NEWS_MAX_MS)
        n->gap_ms = NEWS_MAX_MS;
    n->next_ms = now_ms + n->gap_ms;
    return true;
}

/* Counts equal lines. */
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

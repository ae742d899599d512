/* When a crowd has gone; see spare.h. */
#include "io/spare.h"

#include <malloc.h>

enum {
    CROWD = 128,                  /* fewer leave nothing that is worth the time */
    FALL_BYTES = 16 * 1024 * 1024 /* the same */
};

void spare_count(struct spare *s)
{
    s->begun++;
}

void spare_look(struct spare *s, size_t in_use)
{
    if (s->begun < CROWD || in_use > CROWD / 4)
        return;
    s->begun = 0;
    (void)malloc_trim(0);
}

void spare_look_bytes(struct spare *s, size_t in_use)
{
    size_t now = mallinfo2().uordblks;
    if (now > s->most)
        s->most = now;
    spare_look(s, in_use);
    if (s->most - now < FALL_BYTES || now > s->most / 2)
        return;
    s->most = now;
    s->begun = 0;
    (void)malloc_trim(0);
}

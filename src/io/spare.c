/* When a crowd has gone; see spare.h. */
#include "io/spare.h"

#include <malloc.h>

enum { CROWD = 128 }; /* fewer leave nothing that is worth the time */

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

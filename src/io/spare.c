/*
 * When a crowd has gone; see spare.h. glibc's allocator is asked; musl's gives back
 * whole groups of pieces by itself and tells nothing.
 */
#include "io/spare.h"

#include <malloc.h>

enum {
    CROWD = 128,                  /* fewer leave nothing that is worth the time */
    FALL_BYTES = 16 * 1024 * 1024 /* the same */
};

/* Where a sanitizer's allocator has its place, glibc's was never set up: two threads
 * that ask it to give back do so at once, and one reads what is not there yet. */
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                            \
    !defined(__SANITIZE_THREAD__)
static size_t lent_out(void)
{
    return mallinfo2().uordblks;
}

static void give_back(void)
{
    (void)malloc_trim(0);
}
#else
static size_t lent_out(void)
{
    return 0;
}

static void give_back(void)
{
}
#endif

void spare_count(struct spare *s)
{
    s->begun++;
}

void spare_count_forgotten(struct spare *s, size_t n)
{
    s->begun += n;
}

void spare_look(struct spare *s, size_t in_use)
{
    if (s->begun < CROWD || in_use > CROWD / 4)
        return;
    s->begun = 0;
    give_back();
}

void spare_look_bytes(struct spare *s, size_t in_use)
{
    size_t now = lent_out();
    if (now > s->most)
        s->most = now;
    spare_look(s, in_use);
    if (s->most - now < FALL_BYTES || now > s->most / 2)
        return;
    s->most = now;
    s->begun = 0;
    give_back();
}

/*
 * Gives memory back to the system after a crowd has gone. The allocator keeps what was
 * freed in small pieces, for the next crowd; whoever serves strangers would keep the
 * size of the largest for ever.
 */
#ifndef POSTERN_IO_SPARE_H
#define POSTERN_IO_SPARE_H

#include <stddef.h>

/* All zero is one that has seen nobody. */
struct spare {
    size_t begun; /* since memory was last given back */
    size_t most;  /* bytes in use at once, as seen since then */
};

/* One more of the crowd began, or one that had stayed for long has gone. */
void spare_count(struct spare *s);
/* So many of what was kept of it are forgotten, long after it left. */
void spare_count_forgotten(struct spare *s, size_t n);
/* Call now and then; `in_use`: how many there are. */
void spare_look(struct spare *s, size_t in_use);

/*
 * The same, by what the allocator has lent out: call every few seconds. Gives back when
 * that has fallen by 16 MiB and to a half, too.
 */
void spare_look_bytes(struct spare *s, size_t in_use);

#endif

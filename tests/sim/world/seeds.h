/*
 * Seeds one after the other, each played in a process of its own, so that what one
 * leaves is nothing to the next. What is played is the caller's.
 */
#ifndef POSTERN_SIM_SEEDS_H
#define POSTERN_SIM_SEEDS_H

#include <stdbool.h>
#include <stdint.h>

struct seeds {
    uint64_t count, from;
    bool keep;       /* go on after one that fails */
    unsigned play_s; /* so long one may take, of real time */
};

/* True: the word at `*i` is one of ours (--seeds N, --from S, --keep), and taken. */
bool seeds_take(struct seeds *s, int argc, char **argv, int *i);
/* `play` ends its process, by 0 where all went well. The status of the whole program.
 */
int seeds_play(const struct seeds *s, void (*play)(void *ctx, uint64_t seed),
               void *ctx);

#endif

/* One scene, played by the real programs; what must hold is in faults.c. */
#ifndef POSTERN_SIM_FAULTS_H
#define POSTERN_SIM_FAULTS_H

#include "scene.h"

struct outcome {
    uint64_t trace; /* a number of all that happened */
    uint64_t longest_us, lasted_us;
};

/* Ends the process, with the seed on stderr, where something does not hold. */
struct outcome faults_play(const struct scene *s);

#endif

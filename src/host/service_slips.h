/* What a text that is no SERVICE was probably meant as. */
#ifndef POSTERN_HOST_SERVICE_SLIPS_H
#define POSTERN_HOST_SERVICE_SLIPS_H

#include <stdbool.h>

enum { SERVICE_GUESS_LEN = 160 };

/* Each guess is one that `fits` takes; false: who knows. */
bool service_guess(char out[static SERVICE_GUESS_LEN], const char *text,
                   bool (*fits)(const char *text));

#endif

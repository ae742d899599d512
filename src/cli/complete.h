/* What a shell offers on Tab. */
#ifndef POSTERN_CLI_COMPLETE_H
#define POSTERN_CLI_COMPLETE_H

#include <stddef.h>
#include <stdio.h>

/* What the last of `words`, which follow the program's name, may become; nothing is
 * made and nobody is asked. */
void complete_print(FILE *out, const char *const *words, size_t count);

#endif

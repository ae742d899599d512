/*
 * Small text files of the state directory, one thing a line: "ABOUT REST". Hints and no
 * more: they may be lost, wrong or old. A file is replaced as a whole; when two
 * programs write at once, the later one's stands. It keeps the 32 newest lines.
 */
#ifndef POSTERN_IO_NOTES_H
#define POSTERN_IO_NOTES_H

#include <stdbool.h>
#include <stddef.h>

enum { NOTES_LINE_MAX = 1024 };

/*
 * The rest of the line about `about`, without its end; false: there is none. `dir` may
 * be NULL here and below: then there is none, and nothing is kept.
 */
bool notes_load(const char *dir, const char *file, const char *about,
                char rest[static NOTES_LINE_MAX]);
/* Replaces it. What cannot be written is not kept, and false. */
bool notes_save(const char *dir, const char *file, const char *about, const char *rest);

#endif

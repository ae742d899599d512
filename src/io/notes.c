/* Written anew beside and put in its place; see notes.h. */
#include "io/notes.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/own_file.h"

enum { LINES_MAX = 32, PATH_LEN = 4200 };

static bool path_of(char path[static PATH_LEN], const char *dir, const char *file,
                    const char *suffix)
{
    if (dir == NULL) /* no state directory: who only looks */
        return false;
    int n = snprintf(path, PATH_LEN, "%s/%s%s", dir, file, suffix);
    return n > 0 && n < PATH_LEN;
}

static FILE *open_notes(const char *dir, const char *path)
{
    int fd = own_file_read(dir, path);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (f == NULL && fd >= 0)
        (void)close(fd);
    return f;
}

/* What follows `about`; NULL: the line is about something else. */
static char *rest_of(char *line, const char *about)
{
    size_t n = strlen(about);
    return strncmp(line, about, n) == 0 && line[n] == ' ' ? line + n + 1 : NULL;
}

bool notes_load(const char *dir, const char *file, const char *about,
                char rest[static NOTES_LINE_MAX])
{
    char path[PATH_LEN], line[NOTES_LINE_MAX], *at = NULL;
    FILE *f = path_of(path, dir, file, "") ? open_notes(dir, path) : NULL;
    if (f == NULL)
        return false;
    for (int i = 0; i < LINES_MAX && at == NULL && fgets(line, sizeof(line), f); i++)
        at = rest_of(line, about);
    (void)fclose(f);
    if (at == NULL)
        return false;
    at[strcspn(at, "\n")] = '\0';
    (void)snprintf(rest, NOTES_LINE_MAX, "%s", at);
    return true;
}

static void copy_others(FILE *to, const char *dir, const char *path, const char *about)
{
    char line[NOTES_LINE_MAX];
    FILE *f = open_notes(dir, path);
    for (int i = 1; f != NULL && i < LINES_MAX && fgets(line, sizeof(line), f); i++)
        if (rest_of(line, about) == NULL && strchr(line, '\n') != NULL)
            (void)fputs(line, to);
    if (f != NULL)
        (void)fclose(f);
}

bool notes_save(const char *dir, const char *file, const char *about, const char *rest)
{
    char path[PATH_LEN], fresh[PATH_LEN], suffix[32];
    (void)snprintf(suffix, sizeof(suffix), ".%ld", (long)getpid());
    if (!path_of(path, dir, file, "") || !path_of(fresh, dir, file, suffix))
        return false;
    (void)unlink(fresh); /* of a process that was killed here */
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    own_file_give(dir, fd);
    (void)fprintf(f, "%s %s\n", about, rest);
    copy_others(f, dir, path, about);
    bool good = ferror(f) == 0;
    good = fclose(f) == 0 && good;
    if (good && rename(fresh, path) == 0)
        return true;
    (void)unlink(fresh);
    return false;
}

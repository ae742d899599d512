/*
 * A text file, one server a line: "HOST PORT ADDRESS ADDRESS ...". Replaced as a whole;
 * when two programs write at once, the later one's file stands.
 */
#include "io/last_good.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"

enum { LINES_MAX = 32, LINE_MAX_LEN = 1024, PATH_LEN = 4200 };

static bool path_of(char path[static PATH_LEN], const char *dir, const char *suffix)
{
    int n = snprintf(path, PATH_LEN, "%s/last-good%s", dir, suffix);
    return n > 0 && n < PATH_LEN;
}

/* The line is about that server; `*rest` is what follows. */
static bool is_about(char *line, const char *host, uint16_t port, char **rest)
{
    char name[300];
    int n = snprintf(name, sizeof(name), "%s %u ", host, port);
    if (n < 0 || (size_t)n >= sizeof(name) || strncmp(line, name, (size_t)n) != 0)
        return false;
    *rest = line + n;
    return true;
}

static size_t parse(char *text, uint16_t port, struct addr *out, size_t max)
{
    size_t n = 0;
    char *save = NULL;
    for (char *word = strtok_r(text, " \n", &save); word != NULL && n < max;
         word = strtok_r(NULL, " \n", &save)) {
        if (addr_parse_ip(&out[n], word) != 0)
            continue;
        out[n].port = port;
        if (addr_scope_of(&out[n]) != ADDR_SCOPE_UNUSABLE)
            n++;
    }
    return n;
}

size_t last_good_load(const char *dir, const char *host, uint16_t port,
                      struct addr *out, size_t max)
{
    char path[PATH_LEN], line[LINE_MAX_LEN], *rest;
    size_t n = 0;
    FILE *f = path_of(path, dir, "") ? fopen(path, "re") : NULL;
    if (f == NULL)
        return 0;
    for (int i = 0; i < LINES_MAX && n == 0 && fgets(line, sizeof(line), f); i++)
        if (is_about(line, host, port, &rest))
            n = parse(rest, port, out, max);
    (void)fclose(f);
    return n;
}

static void copy_others(FILE *to, const char *path, const char *host, uint16_t port)
{
    char line[LINE_MAX_LEN], *rest;
    FILE *f = fopen(path, "re");
    for (int i = 1; f != NULL && i < LINES_MAX && fgets(line, sizeof(line), f); i++)
        if (!is_about(line, host, port, &rest) && strchr(line, '\n') != NULL)
            (void)fputs(line, to);
    if (f != NULL)
        (void)fclose(f);
}

void last_good_save(const char *dir, const char *host, uint16_t port,
                    const struct addr *addrs, size_t n)
{
    char path[PATH_LEN], fresh[PATH_LEN], text[ADDR_TEXT_LEN], suffix[32];
    (void)snprintf(suffix, sizeof(suffix), ".%ld", (long)getpid());
    if (!path_of(path, dir, "") || !path_of(fresh, dir, suffix))
        return;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    (void)fprintf(f, "%s %u", host, port);
    for (size_t i = 0; i < n; i++)
        (void)fprintf(f, " %s", addr_format_ip(&addrs[i], text));
    (void)fputc('\n', f);
    copy_others(f, path, host, port);
    bool good = ferror(f) == 0;
    good = fclose(f) == 0 && good;
    if (!good || rename(fresh, path) != 0) {
        (void)unlink(fresh);
        log_debug("where the broker was found could not be kept");
    }
}

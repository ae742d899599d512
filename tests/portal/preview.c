/*
 * Writes every sample page, and the files that pages ask for, to a directory. Usage:
 * portal-preview DIRECTORY
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "samples.h"

static int write_file(const char *dir, const char *name, const char *end,
                      const char *text, size_t len)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s%s", dir, name, end);
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    size_t n = fwrite(text, 1, len, f);
    if (fclose(f) != 0 || n != len) {
        perror(path);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc != 2) {
        (void)fprintf(stderr, "usage: portal-preview DIRECTORY\n");
        return 2;
    }
    (void)mkdir(argv[1], 0755);
    for (const struct sample *s = samples; s->name != NULL; s++) {
        struct html page = {0};
        s->draw(&page);
        failed |=
            page.failed || write_file(argv[1], s->name, ".html", page.text, page.len);
        html_fini(&page);
    }
    for (const struct page_file *f = page_files; f->path != NULL; f++)
        failed |= write_file(argv[1], f->path + 1, "", f->text, f->len);
    return failed;
}

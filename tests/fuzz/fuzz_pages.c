/*
 * Any text in the portal's pages: the elements and attributes stay those of a harmless
 * text, and what is written is sound HTML.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "markup.h"
#include "samples.h"

#define SKELETON_LEN 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Draws the page and checks it; returns its skeleton, to be freed. */
static char *skeleton_of(unsigned which, const char *text, unsigned number)
{
    struct html page = {0};
    char *skeleton = malloc(SKELETON_LEN);
    size_t at;
    if (skeleton == NULL)
        abort();
    sample_draw_with(&page, which, text, number);
    const char *wrong =
        page.failed ? "failed" : markup_check(page.text, skeleton, SKELETON_LEN, &at);
    if (wrong != NULL) {
        (void)fprintf(stderr, "page %u: %s\n", which, wrong);
        abort();
    }
    html_fini(&page);
    return skeleton;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 600)
        return 0;
    unsigned which = data[0] % SAMPLE_PAGES, number = data[1];
    char *text = strndup((const char *)data + 2, size - 2);
    if (text == NULL)
        abort();
    char *got = skeleton_of(which, text, number);
    if (strlen(text) > 8) { /* shorter ones may be words that mean something */
        char *wanted = skeleton_of(which, "harmless text", number);
        if (strcmp(got, wanted) != 0)
            abort();
        free(wanted);
    }
    free(got);
    free(text);
    return 0;
}

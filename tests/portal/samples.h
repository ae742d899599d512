/* Views to draw pages from: what people will see, and what nobody should send. */
#ifndef TESTS_PORTAL_SAMPLES_H
#define TESTS_PORTAL_SAMPLES_H

#include "portal/pages.h"

/* A page by its name; "fragment-..." is no whole page. Ends with a NULL name. */
struct sample {
    const char *name;
    void (*draw)(struct html *out);
};
extern const struct sample samples[];

#define SAMPLE_PAGES 6
/*
 * Draws page `which` (below SAMPLE_PAGES) with `text` wherever a text can stand, and
 * numbers made from `number`: two pages with the same numbers differ in texts only.
 */
void sample_draw_with(struct html *out, unsigned which, const char *text,
                      unsigned number);

#endif

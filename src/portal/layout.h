/* What all pages share: head, header, messages, small parts. */
#ifndef POSTERN_PORTAL_LAYOUT_H
#define POSTERN_PORTAL_LAYOUT_H

#include "portal/html.h"

/*
 * From the doctype into <main>, with notice and problem; `title` is the document's, and
 * the page writes its own <h1>. `kind` is a class of <main>.
 */
void layout_begin(struct html *h, const struct page_login_state *s, const char *title,
                  const char *kind);
void layout_end(struct html *h);

void layout_hidden(struct html *h, const char *name, const char *value);
/* The first part of a form: POST to `action`, a literal path, and the token. */
void layout_form(struct html *h, const struct page_login_state *s, const char *action);
/* The same to /host/KEY/`verb`. */
void layout_host_form(struct html *h, const struct page_login_state *s,
                      const char *host_key, const char *verb);
/*
 * `text` to copy, with a button that page.js shows where it can copy; `what` says to a
 * screen reader what the button copies.
 */
void layout_copy(struct html *h, const char *text, const char *what);

/*
 * A table whose rows become cards on narrow screens. The roles are written out, since
 * browsers forget them with the changed display. Each row begins with its header.
 * `kind` is a class.
 */
void layout_table(struct html *h, const char *kind, const char *caption,
                  const char *const *heads, size_t count);
void layout_row(struct html *h, const char *text);
void layout_cell(struct html *h, const char *head, const char *text);
void layout_row_end(struct html *h);
void layout_table_end(struct html *h);

#endif

/* What all pages share. Knows no view but the login's. */
#include "portal/layout.h"

static void who(struct html *h, const struct page_login_state *s)
{
    if (s->account == NULL)
        return;
    html_add(h,
             "<div class=\"who\"><span class=\"account\">"
             "<span class=\"vh\">Logged in as </span>%s</span>",
             s->account);
    layout_form(h, s, "/logout");
    html_add(h, "<button class=\"quiet\">Log out</button></form></div>");
}

void layout_begin(struct html *h, const struct page_login_state *s, const char *title,
                  const char *kind)
{
    html_add(
        h,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<title>%s%s \xc2\xb7 Postern</title>\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"color-scheme\" content=\"light dark\">\n"
        "<meta name=\"robots\" content=\"noindex\">\n"
        "<link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\">\n"
        "<link rel=\"stylesheet\" href=\"/style.css\">\n"
        "<script src=\"/page.js\" defer></script>\n</head>\n<body>\n",
        html_is_empty(s->problem) ? "" : "Problem: ", title);
    html_add(
        h,
        "<a class=\"skip\" href=\"#main\">Skip to the content</a>\n"
        "<header class=\"top\"><div class=\"strip\">"
        "<a class=\"mark\" href=\"/\"><img src=\"/icon.svg\" alt=\"\" width=\"28\" "
        "height=\"28\"><span>Postern</span></a>"
        "<span class=\"broker\"><span class=\"vh\">at </span>%s</span>",
        s->broker);
    who(h, s);
    html_add(h, "</div></header>\n<main id=\"main\" tabindex=\"-1\" class=\"%s\">\n",
             kind);
    if (!html_is_empty(s->problem))
        html_add(h, "<p class=\"problem\" role=\"alert\" id=\"problem\">%s</p>\n",
                 s->problem);
    if (!html_is_empty(s->notice))
        html_add(h, "<p class=\"notice\" role=\"status\">%s</p>\n", s->notice);
}

void layout_end(struct html *h)
{
    /* What page.js says to screen readers. */
    html_add(h, "<p class=\"vh\" role=\"status\" id=\"said\"></p>\n</main>\n"
                "</body>\n</html>\n");
}

void layout_hidden(struct html *h, const char *name, const char *value)
{
    html_add(h, "<input type=\"hidden\" name=\"%s\" value=\"%s\">", name, value);
}

void layout_form(struct html *h, const struct page_login_state *s, const char *action)
{
    html_add(h, "<form method=\"post\" action=\"%s\">", action);
    layout_hidden(h, "csrf", s->csrf);
}

void layout_host_form(struct html *h, const struct page_login_state *s,
                      const char *host_key, const char *verb)
{
    html_add(h, "<form method=\"post\" action=\"/host/");
    html_add_segment(h, host_key);
    html_add(h, "/%s\">", verb);
    layout_hidden(h, "csrf", s->csrf);
}

void layout_copy(struct html *h, const char *text, const char *what)
{
    html_add(h,
             "<span class=\"copy\"><code>%s</code><button type=\"button\" "
             "class=\"quiet\" data-copy=\"%s\" hidden>Copy<span class=\"vh\"> %s</span>"
             "</button></span>",
             text, text, what);
}

void layout_table(struct html *h, const char *kind, const char *caption,
                  const char *const *heads, size_t count)
{
    html_add(h,
             "<table role=\"table\" class=\"%s\"><caption class=\"vh\">%s</caption>\n"
             "<thead role=\"rowgroup\"><tr role=\"row\">",
             kind, caption);
    for (size_t i = 0; i < count; i++)
        html_add(h, "<th scope=\"col\" role=\"columnheader\">%s</th>", heads[i]);
    html_add(h, "</tr></thead>\n<tbody role=\"rowgroup\">\n");
}

void layout_row(struct html *h, const char *text)
{
    html_add(h, "<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">%s</th>", text);
}

void layout_cell(struct html *h, const char *head, const char *text)
{
    html_add(h, "<td role=\"cell\" data-head=\"%s\">%s</td>", head, text);
}

void layout_row_end(struct html *h)
{
    html_add(h, "</tr>\n");
}

void layout_table_end(struct html *h)
{
    html_add(h, "</tbody></table>\n");
}

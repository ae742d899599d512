/* A page that only says something. */
#include "portal/layout.h"

void page_message(struct html *out, const struct message_view *v)
{
    layout_begin(out, &v->state, v->title, "narrow");
    html_add(out, "<h1>%s</h1>\n<p class=\"lead\">%s</p>\n", v->title, v->text);
    html_add(out, "<p><a class=\"button\" href=\"%s\">%s</a></p>\n",
             v->state.account == NULL ? "/login" : "/",
             v->state.account == NULL ? "Go to the login" : "Go to the services");
    layout_end(out);
}

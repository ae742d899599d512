/* The login: name and password, then a one-time code where the account has one. */
#include "portal/layout.h"

/* The end of an <input>: what it is described by, and whether it has the focus. */
static void input_end(struct html *h, const struct login_view *v, const char *hint,
                      bool focus)
{
    bool problem = !html_is_empty(v->state.problem);
    if (problem || hint != NULL)
        html_add(h, " aria-describedby=\"%s%s%s\"", problem ? "problem" : "",
                 problem && hint != NULL ? " " : "", hint != NULL ? hint : "");
    html_add(h, focus ? " autofocus></div>\n" : "></div>\n");
}

static void ask_password(struct html *h, const struct login_view *v)
{
    bool again = !html_is_empty(v->name);
    html_add(h,
             "<div class=\"field\"><label for=\"name\">Name</label><input id=\"name\" "
             "name=\"name\" value=\"%s\" autocomplete=\"username\" "
             "autocapitalize=\"none\" spellcheck=\"false\" maxlength=\"255\" required",
             v->name);
    input_end(h, v, NULL, !again);
    html_add(h, "<div class=\"field\"><label for=\"password\">Password</label>"
                "<input id=\"password\" name=\"password\" type=\"password\" "
                "autocomplete=\"current-password\" maxlength=\"256\" required");
    input_end(h, v, NULL, again);
    html_add(h, "<button class=\"primary\">Log in</button></form>\n");
}

static void ask_code(struct html *h, const struct login_view *v)
{
    layout_hidden(h, "name", v->name);
    layout_hidden(h, "step", v->step);
    html_add(
        h,
        "<div class=\"field\"><label for=\"code\">One-time code</label>"
        "<p class=\"hint\" id=\"code-hint\">The six digits that your authenticator "
        "app shows for %s.</p>"
        "<input id=\"code\" name=\"code\" class=\"code\" inputmode=\"numeric\" "
        "autocomplete=\"one-time-code\" pattern=\"[0-9 ]{6,8}\" maxlength=\"8\" "
        "required",
        v->name);
    input_end(h, v, "code-hint", true);
    html_add(h, "<button class=\"primary\">Log in</button></form>\n"
                "<p><a href=\"/login\">Begin again with another name</a></p>\n");
}

void page_login(struct html *out, const struct login_view *v)
{
    layout_begin(out, &v->state, v->ask_code ? "One-time code" : "Log in", "narrow");
    html_add(out, "<h1>%s</h1>\n", v->ask_code ? "One more step" : "Log in");
    if (!v->ask_code)
        html_add(out, "<p class=\"lead\">With the name and password that the owner of "
                      "the server gave you.</p>\n");
    layout_form(out, &v->state, "/login");
    if (v->next != NULL)
        layout_hidden(out, "next", v->next);
    if (v->ask_code)
        ask_code(out, v);
    else
        ask_password(out, v);
    if (!v->ask_code)
        html_add(out, "<p><a href=\"/join\">You have a link or a code in place of a "
                      "name?</a></p>\n");
    layout_end(out);
}

/*
 * What to do with an invite. It is the same for everybody and never sees one: what the
 * broker's page could read the broker could use (docs/SECURITY.md).
 */
#include "portal/layout.h"

void page_join(struct html *out, const struct page_login_state *s, const char *broker)
{
    layout_begin(out, s, "An invite", "narrow");
    html_add(out,
             "<h1>You were invited</h1>\n"
             "<p class=\"lead\">Somebody gave you a link that begins with "
             "<code>postern://</code>, or a number and two words.</p>\n"
             "<h2>On a computer with Linux</h2>\n"
             "<p>Postern must be on it: ask who invited you for its package, or for "
             "the one file that runs on any Linux. Then type one of these in a "
             "terminal, with what you were given:</p>\n<p>");
    layout_copy(out, "postern join 'LINK'", "the command for a link");
    html_add(out,
             "</p>\n<p><code>postern join 7-crossover-clockwork@%s</code></p>\n"
             "<p>After that <code>postern ls</code> says what you may use.</p>\n",
             broker);
    html_add(out,
             "<h2>On a phone or another system</h2>\n"
             "<p>There is no Postern for it yet. Ask who invited you for a name and "
             "a password: with these you come in by this page.</p>\n"
             "<p><a class=\"button\" href=\"/login\">Go to the login</a></p>\n"
             "<p class=\"hint\">Do not paste an invite into this or any other page: "
             "whoever has it can come in.</p>\n");
    layout_end(out);
}

/*
 * What to do with an invite. It is the same for everybody and asks for none: what the
 * broker's page could read the broker could use (docs/SECURITY.md). Who opened a link
 * in a browser all the same comes here, and page.js writes it into the command.
 */
#include "portal/layout.h"

#define JOIN_COMMAND "postern join 'LINK'" /* page.js knows it */

void page_join(struct html *out, const struct page_login_state *s, const char *broker)
{
    layout_begin(out, s, "An invite", "narrow");
    html_add(out,
             "<h1>You were invited</h1>\n"
             "<p class=\"lead\">Somebody gave you a link that begins with "
             "<code>postern://</code>, or a number and two words.</p>\n"
             "<h2 id=\"linux\">On a computer with Linux</h2>\n"
             "<p>Postern must be on it: ask who invited you for its package, or for "
             "the one file that runs on any Linux. Then type one of these in a "
             "terminal, with what you were given:</p>\n<p>");
    layout_copy(out, JOIN_COMMAND, "the command for a link");
    html_add(out,
             "</p>\n<p><code>postern join 7-crossover-clockwork@%s</code></p>\n"
             "<p>After that <code>postern ls</code> says what you may use.</p>\n",
             broker);
    html_add(out,
             "<h2 id=\"other\">On a phone or another system</h2>\n"
             "<p>There is no Postern for it yet. Ask who invited you for a name and "
             "a password: with these you come in by this page.</p>\n"
             "<p><a class=\"button\" href=\"/login\">Go to the login</a></p>\n"
             "<p class=\"hint\">Do not paste an invite into this or any other page: "
             "whoever has it can come in. If you opened its link in the browser, who "
             "runs this broker could have read it: where that matters, ask for another "
             "one, and type it in a terminal only.</p>\n");
    layout_end(out);
}

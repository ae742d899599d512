/* What an owner sees of a host: live paths, devices, invites, the audit log. */
#include "portal/layout.h"
#include "portal/picture.h"

#include <stdio.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static void live(struct html *h, const struct owner_view *v)
{
    html_add(h, "<section aria-labelledby=\"live-title\">\n<h2 id=\"live-title\">"
                "Connected now</h2>\n<div class=\"live\" data-picture=\"/host/");
    html_add_segment(h, v->host.key);
    html_add(h, "/picture\">\n");
    page_picture(h, v);
    html_add(h, "</div>\n<p class=\"hint\" id=\"live-note\" role=\"status\"></p>\n"
                "</section>\n");
}

/* The button hides behind a disclosure, which asks once more without any script. */
static void revoke(struct html *h, const struct owner_view *v,
                   const struct device_view *d)
{
    html_add(h,
             "<td role=\"cell\" class=\"act\"><details><summary>Revoke<span "
             "class=\"vh\"> %s</span></summary>"
             "<p>%s loses access at once and for good. To come back it needs a new "
             "invite.</p>",
             d->name, d->name);
    layout_host_form(h, &v->state, v->host.key, "revoke");
    layout_hidden(h, "device", d->key);
    html_add(h, "<button class=\"danger\">Revoke %s</button></form></details></td>",
             d->name);
}

static void devices(struct html *h, const struct owner_view *v)
{
    static const char *const heads[] = {"Device", "State", "May use", "Key", "Access"};
    html_add(h, "<section aria-labelledby=\"devices-title\">\n<h2 id=\"devices-title\">"
                "Devices</h2>\n");
    if (v->device_count == 0) {
        html_add(h, "<p class=\"none\">No device may enter yet. Make an invite for the "
                    "first.</p>\n</section>\n");
        return;
    }
    layout_table(h, "devices", "Devices that may enter", heads, COUNT_OF(heads));
    for (size_t i = 0; i < v->device_count; i++) {
        const struct device_view *d = &v->devices[i];
        layout_row(h, d->name);
        html_add(h,
                 "<td role=\"cell\" data-head=\"State\"><span class=\"state %s\">%s"
                 "</span></td>",
                 d->connected ? "up" : "away", d->connected ? "connected" : "away");
        layout_cell(h, "May use",
                    html_is_empty(d->services) ? "all services" : d->services);
        html_add(
            h, "<td role=\"cell\" data-head=\"Key\"><code class=\"key\">%s</code></td>",
            d->key);
        revoke(h, v, d);
        layout_row_end(h);
    }
    layout_table_end(h);
    html_add(h, "</section>\n");
}

static void fresh_invite(struct html *h, const struct owner_view *v)
{
    if (v->invite_link == NULL)
        return;
    html_add(h, "<section class=\"fresh\" aria-labelledby=\"fresh-title\">\n"
                "<h2 id=\"fresh-title\">The new invite</h2>\n<div class=\"pair\">\n");
    (void)picture_qr(h, v->invite_link, "QR code of the invite link");
    html_add(h, "<div><p>It is shown only now. It works once, for one device; whoever "
                "has it can enter, so show it only to whom you mean.</p>\n"
                "<p>On the new device scan the code, or run <code>postern join</code> "
                "with this link:</p>\n<p>");
    layout_copy(h, v->invite_link, "the invite link");
    html_add(h, "</p></div>\n</div>\n</section>\n");
}

static void invite_form(struct html *h, const struct owner_view *v)
{
    html_add(h, "<section aria-labelledby=\"invite-title\">\n<h2 id=\"invite-title\">"
                "Invite a device</h2>\n");
    layout_host_form(h, &v->state, v->host.key, "invite");
    html_add(h,
             "<div class=\"fields\"><div class=\"field\"><label for=\"services\">"
             "Services</label>"
             "<input id=\"services\" name=\"services\" autocapitalize=\"none\" "
             "spellcheck=\"false\" autocomplete=\"off\" maxlength=\"512\" "
             "aria-describedby=\"services-hint\">"
             "<p class=\"hint\" id=\"services-hint\">Names with commas between, as in "
             "<code>web, cam</code>. Empty: all.</p></div>\n"
             "<div class=\"field\"><label for=\"expires\">Valid for</label>"
             "<select id=\"expires\" name=\"expires\"><option value=\"3600\">1 hour"
             "</option><option value=\"86400\" selected>1 day</option>"
             "<option value=\"604800\">7 days</option></select></div></div>\n"
             "<button class=\"primary\">Make an invite</button></form>\n</section>\n");
}

static void audit_log(struct html *h, const struct owner_view *v)
{
    static const char *const heads[] = {"Time, UTC", "What",   "Who",
                                        "From",      "Object", "Detail"};
    html_add(
        h, "<section aria-labelledby=\"log-title\">\n<h2 id=\"log-title\">Log</h2>\n");
    if (v->log_count == 0) {
        html_add(h, "<p class=\"none\">Nothing has happened yet.</p>\n</section>\n");
        return;
    }
    layout_table(h, "log", "What happened, the newest first", heads, COUNT_OF(heads));
    for (size_t i = 0; i < v->log_count; i++) {
        const struct log_view *l = &v->log[i];
        const char *cells[] = {l->what, l->who, l->from, l->object, l->detail};
        layout_row(h, l->time);
        for (size_t k = 0; k < COUNT_OF(cells); k++)
            layout_cell(h, heads[k + 1], cells[k]);
        layout_row_end(h);
    }
    layout_table_end(h);
    html_add(h, "</section>\n");
}

void page_owner(struct html *out, const struct owner_view *v)
{
    layout_begin(out, &v->state, v->host.name, "wide");
    html_add(out,
             "<p class=\"back\"><a href=\"/\">Services</a></p>\n"
             "<div class=\"bar\"><h1>%s</h1><p class=\"state %s\">%s</p></div>\n",
             v->host.name, v->host.online ? "up" : "away",
             v->host.online ? "online" : "offline");
    fresh_invite(out, v);
    live(out, v);
    devices(out, v);
    invite_form(out, v);
    audit_log(out, v);
    layout_end(out);
}

/* The services, grouped by host, each with its one button. */
#include "portal/layout.h"

#include <stdio.h>
#include <string.h>

/*
 * What a person types to use an open port, known by the service's usual port or name.
 * $A stands for the address with its port, $H for the host, $P for the port.
 */
static const struct hint {
    uint16_t port;
    bool udp;
    const char *name, *text;
} hints[] = {
    {22, false, "ssh", "ssh -p $P USER@$H"},
    {53, true, "dns", "dig -p $P @$H NAME"},
    {80, false, "http", "http://$A/"},
    {8080, false, "web", "http://$A/"},
    {443, false, "https", "https://$A/"},
    {8443, false, NULL, "https://$A/"},
    {554, false, "rtsp", "rtsp://$A/"},
    {3389, false, "rdp", "mstsc /v:$A"},
    {5900, false, "vnc", "vnc://$A"},
    {5432, false, "postgres", "psql -p $P -h $H"},
    {6379, false, "redis", "redis-cli -p $P -h $H"},
};

#define HINT_LEN 600

/* Appends to a text; cut when there is no room. */
static void append(char out[static HINT_LEN], const char *text, size_t len)
{
    size_t used = strlen(out);
    (void)snprintf(out + used, HINT_LEN - used, "%.*s", (int)len, text);
}

static bool is_plain_web(const char *url)
{
    return strncmp(url, "http://", 7) == 0;
}

static const struct hint *hint_of(const struct service_view *s)
{
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        const char *name = hints[i].name;
        if (hints[i].udp != s->udp)
            continue;
        if (hints[i].port == s->port ||
            (name != NULL && s->name != NULL && strcmp(name, s->name) == 0))
            return &hints[i];
    }
    return NULL;
}

/* Writes what to type for the open service, "ssh -p 22 USER@broker"; "" if unknown. */
static void write_hint(char out[static HINT_LEN], const struct service_view *s)
{
    const char *host = s->address, *colon = host != NULL ? strrchr(host, ':') : NULL;
    const struct hint *hint = hint_of(s);
    out[0] = '\0';
    if (colon == NULL || hint == NULL || s->tls) /* its link says more */
        return;
    bool plain = s->plain != NULL && is_plain_web(hint->text);
    size_t host_len = (size_t)(colon - host);
    if (host_len > 2 && host[0] == '[') { /* brackets belong to address and port only */
        host++;
        host_len -= 2;
    }
    for (const char *c = hint->text; *c != '\0'; c++) {
        if (*c != '$') {
            append(out, c, 1);
            continue;
        }
        c++;
        if (*c == 'A')
            append(out, plain ? s->plain : s->address,
                   strlen(plain ? s->plain : s->address));
        else if (*c == 'H')
            append(out, host, host_len);
        else
            append(out, colon + 1, strlen(colon + 1));
    }
}

static const char *text_or(const char *text, const char *otherwise)
{
    return html_is_empty(text) ? otherwise : text;
}

static const char *same(const char *text)
{
    return text == NULL ? "" : text;
}

/* Whether a browser may be sent there: never to a scheme that runs a program. */
static bool is_web_url(const char *url)
{
    return url != NULL && strncmp(url, "https://", 8) == 0;
}

static void service_form(struct html *h, const struct home_view *v,
                         const struct service_view *s, const char *action)
{
    layout_form(h, &v->state, action);
    layout_hidden(h, "host", s->host_key);
    layout_hidden(h, "service", s->name);
}

static void open_port(struct html *h, const struct home_view *v,
                      const struct service_view *s, const char *kind)
{
    service_form(h, v, s, "/open");
    html_add(h,
             "<button class=\"%s\">Open port %u<span class=\"vh\"> of %s on "
             "%s</span></button></form>",
             kind, s->port, s->name, s->host);
}

/* The service's button; one that has a name can be had by its port as well. */
static void button(struct html *h, const struct home_view *v,
                   const struct service_view *s)
{
    const char *kind = s->up ? "primary" : "";
    char hint[HINT_LEN];
    write_hint(hint, s);
    const char *url = is_web_url(s->url) ? s->url : is_plain_web(hint) ? hint : NULL;
    html_add(h, "<div class=\"act\">");
    if (url != NULL)
        html_add(h,
                 "<a class=\"button %s\" href=\"%s\">Open<span class=\"vh\"> %s on "
                 "%s</span></a>",
                 kind, url, s->name, s->host);
    if (s->address != NULL) {
        service_form(h, v, s, "/close");
        html_add(h,
                 "<button>Close port %u<span class=\"vh\"> of %s on %s</span></button>"
                 "</form>",
                 s->port, s->name, s->host);
    } else {
        open_port(h, v, s, is_web_url(s->url) ? "quiet" : kind);
    }
    html_add(h, "</div>\n");
}

/* What may stand in the way of that port, and who can read what goes through it. */
static void ways(struct html *h, const struct service_view *s, const char *hint)
{
    const char *colon = strrchr(s->address, ':');
    html_add(h,
             "<p class=\"note\">If nothing answers there: the firewall of the broker "
             "must let in %s port %s",
             s->udp ? "UDP" : "TCP", colon != NULL ? colon + 1 : "of that number");
    html_add(h,
             is_web_url(s->url) ? "; Open needs no port but 443.%s</p>\n" : ".%s</p>\n",
             is_plain_web(hint)
                 ? " What http:// carries can be read on its way to the broker."
                 : "");
}

/* How to use a port that is open, and who does. */
static void opened(struct html *h, const struct service_view *s)
{
    char hint[HINT_LEN];
    write_hint(hint, s);
    html_add(h, "<dl class=\"opened\"><div><dt>Address</dt><dd>");
    layout_copy(h, s->address, "the address");
    html_add(h, "</dd></div>");
    if (hint[0] != '\0') {
        html_add(h, "<div><dt>%s</dt><dd>",
                 strstr(hint, "://") != NULL ? "Go to" : "Type");
        layout_copy(h, hint, "what to type");
        html_add(h, "</dd></div>");
    }
    html_add(h, "<div><dt>In use</dt><dd>%u connection%s</dd></div></dl>\n",
             s->connections, s->connections == 1 ? "" : "s");
    ways(h, s, hint);
}

static void service(struct html *h, const struct home_view *v,
                    const struct service_view *s)
{
    html_add(h,
             "<li class=\"service\">\n<h3>%s <span class=\"on\">on %s</span></h3>\n"
             "<p class=\"port\">%s %u</p>\n<p class=\"state %s\">%s</p>\n",
             s->name, s->host, s->udp ? "UDP" : "TCP", s->port, s->up ? "up" : "down",
             s->up ? "up" : "down");
    if (!html_is_empty(s->title))
        html_add(h, "<p class=\"title\">%s</p>\n", s->title);
    if (!s->up && !html_is_empty(s->why_down))
        html_add(h, "<p class=\"why\">%s</p>\n", s->why_down);
    if (s->name_note != NULL)
        html_add(h, "<p class=\"note\">%s</p>\n", s->name_note);
    if (s->address != NULL)
        opened(h, s);
    if (s->address != NULL && s->port_note != NULL)
        html_add(h, "<p class=\"note\">%s</p>\n", s->port_note);
    button(h, v, s);
    html_add(h, "</li>\n");
}

static bool has_key(const struct service_view *s, const char *key)
{
    return strcmp(same(s->host_key), same(key)) == 0;
}

static const struct host_view *find_owned(const struct home_view *v, const char *key)
{
    for (size_t i = 0; i < v->owned_count; i++)
        if (strcmp(same(v->owned[i].key), same(key)) == 0)
            return &v->owned[i];
    return NULL;
}

/* A host's heading and services. */
static void host(struct html *h, const struct home_view *v, const char *name,
                 const char *key)
{
    const struct host_view *owned = find_owned(v, key);
    bool any = false;
    html_add(h, "<div class=\"host\">\n<div class=\"bar\"><h2>%s</h2>", name);
    if (owned != NULL) {
        html_add(h, "<p class=\"state %s\">%s</p><a href=\"/host/",
                 owned->online ? "up" : "away", owned->online ? "online" : "offline");
        html_add_segment(h, owned->key);
        html_add(h, "\">Devices and log<span class=\"vh\"> of %s</span></a>", name);
    }
    html_add(h, "</div>\n");
    for (size_t i = 0; i < v->service_count; i++) {
        if (!has_key(&v->services[i], key))
            continue;
        html_add(h, any ? "" : "<ul class=\"services\">\n");
        any = true;
        service(h, v, &v->services[i]);
    }
    html_add(h,
             any ? "</ul>\n" : "<p class=\"none\">It opens nothing to you here.</p>\n");
    html_add(h, "</div>\n");
}

/* Each host once, in the order of its first service; then those with none. */
static void hosts(struct html *h, const struct home_view *v)
{
    for (size_t i = 0; i < v->service_count; i++) {
        const struct service_view *s = &v->services[i];
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = has_key(&v->services[k], s->host_key);
        if (!seen)
            host(h, v, s->host, s->host_key);
    }
    for (size_t i = 0; i < v->owned_count; i++) {
        bool seen = false;
        for (size_t k = 0; k < v->service_count && !seen; k++)
            seen = has_key(&v->services[k], v->owned[i].key);
        if (!seen)
            host(h, v, v->owned[i].name, v->owned[i].key);
    }
}

static void explain(struct html *h, const struct home_view *v)
{
    unsigned hours = v->login_ends_minutes / 60, minutes = v->login_ends_minutes % 60;
    html_add(h,
             "<p class=\"lead\">What you open is open only for your address "
             "<code>%s</code>, until you log out, or at the latest in ",
             text_or(v->client_address, "unknown"));
    if (hours > 0)
        html_add(h, "%u\xc2\xa0h%s", hours, minutes > 0 ? " " : "");
    if (minutes > 0 || hours == 0)
        html_add(h, "%u\xc2\xa0min", minutes);
    html_add(h, ".</p>\n");
}

void page_home(struct html *out, const struct home_view *v)
{
    layout_begin(out, &v->state, "Services", "wide");
    html_add(out, "<h1>Services</h1>\n");
    if (v->service_count > 0)
        explain(out, v);
    if (v->service_count == 0 && v->owned_count == 0)
        html_add(out,
                 "<p class=\"lead\">Nothing is open to you yet.</p>\n"
                 "<p>The owner of a server decides what you see here. When the "
                 "server is offline it is not listed either; then look again "
                 "later.</p>\n<p><a class=\"button\" href=\"/\">Look again</a></p>\n");
    hosts(out, v);
    layout_end(out);
}

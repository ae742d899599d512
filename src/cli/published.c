/* The roster's settings, and the list that a running serve tells. */
#include "cli/published.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/daemon.h"
#include "core/json.h"

int published_read(struct roster *r, struct roster_settings *s,
                   struct service_list *services, struct link *broker, struct fault *f)
{
    *services = (struct service_list){0};
    int err = roster_settings_get(r, s);
    if (err == POSTERN_ERR_NOTFOUND)
        return fault_set(f, err, "run 'postern serve --broker LINK SERVICE...' first",
                         "nothing is published here yet");
    if (err != 0)
        return fault_set(f, err, "check the state directory and try again",
                         "this host's settings cannot be read: %s",
                         postern_strerror(err));
    err = link_parse(broker, s->broker, f);
    return err != 0 ? err : service_list_parse_lines(services, s->services, f);
}

static void member(const char *json, const char *name, char *out, size_t cap)
{
    struct json_value v;
    out[0] = '\0';
    if (json_find(&v, json, name) == 0)
        json_value_words(&v, out, cap);
}

/* A `service` event of serve; its target does not matter here. */
static void add(void *ctx, const char *json)
{
    struct service_list *l = ctx;
    char name[SERVICE_NAME_LEN], port[16], protocol[8], text[128];
    struct service s;
    member(json, "name", name, sizeof(name));
    member(json, "port", port, sizeof(port));
    member(json, "protocol", protocol, sizeof(protocol));
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].name, name) == 0)
            return;
    bool udp = strcmp(protocol, "udp") == 0;
    bool unnamed =
        strspn(name, "0123456789") == strlen(name) || strncmp(name, "udp:", 4) == 0;
    (void)snprintf(text, sizeof(text), "%s%s%s%s", unnamed ? "" : name,
                   unnamed ? "" : "=", udp ? "udp:" : "", port);
    if (service_parse(&s, text, NULL) == 0)
        (void)!service_list_add(l, &s, NULL);
}

void published_add_running(const struct statedir *state, struct service_list *services)
{
    daemon_each(state, "serve", LOCAL_LIST, add, services);
}

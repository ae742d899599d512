/* The roster's settings, and the list that a running serve tells. */
#include "cli/published.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/daemon.h"
#include "core/json.h"
#include "host/lan.h"

int published_read(struct roster *r, struct roster_settings *s,
                   struct service_list *services, struct link *broker, struct fault *f)
{
    *services = (struct service_list){0};
    int err = roster_settings_get(r, s);
    if (err == POSTERN_ERR_NOTFOUND)
        return fault_set(f, err, "run 'postern serve --broker LINK SERVICE...' first",
                         "nothing is published here yet");
    if (err != 0)
        return roster_fault(r, err, f);
    /* It may have been at a broker before: what was served last decides. */
    char agent[LINK_TEXT_LEN];
    if (s->broker[0] == '\0' || lan_agent_find(r, NULL, agent) == 0)
        return fault_set(f, POSTERN_ERR_NOTFOUND, "run this command at the agent",
                         "this host hands its services to an agent");
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

/* A `service` event as far as it is needed: its name, port and instances. */
static void add(void *ctx, const char *json)
{
    struct service_list *l = ctx;
    struct service s = {.target_count = 0};
    char word[16], instances[SERVICE_TARGET_MAX * SERVICE_NAME_LEN];
    member(json, "name", s.name, sizeof(s.name));
    member(json, "port", word, sizeof(word));
    s.port = (uint16_t)strtoul(word, NULL, 10);
    member(json, "protocol", word, sizeof(word));
    s.udp = strcmp(word, "udp") == 0;
    member(json, "instances", instances, sizeof(instances));
    char *rest = instances, *name;
    while ((name = strsep(&rest, ", ")) != NULL && s.target_count < SERVICE_TARGET_MAX)
        if (name[0] != '\0')
            (void)snprintf(s.targets[s.target_count++].name, SERVICE_NAME_LEN, "%.63s",
                           name);
    if (s.name[0] != '\0' && service_list_add(l, &s, NULL) != 0)
        return; /* more than a host publishes: it is not ours to say */
}

bool published_add_running(const struct statedir *state, struct service_list *services)
{
    struct service_list live = {0};
    bool heard = daemon_each(state, "serve", LOCAL_LIST, add, &live);
    if (live.count == 0)
        return heard; /* none runs */
    service_list_fini(services);
    *services = live;
    return heard;
}

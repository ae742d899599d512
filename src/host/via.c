/*
 * An agent in place of a broker: which one, and what it calls our services. All else is
 * as at a broker.
 */
#include "host/via.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/agent_door.h"
#include "host/host.h"
#include "host/lan.h"
#include "io/log.h"

/* "ADDR", "ADDR:PORT" or "NAME:PORT" as a place (lan_place). */
static void place_of(const char *text, char place[static LAN_PLACE_LEN])
{
    struct link l = {.port = AGENT_PORT_DEFAULT};
    struct addr a;
    char ip[ADDR_TEXT_LEN];
    const char *colon = strrchr(text, ':');
    bool ported = addr_parse(&a, text) == 0;
    if (ported || addr_parse_ip(&a, text) == 0) {
        (void)snprintf(l.host, sizeof(l.host), "%s", addr_format_ip(&a, ip));
        l.port = ported ? a.port : l.port;
    } else {
        size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
        (void)snprintf(l.host, sizeof(l.host), "%.*s", (int)(len < 254 ? len : 253),
                       text);
        if (colon != NULL)
            l.port = (uint16_t)strtoul(colon + 1, NULL, 10);
    }
    lan_place(&l, place);
}

int via_check_tls(const char *const *texts, size_t n, const char *command,
                  struct fault *f)
{
    bool none = n == 1 && strcmp(texts[0], "none") == 0;
    if ((n == 0 || none) && command == NULL)
        return 0;
    return fault_set(
        f, POSTERN_ERR_USAGE, "give --tls to the agent's 'postern serve'",
        "a host behind an agent ends no TLS: browsers come in at the agent");
}

int via_check_link(const struct link *l, struct fault *f)
{
    if (l->type != LINK_INVITE)
        return 0; /* a broker's may be an older agent's */
    return fault_set(f, POSTERN_ERR_USAGE,
                     "an invite is for 'postern join'; --via needs the agent's link",
                     "this link is an invite, not an agent's");
}

int via_load(struct roster *r, const char *via, struct link *agent, bool *known,
             struct fault *f)
{
    char place[LAN_PLACE_LEN], stored[LINK_TEXT_LEN] = "", text[LINK_TEXT_LEN];
    bool is_link = via != NULL && strstr(via, "://") != NULL;
    int rc = 0;
    if (via != NULL && !is_link)
        place_of(via, place);
    if (!is_link)
        rc = lan_agent_find(r, via != NULL ? place : NULL, stored);
    if (rc == POSTERN_ERR_NOTFOUND)
        return fault_set(f, POSTERN_ERR_NOTFOUND,
                         "the first time use --via LINK, with the link that "
                         "'postern serve --agent' prints",
                         "the key of an agent at %.80s is not known here", place);
    if (rc == 0)
        rc = is_link ? link_parse_given(agent, via, f) : link_parse(agent, stored, f);
    else
        (void)roster_fault(r, rc, f);
    if (rc != 0)
        return rc;
    if ((rc = via_check_link(agent, f)) != 0)
        return rc;
    lan_place(agent, place);
    link_format(agent, text);
    *known = lan_agent_find(r, place, stored) == 0 && strcmp(stored, text) == 0;
    if (agent->type == LINK_BROKER && !*known) /* as older agents wrote theirs */
        return fault_set(f, POSTERN_ERR_USAGE,
                         "give it to --broker; --via needs the link that 'postern "
                         "serve --agent' prints",
                         "this link is a broker's, not an agent's");
    return 0;
}

static bool is_called(const Names *names, const char *name)
{
    for (pb_size_t i = 0; i < names->names_count; i++)
        if (strcmp(names->names[i], name) == 0)
            return true;
    return false;
}

void via_on_names(struct host *h, const Names *m)
{
    if (m->names_count != h->services.count)
        return; /* of a list that is another by now */
    for (pb_size_t i = 0; i < m->names_count; i++) {
        const struct service *sv = &h->services.items[i];
        struct event e;
        if (m->names[i][0] == '\0')
            log_warn(
                "the agent does not publish %s: it has no room for it, or the names "
                "of service and host are too long together",
                sv->name);
        if (m->names[i][0] == '\0' || is_called(&h->called, m->names[i]))
            continue;
        service_event(&e, "published", m->names[i], sv->port, sv->udp);
        events_print(h->out, &e);
    }
    h->called = *m;
}

/* Puts the shared parts of one key together; decides nothing. */
#include "session/endpoint.h"

#include <stdio.h>

int endpoint_open(struct endpoint *e, const struct endpoint_config *c)
{
    struct uplink_config uc = {.net = &e->net,
                               .broker = *c->broker,
                               .lan = c->lan,
                               .host = c->host,
                               .state = c->state,
                               .events = c->events,
                               .ctx = c->ctx};
    *e = (struct endpoint){0};
    int rc = net_init(&e->net, c->loop, c->key, c->budget);
    if (rc == 0)
        rc = session_env_init(&e->env, c->loop, &e->net.own);
    e->env.late = &e->net.late;
    if (rc == 0) {
        (void)snprintf(uc.name, sizeof(uc.name), "%s", c->name);
        rc = uplink_open(&e->uplink, &uc);
    }
    if (rc != 0)
        endpoint_close(e);
    return rc;
}

void endpoint_close(struct endpoint *e)
{
    uplink_close(e->uplink);
    e->uplink = NULL;
    session_env_fini(&e->env);
    net_fini(&e->net);
}

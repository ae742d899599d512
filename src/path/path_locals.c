/* See path_locals.h. What stands on a TCP connection keeps its address, or is gone. */
#include "path/path_locals.h"

#include "io/netmon.h"
#include "path/path.h"

struct path *path_find_gone(const struct list *paths, uint32_t after_id)
{
    LIST_EACH (struct path, p, paths, link)
        if (p->id > after_id && p->stream &&
            netmon_way_of(&p->local, &p->remote) == NETMON_WAY_GONE)
            return p;
    return NULL;
}

/* Sockets for datagrams are bound to no address: the kernel may start elsewhere now. */
void path_renew_locals(struct list *paths)
{
    struct addr now;
    LIST_EACH (struct path, p, paths, link) {
        if (p->stream || p->kind == PATH_RELAY || p->local.family == ADDR_NONE ||
            !netmon_source(&p->remote, &now))
            continue;
        now.port = p->local.port;
        p->local = now;
    }
}

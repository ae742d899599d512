/* The events about the ways to a host, as every command prints them. */
#include "client/client.h"

void client_path_event(struct event *e, const struct peer *peer,
                       const struct path *path)
{
    uint64_t elapsed_us;
    char why[LADDER_REASON_LEN];
    event_begin(e, "path");
    event_text(e, "peer", peer_name(peer));
    event_text(e, "kind", path_kind_name(path->kind));
    event_addr(e, "local", &path->local);
    event_addr(e, "remote", &path->remote);
    event_rtt(e, "rtt_ms", path->rtt_us);
    if (peer_path_elapsed(peer, &elapsed_us))
        event_ms(e, "elapsed_ms", elapsed_us);
    if (peer_preference(peer, why)[0] != '\0')
        event_text(e, "reason", why);
}

void client_rejected_event(struct event *e, const char *peer, enum path_kind kind,
                           const char *reason)
{
    event_begin(e, "rejected");
    event_text(e, "peer", peer);
    event_text(e, "kind", path_kind_name(kind));
    event_text(e, "reason", reason);
}

void client_relayed_event(struct event *e, const char *peer, enum path_kind kind,
                          const char *reason)
{
    event_begin(e, "relayed");
    event_text(e, "peer", peer);
    event_text(e, "kind", path_kind_name(kind));
    event_text(e, "reason", reason);
}

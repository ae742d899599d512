/* Words and events; what is told to whom is the callers' business. */
#include "client/client_words.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

void client_back_event(struct event *e, const char *peer, unsigned silent_s)
{
    event_begin(e, "back");
    event_text(e, "peer", peer);
    event_int(e, "silent_s", silent_s);
}

const struct fault *client_keep_refusal(struct fault *kept, const struct fault *f,
                                        bool again)
{
    if (!again || strstr(f->what, "was removed") != NULL)
        *kept = *f;
    return kept;
}

void client_relayed_event(struct event *e, const char *peer, enum path_kind kind,
                          const char *reason)
{
    event_begin(e, "relayed");
    event_text(e, "peer", peer);
    event_text(e, "kind", path_kind_name(kind));
    event_text(e, "reason", reason);
}

size_t client_services(const Services *m,
                       struct book_service list[static BOOK_SERVICE_MAX])
{
    size_t n = 0;
    for (pb_size_t i = 0; i < m->services_count && n < BOOK_SERVICE_MAX; i++, n++) {
        const ServiceInfo *from = &m->services[i];
        (void)snprintf(list[n].name, sizeof(list[n].name), "%.63s", from->name);
        (void)snprintf(list[n].title, sizeof(list[n].title), "%s", from->title);
        list[n].port = (uint16_t)from->port;
        list[n].udp = from->udp;
    }
    return n;
}

void client_device_name(char name[static 64])
{
    char host[256] = "";
    if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0')
        (void)snprintf(host, sizeof(host), "device");
    host[strcspn(host, ".")] = '\0';
    (void)snprintf(name, 64, "%.63s", host);
}

bool client_same_broker(const struct link *a, const struct link *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0 &&
           memcmp(a->broker_key, b->broker_key, KEY_LEN) == 0;
}

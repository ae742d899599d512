/* `postern join`: one action, nothing to configure. */
#include "client/join.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "client/client_words.h"
#include "core/dns.h"
#include "io/log.h"

struct join {
    struct client *client;
    struct link link;
};

/* Its own name was taken: by another machine, or by itself under a key of before. */
static void warn_of_namesake(const struct book_host *h, const char *own)
{
    char label[BOOK_NAME_LEN];
    dns_label(own, label, sizeof(label));
    if (strcmp(label, h->name) != 0)
        log_warn("%s is another host here, so this one is called %s; if it is the same "
                 "machine, which began anew or changed its key too often meanwhile: "
                 "'postern leave %s'",
                 label, h->name, label);
}

static void on_services(void *ctx, struct peer *p, const Services *m)
{
    struct join *j = ctx;
    struct fault f = {0};
    struct event e;
    struct book_host h = {.joined_s = statedir_now_s()};
    struct link broker = {.type = LINK_BROKER, .port = j->link.port};
    memcpy(broker.host, j->link.host, sizeof(broker.host));
    memcpy(broker.broker_key, j->link.broker_key, KEY_LEN);
    link_format(&broker, h.broker);
    memcpy(h.key, peer_key(p), KEY_LEN); /* newer than the invite's, perhaps */
    (void)snprintf(h.name, sizeof(h.name), "%.63s", m->host_name);
    memcpy(h.own_key, peer_own_key(p), KEY_LEN);
    struct book_host known;
    bool fresh = book_find_key(client_book(j->client), h.key, &known) != 0;
    int rc = book_add(client_book(j->client), &h, &f);
    if (rc != 0) {
        client_stop(j->client, rc, &f);
        return;
    }
    if (fresh)
        warn_of_namesake(&h, m->host_name);
    struct book_service list[BOOK_SERVICE_MAX];
    size_t n = client_services(m, list);
    event_begin(&e, "joined");
    event_text(&e, "host", h.name);
    json_array_begin(&e.json, "services");
    for (size_t i = 0; i < n; i++)
        json_text(&e.json, NULL, list[i].name);
    json_array_end(&e.json);
    if (m->spent)
        event_text(&e, "spent",
                   "this device was on its list already, and the invite, used up or "
                   "expired, gave it nothing");
    (void)!book_services_set(client_book(j->client), h.key, list, n);
    share_tell_joined(client_statedir(j->client), h.name);
    events_print(client_out(j->client), &e);
    client_stop(j->client, 0, NULL);
}

/* Who makes an invite and tries it at once would have none left for whom it is. */
static int check_not_own(const struct join *j, struct fault *f)
{
    struct keypair own;
    int rc = statedir_key(client_statedir(j->client), &own, f);
    if (rc == 0 && memcmp(own.pub, j->link.host_key, KEY_LEN) == 0)
        rc = fault_set(f, POSTERN_ERR_USAGE,
                       "run it on the other machine, or here with another --state DIR",
                       "this invite leads to this host itself");
    sodium_memzero(&own, sizeof(own));
    return rc;
}

int join_run(const struct client_config *c, const char *link, const char *own_name,
             struct fault *f)
{
    static const struct client_events events = {.on_services = on_services};
    struct client_config cc = *c;
    struct join j = {0};
    struct peer *p;
    int rc = link_parse_given(&j.link, link, f);
    if (rc != 0)
        return rc;
    if (j.link.type != LINK_INVITE)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "ask the host's owner for an invite: postern invite",
                         "this is %s link, not an invite",
                         j.link.type == LINK_AGENT ? "an agent's" : "a broker's");
    cc.quiet = true;
    rc = client_open(&j.client, &cc, &events, &j, f);
    if (rc != 0)
        return rc;
    struct book_host h;
    rc = check_not_own(&j, f);
    if (rc == 0 && own_name != NULL &&
        book_find_key(client_book(j.client), j.link.host_key, &h) == 0)
        log_warn("%.64s was joined before: where this device is on its list still, it "
                 "keeps its name there",
                 h.name);
    /* The invite is not used up for nothing. */
    if (rc == 0)
        rc = book_check_room(client_book(j.client), f);
    if (rc == 0)
        rc = client_join(j.client, &j.link, own_name, &p, f);
    if (rc == 0) {
        log_progress("joining: the broker introduces this device to the host ...");
        rc = client_run(j.client, f);
    }
    client_close(j.client);
    return rc;
}

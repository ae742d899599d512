/*
 * The list decides, not the broker: its word that somebody logged in is taken for the
 * accounts and services that this host opens to it, and for nothing else.
 */
#include "host/portal_visits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/repeat.h"
#include "io/audit.h"
#include "io/loop.h"
#include "io/statedir.h"

struct portal_visits {
    const struct host *host;
    struct list listed;
    struct minute public, flows, refusals; /* of the log */
};

struct portal_visits *portal_visits_new(const struct host *h)
{
    struct portal_visits *all = calloc(1, sizeof(*all));
    if (all == NULL)
        return NULL;
    all->host = h;
    list_init(&all->listed);
    return all;
}

bool portal_has_key(const struct host *h, const uint8_t key[static KEY_LEN])
{
    return memcmp(key, h->broker.broker_key, KEY_LEN) == 0;
}

enum stream_code portal_account(const struct host *h, const char *name,
                                struct access_account *out, const char **reason)
{
    int err = access_find(h->access, name, out, NULL);
    if (err != 0) {
        *reason = err == POSTERN_ERR_NOTFOUND ? "this host has no such account"
                                              : "the host cannot read its accounts";
        return STREAM_DENIED;
    }
    sodium_memzero(out->hash, sizeof(out->hash)); /* nobody here needs them */
    sodium_memzero(out->totp, sizeof(out->totp));
    if (out->expires_s != 0 && out->expires_s <= statedir_now_s()) {
        *reason = "the account has expired";
        return STREAM_DENIED;
    }
    return STREAM_OK;
}

/* Somebody with an account; leaves in `sv` the targets that it may use. */
static enum stream_code judge_account(struct portal_visit *v, const char *name,
                                      struct service *sv, const char **reason)
{
    struct access_account a;
    enum stream_code code = portal_account(v->all->host, v->account, &a, reason);
    if (code != STREAM_OK)
        return code;
    if (!access_narrow(&a, sv, name, statedir_now_s())) {
        *reason = "the account may not use that service";
        return STREAM_DENIED;
    }
    v->serial = a.serial;
    v->expires_s = a.expires_s;
    return STREAM_OK;
}

static enum stream_code judge_public(const struct portal_visit *v, const char *name,
                                     struct service *sv, const char **reason)
{
    if (v->by_name && !sv->udp && access_is_public(v->all->host->access, sv->name) &&
        service_narrow(sv, name, ""))
        return STREAM_OK;
    *reason = "nobody is logged in, and the service is not public";
    return STREAM_DENIED;
}

enum stream_code portal_visit_begin(struct portal_visit *v, struct portal_visits *all,
                                    const StreamOpen *open, struct service *service,
                                    const char **reason)
{
    const struct service *sv = service_find(&all->host->services, open->service);
    enum stream_code code = STREAM_NOTFOUND;
    *v = (struct portal_visit){.all = all, .by_name = open->visit.by_name};
    v->since_ms = loop_now_ms(all->host->loop);
    (void)snprintf(v->account, sizeof(v->account), "%s", open->visit.account);
    (void)snprintf(v->visitor, sizeof(v->visitor), "%s", open->visit.visitor);
    (void)snprintf(v->service, sizeof(v->service), "%s",
                   sv != NULL ? sv->name : open->service);
    *reason = "this host publishes no such service";
    if (sv != NULL) {
        *service = *sv;
        v->udp = sv->udp;
        code = v->account[0] != '\0' ? judge_account(v, open->service, service, reason)
                                     : judge_public(v, open->service, service, reason);
    }
    if (code != STREAM_OK)
        portal_visit_refused(v, *reason);
    return code;
}

void portal_visit_list(struct portal_visit *v, struct pump *pump)
{
    v->pump = pump;
    list_push_first(&v->all->listed, &v->link);
}

/*
 * Strangers may not push all else out of the log: at a public service, and where an
 * account's address stands in what they send (a flow begins with one packet).
 */
void portal_visit_opened(struct portal_visit *v)
{
    uint64_t now = loop_now_ms(v->all->host->loop);
    v->opened = v->account[0] == '\0' ? minute_tell(&v->all->public, now)
                                      : !v->udp || minute_tell(&v->all->flows, now);
    if (!v->opened)
        return;
    audit_note(v->all->host->audit, "opened", v->account, v->visitor, v->service,
               v->account[0] == '\0' ? "public" : "");
}

void portal_visit_refused(const struct portal_visit *v, const char *reason)
{
    if (minute_tell(&v->all->refusals, loop_now_ms(v->all->host->loop)))
        audit_note(v->all->host->audit, "refused", v->account, v->visitor, v->service,
                   reason);
}

void portal_visit_end(struct portal_visit *v, const struct pump_stats *stats)
{
    char detail[AUDIT_TEXT_LEN * 2];
    if (v->pump == NULL)
        return; /* was never listed */
    const struct host *h = v->all->host;
    list_remove(&v->link);
    v->pump = NULL;
    if (!v->opened)
        return;
    (void)snprintf(detail, sizeof(detail), "%llu bytes sent, %llu received, %llu s%s",
                   (unsigned long long)stats->to_peer_bytes,
                   (unsigned long long)stats->from_peer_bytes,
                   (unsigned long long)(loop_now_ms(h->loop) - v->since_ms) / 1000,
                   v->ended ? ", ended by the host" : "");
    audit_note(h->audit, "closed", v->account, v->visitor, v->service, detail);
}

/* True when the list lets the stream go on: nothing about its account has changed. */
static bool still_good(const struct portal_visit *v, int64_t now_s, bool changed)
{
    struct access_account a;
    const char *reason;
    if (v->expires_s != 0 && v->expires_s <= now_s)
        return false;
    if (!changed)
        return true;
    if (v->account[0] == '\0')
        return access_is_public(v->all->host->access, v->service);
    return portal_account(v->all->host, v->account, &a, &reason) == STREAM_OK &&
           a.serial == v->serial;
}

void portal_visits_check(struct portal_visits *all, bool changed)
{
    int64_t now_s = statedir_now_s();
    LIST_EACH (struct portal_visit, v, &all->listed, link) {
        if (v->ended || still_good(v, now_s, changed))
            continue;
        v->ended = true;
        pump_abort(v->pump, STREAM_DENIED); /* portal_visit_end follows from the loop */
    }
}

/*
 * The list decides, not the broker: its word that somebody logged in is taken for the
 * accounts and services that this host opens to it, and for nothing else.
 */
#include "host/caller.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "host/internal.h"
#include "io/loop.h"
#include "io/statedir.h"

enum { PUBLIC_MS = 60 * 1000, PUBLIC_TOLD_MAX = 60 };

bool caller_is_broker(const struct serve *s, const uint8_t key[static KEY_LEN])
{
    return memcmp(key, s->broker.broker_key, KEY_LEN) == 0;
}

bool caller_may_enter(const struct serve *s)
{
    return access_is_open(s->access);
}

enum stream_code caller_account(struct serve *s, const char *name,
                                struct access_account *out, const char **reason)
{
    int err = access_find(s->access, name, out, NULL);
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
static enum stream_code judge_account(struct caller *c, const char *name,
                                      struct service *sv, const char **reason)
{
    struct access_account a;
    enum stream_code code = caller_account(c->serve, c->account, &a, reason);
    if (code != STREAM_OK)
        return code;
    if (!access_narrow(&a, sv, name, statedir_now_s())) {
        *reason = "the account may not use that service";
        return STREAM_DENIED;
    }
    c->serial = a.serial;
    c->expires_s = a.expires_s;
    return STREAM_OK;
}

static enum stream_code judge_public(const struct caller *c, const char *name,
                                     struct service *sv, const char **reason)
{
    if (c->by_name && !sv->udp && access_is_public(c->serve->access, sv->name) &&
        service_narrow(sv, name, ""))
        return STREAM_OK;
    *reason = "nobody is logged in, and the service is not public";
    return STREAM_DENIED;
}

enum stream_code caller_begin(struct caller *c, struct serve *s, const StreamOpen *open,
                              struct service *service, const char **reason)
{
    const struct service *sv = service_find(&s->services, open->service);
    enum stream_code code = STREAM_NOTFOUND;
    *c = (struct caller){.serve = s, .by_name = open->visit.by_name};
    c->since_ms = loop_now_ms(s->loop);
    (void)snprintf(c->account, sizeof(c->account), "%s", open->visit.account);
    (void)snprintf(c->visitor, sizeof(c->visitor), "%s", open->visit.visitor);
    (void)snprintf(c->service, sizeof(c->service), "%s",
                   sv != NULL ? sv->name : open->service);
    *reason = "this host publishes no such service";
    if (sv != NULL) {
        *service = *sv;
        code = c->account[0] != '\0' ? judge_account(c, open->service, service, reason)
                                     : judge_public(c, open->service, service, reason);
    }
    if (code != STREAM_OK)
        caller_refused(c, *reason);
    return code;
}

void caller_list(struct caller *c, struct pump *pump)
{
    struct serve *s = c->serve;
    c->pump = pump;
    c->next = s->callers;
    if (s->callers != NULL)
        s->callers->prev = c;
    s->callers = c;
}

/* Strangers at a public service may not push all else out of the log. */
static bool is_told(struct serve *s)
{
    uint64_t now = loop_now_ms(s->loop);
    if (now - s->public_since_ms >= PUBLIC_MS) {
        s->public_since_ms = now;
        s->public_told = 0;
    }
    return s->public_told++ < PUBLIC_TOLD_MAX;
}

void caller_opened(struct caller *c)
{
    c->opened = c->account[0] != '\0' || is_told(c->serve);
    if (!c->opened)
        return;
    serve_audit(c->serve, "opened", c->account, c->visitor, c->service,
                c->account[0] == '\0' ? "public" : "");
}

void caller_refused(struct caller *c, const char *reason)
{
    serve_audit(c->serve, "refused", c->account, c->visitor, c->service, reason);
}

void caller_end(struct caller *c, const struct pump_stats *stats)
{
    char detail[AUDIT_TEXT_LEN * 2];
    struct serve *s = c->serve;
    if (c->pump == NULL)
        return; /* was never listed */
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        s->callers = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    c->pump = NULL;
    if (!c->opened)
        return;
    (void)snprintf(detail, sizeof(detail), "%llu bytes sent, %llu received, %llu s%s",
                   (unsigned long long)stats->to_peer_bytes,
                   (unsigned long long)stats->from_peer_bytes,
                   (unsigned long long)(loop_now_ms(s->loop) - c->since_ms) / 1000,
                   c->ended ? ", ended by the host" : "");
    serve_audit(s, "closed", c->account, c->visitor, c->service, detail);
}

/* True when the list lets the stream go on: nothing about its account has changed. */
static bool still_good(const struct caller *c, int64_t now_s, bool changed)
{
    struct access_account a;
    const char *reason;
    if (c->expires_s != 0 && c->expires_s <= now_s)
        return false;
    if (!changed)
        return true;
    if (c->account[0] == '\0')
        return access_is_public(c->serve->access, c->service);
    return caller_account(c->serve, c->account, &a, &reason) == STREAM_OK &&
           a.serial == c->serial;
}

void callers_check(struct serve *s, bool changed)
{
    int64_t now_s = statedir_now_s();
    for (struct caller *c = s->callers; c != NULL; c = c->next) {
        if (c->ended || still_good(c, now_s, changed))
            continue;
        c->ended = true;
        pump_abort(c->pump, STREAM_DENIED); /* caller_end follows from the loop */
    }
}

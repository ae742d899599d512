/* Knows how an invite is made, and nothing of those who ask for it. */
#include "host/invite.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "core/span.h"

int invite_make(struct roster *r, const struct invite_config *c,
                struct roster_invite *in, struct link *l, struct fault *f)
{
    *in =
        (struct roster_invite){.expires_s = c->now_s + c->life_s, .uses_left = c->uses};
    int err =
        service_choose(c->published, c->services, in->allowed, sizeof(in->allowed), f);
    if (err != 0)
        return err;
    randombytes_buf(in->secret, sizeof(in->secret));
    err = roster_invite_new(r, in, c->now_s, f);
    if (err != 0)
        return err;
    *l = *c->broker;
    l->type = LINK_INVITE;
    memcpy(l->host_key, c->host_key, KEY_LEN);
    memcpy(l->secret, in->secret, LINK_SECRET_LEN);
    return 0;
}

const char *invite_why_over(const struct roster_invite *in, int64_t now_s,
                            char buf[static INVITE_OVER_LEN])
{
    char span[SPAN_LEN], now[AUDIT_TIME_LEN];
    audit_time(now_s, now);
    if (in == NULL)
        (void)snprintf(buf, INVITE_OVER_LEN,
                       "the invite expired long ago, or is not known there");
    else if (in->uses_left <= 0)
        (void)snprintf(buf, INVITE_OVER_LEN, "the invite was used already");
    else
        (void)snprintf(
            buf, INVITE_OVER_LEN, "the invite expired %s ago, by the host's clock (%s)",
            span_about((unsigned long long)(now_s - in->expires_s), span), now);
    return buf;
}

void invite_event(struct event *e, const struct roster_invite *in, const char *link)
{
    event_begin(e, "invite");
    event_text(e, "link", link);
    event_int(e, "expires_s", in->expires_s);
    event_int(e, "uses", in->uses_left);
    event_text(e, "services", in->allowed[0] ? in->allowed : NULL);
}

void invite_audit(struct audit_entry *e, const struct invite_config *c,
                  const struct roster_invite *in)
{
    char until[AUDIT_TIME_LEN];
    *e = (struct audit_entry){.time_s = c->now_s, .what = "invite"};
    (void)snprintf(e->object, sizeof(e->object), "%.100s",
                   in->allowed[0] ? in->allowed : "all services");
    audit_time(in->expires_s, until);
    (void)snprintf(e->detail, sizeof(e->detail), "%d use%s until %s", in->uses_left,
                   in->uses_left == 1 ? "" : "s", until);
}

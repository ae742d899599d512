/* Words for what kept us from the broker. Knows no socket and decides nothing. */
#include "path/uplink_words.h"

#include <stdio.h>
#include <string.h>

#include "io/netmon.h"
#include "io/resolve.h"
#include "path/detour.h"

#define ADVICE_ROUTE "connect it again, or look for its default route (ip route)"

enum { OWES_SLACK_MS = 100 }; /* who asked and waited a second is told of one */

static void describe_proxy(const struct uplink_trouble *t, int err, struct fault *f)
{
    const struct proxy *p = t->proxy;
    if (err == POSTERN_ERR_DENIED && p->credentials[0] != '\0')
        (void)fault_set(
            f, err, "mend them in HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
            "the proxy at %s:%u does not take the user name and password that it got",
            p->host, p->port);
    else if (err == POSTERN_ERR_DENIED)
        (void)fault_set(
            f, err, "put them into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
            "the proxy at %s:%u wants a user name and password", p->host, p->port);
    else if (err == POSTERN_ERR_PROTO)
        (void)fault_set(f, err, "allow it there, or unset HTTPS_PROXY",
                        "the proxy at %s:%u does not lead to the broker at %s:%u",
                        p->host, p->port, t->broker->host, t->broker->port);
    else
        (void)fault_set(f, err, "check HTTPS_PROXY",
                        "the proxy at %s:%u cannot be reached (%s)", p->host, p->port,
                        postern_strerror(err));
}

/* `tried`: what became of the address where it was last. */
static const char *words_for(int tried)
{
    switch (tried) {
    case POSTERN_ERR_REFUSED:
        return "refuses connections";
    case POSTERN_ERR_UNREACHABLE:
        return "cannot be reached";
    case POSTERN_ERR_KEY:
        return "is another broker now (it holds another key)";
    default:
        return "is silent";
    }
}

static void describe_name(const struct uplink_trouble *t, int err, int tried,
                          struct fault *f)
{
    char last[ADDR_TEXT_LEN], tail[ADDR_TEXT_LEN + 96] = "";
    const char *host = t->broker->host;
    if (t->last->family != ADDR_NONE)
        (void)snprintf(tail, sizeof(tail), ", and %s, where it was last, %s",
                       addr_format(t->last, last), words_for(tried));
    if (err == POSTERN_ERR_NOTFOUND)
        (void)fault_set(f, err, "check the name in the link and this machine's DNS",
                        "the broker's name %s does not exist%s", host, tail);
    else if (!netmon_leads_out())
        (void)fault_set(f, err, ADVICE_ROUTE,
                        "this machine has no route to the network, so the broker's "
                        "name %s cannot be resolved%s",
                        host, tail);
    else if (!resolve_configured())
        (void)fault_set(f, err, "name a DNS server there",
                        "the broker's name %s cannot be resolved: /etc/resolv.conf "
                        "names no DNS server%s",
                        host, tail);
    else
        (void)fault_set(f, err, "check this machine's network and its DNS server",
                        "the broker's name %s cannot be resolved: the DNS server does "
                        "not answer%s",
                        host, tail);
}

/* The end of a connection that stood, or was about to: what was seen of it. */
static bool describe_end(const struct uplink_trouble *t, int err, struct fault *f)
{
    static const char advice[] = ADVICE_RETRIED;
    const struct link *l = t->broker;
    if (err == POSTERN_ERR_LIMIT)
        (void)fault_set(f, err, advice, "the broker at %s:%u is busy", l->host,
                        l->port);
    else if (err == POSTERN_ERR_CLOSED)
        (void)fault_set(f, err, advice,
                        "the broker at %s:%u closed the connection without a word",
                        l->host, l->port);
    else if (err == POSTERN_ERR_RESET)
        (void)fault_set(f, err, advice,
                        "the connection to the broker at %s:%u was reset", l->host,
                        l->port);
    else if (err == POSTERN_ERR_TIMEOUT && t->silent_s > 0)
        (void)fault_set(f, err, advice, "the broker at %s:%u has not answered for %u s",
                        l->host, l->port, t->silent_s);
    else if (err == POSTERN_ERR_TIMEOUT && t->taken && t->clogged)
        (void)fault_set(f, err,
                        "look what else uses this line: it is full or very slow, or "
                        "loses what is sent",
                        "the broker at %s:%u takes connections, and what is sent then "
                        "does not arrive in time",
                        l->host, l->port);
    else if (err == POSTERN_ERR_TIMEOUT && t->taken)
        (void)fault_set(f, err, "look whether the broker's program or machine is stuck",
                        "the broker at %s:%u takes connections and does not answer",
                        l->host, l->port);
    else
        return false;
    return true;
}

static void describe_no_network(int err, struct fault *f)
{
    char dark[NETMON_NAME_LEN];
    if (netmon_dark(dark))
        (void)fault_set(f, err, "plug it in, or join a wireless network",
                        "this machine has no network: no cable or signal on %s", dark);
    else
        (void)fault_set(f, err, "plug it in, or join a wireless network",
                        "this machine has no network: no interface is up that has an "
                        "address");
}

/* No DNS server can answer from here. */
static bool describe_cut(const struct link *l, struct fault *f)
{
    struct addr own;
    if (link_is_here(l))
        return false;
    if (netmon_addresses(&own, 1, false) == 0)
        describe_no_network(POSTERN_ERR_UNREACHABLE, f);
    else if (!netmon_leads_out())
        (void)fault_set(f, POSTERN_ERR_UNREACHABLE, ADVICE_ROUTE,
                        "this machine has no route to the network, so the broker's "
                        "name %s cannot be resolved",
                        l->host);
    return f->code != 0;
}

/* Nothing that stood or answered failed, and no interface is up that could lead out. */
static bool is_cut_off(const struct uplink_trouble *t, int err)
{
    struct addr own;
    bool away = err == POSTERN_ERR_DNS || err == POSTERN_ERR_NOTFOUND ||
                err == POSTERN_ERR_UNREACHABLE || err == POSTERN_ERR_TIMEOUT;
    return away && !link_is_here(t->broker) && netmon_addresses(&own, 1, false) == 0;
}

/* The kernel knows no way to where it is, or was last. */
static bool is_pathless(const struct uplink_trouble *t, int err)
{
    struct addr there, own;
    if (err != POSTERN_ERR_UNREACHABLE)
        return false;
    if (addr_parse_ip(&there, t->broker->host) != 0)
        there = *t->last;
    return there.family != ADDR_NONE ? !netmon_source(&there, &own)
                                     : !netmon_leads_out();
}

/* Its name was not resolved, and where it was last it is not. */
static bool is_nameless(const struct uplink_trouble *t, int err)
{
    return t->name_err != 0 && t->last->family != ADDR_NONE &&
           (err == POSTERN_ERR_REFUSED || err == POSTERN_ERR_UNREACHABLE ||
            err == POSTERN_ERR_KEY);
}

/* An agent of this LAN in a broker's place. */
static void describe_agent(const struct uplink_trouble *t, int err, struct fault *f)
{
    const struct link *l = t->broker;
    if (err == POSTERN_ERR_KEY)
        (void)fault_set(f, err,
                        "use --via with the link that the agent prints now; do not go "
                        "on if this is unexpected",
                        "the agent at %s:%u holds another key than before", l->host,
                        l->port);
    else if (err == POSTERN_ERR_REFUSED)
        (void)fault_set(f, err, "start it with 'postern serve --agent'",
                        "no agent listens at %s:%u", l->host, l->port);
    else if (err == POSTERN_ERR_NOTFOUND || err == POSTERN_ERR_DNS)
        (void)fault_set(f, err, "check the name and this machine's DNS",
                        "the agent's name %s cannot be resolved", l->host);
    else if (err == POSTERN_ERR_TIMEOUT && t->silent_s > 0)
        (void)fault_set(f, err, ADVICE_RETRIED,
                        "the agent at %s:%u has not answered for %u s", l->host,
                        l->port, t->silent_s);
    else if (err == POSTERN_ERR_TIMEOUT && t->taken)
        (void)fault_set(f, err, "look whether the agent's program or machine is stuck",
                        "the agent at %s:%u takes connections and does not answer",
                        l->host, l->port);
    else if (err == POSTERN_ERR_TIMEOUT || err == POSTERN_ERR_UNREACHABLE)
        (void)fault_set(f, err, "check this LAN and the agent's firewall",
                        "the agent at %s:%u cannot be reached (%s)", l->host, l->port,
                        postern_strerror(err));
    else
        (void)fault_set(f, err, "check that a Postern agent listens there",
                        "the connection to the agent at %s:%u failed (%s)", l->host,
                        l->port, postern_strerror(err));
}

/* Its address takes no connection, and does not refuse one either. */
static void describe_unanswered(const struct link *l, const struct addr *last, int err,
                                struct fault *f)
{
    char advice[sizeof(f->advice)];
    struct addr there;
    struct fault ways;
    if (addr_parse_ip(&there, l->host) != 0)
        there = *last;
    enum detour_state way =
        err == POSTERN_ERR_TIMEOUT ? detour_describe(&there, &ways) : DETOUR_NONE;
    if (way == DETOUR_BLOCKED) {
        (void)snprintf(advice, sizeof(advice),
                       "let it (%.60s); else the broker's firewall may drop TCP port "
                       "%u, or its machine be off",
                       ways.advice, l->port);
        (void)fault_set(f, err, advice,
                        "the broker at %s:%u cannot be reached (%s); %s", l->host,
                        l->port, postern_strerror(err), ways.what);
        return;
    }
    char through[64], cure[128];
    if ((err == POSTERN_ERR_TIMEOUT || err == POSTERN_ERR_UNREACHABLE) &&
        detour_describe_silence(&there, through, sizeof(through), cure, sizeof(cure))) {
        (void)snprintf(advice, sizeof(advice),
                       "%s; else the broker's firewall may drop TCP port %u, or its "
                       "machine be off",
                       cure, l->port);
        (void)fault_set(f, err, advice, "the broker at %s:%u cannot be reached%s (%s)",
                        l->host, l->port, through, postern_strerror(err));
        return;
    }
    (void)snprintf(advice, sizeof(advice),
                   "%s: let TCP port %u in there, at its provider too; else check this "
                   "machine's network, or name a proxy in HTTPS_PROXY",
                   err == POSTERN_ERR_TIMEOUT
                       ? "the broker's firewall may drop it, or its machine be off"
                       : "a router or the broker's firewall refuses it",
                   l->port);
    (void)fault_set(f, err, advice, "the broker at %s:%u cannot be reached (%s)",
                    l->host, l->port, postern_strerror(err));
}

void uplink_describe(const struct uplink_trouble *t, int err, struct fault *f)
{
    const struct link *l = t->broker;
    char self[ADDR_TEXT_LEN], at[ADDR_TEXT_LEN];
    if (t->lan) {
        describe_agent(t, err, f);
    } else if (t->proxy != NULL) {
        describe_proxy(t, err, f);
    } else if (is_cut_off(t, err)) {
        describe_no_network(err, f);
    } else if (is_pathless(t, err)) {
        (void)fault_set(f, err, ADVICE_ROUTE,
                        "this machine has no route to the broker at %s:%u", l->host,
                        l->port);
    } else if (is_nameless(t, err)) {
        describe_name(t, t->name_err, err, f);
        f->code = err; /* an address was tried: how long to wait goes by that */
    } else if (err == POSTERN_ERR_KEY) {
        (void)fault_set(f, err,
                        "do not go on if nobody renewed it there; if somebody did: a "
                        "host is served with the link that it prints now (--broker), "
                        "and devices join by new invites",
                        "the broker at %s:%u holds another key than the link says",
                        l->host, l->port);
    } else if (err == POSTERN_ERR_NOTFOUND || err == POSTERN_ERR_DNS) {
        describe_name(t, err, POSTERN_ERR_TIMEOUT, f);
    } else if (t->self->family != ADDR_NONE) {
        (void)fault_set(f, err, "mend the name in /etc/hosts or this machine's DNS",
                        "the broker's name %s stands for this machine itself here (%s)",
                        l->host, addr_format_ip(t->self, self));
    } else if (err == POSTERN_ERR_REFUSED) {
        (void)fault_set(f, err, "start the broker, or check the address in the link",
                        "nothing listens at the broker's address %s:%u", l->host,
                        l->port);
    } else if (describe_end(t, err, f)) {
        return;
    } else if (err == POSTERN_ERR_TIMEOUT || err == POSTERN_ERR_UNREACHABLE) {
        describe_unanswered(l, t->last, err, f);
    } else if (err == POSTERN_ERR_PROTO) {
        (void)fault_set(f, err,
                        "perhaps a login page of this network (open a browser and log "
                        "in), or the link is wrong",
                        "something that is no Postern broker answered at %s",
                        t->at->family != ADDR_NONE ? addr_format(t->at, at)
                                                   : "the broker's address");
    } else {
        (void)fault_set(f, err,
                        "check that the address in the link is a Postern broker",
                        "the connection to the broker at %s:%u failed (%s)", l->host,
                        l->port, postern_strerror(err));
    }
}

void uplink_describe_wait(const struct uplink *u, char *why, size_t cap)
{
    const struct link *l = uplink_link(u);
    const struct fault *f = uplink_fault(u, NULL);
    const char *who = uplink_is_lan(u) ? "agent" : "broker";
    enum uplink_name name = uplink_name(u);
    struct fault cut = {0};
    if (f != NULL)
        (void)snprintf(why, cap, "%s", f->what);
    else if (name != UPLINK_NAME_KNOWN && describe_cut(l, &cut))
        (void)snprintf(why, cap, "%s", cut.what);
    else if (name == UPLINK_NAME_ASKED)
        (void)snprintf(why, cap,
                       "the DNS server has not answered yet where the %s %s is", who,
                       l->host);
    else if (name == UPLINK_NAME_FAILED)
        (void)snprintf(why, cap,
                       "the %s's name %s cannot be resolved, and where it was last "
                       "nothing has answered yet",
                       who, l->host);
    else
        (void)snprintf(why, cap, "the %s at %s:%u has not answered yet", who, l->host,
                       l->port);
}

void uplink_describe_silence(const struct uplink *u, struct fault *f)
{
    const struct link *l = uplink_link(u);
    enum uplink_name name = uplink_name(u);
    if (name != UPLINK_NAME_KNOWN && describe_cut(l, f))
        return;
    if (name != UPLINK_NAME_KNOWN)
        (void)fault_set(f, POSTERN_ERR_DNS,
                        "check this machine's network and its DNS server",
                        "the broker's name %s cannot be resolved: the DNS server does "
                        "not answer",
                        l->host);
    else if (uplink_is_dialling(u))
        describe_unanswered(l, uplink_broker_addr(u), POSTERN_ERR_TIMEOUT, f);
    else
        (void)fault_set(f, POSTERN_ERR_TIMEOUT,
                        "check this machine's network, and whether the broker's "
                        "program is stuck",
                        "the broker at %s:%u did not answer in time", l->host, l->port);
}

void uplink_event(const struct uplink *u, struct event *e)
{
    char place[sizeof(((struct link *)0)->host) + 8];
    const struct link *l = uplink_link(u);
    bool fatal;
    char why[64];
    const struct fault *f = uplink_fault(u, &fatal);
    unsigned owes_s = (unsigned)(uplink_owes_us(u) / 1000 + OWES_SLACK_MS) / 1000;
    (void)snprintf(place, sizeof(place), "%s:%u", l->host, l->port);
    event_begin(e, uplink_is_lan(u) ? "agent" : "broker");
    event_text(e, "address", place);
    bool up = uplink_is_up(u) && owes_s == 0;
    event_text(e, "state", up ? "online" : f != NULL ? "lost" : "trying");
    if (up && uplink_clock_skew_s(u) != 0)
        event_int(e, "clock_skew_s", uplink_clock_skew_s(u));
    if (owes_s > 0) {
        (void)snprintf(why, sizeof(why), "the %s has not answered for %u s",
                       uplink_is_lan(u) ? "agent" : "broker", owes_s);
        event_text(e, "reason", why);
    }
    if (f != NULL)
        event_text(e, "reason", f->what);
    if (f != NULL &&
        (fatal || f->code == POSTERN_ERR_INUSE)) /* somebody's doing helps */
        event_text(e, "do", f->advice);
}

void uplink_describe_bye(const Bye *b, bool lan, struct fault *f)
{
    const char *who = lan ? "agent" : "broker";
    switch (b->code) {
    case BYE_REMOVED:
    case BYE_TOKEN:
        if (lan) {
            (void)fault_set(f, POSTERN_ERR_DENIED,
                            "use --via with the link that the agent prints now",
                            "the agent does not know this host, or knows it no more");
            break;
        }
        (void)fault_set(f, POSTERN_ERR_DENIED,
                        "use the link that the broker prints at its start",
                        "the broker does not accept this link's enrolment token");
        break;
    case BYE_VERSION:
        (void)fault_set(f, POSTERN_ERR_NEWER, "update the older of the two",
                        "the %s speaks another version of the protocol", who);
        break;
    case BYE_REPLACED:
        (void)fault_set(
            f, POSTERN_ERR_INUSE,
            "stop it there, or give one of the two a state directory of its "
            "own (--state): a copied one has the same key",
            "another machine or program is connected with this device's key");
        break;
    case BYE_BUSY:
        (void)fault_set(f, POSTERN_ERR_LIMIT, ADVICE_RETRIED,
                        "the %s is at its limit: %s", who,
                        b->reason[0] != '\0' ? b->reason : "it gave no reason");
        break;
    default:
        (void)fault_set(f, POSTERN_ERR_CLOSED, ADVICE_RETRIED,
                        "the %s ended the connection: %s", who,
                        b->reason[0] != '\0' ? b->reason : "it gave no reason");
    }
}

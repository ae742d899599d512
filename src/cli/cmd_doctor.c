/*
 * `postern doctor`: what is wrong here, a line each with its cure. The broker and what
 * stands between are asked here; each wait has a limit, and all of them one together.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd.h"
#include "cli/daemon.h"
#include "cli/doctor.h"
#include "client/netcheck.h"
#include "io/clock.h"
#include "io/egress.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/netmon.h"
#include "io/reach.h"
#include "io/resolve.h"
#include "io/web_cert.h"

enum {
    ALL_MS = 9000,
    RESOLVER_MS = 5500, /* the second server of resolv.conf is asked after 5 s */
    SLOW_MS = 2000,
    NAMED_MS = 1000,
    NETCHECK_MS = 4500,
    CERTIFICATE_MS = 1000,
    DAEMON_MS = 700,
    TELL_MS = 1000, /* not on a terminal, which is told at once */
    DAY_S = 24 * 3600,
};

/* ----------------------------------------------------------------------- the resolver
 */

struct asking {
    struct loop *loop;
    struct timer limit, tell;
    bool done;
    int err;
    size_t found;
    struct addr addrs[DOCTOR_NAMED_MAX];
};

static void on_resolved(void *ctx, int err, const struct addr *addrs, size_t n)
{
    struct asking *a = ctx;
    a->done = true;
    a->err = err;
    a->found = n;
    memcpy(a->addrs, addrs,
           (n < DOCTOR_NAMED_MAX ? n : DOCTOR_NAMED_MAX) * sizeof(*addrs));
    loop_stop(a->loop);
}

static void on_limit(void *ctx)
{
    loop_stop(((struct asking *)ctx)->loop);
}

static void on_tell(void *ctx)
{
    (void)ctx;
    log_warn("waiting: the resolver is asked for the broker's name");
}

static int ask_resolver(struct asking *a, const struct link *l, unsigned limit_ms)
{
    struct resolve *r = NULL;
    int err = loop_open(&a->loop);
    if (err != 0)
        return err;
    timer_init(&a->limit, a->loop, on_limit, a);
    timer_init(&a->tell, a->loop, on_tell, a);
    err = resolve_start_apart(&r, a->loop, l->host, l->port, on_resolved, a);
    if (err == 0) {
        timer_start(&a->limit, limit_ms);
        timer_start(&a->tell, TELL_MS);
        loop_run(a->loop);
        timer_stop(&a->limit);
        timer_stop(&a->tell);
        if (!a->done)
            resolve_cancel(r);
    }
    loop_poll(a->loop);
    loop_close(a->loop);
    return err;
}

static void tell_answer(struct doctor *d, const struct asking *a, unsigned took_ms)
{
    static const char cure[] =
        "look at /etc/resolv.conf, and whether its server answers";
    const char *host = d->broker.host;
    if (!a->done || (a->err == POSTERN_ERR_DNS && took_ms >= SLOW_MS))
        doctor_say(d, "resolver", DOCTOR_BAD, cure, "it does not answer");
    else if (a->err == POSTERN_ERR_NOTFOUND)
        doctor_say(d, "resolver", DOCTOR_BAD,
                   "check the broker's link, or its DNS entry",
                   "it says that there is no %.120s", host);
    else if (a->err != 0)
        doctor_say(d, "resolver", DOCTOR_BAD, cure, "%.120s is not found: %s", host,
                   postern_strerror(a->err));
    else if (took_ms >= SLOW_MS)
        doctor_say(d, "resolver", DOCTOR_WARNING,
                   "look at /etc/resolv.conf: its first server may be dead",
                   "%.120s is %zu address(es), after %u.%u s", host, a->found,
                   took_ms / 1000, took_ms % 1000 / 100);
    else
        doctor_say(d, "resolver", DOCTOR_OK, "", "%.120s is %zu address(es)", host,
                   a->found);
}

static void check_resolver(struct doctor *d)
{
    struct asking a = {0};
    struct addr numeric;
    const char *host = d->broker.host;
    if (host[0] == '\0' || addr_parse_ip(&numeric, host) == 0) {
        doctor_say(d, "resolver", resolve_configured() ? DOCTOR_OK : DOCTOR_WARNING,
                   resolve_configured() ? "" : "name one in /etc/resolv.conf",
                   resolve_configured() ? "a DNS server is named; %s"
                                        : "no DNS server is named; %s",
                   host[0] == '\0' ? "there is no name of a broker to ask for"
                                   : "the broker is known by its address");
        return;
    }
    doctor_wait("the resolver");
    uint64_t began_us = clock_us();
    int err = ask_resolver(&a, &d->broker, doctor_left_ms(d, RESOLVER_MS));
    d->named_count = a.found < DOCTOR_NAMED_MAX ? a.found : DOCTOR_NAMED_MAX;
    memcpy(d->named, a.addrs, sizeof(d->named));
    bool none = err == 0 && (!a.done || a.err != 0);
    d->nameless =
        none && !d->offline && (a.err == POSTERN_ERR_NOTFOUND || netmon_leads_out());
    if (none && d->offline)
        doctor_say(d, "resolver", DOCTOR_SKIPPED, "", "no network");
    else if (err != 0)
        doctor_say(d, "resolver", DOCTOR_SKIPPED, "", "it could not be asked: %s",
                   postern_strerror(err));
    else if (none && !d->nameless)
        doctor_say(d, "resolver", DOCTOR_SKIPPED, "",
                   "this machine has no route to the network, so none can answer");
    else
        tell_answer(d, &a, (unsigned)((clock_us() - began_us) / 1000));
}

/* ------------------------------------------------------------------------- the broker
 */

/* What `netcheck` found, of which a word is good or bad. */
static void tell_netcheck(struct doctor *d)
{
    struct json_value v;
    char words[256] = "", udp[16] = "", rtt[32] = "";
    if (json_find(&v, d->netcheck, "words") == 0)
        json_value_words(&v, words, sizeof(words));
    if (json_find(&v, d->netcheck, "udp") == 0)
        json_value_words(&v, udp, sizeof(udp));
    if (json_find(&v, d->netcheck, "broker_rtt_ms") == 0)
        json_value_words(&v, rtt, sizeof(rtt));
    doctor_say(d, "broker", DOCTOR_OK, "", "%.120s:%u answers%s%s%s, and has its key",
               d->broker.host, d->broker.port, rtt[0] != '\0' ? " in " : "", rtt,
               rtt[0] != '\0' ? " ms" : "");
    char cure[160];
    bool works = strcmp(udp, "yes") == 0;
    (void)snprintf(
        cure, sizeof(cure),
        "let UDP out here, and UDP port %u in at the broker's firewall and its "
        "provider, or be content with TCP and the relay",
        d->broker.port);
    doctor_say(d, "udp", works ? DOCTOR_OK : DOCTOR_WARNING, works ? "" : cure, "%s",
               words);
}

/* What is asked after this goes the same way. */
static void tell_way(struct doctor *d, const struct netcheck_way *way)
{
    if (way->state == DETOUR_NONE)
        return;
    egress_choose(way->interface, 0);
    doctor_say(d, "uplinks", way->state == DETOUR_READY ? DOCTOR_OK : DOCTOR_WARNING,
               way->words.advice, "%s", way->words.what);
}

/* Does the broker answer at any address of its name? Else why not at the first. */
static bool try_named(struct doctor *d, const struct keypair *key, struct fault *why)
{
    for (size_t i = 0; i < d->named_count; i++) {
        struct netcheck_config c = {.broker = d->broker,
                                    .key = key,
                                    .only_key = true,
                                    .limit_ms = doctor_left_ms(d, NAMED_MS)};
        struct fault f = {0};
        (void)addr_format_ip(&d->named[i], c.broker.host);
        if (netcheck_run(&c, &f) == 0)
            return true;
        if (i == 0 || f.code == POSTERN_ERR_KEY)
            *why = f;
    }
    return false;
}

/*
 * The broker answered at an address that was remembered. That the name leads elsewhere
 * now is seen by no device that found it before, and by each that never did.
 */
static void check_name(struct doctor *d, const struct keypair *key,
                       const struct addr *at)
{
    char now[ADDR_TEXT_LEN], then[ADDR_TEXT_LEN];
    struct proxy unused;
    struct fault why = {0}, f;
    bool known = at->family == ADDR_NONE || d->named_count == 0 ||
                 proxy_from_env(&unused, d->broker.host, &f) > 0;
    for (size_t i = 0; i < d->named_count; i++)
        known = known || addr_ip_equal(&d->named[i], at);
    if (known || try_named(d, key, &why))
        return;
    /* Silence may be this network's: a router that leads nobody in from inside. */
    doctor_say(d, "name",
               why.code == POSTERN_ERR_TIMEOUT || why.code == POSTERN_ERR_UNREACHABLE
                   ? DOCTOR_WARNING
                   : DOCTOR_BAD,
               "mend its entry in DNS or /etc/hosts, or this machine's DNS server: who "
               "was never at the broker does not find it",
               "%.100s leads to %s now, where %s; the address remembered, %s, works",
               d->broker.host, addr_format_ip(&d->named[0], now),
               why.code == POSTERN_ERR_KEY       ? "another key answers"
               : why.code == POSTERN_ERR_PROTO   ? "something answers that is no broker"
               : why.code == POSTERN_ERR_REFUSED ? "nothing listens"
                                                 : "nothing answers",
               addr_format_ip(at, then));
}

static void check_broker(struct doctor *d)
{
    struct keypair key;
    struct event found;
    struct netcheck_way way = {0};
    struct fault f = {0};
    struct addr at = {0};
    if (d->broker.host[0] == '\0') {
        doctor_say(d, "broker", DOCTOR_SKIPPED, d->no_broker.advice, "%s",
                   d->no_broker.what);
        return;
    }
    doctor_wait("the broker, and what the network does with UDP");
    cmd_key_or_any(d->has_state ? &d->state : NULL, &key);
    struct netcheck_config c = {.state = d->has_state ? d->state.path : NULL,
                                .broker = d->broker,
                                .key = &key,
                                .found = &found,
                                .way = &way,
                                .at = &at,
                                .limit_ms = doctor_left_ms(d, NETCHECK_MS)};
    found.text[0] = '\0';
    int err = netcheck_run(&c, &f);
    tell_way(d, &way);
    bool named = f.code != POSTERN_ERR_DNS && f.code != POSTERN_ERR_NOTFOUND;
    if (err != 0 && d->nameless && !named)
        doctor_say(d, "broker", DOCTOR_SKIPPED, "", "its name cannot be resolved");
    else if (err != 0 && d->offline && !link_is_here(&d->broker))
        doctor_say(d, "broker", DOCTOR_SKIPPED, "", "no network");
    else if (err != 0)
        doctor_say(d, "broker", DOCTOR_BAD, f.advice, "%s", f.what);
    else if (found.text[0] != '\0') {
        (void)snprintf(d->netcheck, sizeof(d->netcheck), "%s", event_end(&found));
        tell_netcheck(d);
        check_name(d, &key, &at);
    }
}

static void check_certificate(struct doctor *d)
{
    struct web_cert c;
    static const char renew[] = "renew it at the broker (--certificate)";
    if (d->netcheck[0] == '\0')
        return;
    doctor_wait("the broker's certificate");
    int err = web_cert_look(&c, d->broker.host, d->broker.port,
                            doctor_left_ms(d, CERTIFICATE_MS));
    long long days = err == 0 ? (c.expires_s - statedir_now_s()) / DAY_S : 0;
    if (err == POSTERN_ERR_DNS) /* it was found where it was last */
        doctor_say(d, "certificate", DOCTOR_SKIPPED, "",
                   "the broker's name cannot be resolved, so its web page was not %s",
                   "asked");
    else if (err != 0)
        doctor_say(d, "certificate", DOCTOR_SKIPPED, "",
                   "the broker shows no web page (%s)", postern_strerror(err));
    else if (c.expires_s <= statedir_now_s())
        doctor_say(d, "certificate", DOCTOR_BAD, renew,
                   "the one of the broker's portal ran out %lld day(s) ago", -days);
    else if (days < 14)
        doctor_say(d, "certificate", DOCTOR_WARNING, renew,
                   "the one of the broker's portal is good for %lld more day(s)", days);
    else if (!c.vouched)
        doctor_say(d, "certificate", DOCTOR_WARNING,
                   "give the broker one with --certificate, if people use the portal",
                   "browsers do not trust that of the broker's portal%s; devices go by "
                   "its key, and do",
                   c.own ? ": it is its own" : "");
    else
        doctor_say(d, "certificate", DOCTOR_OK, "",
                   "that of the broker's portal is trusted, and good for %lld days",
                   days);
}

/* ------------------------------------------------------------------------ the daemons
 */

struct daemon_look {
    struct doctor *d;
    const char *role;
    unsigned sessions;
    char lost[256];
};

static void text_of(const char *json, const char *name, char *buf, size_t cap)
{
    struct json_value v;
    buf[0] = '\0';
    if (json_find(&v, json, name) == 0 && v.type == JSON_TEXT)
        json_value_words(&v, buf, cap);
}

static void on_status(void *ctx, const char *json)
{
    struct daemon_look *l = ctx;
    char event[32], state[32];
    text_of(json, "event", event, sizeof(event));
    text_of(json, "state", state, sizeof(state));
    bool host = strcmp(event, "host") == 0;
    l->sessions +=
        strcmp(event, "session") == 0 || (host && strcmp(state, "online") == 0);
    if ((strcmp(event, "broker") == 0 || strcmp(event, "agent") == 0) &&
        strcmp(state, "online") != 0) {
        text_of(json, "reason", l->lost, sizeof(l->lost));
        if (l->lost[0] == '\0')
            (void)snprintf(l->lost, sizeof(l->lost), "it is being tried");
    }
}

static void check_daemon(struct doctor *d, const char *role)
{
    struct daemon_look l = {.d = d, .role = role};
    struct fault f = {0};
    int runs = daemon_probe(&d->state, role, (int)doctor_left_ms(d, DAEMON_MS),
                            on_status, &l, &f);
    if (runs < 0)
        doctor_say(d, role, DOCTOR_BAD, f.advice, "%s", f.what);
    else if (runs == 0)
        doctor_say(d, role, DOCTOR_OK, "", "does not run");
    else if (l.lost[0] != '\0')
        doctor_say(d, role, DOCTOR_BAD, "'postern status' shows when it is back",
                   "runs, without its broker: %s", l.lost);
    else
        doctor_say(d, role, DOCTOR_OK, "", "runs, with %u session(s)", l.sessions);
}

/* -------------------------------------------------------------------------- all of it
 */

/* The one named, else that of the first host joined, else that of `serve`. */
static int find_broker(const struct options *o, struct doctor *d, struct fault *f)
{
    char link[LINK_TEXT_LEN] = "";
    const struct option_value *given = &o->values[OPT_BROKER];
    if (given->given) {
        int err = link_parse_given(&d->broker, given->text, f);
        return err == 0 ? link_check_broker(&d->broker, f) : err;
    }
    (void)fault_set(&d->no_broker, 0,
                    "join a host, serve, or name one with --broker LINK",
                    "no broker is known here");
    if (!d->has_state || cmd_stored_broker(&d->state, link, &d->no_broker) != 0 ||
        link_parse(&d->broker, link, &d->no_broker) != 0)
        d->broker.host[0] = '\0';
    return 0;
}

static int conclude(const struct doctor *d, const char *report, FILE *to,
                    struct fault *f)
{
    if (report != NULL) {
        int err = doctor_report(d, to, report, f);
        if (err != 0)
            return err;
        if (!d->out->json)
            (void)fprintf(d->out->out, "written: %s; read it before you send it\n",
                          report);
    }
    if (d->bad == 0)
        return 0;
    return fault_set(f, POSTERN_ERR_INVALID, "the cure stands behind each",
                     "%u of %zu checks found something bad", d->bad, d->count);
}

int cmd_doctor(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *report = &o->values[OPT_REPORT];
    FILE *to = NULL;
    struct doctor *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    d->out = out;
    d->until_us = clock_us() + ALL_MS * 1000ull;
    d->option = o->values[OPT_STATE].text;
    d->has_state = statedir_find(&d->state, o->values[OPT_STATE].text) == 0;
    int err = find_broker(o, d, f);
    if (err == 0 && report->given)
        err = doctor_report_open(&to, report->text, f);
    if (err == 0) {
        doctor_machine(d);
        for (size_t i = 0; d->has_state && i < 2; i++)
            check_daemon(d, i == 0 ? "serve" : "up");
        doctor_services(d);
        check_resolver(d);
        check_broker(d);
        check_certificate(d);
        doctor_clock(d);
        err = conclude(d, report->given ? report->text : NULL, to, f);
    }
    free(d);
    return err;
}

/* Parses, probes and names the broker's addresses; keeps no socket open. */
#include "broker/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "io/netmon.h"
#include "io/sock.h"
#include "io/systemd.h"

enum { LISTEN_BACKLOG = 4096, MACHINE_ADDRESSES = 32, PORT_TRIES = 16 };

static bool is_wildcard(const struct addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

int plan_open_tcp(const struct plan_site *s)
{
    struct sock_options o = {
        .dual = s->dual, .shared = true, .backlog = LISTEN_BACKLOG};
    return s->tcp_fd > 0 ? sock_share(s->tcp_fd, &o) : sock_listen(&s->bind, &o);
}

int plan_open_udp(const struct plan_site *s, const struct addr *a)
{
    struct sock_options o = {.dual = s->dual, .shared = true, .tells_own = true};
    bool theirs = s->udp_fd > 0 && addr_equal(a, &s->bind);
    return theirs ? sock_share(s->udp_fd, &o) : sock_udp(a, &o);
}

size_t plan_udp_binds(const struct plan_site *s, struct addr out[static 4])
{
    size_t n = 0;
    struct addr other = s->bind.family == ADDR_V4 ? s->other_v4 : s->other_v6;
    out[n++] = s->bind;
    if (s->other_port != 0) {
        out[n] = s->bind;
        out[n++].port = s->other_port;
    }
    if (s->wildcard || other.family == ADDR_NONE)
        return n; /* a wildcard socket sends from any address */
    size_t ports = n;
    for (size_t i = 0; i < ports; i++) {
        out[n] = other;
        out[n++].port = out[i].port;
    }
    return n;
}

enum proto { TCP, UDP };

/* `rc` of io/sock.h, which left errno. */
static int bind_fault(struct fault *f, const struct addr *a, enum proto proto, int rc)
{
    const char *name = proto == TCP ? "TCP" : "UDP";
    char text[ADDR_TEXT_LEN];
    int err = errno;
    addr_format(a, text);
    switch (rc) {
    case POSTERN_ERR_INUSE:
        return fault_set(f, rc,
                         "stop the program that uses it, or choose another port with "
                         "--listen",
                         "%s port %s is taken by another program", name, text);
    case POSTERN_ERR_PERM:
        return fault_set(f, rc,
                         "run as root, grant CAP_NET_BIND_SERVICE, or choose a port "
                         "over 1023 with --listen",
                         "no permission to listen on %s port %s", name, text);
    case POSTERN_ERR_UNREACHABLE:
        return fault_set(f, POSTERN_ERR_INVALID,
                         "give an address of this machine to --listen",
                         "this machine has no address for %s", text);
    default:
        return fault_set(f, POSTERN_ERR_IO, "choose another address with --listen",
                         "cannot listen on %s port %s: %s", name, text, strerror(err));
    }
}

/* 0, or an error of io/sock.h, which leaves errno. */
static int probe(const struct plan_site *s, struct addr *a, enum proto proto)
{
    struct sock_options o = {.dual = s->dual, .backlog = LISTEN_BACKLOG};
    int fd = proto == TCP ? sock_listen(a, &o) : sock_udp(a, &o);
    if (fd < 0)
        return fd;
    struct addr got;
    if (a->port == 0 && sock_local(fd, &got) == 0)
        a->port = got.port;
    close(fd);
    return 0;
}

/* TCP and UDP on the same port; with port 0 any port that is free for both. */
static int probe_site(struct plan_site *s, struct fault *f)
{
    bool any_port = s->bind.port == 0;
    int err = 0;
    for (int i = 0; i < PORT_TRIES; i++) {
        err = s->tcp_fd > 0 ? 0 : probe(s, &s->bind, TCP);
        if (err != 0)
            return bind_fault(f, &s->bind, TCP, err);
        err = s->udp_fd > 0 ? 0 : probe(s, &s->bind, UDP);
        if (err != POSTERN_ERR_INUSE || !any_port)
            break;
        s->bind.port = 0;
    }
    return err == 0 ? 0 : bind_fault(f, &s->bind, UDP, err);
}

/* `text` names it, or `tcp_fd`, which systemd gave. */
static int add_site(struct plan *p, const char *text, int tcp_fd,
                    struct systemd_sockets *given, struct fault *f)
{
    struct plan_site *s = &p->sites[p->site_count];
    if (tcp_fd > 0 && sock_local(tcp_fd, &s->bind) != 0)
        return fault_set(f, POSTERN_ERR_USAGE, "see ListenStream in its unit",
                         "systemd gave a socket that has no address and port");
    if (tcp_fd <= 0 && addr_parse(&s->bind, text) != 0)
        return fault_set(f, POSTERN_ERR_USAGE, "write it like 0.0.0.0:443 or [::]:443",
                         "\"%.100s\" is not an address to listen on", text);
    s->wildcard = is_wildcard(&s->bind);
    s->dual = s->wildcard && s->bind.family == ADDR_V6;
    s->tcp_fd = tcp_fd > 0 ? tcp_fd : systemd_sockets_take(given, true, &s->bind);
    s->udp_fd = systemd_sockets_take(given, false, &s->bind);
    int rc = probe_site(s, f);
    if (rc == 0)
        p->site_count++;
    return rc;
}

static int add_sites(struct plan *p, const struct broker_config *c, struct fault *f)
{
    if (c->listen_count > BROKER_LISTEN_MAX)
        return fault_set(f, POSTERN_ERR_USAGE, "give fewer --listen options",
                         "more than %d listen addresses", BROKER_LISTEN_MAX);
    struct systemd_sockets given;
    int fd, rc = 0;
    systemd_sockets_read(&given);
    while (c->listen_count == 0 && p->site_count < BROKER_LISTEN_MAX && rc == 0 &&
           (fd = systemd_sockets_take(&given, true, NULL)) > 0)
        rc = add_site(p, NULL, fd, &given, f);
    if (rc != 0 || p->site_count > 0)
        return rc;
    if (c->listen_count == 0) {
        struct plan_site v6 = {.bind = {.family = ADDR_V6}, .dual = true};
        int err = probe(&v6, &v6.bind, TCP); /* is there IPv6 at all? */
        return add_site(p, err == 0 ? BROKER_DEFAULT_LISTEN : "0.0.0.0:443", -1, &given,
                        f);
    }
    for (size_t i = 0; i < c->listen_count && rc == 0; i++)
        rc = add_site(p, c->listen[i], -1, &given, f);
    return rc;
}

/* The source address that the kernel would use towards the internet. */
static bool primary_address(struct addr *out, uint8_t family)
{
    struct addr far = {.family = family, .port = 9, .ip = {192, 0, 2, 1}};
    static const uint8_t far_v6[4] = {0x20, 0x01, 0x0d, 0xb8};
    if (family == ADDR_V6) {
        memset(far.ip, 0, sizeof(far.ip));
        memcpy(far.ip, far_v6, sizeof(far_v6));
        far.ip[15] = 1;
    }
    return sock_source_for(&far, out) == 0 && out->family == family;
}

/* Without a default route: the first address that the machine has. */
static bool machine_address(struct addr *out, uint8_t family)
{
    struct addr all[MACHINE_ADDRESSES];
    if (primary_address(out, family))
        return true;
    size_t n = netmon_addresses(all, MACHINE_ADDRESSES, false);
    for (size_t i = 0; i < n; i++) {
        if (all[i].family == family) {
            *out = all[i];
            return true;
        }
    }
    return false;
}

/* A second global address of the family of `main`, if the machine has one. */
static void find_second(struct addr *other, struct addr *main, uint8_t family)
{
    struct addr all[MACHINE_ADDRESSES];
    if (!machine_address(main, family))
        return;
    size_t n = netmon_addresses(all, MACHINE_ADDRESSES, false);
    for (size_t i = 0; i < n; i++) {
        struct addr a = all[i], m = *main;
        a.port = m.port = 1; /* a scope is asked of whole addresses */
        if (a.family == family && !addr_ip_equal(&a, main) &&
            addr_scope_of(&a) == ADDR_SCOPE_GLOBAL &&
            addr_scope_of(&m) == ADDR_SCOPE_GLOBAL) {
            *other = all[i];
            return;
        }
    }
}

/* 0, or why not. */
static int probe_port(const struct plan_site *s, const struct addr *ip, uint16_t port)
{
    struct addr a = *ip;
    a.port = port;
    return probe(s, &a, UDP);
}

static void alternate_auto(struct plan_site *s)
{
    uint16_t port = (uint16_t)(s->bind.port + 1);
    if (port != 0 && probe_port(s, &s->bind, port) == 0)
        s->other_port = port;
    if (!s->wildcard)
        return;
    if (s->bind.family == ADDR_V4 || s->dual)
        find_second(&s->other_v4, &s->main_v4, ADDR_V4);
    if (s->bind.family == ADDR_V6)
        find_second(&s->other_v6, &s->main_v6, ADDR_V6);
}

static int alternate_named(struct plan_site *s, const char *text, struct fault *f)
{
    struct addr a;
    if (addr_parse(&a, text) != 0 || a.port == 0 || a.port == s->bind.port ||
        is_wildcard(&a))
        return fault_set(f, POSTERN_ERR_USAGE,
                         "write it like 198.51.100.2:3479, with another port than the "
                         "broker's own, or \"off\"",
                         "\"%.100s\" is not a second STUN address", text);
    if (a.family != s->bind.family && !(s->dual && a.family == ADDR_V4))
        return fault_set(f, POSTERN_ERR_USAGE, "give one of the same IP version",
                         "the second STUN address does not go with --listen");
    int rc = probe_port(s, s->wildcard ? &s->bind : &a, a.port);
    if (rc != 0)
        return bind_fault(f, &a, UDP, rc);
    s->other_port = a.port;
    a.port = 0;
    struct addr main = s->bind;
    main.port = 0;
    if (s->wildcard && !machine_address(&main, a.family))
        return 0;
    *(a.family == ADDR_V4 ? &s->main_v4 : &s->main_v6) = main;
    if (!addr_ip_equal(&a, &main))
        *(a.family == ADDR_V4 ? &s->other_v4 : &s->other_v6) = a;
    return 0;
}

static void add_public(struct plan *p, const struct addr *a)
{
    for (size_t i = 0; i < p->public_count; i++)
        if (addr_equal(&p->publics[i], a))
            return;
    if (p->public_count < PLAN_PUBLIC_MAX)
        p->publics[p->public_count++] = *a;
}

static const char name_another[] =
    "for others start it with --public and the name or address by which the internet "
    "reaches it";

/* An address that few reach: right for a trial on one machine, or in one network. */
static void warn_of_scope(const struct plan *p, const struct addr *a)
{
    enum addr_scope scope = addr_scope_of(a);
    if (scope == ADDR_SCOPE_LOOPBACK)
        log_warn("only this machine itself reaches a broker at %s; %s", p->host,
                 name_another);
    else if (scope == ADDR_SCOPE_PRIVATE)
        log_warn("only machines of this network reach a broker at %s; %s", p->host,
                 name_another);
    else if (scope != ADDR_SCOPE_GLOBAL)
        log_warn("no other machine reaches a broker at %s; %s", p->host, name_another);
}

/* Another machine's, or a router's that hands on what comes there. */
static void warn_of_foreign(const struct plan *p, const struct addr *a)
{
    struct addr all[MACHINE_ADDRESSES];
    char ip[ADDR_TEXT_LEN];
    size_t n = netmon_addresses(all, MACHINE_ADDRESSES, false);
    for (size_t i = 0; i < n; i++)
        if (addr_ip_equal(&all[i], a))
            return;
    (void)addr_format_ip(a, ip);
    log_warn("%s%s%s is no address of this machine: right where a router or provider "
             "hands on TCP and UDP port %u from there; else mend %s",
             p->host, p->named ? ", which is " : "", p->named ? ip : "", p->port,
             p->named ? "the name's DNS entry" : "--public");
}

/* What this machine believes its public name to be may be true nowhere else. */
static void warn_of_name(const struct plan *p, struct addr a)
{
    char ip[ADDR_TEXT_LEN];
    a.port = 1; /* a scope is asked of whole addresses */
    if (strcmp(p->host, "localhost") == 0)
        warn_of_scope(p, &a);
    else if (addr_scope_of(&a) == ADDR_SCOPE_GLOBAL)
        warn_of_foreign(p, &a);
    else
        log_warn("on this machine %s is %s, which the internet does not reach: a line "
                 "of its /etc/hosts, or the DNS of its own network; devices use the "
                 "address at which they reached the broker",
                 p->host, addr_format_ip(&a, ip));
}

/* Of each family the first. One of loopback is told to nobody: without another they
 * hear where they have just reached this machine. */
void plan_take_public(struct plan *p, const struct addr *all, size_t n)
{
    struct plan found = {0};
    bool have_v4 = false, have_v6 = false;
    for (size_t i = 0; i < n; i++) {
        bool *have = all[i].family == ADDR_V4 ? &have_v4 : &have_v6;
        if (!*have)
            warn_of_name(p, all[i]);
        if (!*have && addr_scope_of(&all[i]) != ADDR_SCOPE_LOOPBACK)
            add_public(&found, &all[i]);
        *have = true;
    }
    memcpy(p->publics, found.publics, sizeof(p->publics));
    p->public_count =
        found.public_count; /* last: other threads read them from now on */
}

/* Splits "NAME", "NAME:PORT", "1.2.3.4", "1.2.3.4:5", "::1", "[::1]:5". */
static int parse_public(struct plan *p, const char *text, struct fault *f)
{
    struct addr a;
    char ip[ADDR_TEXT_LEN];
    if (addr_parse_ip(&a, text) == 0 || addr_parse(&a, text) == 0) {
        a.port = a.port != 0 ? a.port : p->port;
        p->port = a.port;
        (void)snprintf(p->host, sizeof(p->host), "%s", addr_format_ip(&a, ip));
        add_public(p, &a);
        warn_of_scope(p, &a);
        if (addr_scope_of(&a) == ADDR_SCOPE_GLOBAL)
            warn_of_foreign(p, &a);
        return 0;
    }
    const char *colon = strchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
    unsigned long port = p->port;
    char *end = NULL;
    if (colon != NULL)
        port = strtoul(colon + 1, &end, 10);
    if (len == 0 || len >= sizeof(p->host) || port == 0 || port > 65535 ||
        (end != NULL && *end != '\0') || strpbrk(text, " /[]@") != NULL)
        return fault_set(f, POSTERN_ERR_USAGE, "give a host name or an IP address",
                         "\"%.100s\" is not a public name", text);
    memcpy(p->host, text, len);
    p->host[len] = '\0';
    p->port = (uint16_t)port;
    p->named = true;
    return 0;
}

static void name_itself(struct plan *p)
{
    struct plan_site *s = &p->sites[0];
    struct addr v4 = {0}, v6 = {0}, best = s->bind;
    char ip[ADDR_TEXT_LEN];
    for (size_t i = 0; i < p->site_count; i++)
        if (!p->sites[i].wildcard)
            add_public(p, &p->sites[i].bind);
    if (s->wildcard) {
        bool has_v4 =
            (s->dual || s->bind.family == ADDR_V4) && machine_address(&v4, ADDR_V4);
        bool has_v6 = s->bind.family == ADDR_V6 && machine_address(&v6, ADDR_V6);
        v4.port = v6.port = s->bind.port;
        if (has_v4)
            add_public(p, &v4);
        if (has_v6)
            add_public(p, &v6);
        best = has_v4 ? v4 : v6;
        if (!has_v4 && !has_v6) /* no network but the loopback one */
            best = (struct addr){.family = ADDR_V4, .ip = {127, 0, 0, 1}};
    }
    (void)snprintf(p->host, sizeof(p->host), "%s", addr_format_ip(&best, ip));
}

int plan_make(struct plan *p, const struct broker_config *c, struct fault *f)
{
    memset(p, 0, sizeof(*p));
    int rc = add_sites(p, c, f);
    if (rc != 0)
        return rc;
    const char *alternate = c->stun_alternate;
    if (alternate == NULL)
        for (size_t i = 0; i < p->site_count; i++)
            alternate_auto(&p->sites[i]);
    else if (strcmp(alternate, "off") != 0)
        rc = alternate_named(&p->sites[0], alternate, f);
    if (rc != 0)
        return rc;
    p->port = p->sites[0].bind.port;
    if (c->public_name != NULL)
        return parse_public(p, c->public_name, f);
    name_itself(p);
    return 0;
}

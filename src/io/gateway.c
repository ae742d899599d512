/* The three protocols, each tried for a bounded time. */
#include "io/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <miniupnpc/upnperrors.h>
#ifdef HAVE_NATPMP
#include <natpmp.h>
#endif
#include <net/route.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/sock.h"
#include "io/sockaddr.h"

enum { TRY_MS = 250, TRIES = 2, DISCOVER_MS = 800, SLICE_MS = 50 };

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Whether something can be read within `ms`; not any more once nobody wants it. */
static bool await_answer(const struct gateway_mapping *m, int fd, uint64_t ms)
{
    uint64_t end = now_ms() + ms, now;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (!m->unwanted && (now = now_ms()) < end)
        if (poll(&p, 1, (int)(end - now < SLICE_MS ? end - now : SLICE_MS)) > 0)
            return true;
    return false;
}

static void say(struct gateway_mapping *m, const char *protocol, const char *what)
{
    size_t used = strlen(m->reason);
    (void)snprintf(m->reason + used, sizeof(m->reason) - used, "%s%s: %.60s",
                   used > 0 ? "; " : "", protocol, what);
}

/* The default route's, of the main table. */
static bool find_gateway(struct addr *gateway)
{
    FILE *f = fopen("/proc/net/route", "re");
    char line[256];
    unsigned to = 1, via = 0, flags = 0, mask = 1;
    bool found = false;
    while (f != NULL && !found && fgets(line, sizeof(line), f) != NULL)
        /* NOLINTNEXTLINE(cert-err34-c): four numbers of the kernel, counted */
        found = sscanf(line, "%*s %x %x %x %*s %*s %*s %x", &to, &via, &flags, &mask) ==
                    4 &&
                to == 0 && mask == 0 && via != 0 && (flags & RTF_GATEWAY) != 0;
    if (f != NULL)
        (void)fclose(f);
    if (!found)
        return false;
    *gateway = (struct addr){.family = ADDR_V4, .port = PCP_PORT};
    memcpy(gateway->ip, &via, sizeof(via));
    return true;
}

/* ----------------------------------------------------------------------------- PCP */

static int open_towards(const struct addr *gateway, struct addr *own)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, gateway);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&ss, len) == 0 &&
        sock_local(fd, own) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* One request until it is answered; POSTERN_ERR_TIMEOUT when it is not. */
static int pcp_ask(const struct gateway_mapping *m, int fd, const struct pcp_map *map,
                   struct pcp_answer *a)
{
    uint8_t out[PCP_REQUEST_MAX], in[PCP_ANSWER_MAX];
    size_t len = pcp_encode_map(map, out);
    for (int i = 0; i < TRIES && !m->unwanted; i++) {
        if (send(fd, out, len, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED)
            return POSTERN_ERR_REFUSED;
        if (!await_answer(m, fd, (uint64_t)TRY_MS << i))
            continue;
        ssize_t n = recv(fd, in, sizeof(in), 0);
        if (n < 0)
            return POSTERN_ERR_REFUSED;
        if (pcp_decode_map(a, map, in, (size_t)n) == 0)
            return 0;
    }
    return POSTERN_ERR_TIMEOUT;
}

static void undo_pcp(const struct gateway_mapping *m, const struct addr *gateway)
{
    struct pcp_map map = {.lifetime_s = 0, .tcp = m->tcp};
    uint8_t out[PCP_REQUEST_MAX];
    int fd = open_towards(gateway, &map.client);
    if (fd < 0)
        return;
    map.client.port = m->port;
    memcpy(map.nonce, m->nonce, sizeof(map.nonce));
    size_t len = pcp_encode_map(&map, out);
    (void)!send(fd, out, len, MSG_NOSIGNAL);
    close(fd);
}

static bool by_pcp(struct gateway_mapping *m, const struct addr *gateway)
{
    struct pcp_map map = {
        .lifetime_s = GATEWAY_LEASE_S, .peer = m->peer, .tcp = m->tcp};
    struct pcp_answer a = {0};
    char words[48];
    int fd = open_towards(gateway, &map.client);
    if (fd < 0)
        return false;
    map.client.port = m->port;
    memcpy(map.nonce, m->nonce, sizeof(map.nonce));
    int rc = pcp_ask(m, fd, &map, &a);
    if (rc == 0 && a.result == PCP_UNSUPP_OPTION) {
        map.peer = (struct addr){0};
        rc = pcp_ask(m, fd, &map, &a);
    }
    close(fd);
    if (rc == POSTERN_ERR_TIMEOUT && m->unwanted) /* it may have done it */
        undo_pcp(m, gateway);
    (void)snprintf(words, sizeof(words), "it refuses (result %u)", a.result);
    if (rc == 0 && a.result == PCP_SUCCESS) {
        m->external = a.external;
        m->by = GATEWAY_PCP;
        return true;
    }
    say(m, "PCP",
        rc == POSTERN_ERR_TIMEOUT        ? "no answer"
        : rc != 0                        ? "not spoken there"
        : a.result == PCP_UNSUPP_VERSION ? "not spoken there"
                                         : words);
    return false;
}

/* ------------------------------------------------------------------------- NAT-PMP */

#ifdef HAVE_NATPMP
enum { NAT_PMP_MS = 800 };

/* Its library leaves a socket behind where it finds no gateway. */
static bool natpmp_open(natpmp_t *n)
{
    if (initnatpmp(n, 0, 0) == 0)
        return true;
    if (n->s >= 0)
        closenatpmp(n);
    return false;
}

/* The library repeats by itself for minutes: ended here after NAT_PMP_MS. */
static int natpmp_wait(const struct gateway_mapping *m, natpmp_t *n, natpmpresp_t *r)
{
    uint64_t end = now_ms() + NAT_PMP_MS;
    int rc = NATPMP_TRYAGAIN;
    while (rc == NATPMP_TRYAGAIN && !m->unwanted && now_ms() < end) {
        struct timeval tv = {0};
        (void)getnatpmprequesttimeout(n, &tv);
        uint64_t ms = (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1;
        (void)await_answer(m, n->s, ms < NAT_PMP_MS ? ms : NAT_PMP_MS);
        rc = readnatpmpresponseorretry(n, r);
    }
    return rc;
}

static void undo_nat_pmp(const struct gateway_mapping *m)
{
    natpmp_t n;
    if (!natpmp_open(&n))
        return;
    (void)sendnewportmappingrequest(
        &n, m->tcp ? NATPMP_PROTOCOL_TCP : NATPMP_PROTOCOL_UDP, m->port, 0, 0);
    closenatpmp(&n);
}
static bool by_nat_pmp(struct gateway_mapping *m, const struct addr *gateway)
{
    natpmp_t n;
    natpmpresp_t r;
    bool good = false;
    (void)gateway; /* it finds it by itself */
    if (!natpmp_open(&n)) {
        say(m, "NAT-PMP", "no gateway is known");
        return false;
    }
    int rc =
        sendpublicaddressrequest(&n) < 0 ? NATPMP_ERR_SENDERR : natpmp_wait(m, &n, &r);
    struct in_addr public_ip = rc == 0 ? r.pnu.publicaddress.addr : (struct in_addr){0};
    if (rc == 0 && sendnewportmappingrequest(
                       &n, m->tcp ? NATPMP_PROTOCOL_TCP : NATPMP_PROTOCOL_UDP, m->port,
                       m->port, GATEWAY_LEASE_S) >= 0)
        rc = natpmp_wait(m, &n, &r);
    if (rc == 0) {
        good = addr_from_bytes(&m->external, (const uint8_t *)&public_ip, 4,
                               r.pnu.newportmapping.mappedpublicport) == 0;
        m->by = GATEWAY_NAT_PMP;
    } else {
        say(m, "NAT-PMP", rc == NATPMP_TRYAGAIN ? "no answer" : "not spoken there");
    }
    closenatpmp(&n);
    if (!good && m->unwanted) /* it may have done it */
        undo_nat_pmp(m);
    return good;
}

#else
static bool by_nat_pmp(struct gateway_mapping *m, const struct addr *gateway)
{
    (void)gateway;
    say(m, "NAT-PMP", "not in this build");
    return false;
}

static void undo_nat_pmp(const struct gateway_mapping *m)
{
    (void)m;
}
#endif

/* ---------------------------------------------------------------------------- UPnP */

struct igd {
    struct UPNPUrls urls;
    struct IGDdatas data;
    char own[64];
};

static const char *protocol_of(const struct gateway_mapping *m)
{
    return m->tcp ? "TCP" : "UDP";
}

/*
 * Whether the question for a router leaves this machine: the library writes on stderr
 * when its own firewall refuses that.
 */
static bool can_ask(void)
{
    const struct sockaddr_in ssdp = {.sin_family = AF_INET,
                                     .sin_port = htons(1900),
                                     .sin_addr.s_addr = htonl(0xeffffffa)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool can = fd >= 0 &&
               sendto(fd, "", 0, 0, (const struct sockaddr *)&ssdp, sizeof(ssdp)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return can;
}

static bool find_igd(struct igd *g)
{
    /* Routers of version 2 answer to version 1 as well. */
    static const char *const wanted[] = {
        "urn:schemas-upnp-org:device:InternetGatewayDevice:1", NULL};
    int error = 0;
    struct UPNPDev *list =
        upnpDiscoverDevices(wanted, DISCOVER_MS, NULL, NULL, 0, 0, 2, &error, 0);
    if (list == NULL)
        return false;
#if MINIUPNPC_API_VERSION >= 18
    int rc =
        UPNP_GetValidIGD(list, &g->urls, &g->data, g->own, sizeof(g->own), NULL, 0);
#else
    int rc = UPNP_GetValidIGD(list, &g->urls, &g->data, g->own, sizeof(g->own));
#endif
    freeUPNPDevlist(list);
    if (rc != 1 && rc != 2 && rc != 0)
        FreeUPNPUrls(&g->urls);
    return rc == 1 || rc == 2;
}

static bool by_upnp(struct gateway_mapping *m, const struct addr *gateway)
{
    struct igd g;
    char external[64] = "", port[8], lease[8], peer[ADDR_TEXT_LEN];
    (void)gateway;
    if (!can_ask()) {
        say(m, "UPnP", "this machine sends no question");
        return false;
    }
    if (!find_igd(&g)) {
        say(m, "UPnP", "no router answers");
        return false;
    }
    (void)snprintf(port, sizeof(port), "%u", m->port);
    (void)snprintf(lease, sizeof(lease), "%d", GATEWAY_LEASE_S);
    const char *only =
        m->peer.family == ADDR_V4 ? addr_format_ip(&m->peer, peer) : NULL;
    const char *url = g.urls.controlURL, *type = g.data.first.servicetype;
    int rc = UPNP_GetExternalIPAddress(url, type, external);
    if (rc == UPNPCOMMAND_SUCCESS)
        rc = UPNP_AddPortMapping(url, type, port, port, g.own, "postern",
                                 protocol_of(m), only, lease);
    if (rc != UPNPCOMMAND_SUCCESS && only != NULL) /* many take no remote host */
        rc = UPNP_AddPortMapping(url, type, port, port, g.own, "postern",
                                 protocol_of(m), NULL, lease);
    bool good = rc == UPNPCOMMAND_SUCCESS && addr_parse_ip(&m->external, external) == 0;
    if (good) {
        m->external.port = m->port;
        m->by = GATEWAY_UPNP;
        (void)snprintf(m->url, sizeof(m->url), "%s", url);
        (void)snprintf(m->service, sizeof(m->service), "%s", type);
    } else {
        const char *why = strupnperror(rc);
        say(m, "UPnP", why != NULL ? why : "it refuses");
    }
    FreeUPNPUrls(&g.urls);
    return good;
}

static void undo_upnp(const struct gateway_mapping *m)
{
    char port[8], peer[ADDR_TEXT_LEN];
    (void)snprintf(port, sizeof(port), "%u", m->port);
    const char *only =
        m->peer.family == ADDR_V4 ? addr_format_ip(&m->peer, peer) : NULL;
    if (UPNP_DeletePortMapping(m->url, m->service, port, protocol_of(m), only) !=
        UPNPCOMMAND_SUCCESS)
        (void)UPNP_DeletePortMapping(m->url, m->service, port, protocol_of(m), NULL);
}

/* ----------------------------------------------------------------------------- all */

void gateway_map(struct gateway_mapping *m)
{
    static bool (*const by[])(struct gateway_mapping * m,
                              const struct addr *gateway) = {by_pcp, by_nat_pmp,
                                                             by_upnp};
    struct addr gateway;
    m->by = GATEWAY_NONE;
    m->reason[0] = '\0';
    if (!find_gateway(&gateway)) {
        (void)snprintf(m->reason, sizeof(m->reason), "this network has no gateway");
        return;
    }
    for (size_t i = 0; i < sizeof(by) / sizeof(by[0]) && !m->unwanted; i++)
        if (by[i](m, &gateway))
            return;
    m->by = GATEWAY_NONE;
}

void gateway_unmap(const struct gateway_mapping *m)
{
    struct addr gateway;
    if (m->by == GATEWAY_PCP && find_gateway(&gateway))
        undo_pcp(m, &gateway);
    else if (m->by == GATEWAY_NAT_PMP)
        undo_nat_pmp(m);
    else if (m->by == GATEWAY_UPNP)
        undo_upnp(m);
}

const char *gateway_protocol_name(enum gateway_protocol p)
{
    static const char *const names[] = {"none", "PCP", "NAT-PMP", "UPnP"};
    return names[p];
}

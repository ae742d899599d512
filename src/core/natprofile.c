/* The table of profiles. */
#include "core/natprofile.h"

#include <stdio.h>

static bool is_symmetric(const struct natcheck_result *r)
{
    return r->mapping == NAT_MAPPING_ADDRESS_DEPENDENT ||
           r->mapping == NAT_MAPPING_ADDRESS_PORT_DEPENDENT;
}

enum natprofile_ease natprofile_ease(const struct natprofile *p)
{
    const struct natcheck_result *r = p->found;
    if (r->udp == NATCHECK_NO)
        return NATPROFILE_BLOCKED;
    if (r->udp != NATCHECK_YES ||
        (r->mapping == NAT_MAPPING_UNKNOWN && !r->mapping_not_port_dependent))
        return NATPROFILE_UNKNOWN;
    if (is_symmetric(r))
        return p->near_ports ? NATPROFILE_MIDDLING : NATPROFILE_HARD;
    return r->filtering == NAT_FILTERING_ENDPOINT_INDEPENDENT ? NATPROFILE_OPEN
                                                              : NATPROFILE_EASY;
}

const char *natprofile_ease_name(enum natprofile_ease e)
{
    static const char *const names[] = {"unknown",  "open", "easy",
                                        "middling", "hard", "blocked"};
    return names[e];
}

static const char *direct_words(enum natprofile_ease e)
{
    switch (e) {
    case NATPROFILE_OPEN:
        return "direct to everybody, whatever they are behind";
    case NATPROFILE_EASY:
        return "direct to most, at once; to symmetric NATs by prediction";
    case NATPROFILE_MIDDLING:
        return "its ports lie close together: direct to most, by prediction";
    case NATPROFILE_HARD:
        return "random ports: direct to who is easy, by prediction; to another like "
               "it only where both may use ports below 1024";
    case NATPROFILE_BLOCKED:
        return "direct paths over TCP only, and the relay";
    case NATPROFILE_UNKNOWN:
        break;
    }
    return "what that means for direct paths is not known";
}

static const char *kind_words(const struct natprofile *p, enum natprofile_ease e)
{
    const struct natcheck_result *r = p->found;
    if (e == NATPROFILE_BLOCKED)
        return "no UDP comes back";
    if (e == NATPROFILE_UNKNOWN)
        return r->udp == NATCHECK_YES ? "a network whose NAT could not be told"
                                      : "a network that was not tested";
    if (r->mapping == NAT_MAPPING_NONE)
        return e == NATPROFILE_OPEN ? "no NAT and no firewall"
                                    : "no NAT, a firewall that lets answers in";
    if (is_symmetric(r))
        return p->carrier ? "a carrier's NAT, symmetric" : "a symmetric NAT";
    return p->carrier ? "two NATs behind one another that keep ports"
                      : "a NAT as most home routers have it";
}

const char *natprofile_words(const struct natprofile *p,
                             char buf[static NATPROFILE_WORDS_LEN])
{
    enum natprofile_ease e = natprofile_ease(p);
    const char *name = e == NATPROFILE_BLOCKED || e == NATPROFILE_UNKNOWN
                           ? ""
                           : natprofile_ease_name(e);
    (void)snprintf(buf, NATPROFILE_WORDS_LEN, "%s: %s%s%s%s", kind_words(p, e), name,
                   name[0] != '\0' ? "; " : "", direct_words(e),
                   p->mapped ? "; and its router lets a port in for us" : "");
    return buf;
}

const char *natprofile_needs(const struct natprofile *p)
{
    enum natprofile_ease e = natprofile_ease(p);
    if (e == NATPROFILE_BLOCKED)
        return "outgoing UDP, to any port, allowed by this network's firewall";
    if ((e != NATPROFILE_HARD && e != NATPROFILE_MIDDLING) || p->mapped)
        return "";
    return p->low_ports || e == NATPROFILE_MIDDLING
               ? "port mapping (UPnP, NAT-PMP or PCP) switched on at the router, if it "
                 "has a public address"
               : "port mapping (UPnP, NAT-PMP or PCP) switched on at the router, or "
                 "ports below 1024 for this program (root, or capabilities)";
}

/* Names of path kinds; what a kind does stands in path/. */
#include "core/kinds.h"

#include <string.h>

static const struct {
    const char *name;
    bool direct;
    uint32_t delay_us;
} kinds[PATH_KIND_COUNT] = {
    [PATH_UDP_PUNCH] = {"udp-punch", true, 0},
    [PATH_TCP_PUNCH] = {"tcp-punch", true, 150000},
    [PATH_JIT_LISTEN] = {"jit-listen", true, 250000},
    [PATH_JIT_LISTEN_CLIENT] = {"jit-listen-client", true, 500000},
    [PATH_UDP_KNOCK] = {"udp-knock", true, 300000},
    [PATH_TCP_KNOCK] = {"tcp-knock", true, 500000},
    [PATH_MAPPED] = {"mapped", true, 300000},
    [PATH_MAPPED_TCP] = {"mapped-tcp", true, 600000},
    [PATH_DIAL_OUT] = {"dial-out", true, 0},
    [PATH_SPOOF] = {"spoof", true, 300000},
    [PATH_RELAY] = {"relay", false, 0},
};

const char *path_kind_name(enum path_kind k)
{
    return k < PATH_KIND_COUNT ? kinds[k].name : "none";
}

bool path_kind_is_direct(enum path_kind k)
{
    return k < PATH_KIND_COUNT && kinds[k].direct;
}

uint32_t path_kind_delay_us(enum path_kind k)
{
    return k < PATH_KIND_COUNT ? kinds[k].delay_us : 0;
}

enum path_kind path_kind_from_name(const char *name)
{
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        if (strcmp(kinds[k].name, name) == 0)
            return (enum path_kind)k;
    return PATH_KIND_NONE;
}

int path_kinds_parse(uint32_t *mask, const char *list, struct fault *f)
{
    static const char known[] = "use a comma-separated list of: udp-punch, tcp-punch, "
                                "jit-listen, jit-listen-client, udp-knock, tcp-knock, "
                                "mapped, mapped-tcp, dial-out, spoof, relay";
    uint32_t m = 0;
    while (*list != '\0') {
        char name[24];
        size_t len = strcspn(list, ",");
        if (len == 0 || len >= sizeof(name))
            return fault_set(f, POSTERN_ERR_USAGE, known,
                             "--paths has a name that is %s",
                             len == 0 ? "empty" : "too long");
        memcpy(name, list, len);
        name[len] = '\0';
        enum path_kind k = path_kind_from_name(name);
        if (k == PATH_KIND_NONE)
            return fault_set(f, POSTERN_ERR_USAGE, known, "no path kind is called '%s'",
                             name);
        m |= 1u << k;
        list += len;
        if (*list == ',' && *++list == '\0')
            return fault_set(f, POSTERN_ERR_USAGE, known, "--paths ends in a comma");
    }
    if (m == 0)
        return fault_set(f, POSTERN_ERR_USAGE, known, "--paths names no path kind");
    *mask = m;
    return 0;
}

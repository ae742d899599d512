/* Names of path kinds; what a kind does stands in path/. */
#include "core/kinds.h"

#include <string.h>

#define ROW(kind, engine, the_name, delay_ms, the_flags, plan)                         \
    [PATH_##kind] = {the_name, (delay_ms)*1000, the_flags},

static const struct {
    const char *name;
    uint32_t delay_us;
    unsigned flags;
} kinds[PATH_KIND_COUNT] = {PATH_KINDS(ROW)};

const char *path_kind_name(enum path_kind k)
{
    return k < PATH_KIND_COUNT ? kinds[k].name : "none";
}

bool path_kind_is_direct(enum path_kind k)
{
    return k < PATH_KIND_COUNT && (kinds[k].flags & PATH_BY_BROKER) == 0;
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

#define LISTED(kind, engine, name, delay_ms, flags, plan) name ", "

int path_kinds_parse(uint32_t *mask, const char *list, struct fault *f)
{
    static const char known[] =
        "use " PATH_KINDS(LISTED) "or several, with commas between";
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

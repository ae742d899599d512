/* Who came, in the words of the log and of hosts; see visitor.h. */
#include "portal/visitor.h"

#include <stdio.h>
#include <string.h>

#include "io/audit.h"

void visitor_audit(struct audit *a, const char *what, const char *who,
                   const struct addr *from, const char *object, const char *detail)
{
    char text[ADDR_TEXT_LEN] = "";
    if (from != NULL && from->port != 0)
        (void)addr_format(from, text);
    else if (from != NULL)
        (void)addr_format_ip(from, text);
    audit_note(a, what, who, text, object, detail);
}

void visitor_visit(Visit *v, const char *account, const struct addr *from)
{
    char text[ADDR_TEXT_LEN];
    *v = (Visit)Visit_init_zero;
    (void)snprintf(v->account, sizeof(v->account), "%s", account);
    (void)snprintf(v->visitor, sizeof(v->visitor), "%s", addr_format(from, text));
}

const char *visitor_sum(uint64_t there, uint64_t back, uint64_t lasted_ms,
                        char text[static VISITOR_SUM_LEN])
{
    (void)snprintf(text, VISITOR_SUM_LEN, "%llu bytes there, %llu back, %llu s",
                   (unsigned long long)there, (unsigned long long)back,
                   (unsigned long long)lasted_ms / 1000);
    return text;
}

bool visitor_same(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family || a->family == ADDR_NONE || a->scope != b->scope)
        return false;
    return memcmp(a->ip, b->ip, a->family == ADDR_V6 && a->scope == 0 ? 8 : 16) == 0;
}

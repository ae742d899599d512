/* Services as they are named, beside those that are stored; it stores and asks nothing.
 */
#include "cli/serve_beside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/daemon.h"
#include "host/roster.h"

static bool is_same_target(const struct service_target *a,
                           const struct service_target *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->host, b->host) == 0 &&
           a->port == b->port;
}

static bool is_same(const struct service *a, const struct service *b)
{
    bool same = a->udp == b->udp && a->target_count == b->target_count &&
                strcmp(a->title, b->title) == 0 &&
                strcmp(a->audience, b->audience) == 0;
    for (size_t i = 0; same && i < a->target_count; i++)
        same = is_same_target(&a->targets[i], &b->targets[i]);
    return same;
}

static const struct service *by_name(const struct service_list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].name, name) == 0)
            return &l->items[i];
    return NULL;
}

/* NAME-2=..., or the next that is free. */
static void tell_clash(struct serve_beside *b, const struct service_list *stored,
                       const char *text, const char *name)
{
    char other[SERVICE_NAME_LEN + 8], advice[240];
    const char *rest = strchr(text, '=');
    int n = 2;
    do {
        (void)snprintf(other, sizeof(other), "%s-%d", name, n);
        for (char *at = other; (at = strchr(at, ':')) != NULL;)
            *at = '-';
    } while (by_name(stored, other) != NULL && ++n < SERVICE_MAX);
    b->clash = text;
    (void)snprintf(advice, sizeof(advice),
                   "give this one its own name: --add %.60s=%.100s", other,
                   rest != NULL ? rest + 1 : text);
    (void)fault_set(&b->why, POSTERN_ERR_USAGE, advice,
                    "another service called '%.63s' is published already", name);
}

/* A list or a range is several; one of which only some are there is none of both. */
static void sort_one(struct serve_beside *b, const struct service_list *stored,
                     const char *text)
{
    struct service_list named = {0};
    const struct service *part = NULL;
    size_t same = 0, other = 0;
    if (service_list_parse(&named, &text, 1, NULL) != 0)
        named.count = 0;
    for (size_t i = 0; i < named.count; i++) {
        const struct service *s = &named.items[i], *old = by_name(stored, s->name);
        same += old != NULL && is_same(old, s);
        other += old != NULL && !is_same(old, s);
        if (old != NULL && (part == NULL || !is_same(old, s)))
            part = s;
    }
    if (named.count > 0 && same == named.count)
        b->known[b->known_count++] = text;
    else if (part == NULL)
        b->fresh[b->fresh_count++] = text;
    else if (b->clash == NULL && (other > 0 && named.count == 1))
        tell_clash(b, stored, text, part->name);
    else if (b->clash == NULL) {
        b->clash = text;
        (void)fault_set(&b->why, POSTERN_ERR_USAGE,
                        "leave it out, or name all services anew with --reload",
                        "of '%.60s', '%.63s' is published already", text, part->name);
    }
    service_list_fini(&named);
}

void serve_beside_sort(struct serve_beside *b, const struct statedir *state,
                       const char *const *texts, size_t count)
{
    struct service_list stored = {0};
    struct roster *r = NULL;
    struct roster_settings *s = calloc(1, sizeof(*s));
    *b = (struct serve_beside){.clash = NULL};
    if (s == NULL || daemon_open_roster(&r, state, NULL) != 0 ||
        roster_settings_get(r, s) != 0 ||
        service_list_parse_lines(&stored, s->services, NULL) != 0)
        stored = (struct service_list){0};
    for (size_t i = 0; i < count && i < SERVICE_MAX; i++)
        sort_one(b, &stored, texts[i]);
    service_list_fini(&stored);
    roster_close(r);
    free(s);
}

/* The words of a shell for those that are fresh; false where they do not fit. */
static bool write_fresh(const struct serve_beside *b, char *out, size_t cap)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < b->fresh_count; i++) {
        const char *quote = strpbrk(b->fresh[i], " *?[]$&|<>\"\\;()") ? "'" : "";
        int n = snprintf(out + used, cap - used, " %s%s%s", quote, b->fresh[i], quote);
        if (n < 0 || (size_t)n >= cap - used) {
            out[used] = '\0';
            return false;
        }
        used += (size_t)n;
    }
    return true;
}

void serve_beside_advise(const struct serve_beside *b, const char *option,
                         const char *stop, char *out, size_t cap)
{
    char fresh[90], dir[100] = "";
    bool whole = write_fresh(b, fresh, sizeof(fresh));
    if (option != NULL)
        (void)snprintf(dir, sizeof(dir), " --state %.85s", option);
    if (b->clash != NULL)
        (void)snprintf(out, cap, "%.90s: %.120s", b->why.what, b->why.advice);
    else if (b->fresh_count == 0)
        (void)snprintf(
            out, cap,
            "that is published already; 'postern invite%s' lets a device in; "
            "else %.80s",
            dir, stop);
    else if (whole && option == NULL)
        (void)snprintf(out, cap,
                       "to publish that there too: postern serve --add%s (only that: "
                       "--reload); else %.80s",
                       fresh, stop);
    else
        (void)snprintf(out, cap, "to publish that there too: postern serve%s --add%s%s",
                       dir, fresh, whole ? "" : " ...");
}

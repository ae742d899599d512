/*
 * Parses SERVICE texts and finds services by name or port. Whether a target exists or
 * answers is not known here.
 */
#include "host/service.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/addr.h"
#include "core/guess.h"
#include "core/utf8.h"
#include "host/service_slips.h"
#include "io/lack.h"

#define SERVICE_FORMS "write it as 22, web=8080, dns=udp:53 or cam=192.168.1.20:554"

static bool all_digits(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isdigit((unsigned char)text[i]))
            return false;
    return len > 0;
}

static int parse_port(const char *text, size_t len, uint16_t *port)
{
    unsigned v = 0;
    if (!all_digits(text, len) || len > 5)
        return POSTERN_ERR_INVALID;
    for (size_t i = 0; i < len; i++)
        v = v * 10 + (unsigned)(text[i] - '0');
    if (v == 0 || v > 65535)
        return POSTERN_ERR_INVALID;
    *port = (uint16_t)v;
    return 0;
}

static int parse_name(char name[static SERVICE_NAME_LEN], const char *text, size_t len,
                      struct fault *f)
{
    bool good = len > 0 && isalnum((unsigned char)text[0]) && !all_digits(text, len);
    for (size_t i = 0; good && i < len; i++)
        good = isalnum((unsigned char)text[i]) || strchr("-_.", text[i]) != NULL;
    if (len >= SERVICE_NAME_LEN)
        return fault_set(f, POSTERN_ERR_INVALID, "use at most 63 characters",
                         "'%.20s...' is too long for the name of a service or instance",
                         text);
    if (!good)
        return fault_set(f, POSTERN_ERR_INVALID,
                         "use letters, digits, '-', '_' and '.', not digits only",
                         "'%.*s' cannot be the name of a service or instance", (int)len,
                         text);
    for (size_t i = 0; i < len; i++)
        name[i] = (char)tolower((unsigned char)text[i]);
    name[len] = '\0';
    return 0;
}

/* "[v6]", a numeric IPv4 address or a host name, without the port. */
static int parse_host(struct service_target *t, const char *text, size_t len)
{
    struct addr a;
    bool bracket = len > 2 && text[0] == '[' && text[len - 1] == ']';
    if (bracket) {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(t->host))
        return POSTERN_ERR_INVALID;
    memcpy(t->host, text, len);
    t->host[len] = '\0';
    if (addr_parse_ip(&a, t->host) == 0)
        return bracket == (a.family == ADDR_V6) ? 0 : POSTERN_ERR_INVALID;
    if (bracket || !isalnum((unsigned char)text[0]))
        return POSTERN_ERR_INVALID;
    bool numeric = true; /* "10.0.0.256" is a mistake, not a name */
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && strchr("-_.", text[i]) == NULL)
            return POSTERN_ERR_INVALID;
        numeric = numeric && (isdigit((unsigned char)text[i]) || text[i] == '.');
    }
    return numeric ? POSTERN_ERR_INVALID : 0;
}

static int parse_target(struct service *s, const char *text, size_t len, bool only)
{
    struct service_target *t = &s->targets[s->target_count];
    if (s->target_count == SERVICE_TARGET_MAX)
        return POSTERN_ERR_LIMIT;
    if (text[0] == '/' && len < sizeof(t->host) && !s->udp) {
        memcpy(t->host, text, len); /* a socket that is a file */
        s->target_count++;
        return 0;
    }
    if (parse_port(text, len, &t->port) == 0) {
        (void)snprintf(t->host, sizeof(t->host), "127.0.0.1");
        s->target_count++;
        if (only && !s->udp) {
            s->targets[1] = *t;
            (void)snprintf(s->targets[1].host, sizeof(t->host), "::1");
            s->target_count++;
        }
        return 0;
    }
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL)
        return POSTERN_ERR_INVALID;
    size_t host_len = (size_t)(colon - text);
    if (parse_port(colon + 1, len - host_len - 1, &t->port) != 0 ||
        parse_host(t, text, host_len) != 0)
        return POSTERN_ERR_INVALID;
    s->target_count++;
    return 0;
}

/* "INSTANCE@" before a target; moves `text` behind it. */
static int parse_instance(struct service *s, const char **text, size_t *len,
                          struct fault *f)
{
    const char *at = memchr(*text, '@', *len);
    struct service_target *t = &s->targets[s->target_count];
    if (at == NULL || **text == '/' || s->target_count == SERVICE_TARGET_MAX)
        return 0; /* too many is parse_target's to say */
    int err = parse_name(t->name, *text, (size_t)(at - *text), f);
    if (err != 0)
        return err;
    for (size_t i = 0; i < s->target_count; i++)
        if (strcmp(s->targets[i].name, t->name) == 0)
            return fault_set(f, POSTERN_ERR_INVALID, "give each its own name",
                             "two instances are called '%s'", t->name);
    *len -= (size_t)(at + 1 - *text);
    *text = at + 1;
    return 0;
}

static int parse_targets(struct service *s, const char *text, struct fault *f)
{
    bool only = strchr(text, ',') == NULL;
    while (true) {
        size_t len = strcspn(text, ",");
        int err = parse_instance(s, &text, &len, f);
        if (err != 0)
            return err;
        err = parse_target(s, text, len, only);
        if (err == POSTERN_ERR_LIMIT)
            return fault_set(f, err, "name fewer", "a service has at most %d targets",
                             SERVICE_TARGET_MAX);
        if (err != 0)
            return fault_set(f, err, SERVICE_FORMS,
                             "'%.*s' is not a port, nor ADDRESS:PORT", (int)len, text);
        if (text[len] == '\0')
            return 0;
        text += len + 1;
    }
}

void service_event(struct event *e, const char *what, const char *service,
                   unsigned port, bool udp)
{
    event_begin(e, what);
    event_text(e, "service", service);
    event_int(e, "port", port);
    event_bool(e, "udp", udp);
}

/*
 * What is addressed by a port, here and there, has one; a file's is made of the
 * service's name, so that it stays.
 */
static int number_file(struct service *s, const char *text, struct fault *f)
{
    uint32_t hash = 2166136261u;
    for (const char *at = s->name; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    for (size_t i = 0; i < s->target_count; i++) {
        if (s->targets[i].host[0] != '/')
            continue;
        if (s->name[0] == '\0')
            return fault_set(f, POSTERN_ERR_INVALID,
                             "write it as docker=/run/docker.sock",
                             "the socket %.80s has no name", text);
        s->targets[i].port = (uint16_t)(SERVICE_FILE_PORT + hash % SERVICE_FILE_PORTS);
    }
    return 0;
}

static int parse_service(struct service *s, const char *text, struct fault *f)
{
    struct service r = {0};
    const char *equals = strchr(text, '=');
    int err = 0;
    if (equals != NULL) {
        err = parse_name(r.name, text, (size_t)(equals - text), f);
        text = equals + 1;
    }
    bool protocol =
        strncasecmp(text, "udp:", 4) == 0 || strncasecmp(text, "tcp:", 4) == 0;
    if (err == 0 && protocol && strspn(text, "udptc") != 3)
        return fault_set(f, POSTERN_ERR_INVALID, SERVICE_FORMS,
                         "'%.80s' has its protocol in capital letters", text);
    if (strncmp(text, "udp:", 4) == 0)
        r.udp = true;
    if (r.udp || strncmp(text, "tcp:", 4) == 0)
        text += 4;
    if (err == 0)
        err = parse_targets(&r, text, f);
    if (err == 0)
        err = number_file(&r, text, f);
    if (err != 0)
        return err;
    r.port = r.targets[0].port;
    if (r.name[0] == '\0')
        (void)snprintf(r.name, sizeof(r.name), "%s%u", r.udp ? "udp:" : "", r.port);
    for (size_t i = 0; i < r.target_count; i++)
        if (strlen(r.name) + 1 + strlen(r.targets[i].name) >= SERVICE_NAME_LEN)
            return fault_set(f, POSTERN_ERR_INVALID,
                             "use at most 62 characters for both together",
                             "the names of service and instance '%s' are too long",
                             r.targets[i].name);
    *s = r;
    return 0;
}

int service_name_check(const char *name, struct fault *f)
{
    char copy[SERVICE_NAME_LEN];
    return parse_name(copy, name, strlen(name), f);
}

/* Text as people write it, without what a terminal or a page obeys. */
static bool is_title(const char *text)
{
    bool good = true;
    for (const char *c = text; good && *c != '\0'; c += good ? utf8_len(c) : 0)
        good = (unsigned char)*c >= ' ' && *c != 127 && utf8_len(c) > 0;
    return good;
}

/* "SERVICE TITLE"; returns the length of SERVICE. */
static int parse_title(char title[static SERVICE_TITLE_LEN], const char *text,
                       struct fault *f)
{
    size_t len = strcspn(text, " ");
    const char *at = text + len + strspn(text + len, " ");
    if (!is_title(at))
        return fault_set(f, POSTERN_ERR_INVALID, "use letters",
                         "the title of '%.*s' has what is no letter", (int)len, text);
    if (strlen(at) >= SERVICE_TITLE_LEN)
        return fault_set(f, POSTERN_ERR_INVALID, "use at most 47 bytes",
                         "the title '%.20s...' is too long", at);
    size_t last = strlen(at);
    while (last > 0 && at[last - 1] == ' ')
        last--;
    (void)snprintf(title, SERVICE_TITLE_LEN, "%.*s", (int)last, at);
    return (int)len;
}

static bool fits(const char *text)
{
    struct service s;
    return service_parse(&s, text, NULL) == 0;
}

/* With what was meant before the forms that there are. `title`: what stands behind. */
static int advise(int err, const char *text, const char *title, struct fault *f)
{
    char guess[SERVICE_GUESS_LEN], forms[sizeof(f->advice)], whole[SERVICE_TEXT_LEN];
    if (f == NULL || err != POSTERN_ERR_INVALID)
        return err;
    (void)snprintf(whole, sizeof(whole), "%.60s:%.5s", text, title); /* "web 8080" */
    bool known =
        (all_digits(title, strlen(title)) && service_guess(guess, whole, fits)) ||
        service_guess(guess, text, fits);
    (void)snprintf(forms, sizeof(forms), "%.239s", f->advice);
    if (known)
        (void)snprintf(f->advice, sizeof(f->advice), "did you mean '%.80s'? %.140s",
                       guess, forms);
    return err;
}

int service_parse(struct service *s, const char *text, struct fault *f)
{
    char title[SERVICE_TITLE_LEN], bare[SERVICE_TEXT_LEN];
    int len = parse_title(title, text, f);
    if (len < 0)
        return len;
    if ((size_t)len >= sizeof(bare))
        return fault_set(f, POSTERN_ERR_INVALID, SERVICE_FORMS,
                         "'%.40s...' is too long for a service", text);
    (void)snprintf(bare, sizeof(bare), "%.*s", len, text);
    int err = parse_service(s, bare, f);
    if (err == 0)
        memcpy(s->title, title, sizeof(title));
    return advise(err, bare, title, f);
}

static int list_add_one(struct service_list *l, const char *text, struct fault *f)
{
    if (l->count == SERVICE_MAX)
        return fault_set(f, POSTERN_ERR_LIMIT, "run a second host for the others",
                         "a host publishes at most %d services", SERVICE_MAX);
    struct service *s = &l->items[l->count];
    int err = service_parse(s, text, f);
    if (err != 0)
        return err;
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].name, s->name) == 0)
            return fault_set(f, POSTERN_ERR_INVALID,
                             "give each its own name, as in web2=...",
                             "two services are called '%s'", s->name);
    l->count++;
    return 0;
}

/*
 * "PREFIX8000-8010" with nothing, '=' or ':' at the end of PREFIX: its ports. Returns
 * the length of PREFIX; -1 when the text has no such end.
 */
static int split_range(const char *text, uint16_t *first, uint16_t *last)
{
    const char *dash = strrchr(text, '-'), *from = dash;
    if (dash == NULL || strpbrk(text, ",/") != NULL)
        return -1;
    while (from > text && isdigit((unsigned char)from[-1]))
        from--;
    if (from > text && from[-1] != '=' && from[-1] != ':')
        return -1;
    if (parse_port(from, (size_t)(dash - from), first) != 0 ||
        parse_port(dash + 1, strlen(dash + 1), last) != 0)
        return -1;
    return (int)(from - text);
}

/* "22", "udp:53" or "8000-8010". */
static bool is_bare(const char *text)
{
    uint16_t first, last;
    if (strncmp(text, "udp:", 4) == 0 || strncmp(text, "tcp:", 4) == 0)
        text += 4;
    return parse_port(text, strlen(text), &first) == 0 ||
           split_range(text, &first, &last) == 0;
}

/* A range of ports is a service each; with a name, NAME-PORT. */
static int list_add_range(struct service_list *l, const char *text, struct fault *f)
{
    uint16_t first, last;
    char one[SERVICE_NAME_LEN + SERVICE_HOST_LEN + SERVICE_TITLE_LEN + 32];
    char range[SERVICE_NAME_LEN + SERVICE_HOST_LEN];
    size_t len = strcspn(text, " ");
    const char *title = text + len; /* all of them have it */
    (void)snprintf(range, sizeof(range), "%.*s", (int)len, text);
    int prefix = split_range(range, &first, &last), err = 0;
    if (prefix < 0)
        return list_add_one(l, text, f);
    if (first > last)
        return fault_set(f, POSTERN_ERR_INVALID, "write the lower port first",
                         "'%.80s' is not a range of ports", text);
    const char *equals = memchr(text, '=', len);
    int name = equals != NULL ? (int)(equals - text) : 0;
    for (unsigned port = first; port <= last && err == 0; port++) {
        int n = name > 0
                    ? snprintf(one, sizeof(one), "%.*s-%u%.*s%u%s", name, text, port,
                               prefix - name, text + name, port, title)
                    : snprintf(one, sizeof(one), "%.*s%u%s", prefix, text, port, title);
        if ((size_t)n >= sizeof(one))
            return fault_set(f, POSTERN_ERR_INVALID, SERVICE_FORMS,
                             "'%.40s...' is too long for a service", text);
        err = list_add_one(l, one, f);
    }
    return err;
}

/*
 * Ports without a name and with commas between them are several services, as lists of
 * services are written elsewhere; with NAME= they are the targets of one.
 */
static int list_add(struct service_list *l, const char *text, struct fault *f)
{
    char bare[SERVICE_TEXT_LEN], one[SERVICE_HOST_LEN + SERVICE_TITLE_LEN];
    size_t len = strcspn(text, " "), ports = 0, parts = 0;
    if (len >= sizeof(bare) || memchr(text, ',', len) == NULL ||
        memchr(text, '=', len) != NULL)
        return list_add_range(l, text, f);
    (void)snprintf(bare, sizeof(bare), "%.*s", (int)len, text);
    for (char *rest = bare, *part; (part = strsep(&rest, ",")) != NULL; parts++)
        ports += is_bare(part);
    if (ports == 0)
        return list_add_range(l, text, f);
    if (ports < parts)
        return fault_set(f, POSTERN_ERR_INVALID,
                         "write one service as NAME=A,B, and several with spaces",
                         "'%.*s' has ports and more without a name",
                         (int)(len < 80 ? len : 80), text);
    int err = 0;
    for (const char *at = text; err == 0 && at < text + len;
         at += strcspn(at, ", ") + 1) {
        int n = snprintf(one, sizeof(one), "%.*s%s", (int)strcspn(at, ", "), at,
                         text + len);
        err = (size_t)n < sizeof(one)
                  ? list_add_range(l, one, f)
                  : fault_set(f, POSTERN_ERR_INVALID, SERVICE_FORMS,
                              "'%.40s...' is too long for a service", text);
    }
    return err;
}

int service_list_add(struct service_list *l, struct service *s, const void *owner)
{
    char base[SERVICE_NAME_LEN - 8];
    if (l->items == NULL) {
        l->items = calloc(SERVICE_MAX, sizeof(*l->items));
        if (l->items == NULL)
            return POSTERN_ERR_NOMEM;
    }
    if (l->count == SERVICE_MAX)
        return POSTERN_ERR_LIMIT;
    (void)snprintf(base, sizeof(base), "%.55s", s->name);
    for (unsigned n = 2; n < 2 + SERVICE_MAX; n++) {
        bool taken = false;
        for (size_t i = 0; i < l->count; i++)
            taken = taken || strcmp(l->items[i].name, s->name) == 0;
        if (!taken)
            break;
        (void)snprintf(s->name, sizeof(s->name), "%s-%u", base, n);
    }
    s->owner = owner;
    l->items[l->count++] = *s;
    return 0;
}

size_t service_list_own(const struct service_list *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++)
        n += l->items[i].owner == NULL;
    return n;
}

bool service_list_has(const struct service_list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->items[i].name, name) == 0)
            return true;
    return false;
}

/* As SERVICE on a command line, but for where it leads. */
void service_list_event(struct event *e, const struct service_list *l, const char *host,
                        const char *note)
{
    event_begin(e, "publishes");
    event_text(e, "host", host);
    json_array_begin(&e->json, "services");
    for (size_t i = 0; i < l->count && e->json.used < EVENT_TEXT_LEN - 200; i++) {
        const struct service *s = &l->items[i];
        char port[16], text[SERVICE_NAME_LEN + sizeof(port) + 1];
        (void)snprintf(port, sizeof(port), "%s%u", s->udp ? "udp:" : "", s->port);
        bool plain = s->owner != NULL || strcmp(s->name, port) == 0 ||
                     s->targets[0].host[0] == '/'; /* its port is only a number */
        (void)snprintf(text, sizeof(text), "%s%s%s", s->name, plain ? "" : "=",
                       plain ? "" : port);
        json_text(&e->json, NULL, text);
    }
    json_array_end(&e->json);
    if (note != NULL)
        event_text(e, "note", note);
}

bool service_list_drop(struct service_list *l, const void *owner)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++)
        if (l->items[i].owner != owner)
            l->items[kept++] = l->items[i];
    bool dropped = kept < l->count;
    l->count = kept;
    return dropped;
}

/* A service's name as service_parse makes it. */
static bool good_name(const char *name, bool udp)
{
    char copy[SERVICE_NAME_LEN];
    uint16_t port;
    if (udp && strncasecmp(name, "udp:", 4) == 0)
        return parse_port(name + 4, strlen(name + 4), &port) == 0;
    size_t len = strlen(name);
    return parse_port(name, len, &port) == 0 || parse_name(copy, name, len, NULL) == 0;
}

static struct service_target *find_offer(const struct service_list *l, uint64_t by,
                                         const char *name, size_t *at)
{
    for (size_t i = 0; i < l->count; i++)
        for (size_t k = 0; k < l->items[i].target_count; k++) {
            struct service_target *t = &l->items[i].targets[k];
            if (t->by != by || (name != NULL && strcasecmp(t->host, name) != 0))
                continue;
            *at = i;
            return t;
        }
    return NULL;
}

bool service_list_retitle(struct service_list *l, uint64_t by, const char *name,
                          const char *title)
{
    size_t at;
    const struct service_target *t = find_offer(l, by, name, &at);
    struct service *s = t != NULL ? &l->items[at] : NULL;
    if (s == NULL || t != &s->targets[0] || strlen(title) >= sizeof(s->title) ||
        !is_title(title) || strcmp(s->title, title) == 0)
        return false;
    (void)snprintf(s->title, sizeof(s->title), "%s", title);
    return true;
}

int service_list_offer(struct service_list *l, const struct service_offer *o,
                       const void *owner, uint64_t by)
{
    size_t at;
    struct service fresh = {.port = o->port, .udp = o->udp, .target_count = 1};
    struct service_target *t = &fresh.targets[0];
    if (o->port == 0 || !good_name(o->name, o->udp) ||
        strlen(o->name) + strlen(o->instance) + sizeof("/-64") > SERVICE_NAME_LEN ||
        parse_name(t->name, o->instance, strlen(o->instance), NULL) != 0 ||
        find_offer(l, by, o->name, &at) != NULL)
        return POSTERN_ERR_INVALID;
    (void)snprintf(t->host, sizeof(t->host), "%s", o->name);
    t->port = o->port;
    t->by = by;
    for (size_t i = 0; i < l->count; i++) {
        struct service *s = &l->items[i];
        if (s->owner != owner || s->udp != o->udp ||
            s->target_count == SERVICE_TARGET_MAX ||
            strcasecmp(s->targets[0].host, o->name) != 0)
            continue;
        s->targets[s->target_count++] = *t;
        return 0;
    }
    if (is_title(o->title))
        (void)snprintf(fresh.title, sizeof(fresh.title), "%s", o->title);
    for (size_t i = 0; o->name[i] != '\0'; i++)
        fresh.name[i] = (char)tolower((unsigned char)o->name[i]);
    return service_list_add(l, &fresh, owner);
}

bool service_list_withdraw(struct service_list *l, uint64_t by, const char *name)
{
    struct service_target *t;
    size_t at;
    bool any = false;
    while ((t = find_offer(l, by, name, &at)) != NULL) {
        struct service *s = &l->items[at];
        any = true;
        memmove(t, t + 1,
                (size_t)(&s->targets[s->target_count] - (t + 1)) * sizeof(*t));
        if (--s->target_count > 0)
            s->port = s->targets[0].port;
        else
            memmove(s, s + 1, (--l->count - at) * sizeof(*s));
    }
    return any;
}

bool service_list_called(const struct service_list *l, uint64_t by, const char *name,
                         char out[static SERVICE_NAME_LEN])
{
    size_t at;
    const struct service_target *t = find_offer(l, by, name, &at);
    if (t == NULL)
        return false;
    int n = snprintf(out, SERVICE_NAME_LEN, "%s/%s", l->items[at].name, t->name);
    return n > 0 && n < SERVICE_NAME_LEN;
}

void service_list_carry(struct service_list *to, const struct service_list *from)
{
    for (size_t i = 0; i < from->count; i++) {
        struct service s = from->items[i];
        if (s.owner != NULL && service_list_add(to, &s, s.owner) != 0)
            return;
    }
}

int service_list_parse(struct service_list *l, const char *const *texts, size_t n,
                       struct fault *f)
{
    *l = (struct service_list){0};
    l->items = calloc(SERVICE_MAX, sizeof(*l->items));
    if (l->items == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    for (size_t i = 0; i < n; i++) {
        int err = list_add(l, texts[i], f);
        if (err != 0) {
            service_list_fini(l);
            return err;
        }
    }
    return 0;
}

int service_list_parse_lines(struct service_list *l, const char *lines, struct fault *f)
{
    const char *texts[SERVICE_MAX + 1];
    size_t n = 0;
    char *copy = strdup(lines), *rest = copy, *line;
    *l = (struct service_list){0};
    if (copy == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    while ((line = strsep(&rest, "\n")) != NULL)
        if (line[0] != '\0' && n <= SERVICE_MAX)
            texts[n++] = line;
    int err = service_list_parse(l, texts, n, f);
    free(copy);
    return err;
}

void service_list_fini(struct service_list *l)
{
    free(l->items);
    *l = (struct service_list){0};
}

static const struct service *find_port(const struct service_list *l, uint16_t port,
                                       bool udp)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->items[i].port == port && l->items[i].udp == udp)
            return &l->items[i];
    return NULL;
}

/* By name or port. */
static const struct service *find_whole(const struct service_list *l, const char *name)
{
    uint16_t port;
    for (size_t i = 0; i < l->count; i++)
        if (strcasecmp(l->items[i].name, name) == 0)
            return &l->items[i];
    bool udp = strncasecmp(name, "udp:", 4) == 0;
    bool tcp = strncasecmp(name, "tcp:", 4) == 0;
    const char *digits = udp || tcp ? name + 4 : name;
    if (parse_port(digits, strlen(digits), &port) != 0)
        return NULL;
    const struct service *s = udp ? NULL : find_port(l, port, false);
    return s != NULL || tcp ? s : find_port(l, port, true);
}

/* `instance`: what stands behind the slash. */
static bool is_instance(const struct service_target *t, const char *instance,
                        size_t len)
{
    return len > 0 && strlen(t->name) == len &&
           strncasecmp(t->name, instance, len) == 0;
}

const struct service *service_find(const struct service_list *l, const char *name)
{
    char whole[SERVICE_NAME_LEN];
    const char *slash = strchr(name, '/');
    if (slash == NULL)
        return find_whole(l, name);
    if ((size_t)(slash - name) >= sizeof(whole))
        return NULL;
    (void)snprintf(whole, sizeof(whole), "%.*s", (int)(slash - name), name);
    const struct service *s = find_whole(l, whole);
    for (size_t i = 0; s != NULL && i < s->target_count; i++)
        if (is_instance(&s->targets[i], slash + 1, strlen(slash + 1)))
            return s;
    return NULL;
}

int service_unknown(const struct service_list *l, const char *name, struct fault *f)
{
    struct guess g;
    char advice[160];
    guess_begin(&g, name);
    for (size_t i = 0; i < l->count; i++)
        guess_offer(&g, l->items[i].name);
    guess_advice(&g, advice, sizeof(advice),
                 "use a name or port that 'postern serve' was given");
    return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                     "this host publishes no service '%.63s'", name);
}

bool service_is_of_program(const char *name)
{
    return strcmp(name, "receive") == 0 || strcmp(name, "share") == 0;
}

int service_choose(const struct service_list *published, const char *list, char *out,
                   size_t cap, struct fault *f)
{
    size_t used = 0;
    out[0] = '\0';
    while (list != NULL && *list != '\0') {
        char name[SERVICE_NAME_LEN];
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,");
        if (len == 0)
            break;
        (void)snprintf(name, sizeof(name), "%.*s", (int)len, list);
        const struct service *s =
            len < sizeof(name) ? service_find(published, name) : NULL;
        if (s == NULL && !service_is_of_program(name))
            return service_unknown(published, name, f);
        const char *called = s != NULL ? s->name : name;
        const char *instance = name + strcspn(name, "/"); /* with its slash */
        if (used + strlen(called) + strlen(instance) + 2 > cap)
            return fault_set(f, POSTERN_ERR_LIMIT, "name fewer",
                             "the list of services is too long");
        used += (size_t)snprintf(out + used, cap - used, "%s%s%s", used > 0 ? "," : "",
                                 called, instance);
        list += len;
    }
    return 0;
}

static bool names_service(const char *item, size_t len, const struct service *s)
{
    char port[16];
    if (len == strlen(s->name) && strncasecmp(item, s->name, len) == 0)
        return true;
    (void)snprintf(port, sizeof(port), "%s%u", s->udp ? "udp:" : "", s->port);
    if (len == strlen(port) && strncasecmp(item, port, len) == 0)
        return true;
    return s->udp && len == strlen(port + 4) && strncmp(item, port + 4, len) == 0;
}

/* Whether the list lets this target of the service be used. */
static bool target_allowed(const char *allowed, const struct service *s,
                           const struct service_target *t)
{
    if (allowed[0] == '\0')
        return true;
    while (true) {
        size_t len = strcspn(allowed, ","), name = strcspn(allowed, "/,");
        if (names_service(allowed, name, s) &&
            (name == len || is_instance(t, allowed + name + 1, len - name - 1)))
            return true;
        if (allowed[len] == '\0')
            return false;
        allowed += len + 1;
    }
}

bool service_allowed(const char *allowed, const struct service *s)
{
    for (size_t i = 0; i < s->target_count; i++)
        if (target_allowed(allowed, s, &s->targets[i]))
            return true;
    return false;
}

bool service_is_for(const struct service *s, const char *who, const char *allowed)
{
    const char *list = s->audience;
    if (list[0] == '\0')
        return service_allowed(allowed, s);
    while (*list != '\0') {
        list += strspn(list, " ,");
        size_t len = strcspn(list, " ,");
        if (len > 0 && len == strlen(who) && strncasecmp(list, who, len) == 0)
            return true;
        list += len;
    }
    return false;
}

bool service_narrow(struct service *s, const char *name, const char *allowed)
{
    const char *slash = strchr(name, '/');
    uint8_t kept = 0;
    for (size_t i = 0; i < s->target_count; i++) {
        struct service_target *t = &s->targets[i];
        bool wanted = slash == NULL || is_instance(t, slash + 1, strlen(slash + 1));
        if (!wanted || !target_allowed(allowed, s, t))
            continue;
        if (kept != i)
            s->targets[kept] = *t;
        kept++;
    }
    s->target_count = kept;
    return kept > 0;
}

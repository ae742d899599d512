/*
 * The ways to make names known, and which is taken. What is done is done again when it
 * was undone by others, and said once when it fails.
 */
#include "client/naming.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/naming_resolved.h"
#include "io/hosts_file.h"
#include "io/lack.h"
#include "io/log.h"

enum { BLOCKS_MAX = 64 }; /* looked at */

struct naming {
    enum naming_way way;
    bool chosen;  /* the way was asked for by name */
    bool foreign; /* /etc/hosts is another network's */
    bool active;
    bool told;            /* that it works */
    bool failed;          /* the last time it was tried, which was said */
    struct fault without; /* why it does nothing from the start; code 0: it does */
    char owner[STATEDIR_PATH_LEN];
    struct events *out;
    struct naming_resolved *resolved;
    struct hosts_name *list;
    size_t count;
    struct stat written; /* the file as we left it */
};

int naming_way_parse(enum naming_way *way, const char *text, struct fault *f)
{
    static const char *const words[] = {[NAMING_OFF] = "off",
                                        [NAMING_AUTO] = "auto",
                                        [NAMING_HOSTS] = "hosts",
                                        [NAMING_RESOLVED] = "resolved"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i], text) == 0) {
            *way = (enum naming_way)i;
            return 0;
        }
    return fault_set(f, POSTERN_ERR_USAGE, "use auto, hosts, resolved or off",
                     "'%.60s' is no way to make names known", text);
}

int naming_new(struct naming **out, enum naming_way way)
{
    struct naming *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return POSTERN_ERR_NOMEM;
    n->way = way;
    n->chosen = way != NAMING_AUTO;
    n->foreign = !hosts_file_is_of_this_network(HOSTS_FILE);
    *out = n;
    return 0;
}

static void tell(const struct naming *n, const char *by, const struct fault *why)
{
    struct event e;
    event_begin(&e, "names");
    event_text(&e, "by", by);
    if (why != NULL) {
        event_text(&e, "reason", why->what);
        event_text(&e, "do", why->advice);
    }
    events_print(n->out, &e);
}

static void tell_failed(struct naming *n, const struct fault *why)
{
    if (!n->failed)
        tell(n, NULL, why);
    n->failed = true;
}

static int write_hosts(struct naming *n, struct fault *f)
{
    int rc = hosts_file_set(HOSTS_FILE, n->owner, n->list, n->count, f);
    if (stat(HOSTS_FILE, &n->written) != 0)
        n->written = (struct stat){0};
    if (rc == 0)
        n->failed = false;
    return rc;
}

/* Why names cannot be made known here; 0: they can. */
static int check_way(const struct naming *n, struct fault *f)
{
    if (n->foreign)
        return fault_set(f, POSTERN_ERR_INVALID,
                         "give it a " HOSTS_FILE " of its own, or start it in the "
                         "network that the file is for",
                         "this " HOSTS_FILE " is also that of another network");
    if (geteuid() == 0)
        return 0;
    char advice[sizeof(f->advice)];
    (void)snprintf(advice, sizeof(advice),
                   "for every program: sudo postern up --state %.90s; without: postern "
                   "ssh HOST, postern open HOST; for plain ssh, once: postern nc "
                   "--ssh-config --install",
                   n->owner);
    return fault_set(f, POSTERN_ERR_PERM, advice,
                     "only root may make names known to the machine");
}

static void on_resolved(void *ctx, const struct fault *why)
{
    struct naming *n = ctx;
    if (why == NULL)
        tell(n, "systemd-resolved", NULL);
    else
        tell_failed(n, why);
}

static int start_resolved(struct naming *n, const struct naming_config *c,
                          struct fault *f)
{
    struct naming_resolved_config rc = {
        .loop = c->loop, .dns = c->dns, .on_done = on_resolved, .ctx = n};
    if (c->dns.family == ADDR_NONE)
        return fault_set(f, POSTERN_ERR_INUSE, "end what listens there",
                         "there is no DNS server of ours to ask");
    return naming_resolved_open(&n->resolved, &rc, f);
}

int naming_start(struct naming *n, const struct naming_config *c, struct fault *f)
{
    struct fault why = {0};
    n->out = c->out;
    memcpy(n->owner, c->state->path, sizeof(n->owner));
    int rc = check_way(n, &why);
    bool hosts = n->way == NAMING_HOSTS || n->way == NAMING_AUTO;
    if (rc == 0 && write_hosts(n, &why) != 0) { /* what a killed one left goes */
        if (hosts)
            rc = why.code;
        else
            log_fault(LOG_LEVEL_WARN, &why);
    }
    if (n->way == NAMING_OFF)
        return 0;
    if (n->way == NAMING_RESOLVED)
        return start_resolved(n, c, f);
    n->active = rc == 0;
    if (rc != 0 && n->chosen)
        *f = why;
    else if (rc != 0)
        n->without = why;
    return n->chosen ? rc : 0;
}

void naming_tell(struct naming *n)
{
    if (n->without.code != 0)
        tell_failed(n, &n->without);
}

static void apply(struct naming *n)
{
    struct fault why = {0};
    if (!n->active)
        return;
    if (write_hosts(n, &why) != 0) {
        tell_failed(n, &why);
    } else if (!n->told) {
        tell(n, HOSTS_FILE, NULL);
        n->told = true;
    }
}

void naming_set(struct naming *n, const struct hosts_name *list, size_t count)
{
    struct hosts_name *copy = calloc(count + 1, sizeof(*copy));
    if (copy == NULL)
        return;
    memcpy(copy, list, count * sizeof(*copy));
    free(n->list);
    n->list = copy;
    n->count = count;
    apply(n);
}

void naming_tick(struct naming *n)
{
    struct stat now;
    if (!n->active || stat(HOSTS_FILE, &now) != 0)
        return;
    const struct stat *was = &n->written;
    if (now.st_ino != was->st_ino || now.st_dev != was->st_dev ||
        now.st_size != was->st_size || now.st_mtim.tv_sec != was->st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != was->st_mtim.tv_nsec)
        apply(n);
}

void naming_free(struct naming *n)
{
    struct fault f;
    if (n == NULL)
        return;
    n->count = 0;
    if (n->active && write_hosts(n, &f) != 0)
        log_fault(LOG_LEVEL_WARN, &f);
    naming_resolved_close(n->resolved);
    free(n->list);
    free(n);
}

/* Whether that can be seen at all: another user's directory is closed. */
static bool is_closed(const struct statedir *of)
{
    char path[sizeof(of->path) + 8];
    (void)snprintf(path, sizeof(path), "%s/up.lock", of->path);
    return access(path, R_OK) != 0 && errno == EACCES;
}

bool naming_left(char owner[static STATEDIR_PATH_LEN])
{
    struct statedir of = {.has_owner = false};
    struct statedir_holder h;
    struct fault f;
    for (size_t i = 0; i < BLOCKS_MAX; i++) {
        if (hosts_file_owner(HOSTS_FILE, i, of.path, sizeof(of.path), &f) != 0)
            return false;
        if (statedir_held(&of, "up", &h) || is_closed(&of))
            continue;
        memcpy(owner, of.path, sizeof(of.path));
        return true;
    }
    return false;
}

/* What others left, one block after the other; one that runs has its names by right. */
static int clean_left(struct fault *f)
{
    struct statedir of = {.has_owner = false};
    struct statedir_holder h;
    size_t kept = 0;
    int rc = 0;
    for (int i = 0; rc == 0 && i < BLOCKS_MAX; i++) {
        rc = hosts_file_owner(HOSTS_FILE, kept, of.path, sizeof(of.path), f);
        if (rc == 0 && statedir_held(&of, "up", &h)) {
            kept++;
        } else if (rc == 0 &&
                   (rc = hosts_file_set(HOSTS_FILE, of.path, NULL, 0, f)) == 0) {
            log_warn("the names of a 'postern up' with %.200s, which does not run any "
                     "more, were taken out of " HOSTS_FILE,
                     of.path);
        }
    }
    return rc == POSTERN_ERR_NOTFOUND ? 0 : rc;
}

int naming_clean(const struct statedir *state, bool all, struct fault *f)
{
    if (!hosts_file_is_of_this_network(HOSTS_FILE))
        return fault_set(f, POSTERN_ERR_INVALID,
                         "run it in the network that the file is for",
                         "this " HOSTS_FILE " is also that of another network");
    int rc = hosts_file_set(HOSTS_FILE, state->path, NULL, 0, f);
    if (rc == POSTERN_ERR_PERM && geteuid() != 0) {
        char advice[sizeof(f->advice)];
        (void)snprintf(advice, sizeof(advice),
                       "run 'sudo postern up --clean-names --state %.150s'",
                       state->path);
        return fault_set(f, rc, advice, "only root may change " HOSTS_FILE);
    }
    return rc == 0 && all ? clean_left(f) : rc;
}

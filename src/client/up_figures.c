/* See up_figures.h. */
#include "client/up_figures.h"

#include "client/client.h"
#include "path/path.h"
#include "path/uplink.h"

void up_figures_note_path(struct up_figures *n, enum path_kind kind,
                          uint64_t elapsed_us)
{
    if (kind >= PATH_KIND_COUNT)
        return;
    n->chosen[kind]++;
    histogram_note(path_kind_is_direct(kind) ? &n->direct : &n->relayed, elapsed_us);
}

struct census {
    unsigned kinds[PATH_KIND_COUNT], none, brokers, brokers_up;
    const char *why;
};

static void count_peer(void *ctx, struct peer *p)
{
    struct census *n = ctx;
    const struct path *path = peer_is_ready(p) ? peer_path(p) : NULL;
    if (path != NULL && path->kind < PATH_KIND_COUNT)
        n->kinds[path->kind]++;
    else
        n->none++;
}

static void count_broker(void *ctx, const struct uplink *u)
{
    struct census *n = ctx;
    const struct fault *why = uplink_fault(u, NULL);
    n->brokers++;
    n->brokers_up += uplink_is_up(u);
    if (!uplink_is_up(u) && n->why == NULL)
        n->why = why != NULL ? why->what : "not at its broker yet";
}

const char *up_why_not_ready(struct client *c)
{
    struct census n = {0};
    client_each_broker(c, count_broker, &n);
    return n.why;
}

void up_figures_write(const struct up_figures *f, struct client *c, struct metrics *m)
{
    struct census n = {0};
    client_each(c, count_peer, &n);
    client_each_broker(c, count_broker, &n);
    metrics_one(m, "postern_up_brokers", METRIC_GAUGE, "Brokers that are used.",
                n.brokers);
    metrics_one(m, "postern_up_brokers_up", METRIC_GAUGE, "Of these, that are there.",
                n.brokers_up);
    metrics_family(
        m, "postern_up_sessions", METRIC_GAUGE,
        "Hosts joined, by the kind of path in use; none: no session stands.");
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        metrics_label(m, "kind", path_kind_name((enum path_kind)k));
        metrics_count(m, n.kinds[k]);
    }
    metrics_label(m, "kind", "none");
    metrics_count(m, n.none);
    metrics_family(m, "postern_up_paths_total", METRIC_COUNTER,
                   "Paths that came into use, by kind.");
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        metrics_label(m, "kind", path_kind_name((enum path_kind)k));
        metrics_count(m, f->chosen[k]);
    }
    metrics_one(m, "postern_up_faults_total", METRIC_COUNTER,
                "Times that a host or broker could not be reached.", (double)f->faults);
    metrics_one(m, "postern_up_calls_total", METRIC_COUNTER,
                "Connections that commands handed to it.", (double)f->calls);
    metrics_family(m, "postern_up_path_setup_seconds", METRIC_HISTOGRAM,
                   "From the beginning of a try until a path was in use.");
    metrics_label(m, "way", "direct");
    metrics_histogram(m, &f->direct);
    metrics_label(m, "way", "relay");
    metrics_histogram(m, &f->relayed);
}

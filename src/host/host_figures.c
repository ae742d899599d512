/* See host_figures.h. */
#include "host/host_figures.h"

#include "host/clients.h"
#include "host/host.h"
#include "host/presence.h"
#include "host/service_streams.h"
#include "path/uplink.h"

static const char *const refusals[REFUSE_ENDED + 1] = {
    [REFUSE_DENIED] = "denied",
    [REFUSE_EXPIRED] = "expired",
    [REFUSE_LIMIT] = "limit",
    [REFUSE_REVOKED] = "revoked",
};

static void write_broker(const struct host *h, struct metrics *m)
{
    unsigned up = 0, rtt_us = 0;
    for (struct presence *p = presences_next(h->presences, NULL); p != NULL;
         p = presences_next(h->presences, p)) {
        if (p->retired)
            continue;
        up += uplink_is_up(p->endpoint.uplink);
        rtt_us = uplink_rtt_us(p->endpoint.uplink);
    }
    metrics_one(m, "postern_host_broker_up", METRIC_GAUGE,
                "1 while this host is present at its broker.", up > 0);
    metrics_one(m, "postern_host_broker_rtt_seconds", METRIC_GAUGE,
                "Round trip to the broker, smoothed; 0: not known.", rtt_us / 1e6);
}

void host_figures_write(const struct host *h, struct metrics *m)
{
    const struct host_figures *n = &h->figures;
    unsigned now[PATH_KIND_COUNT + 1];
    write_broker(h, m);
    metrics_one(m, "postern_host_services", METRIC_GAUGE, "Services published now.",
                (double)h->services.count);
    metrics_one(m, "postern_host_streams", METRIC_GAUGE, "Connections to services now.",
                (double)service_streams_count(h->streams));
    clients_by_kind(h->clients, now);
    metrics_family(m, "postern_host_sessions", METRIC_GAUGE,
                   "Sessions now, by the kind of path in use.");
    for (unsigned k = 0; k <= PATH_KIND_COUNT; k++) {
        metrics_label(m, "kind",
                      k < PATH_KIND_COUNT ? path_kind_name((enum path_kind)k) : "none");
        metrics_count(m, now[k]);
    }
    metrics_family(m, "postern_host_sessions_ended_total", METRIC_COUNTER,
                   "Sessions that ended, by the kind of their last path; none: no "
                   "session came of the introduction.");
    for (unsigned k = 0; k <= PATH_KIND_COUNT; k++) {
        metrics_label(m, "kind",
                      k < PATH_KIND_COUNT ? path_kind_name((enum path_kind)k) : "none");
        metrics_count(m, n->ended[k]);
    }
    metrics_family(m, "postern_host_introductions_total", METRIC_COUNTER,
                   "Introductions of devices, by what became of them.");
    metrics_label(m, "outcome", "came");
    metrics_count(m, n->introductions);
    metrics_label(m, "outcome", "opened");
    metrics_count(m, n->opened);
    for (unsigned i = 0; i <= REFUSE_ENDED; i++)
        if (refusals[i] != NULL) {
            metrics_label(m, "outcome", refusals[i]);
            metrics_count(m, n->refused[i]);
        }
    metrics_family(m, "postern_host_session_setup_seconds", METRIC_HISTOGRAM,
                   "From a device's introduction to the open session.");
    metrics_histogram(m, &n->opening);
}

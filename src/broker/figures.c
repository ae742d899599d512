/* See figures.h. */
#include "broker/figures.h"

#include <stddef.h>

#include "core/proto.h"

_Static_assert(REFUSE_ENDED == FIGURE_BYES - FIGURE_REFUSED, "a figure for each code");
_Static_assert(BYE_PROTOCOL == FIGURE_HITS - FIGURE_BYES, "a figure for each code");

/* In the order of the page: rows of one family stand together. */
static const struct row {
    const char *family; /* NULL: as the row before */
    const char *help;
    const char *label, *value; /* or NULL */
    enum metric_type type;
    int figure;
} rows[] = {
    {"postern_broker_connections", "Connections of devices now, by what they are.",
     "state", "handshake", METRIC_GAUGE, FIGURE_HANDSHAKING},
    {NULL, NULL, "state", "client", METRIC_GAUGE, FIGURE_CLIENTS},
    {NULL, NULL, "state", "host", METRIC_GAUGE, FIGURE_HOSTS},
    {"postern_broker_queue_length", "What waits now, by where.", "queue", "visitors",
     METRIC_GAUGE, FIGURE_VISITORS},
    {NULL, NULL, "queue", "line", METRIC_GAUGE, FIGURE_IN_LINE},
    {NULL, NULL, "queue", "tickets", METRIC_GAUGE, FIGURE_PAIRS_WAITING},
    {"postern_broker_relay_pairs",
     "Sessions that have a relay pair now, in use or not.", NULL, NULL, METRIC_GAUGE,
     FIGURE_PAIRS_JOINED},
    {"postern_broker_relay_pairs_moving",
     "Of these, that moved something in the last 10 seconds.", NULL, NULL, METRIC_GAUGE,
     FIGURE_PAIRS_MOVING},
    {"postern_broker_accepted_connections_total", "TCP connections that came in.", NULL,
     NULL, METRIC_COUNTER, FIGURE_ACCEPTED_CONNECTIONS},
    {"postern_broker_odd_connections_total", "Of these, what was no device, by how.",
     "how", "silent", METRIC_COUNTER, FIGURE_SILENT},
    {NULL, NULL, "how", "garbage", METRIC_COUNTER, FIGURE_GARBAGE},
    {"postern_broker_tls_handshakes_total", "TLS handshakes that proved a key.", NULL,
     NULL, METRIC_COUNTER, FIGURE_HANDSHAKES},
    {"postern_broker_hellos_total", "Devices that were welcomed.", NULL, NULL,
     METRIC_COUNTER, FIGURE_HELLOS},
    {"postern_broker_messages_total", "Messages between devices, by their fate.",
     "fate", "routed", METRIC_COUNTER, FIGURE_ROUTED},
    {NULL, NULL, "fate", "dropped", METRIC_COUNTER, FIGURE_DROPPED},
    {"postern_broker_introductions_total",
     "Introductions: handed to the host, and accepted by it, with and without a relay "
     "pair.",
     "outcome", "introduced", METRIC_COUNTER, FIGURE_INTRODUCED},
    {NULL, NULL, "outcome", "accepted_relay", METRIC_COUNTER, FIGURE_ACCEPTED_RELAY},
    {NULL, NULL, "outcome", "accepted_direct", METRIC_COUNTER, FIGURE_ACCEPTED_DIRECT},
    {"postern_broker_refusals_total", "What devices were told of others, by reason.",
     "reason", "offline", METRIC_COUNTER, FIGURE_REFUSED + REFUSE_OFFLINE - 1},
    {NULL, NULL, "reason", "denied", METRIC_COUNTER,
     FIGURE_REFUSED + REFUSE_DENIED - 1},
    {NULL, NULL, "reason", "expired", METRIC_COUNTER,
     FIGURE_REFUSED + REFUSE_EXPIRED - 1},
    {NULL, NULL, "reason", "limit", METRIC_COUNTER, FIGURE_REFUSED + REFUSE_LIMIT - 1},
    {NULL, NULL, "reason", "revoked", METRIC_COUNTER,
     FIGURE_REFUSED + REFUSE_REVOKED - 1},
    {NULL, NULL, "reason", "reset", METRIC_COUNTER, FIGURE_REFUSED + REFUSE_RESET - 1},
    {NULL, NULL, "reason", "gone", METRIC_COUNTER, FIGURE_REFUSED + REFUSE_GONE - 1},
    {NULL, NULL, "reason", "back", METRIC_COUNTER, FIGURE_REFUSED + REFUSE_BACK - 1},
    {NULL, NULL, "reason", "silent", METRIC_COUNTER,
     FIGURE_REFUSED + REFUSE_SILENT - 1},
    {NULL, NULL, "reason", "broken", METRIC_COUNTER,
     FIGURE_REFUSED + REFUSE_BROKEN - 1},
    {NULL, NULL, "reason", "ended", METRIC_COUNTER, FIGURE_REFUSED + REFUSE_ENDED - 1},
    {"postern_broker_byes_total", "Connections that the broker ended, by reason.",
     "reason", "version", METRIC_COUNTER, FIGURE_BYES + BYE_VERSION - 1},
    {NULL, NULL, "reason", "token", METRIC_COUNTER, FIGURE_BYES + BYE_TOKEN - 1},
    {NULL, NULL, "reason", "busy", METRIC_COUNTER, FIGURE_BYES + BYE_BUSY - 1},
    {NULL, NULL, "reason", "replaced", METRIC_COUNTER, FIGURE_BYES + BYE_REPLACED - 1},
    {NULL, NULL, "reason", "shutdown", METRIC_COUNTER, FIGURE_BYES + BYE_SHUTDOWN - 1},
    {NULL, NULL, "reason", "protocol", METRIC_COUNTER, FIGURE_BYES + BYE_PROTOCOL - 1},
    {"postern_broker_limit_hits_total", "How often a bound was run into, by which.",
     "limit", "connections", METRIC_COUNTER, FIGURE_HITS + HIT_CONNECTIONS},
    {NULL, NULL, "limit", "handshakes", METRIC_COUNTER, FIGURE_HITS + HIT_HANDSHAKES},
    {NULL, NULL, "limit", "address", METRIC_COUNTER, FIGURE_HITS + HIT_ADDRESS},
    {NULL, NULL, "limit", "messages", METRIC_COUNTER, FIGURE_HITS + HIT_MESSAGES},
    {NULL, NULL, "limit", "carry", METRIC_COUNTER, FIGURE_HITS + HIT_CARRY},
    {NULL, NULL, "limit", "introductions", METRIC_COUNTER,
     FIGURE_HITS + HIT_INTRODUCTIONS},
    {NULL, NULL, "limit", "host", METRIC_COUNTER, FIGURE_HITS + HIT_HOST},
    {NULL, NULL, "limit", "said", METRIC_COUNTER, FIGURE_HITS + HIT_SAID},
    {NULL, NULL, "limit", "queue", METRIC_COUNTER, FIGURE_HITS + HIT_QUEUE},
    {NULL, NULL, "limit", "relays", METRIC_COUNTER, FIGURE_HITS + HIT_RELAYS},
    {NULL, NULL, "limit", "stun", METRIC_COUNTER, FIGURE_HITS + HIT_STUN},
    {NULL, NULL, "limit", "draining", METRIC_COUNTER, FIGURE_HITS + HIT_DRAINING},
    {"postern_broker_relay_pairs_total", "Relayed sessions that began.", NULL, NULL,
     METRIC_COUNTER, FIGURE_PAIRS},
    {"postern_broker_relay_bytes_total",
     "Bytes relayed, by the way through the kernel.", "way", "spliced", METRIC_COUNTER,
     FIGURE_BYTES_SPLICED},
    {NULL, NULL, "way", "copied", METRIC_COUNTER, FIGURE_BYTES_COPIED},
    {"postern_broker_relay_tickets_total", "Tickets that came to nothing, by how.",
     "fate", "expired", METRIC_COUNTER, FIGURE_TICKETS_EXPIRED},
    {NULL, NULL, "fate", "unknown", METRIC_COUNTER, FIGURE_TICKETS_UNKNOWN},
    {"postern_broker_stun_total", "STUN requests, by their fate.", "fate", "answered",
     METRIC_COUNTER, FIGURE_STUN_ANSWERED},
    {NULL, NULL, "fate", "ignored", METRIC_COUNTER, FIGURE_STUN_IGNORED},
};

static const struct {
    const char *family, *help;
} times[TIME_COUNT] = {
    [TIME_HANDSHAKE] = {"postern_broker_tls_handshake_seconds",
                        "From the connection to the proven key."},
    [TIME_INTRODUCTION] = {"postern_broker_introduction_seconds",
                           "From a client's introduction to its host's acceptance."},
    [TIME_PAIR] = {"postern_broker_relay_setup_seconds",
                   "From the acceptance until both sides of the relay are there."},
};

enum { WORDS = sizeof(struct figures) / sizeof(uint64_t) };
_Static_assert(sizeof(struct figures) % sizeof(uint64_t) == 0, "words only");

void figures_show(struct figures *shown, const struct figures *now)
{
    uint64_t *to = (uint64_t *)shown;
    const uint64_t *from = (const uint64_t *)now;
    for (size_t i = 0; i < WORDS; i++)
        __atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
}

void figures_add(struct figures *sum, const struct figures *shown)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)shown;
    for (size_t i = 0; i < WORDS; i++)
        to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

void figures_write(const struct figures *sum, struct metrics *m)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        if (r->family != NULL)
            metrics_family(m, r->family, r->type, r->help);
        if (r->label != NULL)
            metrics_label(m, r->label, r->value);
        metrics_count(m, sum->values[r->figure]);
    }
    for (int i = 0; i < TIME_COUNT; i++) {
        metrics_family(m, times[i].family, METRIC_HISTOGRAM, times[i].help);
        metrics_histogram(m, &sum->times[i]);
    }
}

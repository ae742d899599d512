/* One row for each error that somebody waits out, or that ends a wait. */
#include "core/patience.h"

#include <stddef.h>

#include "core/err.h"

enum {
    OFFLINE_MS = 4500,
    BROKER_MS = 10000, /* for a broker that is restarted, its machine perhaps */
    CROWD_MS = 120000, /* of a host's: each gets its turn */
};

/*
 * A host that has just lost its broker is back in seconds, and so is a broker that was
 * restarted; what is too much at once goes through one after the other. Whoever is not
 * here passes by itself, and nothing that has an end waits for it.
 */
static const struct row {
    int err;
    unsigned ends;                       /* mask of enum patience_from */
    unsigned waits_ms[PATIENCE_BROKERS]; /* up, lost, unseen */
} rows[] = {
    {POSTERN_ERR_UNREACHABLE, 0, {OFFLINE_MS, BROKER_MS, BROKER_MS}},
    {POSTERN_ERR_REFUSED, 0, {OFFLINE_MS, BROKER_MS, BROKER_MS}},
    /* Nobody answered: the network may just be coming up. */
    {POSTERN_ERR_DNS, 0, {OFFLINE_MS, BROKER_MS, BROKER_MS}},
    /* Of the host, or of the broker. */
    {POSTERN_ERR_LIMIT, 0, {CROWD_MS, PATIENCE_LONG_MS, PATIENCE_LONG_MS}},
    /* Once more: a machine may be busy. */
    {POSTERN_ERR_TIMEOUT, 0, {PATIENCE_LONG_MS, PATIENCE_LONG_MS, PATIENCE_LONG_MS}},
    /* A restart, or a router's, or an address that went; or it is no broker at all. */
    {POSTERN_ERR_CLOSED, 0, {PATIENCE_LONG_MS, PATIENCE_LONG_MS, OFFLINE_MS}},
    {POSTERN_ERR_RESET, 0, {PATIENCE_LONG_MS, PATIENCE_LONG_MS, OFFLINE_MS}},
    /* A proxy's "no" is the network's, and may be another's tomorrow. */
    {POSTERN_ERR_DENIED, PATIENCE_BROKER | PATIENCE_HOST, {0, 0, 0}},
    {POSTERN_ERR_KEY, PATIENCE_LINE | PATIENCE_HOST, {0, 0, 0}},
    {POSTERN_ERR_NEWER, PATIENCE_BROKER, {0, 0, 0}},
    {POSTERN_ERR_USAGE, PATIENCE_LINE, {0, 0, 0}}, /* HTTPS_PROXY names no proxy */
};

static const struct row *row_of(int err)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].err == err)
            return &rows[i];
    return NULL;
}

bool patience_ends(int err, enum patience_from from)
{
    const struct row *r = row_of(err);
    return r != NULL && (r->ends & from) != 0;
}

unsigned patience_ms(int err, enum patience_broker broker)
{
    const struct row *r = row_of(err);
    return r != NULL ? r->waits_ms[broker] : 0;
}

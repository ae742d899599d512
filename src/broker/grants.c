/* Sums by address, searched from end to end: 4 KB. */
#include "broker/grants.h"

#include <stdbool.h>
#include <string.h>

enum { BROKER = 1 }; /* the sums are of one */

static void block_of(uint8_t block[static 8], const struct addr *a)
{
    memset(block, 0, 8);
    block[0] = a->family;
    memcpy(block + 1, a->ip, a->family == ADDR_V4 ? 4 : GRANTS_V6_BYTES);
}

/* Its own; else, if `makes`, that of who asked longest ago; or NULL. */
static struct grants_address *find(struct grants *g, const struct addr *from,
                                   bool makes, uint64_t now_us)
{
    uint8_t block[8];
    size_t at = 0;
    block_of(block, from);
    for (size_t i = 0; i < GRANTS_ADDRESSES; i++) {
        if (memcmp(g->block[i], block, sizeof(block)) == 0) {
            g->asked_us[i] = now_us;
            return &g->of[i];
        }
        if (g->asked_us[i] < g->asked_us[at])
            at = i;
    }
    if (!makes)
        return NULL;
    memcpy(g->block[at], block, sizeof(block));
    memset(&g->of[at], 0, sizeof(g->of[at]));
    g->asked_us[at] = now_us;
    return &g->of[at];
}

static void note(struct grants_address *a, uint64_t device, uint64_t now_us)
{
    if (a->device != 0 && a->device != device)
        a->crowded_us = now_us;
    a->device = device;
}

static bool is_crowded(const struct grants_address *a, uint64_t now_us)
{
    return a->crowded_us != 0 &&
           now_us - a->crowded_us < GRANTS_CROWDED_S * UINT64_C(1000000);
}

/* What the others there open for other reasons is theirs: of those who are known, and
 * of those who come in the same minute, since what was granted is not taken back. */
static unsigned kept_for_others(const struct grants_address *a)
{
    unsigned devices = 0;
    for (size_t i = 0; i < SHARES_MAX; i++)
        devices += a->shares.of[i].had > 0 || a->shares.of[i].waits;
    return (devices > GRANTS_TO_COME ? devices : GRANTS_TO_COME) * GRANTS_EACH;
}

static unsigned allowed(const struct grants_address *a, uint64_t device,
                        uint64_t now_us)
{
    unsigned left = sessions_left(&a->open, BROKER, now_us);
    unsigned most = sessions_most(&a->open, BROKER, now_us);
    if (!is_crowded(a, now_us))
        return left;
    unsigned kept = kept_for_others(a);
    left = left > kept ? left - kept : 0;
    return shares_allow(&a->shares, device, left, most, now_us);
}

unsigned grants_take(struct grants *g, const struct addr *from, uint64_t device,
                     unsigned wanted, uint64_t now_us, uint32_t *wait_ms)
{
    struct grants_address *a = find(g, from, true, now_us);
    *wait_ms = 0;
    note(a, device, now_us);
    unsigned left = allowed(a, device, now_us);
    unsigned n = wanted < left ? wanted : left;
    if (n > 0 && sessions_are_enough(&a->open, wanted, n, BROKER, now_us)) {
        sessions_count(&a->open, n, now_us);
        shares_count(&a->shares, device, n, now_us);
        return n;
    }
    uint64_t ms = sessions_wait_ms(&a->open, BROKER, now_us);
    shares_wait(&a->shares, device, now_us);
    *wait_ms = ms > GRANTS_WAIT_MS ? (uint32_t)ms : GRANTS_WAIT_MS;
    return 0;
}

static unsigned had_by(const struct grants_address *a, uint64_t device)
{
    for (size_t i = 0; i < SHARES_MAX; i++)
        if (a->shares.of[i].who == device)
            return a->shares.of[i].had;
    return 0;
}

void grants_return(struct grants *g, const struct addr *from, uint64_t device,
                   unsigned n, uint64_t now_us)
{
    struct grants_address *a = find(g, from, false, now_us);
    unsigned had = a != NULL ? had_by(a, device) : 0;
    n = n < had ? n : had;
    if (n == 0)
        return;
    sessions_return(&a->open, n, now_us);
    shares_return(&a->shares, device, n);
}

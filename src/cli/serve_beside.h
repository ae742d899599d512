/* What of the services that are named beside a `postern serve` is published already. */
#ifndef POSTERN_CLI_SERVE_BESIDE_H
#define POSTERN_CLI_SERVE_BESIDE_H

#include "core/err.h"
#include "host/service.h"
#include "io/statedir.h"

struct serve_beside {
    const char *fresh[SERVICE_MAX]; /* of the texts, which are nowhere yet; borrowed */
    const char *known[SERVICE_MAX]; /* those that are there as they are named */
    size_t fresh_count, known_count;
    const char *clash; /* one of whose name there is another; NULL: none */
    struct fault why;  /* what that is, and as what else it could be published */
};

/*
 * Sorts the SERVICE texts, at most SERVICE_MAX, by what is stored in `state`. Where
 * nothing is, or they cannot be parsed, all are fresh: who stores them says why not.
 */
void serve_beside_sort(struct serve_beside *b, const struct statedir *state,
                       const char *const *texts, size_t count);
/*
 * The advice for who named them where a serve runs: what is to be run, with --state
 * where `option` is given, else `stop`.
 */
void serve_beside_advise(const struct serve_beside *b, const char *option,
                         const char *stop, char *out, size_t cap);

#endif

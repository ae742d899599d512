/* What `postern serve` asks and tells the person who starts it. */
#ifndef POSTERN_CLI_SERVE_WORDS_H
#define POSTERN_CLI_SERVE_WORDS_H

#include "host/roster.h"
#include "host/service.h"
#include "io/events.h"

enum { SERVICE_MEANT_LEN = SERVICE_NAME_LEN + 16 };
/* "web:8080" where "web=8080" was meant: there is no machine of that name. */
bool serve_doubts(const char *text, struct service *s,
                  char meant[static SERVICE_MEANT_LEN]);

/* "udp=53", where "udp:53" was meant, is warned of. */
void serve_warn_of_protocol(const char *text);

/* The SERVICE texts as they were meant; owns those that were not given so. */
struct serve_asked {
    const char *texts[SERVICE_MAX];
    size_t count;
    char *owned[SERVICE_MAX];
    size_t owned_count;
};

/*
 * "web:8080", where there is no machine called web: on a terminal it is asked whether
 * web=8080 was meant, elsewhere only a warning says so. POSTERN_ERR_LIMIT when they are
 * too many; what else is wrong with them is found by who publishes them.
 */
MUST_CHECK int serve_ask(struct serve_asked *a, const char *const *texts, size_t count,
                         struct fault *f);
void serve_asked_free(struct serve_asked *a);

/*
 * Behind the `ready` event, in words: each service with what is found there, who may
 * come in, and what to do next. `ctx` is the struct events; nothing with JSON.
 */
void serve_tell_ready(void *ctx, const struct service_list *published,
                      struct roster *r);

#endif

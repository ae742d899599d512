/* `postern discover`: what listens here, who holds it, and whether it is published. */
#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>

#include "cli/daemon.h"
#include "core/json.h"
#include "core/proto.h"
#include "io/sockdiag.h"
#include "io/statedir.h"

enum { FOUND_MAX = 512, PUBLISHED_MAX = 64 };

struct published {
    uint16_t port;
    bool udp;
    char name[64];
};

struct discovery {
    struct sockdiag_socket found[FOUND_MAX];
    size_t count;
    struct published published[PUBLISHED_MAX];
    size_t published_count;
};

static void on_socket(void *ctx, const struct sockdiag_socket *s)
{
    struct discovery *d = ctx;
    if (d->count < FOUND_MAX)
        d->found[d->count++] = *s;
}

/* What the running serve publishes. */
static void take_service(void *ctx, const char *json)
{
    struct discovery *d = ctx;
    struct json_value v;
    struct published *p = &d->published[d->published_count];
    char word[64];
    if (d->published_count == PUBLISHED_MAX || json_find(&v, json, "name") != 0)
        return;
    json_value_words(&v, p->name, sizeof(p->name));
    if (json_find(&v, json, "port") != 0)
        return;
    json_value_words(&v, word, sizeof(word));
    p->port = (uint16_t)strtoul(word, NULL, 10);
    p->udp = json_find(&v, json, "protocol") == 0 && v.len == 5; /* "udp" quoted */
    if (p->udp) {
        json_value_words(&v, word, sizeof(word));
        p->udp = strcmp(word, "udp") == 0;
    }
    d->published_count++;
}

static int by_port(const void *a, const void *b)
{
    const struct sockdiag_socket *x = a, *y = b;
    if (x->tcp != y->tcp)
        return x->tcp ? -1 : 1;
    return (int)x->local.port - (int)y->local.port;
}

static void print(const struct discovery *d, const struct sockdiag_socket *s,
                  struct events *out)
{
    struct event e;
    char program[16];
    int pid;
    const char *service = NULL;
    for (size_t i = 0; i < d->published_count && service == NULL; i++)
        if (d->published[i].port == s->local.port && d->published[i].udp != s->tcp)
            service = d->published[i].name;
    event_begin(&e, "listening");
    event_addr(&e, "local", &s->local);
    event_text(&e, "protocol", s->tcp ? "tcp" : "udp");
    bool seen = sockdiag_owner(s->inode, &pid, program);
    event_text(&e, "program", seen ? program : NULL);
    if (seen)
        event_int(&e, "pid", pid);
    event_text(&e, "service", service);
    events_print(out, &e);
}

int cmd_discover(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct discovery *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return fault_set(f, POSTERN_ERR_NOMEM, "free some memory", "out of memory");
    int rc = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (rc == 0 && !sockdiag_listeners(on_socket, d))
        rc = fault_set(f, POSTERN_ERR_IO, "is sock_diag in this kernel?",
                       "the kernel does not say what listens here");
    if (rc == 0) {
        daemon_each(&state, "serve", LOCAL_LIST, take_service, d);
        qsort(d->found, d->count, sizeof(d->found[0]), by_port);
        for (size_t i = 0; i < d->count; i++)
            print(d, &d->found[i], out);
    }
    free(d);
    return rc;
}

/* What `postern doctor` asks of the services that this host publishes: do they answer?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/daemon.h"
#include "cli/doctor.h"
#include "host/service.h"
#include "io/dial.h"
#include "io/loop.h"

enum { ANSWER_MS = 1500, TOLD_MAX = 6, TRIES_MAX = SERVICE_MAX * 2 };

struct trying;

/* One place of a service; the first that connects is enough. */
struct
try {
    struct trying *all;
    size_t service, target;
    struct dial *dial;
};

struct trying {
    struct loop *loop;
    struct timer limit;
    struct service_list list;
    struct try tries[TRIES_MAX];
    size_t count, under_way;
    bool answers[SERVICE_MAX];
    int why[SERVICE_MAX]; /* of the first target; 0: not tried to the end */
};

static void on_dialled(void *ctx, int err, int fd)
{
    struct try *t = ctx;
    struct trying *all = t->all;
    t->dial = NULL;
    if (fd >= 0) {
        all->answers[t->service] = true;
        (void)close(fd);
    } else if (t->target == 0) {
        all->why[t->service] = err;
    }
    if (--all->under_way == 0)
        loop_stop(all->loop);
}

static void on_limit(void *ctx)
{
    loop_stop(((struct trying *)ctx)->loop);
}

static void begin(struct trying *all, size_t service, size_t target, unsigned limit_ms)
{
    const struct service_target *to = &all->list.items[service].targets[target];
    struct try *t = &all->tries[all->count];
    *t = (struct try){.all = all, .service = service, .target = target};
    if (dial_start_name(&t->dial, all->loop, to->host, to->port, limit_ms, on_dialled,
                        t) != 0) {
        t->dial = NULL;
        return;
    }
    all->count++;
    all->under_way++;
}

/* UDP answers nobody who does not speak its protocol. */
static void try_all(struct trying *all, unsigned limit_ms)
{
    for (size_t i = 0; i < all->list.count && i < SERVICE_MAX; i++) {
        const struct service *s = &all->list.items[i];
        for (size_t k = 0; k < s->target_count && !s->udp; k++)
            if (all->count < TRIES_MAX)
                begin(all, i, k, limit_ms);
    }
    timer_init(&all->limit, all->loop, on_limit, all);
    timer_start(&all->limit, limit_ms + 100);
    if (all->under_way > 0)
        loop_run(all->loop);
    timer_stop(&all->limit);
    for (size_t i = 0; i < all->count; i++)
        if (all->tries[i].dial != NULL)
            dial_cancel(all->tries[i].dial);
}

static void tell_one(struct doctor *d, const struct service *s, int err)
{
    const struct service_target *t = &s->targets[0];
    bool file = t->host[0] == '/', v6 = strchr(t->host, ':') != NULL;
    bool here = file || strncmp(t->host, "127.", 4) == 0 || strcmp(t->host, "::1") == 0;
    char port[8] = "";
    if (!file)
        (void)snprintf(port, sizeof(port), ":%u", t->port);
    doctor_say(d, "service", DOCTOR_WARNING,
               here ? "start it, or see 'postern discover' for what listens here"
                    : "start it there, and see whether this machine reaches it",
               "'%.63s' does not answer at %s%.160s%s%s: %s", s->name, v6 ? "[" : "",
               t->host, v6 ? "]" : "", port,
               postern_strerror(err != 0 ? err : POSTERN_ERR_TIMEOUT));
}

static void tell(struct doctor *d, const struct trying *all)
{
    size_t tried = 0, good = 0;
    for (size_t i = 0; i < all->list.count && i < SERVICE_MAX; i++) {
        if (all->list.items[i].udp)
            continue;
        tried++;
        good += all->answers[i];
        if (!all->answers[i] && tried - good <= TOLD_MAX)
            tell_one(d, &all->list.items[i], all->why[i]);
    }
    if (tried > 0)
        doctor_say(d, "services", DOCTOR_OK, "",
                   "%zu of %zu answer; those by UDP are not asked", good, tried);
}

void doctor_services(struct doctor *d)
{
    struct fault f;
    struct roster *r = NULL;
    struct trying *all = calloc(1, sizeof(*all));
    struct roster_settings *s = calloc(1, sizeof(*s));
    if (all != NULL && s != NULL && d->has_state &&
        statedir_has(d->state.path, "host.db") &&
        daemon_open_roster(&r, &d->state, &f) == 0 && roster_settings_get(r, s) == 0 &&
        service_list_parse_lines(&all->list, s->services, &f) == 0 &&
        all->list.count > 0 && loop_open(&all->loop) == 0) {
        doctor_wait("the services that are published here");
        try_all(all, doctor_left_ms(d, ANSWER_MS));
        loop_poll(all->loop);
        loop_close(all->loop);
        tell(d, all);
    }
    if (all != NULL)
        service_list_fini(&all->list);
    roster_close(r);
    free(s);
    free(all);
}

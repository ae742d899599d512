/* Starts and ends the threads, and waits for signals; serves nothing itself. */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/drain.h"
#include "broker/own_name.h"
#include "broker/shard.h"
#include "io/helper.h"
#include "io/clock.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/scrape.h"
#include "io/statedir.h"
#include "io/stop.h"
#include "io/systemd.h"

enum {
    DESCRIPTORS_KEPT = 256, /* for pipes, sockets, databases, epolls */
    DESCRIPTORS_MIN = 64,
    VISITORS_MIN = 32,
    DESCRIPTORS_WANTED = 524288,
    LOOK_MS = 5000,
};

struct broker {
    struct hub hub;
    struct statedir state;
    int lock_fd; /* -1 until this process owns the state */
    struct shard *shards;
    bool portal_runs;
    struct identity_watch *look; /* while broker_run turns */
    struct scrape *scrape;
    struct loop *loop; /* likewise */
    char link[LINK_TEXT_LEN];
};

/* Raises the limit as far as may be; returns how many descriptors are for peers. */
static size_t descriptors(void)
{
    struct rlimit r, high = {.rlim_cur = DESCRIPTORS_WANTED, .rlim_max = 0};
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return DESCRIPTORS_MIN;
    high.rlim_max = r.rlim_max > high.rlim_cur ? r.rlim_max : high.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &high) != 0) { /* only root may pass the hard one */
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 ||
        r.rlim_cur < DESCRIPTORS_KEPT + DESCRIPTORS_MIN)
        return DESCRIPTORS_MIN;
    return (size_t)r.rlim_cur - DESCRIPTORS_KEPT;
}

static size_t at_most(size_t n, size_t max)
{
    return n < max ? n : max;
}

static size_t at_least(size_t n, size_t min)
{
    return n > min ? n : min;
}

static unsigned thread_count(unsigned wanted)
{
    cpu_set_t ours;
    unsigned n = wanted;
    if (n == 0 && sched_getaffinity(0, sizeof(ours), &ours) == 0)
        n = (unsigned)CPU_COUNT(&ours);
    return n == 0 ? 1 : n < BROKER_THREADS_MAX ? n : BROKER_THREADS_MAX;
}

static int load_state(struct broker *b, struct fault *f)
{
    struct registry *r = NULL;
    int rc = statedir_open(&b->state, b->hub.config->state_dir, f);
    if (rc == 0)
        rc = statedir_lock(&b->state, "broker", &b->lock_fd, f);
    b->hub.state_dir = b->state.path;
    if (rc == 0)
        rc = registry_open(&r, b->hub.state_dir, f);
    if (rc == 0)
        rc = registry_identity(r, &b->hub.identity, f);
    registry_close(r);
    return rc;
}

/* A port is taken: where another broker of this state directory runs, by that. */
static void look_for_twin(struct broker *b, struct fault *f)
{
    struct fault twin;
    if (statedir_open(&b->state, b->hub.config->state_dir, &twin) == 0 &&
        statedir_lock(&b->state, "broker", &b->lock_fd, &twin) == POSTERN_ERR_INUSE)
        (void)fault_set(f, POSTERN_ERR_INUSE,
                        "it has that port; stop it first, or use another --state and "
                        "--listen",
                        "%s", twin.what);
}

static void make_link(struct broker *b)
{
    const struct hub *h = &b->hub;
    struct link l = {.type = LINK_BROKER, .port = h->plan.port};
    memcpy(l.host, h->plan.host, sizeof(l.host));
    memcpy(l.broker_key, h->identity.key.pub, KEY_LEN);
    l.has_token = !h->config->open;
    memcpy(l.token, h->identity.token, LINK_SECRET_LEN);
    link_format(&l, b->link);
    sodium_memzero(&l, sizeof(l));
}

static int open_shards(struct broker *b, struct fault *f)
{
    struct hub *h = &b->hub;
    unsigned want = thread_count(h->config->threads);
    size_t fds = descriptors();
    int rc = lack_check_start(DESCRIPTORS_MIN, f);
    if (rc != 0)
        return rc;
    b->shards = calloc(want, sizeof(*b->shards));
    if (b->shards == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    /* A quarter is for relays, of which a pair takes two; an eighth for who has not
     * spoken, and an eighth for pipes and the portal. */
    h->connections_max = at_most(fds / 2, LIMIT_CONNECTIONS) / want;
    h->pairs_max = at_most(fds / 8, LIMIT_RELAYS) / want;
    h->visitors_max = at_most(fds / 8 / want, LIMIT_VISITORS);
    if (h->visitors_max < VISITORS_MIN)
        h->visitors_max = VISITORS_MIN;
    h->handshakes_max = at_least(LIMIT_HANDSHAKES / want, LIMIT_HANDSHAKES_MIN);
    h->pipes_max = at_least(LIMIT_PIPES / want, LIMIT_HANDSHAKES_MIN);
    for (unsigned i = 0; i < want && rc == 0; i++) {
        h->shards[i] = &b->shards[i];
        h->count = i + 1;
        rc = shard_open(&b->shards[i], h, i, f);
    }
    for (unsigned i = 0; i < want && rc == 0; i++)
        if (shard_start(&b->shards[i]) != 0)
            rc = fault_set(f, POSTERN_ERR_IO,
                           "raise the limit of processes (ulimit -u), or of the "
                           "address space (ulimit -v)",
                           "cannot start a thread");
    return rc;
}

int broker_open(struct broker **out, const struct broker_config *c, struct fault *f)
{
    struct broker *b = calloc(1, sizeof(*b));
    if (b == NULL || sodium_init() < 0) {
        free(b);
        return fault_lack(f, POSTERN_ERR_NOMEM);
    }
    stop_prepare(); /* splice has no flag against SIGPIPE */
    b->hub.config = c;
    b->lock_fd = -1;
    b->hub.log_level = log_level();
    randombytes_buf(b->hub.secret, sizeof(b->hub.secret));
    randombytes_buf(b->hub.mark_secret, sizeof(b->hub.mark_secret));
    int rc = plan_make(&b->hub.plan, c, f);
    if (rc == 0)
        rc = load_state(b, f);
    else if (rc == POSTERN_ERR_INUSE)
        look_for_twin(b, f);
    if (rc == 0) {
        badge_secret(b->hub.badge_secret, &b->hub.identity.key);
        badge_host_secret(b->hub.host_badge_secret, &b->hub.identity.key);
        b->hub.settled_ms =
            clock_us() / 1000 + (b->hub.identity.made ? 0 : LIMIT_SETTLE_MS);
        rc = open_shards(b, f);
    }
    if (rc != 0) {
        broker_close(b);
        return rc;
    }
    make_link(b);
    if (c->portal != NULL) {
        rc = c->portal->start(c->portal->ctx, b, f);
        b->portal_runs = rc == 0;
    }
    if (rc != 0) {
        broker_close(b);
        return rc;
    }
    if (c->on_ready != NULL)
        c->on_ready(c->ctx, b->link);
    *out = b;
    return 0;
}

const char *broker_link(const struct broker *b)
{
    return b->link;
}

const struct keypair *broker_key(const struct broker *b)
{
    return &b->hub.identity.key;
}

const char *broker_public_name(const struct broker *b)
{
    return b->hub.plan.host;
}

uint16_t broker_port(const struct broker *b)
{
    return b->hub.plan.port;
}

bool broker_bound(const struct broker *b, size_t i, struct addr *a, bool *dual_stack)
{
    if (i >= b->hub.plan.site_count)
        return false;
    *a = b->hub.plan.sites[i].bind;
    *dual_stack = b->hub.plan.sites[i].dual;
    return true;
}

void broker_local(const struct broker *b, struct addr *a)
{
    const struct plan_site *site = &b->hub.plan.sites[0];
    *a = site->bind;
    if (site->wildcard)
        (void)!addr_parse_ip(a,
                             site->dual || a->family == ADDR_V4 ? "127.0.0.1" : "::1");
    a->port = site->bind.port;
}

void broker_figures(const struct broker *b, struct figures *sum)
{
    *sum = (struct figures){0};
    for (unsigned i = 0; i < b->hub.count; i++)
        figures_add(sum, &b->shards[i].shown);
}

void broker_close(struct broker *b)
{
    if (b == NULL)
        return;
    if (b->portal_runs)
        b->hub.config->portal->stop(b->hub.config->portal->ctx);
    for (unsigned i = 0; i < b->hub.count; i++)
        shard_stop(&b->shards[i]);
    for (unsigned i = 0; i < b->hub.count; i++)
        shard_wait(&b->shards[i]);
    for (unsigned i = 0; i < b->hub.count; i++)
        shard_free(&b->shards[i]);
    if (b->lock_fd >= 0)
        close(b->lock_fd);
    free(b->shards);
    sodium_memzero(&b->hub.identity, sizeof(b->hub.identity));
    sodium_memzero(b->link, sizeof(b->link));
    free(b);
}

/* Looks now and then whether directory and broker.db are still this broker's. */
struct identity_watch {
    struct loop *loop;
    struct fault *fault; /* of the caller */
    int rc;
    struct broker *broker;
    struct registry *registry;
    struct timer timer;
    bool told;
};

/*
 * The key stays as it was until a restart: links and devices know it, and every
 * thread's connections stand under it.
 */
static void on_look(void *ctx)
{
    struct identity_watch *w = ctx;
    bool moved;
    w->rc = statedir_lock_keep(&w->broker->state, "broker", &w->broker->lock_fd, &moved,
                               w->fault);
    if (w->rc != 0) { /* another broker has it where it was put back */
        loop_stop(w->loop);
        return;
    }
    bool ours = registry_is_ours(w->registry, &w->broker->hub.identity);
    if (!ours && !w->told)
        log_error(
            "%s/broker.db now belongs to another identity; restart to take it, or "
            "put the one before back (this broker keeps its key and link)",
            w->broker->hub.state_dir);
    else if (ours && w->told)
        log_warn("broker.db belongs to this broker again");
    w->told = !ours;
}

static int watch_identity(struct identity_watch *w, struct broker *b, struct loop *loop,
                          struct fault *f)
{
    w->broker = b;
    w->loop = loop;
    w->fault = f;
    timer_init(&w->timer, loop, on_look, w);
    int rc = registry_open(&w->registry, b->hub.state_dir, f);
    if (rc == 0)
        timer_every(&w->timer, LOOK_MS, LOOK_MS);
    return rc;
}

/* Figures from the first moment on: `ctx` is where the broker will be. */
static void add_metrics(void *ctx, struct metrics *m)
{
    struct figures sum = {0};
    const struct broker *b = *(struct broker **)ctx;
    if (b != NULL)
        broker_figures(b, &sum);
    figures_write(&sum, m);
}

static const char *why_not_ready(void *ctx)
{
    return *(struct broker **)ctx != NULL ? NULL : "it starts";
}

static int open_scrape(struct scrape **out, struct broker **b,
                       const struct broker_config *config, struct loop *loop,
                       struct fault *f)
{
    struct scrape_config c = {.loop = loop,
                              .at = config->metrics,
                              .role = "broker",
                              .add = add_metrics,
                              .why_not_ready = why_not_ready,
                              .ctx = b};
    return c.at == NULL ? 0 : scrape_open(out, &c, f);
}

static void on_stop(void *ctx, int signum)
{
    (void)signum;
    loop_stop(ctx);
}

/* ------------------------------------------------------------------- making way */

static void drain_begin(void *ctx)
{
    struct broker *b = ctx;
    if (b->portal_runs)
        b->hub.config->portal->stop(b->hub.config->portal->ctx);
    b->portal_runs = false;
    for (unsigned i = 0; i < b->hub.count; i++)
        shard_drain(&b->shards[i]);
}

static bool drain_has_begun(void *ctx)
{
    const struct broker *b = ctx;
    for (unsigned i = 0; i < b->hub.count; i++)
        if (!shard_is_drained(&b->shards[i]))
            return false;
    return true;
}

static void drain_release(void *ctx)
{
    struct broker *b = ctx;
    scrape_close(b->scrape);
    b->scrape = NULL;
    timer_stop(&b->look->timer);
    if (b->lock_fd >= 0)
        close(b->lock_fd);
    b->lock_fd = -1;
}

static size_t drain_relayed(void *ctx)
{
    struct figures sum;
    broker_figures(ctx, &sum);
    return (size_t)sum.values[FIGURE_PAIRS_MOVING];
}

static void drain_over(void *ctx)
{
    loop_stop(((struct broker *)ctx)->loop);
}

static int open_drain(struct drain **out, struct broker *b, struct fault *f)
{
    char path[STATEDIR_SOCKET_LEN];
    statedir_socket(&b->state, "broker", path);
    struct drain_config c = {.loop = b->loop,
                             .socket_path = path,
                             .begin = drain_begin,
                             .has_begun = drain_has_begun,
                             .release = drain_release,
                             .relayed = drain_relayed,
                             .over = drain_over,
                             .ctx = b};
    return drain_open(out, &c, f);
}

int broker_run(const struct broker_config *c, struct fault *f)
{
    struct broker *b = NULL;
    struct drain *drain = NULL;
    struct loop *loop;
    struct stop *stop = NULL;
    struct identity_watch look = {0};
    struct own_name name = {0};
    struct scrape *scrape = NULL;
    struct timer beat;
    if (loop_open(&loop) != 0)
        return fault_lack(f, POSTERN_ERR_LIMIT);
    /* First the signals: one that comes right after "ready" must not be missed. */
    int rc = stop_open(&stop, loop, on_stop, loop);
    rc = rc == 0 ? open_scrape(&scrape, &b, c, loop, f) : fault_lack(f, rc);
    if (rc == 0)
        rc = broker_open(&b, c, f);
    if (rc == 0 && c->portal == NULL) /* which has opened the helper */
        helper_forgo();
    if (rc == 0 && b != NULL) {
        b->loop = loop;
        b->look = &look;
        b->scrape = scrape;
        scrape = NULL;
        rc = watch_identity(&look, b, loop, f);
    }
    if (rc == 0 && b != NULL)
        rc = open_drain(&drain, b, f);
    if (rc == 0)
        own_name_start(&name, &b->hub.plan, loop);
    systemd_watchdog_start(&beat, loop);
    if (rc == 0) {
        systemd_ready("introduces hosts and clients");
        loop_run(loop);
        systemd_stopping();
        rc = look.rc;
    }
    scrape_close(b != NULL ? b->scrape : scrape);
    drain_close(drain);
    timer_stop(&beat);
    timer_stop(&look.timer);
    own_name_stop(&name);
    registry_close(look.registry);
    broker_close(b);
    stop_close(stop);
    loop_run(loop);
    loop_close(loop);
    return rc;
}

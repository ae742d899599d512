/* A thread's set-up, its mail and its end; the work is done by what it owns. */
#include "broker/shard.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "broker/conn.h"
#include "broker/control.h"
#include "broker/numbers.h"
#include "broker/control_grants.h"
#include "broker/control_spoken.h"
#include "io/helper.h"
#include "io/identity.h"
#include "io/lack.h"
#include "io/loop.h"
#include "io/tlspipe.h"

enum { SWEEP_MS = 1000 };

struct shard *hub_shard_of(const struct hub *h, const uint8_t key[static KEY_LEN])
{
    uint8_t out[crypto_shorthash_BYTES];
    uint64_t hash;
    crypto_shorthash(out, key, KEY_LEN, h->secret);
    memcpy(&hash, out, sizeof(hash));
    /* The high bits: the map inside the shard uses the low ones. */
    return h->shards[(hash >> 32) % h->count];
}

static void on_tls(void *ctx, int fd, const struct addr_place *place,
                   const uint8_t *device)
{
    struct shard *s = ctx;
    if (s->connections < s->hub->connections_max || conn_make_room(s)) {
        conn_accept(s, fd, place, device);
        return;
    }
    addr_limits_leave(s->limits, place);
    door_say_busy(fd);
}

static void on_relay(void *ctx, int fd, const uint8_t ticket[static TICKET_LEN])
{
    struct shard *s = ctx;
    unsigned thread = relay_ticket_thread(ticket);
    if (thread == s->index) {
        relay_join(s->relay, fd, ticket);
        return;
    }
    struct mail *m = thread < s->hub->count ? mail_new(MAIL_RELAY, NULL, 0) : NULL;
    if (m == NULL) {
        close(fd);
        return;
    }
    m->fd = fd;
    memcpy(m->ticket, ticket, TICKET_LEN);
    if (mailbox_post(s->hub->shards[thread]->mail, m) != 0)
        mail_free(m);
}

/* The same inside TLS, for networks that let nothing else pass. */
static void on_tls_relay(void *ctx, int fd, const struct addr_place *place)
{
    struct shard *s = ctx;
    struct tlspipe_config c = {.loop = s->loop,
                               .protocol = PROTO_ALPN_RELAY,
                               .credentials = s->credentials,
                               .priority = s->priority};
    spare_count(&s->spare);
    int plain = tlspipe_open(&c, fd);
    if (plain >= 0)
        door_admit(s->door, plain, place);
    else
        addr_limits_leave(s->limits, place);
}

/* People with a browser: the portal's, which counts them itself. */
static void on_web(void *ctx, int fd, const struct addr_place *place,
                   const char *server_name)
{
    struct shard *s = ctx;
    const struct broker_portal *p = s->hub->config->portal;
    addr_limits_leave(s->limits, place);
    p->on_tls(p->ctx, fd, server_name);
}

static bool knows(void *ctx, const uint8_t *badge, size_t len,
                  uint8_t device[static KEY_LEN])
{
    struct shard *s = ctx;
    return badge_open(device, badge, len, s->hub->badge_secret, (uint64_t)time(NULL)) ==
               0 &&
           admission_badge(&s->admission, device, loop_now_ms(s->loop));
}

static bool has_room(void *ctx)
{
    const struct shard *s = ctx;
    return s->connections < s->hub->connections_max / 4 * LIMIT_KNOWN_QUARTERS;
}

static bool is_idle(void *ctx)
{
    const struct shard *s = ctx;
    return conn_begun(s) < s->hub->handshakes_max / 2;
}

static bool on_crowded(void *ctx, const struct addr_place *place)
{
    return conn_make_room_at(ctx, place, NULL);
}

/* Of descriptors, when there is none left. */
static bool on_full(void *ctx)
{
    struct shard *s = ctx;
    return relay_make_room(s->relay) || conn_make_room(s);
}

static const struct door_events portal_door_events = {
    .on_tls = on_tls,
    .on_web = on_web,
    .on_tls_relay = on_tls_relay,
    .on_relay = on_relay,
    .knows = knows,
    .has_room = has_room,
    .is_idle = is_idle,
    .on_crowded = on_crowded,
    .on_full = on_full,
};

static const struct door_events door_events = {
    .on_tls = on_tls,
    .on_tls_relay = on_tls_relay,
    .on_relay = on_relay,
    .knows = knows,
    .has_room = has_room,
    .is_idle = is_idle,
    .on_crowded = on_crowded,
    .on_full = on_full,
};

static void log_stats(const struct shard *s)
{
    struct door_stats d;
    struct relay_stats r;
    struct stun_stats u;
    door_read_stats(s->door, &d);
    relay_read_stats(s->relay, &r);
    stun_service_read_stats(s->stun, &u);
#define N(x) ((unsigned long long)(x))
    log_debug("thread %u: %llu accepted, %llu refused, %llu silent, %llu garbage; "
              "%llu handshakes, %llu devices, %llu routed, %llu dropped",
              s->index, N(d.accepted), N(d.refused), N(d.silent), N(d.garbage),
              N(s->stats.handshakes), N(s->stats.hellos), N(s->stats.routed),
              N(s->stats.dropped));
    log_debug("thread %u: %llu introduced, %llu accepted, %llu refused; %llu pairs, "
              "%llu bytes "
              "spliced, %llu copied, %llu tickets expired, %llu unknown; "
              "STUN %llu answered, %llu limited, %llu ignored",
              s->index, N(s->stats.introduced), N(s->stats.accepted),
              N(s->stats.refused), N(r.pairs_joined), N(r.bytes_spliced),
              N(r.bytes_copied), N(r.tickets_expired), N(r.tickets_unknown),
              N(u.answered), N(u.limited), N(u.ignored));
#undef N
}

static void show_own(const struct shard *s, uint64_t *v)
{
    const struct shard_stats *n = &s->stats;
    v[FIGURE_HANDSHAKING] = s->connections - s->hosts - s->clients;
    v[FIGURE_CLIENTS] = s->clients;
    v[FIGURE_HOSTS] = s->hosts;
    v[FIGURE_HANDSHAKES] = n->handshakes;
    v[FIGURE_HELLOS] = n->hellos;
    v[FIGURE_ROUTED] = n->routed;
    v[FIGURE_DROPPED] = n->dropped;
    v[FIGURE_INTRODUCED] = n->introduced;
    v[FIGURE_ACCEPTED_RELAY] = n->accepted - n->without_pair;
    v[FIGURE_ACCEPTED_DIRECT] = n->without_pair;
    for (unsigned i = REFUSE_OFFLINE; i <= REFUSE_ENDED; i++)
        v[FIGURE_REFUSED + i - 1] = n->refusals[i];
    for (unsigned i = BYE_VERSION; i <= BYE_PROTOCOL; i++)
        v[FIGURE_BYES + i - 1] = n->byes[i];
    for (unsigned i = 0; i < HIT_COUNT; i++)
        v[FIGURE_HITS + i] = n->hits[i];
}

static void show_figures(struct shard *s)
{
    struct door_stats d = {0};
    struct relay_stats r;
    struct stun_stats u = {0};
    struct figures f = {0};
    uint64_t *v = f.values;
    if (s->door != NULL)
        door_read_stats(s->door, &d);
    relay_read_stats(s->relay, &r);
    if (s->stun != NULL)
        stun_service_read_stats(s->stun, &u);
    show_own(s, v);
    v[FIGURE_VISITORS] = d.visitors;
    v[FIGURE_IN_LINE] = d.in_line;
    v[FIGURE_ACCEPTED_CONNECTIONS] = d.accepted;
    v[FIGURE_SILENT] = d.silent;
    v[FIGURE_GARBAGE] = d.garbage;
    v[FIGURE_HITS + HIT_ADDRESS] += d.refused;
    v[FIGURE_PAIRS_WAITING] = r.pairs_open - r.joined_open;
    v[FIGURE_PAIRS_JOINED] = r.joined_open;
    v[FIGURE_PAIRS_MOVING] = r.moving;
    v[FIGURE_PAIRS] = r.pairs_joined;
    v[FIGURE_BYTES_SPLICED] = r.bytes_spliced;
    v[FIGURE_BYTES_COPIED] = r.bytes_copied;
    v[FIGURE_TICKETS_EXPIRED] = r.tickets_expired;
    v[FIGURE_TICKETS_UNKNOWN] = r.tickets_unknown;
    v[FIGURE_STUN_ANSWERED] = u.answered;
    v[FIGURE_STUN_IGNORED] = u.ignored;
    v[FIGURE_HITS + HIT_STUN] = u.limited;
    f.times[TIME_HANDSHAKE] = s->stats.handshake;
    f.times[TIME_INTRODUCTION] = s->stats.introduction;
    f.times[TIME_PAIR] = r.setup;
    figures_show(&s->shown, &f);
}

/* Closes everything; the loop then ends by itself. */
static void shard_finish(struct shard *s)
{
    s->stopping = s->finished = true;
    if (s->door != NULL && s->relay != NULL && s->stun != NULL)
        log_stats(s);
    conn_end_all(s, false);
    door_close(s->door);
    relay_close(s->relay);
    stun_service_close(s->stun);
    timer_stop(&s->sweep);
    timer_stop(&s->move);
    if (s->mail != NULL)
        mailbox_close(s->mail);
    s->door = NULL;
    s->relay = NULL;
    s->stun = NULL;
}

/* Ports first: the next broker waits for them. */
static void make_way(struct shard *s)
{
    s->stopping = true;
    log_stats(s);
    door_close(s->door);
    stun_service_close(s->stun);
    s->door = NULL;
    s->stun = NULL;
    conn_end_all(s, true);
    relay_end_waiting(s->relay);
    timer_stop(&s->move);
    show_figures(s);
    __atomic_store_n(&s->drained, true, __ATOMIC_RELEASE);
}

static void on_mail(void *ctx, struct mail *m)
{
    struct shard *s = ctx;
    switch (m->type) {
    case MAIL_CHANNEL:
        conn_adopt(s, m);
        break;
    case MAIL_RELAY:
        if (!s->stopping) {
            relay_join(s->relay, m->fd, m->ticket);
            m->fd = -1;
        }
        break;
    case MAIL_ROUTE:
        control_on_mail(s, m);
        break;
    case MAIL_SPOKEN:
        spoken_on_mail(s, m);
        break;
    case MAIL_GRANTS:
        grants_on_mail(s, m);
        break;
    case MAIL_DRAIN:
        if (!s->stopping)
            make_way(s);
        break;
    case MAIL_STOP:
        if (!s->finished)
            shard_finish(s);
        break;
    case MAIL_WEB:
    case MAIL_PORTAL:
        break; /* not to a shard */
    }
    mail_free(m);
}

static void on_sweep(void *ctx)
{
    struct shard *s = ctx;
    if (s->door != NULL)
        door_sweep(s->door);
    conn_sweep(s);
    relay_sweep(s->relay);
    spare_count_forgotten(&s->spare,
                          admission_sweep(&s->admission, loop_now_ms(s->loop)));
    spare_look(&s->spare, s->door != NULL ? conn_begun(s) + door_inner(s->door) : 0);
    show_figures(s);
}

static void on_move(void *ctx)
{
    conn_move_all(ctx);
}

/* The parts that know nothing of sockets. */
static int open_tables(struct shard *s, struct fault *f)
{
    struct hub *h = s->hub;
    s->limits = calloc(1, sizeof(*s->limits));
    s->awaited = calloc(1, sizeof(*s->awaited));
    s->parted = calloc(1, sizeof(*s->parted));
    if (s->limits == NULL || s->awaited == NULL || s->parted == NULL ||
        keymap_init(&s->present, h->secret) != 0 ||
        admission_init(&s->admission, h->secret) != 0)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    memcpy(s->limits->secret, h->secret, sizeof(s->limits->secret));
    if (identity_credentials(&s->credentials, &h->identity.key) != 0 ||
        gnutls_priority_init(&s->priority, IDENTITY_TLS_PRIORITY, NULL) != 0)
        return fault_set(f, POSTERN_ERR_KEY,
                         "restore broker.db in the state directory from a backup",
                         "the broker's key cannot be used");
    return registry_open(&s->registry, h->state_dir, f);
}

static int open_parts(struct shard *s)
{
    struct hub *h = s->hub;
    bool unlimited = h->config->no_address_limits;
    struct door_config door = {.loop = s->loop,
                               .plan = &h->plan,
                               .limits = s->limits,
                               .visitors_max = h->visitors_max,
                               .inner_max = h->pipes_max,
                               .unlimited = unlimited,
                               .secret = h->secret,
                               .events = h->config->portal != NULL ? &portal_door_events
                                                                   : &door_events,
                               .ctx = s};
    int rc = mailbox_open(&s->mail, s->loop, on_mail, s);
    if (rc == 0)
        rc = relay_open(&s->relay, s->loop, (uint8_t)s->index, h->pairs_max);
    if (rc == 0)
        rc = stun_service_open(&s->stun, s->loop, &h->plan,
                               unlimited ? NULL : s->limits, h->secret);
    if (rc == 0)
        rc = door_open(&s->door, &door);
    return rc;
}

int shard_open(struct shard *s, struct hub *hub, unsigned index, struct fault *f)
{
    s->hub = hub;
    s->index = index;
    list_init(&s->handshaking);
    list_init(&s->greeting);
    list_init(&s->ready);
    list_init(&s->moving);
    int rc = open_tables(s, f);
    if (rc != 0)
        return rc;
    if (loop_open(&s->loop) != 0)
        return fault_lack(f, POSTERN_ERR_LIMIT);
    s->loop_ready = true;
    timer_init(&s->sweep, s->loop, on_sweep, s);
    timer_init(&s->move, s->loop, on_move, s);
    if (open_parts(s) != 0)
        return fault_set(f, POSTERN_ERR_IO,
                         "raise the limit of open files, or give fewer --threads",
                         "cannot open the sockets of thread %u", index);
    timer_every(&s->sweep, SWEEP_MS, SWEEP_MS);
    return 0;
}

static void *run(void *arg)
{
    struct shard *s = arg;
    helper_forgo(); /* capabilities are a thread's own; it reads what strangers say */
    log_set_level(s->hub->log_level);
    loop_run(s->loop);
    return NULL;
}

int shard_start(struct shard *s)
{
    s->thread_ready = pthread_create(&s->thread, NULL, run, s) == 0;
    return s->thread_ready ? 0 : POSTERN_ERR_IO;
}

static void tell(struct shard *s, enum mail_type what)
{
    struct mail *m = mail_new(what, NULL, 0);
    if (!s->thread_ready || m == NULL || mailbox_post(s->mail, m) != 0)
        mail_free(m);
}

void shard_stop(struct shard *s)
{
    tell(s, MAIL_STOP);
}

void shard_drain(struct shard *s)
{
    tell(s, MAIL_DRAIN);
}

bool shard_is_drained(const struct shard *s)
{
    return __atomic_load_n(&s->drained, __ATOMIC_ACQUIRE);
}

void shard_wait(struct shard *s)
{
    if (s->thread_ready)
        (void)pthread_join(s->thread, NULL);
    s->thread_ready = false;
    if (s->loop_ready && !s->finished) { /* it never ran */
        shard_finish(s);
        loop_run(s->loop);
    }
}

void shard_free(struct shard *s)
{
    mailbox_free(s->mail);
    if (s->loop_ready)
        loop_close(s->loop);
    registry_close(s->registry);
    keymap_fini(&s->present);
    admission_fini(&s->admission);
    if (s->credentials != NULL)
        gnutls_certificate_free_credentials(s->credentials);
    if (s->priority != NULL)
        gnutls_priority_deinit(s->priority);
    free(s->limits);
    free(s->awaited);
    free(s->parted);
    free(s->grants);
    free(s->numbers);
}

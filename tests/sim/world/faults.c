/*
 * One scene: a stream between the real client and host while routers restart, devices
 * move and programs die. It must hold that
 *   - the bytes that came back are those that were sent, to the last; a stream breaks
 *     only where the host ended, or could not answer it for ANSWER_US, and another one
 *     goes on then;
 *   - between two arrivals lies no more than the fault's own time and PATIENCE_US;
 *   - in the end the path is direct, where both NATs let it be;
 *   - and another command that comes then works at once;
 *   - a stranger gets nothing, and a liar makes nobody send (guard.h);
 *   - once nobody is connected, descriptors, sockets and work of each machine are what
 *     they were after the time before; at the end everything is where it began.
 */
#include "faults.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "broker/relay_flow.h"
#include "daemon.h"
#include "errands.h"
#include "guard.h"
#include "rebuffs.h"
#include "visitors.h"

/* What a person would wait before pressing a key: a way that died is found out, and
 * another one taken, or made. */
#define PATIENCE_US SECONDS(20)
/* What the host has not answered by then is reset (docs/CLI.md). */
#define ANSWER_US SECONDS(20)
/* Of a new command, whatever it meets (docs/METHODS.md). */
#define COMMAND_US SECONDS(7)
#define BROKER_US SECONDS(7)  /* the same of a command that finds no broker */
#define OFFLINE_US SECONDS(4) /* and where nobody is online, here or there */
#define IDLE_US SECONDS(3500) /* the portal ends what moves nothing for an hour */
#define LOCAL_US SECONDS(10)  /* and of one that was handed to an `up` that hangs */

enum {
    STREAMS_MAX = 8,
    OTHER_PORTS = 10, /* theirs are so much apart */
    SETTLE_S = 400,   /* relay pairs, tickets, sessions: all is given up by then */
    CALM_S = 100,
    DIRECT_S = 700, /* direct kinds are tried again with growing pauses */
    JUMP_S = 86400,
    APART_TIMES = 3,
    QUICK_LOSS = 7, /* permille; with more of it nothing is quick for sure */
    PIPES_MAX = 2 * 2 * RELAY_SPARE_PIPES, /* ends that a broker of two threads keeps */
    MEMORY_SEEDS = 32,
    MEMORY_PORTAL_SEEDS = 8,
    ERRAND_SEEDS = 4,
    ENTER_S = 60, /* tries of a person, with pauses */
    MEMORY_ROUNDS = 24,
    MEMORY_LEVEL = 2, /* rounds without growth: nothing leaks, it only settles */
    MEMORY_EACH = 64, /* bytes: less is no object */
};

struct play {
    const struct scene *scene;
    struct rig rig;
    struct guard guard;
    struct daemon daemon;
    struct asker asker; /* of the clock, where there is an `up` */
    struct visitors visitors;
    unsigned ended; /* the portal, or what goes through it, so often */
    struct stream {
        struct talker talker;
        unsigned begun;
        size_t got;
        uint64_t began_us, longest_us;
    } streams[1 + SCENE_OTHERS];
    unsigned broken; /* streams of each may have been, so often */
    struct program stranger, liar, command, others[SCENE_OTHERS];
    unsigned tries, used;
    bool is_trying, lies;
    char strange[SCRATCH_LEN + 16], lying[SCRATCH_LEN + 16];
};

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

/* ---------------------------------------------------------------------- the stream */

static unsigned stream_count(const struct play *p)
{
    return 1 + p->scene->others;
}

/* Beside an `up` they are programs of its device. */
static void state_of_other(const struct play *p, unsigned i,
                           char out[static SCRATCH_LEN + 16])
{
    if (p->scene->up)
        memcpy(out, p->rig.state[2], SCRATCH_LEN + 16);
    else
        (void)snprintf(out, SCRATCH_LEN + 16, "%s/other%u", p->rig.dir, i);
}

static bool is_visitor(const struct play *p, const struct stream *st)
{
    return p->scene->portal && st == &p->streams[1];
}

/* The command whose stream it is, where each has one. */
static struct program *command_of(struct play *p, const struct stream *st)
{
    size_t which = (size_t)(st - p->streams);
    return which > 0 && p->scene->nc ? &p->others[which - 1] : NULL;
}

static void begin_stream(struct play *p, struct stream *st)
{
    unsigned which = (unsigned)(st - p->streams);
    struct machine *m = p->rig.town->client.machine;
    struct program *nc = command_of(p, st);
    char state[SCRATCH_LEN + 16];
    st->talker = (struct talker){.port = (uint16_t)(LOCAL_PORT + which * OTHER_PORTS),
                                 .seed = p->scene->seed + st->begun + which * 1000,
                                 .bytes = p->scene->bytes - st->got,
                                 .pause_ms = p->scene->pause_ms};
    if (which == 0 && p->scene->up) {
        st->talker.ip = p->daemon.ip;
        st->talker.port = p->daemon.port;
    }
    st->begun++;
    st->began_us = house_now_us(p->rig.town->house);
    rig_check(&p->rig, st->begun <= STREAMS_MAX, "stream after stream breaks");
    if (nc != NULL) {
        state_of_other(p, which - 1, state);
        st->talker.fd = program_start_piped(nc, m, state, "nc home echo");
    }
    if (p->scene->socks && which > 0) {
        st->talker.host = "home";
        st->talker.service = ECHO_PORT;
    }
    if (is_visitor(p, st))
        visitors_talk(&p->visitors, &st->talker);
    else
        talker_start(&st->talker, m);
}

/* It ends by itself, and says how. (An `up` that is killed when all has come may take
 * with it the word that it has: its nc cannot know.) */
static void end_command(struct play *p, struct program *nc, bool fine)
{
    rig_await_end(&p->rig, nc, SECONDS(30));
    bool unsure = fine && p->scene->up && p->rig.crashes > 0;
    rig_check(&p->rig, unsure || fine == (nc->result == 0),
              "nc ended with %d (%s), its stream %s", nc->result, nc->fault.what,
              fine ? "in order" : "before its end");
    program_exit(nc, p->rig.town->client.machine);
}

static void begin_streams(struct play *p)
{
    for (unsigned i = 0; i < stream_count(p); i++)
        begin_stream(p, &p->streams[i]);
}

static bool is_of_disk(enum fault_kind kind) /* nothing waits for it */
{
    return kind >= FAULT_DISK_HOST && kind <= FAULT_DISK_BROKER;
}

static uint64_t patience(const struct scene *s)
{
    uint64_t us = PATIENCE_US;
    for (unsigned i = 0; i < s->fault_count; i++)
        if (scene_has_fault(s, i) && s->faults[i].kind >= FAULT_CABLE_CLIENT &&
            s->faults[i].kind <= FAULT_UP_HANGS && !is_of_disk(s->faults[i].kind))
            us += s->faults[i].lasts_us;
    return us;
}

/* How long a stream is sure to wait for the host's first word. */
static uint64_t wait_of_us(struct play *p, const struct stream *st)
{
    const struct program *nc = command_of(p, st);
    if (nc != NULL)
        return nc->fault.code == POSTERN_ERR_UNREACHABLE ? OFFLINE_US : BROKER_US;
    return p->scene->up && st != p->streams ? LOCAL_US : ANSWER_US;
}

/* Nothing ever came, and the network was away for most of that time. */
static bool went_unanswered(struct play *p, const struct stream *st)
{
    uint64_t limit_us = wait_of_us(p, st);
    uint64_t now_us = house_now_us(p->rig.town->house);
    return st->talker.got == 0 && now_us - st->began_us >= limit_us &&
           patience(p->scene) - PATIENCE_US + SECONDS(5) >= limit_us;
}

/* It is over: it ended as it should, or another one begins. True: it ended. */
static bool end_stream(struct play *p, struct stream *st)
{
    struct talker *t = &st->talker;
    struct program *nc = command_of(p, st);
    (void)task_join(t->task);
    if (nc != NULL)
        end_command(p, nc, t->error == 0);
    st->longest_us = t->longest_us > st->longest_us ? t->longest_us : st->longest_us;
    if (t->error != 0 && went_unanswered(p, st))
        p->broken++; /* and what comes after it may meet the next fault unanswered */
    rig_check(&p->rig,
              t->error == 0 || p->broken > 0 || (is_visitor(p, st) && p->ended > 0),
              "stream %td broke after %zu of %zu bytes: %s", st - p->streams, t->got,
              t->bytes, strerror(t->error));
    rig_check(&p->rig, t->longest_us <= patience(p->scene), "silence of %.1f s",
              (double)t->longest_us / 1e6);
    if (t->error == 0) {
        rig_check(&p->rig, t->got == t->bytes, "%zu of %zu bytes", t->got, t->bytes);
        return true;
    }
    st->got += t->got < t->bytes ? t->got : t->bytes - 1;
    begin_stream(p, st);
    return false;
}

static void stranger_tries(struct play *p);

/* The world goes on for so long. */
static void pass(struct play *p, uint64_t us)
{
    uint64_t end = house_now_us(p->rig.town->house) + us;
    stranger_tries(p);
    if (p->scene->portal)
        visitors_intrude(&p->visitors);
    (void)house_run(p->rig.town->house, us, NULL, NULL);
    for (unsigned i = 0; i < stream_count(p); i++) {
        struct stream *st = &p->streams[i];
        while (task_is_over(st->talker.task) && st->talker.error != 0 &&
               !end_stream(p, st) && house_now_us(p->rig.town->house) < end)
            ;
    }
}

static void finish_stream(struct play *p, struct stream *st)
{
    struct talker *t = &st->talker;
    do {
        bool over = house_run(p->rig.town->house, SECONDS(900), is_over, t->task);
        rig_check(&p->rig, over,
                  "stream %td neither ends nor goes on: %zu of %zu bytes",
                  st - p->streams, t->got, t->bytes);
    } while (!end_stream(p, st));
}

static uint64_t finish_streams(struct play *p)
{
    uint64_t longest_us = 0;
    for (unsigned i = 0; i < stream_count(p); i++) {
        finish_stream(p, &p->streams[i]);
        if (p->streams[i].longest_us > longest_us)
            longest_us = p->streams[i].longest_us;
    }
    return longest_us;
}

/*
 * Whoever comes next finds the host as if nothing had been, once a host whose router
 * forgot it has had the time to notice (docs/METHODS.md: within 5 s).
 */
static void ping(struct play *p)
{
    struct program ping;
    (void)house_run(p->rig.town->house, SECONDS(10), NULL, NULL);
    program_start(&ping, p->rig.town->client.machine, p->rig.state[2],
                  "ping home --count 1");
    rig_run_to_end(&p->rig, &ping, SECONDS(60));
    rig_check(&p->rig, program_count(&ping, "pong", "home") >= 1, "no pong: %s",
              ping.text);
    program_fini(&ping);
}

/* ---------------------------------------------------------------------- the faults */

static void set_deaf(struct vnet_iface *i, bool in, bool out)
{
    i->in.loss_permille = in ? 1000 : 0;
    i->out.loss_permille = out ? 1000 : 0;
}

/* It gets no descriptor more than it has. */
static void starve(struct machine *m, const struct program *p, bool begins)
{
    m->starved = begins ? task_group(p->task) : 0;
    m->files_max = begins ? group_files(m->starved) : 0;
}

static void lasting(struct play *p, enum fault_kind kind, bool begins)
{
    struct town *t = p->rig.town;
    if (kind == FAULT_CABLE_CLIENT)
        vnet_set_down(t->client.device, begins);
    else if (kind == FAULT_OUTAGE_HOST)
        set_deaf(t->host.device, begins, begins);
    else if (kind == FAULT_OUTAGE_BROKER)
        set_deaf(t->broker->node->ifaces[0], begins, begins);
    else if (kind == FAULT_ONE_WAY_HOST)
        set_deaf(t->host.device, false, begins);
    else if (kind == FAULT_ONE_WAY_CLIENT)
        set_deaf(t->client.device, false, begins);
    else if (kind == FAULT_FILES_HOST)
        starve(t->host.machine, &p->rig.serve, begins);
    else if (kind == FAULT_FILES_CLIENT)
        starve(t->client.machine, &p->rig.connect, begins);
    else if (kind == FAULT_FILES_BROKER)
        starve(t->broker, &p->rig.broker, begins);
    else if (kind == FAULT_DISK_HOST)
        t->host.machine->disk_full = begins;
    else if (kind == FAULT_DISK_CLIENT)
        t->client.machine->disk_full = begins;
    else if (kind == FAULT_DISK_BROKER)
        t->broker->disk_full = begins;
    else if (kind == FAULT_UP_HANGS)
        daemon_hang(&p->daemon, begins);
}

static void flush(struct town_home *a, struct town_home *b)
{
    town_flush(a);
    town_flush(b);
}

static void restart_host(struct play *p, uint64_t after_us)
{
    p->broken++;
    guard_host_ends(&p->guard);
    rig_restart_host(&p->rig, after_us);
}

/* With its portal, and all logins. */
static void restart_broker(struct play *p, uint64_t after_us)
{
    p->ended++;
    rig_restart_broker(&p->rig, after_us);
}

/* All that a program needs to begin is there already. */
static void begin_on_full_disk(struct play *p, enum fault_kind kind)
{
    if (kind == FAULT_DISK_HOST)
        restart_host(p, 0);
    else if (kind == FAULT_DISK_BROKER)
        restart_broker(p, 0);
    else if (kind == FAULT_DISK_CLIENT)
        ping(p);
}

/* Nothing comes from the host while it lasts. (One that hears nothing still says what
 * it said before, again and again.) */
static bool cuts_off(enum fault_kind kind)
{
    return kind == FAULT_CABLE_CLIENT || kind == FAULT_OUTAGE_HOST ||
           kind == FAULT_ONE_WAY_HOST;
}

static bool is_of_up(enum fault_kind kind)
{
    return kind >= FAULT_UP_HANGS && kind <= FAULT_UP_CRASHES;
}

/* Commands that it carries end with it, and so do streams. */
static void renew_up(struct play *p, const struct scene_fault *f)
{
    p->broken++;
    if (f->kind == FAULT_UP_RESTARTS)
        daemon_restart(&p->daemon, f->lasts_us);
    else
        daemon_crash(&p->daemon, f->lasts_us);
}

static void look_at_up(struct play *p, bool away)
{
    if (p->scene->up)
        daemon_look(&p->daemon, &p->streams[0].talker, away);
}

static bool lets_punch(const struct nat_config *c)
{
    return !c->blocks_udp && c->mapping == NAT_MAPPING_ENDPOINT_INDEPENDENT;
}

static bool is_direct(void *ctx);

/* The longest silence of the first stream, while the homes do not reach each other. */
static uint64_t set_apart(struct play *p, uint64_t us)
{
    struct talker *t = &p->streams[0].talker;
    uint64_t before_us = t->longest_us;
    t->longest_us = 0;
    p->rig.town->internet->apart = true;
    pass(p, us);
    p->rig.town->internet->apart = false;
    uint64_t longest_us = t->longest_us, still_us = house_now_us(p->rig.town->house);
    still_us -= t->last_us < still_us ? t->last_us : still_us;
    if (longest_us < before_us)
        t->longest_us = before_us;
    return longest_us > still_us ? longest_us : still_us;
}

/* By the times of docs/PROTOCOL.md#probes: a doubt, its patience and what another path
 * gets before it is moved to; and some round trips. */
static uint64_t move_us(const struct scene *s)
{
    return SECONDS(1) + 17 * s->wire.delay_us;
}

/*
 * As if a network between the two failed: the session moves to the relay as soon as it
 * owes an answer on its direct path, and does not wait until that counts as dead. The
 * quickest of a few times counts: what is lost just then makes any of them slower.
 */
static void part_and_join(struct play *p, uint64_t us)
{
    struct house *h = p->rig.town->house;
    struct talker *t = &p->streams[0].talker;
    uint64_t quickest_us = UINT64_MAX;
    unsigned times = 0;
    if (!lets_punch(&p->scene->host_nat) || !lets_punch(&p->scene->client_nat))
        return; /* what stands in the midst of a TCP stream is waited for longer */
    for (unsigned i = 0; i < APART_TIMES; i++) {
        bool direct = house_run(h, SECONDS(20), is_direct, p);
        pass(p, SECONDS(2));
        if (!direct || !is_direct(p) || task_is_over(t->task))
            continue;
        uint64_t longest_us = set_apart(p, us);
        if (task_is_over(t->task))
            return;
        quickest_us = longest_us < quickest_us ? longest_us : quickest_us;
        times++;
    }
    rig_check(&p->rig,
              times < APART_TIMES || p->scene->wire.loss_permille > QUICK_LOSS ||
                  quickest_us <= move_us(p->scene),
              "%.2f s at least until the relay took over, not %.2f",
              (double)quickest_us / 1e6, (double)move_us(p->scene) / 1e6);
}

/*
 * The host's router is back before its wireless network is. What it answers the broker,
 * who has something for the host just then, is a reset: the broker tells the host's
 * clients that its connection broke. Then the broker is away as well, and nobody can
 * say that the host has ended: sessions wait for it.
 */
static void restart_without_wifi(struct play *p, const struct scene_fault *f)
{
    struct rig *r = &p->rig;
    struct town *t = r->town;
    guard_another(&p->guard);
    program_start(&p->command, t->client.machine, r->state[2], "ping home --count 1");
    pass(p, f->call_us);
    flush(&t->host, &t->inn);
    set_deaf(t->host.device, true, true);
    pass(p, SECONDS(1) + f->call_us);
    restart_broker(p, f->lasts_us);
    set_deaf(t->host.device, false, false);
    pass(p, PATIENCE_US); /* the host's next try may come so late */
    rig_await_end(r, &p->command, COMMAND_US);
    program_fini(&p->command);
}

/* What is over at once. False: it is none of these. */
static bool strike_network(struct play *p, const struct scene_fault *f)
{
    struct town *t = p->rig.town;
    switch (f->kind) {
    case FAULT_ROAM:
        town_roam(t);
        return true;
    case FAULT_HOST_ROAM:
        town_host_roams(t);
        return true;
    case FAULT_FLUSH_HOST:
        flush(&t->host, &t->inn);
        return true;
    case FAULT_FLUSH_BOTH:
        flush(&t->host, &t->inn);
        flush(&t->client, &t->cafe);
        return true;
    case FAULT_FLUSH_CLIENT:
        flush(&t->client, &t->cafe);
        return true;
    case FAULT_CLOCK:
        house_jump(t->house, f->lasts_us % 2 == 0 ? (int64_t)JUMP_S * 1000000
                                                  : -(int64_t)JUMP_S * 1000000);
        return true;
    default:
        return false;
    }
}

static void strike(struct play *p, const struct scene_fault *f)
{
    struct town *t = p->rig.town;
    if (strike_network(p, f))
        return;
    switch (f->kind) {
    case FAULT_IDLE:
        p->ended += f->lasts_us >= IDLE_US;
        p->asker.silent_us = house_now_us(t->house) + f->lasts_us;
        for (unsigned i = 0; i < stream_count(p); i++)
            p->streams[i].talker.silent_us = house_now_us(t->house) + f->lasts_us;
        pass(p, f->lasts_us);
        return;
    case FAULT_APART:
        part_and_join(p, f->lasts_us);
        return;
    case FAULT_BROKER_AWAY:
        flush(&t->host, &t->inn);
        pass(p, f->lasts_us % SECONDS(2));
        rig_restart_broker(&p->rig, f->lasts_us);
        pass(p, PATIENCE_US); /* the host's next try may come so late */
        return;
    case FAULT_WIFI_AWAY:
        restart_without_wifi(p, f);
        return;
    case FAULT_BROKER_RESTARTS:
        restart_broker(p, f->lasts_us);
        return;
    case FAULT_HOST_RESTARTS:
        restart_host(p, f->lasts_us);
        return;
    case FAULT_HOST_CRASHES:
        p->broken++;
        guard_host_ends(&p->guard);
        rig_crash_host(&p->rig, f->lasts_us);
        return;
    case FAULT_UP_RESTARTS:
    case FAULT_UP_CRASHES:
        renew_up(p, f);
        return;
    default:
        lasting(p, f->kind, true);
        begin_on_full_disk(p, f->kind);
        pass(p, f->lasts_us);
        /* (While the client is not heard, what still comes from the host is no answer.)
         */
        if (f->kind < FAULT_ONE_WAY_CLIENT)
            look_at_up(p, cuts_off(f->kind));
        lasting(p, f->kind, false);
    }
}

/*
 * Somebody begins a command, and just then it happens. What was said to a connection
 * that is a hole from then on is said again: by the relay, and where there is none, by
 * the introduction itself.
 */
static void strike_under_command(struct play *p, const struct scene_fault *f)
{
    struct rig *r = &p->rig;
    bool unrelayed = f->unrelayed && lets_punch(&p->scene->host_nat) &&
                     lets_punch(&p->scene->client_nat);
    guard_another(&p->guard);
    program_start(&p->command, r->town->client.machine, r->state[2],
                  "ping home --count 1%s", unrelayed ? " --paths udp-punch" : "");
    pass(p, f->call_us);
    strike(p, f);
    /* A device that moves has more to do than to notice a hole. */
    bool quick = p->scene->wire.loss_permille <= QUICK_LOSS &&
                 (f->kind == FAULT_FLUSH_HOST || f->kind == FAULT_FLUSH_CLIENT);
    (void)house_run(r->town->house, quick ? COMMAND_US : 2 * COMMAND_US, is_over,
                    p->command.task);
    rig_check(r, task_is_over(p->command.task), "a new command waits for too long: %s",
              p->command.text);
    /* A broker that missed the host first says so, and that ends the command. */
    rig_check(
        r, p->command.result == 0 || p->command.fault.code == POSTERN_ERR_UNREACHABLE,
        "a new command failed: %s", p->command.fault.what);
    program_fini(&p->command);
}

/* -------------------------------------------------------------- strangers and liars */

/* A device that has all that the client has but its key. */
static void invite_stranger(struct play *p)
{
    struct rig *r = &p->rig;
    struct program keys;
    char text[PROGRAM_FIELD];
    uint8_t key[KEY_LEN];
    (void)snprintf(p->strange, sizeof(p->strange), "%s/stranger", r->dir);
    program_start(&keys, r->town->stranger, p->strange, "keys");
    rig_run_to_end(r, &keys, SECONDS(10));
    rig_check(r, program_said(&keys, "key", "key", text) && key_parse(key, text) == 0,
              "no key: %s", keys.text);
    program_fini(&keys);
    rig_copy_state(r, r->state[2], p->strange, "book.db");
    guard_stranger(&p->guard, key);
}

static void end_try(struct play *p)
{
    rig_check(&p->rig, p->stranger.result != 0, "a stranger came in: %s",
              p->stranger.text);
    program_fini(&p->stranger);
    p->is_trying = false;
}

/* One command after the other, one for each time that passes. */
static void stranger_tries(struct play *p)
{
    struct machine *m = p->rig.town->stranger;
    if (!p->scene->stranger || (p->is_trying && !task_is_over(p->stranger.task)))
        return;
    if (p->is_trying)
        end_try(p);
    p->is_trying = true;
    switch (p->tries++ % 3) {
    case 0:
        program_start(&p->stranger, m, p->strange, "ping home --count 1");
        break;
    case 1:
        program_start(&p->stranger, m, p->strange, "connect home:echo 127.0.0.1:9001");
        break;
    default:
        program_start(&p->stranger, m, p->strange, "join %s", p->rig.used_invite);
    }
}

static void send_stranger_away(struct play *p)
{
    if (!p->is_trying)
        return;
    rig_await_end(&p->rig, &p->stranger, SECONDS(200));
    end_try(p);
}

/* It is on the list, and stays connected. */
static void invite_liar(struct play *p)
{
    struct rig *r = &p->rig;
    char link[PROGRAM_FIELD];
    (void)snprintf(p->lying, sizeof(p->lying), "%s/liar", r->dir);
    rig_invite(r, link);
    guard_liar(r->town->liar);
    program_start(&p->liar, r->town->liar, p->lying, "join %s", link);
    rig_run_to_end(r, &p->liar, SECONDS(120));
    program_fini(&p->liar);
    program_start(&p->liar, r->town->liar, p->lying,
                  "connect home:echo 127.0.0.1:9002");
    p->lies = true;
}

static void send_liar_away(struct play *p)
{
    if (p->lies)
        rig_stop(&p->rig, p->rig.town->liar, &p->liar);
    p->lies = false;
}

static void connect_other(struct play *p, unsigned i, const char *state)
{
    char unused[PROGRAM_FIELD];
    program_start(&p->others[i], p->rig.town->client.machine, state,
                  p->scene->socks ? "socks --listen 127.0.0.1:%u"
                                  : "connect home:echo 127.0.0.1:%u",
                  LOCAL_PORT + (i + 1) * OTHER_PORTS);
    rig_await(&p->rig, &p->others[i], "ready", NULL, unused, SECONDS(60));
}

/* More devices of the same person, each with its own key and session. */
static void connect_others(struct play *p)
{
    struct rig *r = &p->rig;
    struct machine *m = r->town->client.machine;
    char link[PROGRAM_FIELD], state[SCRATCH_LEN + 16];
    for (unsigned i = 0; i < p->scene->others; i++) {
        struct program *other = &p->others[i];
        if (p->scene->portal) { /* a person without a device */
            guard_another(&p->guard);
            continue;
        }
        state_of_other(p, i, state);
        guard_another(&p->guard);
        if (p->scene->up) {
            if (!p->scene->nc)
                connect_other(p, i, state);
            continue;
        }
        rig_invite(r, link);
        program_start(other, m, state, "join %s", link);
        rig_run_to_end(r, other, SECONDS(60));
        program_fini(other);
        if (!p->scene->nc)
            connect_other(p, i, state);
    }
}

/* With the client, whose machine they share. */
static void disconnect(struct play *p)
{
    rig_disconnect(&p->rig);
    for (unsigned i = 0; i < p->scene->others && !p->scene->nc && !p->scene->portal;
         i++) {
        rig_run_to_end(&p->rig, &p->others[i], SECONDS(10));
        program_fini(&p->others[i]);
    }
}

/* ---------------------------------------------------------- what must be as before */

/* What runs and is open once nobody is connected and time has passed. */
static void measure(struct play *p, struct house_level *l)
{
    (void)house_run(p->rig.town->house, SECONDS(SETTLE_S), NULL, NULL);
    house_level(p->rig.town->house, l);
    uint64_t turns = house_turns(p->rig.town->house);
    (void)house_run(p->rig.town->house, SECONDS(CALM_S), NULL, NULL);
    l->turns = house_turns(p->rig.town->house) - turns;
}

static void compare(struct play *p, const struct house_level *was,
                    const struct house_level *is)
{
    for (unsigned i = 0; i < is->count; i++) {
        const struct house_level_of *a = &was->of[i], *b = &is->of[i];
        rig_check(
            &p->rig,
            b->files <= a->files && b->sockets <= a->sockets && b->loops <= a->loops,
            "%s has %zu descriptors, %zu sockets and %zu loops, and had %zu, %zu "
            "and %zu",
            b->name, b->files, b->sockets, b->loops, a->files, a->sockets, a->loops);
    }
    rig_check(&p->rig, is->turns <= was->turns + was->turns / 2 + 1000,
              "%llu turns without anybody, after %llu before",
              (unsigned long long)is->turns, (unsigned long long)was->turns);
}

/* ------------------------------------------------------------------------ its path */

static bool is_direct(void *ctx)
{
    struct play *p = ctx;
    char kind[PROGRAM_FIELD] = "";
    return program_said_last(&p->rig.connect, "path", "kind", kind) &&
           strcmp(kind, "relay") != 0;
}

/* Where both NATs let UDP through by the book, no relay carries it in the end. */
static void await_direct(struct play *p)
{
    if (!lets_punch(&p->scene->host_nat) || !lets_punch(&p->scene->client_nat))
        return;
    rig_check(&p->rig, house_run(p->rig.town->house, SECONDS(DIRECT_S), is_direct, p),
              "no direct path is used, and nothing stands in its way");
}

/*
 * One command after the other leaves nothing in memory, of the broker's and the host's
 * neither: what is kept for later use stops to grow, what leaks grows each time. Not
 * each seed looks, since each would see the same.
 */
static void look_at_memory(struct play *p, void (*command)(struct play *p))
{
    size_t before = mallinfo2().uordblks, first = before;
    unsigned level = 0, rounds = 0;
    while (level < MEMORY_LEVEL && rounds < MEMORY_ROUNDS) {
        command(p);
        (void)house_run(p->rig.town->house, SECONDS(SETTLE_S), NULL, NULL);
        size_t after = mallinfo2().uordblks;
        level += after <= before + MEMORY_EACH;
        before = after;
        rounds++;
    }
    rig_check(&p->rig, level == MEMORY_LEVEL, "%zu bytes more after %u commands",
              before - first, rounds);
}

/* ------------------------------------------------------------------------- the play */

static void on_town(void *ctx, struct rig *r)
{
    struct play *p = ctx;
    guard_begin(&p->guard, r);
}

static void open_play(struct play *p, const struct scene *s)
{
    struct rig_config c = {.town = {.seed = s->seed,
                                    .host_nat = &s->host_nat,
                                    .client_nat = &s->client_nat,
                                    .wire = &s->wire,
                                    .carrier = s->carrier,
                                    .six = s->six},
                           .portal = s->portal ? PORTAL_PEM : NULL,
                           .on_town = on_town,
                           .ctx = p};
    p->scene = s;
    rig_init(&p->rig, &c);
    if (s->stranger)
        invite_stranger(p);
    if (s->liar)
        invite_liar(p);
    if (s->portal) {
        visitors_begin(&p->visitors, &p->rig);
        errands_owner_begin(&p->rig);
    }
}

static void on_away(void *ctx)
{
    look_at_up(ctx, true);
}

static void connect_all(struct play *p)
{
    if (p->scene->up) {
        daemon_start(&p->daemon, &p->rig);
        p->rig.on_away = on_away;
        p->rig.on_away_ctx = p;
        p->asker = (struct asker){.ip = p->daemon.ip, .port = p->daemon.clock};
        asker_start(&p->asker, p->rig.town->client.machine);
    } else {
        rig_connect(&p->rig);
    }
    connect_others(p);
}

/* The portal's session to the host heals as a client's, and it lets in whom it knows.
 */
static void see_visitors_off(struct play *p)
{
    rig_check(&p->rig, p->visitors.longest_us <= patience(p->scene) + SECONDS(ENTER_S),
              "it took a visitor %.1f s to get in",
              (double)p->visitors.longest_us / 1e6);
    visitors_end(&p->visitors, p->scene->seed % 4 == 0);
}

static void use_portal(struct play *p)
{
    visitors_use(&p->visitors);
}

static bool is_answered(void *ctx)
{
    const struct asker *a = ctx;
    return a->answered_us + SECONDS(1) > house_now_us(house_now());
}

/* Its packets may be lost; what comes is an answer, and the next one soon comes. */
static void look_at_asker(struct play *p)
{
    struct asker *a = &p->asker;
    rig_check(&p->rig, house_run(p->rig.town->house, SECONDS(10), is_answered, a),
              "no answer over UDP, after %u of %u", a->answered, a->asked);
    rig_check(&p->rig, a->wrong == 0, "%u packets over UDP that nobody asked for",
              a->wrong);
    a->stop = true;
    (void)house_run(p->rig.town->house, SECONDS(2), is_over, a->task);
    (void)task_join(a->task);
}

/* Its streams are over, and commands go on to use it. */
static void look_back_at_up(struct play *p)
{
    look_at_asker(p);
    daemon_expect_online(&p->daemon);
    daemon_use(&p->daemon);
    p->used++;
}

static bool all_heard(void *ctx)
{
    const struct play *p = ctx;
    for (unsigned i = 0; i < stream_count(p); i++)
        if (p->streams[i].talker.got == 0)
            return false;
    return true;
}

/* The commands of its device need no session of their own; a portal has one. */
static void look_at_sessions(struct play *p)
{
    unsigned sessions = 1u + p->scene->portal + p->lies;
    if (!p->scene->up && !p->scene->portal)
        return;
    rig_check(&p->rig, house_run(p->rig.town->house, SECONDS(30), all_heard, p),
              "not every stream begins");
    rig_check(&p->rig, p->guard.guests == sessions,
              "the host has %u sessions, and %u carry all streams", p->guard.guests,
              sessions);
}

/* Not each seed: each would see the same. */
static void go_errands(struct play *p)
{
    if (p->scene->portal) {
        guard_another(&p->guard);
        errands_owner(&p->rig);
        p->used++;
    } else if (p->scene->seed % ERRAND_SEEDS == 0) {
        guard_another(&p->guard);
        guard_another(&p->guard);
        errands_refusals(&p->rig);
    } else if (p->scene->seed % ERRAND_SEEDS == 2) {
        guard_another(&p->guard);
        rebuffs_of_broker(&p->rig);
        rebuffs_of_office(&p->rig);
    }
}

struct outcome faults_play(const struct scene *s)
{
    static struct play memory; /* large */
    struct play *p = &memory;
    struct house_level before, after;
    *p = (struct play){0};
    open_play(p, s);
    if (!s->liar)
        measure(p, &before);
    connect_all(p);
    begin_streams(p);
    look_at_sessions(p);
    for (unsigned i = 0; i < s->fault_count; i++) {
        pass(p, s->faults[i].after_us);
        look_at_up(p, false);
        if (scene_has_fault(s, i) && s->faults[i].call_us > 0 &&
            s->faults[i].kind != FAULT_WIFI_AWAY)
            strike_under_command(p, &s->faults[i]);
        else if (scene_has_fault(s, i) && (s->up || !is_of_up(s->faults[i].kind)))
            strike(p, &s->faults[i]);
    }
    uint64_t longest_us = finish_streams(p);
    await_direct(p);
    ping(p);
    if (s->up)
        look_back_at_up(p);
    send_stranger_away(p);
    go_errands(p);
    if (s->portal)
        see_visitors_off(p);
    disconnect(p);
    send_liar_away(p);
    if (!s->liar) {
        measure(p, &after);
        compare(p, &before, &after);
    }
    if (s->portal && s->seed % MEMORY_PORTAL_SEEDS == 0)
        look_at_memory(p, use_portal);
    else if (s->seed % MEMORY_SEEDS == 0)
        look_at_memory(p, ping);
    unsigned begun = p->used + p->visitors.talks;
    for (unsigned i = 0; i < stream_count(p); i++)
        begun += p->streams[i].begun;
    /* A page of the portal tells whether the service is there: that was tried. */
    unsigned reached = s->portal ? p->rig.echo.used : p->rig.echo.accepted;
    rig_check(&p->rig, reached <= begun,
              "the service was reached %u times, by %u streams", reached, begun);
    struct outcome o = {house_trace(p->rig.town->house), longest_us,
                        house_now_us(p->rig.town->house)};
    guard_end(&p->guard);
    rig_fini(&p->rig);
    return o;
}

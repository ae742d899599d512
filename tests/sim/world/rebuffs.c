/* See rebuffs.h. */
#include "rebuffs.h"

#include <signal.h>
#include <string.h>

#include "core/link.h"
#include "core/proto.h"
#include "io/channel.h"
#include "io/dial.h"
#include "io/loop.h"

enum {
    ENDS_S = 30,
    MESSAGES_MANY = 6000,     /* LIMIT_RATE_MESSAGES, and more than come in meanwhile */
    INTRODUCTIONS_MANY = 400, /* LIMIT_RATE_INTRODUCE likewise */
    QUEUE_BYTES = 1 << 20,
    ASKS_S = 7,
    UNANSWERED_S = 25, /* a service whose machine says nothing (host/race.c) */
    AGENT_PORT = 4480,
};

static bool is_over(void *ctx)
{
    return task_is_over(ctx);
}

/* ---------------------------------------------------------------------- the broker's
 */

/* What it says once the handshake is over, and what it heard. */
struct speaker {
    void (*speak)(struct speaker *s);
    struct link broker;
    struct loop *loop;
    struct channel *channel;
    struct keypair key;
    unsigned bye, refused[16];
    unsigned until; /* it leaves once it was refused so */
};

static void say(struct speaker *s, const Control *m)
{
    uint8_t buf[1024];
    int n = proto_encode_control(buf, sizeof(buf), m);
    if (n > 0)
        (void)!channel_send(s->channel, buf, (size_t)n);
}

static void say_hello(struct speaker *s, unsigned version, bool host)
{
    Control m = {.which_body = Control_hello_tag,
                 .body.hello = {.version = version, .host = host, .name = "somebody"}};
    say(s, &m);
}

static void speak_of_another_age(struct speaker *s)
{
    say_hello(s, PROTO_VERSION + 1, false);
}

static void speak_as_a_host(struct speaker *s)
{
    say_hello(s, PROTO_VERSION, true);
}

static void speak_noise(struct speaker *s)
{
    uint8_t noise[64];
    memset(noise, 0xff, sizeof(noise));
    (void)!channel_send(s->channel, noise, sizeof(noise));
}

static void speak_unasked(struct speaker *s)
{
    Control m = {.which_body = Control_ping_tag};
    say(s, &m);
}

static void speak_without_end(struct speaker *s)
{
    say_hello(s, PROTO_VERSION, false);
    for (int i = 0; i < MESSAGES_MANY; i++)
        speak_unasked(s);
}

/* Of a host that nobody knows, so that no other is troubled. */
static void speak_of_a_host(struct speaker *s)
{
    Control m = {.which_body = Control_introduce_tag};
    say_hello(s, PROTO_VERSION, false);
    memcpy(m.peer, s->key.pub, KEY_LEN);
    m.body.introduce.sealed.size = 64;
    for (int i = 0; i < INTRODUCTIONS_MANY; i++) {
        m.conv[0] = (uint8_t)i;
        m.conv[1] = (uint8_t)(i >> 8);
        say(s, &m);
    }
}

static void leave(struct speaker *s)
{
    channel_free(s->channel);
    s->channel = NULL;
    loop_stop(s->loop);
}

static void on_open(void *ctx, const uint8_t peer[static KEY_LEN])
{
    struct speaker *s = ctx;
    (void)peer;
    s->speak(s);
}

static void on_message(void *ctx, const uint8_t *msg, size_t len)
{
    struct speaker *s = ctx;
    Control m;
    if (proto_decode_control(&m, msg, len) != 0)
        return;
    if (m.which_body == Control_bye_tag)
        s->bye = m.body.bye.code;
    else if (m.which_body == Control_refuse_tag && m.body.refuse.code < 16)
        s->refused[m.body.refuse.code]++;
    if (s->until != 0 && s->refused[s->until] > 0)
        leave(s);
}

static void on_close(void *ctx, int err, const char *why)
{
    (void)err, (void)why;
    leave(ctx);
}

static const struct channel_events events = {on_open, on_message, on_close};

static void on_dialled(void *ctx, int err, int fd)
{
    struct speaker *s = ctx;
    struct channel_config c = {.loop = s->loop,
                               .own = &s->key,
                               .events = &events,
                               .ctx = s,
                               .queue_max_bytes = QUEUE_BYTES};
    if (err != 0 || channel_new_client(&s->channel, &c, fd, s->broker.broker_key) != 0)
        loop_stop(s->loop);
}

static void *run_speaker(void *arg)
{
    struct speaker *s = arg;
    struct dial *d;
    if (loop_open(&s->loop) != 0)
        return NULL;
    if (dial_start_name(&d, s->loop, s->broker.host, s->broker.port, ENDS_S * 1000,
                        on_dialled, s) == 0)
        loop_run(s->loop);
    loop_close(s->loop);
    return NULL;
}

void rebuffs_of_broker(struct rig *r)
{
    static const struct {
        void (*speak)(struct speaker *s);
        unsigned bye, refused;
    } cases[] = {
        {speak_of_another_age, BYE_VERSION, 0}, {speak_as_a_host, BYE_TOKEN, 0},
        {speak_noise, BYE_PROTOCOL, 0},         {speak_unasked, BYE_PROTOCOL, 0},
        {speak_without_end, BYE_BUSY, 0},       {speak_of_a_host, 0, REFUSE_LIMIT}};
    struct fault f;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct speaker s = {.speak = cases[i].speak, .until = cases[i].refused};
        rig_check(r, link_parse(&s.broker, r->link, &f) == 0, "%s", f.what);
        uint8_t seed[KEY_LEN] = {(uint8_t)(i + 1)};
        keypair_from_seed(&s.key, seed);
        struct task *t = task_start(r->town->visitor, run_speaker, &s);
        rig_check(r, house_run(r->town->house, SECONDS(ENDS_S), is_over, t),
                  "the broker keeps speaker %zu", i);
        (void)task_join(t);
        rig_check(r, s.bye == cases[i].bye, "speaker %zu heard Bye %u, not %u", i,
                  s.bye, cases[i].bye);
        rig_check(r, cases[i].refused == 0 || s.refused[cases[i].refused] > 0,
                  "speaker %zu was not refused by %u", i, cases[i].refused);
    }
}

/* --------------------------------------------------------------------- the office's */

struct office {
    struct rig *rig;
    struct program serve, desk;
    char state[SCRATCH_LEN + 32], desk_state[SCRATCH_LEN + 32];
    char guest[SCRATCH_LEN + 32];
};

static void open_office(struct office *o)
{
    struct rig *r = o->rig;
    char unused[PROGRAM_FIELD], link[PROGRAM_FIELD];
    program_start(&o->serve, r->town->intruder, o->state,
                  "serve --broker %s --name office --agent 203.0.113.80:%d "
                  "nowhere=10.9.9.9:80 silent=203.0.113.50:80",
                  r->link, AGENT_PORT);
    rig_await(r, &o->serve, "ready", NULL, unused, SECONDS(30));
    rig_await(r, &o->serve, "agent", "link", link, SECONDS(5));
    program_start(&o->desk, r->town->visitor, o->desk_state,
                  "serve --via %s --name desk 22", link);
    rig_await(r, &o->desk, "published", NULL, unused, SECONDS(30));
}

static void enter_office(struct office *o)
{
    struct rig *r = o->rig;
    struct program p;
    char link[PROGRAM_FIELD];
    program_start(&p, r->town->intruder, o->state, "invite");
    rig_run_to_end(r, &p, SECONDS(10));
    rig_check(r, program_said(&p, "invite", "link", link), "no invite: %s", p.text);
    program_fini(&p);
    program_start(&p, r->town->client.machine, o->guest, "join %s", link);
    rig_run_to_end(r, &p, SECONDS(60));
    program_fini(&p);
}

/* It ends with those words, once the host has tried. */
static void ask_in_vain(struct office *o, const char *service, const char *why,
                        unsigned within_s)
{
    struct rig *r = o->rig;
    struct machine *m = r->town->client.machine;
    struct program nc;
    struct talker t = {.seed = 5, .bytes = 1000};
    t.fd = program_start_piped(&nc, m, o->guest, "nc office %s", service);
    talker_start(&t, m);
    rig_await_end(r, &nc, SECONDS(within_s));
    (void)house_run(r->town->house, SECONDS(1), is_over, t.task);
    (void)task_join(t.task);
    rig_check(r, nc.result != 0 && strstr(nc.fault.what, why) != NULL && t.got == 0,
              "%s: %zu bytes, and %d (%s)", service, t.got, nc.result, nc.fault.what);
    program_exit(&nc, m);
}

static void dismiss_desk(struct office *o)
{
    struct rig *r = o->rig;
    struct program p;
    char reason[PROGRAM_FIELD];
    program_start(&p, r->town->intruder, o->state, "serve --agent-forget desk");
    rig_run_to_end(r, &p, SECONDS(10));
    program_fini(&p);
    rig_await(r, &o->desk, "agent", "reason", reason, SECONDS(ASKS_S));
    rig_check(r, strstr(reason, "does not know this host") != NULL,
              "the desk heard: %s", reason);
}

void rebuffs_of_office(struct rig *r)
{
    struct office o = {.rig = r};
    struct vnet_wire *silent = &r->town->stranger->node->ifaces[0]->in;
    (void)snprintf(o.state, sizeof(o.state), "%s/office", r->dir);
    (void)snprintf(o.desk_state, sizeof(o.desk_state), "%s/desk", r->dir);
    (void)snprintf(o.guest, sizeof(o.guest), "%s/visits", r->dir);
    open_office(&o);
    enter_office(&o);
    ask_in_vain(&o, "nowhere", ": unreachable", ASKS_S);
    silent->loss_permille = 1000;
    ask_in_vain(&o, "silent", ": timed out", UNANSWERED_S);
    silent->loss_permille = 0;
    dismiss_desk(&o);
    rig_stop(r, r->town->visitor, &o.desk);
    rig_stop(r, r->town->intruder, &o.serve);
}

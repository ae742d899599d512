/* The exchange of a spoken code over a connection to the broker, as a client of it. */
#include "path/spoken_call.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "io/lack.h"
#include "io/log.h"
#include "io/loop.h"
#include "io/stop.h"
#include "path/uplink.h"
#include "path/uplink_words.h"

enum {
    AT_ONCE = 4,         /* exchanges of a giver's */
    BEGUN_MAX = 64,      /* and in all: each costs it a millisecond */
    ANSWER_MS = 15000,   /* a taker's patience */
    TELL_MS = 2500,      /* whoever waits for the broker is told so */
    TELL_NAME_MS = 1000, /* the same, where only the resolver was asked yet */
};

struct exchange {
    uint8_t peer[KEY_LEN], conv[CONV_LEN];
    struct spoken *spoken; /* NULL: free */
};

struct call {
    const struct spoken_give *give; /* NULL: it takes */
    struct spoken_code code;
    struct loop *loop;
    struct net net;
    struct uplink *uplink;
    struct timer timer, tell;
    bool tells; /* the next time it says whatever it waits for */
    bool has_code;
    struct exchange exchanges[AT_ONCE]; /* a taker has one */
    unsigned begun, wrong;
    char *gift; /* a taker's */
    int result;
    struct fault fault;
};

PRINTF_LIKE(4, 5)
static void fail(struct call *c, int err, const char *advice, const char *fmt, ...)
{
    char what[200];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    c->result = fault_set(&c->fault, err, advice, "%s", what);
    loop_stop(c->loop);
}

static void done(struct call *c)
{
    c->result = 0;
    loop_stop(c->loop);
}

static int send_packet(struct call *c, const struct exchange *x,
                       const struct spoken_packet *p)
{
    Control m = {.which_body = Control_spoken_tag};
    m.body.spoken.number = c->code.number;
    m.body.spoken.packet.size = (pb_size_t)p->len;
    memcpy(m.body.spoken.packet.bytes, p->bytes, p->len);
    memcpy(m.peer, x->peer, KEY_LEN);
    memcpy(m.conv, x->conv, CONV_LEN);
    return p->len == 0 ? 0 : uplink_send(c->uplink, &m);
}

static void drop(struct exchange *x)
{
    spoken_free(x->spoken);
    *x = (struct exchange){0};
}

static int new_exchange(struct call *c, struct exchange *x)
{
    uint8_t seed[SPOKEN_SEED_LEN];
    randombytes_buf(seed, sizeof(seed));
    int rc =
        spoken_new(&x->spoken, &c->code, c->give != NULL ? c->give->gift : NULL, seed);
    sodium_memzero(seed, sizeof(seed));
    return rc;
}

/* --------------------------------------------------------------------- giving */

static void ask_for_number(struct call *c)
{
    Control m = {.which_body = Control_spoken_tag};
    m.body.spoken.number = c->code.number;
    randombytes_buf(m.conv, CONV_LEN);
    if (uplink_send(c->uplink, &m) != 0)
        log_debug("no number could be asked for");
}

static void give_number_back(struct call *c)
{
    Control m = {.which_body = Control_spoken_tag};
    m.body.spoken.number = c->code.number;
    m.body.spoken.ends = true;
    if (c->has_code && uplink_is_up(c->uplink) && uplink_send(c->uplink, &m) != 0)
        log_debug("the number could not be given back");
}

static void on_number(struct call *c, unsigned number)
{
    uint8_t random[2];
    if (c->has_code && number == c->code.number)
        return; /* the broker was away, and knows it still or again */
    if (c->has_code || number == 0 || number > SPOKEN_NUMBER_MAX) {
        fail(c, POSTERN_ERR_CLOSED, "run this again, and tell the new code",
             "the broker began anew, and the number of the code is another's now");
        return;
    }
    randombytes_buf(random, sizeof(random));
    spoken_make(&c->code, number, random);
    memcpy(c->code.host, c->give->broker->host, sizeof(c->code.host));
    c->code.port = c->give->broker->port;
    c->has_code = true;
    c->give->on_code(c->give->ctx, &c->code);
}

/* That taker's; else a free one, else the first: it is none that has been given to, as
 * nobody else begins meanwhile. NULL: enough of them. */
static struct exchange *exchange_of(struct call *c, const Control *m)
{
    struct exchange *place = NULL;
    for (size_t i = 0; i < AT_ONCE; i++) {
        struct exchange *x = &c->exchanges[i];
        if (x->spoken == NULL)
            place = x;
        else if (memcmp(x->peer, m->peer, KEY_LEN) == 0 &&
                 memcmp(x->conv, m->conv, CONV_LEN) == 0)
            return x;
    }
    if (place == NULL)
        drop(place = &c->exchanges[c->begun % AT_ONCE]);
    if (c->begun >= BEGUN_MAX || new_exchange(c, place) != 0)
        return NULL;
    c->begun++;
    memcpy(place->peer, m->peer, KEY_LEN);
    memcpy(place->conv, m->conv, CONV_LEN);
    return place;
}

static void note_wrong(struct call *c)
{
    c->wrong++;
    c->give->on_wrong(c->give->ctx, SPOKEN_TRIES - c->wrong);
    if (c->wrong >= SPOKEN_TRIES)
        fail(c, POSTERN_ERR_DENIED, "run this again for another code",
             "three times somebody said other words: this code is worth nothing now");
}

static void give_on(struct call *c, const Control *m)
{
    const Spoken *p = &m->body.spoken;
    struct spoken_packet out;
    if (p->packet.size == 0) {
        on_number(c, p->number);
        return;
    }
    if (!c->has_code || p->number != c->code.number)
        return; /* of another command of this device */
    struct exchange *x = exchange_of(c, m);
    if (x == NULL) {
        fail(c, POSTERN_ERR_LIMIT, "run this again for another code",
             "too many devices asked for this code");
        return;
    }
    enum spoken_outcome o =
        spoken_on_packet(x->spoken, p->packet.bytes, p->packet.size, &out);
    if (send_packet(c, x, &out) != 0)
        log_debug("an answer to a code could not be sent");
    if (o == SPOKEN_GOES_ON)
        return;
    drop(x);
    if (o == SPOKEN_GIVEN)
        done(c);
    else if (o == SPOKEN_WRONG)
        note_wrong(c);
}

/* --------------------------------------------------------------------- taking */

static void begin_taking(struct call *c)
{
    struct exchange *x = &c->exchanges[0];
    struct spoken_packet out;
    drop(x);
    randombytes_buf(x->conv, CONV_LEN);
    if (new_exchange(c, x) != 0 || spoken_begin(x->spoken, &out) != 0)
        fail(c, POSTERN_ERR_NOMEM, "end other programs", "there is no memory left");
    else if (send_packet(c, x, &out) != 0)
        log_debug("the code could not be sent");
}

static void take_refusal(struct call *c, const Refuse *r)
{
    if (r->code == REFUSE_OFFLINE)
        fail(c, POSTERN_ERR_NOTFOUND,
             "let it be said once more; 'postern invite --code' must still run there",
             "nobody waits with the number %u at %.100s", c->code.number, c->code.host);
    else
        fail(c, POSTERN_ERR_LIMIT, "try again in a minute",
             "the broker refuses: %.100s", r->reason);
}

static void take_on(struct call *c, const Control *m)
{
    struct exchange *x = &c->exchanges[0];
    const Spoken *p = &m->body.spoken;
    struct spoken_packet out;
    if (x->spoken == NULL || memcmp(x->conv, m->conv, CONV_LEN) != 0 ||
        p->packet.size == 0)
        return;
    enum spoken_outcome o =
        spoken_on_packet(x->spoken, p->packet.bytes, p->packet.size, &out);
    if (send_packet(c, x, &out) != 0)
        log_debug("an answer could not be sent");
    if (o == SPOKEN_GIVEN) {
        (void)snprintf(c->gift, LINK_TEXT_LEN, "%s", spoken_gift(x->spoken));
        done(c);
    } else if (o == SPOKEN_WRONG) {
        fail(c, POSTERN_ERR_DENIED,
             "let it be said once more: three wrong tries end a code",
             "the words are not those that the other side shows");
    } else if (o == SPOKEN_BAD) {
        fail(c, POSTERN_ERR_PROTO,
             "compare the code; if it is right, somebody stands in between",
             "the answer to the code is not genuine");
    }
}

/* ----------------------------------------------------------------------- both */

static void on_up(void *ctx)
{
    struct call *c = ctx;
    if (!uplink_takes_spoken(c->uplink))
        fail(c, POSTERN_ERR_PROTO, "let its owner update it, or use the link",
             "the broker at %.100s is older than spoken codes", c->code.host);
    else if (c->give != NULL)
        ask_for_number(c);
    else
        begin_taking(c);
}

/* A giver that has told its code waits for the broker to come back. */
static void on_down(void *ctx, const struct fault *why, unsigned retry_ms, bool fatal)
{
    struct call *c = ctx;
    (void)retry_ms;
    if (c->has_code && !fatal) {
        log_fault(LOG_LEVEL_WARN, why);
        return;
    }
    c->fault = *why;
    c->result = why->code;
    loop_stop(c->loop);
}

static void on_control(void *ctx, const Control *m)
{
    struct call *c = ctx;
    if (m->which_body == Control_spoken_tag && c->give != NULL)
        give_on(c, m);
    else if (m->which_body == Control_spoken_tag)
        take_on(c, m);
    else if (m->which_body == Control_refuse_tag && c->give == NULL)
        take_refusal(c, &m->body.refuse);
    else if (m->which_body == Control_refuse_tag && !c->has_code)
        fail(c, POSTERN_ERR_DENIED, "use the link that 'postern invite' prints",
             "the broker gives no number: %.100s", m->body.refuse.reason);
}

static void on_late(void *ctx)
{
    struct call *c = ctx;
    if (c->give != NULL)
        fail(c, POSTERN_ERR_TIMEOUT, "run this again for another code",
             "nobody has used the code in time");
    else
        fail(c, POSTERN_ERR_TIMEOUT,
             "'postern invite --code' must still run on the other side; try again",
             "no answer came to the code");
}

/* Once; what comes of it is said when it is known. */
static void on_tell(void *ctx)
{
    struct call *c = ctx;
    char why[200];
    if (!c->tells && uplink_name(c->uplink) != UPLINK_NAME_ASKED) {
        timer_start(&c->tell, TELL_MS - TELL_NAME_MS);
        c->tells = true;
        return;
    }
    if (uplink_is_up(c->uplink)) {
        if (c->give == NULL)
            log_warn("waiting: the broker at %.100s has the code; the other side does "
                     "not answer yet",
                     c->code.host);
        return;
    }
    uplink_describe_wait(c->uplink, why, sizeof(why));
    log_warn("waiting: %s", why);
}

static void on_stop(void *ctx, int signum)
{
    struct call *c = ctx;
    (void)signum;
    fail(c, POSTERN_ERR_CLOSED, "run this again for another code",
         "ended before the code was used");
}

static int run(struct call *c, const struct link *broker, const struct keypair *own,
               unsigned limit_ms, struct fault *f)
{
    static const struct uplink_events events = {on_up, on_down, on_control, NULL};
    struct stop *stop = NULL;
    int rc = loop_open(&c->loop);
    if (rc != 0)
        return fault_lack(f, rc);
    rc = net_init(&c->net, c->loop, own, NULL);
    struct uplink_config uc = {.net = &c->net,
                               .broker = *broker,
                               .any_broker = c->give == NULL,
                               .name = "spoken",
                               .events = &events,
                               .ctx = c};
    if (rc == 0)
        rc = stop_open(&stop, c->loop, on_stop, c);
    if (rc == 0)
        rc = uplink_open(&c->uplink, &uc);
    if (rc == 0) {
        timer_init(&c->timer, c->loop, on_late, c);
        timer_start(&c->timer, limit_ms);
        timer_init(&c->tell, c->loop, on_tell, c);
        timer_start(&c->tell, TELL_NAME_MS);
        loop_run(c->loop);
        timer_stop(&c->tell);
        timer_stop(&c->timer);
        give_number_back(c);
        rc = c->result;
        *f = c->fault;
    } else {
        rc = fault_lack(f, rc);
    }
    stop_close(stop);
    uplink_close(c->uplink);
    for (size_t i = 0; i < AT_ONCE; i++)
        drop(&c->exchanges[i]);
    net_fini(&c->net);
    loop_run(c->loop);
    loop_close(c->loop);
    sodium_memzero(&c->code, sizeof(c->code));
    return rc;
}

int spoken_give(const struct spoken_give *g, struct fault *f)
{
    struct call c = {.give = g};
    memcpy(c.code.host, g->broker->host, sizeof(c.code.host));
    return run(&c, g->broker, g->own, g->limit_s * 1000, f);
}

int spoken_take(const struct spoken_code *code, char gift[static LINK_TEXT_LEN],
                struct fault *f)
{
    struct call c = {.code = *code, .gift = gift};
    struct link broker = {.type = LINK_BROKER, .port = code->port};
    struct keypair own;
    uint8_t seed[KEY_LEN];
    memcpy(broker.host, code->host, sizeof(broker.host));
    randombytes_buf(seed, sizeof(seed)); /* of this exchange: no name of this device */
    keypair_from_seed(&own, seed);
    int rc = run(&c, &broker, &own, ANSWER_MS, f);
    sodium_memzero(&own, sizeof(own));
    sodium_memzero(seed, sizeof(seed));
    return rc;
}

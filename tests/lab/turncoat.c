/*
 * A host that turns hostile: the real program, but that it fills the line of the client
 * which it let in last, through the broker. Linked with --wrap=uplink_open and
 * --wrap=uplink_send, and as `postern` otherwise.
 *
 * FLOOD in the environment: a file that says with what, from when it exists on. Its
 * words: `carry`, `signal`, `refuse`, `accept` (that client's introduction, again and
 * again), `reset` (a Refuse), `renew` (an Offer after which all is begun anew), each in
 * the approach by which it came; `unasked` before them: in approaches of which nobody
 * knows. And what it does with who comes while the file is there, instead of letting it
 * in: `fresh` says that it knows no such session, `back` that it was away and is here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/loop.h"
#include "path/net.h"
#include "path/offer.h"
#include "path/uplink.h"

enum { EACH_MS = 10, AT_ONCE = 8 }; /* 800 a second: the broker allows 1,000 */

int __real_uplink_open(struct uplink **out, const struct uplink_config *c);
int __wrap_uplink_open(struct uplink **out, const struct uplink_config *c);
int __real_uplink_send(struct uplink *u, const Control *m);
int __wrap_uplink_send(struct uplink *u, const Control *m);

static struct uplink *uplink;
static const struct keypair *own;
static char order[64]; /* what is in the file; empty: it is not there */
static struct timer timer;
static Control accepted;

static void renew(Control *m)
{
    static Offer o;
    static uint32_t generation = 1000;
    Signal *signal = &m->body.signal;
    o = (Offer){.generation = ++generation, .network = generation};
    memcpy(o.conv, m->conv, CONV_LEN);
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++)
        offer_name(&o, (enum path_kind)k);
    m->which_body = Control_signal_tag;
    *signal = (Signal){0};
    signal->sealed.size = (pb_size_t)offer_seal(
        signal->sealed.bytes, sizeof(signal->sealed.bytes), &o, own, m->peer);
}

static void refuse(Control *m, unsigned code)
{
    m->which_body = Control_refuse_tag;
    m->body.refuse = (Refuse){.code = code};
}

static bool is_ordered(const char *word)
{
    return strstr(order, word) != NULL;
}

static void say(void)
{
    static Control m;
    m = accepted;
    if (is_ordered("unasked"))
        randombytes_buf(m.conv, CONV_LEN);
    if (is_ordered("carry")) {
        m.which_body = Control_carry_tag;
        m.body.carry.packet.size = 1400;
    } else if (is_ordered("signal")) {
        m.which_body = Control_signal_tag;
        m.body.signal = (Signal){.sealed.size = 4090};
    } else if (is_ordered("refuse")) {
        refuse(&m, REFUSE_BACK);
    } else if (is_ordered("reset")) {
        refuse(&m, REFUSE_RESET);
    } else if (is_ordered("renew")) {
        renew(&m);
    }
    (void)!__real_uplink_send(uplink, &m);
}

static void on_timer(void *ctx)
{
    const char *name = getenv("FLOOD");
    FILE *f = name != NULL ? fopen(name, "re") : NULL;
    (void)ctx;
    if (f == NULL || fgets(order, sizeof(order), f) == NULL)
        order[0] = '\0';
    bool known = order[0] != '\0' && accepted.which_body == Control_accept_tag &&
                 uplink_is_up(uplink);
    for (int i = 0; i < AT_ONCE && known; i++)
        say();
    if (f != NULL)
        (void)fclose(f);
}

/* To who comes: begin anew. */
static int bid(const Control *m)
{
    static Control answer;
    answer = *m;
    if (is_ordered("fresh")) {
        answer.body.signal = (Signal){0};
        return offer_forgotten(&answer, own) ? __real_uplink_send(uplink, &answer) : -1;
    }
    refuse(&answer, REFUSE_OFFLINE);
    int rc = __real_uplink_send(uplink, &answer);
    refuse(&answer, REFUSE_BACK);
    return rc != 0 ? rc : __real_uplink_send(uplink, &answer);
}

int __wrap_uplink_open(struct uplink **out, const struct uplink_config *c)
{
    int rc = __real_uplink_open(out, c);
    if (rc == 0 && c->host && uplink == NULL) {
        uplink = *out;
        own = &c->net->own;
        timer_init(&timer, c->net->loop, on_timer, NULL);
        timer_every(&timer, EACH_MS, EACH_MS);
    }
    return rc;
}

int __wrap_uplink_send(struct uplink *u, const Control *m)
{
    bool bids = u == uplink && (is_ordered("fresh") || is_ordered("back"));
    bool first =
        m->which_body == Control_accept_tag || m->which_body == Control_refuse_tag;
    if (u == uplink && (m->which_body == Control_accept_tag || (bids && first))) {
        accepted = *m;
        accepted.which_body = Control_accept_tag;
    }
    if (!bids)
        return __real_uplink_send(u, m);
    return first ? bid(m) : 0;
}

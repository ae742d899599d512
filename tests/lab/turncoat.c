/*
 * A host that turns hostile: the real program, but that it fills the line of the client
 * which it let in last, through the broker. Linked with --wrap=uplink_open and
 * --wrap=uplink_send, and as `postern` otherwise.
 *
 * FLOOD in the environment: a file that says with what, from when it exists on. Its
 * words: `carry`, `signal`, `refuse`, `accept` (that client's introduction, again and
 * again), each in the approach by which it came; `unasked` before them: in approaches
 * of which nobody knows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "io/loop.h"
#include "path/net.h"
#include "path/uplink.h"

enum { EACH_MS = 10, AT_ONCE = 8 }; /* 800 a second: the broker allows 1,000 */

int __real_uplink_open(struct uplink **out, const struct uplink_config *c);
int __wrap_uplink_open(struct uplink **out, const struct uplink_config *c);
int __real_uplink_send(struct uplink *u, const Control *m);
int __wrap_uplink_send(struct uplink *u, const Control *m);

static struct uplink *uplink;
static struct timer timer;
static Control accepted;

static void say(const char *what)
{
    static Control m;
    m = accepted;
    if (strstr(what, "unasked") != NULL)
        randombytes_buf(m.conv, CONV_LEN);
    if (strstr(what, "carry") != NULL) {
        m.which_body = Control_carry_tag;
        m.body.carry.packet.size = 1400;
    } else if (strstr(what, "signal") != NULL) {
        m.which_body = Control_signal_tag;
        m.body.signal = (Signal){.sealed.size = 4090};
    } else if (strstr(what, "refuse") != NULL) {
        m.which_body = Control_refuse_tag;
        m.body.refuse = (Refuse){.code = REFUSE_BACK};
    }
    (void)!__real_uplink_send(uplink, &m);
}

static void on_timer(void *ctx)
{
    const char *name = getenv("FLOOD");
    char what[64] = "";
    FILE *f = name != NULL ? fopen(name, "re") : NULL;
    (void)ctx;
    if (f == NULL)
        return;
    bool known = fgets(what, sizeof(what), f) != NULL &&
                 accepted.which_body == Control_accept_tag && uplink_is_up(uplink);
    for (int i = 0; i < AT_ONCE && known; i++)
        say(what);
    (void)fclose(f);
}

int __wrap_uplink_open(struct uplink **out, const struct uplink_config *c)
{
    int rc = __real_uplink_open(out, c);
    if (rc == 0 && c->host && uplink == NULL) {
        uplink = *out;
        timer_init(&timer, c->net->loop, on_timer, NULL);
        timer_every(&timer, EACH_MS, EACH_MS);
    }
    return rc;
}

int __wrap_uplink_send(struct uplink *u, const Control *m)
{
    if (u == uplink && m->which_body == Control_accept_tag)
        accepted = *m;
    return __real_uplink_send(u, m);
}

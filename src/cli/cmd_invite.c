/*
 * `postern invite`: a fresh secret into the roster, and the link that carries it. The
 * serve that runs here reads the roster and needs no message.
 */
#include "cli/cmd.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/daemon.h"
#include "cli/published.h"
#include "host/invite.h"
#include "io/lack.h"
#include "io/qr.h"
#include "io/statedir.h"

enum { INVITE_DEFAULT_S = 3600 };

static void print_people(struct events *out, const char *text,
                         const struct roster_invite *in, bool draw)
{
    char until[32] = "?";
    struct tm tm;
    time_t at = (time_t)in->expires_s;
    if (localtime_r(&at, &tm) != NULL)
        (void)strftime(until, sizeof(until), "%F %T", &tm);
    if (!draw || qr_print(out->out, text) != 0)
        return;
    (void)fprintf(out->out,
                  "On the other machine: postern join %s\n"
                  "Good until %s for %d device%s%s%s%s.\n",
                  text, until, in->uses_left, in->uses_left == 1 ? "" : "s",
                  in->allowed[0] ? ", for " : "", in->allowed,
                  in->allowed[0] ? " only" : "");
    (void)fflush(out->out);
}

static void print_invite(struct events *out, const struct link *l,
                         const struct roster_invite *in, bool qr)
{
    char text[LINK_TEXT_LEN];
    struct event e;
    link_format(l, text);
    invite_event(&e, in, text);
    events_print(out, &e);
    if (!out->json)
        print_people(out, text, in, qr || isatty(fileno(out->out)));
    sodium_memzero(text, sizeof(text));
}

static int invite(struct roster *r, const struct statedir *state,
                  const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    struct roster_settings *settings = calloc(1, sizeof(*settings));
    struct service_list services = {0};
    struct invite_config c = {
        .services = v[OPT_SERVICES].text,
        .published = &services,
        .life_s = v[OPT_EXPIRES].given ? v[OPT_EXPIRES].number : INVITE_DEFAULT_S,
        .uses = v[OPT_USES].given ? (int32_t)v[OPT_USES].number : 1,
        .now_s = statedir_now_s()};
    struct roster_invite in;
    struct link broker, l;
    struct keypair own;
    int err = settings == NULL ? fault_lack(f, POSTERN_ERR_NOMEM)
                               : published_read(r, settings, &services, &broker, f);
    if (err == 0)
        published_add_running(state, &services);
    if (err == 0)
        err = statedir_key(state, &own, f);
    if (err == 0) {
        c.broker = &broker;
        c.host_key = own.pub;
        err = invite_make(r, &c, &in, &l, f);
    }
    if (err == 0) {
        struct audit_entry entry;
        invite_audit(&entry, &c, &in);
        audit_once(state->path, &entry);
        print_invite(out, &l, &in, v[OPT_QR].given);
    }
    sodium_memzero(&own, sizeof(own));
    service_list_fini(&services);
    free(settings);
    return err;
}

int cmd_invite(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    struct roster *r = NULL;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = daemon_open_roster(&r, &state, f);
    if (err == 0)
        err = invite(r, &state, o, out, f);
    roster_close(r);
    return err;
}

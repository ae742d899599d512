/* `postern status`: what the running daemons of this state directory say. */
#include "cli/cmd.h"

#include "cli/daemon.h"

enum { STATUS_TIMEOUT_MS = 5000 };

int cmd_status(const struct options *o, struct events *out, struct fault *f)
{
    static const char *const roles[] = {"serve", "up"};
    struct statedir state;
    bool any = false;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    for (size_t i = 0; err == 0 && i < 2; i++) {
        LocalRequest req = LocalRequest_init_zero;
        LocalReply last = LocalReply_init_zero;
        struct event e;
        req.op = LOCAL_STATUS;
        err = daemon_ask(&state, roles[i], &req, STATUS_TIMEOUT_MS, out, &last, f);
        bool runs = err == 0;
        if (err == POSTERN_ERR_NOTFOUND && f->what[0] == '\0')
            err = 0;
        any = any || runs;
        event_begin(&e, "daemon");
        event_text(&e, "role", roles[i]);
        event_bool(&e, "running", runs);
        if (err == 0)
            events_print(out, &e);
    }
    if (err == 0 && !any && !out->json)
        (void)fprintf(
            out->out,
            "neither 'postern serve' nor 'postern up' runs with %s (others are "
            "not asked); 'postern ls' shows what is stored\n",
            state.path);
    return err;
}

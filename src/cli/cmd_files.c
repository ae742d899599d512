/* Files between devices: options to calls of client/ and host/. */
#include "cli/cmd.h"
#include "client/send.h"
#include "host/folder.h"
#include "host/receive.h"

int cmd_send(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    size_t files = o->arg_count - 1;
    return send_run(&c, o->args, files, o->args[files], f);
}

int cmd_share(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    out->lasting = true;
    return err == 0 ? folder_run(&state, o->args[0], out, f) : err;
}

int cmd_receive(const struct options *o, struct events *out, struct fault *f)
{
    struct statedir state;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    out->lasting = true;
    return err == 0 ? receive_run(&state, o->arg_count > 0 ? o->args[0] : ".", out, f)
                    : err;
}

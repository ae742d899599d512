/* Files between devices: options to calls of client/ and host/. */
#include <stdio.h>
#include <unistd.h>

#include "cli/cmd.h"
#include "client/book.h"
#include "client/send.h"
#include "host/folder.h"
#include "host/receive.h"

/* `send home photo.jpg`, where the order is another. */
static bool is_swapped(const struct options *o)
{
    struct statedir state;
    struct book *b = NULL;
    struct book_host h;
    bool is = o->arg_count == 2 && access(o->args[0], F_OK) != 0 &&
              access(o->args[1], F_OK) == 0 &&
              statedir_find(&state, o->values[OPT_STATE].text) == 0 &&
              book_open_known(&b, &state, o->args[0], NULL) == 0 &&
              book_find(b, o->args[0], &h, NULL) == 0;
    book_close(b);
    return is;
}

int cmd_send(const struct options *o, struct events *out, struct fault *f)
{
    struct client_config c = cmd_client_config(o, out);
    size_t files = o->arg_count - 1;
    char advice[200];
    if (is_swapped(o)) {
        (void)snprintf(advice, sizeof(advice), "write it as: postern send %.100s %.60s",
                       o->args[1], o->args[0]);
        return fault_set(f, POSTERN_ERR_USAGE, advice, "the host stands last");
    }
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
    return err == 0 ? receive_run(&state, o->arg_count > 0 ? o->args[0] : ".",
                                  (uint64_t)o->values[OPT_MAX].number, out, f)
                    : err;
}

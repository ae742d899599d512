/* `postern run`: options to a struct run_config; ends with the program's status. */
#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/link.h"
#include "host/run.h"

enum { ONLY_MAX = 64 };

/* "80,443": ports; POSTERN_ERR_USAGE with `f` filled for anything else. */
static int parse_ports(uint16_t out[static ONLY_MAX], size_t *count, const char *text,
                       struct fault *f)
{
    *count = 0;
    while (*text != '\0') {
        char *end = NULL;
        long port = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : 0;
        if (port < 1 || port > 65535 || (*end != ',' && *end != '\0') ||
            *count == ONLY_MAX)
            return fault_set(f, POSTERN_ERR_USAGE, "write it as 80 or 80,443",
                             "'%.60s' is not a list of ports", text);
        out[(*count)++] = (uint16_t)port;
        text = *end == ',' ? end + 1 : end;
    }
    return 0;
}

int cmd_run(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *v = o->values;
    uint16_t only[ONLY_MAX];
    struct run_config c = {
        .serve = {.state = v[OPT_STATE].text,
                  .broker = v[OPT_BROKER].text,
                  .was_invite = o->passed_over == LINK_INVITE,
                  .name = v[OPT_NAME].text,
                  .paths = options_kinds(o),
                  .for_programs = true,
                  .jit_window_ms = (unsigned)v[OPT_JIT_WINDOW].number,
                  .out = out},
        .argv = (char *const *)(uintptr_t)o->args,
        .audience = v[OPT_FOR].text,
        .loopback = v[OPT_LOOPBACK].given,
        .ask = v[OPT_ASK].given || !v[OPT_YES].given,
        .out = out,
    };
    int status = 0;
    struct link link;
    if (c.serve.broker != NULL && (link_parse_given(&link, c.serve.broker, f) != 0 ||
                                   link_check_broker(&link, f) != 0))
        return f->code; /* said once, before its host starts */
    if (v[OPT_YES].given && v[OPT_ASK].given)
        return fault_set(f, POSTERN_ERR_USAGE, "give one of the two",
                         "--yes and --ask contradict each other");
    if (c.ask && !v[OPT_ASK].given && !isatty(STDIN_FILENO))
        return fault_set(f, POSTERN_ERR_USAGE,
                         "use --yes to publish what the program listens on",
                         "there is no terminal to ask on");
    if (v[OPT_ONLY].given) {
        if (parse_ports(only, &c.only_count, v[OPT_ONLY].text, f) != 0)
            return POSTERN_ERR_USAGE;
        c.only = only;
    }
    out->lasting = true;
    if (!out->json) /* what the program prints is its own */
        out->out = stderr;
    int rc = run_program(&c, &status, f);
    if (rc == 0 && status != 0) {
        (void)fflush(NULL);
        exit(status);
    }
    return rc;
}

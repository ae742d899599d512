/* `postern log`: the audit log of this state directory, the newest last. */
#include "cli/cmd.h"

#include <stdlib.h>

#include "io/audit.h"
#include "io/statedir.h"

enum { LOG_DEFAULT = 50 };

static int print_log(struct audit *a, size_t max, struct events *out)
{
    struct audit_entry *entries = calloc(max, sizeof(*entries));
    int n = entries == NULL ? POSTERN_ERR_NOMEM : audit_list(a, entries, max);
    for (int i = n - 1; i >= 0; i--) {
        struct event e;
        audit_event(&e, &entries[i]);
        events_print(out, &e);
    }
    if (n == 0 && !out->json)
        (void)fprintf(out->out, "Nothing is logged yet.\n");
    free(entries);
    return n < 0 ? n : 0;
}

int cmd_log(const struct options *o, struct events *out, struct fault *f)
{
    const struct option_value *count = &o->values[OPT_COUNT_LOG];
    struct statedir state;
    struct audit *a = NULL;
    int err = statedir_open(&state, o->values[OPT_STATE].text, f);
    if (err == 0)
        err = audit_open(&a, state.path, f);
    if (err == 0) {
        err = print_log(a, count->given ? (size_t)count->number : LOG_DEFAULT, out);
        if (err != 0)
            err = fault_set(f, err, "check the state directory",
                            "the audit log cannot be read: %s", postern_strerror(err));
    }
    audit_close(a);
    return err;
}

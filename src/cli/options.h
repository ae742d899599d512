/*
 * The command line: one table of options, one of commands (commands.c), one parser
 * and one printer of help for all. What the commands do is not known here.
 */
#ifndef POSTERN_CLI_OPTIONS_H
#define POSTERN_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/err.h"
#include "core/link.h"
#include "io/events.h"

/* One name may stand for several options, as long as no command has two of them. */
/* Bits of OPTION_BIT. */
__extension__ typedef unsigned __int128 option_set;

enum option_id {
    OPT_HELP,
    OPT_JSON,
    OPT_STATE,
    OPT_VERBOSE,
    OPT_LISTEN,
    OPT_PUBLIC,
    OPT_OPEN,
    OPT_THREADS,
    OPT_STUN_ALTERNATE,
    OPT_NO_ADDRESS_LIMITS,
    OPT_METRICS,
    OPT_WITHIN,
    OPT_DOMAIN,
    OPT_CERTIFICATE,
    OPT_KEY,
    OPT_IDLE,
    OPT_LOGIN,
    OPT_NO_PORTAL,
    OPT_BROKER,
    OPT_NAME,
    OPT_DEVICE_NAME,
    OPT_PATHS,
    OPT_JIT_WINDOW,
    OPT_DIAL_OUT,
    OPT_SPOOF,
    OPT_YES,
    OPT_ASK,
    OPT_ONLY,
    OPT_LOOPBACK,
    OPT_FOR,
    OPT_RELOAD,
    OPT_ADD,
    OPT_SERVICES,
    OPT_EXPIRES,
    OPT_ACCOUNT_SERVICES,
    OPT_ACCOUNT_EXPIRES,
    OPT_USES,
    OPT_QR,
    OPT_SSH_CONFIG,
    OPT_SOCKS_LISTEN,
    OPT_COUNT_PINGS,
    OPT_ALL,
    OPT_TIMEOUT,
    OPT_DEVICES,
    OPT_COUNT_LOG,
    OPT_TLS,
    OPT_TLS_COMMAND,
    OPT_CODE,
    OPT_OWNER,
    OPT_PASSWORD_FILE,
    OPT_AGENT,
    OPT_AGENT_FORGET,
    OPT_VIA,
    OPT_MAX,
    OPT_ABSENT,
    OPT_WAIT,
    OPT_NAMES,
    OPT_CLEAN_NAMES,
    OPT_INSTALL,
    OPT_FOLLOW,
    OPT_CONFIG,
    OPT_REPORT,
    OPT_DEEP,
    OPT_CHECK,
    OPT_WHY,
    OPT_SINCE,
    OPT_WHO,
    OPT_FOLLOW_LOG,
    OPT_SPOKEN,
    OPTION_COUNT,
};

enum option_type {
    OPTION_FLAG,       /* given or not */
    OPTION_MAYBE,      /* alone: ""; or with a text behind '=', or with an ADDR:PORT */
    OPTION_MAYBE_TIME, /* alone: max; or a duration behind '=' */
    OPTION_TEXT,       /* the last one counts */
    OPTION_LINK,       /* the same; - and @FILE too: cli/link_text.h */
    OPTION_LIST,       /* may be given `max` times */
    OPTION_NUMBER,     /* min to max */
    OPTION_DURATION,   /* "90s", "15m", "1h", "7d"; number in seconds, min to max */
    OPTION_SIZE,       /* number is bytes */
    OPTION_KINDS,      /* path kinds; number is the mask */
};

#define OPTION_LIST_MAX 16

struct option_row {
    const char *name; /* without the dashes */
    char letter;      /* 0 for none */
    enum option_type type;
    const char *value; /* placeholder in the help, NULL for a flag */
    int64_t min, max;
    const char *help;
};

struct option_value {
    bool given;
    const char *text; /* as given; borrowed from argv */
    int64_t number;
    const char *list[OPTION_LIST_MAX];
    size_t count;
};

#define OPTION_LINKS_MAX 6 /* two options or an argument, some of them twice */

struct options {
    struct option_value values[OPTION_COUNT];
    const char **args; /* positional arguments, NULL-terminated; room for one */
    size_t arg_count;
    bool args_of_file; /* of --config */
    char *file_text;   /* owned, wiped: what that was cut from */
    size_t file_len;
    char *link_texts[OPTION_LINKS_MAX]; /* owned, wiped; see cli/link_text.h */
    size_t link_text_count;
    enum link_type passed_over; /* the kind of the environment's link, which the command
                                   does not take; 0: none */
};

/*
 * Runs a command. Returns 0, or a negative enum postern_err with `f` filled, which
 * main prints; POSTERN_ERR_USAGE ends with status 2, all others with 1.
 */
typedef int (*command_run)(const struct options *o, struct events *out,
                           struct fault *f);

/* What stands at a place of a command's arguments, for who completes them. */
enum argument {
    ARGUMENT_OTHER,
    ARGUMENT_LINK, /* all words together are one */
    ARGUMENT_HOST,
    ARGUMENT_SERVICE,      /* of the host before it */
    ARGUMENT_HOST_SERVICE, /* HOST:SERVICE */
    ARGUMENT_DEVICE,
    ARGUMENT_PROGRAM,
    ARGUMENT_FILE,
    ARGUMENT_FILE_OR_HOST, /* so are all behind it */
    ARGUMENT_DIR,
    ARGUMENT_KEYS_VERB,
    ARGUMENT_ACCESS_VERB,
    ARGUMENT_ACCESS_NAME, /* of an account or a service, by the verb before it */
    ARGUMENT_SERVICE_VERB,
    ARGUMENT_ROLE,
};
#define COMMAND_ARGUMENTS 2

struct command {
    option_set options; /* OPTION_BIT of each; help, verbose and state come with all */
    const char *name;
    const char *synopsis; /* behind the name */
    const char *summary;  /* one line */
    const char *about;    /* the help's paragraph, with its line breaks */
    const char *example;
    size_t args_min, args_max;
    const char *verb; /* the one first argument that there is; NULL: any */
    size_t rest; /* all behind so many arguments is handed on: no options of ours */
    const char *args_fault; /* what to do when arguments are missing */
    command_run run;
    enum argument arguments[COMMAND_ARGUMENTS];
    bool stays; /* until a signal ends it, which is no failure */
};

#define OPTION_BIT(id) ((option_set)1 << (id))
_Static_assert(OPTION_COUNT <= 128, "a command's options are bits of an option_set");
#define COMMAND_ARGS_ANY SIZE_MAX

/* Ends with a row whose name is NULL. */
extern const struct command commands[];
/* NULL when there is none. */
const struct command *command_find(const char *name);

/* An option of the command; NULL when it does not take it. */
const struct option_row *option_of(const struct command *c, size_t id);

/*
 * Parses argv[0..argc) as options and arguments of `c`, in any order; "--" ends the
 * options. POSTERN_ERR_USAGE with `f` filled when something is wrong; with OPT_HELP
 * given nothing else is checked. options_fini in any case.
 */
MUST_CHECK int options_parse(struct options *o, const struct command *c, int argc,
                             char **argv, struct fault *f);
void options_fini(struct options *o);

/* The option is given, as `text`, which is borrowed; its value is checked. */
MUST_CHECK int options_set(struct options *o, size_t id, const char *text,
                           struct fault *f);

/*
 * Beside `id` only the options of `allowed` (OPTION_BIT), and those that come with
 * every command, mean something: POSTERN_ERR_USAGE with `advice` where another was
 * given.
 */
MUST_CHECK int options_only(const struct options *o, enum option_id id,
                            option_set allowed, const char *advice, struct fault *f);

/* "90s", "15m", "1h", "7d", or seconds; at least 1. */
MUST_CHECK int options_parse_duration(int64_t *seconds, const char *text);

/* The path kinds that the command line allows. */
uint32_t options_kinds(const struct options *o);

void help_print_command(FILE *out, const struct command *c);
void help_print_all(FILE *out);

#endif

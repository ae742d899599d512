/*
 * The executable: finds the command, parses its line, runs it, and turns its fault
 * into one line and an exit status. What the commands do is known to their files.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/complete.h"
#include "cli/config.h"
#include "cli/elsewhere.h"
#include "cli/link_text.h"
#include "cli/options.h"
#include "core/guess.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/stdfd.h"
#include "io/stop.h"
#include "io/work.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static int finish(struct events *out, int err, struct fault *f)
{
    if (err == 0)
        return EXIT_DONE;
    struct fault plain;
    if (f->what[0] == '\0') { /* nobody said more */
        (void)fault_set(&plain, err, "run it again with --verbose", "failed: %s",
                        postern_strerror(err));
        f = &plain;
    }
    if (strcmp(f->advice, ADVICE_RETRIED) == 0) /* not after the end */
        (void)snprintf(f->advice, sizeof(f->advice), "try again in a moment");
    events_fault(out, f);
    return err == POSTERN_ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

/* As other programs call it. */
static const char *other_word(const char *name)
{
    static const char *const words[][2] = {
        {"list", "ls"},         {"hosts", "ls"},      {"forward", "connect"},
        {"tunnel", "connect"},  {"expose", "serve"},  {"publish", "serve"},
        {"install", "service"}, {"start", "service"}, {"stop", "service"},
        {"login", "ssh"},       {"copy", "send"},     {"test", "ping"},
        {"delete", "leave"},    {"users", "access"},  {"daemon", "service"},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i][0], name) == 0)
            return words[i][1];
    return NULL;
}

static int unknown_option(const char *name, struct fault *f)
{
    struct guess g;
    char advice[160];
    guess_begin(&g, strcmp(name, "-V") == 0 || strcmp(name, "-v") == 0 ? "--version"
                    : strcmp(name, "-?") == 0                          ? "--help"
                                                                       : name);
    guess_offer(&g, "--help");
    guess_offer(&g, "--version");
    guess_advice(&g, advice, sizeof(advice),
                 g.best[0] != '\0' ? "see 'postern help'" /* they stand alone */
                                   : "put options behind the command");
    return fault_set(f, POSTERN_ERR_USAGE, advice, "unknown option '%.60s'", name);
}

static int unknown_command(const char *name, struct fault *f)
{
    struct guess g;
    char advice[160];
    const char *other = other_word(name);
    if (name[0] == '-')
        return unknown_option(name, f);
    guess_begin(&g, name);
    for (const struct command *c = commands; c->name != NULL; c++)
        guess_offer(&g, c->name);
    guess_offer(&g, "help");
    guess_offer(&g, "version");
    guess_advice(&g, advice, sizeof(advice),
                 POSTERN_FULL
                     ? "'postern --help' lists the commands"
                     : "this build has only those that 'postern --help' lists");
    if (other != NULL && command_find(other) != NULL)
        (void)snprintf(advice, sizeof(advice),
                       "did you mean '%s'? 'postern --help' lists the commands", other);
    return fault_set(f, POSTERN_ERR_USAGE, advice, "unknown command '%.60s'", name);
}

/* postern, and with --help, --version or version, help [COMMAND]; and complete */
static bool run_builtin(int argc, char **argv, int *err, struct fault *f)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    *err = 0;
    if (word == NULL) {
        help_print_all(stdout);
        (void)fflush(stdout);
        *err =
            fault_set(f, POSTERN_ERR_USAGE, "'postern COMMAND --help' tells about one",
                      "no command was given");
        return true;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0) {
        (void)printf("postern %s\n", POSTERN_VERSION);
        return true;
    }
    if (strcmp(word, "complete") == 0) { /* what shells ask; see complete.c */
        int words = argc > 2 && strcmp(argv[2], "--") == 0 ? 3 : 2;
        complete_print(stdout, (const char *const *)argv + words,
                       (size_t)(argc - words));
        return true;
    }
    bool help = strcmp(word, "help") == 0;
    if (!help && strcmp(word, "--help") != 0 && strcmp(word, "-h") != 0)
        return false;
    const struct command *c = help && argc > 2 ? command_find(argv[2]) : NULL;
    if (c != NULL)
        help_print_command(stdout, c);
    else if (help && argc > 2)
        *err = unknown_command(argv[2], f);
    else
        help_print_all(stdout);
    return true;
}

/* `stays`: it runs until a signal ends it, which is as it should be. */
static int run_command(const struct command *c, int argc, char **argv,
                       struct events *out, bool *stays, struct fault *f)
{
    struct options o;
    int err = options_parse(&o, c, argc, argv, f);
    *stays = c->stays || o.values[OPT_FOLLOW].given || o.values[OPT_FOLLOW_LOG].given;
    if (*stays)
        stop_prepare_command();
    if (err == 0 && o.values[OPT_HELP].given) {
        help_print_command(stdout, c);
    } else if (err == 0) {
        if (o.values[OPT_CONFIG].given)
            err = config_read(&o, c, o.values[OPT_CONFIG].text, f);
        out->json = out->json || o.values[OPT_JSON].given; /* a line of the file */
        log_set_level(o.values[OPT_VERBOSE].given ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN);
        if (err == 0)
            err = link_text_settle(&o, c, f);
        if (err == 0)
            err = elsewhere_check(c, &o, f);
        if (err == 0)
            err = c->run(&o, out, f);
    }
    options_fini(&o);
    return err;
}

/* Also a line that cannot be parsed is answered in JSON when it asks for it. */
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

/* For help and version, which are printed without events. */
static int flush_output(void)
{
    if (fflush(stdout) == 0 || errno == EPIPE)
        return EXIT_DONE;
    (void)fprintf(stderr,
                  "postern: cannot write the output: %s; free some space or "
                  "send it elsewhere\n",
                  strerror(errno));
    return EXIT_FAILED;
}

/* A question to a router that does not answer holds up nobody's end. */
static int leave(int status)
{
    if (!work_is_left())
        return status;
    (void)fflush(NULL);
    _exit(status);
}

int main(int argc, char **argv)
{
    stdfd_fill();
    struct fault f = {0};
    struct events out = {.json = wants_json(argc, argv), .out = stdout};
    bool stays = false;
    int err = 0;
    stop_prepare();
    if (!run_builtin(argc, argv, &err, &f)) {
        const struct command *c = command_find(argv[1]);
        err = c != NULL ? lack_check_start(LACK_FILES_MIN, &f)
                        : unknown_command(argv[1], &f);
        if (err == 0 && c != NULL)
            err = run_command(c, argc - 2, argv + 2, &out, &stays, &f);
    }
    log_progress_end();
    int status = finish(&out, err, &f);
    if (out.failed != 0)
        return leave(out.failed == EPIPE ? EXIT_DONE : EXIT_FAILED);
    if (!stays)
        stop_end_by_signal();
    return leave(status != EXIT_DONE ? status : flush_output());
}

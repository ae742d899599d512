/*
 * `postern service`: what was started by hand becomes a unit of systemd, with the same
 * state directory: root's of the system, another user's in his own manager, which
 * lingers. What the roles do is not known here.
 */
#include "cli/cmd.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/child.h"
#include "cli/daemon.h"
#include "client/book.h"
#include "client/naming.h"
#include "io/log.h"
#include "io/statedir.h"

#define MARK                                                                           \
    "# Made by 'postern service install'; 'postern service remove' takes it away."

enum { WORDS_MAX = 64, LOOK_MS = 100, LOOKS_MAX = 100 };

/* `of_root` is what only a unit of the system may say. */
static const struct role {
    const char *name, *what, *file, *more, *of_root;
} roles[] = {
    {"serve", "publish services without an open port", "host.db",
     "ExecReload=/bin/kill -HUP $MAINPID\n",
     "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE "
     "CAP_DAC_OVERRIDE\nNoNewPrivileges=yes\nProtectSystem=yes\n"},
    {"up", "stay connected to the hosts joined", "book.db", "",
     "NoNewPrivileges=yes\n"},
    {"broker", "broker", "broker.db", "",
     "LimitNOFILE=1048576\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW "
     "CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE\nNoNewPrivileges=yes\nProtectSystem=yes\n"},
};
#define ROLES (sizeof(roles) / sizeof(roles[0]))

struct work {
    struct statedir state;
    struct events *out;
    bool user;     /* units of this user's manager */
    bool has_file; /* --config, which knows broker and services */
    const struct role *role;
    char unit[32], path[PATH_MAX];
};

static const struct role *role_named(const char *name)
{
    for (size_t i = 0; i < ROLES; i++)
        if (strcmp(roles[i].name, name) == 0)
            return &roles[i];
    return NULL;
}

/* ------------------------------------------------------------------------- systemd */

/* systemctl VERB UNIT, of the right manager; its last line is left in `said`. */
static int ask_systemd(const struct work *w, const char *verb, const char *unit,
                       char said[static 200])
{
    const char *words[6] = {"systemctl"};
    size_t n = 1;
    if (w->user)
        words[n++] = "--user";
    words[n++] = verb;
    if (unit != NULL)
        words[n++] = unit;
    return child_run(words, said, 200);
}

static int must_ask(const struct work *w, const char *verb, const char *unit,
                    struct fault *f)
{
    char said[200];
    int rc = ask_systemd(w, verb, unit, said);
    if (rc == 0)
        return 0;
    return fault_set(f, rc < 0 ? rc : POSTERN_ERR_IO,
                     w->user
                         ? "see 'systemctl --user status', as the user who logged in"
                         : "see 'systemctl status' and 'journalctl -xe'",
                     "systemctl %s %s failed%s%.150s", verb, unit != NULL ? unit : "",
                     said[0] != '\0' ? ": " : "", said);
}

static bool has_systemd(void)
{
    return access("/run/systemd/system", F_OK) == 0;
}

/* `words` is the whole line, from the program on, as a person would type it. */
static int say_by_hand(const struct work *w, const char *const *words, struct fault *f)
{
    static const char none[] = "no systemd runs on this machine";
    char advice[sizeof(f->advice)] = "";
    FILE *out = fmemopen(advice, sizeof(advice), "w");
    if (out == NULL)
        return fault_set(f, POSTERN_ERR_NOTFOUND, "start it by other means", none);
    (void)fputs("let what starts programs here run ", out);
    child_show_word(out, "POSTERN_STATE=");
    child_show_word(out, w->state.path);
    (void)fputs(" postern", out);
    for (size_t i = 1; words[i] != NULL; i++) {
        (void)fputc(' ', out);
        child_show_word(out, words[i]);
    }
    bool whole = ferror(out) == 0;
    whole = fflush(out) == 0 && whole && ftell(out) < (long)sizeof(advice);
    (void)fclose(out);
    if (!whole)
        (void)snprintf(advice, sizeof(advice),
                       "let what starts programs here run 'postern %s' with the same "
                       "options and the same state directory",
                       w->role->name);
    return fault_set(f, POSTERN_ERR_NOTFOUND, advice, none);
}

/* So that it starts with the machine and not with a login, and its manager is there. */
static void linger(void)
{
    static const char *const words[] = {"loginctl", "enable-linger", NULL};
    char said[200], dir[64], manager[96];
    if (child_run(words, said, sizeof(said)) != 0)
        log_warn("it will end when you log out: loginctl enable-linger failed%s%.150s",
                 said[0] != '\0' ? ": " : "", said);
    (void)snprintf(dir, sizeof(dir), "/run/user/%u", (unsigned)getuid());
    (void)snprintf(manager, sizeof(manager), "%s/systemd/private", dir);
    for (int i = 0; i < LOOKS_MAX && access(manager, F_OK) != 0; i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    (void)setenv("XDG_RUNTIME_DIR", dir, 0);
}

/* ------------------------------------------------------------------------ the file */

static int place(struct work *w, struct fault *f)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char dir[PATH_MAX - 64];
    bool own = config != NULL && config[0] == '/';
    w->user = getuid() != 0;
    if (w->user && !own && (home == NULL || home[0] != '/'))
        return fault_set(f, POSTERN_ERR_NOTFOUND, "set HOME", "HOME is not set");
    int n = !w->user ? snprintf(dir, sizeof(dir), "/etc")
                     : snprintf(dir, sizeof(dir), "%s%s", own ? config : home,
                                own ? "" : "/.config");
    (void)snprintf(w->unit, sizeof(w->unit), "postern-%s.service", w->role->name);
    if ((size_t)n >= sizeof(dir))
        return fault_set(f, POSTERN_ERR_LIMIT, "choose a shorter one",
                         "the configuration directory's name is too long");
    (void)snprintf(w->path, sizeof(w->path), "%s/systemd/%s/%s", dir,
                   w->user ? "user" : "system", w->unit);
    return 0;
}

/* 1: it is there and ours. 0: there is none. Negative: it is somebody else's. */
static int look(const struct work *w, struct fault *f)
{
    char first[sizeof(MARK) + 1] = "";
    FILE *file = fopen(w->path, "re");
    if (file == NULL && errno == ENOENT)
        return 0;
    bool ours = file != NULL && fgets(first, sizeof(first), file) != NULL &&
                strcmp(first, MARK "\n") == 0;
    if (file != NULL)
        (void)fclose(file);
    if (ours)
        return 1;
    return fault_set(f, POSTERN_ERR_INUSE, "move it away, or use it with systemctl",
                     "%.200s was not made by 'postern service install'", w->path);
}

static int make_parents(const char *path)
{
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s", path);
    for (char *at = dir + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        if (mkdir(dir, 0755) != 0 && errno != EEXIST)
            return POSTERN_ERR_IO;
        *at = '/';
    }
    return 0;
}

/* A word as systemd reads it back; `dollars` where it would put variables in. */
static void put_word(FILE *out, const char *word, bool dollars)
{
    (void)fputc('"', out);
    for (const char *at = word; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            (void)fputc('\\', out);
        if (*at == '%' || (*at == '$' && dollars))
            (void)fputc(*at, out);
        (void)fputc(*at, out);
    }
    (void)fputc('"', out);
}

static void put_unit(FILE *out, const struct work *w, const char *const *words)
{
    const struct role *r = w->role;
    char state[STATEDIR_PATH_LEN + 16];
    (void)fprintf(out, MARK "\n[Unit]\nDescription=Postern: %s\n", r->what);
    if (!w->user)
        (void)fputs("After=network-online.target\nWants=network-online.target\n", out);
    (void)fputs(
        "# What may heal by itself is tried for ever; a wrong command line "
        "(status 2) is "
        "not.\nStartLimitIntervalSec=0\n\n[Service]\nType=notify\nWatchdogSec=2min\n"
        "ExecStart=",
        out);
    for (size_t i = 0; words[i] != NULL; i++) {
        (void)fputs(i > 0 ? " " : "", out);
        put_word(out, words[i], true);
    }
    (void)snprintf(state, sizeof(state), "POSTERN_STATE=%s", w->state.path);
    (void)fputs("\nEnvironment=", out);
    put_word(out, state, false);
    (void)fprintf(out,
                  "\nRestart=always\nRestartSec=5\nRestartPreventExitStatus=2\n%s%s",
                  r->more, w->user ? "" : r->of_root);
    (void)fprintf(out, "\n[Install]\nWantedBy=%s.target\n",
                  w->user ? "default" : "multi-user");
}

/* Behind a line break would stand a directive of its own, quoted or not. */
static bool is_plain(const char *word)
{
    for (const char *at = word; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return false;
    return true;
}

/* All that a unit says of this machine goes through here, before a file is touched. */
static int check_plain(const struct work *w, const char *const *words, struct fault *f)
{
    static const char what[] =
        "a unit takes no line break or other control character, and %s has one";
    if (!is_plain(w->state.path))
        return fault_set(f, POSTERN_ERR_USAGE, "choose another with --state", what,
                         "the state directory's path");
    if (!is_plain(words[0]))
        return fault_set(f, POSTERN_ERR_USAGE, "put the program elsewhere", what,
                         "this program's path");
    for (size_t i = 1; words[i] != NULL; i++)
        if (!is_plain(words[i]))
            return fault_set(f, POSTERN_ERR_USAGE, "leave it out", what,
                             "one of the options");
    return 0;
}

static int write_unit(const struct work *w, const char *const *words, struct fault *f)
{
    int rc = check_plain(w, words, f);
    if (rc != 0)
        return rc;
    FILE *file = make_parents(w->path) == 0 ? fopen(w->path, "we") : NULL;
    if (file != NULL)
        put_unit(file, w, words);
    bool bad = file == NULL || ferror(file) != 0;
    if (file != NULL && fclose(file) != 0)
        bad = true;
    return !bad ? 0
                : fault_set(f, POSTERN_ERR_IO, "see whether this user may write there",
                            "%.200s cannot be written: %s", w->path, strerror(errno));
}

/* ------------------------------------------------------------------------- install */

static int refuse(struct work *w, const struct options *o, struct fault *f)
{
    const struct option_value *v = o->values;
    enum naming_way way;
    w->has_file = v[OPT_CONFIG].given;
    if (v[OPT_NAMES].given && naming_way_parse(&way, v[OPT_NAMES].text, f) != 0)
        return POSTERN_ERR_USAGE;
    if (w->has_file && v[OPT_CONFIG].text[0] != '/')
        return fault_set(f, POSTERN_ERR_USAGE, "write it from / on",
                         "a unit does not find '%.100s'", v[OPT_CONFIG].text);
    if (v[OPT_STATE].given || v[OPT_HELP].given)
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "put it before that, as in: postern service install --state DIR "
            "serve",
            "--state and --help mean nothing behind '%s'", w->role->name);
    if (v[OPT_BROKER].given || v[OPT_VIA].given)
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "leave it out: 'postern serve' remembers what it was started with",
            "a link does not belong into a unit, which every user can read");
    return 0;
}

/*
 * The role's command line, checked as that command would. `given` are the options
 * behind the role; the state directory has a line of its own in the unit.
 */
static int line_of(struct work *w, const struct options *given, size_t from,
                   const char **words, struct fault *f)
{
    struct options o;
    size_t n = 0;
    words[n++] = w->role->name;
    words[n] = NULL;
    if (given->arg_count > from + WORDS_MAX - 4)
        return fault_set(f, POSTERN_ERR_USAGE, "give fewer",
                         "there are too many options");
    for (size_t i = from; i < given->arg_count; i++)
        words[n++] = given->args[i];
    words[n] = NULL;
    int rc = options_parse(&o, command_find(w->role->name), (int)n - 1,
                           (char **)(uintptr_t)(words + 1), f);
    if (rc == 0)
        rc = refuse(w, &o, f);
    options_fini(&o);
    return rc;
}

/* A host must know its broker and services: a unit has nobody to ask. */
static int check_known(const struct work *w, struct fault *f)
{
    struct roster *r = NULL;
    struct roster_settings *s;
    if (strcmp(w->role->name, "serve") != 0 || w->has_file)
        return 0;
    if (!statedir_has(w->state.path, "host.db"))
        return fault_set(f, POSTERN_ERR_NOTFOUND,
                         "run 'postern serve --broker LINK SERVICE...' once by hand",
                         "nothing is published here yet");
    int rc = daemon_open_roster(&r, &w->state, f);
    s = rc == 0 ? calloc(1, sizeof(*s)) : NULL;
    if (s != NULL && roster_settings_get(r, s) == POSTERN_ERR_NOTFOUND)
        rc = fault_set(f, POSTERN_ERR_NOTFOUND,
                       "run 'postern serve --broker LINK SERVICE...' once by hand",
                       "nothing is published here yet");
    free(s);
    roster_close(r);
    return rc;
}

/* What was started by hand makes room: only one may use the state directory. */
static int end_other(const struct work *w, struct fault *f)
{
    struct statedir_holder h;
    if (!statedir_held(&w->state, w->role->name, &h))
        return 0;
    if (h.pid > 1 && kill((pid_t)h.pid, SIGTERM) == 0)
        log_warn("ended the 'postern %s' that ran by hand (process %ld): the unit goes "
                 "on in its place",
                 w->role->name, h.pid);
    for (int i = 0; i < LOOKS_MAX; i++) {
        if (!statedir_held(&w->state, w->role->name, &h))
            return 0;
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
    return fault_set(f, POSTERN_ERR_INUSE, "end it, and run this again",
                     "the 'postern %s' that runs here (process %ld) does not end",
                     w->role->name, h.pid);
}

static void tell(const struct work *w)
{
    struct event e;
    struct statedir_holder h;
    char state[200] = "";
    bool there = access(w->path, F_OK) == 0;
    bool held = statedir_held(&w->state, w->role->name, &h);
    int rc = has_systemd() ? ask_systemd(w, "is-active", w->unit, state) : -1;
    if ((rc != 0 && rc != 3) || (!there && state[0] != 'a')) /* none, or not known */
        (void)snprintf(state, sizeof(state), "none");
    bool by_hand = held && state[0] != 'a';
    event_begin(&e, "unit");
    event_text(&e, "role", w->role->name);
    event_text(&e, "state", by_hand ? "by-hand" : state);
    event_text(&e, "file", there ? w->path : NULL);
    if (held)
        event_int(&e, "pid", h.pid);
    events_print(w->out, &e);
}

static int install(struct work *w, const struct options *o, struct fault *f)
{
    char program[PATH_MAX], said[200];
    const char *words[WORDS_MAX] = {program};
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[len > 0 ? len : 0] = '\0';
    int rc = line_of(w, o, 2, words + 1, f);
    if (rc == 0)
        rc = check_known(w, f);
    if (rc == 0)
        rc = check_plain(w, words, f);
    if (rc == 0 && !has_systemd())
        rc = say_by_hand(w, words, f);
    if (rc == 0 && (rc = look(w, f)) >= 0)
        rc = write_unit(w, words, f);
    if (rc != 0)
        return rc;
    if (w->user)
        linger();
    rc = must_ask(w, "daemon-reload", NULL, f);
    if (rc == 0) {
        (void)ask_systemd(w, "stop", w->unit, said);
        rc = end_other(w, f);
    }
    if (rc == 0)
        rc = must_ask(w, "enable", w->unit, f);
    if (rc == 0)
        rc = must_ask(w, "start", w->unit, f);
    if (rc == 0)
        tell(w);
    return rc;
}

static int take_away(struct work *w, struct fault *f)
{
    char advice[160];
    int rc = look(w, f);
    if (rc == 0)
        return fault_set(f, POSTERN_ERR_NOTFOUND, "see 'postern service status'",
                         "there is no unit %.200s", w->path);
    (void)snprintf(advice, sizeof(advice), "remove that file: rm %.130s", w->path);
    if (rc > 0 && !has_systemd())
        return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                         "no systemd runs on this machine, which would let go of "
                         "%.150s",
                         w->path);
    if (rc > 0)
        rc = must_ask(w, "disable", w->unit, f);
    if (rc == 0)
        rc = must_ask(w, "stop", w->unit, f);
    if (rc == 0 && unlink(w->path) != 0)
        rc = fault_set(f, POSTERN_ERR_IO, "see whether this user may write there",
                       "%.200s cannot be removed: %s", w->path, strerror(errno));
    if (rc == 0)
        rc = must_ask(w, "daemon-reload", NULL, f);
    if (rc == 0)
        tell(w);
    return rc;
}

/* ---------------------------------------------------------------- which of the roles
 */

enum verb { INSTALL, REMOVE, STATUS };

/* Without a role: what runs by hand; else what was started here once. */
static bool is_meant(struct work *w, enum verb verb, bool running)
{
    struct statedir_holder h;
    if (verb == REMOVE)
        return access(w->path, F_OK) == 0;
    bool held = statedir_held(&w->state, w->role->name, &h);
    bool known = statedir_has(w->state.path, w->role->file);
    return verb == STATUS ? held || known || access(w->path, F_OK) == 0
                          : (running ? held : known);
}

static int act(struct work *w, enum verb verb, const struct options *o, struct fault *f)
{
    if (verb == STATUS)
        tell(w);
    return verb == INSTALL ? install(w, o, f) : verb == REMOVE ? take_away(w, f) : 0;
}

static int each_meant(struct work *w, enum verb verb, const struct options *o,
                      struct fault *f)
{
    bool running = false;
    size_t done = 0;
    int rc = 0;
    struct statedir_holder h;
    for (size_t i = 0; i < ROLES; i++)
        running = running || statedir_held(&w->state, roles[i].name, &h);
    for (size_t i = 0; i < ROLES && rc == 0; i++) {
        w->role = &roles[i];
        rc = place(w, f);
        if (rc != 0 || !is_meant(w, verb, running))
            continue;
        rc = act(w, verb, o, f);
        done++;
    }
    if (rc != 0 || done > 0)
        return rc;
    if (verb == REMOVE)
        return fault_set(f, POSTERN_ERR_NOTFOUND, "'postern service install' makes one",
                         "there is no unit to remove");
    return fault_set(f, POSTERN_ERR_NOTFOUND,
                     "start serve, up or broker by hand once, or name one of them",
                     "nothing was started here yet, with %.200s", w->state.path);
}

int cmd_service(const struct options *o, struct events *out, struct fault *f)
{
    static const char *const verbs[] = {"install", "remove", "status"};
    struct work w = {.out = out};
    size_t verb = 0;
    while (verb < 3 && strcmp(verbs[verb], o->args[0]) != 0)
        verb++;
    if (verb == 3)
        return fault_set(f, POSTERN_ERR_USAGE, "use install, remove or status",
                         "'%.60s' is nothing to do with a service", o->args[0]);
    int rc = statedir_open(&w.state, o->values[OPT_STATE].text, f);
    if (rc != 0)
        return rc;
    if (o->arg_count == 1)
        return each_meant(&w, (enum verb)verb, o, f);
    w.role = role_named(o->args[1]);
    if (w.role == NULL)
        return fault_set(f, POSTERN_ERR_USAGE, "use serve, up or broker",
                         "'%.60s' is not what runs as a service", o->args[1]);
    if (verb != INSTALL && o->arg_count > 2)
        return fault_set(f, POSTERN_ERR_USAGE, "leave it out",
                         "'%.60s' means nothing here", o->args[2]);
    rc = place(&w, f);
    return rc == 0 ? act(&w, (enum verb)verb, o, f) : rc;
}

/*
 * `postern setup`: a conversation on the terminal that does the README's steps. Each
 * step is a command of this program, shown and run as a person would. What the
 * commands do is not known here.
 */
#include "cli/cmd.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/child.h"
#include "cli/daemon.h"
#include "core/link.h"
#include "io/ready.h"
#include "io/sockdiag.h"

enum { ANSWER_LEN = LINK_INPUT_MAX, WORDS_MAX = 72, PORTS_MAX = 12 };

struct setup {
    FILE *tty;
    struct events *out;
    struct statedir state;
    char program[PATH_MAX];
    bool systemd, state_given;
    bool ended; /* the person has nothing more to say */
    char answer[ANSWER_LEN];
    char broker[LINK_TEXT_LEN]; /* its link; "" while none is known */
    bool publishes, did_something;
    struct child running[2]; /* what goes on in this terminal */
    size_t running_count;
};

/* Leaves out what is blank at both ends of `text`. */
static void strip(char *text)
{
    char *from = text + strspn(text, " \t");
    memmove(text, from, strlen(from) + 1);
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
        text[--len] = '\0';
}

/* The line that was typed, or what Enter stands for; false at the end of all input. */
static bool ask(struct setup *s, const char *question, const char *enter)
{
    if (s->ended)
        return false;
    (void)fprintf(s->tty, "\n%s [%s] ", question, enter);
    (void)fflush(s->tty);
    if (fgets(s->answer, sizeof(s->answer), s->tty) == NULL) {
        (void)fflush(s->tty);
        (void)fprintf(s->tty, "\n");
        s->ended = true;
        return false;
    }
    strip(s->answer);
    return true;
}

static bool said(const struct setup *s, const char *letter, const char *word)
{
    return strcasecmp(s->answer, letter) == 0 || strcasecmp(s->answer, word) == 0;
}

/* Asked for until it is yes or no. */
static bool agrees(struct setup *s, const char *question, bool enter)
{
    while (ask(s, question, enter ? "Y/n" : "y/N")) {
        if (s->answer[0] == '\0')
            return enter;
        if (said(s, "y", "yes") || said(s, "n", "no"))
            return said(s, "y", "yes");
        (void)fprintf(s->tty, "Please answer y or n.\n");
    }
    return false;
}

static const char *kind_words(enum link_type type)
{
    return type == LINK_INVITE  ? "an invite of a host"
           : type == LINK_AGENT ? "an agent's"
                                : "a broker's";
}

/* A terminal shows a link over several lines, and what is copied there may be cut so.
 */
static void take_rest(struct setup *s)
{
    struct link l;
    size_t len = strlen(s->answer), more = 1;
    while (strncasecmp(s->answer, "postern:", 8) == 0 && more > 0 &&
           len + 2 < ANSWER_LEN && link_parse_given(&l, s->answer, NULL) != 0) {
        (void)fprintf(s->tty, "Its rest, if it goes on? [no] ");
        (void)fflush(s->tty);
        if (fgets(s->answer + len, (int)(ANSWER_LEN - len), s->tty) == NULL)
            s->answer[len] = '\0';
        strip(s->answer + len);
        more = strlen(s->answer) - len;
        len += more;
    }
}

/* A link, asked for until it is one; false where there is none. */
static bool ask_link(struct setup *s, const char *question, const char *enter,
                     enum link_type type, char text[static LINK_TEXT_LEN])
{
    struct link l;
    struct fault f = {0};
    while (ask(s, question, enter)) {
        if (s->answer[0] == '\0' || said(s, "n", "no"))
            return false;
        take_rest(s);
        if (said(s, "y", "yes"))
            (void)fprintf(s->tty,
                          "Paste the link itself, which begins with postern://, "
                          "or press Enter.\n");
        else if (link_parse_given(&l, s->answer, &f) != 0)
            (void)fprintf(s->tty, "%s; %s\n", f.what, f.advice);
        else if (l.type != type)
            (void)fprintf(s->tty, "That link is %s; here it has to be %s.\n",
                          kind_words(l.type), kind_words(type));
        else {
            link_format(&l, text);
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------------ the steps */

/*
 * The program with these words; shown to the person as they could be typed. A link that
 * the program has from its environment, where others do not read it, is shown in them.
 */
static void command(struct setup *s, const char **words, const char *const *with)
{
    size_t n = 0;
    const char *link = getenv("POSTERN_LINK");
    words[n++] = s->program;
    (void)fprintf(s->tty, "\n$ ");
    if (s->state_given) {
        (void)fprintf(s->tty, "POSTERN_STATE=");
        child_show_word(s->tty, s->state.path);
        (void)fputc(' ', s->tty);
    }
    (void)fprintf(s->tty, "postern");
    for (size_t i = 0; with[i] != NULL && n + 1 < WORDS_MAX; i++) {
        words[n++] = with[i];
        if (strcmp(with[i], "--json") != 0) {
            (void)fputc(' ', s->tty);
            child_show_word(s->tty, with[i]);
        }
        if (i == 0 && link != NULL && strcmp(with[0], "serve") == 0)
            (void)fprintf(s->tty, " --broker %s", link);
        if (i == 0 && link != NULL && strcmp(with[0], "join") == 0)
            (void)fprintf(s->tty, " %s", link);
    }
    words[n] = NULL;
    (void)fprintf(s->tty, "\n");
    (void)fflush(s->tty);
}

/* Its faults it has told itself. */
static void tell(struct setup *s, const char *event)
{
    if (strncmp(event, "{\"event\":\"error\"", 16) != 0)
        events_print_json(s->out, event);
}

static int failed(const char *what, struct fault *f)
{
    return fault_set(f, POSTERN_ERR_IO,
                     "see the line before, and run 'postern setup' again",
                     "'postern %s' failed", what);
}

static int run_step(struct setup *s, const char *const *with, struct fault *f)
{
    const char *words[WORDS_MAX];
    struct child c;
    command(s, words, with);
    if (child_start(&c, words, CHILD_NOTHING) != 0 || child_wait(&c) != 0)
        return failed(with[0], f);
    s->did_something = true;
    return 0;
}

/*
 * Starts a role by hand, which settles whether it can run at all and what it is to
 * remember; then a unit takes its place, or it goes on here. `with` begins with the
 * role and --json.
 */
static int start_role(struct setup *s, const char *const *with, bool unit,
                      struct fault *f)
{
    const char *words[WORDS_MAX], *install[WORDS_MAX] = {"service", "install", with[0]};
    struct json_value v;
    struct child c;
    char line[1100] = "";
    bool ready = false;
    command(s, words, with);
    if (child_start(&c, words, CHILD_OUTPUT) != 0)
        return failed(with[0], f);
    while (!ready && child_line(&c, line, sizeof(line))) {
        tell(s, line);
        ready = strstr(line, "\"event\":\"ready\"") != NULL;
    }
    if (!ready) {
        (void)child_wait(&c);
        return failed(with[0], f);
    }
    s->did_something = true;
    if (strcmp(with[0], "broker") == 0 && json_find(&v, line, "link") == 0)
        json_value_words(&v, s->broker, sizeof(s->broker));
    if (!unit) {
        (void)setvbuf(c.said, NULL, _IONBF, 0);
        s->running[s->running_count++] = c;
        return 0;
    }
    (void)kill(c.pid, SIGTERM);
    (void)child_wait(&c);
    if (strcmp(with[0], "serve") != 0) /* which remembers */
        for (size_t i = 2; with[i] != NULL; i++)
            install[i + 1] = with[i];
    return run_step(s, install, f);
}

static bool wants_unit(struct setup *s)
{
    return s->systemd && agrees(s, "Start it with this machine, by systemd?", true);
}

/* ------------------------------------------------------------------------ the roles */

/* One that runs is left as it is. */
static bool runs(struct setup *s, const char *role, const char *how)
{
    struct statedir_holder h;
    if (!statedir_held(&s->state, role, &h))
        return false;
    (void)fprintf(s->tty, "\nA 'postern %s' runs here already%s.\n", role, how);
    return true;
}

static int be_broker(struct setup *s, struct fault *f)
{
    char name[256];
    if (runs(s, "broker", ""))
        return 0;
    if (!agrees(s,
                "Shall this machine be the broker, the meeting point that the internet "
                "reaches\nat its TCP and UDP port 443?",
                false) ||
        !ask(s, "By which name or address does the internet reach it?",
             "found by itself"))
        return 0;
    (void)snprintf(name, sizeof(name), "%.255s", s->answer);
    bool unit = wants_unit(s), named = name[0] != '\0';
    if (s->ended)
        return 0;
    const char *with[] = {"broker", "--json", named ? "--public" : NULL, name, NULL};
    return start_role(s, with, unit, f);
}

struct ports {
    struct setup *setup;
    uint16_t seen[PORTS_MAX];
    size_t count;
    char chosen[16];
};

static void on_listener(void *ctx, const struct sockdiag_socket *socket)
{
    struct ports *p = ctx;
    char program[16];
    int pid;
    uint16_t port = socket->local.port;
    for (size_t i = 0; i < p->count; i++)
        if (p->seen[i] == port)
            return;
    if (!socket->tcp || p->count == PORTS_MAX ||
        (sockdiag_owner(socket->inode, &pid, program) &&
         strcmp(program, "postern") == 0))
        return;
    p->seen[p->count++] = port;
    if (p->count == 1 || port == 22)
        (void)snprintf(p->chosen, sizeof(p->chosen), "%u", port);
    (void)fprintf(p->setup->tty, "  %5u  %s\n", port,
                  sockdiag_owner(socket->inode, &pid, program) ? program : "");
}

/* Whether something is published already; its broker is taken from there. */
static bool look_back(struct setup *s)
{
    struct roster *r = NULL;
    struct roster_settings *known = calloc(1, sizeof(*known));
    bool any = statedir_has(s->state.path, "host.db") && known != NULL &&
               daemon_open_roster(&r, &s->state, NULL) == 0 &&
               roster_settings_get(r, known) == 0;
    if (any && s->broker[0] == '\0')
        (void)snprintf(s->broker, sizeof(s->broker), "%s", known->broker);
    roster_close(r);
    free(known);
    return any;
}

/* Its words, cut at spaces and commas between services ("22 web=8080"). */
static size_t services(char *text, const char **words, size_t room)
{
    size_t n = 0;
    char *rest = text, *word;
    while (n < room && (word = strsep(&rest, " \t")) != NULL)
        if (*word != '\0')
            words[n++] = word;
    return n;
}

static int publish(struct setup *s, struct fault *f)
{
    const char *with[WORDS_MAX] = {"serve", "--json", "--name"};
    struct ports p = {.setup = s, .chosen = "22"};
    char name[64] = "", list[ANSWER_LEN];
    if (runs(s, "serve",
             ": 'postern serve --add SERVICE...' lets it publish more, and with "
             "--reload only those"))
        return 0;
    bool before = look_back(s);
    if (!agrees(s,
                before ? "It publishes something already. Choose anew?"
                       : "Publish something that listens here (ssh, a web page) for "
                         "other devices?",
                !before && s->broker[0] == '\0'))
        return 0;
    if (!ask_link(s, "The broker's link, as 'postern broker' printed it?",
                  s->broker[0] != '\0' ? "the same" : "none", LINK_BROKER, s->broker) &&
        (s->ended || s->broker[0] == '\0'))
        return 0;
    (void)gethostname(name, sizeof(name) - 1);
    name[strcspn(name, ".")] = '\0';
    if (!ask(s, "What shall others call this host?", name))
        return 0;
    if (s->answer[0] != '\0')
        (void)snprintf(name, sizeof(name), "%.63s", s->answer);
    with[3] = name;
    (void)fprintf(s->tty, "\nThese listen here:\n");
    (void)sockdiag_listeners(on_listener, &p);
    if (!ask(s, "Which to publish, as in: 22 web=8080?", p.chosen))
        return 0;
    (void)snprintf(list, sizeof(list), "%s",
                   s->answer[0] != '\0' ? s->answer : p.chosen);
    with[4 + services(list, with + 4, WORDS_MAX - 6)] = NULL;
    bool unit = wants_unit(s);
    if (s->ended)
        return 0;
    (void)setenv("POSTERN_LINK", s->broker, 1);
    int rc = start_role(s, with, unit, f);
    (void)unsetenv("POSTERN_LINK");
    s->publishes = rc == 0;
    return rc;
}

static int join(struct setup *s, struct fault *f)
{
    static const char *const join_words[] = {"join", NULL};
    static const char *const up_words[] = {"service", "install", "up", NULL};
    char link[LINK_TEXT_LEN];
    if (!ask_link(
            s,
            "Use another host? Paste the invite that 'postern invite' printed there.",
            "none", LINK_INVITE, link))
        return 0;
    (void)setenv("POSTERN_LINK", link, 1);
    int rc = run_step(s, join_words, f);
    (void)unsetenv("POSTERN_LINK");
    if (rc == 0 && s->systemd &&
        agrees(s,
               "Keep a session to it ready, from the machine's start on (postern up)?",
               true))
        rc = run_step(s, up_words, f);
    return rc;
}

/* ---------------------------------------------------------------------------- the end
 */

static void tell_next(struct setup *s)
{
    if (!s->did_something)
        (void)fprintf(s->tty,
                      "\nNothing was set up. 'postern --help' lists the commands.\n");
    else if (s->publishes)
        (void)fprintf(s->tty, "\nNext, on the other machine, within an hour:\n"
                              "  postern join LINK      with the link above\n");
    else if (s->broker[0] != '\0')
        (void)fprintf(s->tty,
                      "\nNext, on the host: 'postern setup', or\n"
                      "  postern serve --broker %s 22\n",
                      s->broker);
    if (s->running_count > 0)
        (void)fprintf(s->tty, "\nIt runs in this terminal until Ctrl-C.\n");
    (void)fflush(s->tty);
}

/* What they say, until they end: with Ctrl-C, which reaches them too. */
static void attend(struct setup *s)
{
    struct ready fds[2];
    char line[1100];
    while (s->running_count > 0) {
        for (size_t i = 0; i < s->running_count; i++)
            fds[i] =
                (struct ready){.fd = fileno(s->running[i].said), .wanted = WATCH_READ};
        if (ready_wait(fds, s->running_count, -1) < 0)
            continue;
        for (size_t i = s->running_count; i-- > 0;) {
            if (fds[i].is == 0)
                continue;
            if (child_line(&s->running[i], line, sizeof(line))) {
                tell(s, line);
                continue;
            }
            (void)child_wait(&s->running[i]);
            s->running[i] = s->running[--s->running_count];
        }
    }
}

static int converse(struct setup *s, struct fault *f)
{
    static const char *const invite[] = {"invite", NULL};
    (void)fprintf(s->tty,
                  "Enter takes what stands in [ ]; Ctrl-D ends it, and what was "
                  "done stays.\n");
    if (!s->systemd)
        (void)fprintf(s->tty, "No systemd runs here: what is started runs in this "
                              "terminal.\n");
    int rc = be_broker(s, f);
    if (rc == 0)
        rc = publish(s, f);
    if (rc == 0)
        rc = join(s, f);
    if (s->publishes) {
        int made = run_step(s, invite, f);
        rc = rc != 0 ? rc : made;
    }
    if (rc == 0)
        tell_next(s);
    else
        for (size_t i = 0; i < s->running_count; i++)
            (void)kill(s->running[i].pid, SIGTERM);
    attend(s);
    return rc;
}

int cmd_setup(const struct options *o, struct events *out, struct fault *f)
{
    struct setup *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return fault_set(f, POSTERN_ERR_NOMEM, "end other programs", "out of memory");
    ssize_t len = readlink("/proc/self/exe", s->program, sizeof(s->program) - 1);
    int rc = len > 0 ? statedir_open(&s->state, o->values[OPT_STATE].text, f)
                     : fault_set(f, POSTERN_ERR_IO, "mount /proc",
                                 "this program does not find itself");
    s->out = out;
    s->state_given = o->values[OPT_STATE].given;
    s->systemd = access("/run/systemd/system", F_OK) == 0;
    s->tty = isatty(STDIN_FILENO) == 1 ? fopen("/dev/tty", "r+e") : NULL;
    if (rc == 0 && s->tty == NULL)
        rc = fault_set(f, POSTERN_ERR_USAGE,
                       "run 'postern broker', 'postern serve --broker LINK 22' or "
                       "'postern join LINK' instead",
                       "setup asks on a terminal, and there is none");
    if (rc == 0) {
        (void)setenv("POSTERN_STATE", s->state.path, 1);
        rc = converse(s, f);
    }
    if (s->tty != NULL)
        (void)fclose(s->tty);
    free(s);
    return rc;
}

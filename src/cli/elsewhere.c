/*
 * Looks for the state directories of root and of who became root, and whether the own
 * one holds anything; what a command does with it is not known. Only what belongs to
 * root is named to others, and to root only what belongs to who called: a stranger
 * names neither.
 */
#include "cli/elsewhere.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/book.h"
#include "host/roster.h"
#include "io/log.h"
#include "io/statedir.h"

enum { SERVE = 1, UP = 2, MILD = 4 }; /* MILD: it makes sense without, and is warned */

static const struct {
    const char *command;
    unsigned needs;
} duties[] = {
    {"access", SERVE},
    {"invite", SERVE},
    {"receive", SERVE},
    {"revoke", SERVE},
    {"share", SERVE},
    {"connect", UP},
    {"leave", UP},
    {"nc", UP},
    {"open", UP},
    {"ping", UP},
    {"send", UP},
    {"socks", UP},
    {"ssh", UP},
    {"up", UP},
    {"discover", SERVE | MILD},
    {"doctor", SERVE | UP | MILD},
    {"join", UP | MILD},
    {"log", SERVE | MILD},
    {"run", SERVE | MILD},
    {"serve", SERVE},
    {"ls", UP | MILD},
    {"service", SERVE | UP | MILD},
    {"status", SERVE | UP | MILD},
};

static unsigned needs_of(const struct command *c, const struct options *o)
{
    const struct option_value *v = o->values;
    unsigned needs = 0;
    for (size_t i = 0; i < sizeof(duties) / sizeof(duties[0]); i++)
        if (strcmp(duties[i].command, c->name) == 0)
            needs = duties[i].needs;
    if (strcmp(c->name, "ls") == 0 && v[OPT_DEVICES].given)
        return SERVE;
    if (strcmp(c->name, "serve") == 0 && (v[OPT_BROKER].given || v[OPT_VIA].given ||
                                          v[OPT_AGENT].given || v[OPT_CONFIG].given))
        return geteuid() == 0 ? SERVE | MILD : 0; /* a first start, as with `join` */
    if (v[OPT_SSH_CONFIG].given || v[OPT_CLEAN_NAMES].given)
        return 0;
    if (strcmp(c->name, "join") == 0 && geteuid() != 0)
        return 0; /* with an invite of one's own it is as it should be */
    return needs;
}

/* Of whom a directory is named here: of root, or to root of who called it; or -1. */
static long other_user(void)
{
    const char *uid = getenv("SUDO_UID");
    if (geteuid() != 0)
        return 0;
    return uid != NULL && strtol(uid, NULL, 10) > 0 ? strtol(uid, NULL, 10) : -1;
}

static bool is_of(long user, const char *dir)
{
    struct stat st;
    return user == 0 && strncmp(dir, "/root/", 6) == 0
               ? true /* others cannot look into it */
               : stat(dir, &st) == 0 && (long)st.st_uid == user;
}

/*
 * Where `role` runs for that user. Its directory is closed to others, but the kernel
 * lists the sockets of all.
 */
static bool find_running(long user, const char *role, char dir[STATEDIR_PATH_LEN])
{
    char line[512], end[32];
    bool found = false;
    FILE *sockets = fopen("/proc/net/unix", "re");
    size_t tail = (size_t)snprintf(end, sizeof(end), "/%s.sock\n", role);
    while (sockets != NULL && !found && fgets(line, sizeof(line), sockets) != NULL) {
        char *path = strstr(line, " /");
        if (path == NULL)
            continue;
        size_t len = strlen(++path);
        if (len <= tail || strcmp(path + len - tail, end) != 0)
            continue;
        path[len - tail] = '\0';
        (void)snprintf(dir, STATEDIR_PATH_LEN, "%s", path);
        found = is_of(user, dir);
    }
    if (sockets != NULL)
        (void)fclose(sockets);
    return found;
}

/* Where who called keeps it, running or not: only root can see that. */
static bool find_kept(long user, const char *file, char dir[STATEDIR_PATH_LEN])
{
    const struct passwd *p = user > 0 ? getpwuid((uid_t)user) : NULL;
    int n = p == NULL ? -1
                      : snprintf(dir, STATEDIR_PATH_LEN, "%s/.local/state/postern",
                                 p->pw_dir);
    return n > 0 && n < STATEDIR_PATH_LEN && is_of(user, dir) &&
           statedir_has(dir, file);
}

/* A host joined. What cannot be read is not nothing. */
static bool has_joined(const struct statedir *s)
{
    struct book *b = NULL;
    struct fault f;
    if (!statedir_has(s->path, "book.db"))
        return false;
    bool any = book_open(&b, s, &f) != 0 || book_hosts(b, NULL, 0) != 0;
    book_close(b);
    return any;
}

/* A broker that took it in, or a device that may enter. */
static bool has_served(const struct statedir *s)
{
    struct roster_client *clients = NULL;
    struct roster *r = NULL;
    struct fault f;
    if (!statedir_has(s->path, "host.db"))
        return false;
    struct roster_settings *set = calloc(1, sizeof(*set));
    bool any = set == NULL || roster_open(&r, s->path, &f) != 0 ||
               roster_settings_get(r, set) != POSTERN_ERR_NOTFOUND ||
               roster_clients_all(r, &clients) != 0;
    free(clients);
    roster_close(r);
    free(set);
    return any;
}

/* By what is in it: commands leave files there that hold nothing yet. */
static bool has_own(unsigned need)
{
    struct statedir own;
    struct statedir_holder h;
    if (statedir_find(&own, NULL) != 0)
        return false;
    return statedir_held(&own, need == SERVE ? "serve" : "up", &h) ||
           (need == SERVE ? has_served(&own) : has_joined(&own));
}

/* One line: whose it is, and how to mean that, or the own all the same. */
static int explain(bool serves, const char *dir, struct fault *f)
{
    char advice[sizeof(f->advice)], with[200] = "";
    if (geteuid() == 0) {
        (void)snprintf(
            advice, sizeof(advice), "%sadd '--state %.150s'%s",
            serves ? "run this without sudo, or " : "", dir,
            serves ? "" : ", or '--state " STATEDIR_ROOT "' to be another device");
        return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                         serves ? "root publishes nothing here: you do, with %.200s"
                                : "root has joined no host: you have, with %.200s",
                         dir);
    }
    if (strcmp(dir, STATEDIR_ROOT) != 0)
        (void)snprintf(with, sizeof(with), " and --state %.150s", dir);
    (void)snprintf(advice, sizeof(advice), "run this with sudo%s%s", with,
                   serves ? "" : ", or join with an invite of your own");
    return fault_set(f, POSTERN_ERR_NOTFOUND, advice,
                     serves ? "you publish nothing here: on this machine root serves"
                            : "you have joined no host: on this machine root's "
                              "'postern up' runs");
}

/* 0: this user has it, or nobody has. */
static int look(unsigned need, struct fault *f)
{
    const char *role = need == SERVE ? "serve" : "up";
    const char *file = need == SERVE ? "host.db" : "book.db";
    char dir[STATEDIR_PATH_LEN];
    long user = other_user();
    if (user < 0 || (!find_running(user, role, dir) && !find_kept(user, file, dir)) ||
        has_own(need))
        return 0;
    return explain(need == SERVE, dir, f);
}

int elsewhere_check(const struct command *c, const struct options *o, struct fault *f)
{
    const char *env = getenv("POSTERN_STATE");
    unsigned needs = needs_of(c, o);
    int err = 0;
    if (o->values[OPT_STATE].given || (env != NULL && env[0] != '\0'))
        return 0;
    for (unsigned need = SERVE; need <= UP && err == 0; need++) {
        struct fault found;
        if ((needs & need) == 0 || look(need, &found) == 0)
            continue;
        if ((needs & MILD) != 0) {
            log_warn("%s; %s", found.what, found.advice);
        } else {
            *f = found;
            err = found.code;
        }
    }
    return err;
}

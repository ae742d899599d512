/*
 * The lines of `postern doctor`: printed as they come, kept, and written to a file in
 * which names, addresses and keys have made way for words. Every line of it goes
 * through core/scrub, and names are asked of all lists that have some.
 */
#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/daemon.h"
#include "client/book.h"
#include "core/scrub.h"
#include "host/lan.h"
#include "io/clock.h"
#include "io/lack.h"
#include "io/log.h"

static const char *const state_names[] = {
    [DOCTOR_OK] = "ok",
    [DOCTOR_WARNING] = "warning",
    [DOCTOR_BAD] = "bad",
    [DOCTOR_SKIPPED] = "skipped",
};

void doctor_say(struct doctor *d, const char *check, enum doctor_state state,
                const char *advice, const char *fmt, ...)
{
    struct event e;
    va_list ap;
    char what[sizeof(d->found[0].words.what)];
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    event_begin(&e, "check");
    event_text(&e, "check", check);
    event_text(&e, "state", state_names[state]);
    event_text(&e, "what", what);
    event_text(&e, "do", advice[0] != '\0' ? advice : NULL);
    events_print(d->out, &e);
    d->bad += state == DOCTOR_BAD;
    if (d->count == DOCTOR_FOUND_MAX)
        return;
    struct doctor_found *found = &d->found[d->count++];
    found->check = check;
    found->state = state;
    (void)fault_set(&found->words, 0, advice, "%s", what);
}

unsigned doctor_left_ms(const struct doctor *d, unsigned want_ms)
{
    uint64_t now = clock_us(), left = now < d->until_us ? d->until_us - now : 0;
    return left / 1000 < want_ms ? (unsigned)(left / 1000) : want_ms;
}

void doctor_wait(const char *what)
{
    log_progress("checking: %s ...", what);
}

/* ----------------------------------------------------------------- what is taken out
 */

static void know_user(struct scrub *s)
{
    static const char *const variables[] = {"USER", "LOGNAME", "SUDO_USER"};
    char name[256] = "";
    const struct passwd *p = getpwuid(geteuid());
    if (gethostname(name, sizeof(name) - 1) == 0) {
        scrub_know(s, "machine", name);
        name[strcspn(name, ".")] = '\0';
        scrub_know(s, "machine", name);
    }
    scrub_know(s, "home", getenv("HOME"));
    if (p != NULL) {
        scrub_know(s, "home", p->pw_dir);
        if (p->pw_uid != 0) /* root is what it is everywhere */
            scrub_know(s, "user", p->pw_name);
    }
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *v = getenv(variables[i]);
        if (v != NULL && strcmp(v, "root") != 0)
            scrub_know(s, "user", v);
    }
}

static void know_link(struct scrub *s, const char *text)
{
    struct link l;
    if (link_parse(&l, text, NULL) == 0)
        scrub_know(s, "broker", l.host);
}

static void know_joined(struct scrub *s, const struct statedir *state)
{
    struct book *b = NULL;
    struct book_host *hosts = calloc(SCRUB_WORDS_MAX, sizeof(*hosts));
    if (hosts != NULL && statedir_has(state->path, "book.db") &&
        book_open(&b, state, NULL) == 0) {
        int n = book_hosts(b, hosts, SCRUB_WORDS_MAX);
        for (int i = 0; i < n && i < SCRUB_WORDS_MAX; i++) {
            scrub_know(s, "host", hosts[i].name);
            know_link(s, hosts[i].broker);
        }
    }
    book_close(b);
    free(hosts);
}

static void know_lan(struct scrub *s, struct roster *r)
{
    struct lan_host *others = calloc(LAN_HOSTS_MAX, sizeof(*others));
    size_t n = 0;
    if (others != NULL && lan_host_list(r, others, &n) == 0)
        for (size_t i = 0; i < n; i++)
            scrub_know(s, "lan-host", others[i].name);
    free(others);
}

static void know_devices(struct scrub *s, struct roster *r)
{
    struct roster_client *clients = NULL;
    struct roster_settings *set = calloc(1, sizeof(*set));
    int n = roster_clients_all(r, &clients);
    for (int i = 0; i < n; i++)
        scrub_know(s, "device", clients[i].name);
    if (set != NULL && roster_settings_get(r, set) == 0) {
        scrub_know(s, "host", set->name);
        know_link(s, set->broker);
    }
    free(set);
    free(clients);
}

static void know_accounts(struct scrub *s, struct access *a)
{
    struct access_account *accounts = calloc(SCRUB_WORDS_MAX, sizeof(*accounts));
    int n = accounts != NULL ? access_accounts(a, accounts, SCRUB_WORDS_MAX) : 0;
    for (int i = 0; i < n && i < SCRUB_WORDS_MAX; i++)
        scrub_know(s, "account", accounts[i].name);
    free(accounts);
}

static void know_names(struct scrub *s, const struct doctor *d)
{
    struct roster *r = NULL;
    struct access *a = NULL;
    know_user(s);
    scrub_know(s, "broker", d->broker.host);
    if (!d->has_state)
        return;
    scrub_know(s, "state", d->state.path);
    know_joined(s, &d->state);
    if (statedir_has(d->state.path, "host.db") &&
        daemon_open_roster(&r, &d->state, NULL) == 0) {
        know_devices(s, r);
        know_lan(s, r);
    }
    if (statedir_has(d->state.path, "access.db") &&
        daemon_open_access(&a, &d->state, NULL) == 0)
        know_accounts(s, a);
    roster_close(r);
    access_close(a);
}

/* --------------------------------------------------------------------------- the file
 */

struct report {
    FILE *to;
    struct scrub *scrub;
};

static void line(struct report *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void line(struct report *r, const char *fmt, ...)
{
    char text[2 * EVENT_TEXT_LEN], plain[2 * EVENT_TEXT_LEN];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    scrub_text(r->scrub, text, plain, sizeof(plain));
    (void)fprintf(r->to, "%s\n", plain);
}

static void write_files(struct report *r, const struct statedir *state)
{
    static const char *const names[] = {"device.db", "host.db", "access.db",
                                        "audit.db",  "book.db", "broker.db"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[STATEDIR_PATH_LEN + 16];
        struct stat st;
        (void)snprintf(path, sizeof(path), "%s/%s", state->path, names[i]);
        if (stat(path, &st) == 0)
            line(r, "file %s: mode %o, %lld bytes", names[i],
                 (unsigned)st.st_mode & 07777u, (long long)st.st_size);
    }
}

static void on_status(void *ctx, const char *json)
{
    char words[EVENT_TEXT_LEN];
    events_words(json, words, sizeof(words));
    line(ctx, "  %s", words);
}

static void write_daemons(struct report *r, const struct doctor *d)
{
    static const char *const roles[] = {"serve", "up"};
    for (size_t i = 0; i < 2; i++) {
        line(r, "status of %s:", roles[i]);
        struct fault f = {0};
        if (daemon_probe(&d->state, roles[i], (int)doctor_left_ms(d, 500), on_status, r,
                         &f) < 0)
            line(r, "  %s", f.what);
    }
}

static void write_all(struct report *r, const struct doctor *d)
{
    struct utsname u;
    (void)fprintf(r->to,
                  "A report of 'postern doctor'. Names, addresses and keys were taken "
                  "out of it; read it before\nyou send it: what is yours may stand in "
                  "words that it does not know.\n\n");
    line(r, "postern %s", POSTERN_VERSION);
    if (uname(&u) == 0)
        (void)fprintf(r->to, "%s %s %s\n", u.sysname, u.release, u.machine);
    line(r, "as %s", geteuid() == 0 ? "root" : "an ordinary user");
    for (size_t i = 0; i < d->count; i++) {
        const struct doctor_found *found = &d->found[i];
        line(r, "%s: %s: %s%s%s", state_names[found->state], found->check,
             found->words.what, found->words.advice[0] != '\0' ? "; " : "",
             found->words.advice);
    }
    if (d->netcheck[0] != '\0')
        line(r, "netcheck: %s", d->netcheck);
    if (d->has_state) {
        write_files(r, &d->state);
        write_daemons(r, d);
    }
}

int doctor_report_open(FILE **to, const char *file, struct fault *f)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (fd >= 0 && *to == NULL)
        (void)close(fd);
    return *to != NULL ? 0
                       : fault_set(f, POSTERN_ERR_IO, "name a file that can be made",
                                   "the report cannot be written to %.150s: %s", file,
                                   strerror(errno));
}

int doctor_report(const struct doctor *d, FILE *to, const char *file, struct fault *f)
{
    struct report r = {.to = to};
    r.scrub = calloc(1, sizeof(*r.scrub));
    if (r.scrub != NULL) {
        know_names(r.scrub, d);
        write_all(&r, d);
    }
    bool whole = ferror(r.to) == 0;
    whole = fclose(r.to) == 0 && whole && r.scrub != NULL;
    if (!whole)
        (void)unlink(file);
    free(r.scrub);
    return whole
               ? 0
               : fault_set(f, POSTERN_ERR_FULL, "free some space, or name another file",
                           "the report cannot be written to %.150s", file);
}

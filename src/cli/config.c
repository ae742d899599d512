/*
 * Lines to options, by the table of options; links and services are looked at here,
 * so that their line can be named. What the options do is not known here.
 */
#include "cli/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "cli/link_text.h"
#include "cli/serve_words.h"
#include "core/guess.h"
#include "core/link.h"
#include "host/agent_door.h"
#include "host/certs.h"
#include "host/serve.h"
#include "host/service.h"
#include "host/via.h"
#include "io/given_file.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/statedir.h"

#define WHITE " \t\r"
#define BOM "\xef\xbb\xbf" /* what some editors put before UTF-8 */

enum { CONFIG_MAX_BYTES = 64 << 10 };

struct config {
    struct options *o;
    const struct command *command;
    const char *file;
    unsigned line;
    option_set had; /* options of the command line, and those of lines before */
    bool checks;    /* it is only looked at */
    bool open;      /* others may read it */
    unsigned tls_lines[OPTION_LIST_MAX], command_line; /* where --tls* stood */
};

/* As options stand in a file; what is quoted is a command line. */
static void without_dashes(char *text)
{
    bool quoted = false;
    char *to = text;
    for (const char *at = text; *at != '\0'; at++) {
        bool begins = at == text || strchr(" (,;", at[-1]) != NULL;
        quoted ^= *at == '\'';
        if (!quoted && begins && strncmp(at, "--", 2) == 0 &&
            isalpha((unsigned char)at[2]) != 0)
            at += 2;
        *to++ = *at;
    }
    *to = '\0';
}

/* "FILE line N: WHAT". */
static int at_line(const struct config *c, int err, struct fault *f)
{
    struct fault why = *f;
    if (err == POSTERN_ERR_NOMEM)
        return err;
    without_dashes(why.advice);
    return fault_set(f, POSTERN_ERR_USAGE, why.advice, "%.120s line %u: %s", c->file,
                     c->line, why.what);
}

/* What does something else than to serve does not stand in a file. */
static bool is_setting(size_t id)
{
    return id != OPT_HELP && id != OPT_CONFIG && id != OPT_RELOAD && id != OPT_ADD &&
           id != OPT_AGENT_FORGET;
}

static int unknown(const struct config *c, const char *name, struct fault *f)
{
    struct guess g;
    char advice[160], bare[GUESS_LEN];
    const char *at = name + strspn(name, "-");
    (void)snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(at, "=:"), at);
    guess_begin(&g, bare);
    guess_offer(&g, "service");
    for (size_t id = 0; id < OPTION_COUNT; id++)
        if (option_of(c->command, id) != NULL && is_setting(id))
            guess_offer(&g, option_of(c->command, id)->name);
    if (strcmp(bare, g.best) == 0)
        (void)snprintf(advice, sizeof(advice),
                       "write the name, a blank and the value, as in '%s VALUE'", bare);
    else
        guess_advice(&g, advice, sizeof(advice),
                     "a line begins with 'service', or with an option of 'postern "
                     "serve --help' without its dashes");
    return fault_set(f, POSTERN_ERR_USAGE, advice, "there is no '%.60s'", name);
}

/* What other kinds of files have, and would count as a part of the value here. */
static int check_form(const char *name, const char *value, struct fault *f)
{
    size_t len = strlen(value);
    bool quoted =
        len > 1 && value[len - 1] == value[0] && strchr("'\"", value[0]) != NULL;
    if (strcmp(name, "agent") == 0 && value[0] == ':')
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "for all addresses write 0.0.0.0 before it, or agent alone for "
            "port 4480",
            "'%.60s' is a port without an address to listen on", value);
    if (len > 0 && strchr("=:", value[0]) != NULL)
        return fault_set(f, POSTERN_ERR_USAGE, "leave it out: a blank is enough",
                         "'%c' stands between '%s' and its value", value[0], name);
    if (quoted && strcmp(name, "tls-command") != 0) /* the shell's */
        return fault_set(f, POSTERN_ERR_USAGE, "leave them out: nothing is quoted here",
                         "there are quotes around the value of '%s'", name);
    return 0;
}

/* A title may have a '#' in it, as in "Camera #1", but not begin with one. */
static int check_comment(const char *name, const char *value, struct fault *f)
{
    bool titled = strcmp(name, "service") == 0;
    const char *title = value + strcspn(value, WHITE);
    title += strspn(title, WHITE);
    if (strcmp(name, "tls-command") == 0) /* the shell's */
        return 0;
    for (const char *at = value; (at = strchr(at, '#')) != NULL; at++) {
        bool apart = at > value && strchr(WHITE, at[-1]) != NULL;
        if (apart && (!titled || at == title || strchr(WHITE, at[1]) != NULL))
            return fault_set(f, POSTERN_ERR_USAGE, "put it on a line of its own",
                             "a comment stands behind the value of '%s'", name);
    }
    return 0;
}

static bool is_service(const char *word)
{
    struct service s;
    bool bare = word[strspn(word, "0123456789-")] == '\0';
    return (bare || strchr(word, '=') != NULL) && service_parse(&s, word, NULL) == 0;
}

/* "22 8080" would be a service that is called so in people's lists. */
static int check_alone(const char *value, struct fault *f)
{
    char word[SERVICE_TEXT_LEN];
    const char *second = value + strcspn(value, WHITE), *at = second;
    for (at += strspn(at, WHITE); *at != '\0'; at += strspn(at, WHITE)) {
        size_t len = strcspn(at, WHITE);
        (void)snprintf(word, sizeof(word), "%.*s", (int)len, at);
        if (!is_service(word))
            return 0; /* a title */
        at += len;
    }
    if (*second == '\0')
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE, "write a line for each",
                     "more than one service stands there: '%.80s'", value);
}

/* That machine may not be known yet. */
static void warn_of_doubt(const struct config *c, const char *value)
{
    struct service s;
    char meant[SERVICE_MEANT_LEN];
    if (c->checks && serve_doubts(value, &s, meant))
        log_warn("%.120s line %u: '%.80s' is port %u of a machine called '%.60s', "
                 "which is not known here; did you mean %s?",
                 c->file, c->line, value, s.port, s.targets[0].host, meant);
}

/* The agent has the broker. */
static bool contradicts(const struct options *o, size_t id)
{
    const struct option_value *v = o->values;
    return (id == OPT_VIA && (v[OPT_BROKER].given || v[OPT_AGENT].given)) ||
           ((id == OPT_BROKER || id == OPT_AGENT) && v[OPT_VIA].given);
}

int config_absent(int64_t *seconds, const char *text, struct fault *f)
{
    *seconds = text == NULL ? 0 : -1;
    if (text == NULL || strcmp(text, "default") == 0)
        return 0;
    if (options_parse_duration(seconds, text) == 0 && *seconds >= 10 &&
        *seconds <= 365 * 24 * 3600)
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE,
                     "use 10s to 365d, for example 5m, or 'default'",
                     "'%.60s' is not a time that --absent takes", text);
}

int config_contradiction(struct fault *f)
{
    return fault_set(f, POSTERN_ERR_USAGE, "give --via alone: the agent has the broker",
                     "--via contradicts --broker and --agent");
}

/* What a value must be that `serve` reads itself; and where it stood. */
static int check_value(struct config *c, size_t id, const char *value, struct fault *f)
{
    const struct option_value *v = &c->o->values[id];
    int64_t absent_s;
    struct addr at;
    if (id == OPT_ABSENT)
        return config_absent(&absent_s, value, f);
    if (id == OPT_NAME)
        return serve_check_name(value, f);
    if (id == OPT_STATE && c->checks)
        return statedir_check_place(value, f);
    if (id == OPT_AGENT && agent_door_check(value, &at, f) != 0)
        return fault_set(f, POSTERN_ERR_USAGE, "write it as agent 192.168.1.2:4480",
                         "'%.80s' is no address and port to listen on", value);
    if (id == OPT_TLS && v->count > 0)
        c->tls_lines[v->count - 1] = c->line;
    if (id == OPT_TLS_COMMAND)
        c->command_line = c->line;
    return 0;
}

/* What stands in a file is read once only, by who uses it: it may be a pipe. */
static int check_link(const struct config *c, size_t id, const char *text,
                      struct fault *f)
{
    struct link l;
    struct addr a;
    bool elsewhere = text[0] == '@' || strcmp(text, "-") == 0;
    if ((elsewhere && (!c->checks || text[0] != '@')) || addr_parse(&a, text) == 0 ||
        addr_parse_ip(&a, text) == 0)
        return 0;
    int err = link_text_read(&l, text, f);
    if (c->open && !elsewhere && (err == 0 || strstr(text, "://") != NULL))
        log_warn(
            "%.200s can be read by other users, and line %u has a link: run 'chmod "
            "600 %.200s', or write @FILE",
            c->file, c->line, c->file);
    if (err == 0)
        err = id == OPT_BROKER ? link_check_broker(&l, f) : via_check_link(&l, f);
    sodium_memzero(&l, sizeof(l));
    return err;
}

static int set_option(struct config *c, const char *name, const char *value,
                      struct fault *f)
{
    size_t id = 0;
    const struct option_row *row = NULL;
    while (id < OPTION_COUNT && ((row = option_of(c->command, id)) == NULL ||
                                 strcmp(row->name, name) != 0 || !is_setting(id)))
        id++;
    if (id == OPTION_COUNT || row == NULL)
        return unknown(c, name, f);
    if ((c->had & OPTION_BIT(id)) != 0)
        return 0; /* the command line's */
    if (c->o->values[id].given && row->type != OPTION_LIST)
        return fault_set(f, POSTERN_ERR_USAGE, "leave one of them out",
                         "'%s' stands there twice", name);
    if (row->type == OPTION_FLAG && value[0] != '\0')
        return fault_set(f, POSTERN_ERR_USAGE, "write it alone", "'%s' takes no value",
                         name);
    if (row->type != OPTION_FLAG && row->type != OPTION_MAYBE && value[0] == '\0')
        return fault_set(f, POSTERN_ERR_USAGE, "write it behind", "'%s' needs a value",
                         name);
    int err = check_form(name, value, f);
    if (err == 0)
        err = check_comment(name, value, f);
    if (err == 0 && contradicts(c->o, id))
        err = config_contradiction(f);
    if (err == 0 && row->type == OPTION_LINK)
        err = check_link(c, id, value, f);
    if (err == 0)
        err = options_set(c->o, id, value, f);
    return err == 0 ? check_value(c, id, value, f) : err;
}

static int take_line(struct config *c, char *line, bool takes_services, struct fault *f)
{
    char *name = line + strspn(line, WHITE);
    size_t end = strlen(name);
    while (end > 0 && strchr(WHITE, name[end - 1]) != NULL)
        name[--end] = '\0';
    if (name[0] == '\0' || name[0] == '#')
        return 0;
    char *value = name + strcspn(name, WHITE);
    if (*value != '\0') {
        *value++ = '\0';
        value += strspn(value, WHITE);
    }
    if (strcmp(name, "service") != 0)
        return set_option(c, name, value, f);
    struct service_list list;
    const char *text = value;
    int err = check_form(name, value, f);
    if (err == 0)
        err = check_comment(name, value, f);
    if (err == 0)
        err = check_alone(value, f);
    if (err != 0)
        return err;
    warn_of_doubt(c, value);
    if (c->checks)
        serve_warn_of_protocol(value);
    if (takes_services)
        c->o->args[c->o->arg_count++] = value;
    err = takes_services /* with those before: a name stands once */
              ? service_list_parse(&list, c->o->args, c->o->arg_count, f)
              : service_list_parse(&list, &text, 1, f);
    service_list_fini(&list);
    return err;
}

static int take_text(struct config *c, char *text, struct fault *f)
{
    bool takes_services = c->o->arg_count == 0;
    size_t lines = 2;
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    const char **args = takes_services ? calloc(lines, sizeof(*args)) : NULL;
    if (takes_services && args == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    if (takes_services) {
        free(c->o->args);
        c->o->args = args;
    }
    char *rest = text + (strncmp(text, BOM, strlen(BOM)) == 0 ? strlen(BOM) : 0), *line;
    int err = 0;
    while (err == 0 && (line = strsep(&rest, "\n")) != NULL) {
        c->line++;
        err = take_line(c, line, takes_services, f);
    }
    c->o->args_of_file = takes_services;
    return err == 0 ? 0 : at_line(c, err, f);
}

/* All of it, or how it could not be read. */
static ssize_t read_whole(int fd, char text[static CONFIG_MAX_BYTES])
{
    ssize_t got, len = 0;
    while ((got = read(fd, text + len, (size_t)(CONFIG_MAX_BYTES - len))) > 0)
        len += got;
    return got < 0 ? got : len;
}

/* The text is the options' from then on, which wipe it. */
static char *read_file(struct config *c, struct fault *f)
{
    struct stat st = {0};
    int fd = given_file_open(c->file, NULL, f);
    if (fd < 0)
        return NULL;
    char *text = calloc(1, CONFIG_MAX_BYTES + 1);
    c->open = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) != 0;
    ssize_t len = text != NULL ? read_whole(fd, text) : 0;
    int err = errno;
    (void)close(fd);
    if (text != NULL && len >= 0 && len < CONFIG_MAX_BYTES &&
        strlen(text) == (size_t)len)
        return text;
    if (len < 0)
        (void)fault_set(f, POSTERN_ERR_IO, "name a file that can be read",
                        "%.200s cannot be read: %s", c->file, strerror(err));
    else if (text == NULL)
        (void)fault_lack(f, POSTERN_ERR_NOMEM);
    else
        (void)fault_set(f, POSTERN_ERR_USAGE, "give a text of less than 64 KiB",
                        "%.200s is no file of options", c->file);
    free(text);
    return NULL;
}

static int read_config(struct config *c, struct fault *f)
{
    for (size_t id = 0; id < OPTION_COUNT; id++)
        c->had |= c->o->values[id].given ? OPTION_BIT(id) : 0;
    char *text = read_file(c, f);
    if (text == NULL)
        return f->code;
    c->o->file_text = text;
    c->o->file_len = strlen(text);
    return take_text(c, text, f);
}

int config_read(struct options *o, const struct command *command, const char *file,
                struct fault *f)
{
    struct config c = {.o = o, .command = command, .file = file};
    return read_config(&c, f);
}

/* --tls line by line, then what they are together with --tls-command. */
static int check_tls(struct config *c, struct access *a,
                     const struct service_list *published, struct fault *f)
{
    const struct option_value *tls = &c->o->values[OPT_TLS];
    const char *command = c->o->values[OPT_TLS_COMMAND].text;
    int err = 0;
    for (size_t i = 0; i < tls->count && err == 0; i++) {
        c->line = c->tls_lines[i];
        if (c->o->values[OPT_VIA].given)
            err = via_check_tls(&tls->list[i], 1, NULL, f);
        else if (strcmp(tls->list[i], "none") != 0 || tls->count > 1)
            err = certs_check(a, published, &tls->list[i], 1,
                              strchr(tls->list[i], '=') == NULL ? command : NULL, f);
    }
    if (err != 0)
        return err;
    c->line = command != NULL ? c->command_line : c->line;
    return c->o->values[OPT_VIA].given
               ? via_check_tls(tls->list, tls->count, command, f)
               : certs_check(a, published, tls->list, tls->count, command, f);
}

int config_check(struct options *o, const struct command *command, const char *file,
                 struct config_known *k, struct fault *f)
{
    struct config c = {.o = o, .command = command, .file = file, .checks = true};
    struct service_list published = {0};
    int err = read_config(&c, f);
    if (err == 0)
        err = k->open(k, o, f);
    if (err != 0)
        return err;
    err = o->arg_count > 0 ? service_list_parse(&published, o->args, o->arg_count, f)
                           : service_list_parse_lines(&published, k->services, f);
    int count = o->arg_count > 0 ? (int)published.count : 0;
    if (err == 0 && (err = check_tls(&c, k->access, &published, f)) != 0)
        err = at_line(&c, err, f);
    service_list_fini(&published);
    return err != 0 ? err : count;
}

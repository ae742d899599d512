/*
 * Links that are not on the command line, where every user of the machine reads them
 * (/proc/PID/cmdline); those that were are taken away from there. Their texts stay in
 * the options' memory, which wipes them.
 */
#include "cli/link_text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/link.h"
#include "core/spoken.h"
#include "io/given_file.h"
#include "io/lack.h"

static const char white[] = " \t\r\n\v\f";

static bool is_whole(const char *text)
{
    struct link l;
    struct spoken_code c;
    bool whole = link_parse(&l, text, NULL) == 0 ||
                 (spoken_parse(&c, text, NULL) == 0 && c.host[0] != '\0');
    sodium_memzero(&l, sizeof(l));
    sodium_memzero(&c, sizeof(c));
    return whole;
}

/* Whether the last line that was read ends the text: it made a link whole, or a person
 * pressed Enter once more. */
static bool ends_here(const char *text, size_t len, bool person)
{
    if (text[len - 1] != '\n' || strspn(text, white) == len)
        return false;
    return is_whole(text) || (person && len > 1 && text[len - 2] == '\n');
}

/*
 * One byte after the other, so that what stands behind the link is left to others.
 * Returns its length, or a negative error.
 */
static int read_text(int fd, bool person, char text[static LINK_INPUT_MAX + 1])
{
    size_t len = 0;
    for (;;) {
        ssize_t got = read(fd, text + len, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return POSTERN_ERR_IO;
        if (got == 0)
            break;
        if (text[len] == '\0')
            return POSTERN_ERR_INVALID;
        if (++len > LINK_INPUT_MAX)
            return POSTERN_ERR_LIMIT;
        text[len] = '\0';
        if (ends_here(text, len, person))
            break;
    }
    while (len > 0 && strchr(white, text[len - 1]) != NULL)
        len--;
    text[len] = '\0';
    return (int)len;
}

static int no_text(int err, const char *name, struct fault *f)
{
    switch (err) {
    case 0:
        return fault_set(f, POSTERN_ERR_USAGE, "put the link into it, and nothing else",
                         "there is no link in %.200s", name);
    case POSTERN_ERR_LIMIT:
        return fault_set(f, POSTERN_ERR_USAGE, "put the link into it, and nothing else",
                         "%.200s is too long to be a link", name);
    case POSTERN_ERR_INVALID:
        return fault_set(f, POSTERN_ERR_USAGE, "put the link into it, as text",
                         "%.200s is no text, so no link is in it", name);
    default:
        return fault_set(f, err, "name a file that can be read",
                         "the link cannot be read from %.200s: %s", name,
                         strerror(errno));
    }
}

/* `given` is "-" or "@FILE". */
static int fetch(char text[static LINK_INPUT_MAX + 1], const char *given,
                 struct fault *f)
{
    bool is_stdin = strcmp(given, "-") == 0;
    const char *name = is_stdin ? "standard input" : given + 1;
    bool person = is_stdin && isatty(STDIN_FILENO) == 1;
    int fd = is_stdin ? STDIN_FILENO : given_file_open(name, "the link", f);
    if (fd < 0)
        return fd;
    if (person)
        (void)fprintf(stderr, "Paste the link and press Enter:\n");
    int len = read_text(fd, person, text);
    int err = len > 0 ? 0 : no_text(len, name, f);
    if (!is_stdin)
        (void)close(fd);
    return err;
}

int link_text_read(struct link *l, const char *given, struct fault *f)
{
    char text[LINK_INPUT_MAX + 1];
    if (given[0] != '@' || given[1] == '\0')
        return link_parse(l, given, f);
    int err = fetch(text, given, f);
    if (err == 0)
        err = link_parse(l, text, f);
    sodium_memzero(text, sizeof(text));
    return err;
}

/* A copy that `o` owns; a link in it is written as it was made. NULL: no memory. */
static const char *keep(struct options *o, const char *text)
{
    struct link l;
    char made[LINK_TEXT_LEN];
    if (link_parse(&l, text, NULL) == 0) {
        link_format(&l, made);
        text = made;
    }
    char *copy = strdup(text);
    if (copy != NULL)
        o->link_texts[o->link_text_count++] = copy;
    sodium_memzero(&l, sizeof(l));
    sodium_memzero(made, sizeof(made));
    return copy;
}

/* Of what stood in the command line /proc/PID/cmdline shows stars from now on. */
static void blot(const char *text)
{
    memset((char *)(uintptr_t)text, '*', strlen(text));
}

static int settle(struct options *o, const char **at, struct fault *f)
{
    char text[LINK_INPUT_MAX + 1];
    bool elsewhere = strcmp(*at, "-") == 0 || ((*at)[0] == '@' && (*at)[1] != '\0');
    int err = elsewhere ? fetch(text, *at, f) : 0;
    if (err == 0) {
        const char *given = *at;
        *at = keep(o, elsewhere ? text : given);
        if (*at == NULL)
            err = fault_lack(f, POSTERN_ERR_NOMEM);
        else if (!elsewhere)
            blot(given);
    }
    sodium_memzero(text, sizeof(text));
    return err;
}

/* A link that the shell took for several words is one argument again. */
static int join_words(struct options *o, struct fault *f)
{
    char all[LINK_INPUT_MAX + 1];
    size_t used = 0;
    if (o->arg_count < 2)
        return 0;
    if (o->args[0][0] == '-' || o->args[0][0] == '@' || is_whole(o->args[0]))
        return fault_set(f, POSTERN_ERR_USAGE, "give the link alone",
                         "there is an argument too many: '%.60s'", o->args[1]);
    for (size_t i = 0; i < o->arg_count; i++) {
        int n = snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? " " : "",
                         o->args[i]);
        if ((size_t)n >= sizeof(all) - used)
            return fault_set(f, POSTERN_ERR_USAGE, "copy the link alone",
                             "this is too long to be a Postern link");
        used += (size_t)n;
    }
    for (size_t i = 0; i < o->arg_count; i++)
        blot(o->args[i]);
    o->args[0] = keep(o, all);
    o->args[1] = NULL;
    o->arg_count = 1;
    sodium_memzero(all, sizeof(all));
    return o->args[0] != NULL ? 0 : fault_lack(f, POSTERN_ERR_NOMEM);
}

/* The option of `c` that the environment's link is for; OPTION_COUNT: none. */
static size_t option_for(const struct options *o, const struct command *c,
                         enum link_type type)
{
    const struct option_value *v = o->values;
    if (v[OPT_BROKER].given || v[OPT_VIA].given || v[OPT_RELOAD].given ||
        v[OPT_ADD].given || v[OPT_AGENT_FORGET].given)
        return OPTION_COUNT;
    if (type == LINK_BROKER && option_of(c, OPT_BROKER) != NULL)
        return OPT_BROKER;
    if (type == LINK_AGENT && option_of(c, OPT_VIA) != NULL && !v[OPT_AGENT].given)
        return OPT_VIA;
    return OPTION_COUNT;
}

static int take_variable(struct options *o, const struct command *c, const char *text,
                         struct fault *f)
{
    struct link l;
    if (c->arguments[0] == ARGUMENT_LINK) {
        if (o->arg_count > 0)
            return 0;
        o->args[o->arg_count++] = text;
        return 0;
    }
    bool takes_one = option_for(o, c, LINK_BROKER) != OPTION_COUNT;
    int err = link_parse_given(&l, text, takes_one ? f : NULL);
    if (err != 0)
        return takes_one ? err : 0;
    size_t id = option_for(o, c, l.type);
    if (id != OPTION_COUNT) { /* an invite is for `join`, and no harm here */
        o->values[id].given = true;
        o->values[id].text = text;
    } else {
        o->passed_over = l.type;
    }
    sodium_memzero(&l, sizeof(l));
    return 0;
}

int link_text_settle(struct options *o, const struct command *c, struct fault *f)
{
    const char *variable = getenv(LINK_VARIABLE);
    int err = 0;
    if (variable != NULL && *variable != '\0') {
        variable = keep(o, variable);
        err = variable != NULL ? take_variable(o, c, variable, f)
                               : fault_lack(f, POSTERN_ERR_NOMEM);
    }
    (void)unsetenv(LINK_VARIABLE);
    if (err == 0 && c->arguments[0] == ARGUMENT_LINK)
        err = o->arg_count > 0
                  ? join_words(o, f)
                  : fault_set(f, POSTERN_ERR_USAGE,
                              "write it behind the command, or - and give it on "
                              "standard input, or @FILE, or set " LINK_VARIABLE,
                              "an argument is missing: %s", c->args_fault);
    for (size_t i = 0; err == 0 && i < o->arg_count; i++)
        if (i < COMMAND_ARGUMENTS && c->arguments[i] == ARGUMENT_LINK)
            err = settle(o, &o->args[i], f);
    for (size_t id = 0; err == 0 && id < OPTION_COUNT; id++)
        if (o->values[id].given && option_of(c, id)->type == OPTION_LINK)
            err = settle(o, &o->values[id].text, f);
    return err;
}

/*
 * Writes a manual page out of the tables of commands and options: `manual NAME DATE`,
 * NAME being postern or postern-COMMAND. Run by the build; no part of the program.
 */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "core/kinds.h"

/* Text for roff: nothing in it is a request, and a dash is one that can be copied. */
static void put(const char *text)
{
    bool fresh = true;
    for (const char *at = text; *at != '\0'; at++) {
        if (fresh && (*at == '.' || *at == '\''))
            (void)fputs("\\&", stdout);
        if (*at == '\\')
            (void)fputs("\\e", stdout);
        else if (*at == '-')
            (void)fputs("\\-", stdout);
        else if (*at == '\'')
            (void)fputs("\\(aq", stdout);
        else
            (void)fputc(*at, stdout);
        fresh = *at == '\n';
    }
}

static void section(const char *name)
{
    (void)printf("\n.SH %s\n", name);
}

static void bold(const char *text)
{
    (void)fputs("\\fB", stdout);
    put(text);
    (void)fputs("\\fR", stdout);
}

static void head(const char *name, const char *summary, const char *date)
{
    (void)fputs(".TH ", stdout);
    for (const char *at = name; *at != '\0'; at++)
        (void)fputc(*at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at, stdout);
    (void)printf(" 1 %s \"Postern %s\" \"Postern\"", date, POSTERN_VERSION);
    section("NAME");
    put(name);
    (void)fputs(" \\- ", stdout);
    put(summary);
    section("SYNOPSIS");
}

static void option(const struct option_row *row)
{
    char name[48];
    (void)fputs(".TP\n", stdout);
    if (row->letter != 0) {
        (void)snprintf(name, sizeof(name), "-%c", row->letter);
        bold(name);
        (void)fputs(", ", stdout);
    }
    (void)snprintf(name, sizeof(name), "--%s", row->name);
    bold(name);
    if (row->value != NULL) {
        (void)fputs(row->type == OPTION_MAYBE_TIME ? "\\fI" : " \\fI", stdout);
        put(row->value);
        (void)fputs("\\fR", stdout);
    }
    (void)fputc('\n', stdout);
    put(row->help);
    for (unsigned k = 0; row->type == OPTION_KINDS && k < PATH_KIND_COUNT; k++) {
        (void)fputs(k > 0 ? ", " : "\n", stdout);
        put(path_kind_name((enum path_kind)k));
    }
    (void)fputc('\n', stdout);
}

static void foot(void)
{
    section("EXIT STATUS");
    (void)fputs(
        "0 done, 1 failed at run time, 2 wrong command line. A failure prints one "
        "line that says\nwhat went wrong and what to do.",
        stdout);
    section("SEE ALSO");
}

static void page_of(const struct command *c, const char *name, const char *date)
{
    head(name, c->summary, date);
    bold("postern ");
    bold(c->name);
    (void)fputc(' ', stdout);
    put(c->synopsis);
    section("DESCRIPTION");
    put(c->about);
    section("OPTIONS");
    for (size_t pass = 0; pass < 2; pass++) /* its own first, then those of all */
        for (size_t id = 0; id < OPTION_COUNT; id++)
            if (option_of(c, id) != NULL && (id <= OPT_VERBOSE) == (pass == 1))
                option(option_of(c, id));
    section("EXAMPLE");
    (void)fputs(".nf\n", stdout);
    put(c->example);
    (void)fputs("\n.fi", stdout);
    foot();
    (void)fputs(
        ".BR postern (1),\n.BR postern\\-events (5),\n.BR postern\\-state (5)\n",
        stdout);
}

static void page_of_all(const char *date)
{
    head("postern", "reach servers that listen on nothing, behind any NAT or firewall",
         date);
    (void)fputs("\\fBpostern\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...] "
                "[\\fIARGUMENT\\fR...]",
                stdout);
    section("DESCRIPTION");
    (void)fputs(
        "Options and arguments may come in any order;\n.B \\-\\-\nends the options. "
        "Each command has a page of its own, as\n.BR postern\\-serve (1).",
        stdout);
    section("COMMANDS");
    for (const struct command *c = commands; c->name != NULL; c++) {
        (void)fputs(".TP\n", stdout);
        bold(c->name);
        (void)fputc('\n', stdout);
        put(c->summary);
        (void)fputc('\n', stdout);
    }
    section("OPTIONS OF EVERY COMMAND");
    static const struct command none = {.name = "none"};
    for (size_t id = 0; id < OPTION_COUNT; id++)
        if (option_of(&none, id) != NULL)
            option(option_of(&none, id));
    foot();
    for (const struct command *c = commands; c->name != NULL; c++)
        (void)printf(".BR postern\\-%s (1),\n", c->name);
    (void)fputs(".BR postern\\-events (5),\n.BR postern\\-state (5)\n", stdout);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "postern") == 0) {
        page_of_all(argv[2]);
        return 0;
    }
    const struct command *c =
        strncmp(argv[1], "postern-", 8) == 0 ? command_find(argv[1] + 8) : NULL;
    if (c == NULL)
        return 1;
    page_of(c, argv[1], argv[2]);
    return 0;
}

/*
 * The table of options and the one parser. It checks what can be checked without
 * looking at the machine: names, numbers, durations, path kinds, how many arguments.
 */
#include "cli/options.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "core/addr.h"
#include "core/guess.h"
#include "core/kinds.h"
#include "io/lack.h"

#define DAY_S (24 * 3600)

// clang-format off
static const struct option_row option_table[OPTION_COUNT] = {
    [OPT_HELP]    = {"help",    'h', OPTION_FLAG, NULL, 0, 0, "print this help"},
    [OPT_JSON]    = {"json",     0,  OPTION_FLAG, NULL, 0, 0, "report as JSON, one object a line"},
    [OPT_STATE]   = {"state",    0,  OPTION_TEXT, "DIR", 0, 0, "state directory (default: POSTERN_STATE; /var/lib/postern as root;\n"
                                                               "else ~/.local/state/postern)"},
    [OPT_VERBOSE] = {"verbose", 'v', OPTION_FLAG, NULL, 0, 0, "log what happens, on stderr"},
    [OPT_LISTEN]  = {"listen",   0,  OPTION_LIST, "ADDR:PORT", 0, 4, "TCP and UDP address to serve on, up to four times (default [::]:443)"},
    [OPT_PUBLIC]  = {"public",   0,  OPTION_TEXT, "NAME_OR_IP", 0, 0, "how the internet reaches this broker; goes into its link"},
    [OPT_OPEN]    = {"open",     0,  OPTION_FLAG, NULL, 0, 0, "let any host in, without the link's enrolment token"},
    [OPT_THREADS] = {"threads",  0,  OPTION_NUMBER, "N", 1, 64, "worker threads (default: one for each core)"},
    [OPT_STUN_ALTERNATE] = {"stun-alternate", 0, OPTION_TEXT, "ADDR:PORT", 0, 0, "second address for NAT behaviour discovery, or 'off' (default: found)"},
    [OPT_NO_ADDRESS_LIMITS] = {"no-address-limits", 0, OPTION_FLAG, NULL, 0, 0, "no limits for each address: for load tests only"},
    [OPT_METRICS] = {"metrics",  0,  OPTION_TEXT, "ADDR:PORT", 0, 0, "figures for Prometheus at http://ADDR:PORT/metrics, and /healthz and\n"
                                                               "/readyz; better on 127.0.0.1. Or the path of a socket (default: none)"},
    [OPT_WITHIN]  = {"within",   0,  OPTION_DURATION, "TIME", 1, 7 * DAY_S, "drain: how long what it relays may go on (default 5m)"},
    [OPT_DOMAIN]  = {"domain",   0,  OPTION_TEXT, "NAME", 0, 0, "services are found at SERVICE--HOST.NAME (default: the public name)"},
    [OPT_CERTIFICATE] = {"certificate", 0, OPTION_TEXT, "FILE", 0, 0, "the portal's certificate, PEM (default: a self-signed one)"},
    [OPT_KEY]     = {"key",      0,  OPTION_TEXT, "FILE", 0, 0, "its private key, PEM (default: it is in the same file)"},
    [OPT_IDLE]    = {"idle",     0,  OPTION_DURATION, "TIME", 1, 365 * DAY_S, "end a connection through the portal's ports that moves nothing for\n"
                                                               "so long (default 1h)"},
    [OPT_LOGIN]   = {"login",    0,  OPTION_DURATION, "TIME", 1, 365 * DAY_S, "how long a login to the portal lasts at most (default 12h)"},
    [OPT_NO_PORTAL] = {"no-portal", 0, OPTION_FLAG, NULL, 0, 0, "no web page for people without Postern"},
    [OPT_BROKER]  = {"broker",   0,  OPTION_LINK, "LINK", 0, 0, "the broker's link; serve remembers it. - is standard input,\n"
                                                               "@FILE a file, and without it POSTERN_LINK in the environment is taken"},
    [OPT_NAME]    = {"name",     0,  OPTION_TEXT, "HOST", 0, 0, "what clients call this host (default: this machine's name)"},
    [OPT_DEVICE_NAME] = {"name", 0,  OPTION_TEXT, "NAME", 0, 0, "what the host calls this device (default: this machine's name)"},
    [OPT_PATHS]   = {"paths",    0,  OPTION_KINDS, "KIND,...", 0, 0, "use only these path kinds (default: all but dial-out and spoof);\n"
                                                               "see docs/METHODS.md:"},
    [OPT_DIAL_OUT] = {"dial-out", 0, OPTION_FLAG, NULL, 0, 0, "let the host dial out to this client's own port; on both sides"},
    [OPT_SPOOF]   = {"spoof",    0,  OPTION_FLAG, NULL, 0, 0, "send with the broker's address as source; on both sides, see\n"
                                                               "docs/SECURITY.md"},
    [OPT_JIT_WINDOW] = {"jit-window", 0, OPTION_NUMBER, "MS", 100, 999, "how long jit-listen keeps its port open (default 900)"},
    [OPT_YES]     = {"yes",      0,  OPTION_FLAG, NULL, 0, 0, "publish what it listens on without asking"},
    [OPT_ASK]     = {"ask",      0,  OPTION_FLAG, NULL, 0, 0, "ask on the terminal before each is published (run does so on one by itself)"},
    [OPT_ONLY]    = {"only",     0,  OPTION_TEXT, "PORT,...", 0, 0, "publish these ports only"},
    [OPT_LOOPBACK] = {"loopback", 0, OPTION_FLAG, NULL, 0, 0, "let the program listen on loopback only: then nothing reaches it\n"
                                                               "but what this machine and Postern let in"},
    [OPT_FOR]     = {"for",      0,  OPTION_TEXT, "NAME,...", 0, 0, "only for these devices and accounts (default: all whose list has it)"},
    [OPT_RELOAD]  = {"reload",   0,  OPTION_FLAG, NULL, 0, 0, "let the running 'postern serve' read its services again"},
    [OPT_ADD]     = {"add",      0,  OPTION_FLAG, NULL, 0, 0, "let the running 'postern serve' publish SERVICE... beside what it has"},
    [OPT_SERVICES] = {"services", 0, OPTION_TEXT, "LIST", 0, 0, "only these services, comma-separated (default: all, later ones too)"},
    [OPT_EXPIRES] = {"expires",  0,  OPTION_DURATION, "TIME", 1, 365 * DAY_S, "how long the link is good: 90s, 15m, 1h, 7d (default 1h)"},
    [OPT_ACCOUNT_SERVICES] = {"services", 0, OPTION_TEXT, "LIST", 0, 0, "what the account may use, comma-separated, or 'all': later ones too;\n"
                                                               "add needs it"},
    [OPT_ACCOUNT_EXPIRES] = {"expires", 0, OPTION_DURATION, "TIME", 1, 365 * DAY_S, "the account ends by itself after 90s, 15m, 1h, 7d (default: it\n"
                                                               "does not)"},
    [OPT_USES]    = {"uses",     0,  OPTION_NUMBER, "N", 1, 10000, "how many devices may use the link (default 1)"},
    [OPT_QR]      = {"qr",       0,  OPTION_FLAG, NULL, 0, 0, "draw the QR code even when not on a terminal"},
    [OPT_SSH_CONFIG] = {"ssh-config", 0, OPTION_FLAG, NULL, 0, 0, "print a stanza for ~/.ssh/config and end"},
    [OPT_SOCKS_LISTEN] = {"listen", 0, OPTION_TEXT, "ADDR:PORT", 0, 0, "where programs find the proxy (default 127.0.0.1:1080)"},
    [OPT_COUNT_PINGS] = {"count", 'c', OPTION_NUMBER, "N", 1, 1000000, "end after N answers (default: 4, and when the path has settled)"},
    [OPT_ALL]     = {"all",      0,  OPTION_FLAG, NULL, 0, 0, "try each path kind alone and say what came of it"},
    [OPT_TIMEOUT] = {"timeout",  0,  OPTION_DURATION, "TIME", 1, DAY_S, "give up after this time (default 30s; with --all none, 12 s a kind)"},
    [OPT_DEVICES] = {"devices",  0,  OPTION_FLAG, NULL, 0, 0, "list the devices that may enter this host instead"},
    [OPT_TLS]     = {"tls",      0,  OPTION_LIST, "SERVICE=CERT,KEY", 0, 16, "end TLS in front of a service that is asked for by its name; PEM\n"
                                                               "files, or SERVICE alone for --tls-command; 'none' forgets all"},
    [OPT_TLS_COMMAND] = {"tls-command", 0, OPTION_TEXT, "CMD", 0, 0, "writes the certificates of --tls SERVICE, daily: see docs/CLI.md"},
    [OPT_NAMES]   = {"names",    0,  OPTION_TEXT, "WAY", 0, 0, "how HOST.postern is made known to every program: auto (as root\n"
                                                               "hosts, else off), hosts (a block in /etc/hosts),\n"
                                                               "resolved (systemd-resolved), off"},
    [OPT_CLEAN_NAMES] = {"clean-names", 0, OPTION_FLAG, NULL, 0, 0, "only take away what a killed one left in /etc/hosts, and end"},
    [OPT_INSTALL] = {"install",  0,  OPTION_FLAG, NULL, 0, 0, "with --ssh-config: write it to ~/.ssh/postern.conf, which\n"
                                                               "~/.ssh/config then includes"},
    [OPT_CHECK]   = {"check",    0,  OPTION_FLAG, NULL, 0, 0, "end with 1 when a broker or a host cannot be reached, or nothing runs"},
    [OPT_WHY]     = {"why",      0,  OPTION_TEXT, "HOST", 0, 0, "of this host or device alone, and why not by other paths"},
    [OPT_SINCE]   = {"since",    0,  OPTION_TEXT, "TIME", 0, 0, "entries not older than 90s, 15m, 1h, 7d, or from 2026-01-31 or\n"
                                                               "2026-01-31T12:00 on (UTC)"},
    [OPT_WHO]     = {"who",      0,  OPTION_TEXT, "NAME", 0, 0, "entries of this account or device only"},
    [OPT_FOLLOW_LOG] = {"follow", 'f', OPTION_FLAG, NULL, 0, 0, "go on with what is logged from now on"},
    [OPT_DEEP]    = {"deep",     0,  OPTION_FLAG, NULL, 0, 0, "also hairpin, and how long a silent mapping lives: two minutes"},
    [OPT_REPORT]  = {"report",   0,  OPTION_TEXT, "FILE", 0, 0, "write a file to attach to a bug report, without names, addresses\n"
                                                               "and keys"},
    [OPT_FOLLOW]  = {"follow",   0,  OPTION_FLAG, NULL, 0, 0, "go on, and tell what begins to listen; with --ask it is asked about"},
    [OPT_CONFIG]  = {"config",   0,  OPTION_TEXT, "FILE", 0, 0, "take options and services from this file; see docs/CLI.md, and\n"
                                                               "'postern check FILE'"},
    [OPT_ABSENT]  = {"absent",   0,  OPTION_TEXT, "TIME", 0, 0, "how long a silent client's connections are kept at the services\n"
                                                               "(default 5m, 24h where the device is known to sleep)"},
    [OPT_CODE]    = {"code",     0,  OPTION_FLAG, NULL, 0, 0, "ask for a one-time code too; prints what an authenticator app reads"},
    [OPT_SPOKEN]  = {"code",     0,  OPTION_FLAG, NULL, 0, 0, "print a code to say in place of the link, 7-crossover-clockwork, and\n"
                                                               "wait until it is used"},
    [OPT_OWNER]   = {"owner",    0,  OPTION_FLAG, NULL, 0, 0, "may see devices, make invites and revoke through the portal"},
    [OPT_PASSWORD_FILE] = {"password-file", 0, OPTION_TEXT, "FILE", 0, 0, "the password is this file's first line; - is stdin"},
    [OPT_COUNT_LOG] = {"count", 0, OPTION_NUMBER, "N", 1, 20000, "the newest N entries (default 50)"},
    [OPT_AGENT]   = {"agent",    0,  OPTION_MAYBE, "[ADDR:PORT]", 0, 0, "publish the services of other hosts of this LAN too: listen for\n"
                                                               "them (default port 4480 on all addresses) and print a link"},
    [OPT_AGENT_FORGET] = {"agent-forget", 0, OPTION_TEXT, "NAME", 0, 0, "do not serve: this host of the LAN may not hand its services\n"
                                                               "over any more"},
    [OPT_WAIT]    = {"wait",     0,  OPTION_MAYBE_TIME, "[=TIME]", 1, 30 * DAY_S, "wait for a host or broker that is away, as long as it takes (30d) or\n"
                                                               "for TIME, as in --wait=10m"},
    [OPT_MAX]     = {"max",      0,  OPTION_SIZE, "SIZE", 1, INT64_MAX, "take at most so much at once, as in 500M, 20G (1024 bytes are 1K);\n"
                                                               "what is more is refused before it comes"},
    [OPT_VIA]     = {"via",      0,  OPTION_LINK, "LINK", 0, 0, "hand the services to that agent, in place of a broker; ADDR[:PORT]\n"
                                                               "is enough when it was used here before; -, @FILE as for --broker"},
};
// clang-format on

#define OPTIONS_ALWAYS                                                                 \
    (OPTION_BIT(OPT_HELP) | OPTION_BIT(OPT_VERBOSE) | OPTION_BIT(OPT_STATE))

static bool has_option(const struct command *c, size_t id)
{
    return ((c->options | OPTIONS_ALWAYS) & OPTION_BIT(id)) != 0;
}

const struct option_row *option_of(const struct command *c, size_t id)
{
    return has_option(c, id) ? &option_table[id] : NULL;
}

PRINTF_LIKE(3, 0)
static int usage(struct fault *f, const struct command *c, const char *what,
                 const char *which)
{
    char advice[64];
    (void)snprintf(advice, sizeof(advice), "see 'postern %s --help'", c->name);
    return fault_set(f, POSTERN_ERR_USAGE, advice, what, which);
}

int options_parse_duration(int64_t *seconds, const char *text)
{
    static const char units[] = "smhd";
    static const int64_t sizes[] = {1, 60, 3600, DAY_S};
    int64_t v = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (at - text >= 9)
            return POSTERN_ERR_INVALID;
        v = v * 10 + (*at - '0');
    }
    const char *unit = *at != '\0' ? strchr(units, *at) : units;
    if (at == text || unit == NULL || (*at != '\0' && at[1] != '\0') || v == 0)
        return POSTERN_ERR_INVALID;
    *seconds = v * sizes[unit - units];
    return 0;
}

static int parse_number(int64_t *v, const char *text)
{
    char *end = NULL;
    if (*text < '0' || *text > '9' || strlen(text) > 18)
        return POSTERN_ERR_INVALID;
    *v = strtoll(text, &end, 10);
    return *end == '\0' ? 0 : POSTERN_ERR_INVALID;
}

/* "500M": bytes, by 1024. */
static int check_size(struct option_value *v, const struct option_row *row,
                      struct fault *f)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    const char *unit;
    const char *at = v->text;
    bool digits = *at >= '0' && *at <= '9' && strspn(at, "0123456789") <= 12;
    v->number = digits ? strtoll(at, &end, 10) : 0;
    if (v->number > 0 && *end != '\0' &&
        (unit = strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end)) != NULL) {
        int shift = 10 * (int)(unit - units + 1);
        v->number = v->number <= row->max >> shift ? v->number << shift : 0;
        end++;
        end += *end == 'i' && (end[1] == 'B' || end[1] == 'b');
        end += *end == 'B' || *end == 'b';
    }
    if (v->number > 0 && *end == '\0')
        return 0;
    return fault_set(f, POSTERN_ERR_USAGE,
                     "write it as 500M, 20G, or a number of bytes",
                     "'%.60s' is not a size that --%s takes", v->text, row->name);
}

static int check_number(struct option_value *v, const struct option_row *row,
                        struct fault *f)
{
    bool duration = row->type != OPTION_NUMBER;
    int err = duration ? options_parse_duration(&v->number, v->text)
                       : parse_number(&v->number, v->text);
    if (err == 0 && v->number >= row->min && v->number <= row->max)
        return 0;
    char advice[80];
    if (duration) {
        (void)snprintf(advice, sizeof(advice),
                       "write it as 90s, 15m, 1h or 7d, at most %lldd",
                       (long long)(row->max / DAY_S));
        return fault_set(f, POSTERN_ERR_USAGE, advice,
                         "'%.60s' is not a time that --%s takes", v->text, row->name);
    }
    (void)snprintf(advice, sizeof(advice), "give a number from %lld to %lld",
                   (long long)row->min, (long long)row->max);
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "'%.60s' is not a number that --%s takes", v->text, row->name);
}

int options_set(struct options *o, size_t id, const char *text, struct fault *f)
{
    const struct option_row *row = &option_table[id];
    struct option_value *v = &o->values[id];
    uint32_t mask = 0;
    v->given = true;
    v->text = text;
    switch (row->type) {
    case OPTION_FLAG:
    case OPTION_MAYBE:
    case OPTION_TEXT:
    case OPTION_LINK:
        return 0;
    case OPTION_LIST:
        if (v->count == (size_t)row->max)
            return fault_set(f, POSTERN_ERR_USAGE, "give it less often",
                             "--%s can be given %d times", row->name, (int)row->max);
        v->list[v->count++] = text;
        return 0;
    case OPTION_MAYBE_TIME:
        v->number = row->max;
        return *text != '\0' ? check_number(v, row, f) : 0;
    case OPTION_SIZE:
        return check_size(v, row, f);
    case OPTION_NUMBER:
    case OPTION_DURATION:
        return check_number(v, row, f);
    case OPTION_KINDS:
        if (path_kinds_parse(&mask, text, f) != 0)
            return POSTERN_ERR_USAGE;
        v->number = mask;
        return 0;
    }
    return 0;
}

/* `len` characters of `name` against the long names, or a letter alone. */
static int find_option(const struct command *c, const char *name, size_t len,
                       bool letter)
{
    for (size_t id = 0; id < OPTION_COUNT; id++) {
        const struct option_row *row = &option_table[id];
        if (!has_option(c, id))
            continue;
        if (letter ? row->letter == name[0]
                   : strlen(row->name) == len && memcmp(row->name, name, len) == 0)
            return (int)id;
    }
    return -1;
}

static bool is_address(int argc, char **argv, int at)
{
    struct addr a;
    return at < argc && addr_parse(&a, argv[at]) == 0;
}

/* A forgotten value, as in `--broker --state DIR`, would take the option behind it. */
static int looks_like_option(struct fault *f, const struct option_row *row,
                             const char *value)
{
    char advice[160];
    (void)snprintf(advice, sizeof(advice), "give %s behind it, or write --%s=%.60s",
                   row->value, row->name, value);
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "--%s needs a value, and '%.60s' looks like an option", row->name,
                     value);
}

/* Behind the program that is to be run it may be the program's. */
static int unknown_option(struct fault *f, const struct command *c,
                          const struct options *o, const char *word, size_t len)
{
    struct guess g;
    char shown[64], known[64], see[64], advice[160];
    (void)snprintf(shown, sizeof(shown), "%.*s", (int)len, word);
    guess_begin(&g, shown);
    for (size_t id = 0; id < OPTION_COUNT; id++) {
        if (!has_option(c, id))
            continue;
        (void)snprintf(known, sizeof(known), "--%s", option_table[id].name);
        guess_offer(&g, known);
    }
    (void)snprintf(see, sizeof(see), "see 'postern %s --help'", c->name);
    guess_advice(&g, advice, sizeof(advice), see);
    if (strcmp(c->name, "ssh") == 0)
        (void)snprintf(advice, sizeof(advice),
                       "ssh's own options stand behind the host, as in: "
                       "postern ssh me@home -p 2222");
    else if (c->arguments[0] == ARGUMENT_PROGRAM && o->arg_count > 0)
        (void)snprintf(advice, sizeof(advice),
                       "the program and its own options stand behind --, as in: "
                       "postern %s -- %.40s %.40s",
                       c->name, o->args[0], word);
    else if (c->arguments[0] == ARGUMENT_FILE && access(word, F_OK) == 0)
        (void)snprintf(advice, sizeof(advice),
                       "for the file of that name: postern %s -- %.60s ...", c->name,
                       word);
    return fault_set(f, POSTERN_ERR_USAGE, advice, "unknown option '%s'", shown);
}

/* `ping home --why`, in the order of the sentence. */
static int swapped_why(struct fault *f, const struct command *c, const char *host)
{
    char advice[160];
    (void)snprintf(advice, sizeof(advice), "write it as: postern %s --why %.60s",
                   c->name, host);
    return fault_set(f, POSTERN_ERR_USAGE, advice, "--why takes the host behind it");
}

/* One option at argv[*at]; moves `*at` when the value is the next word. */
static int parse_option(struct options *o, const struct command *c, int argc,
                        char **argv, int *at, struct fault *f)
{
    const char *word = argv[*at];
    bool letter = word[1] != '-';
    const char *name = word + (letter ? 1 : 2), *value = NULL;
    size_t len = letter ? 1 : strcspn(name, "=");
    if (name[len] != '\0')
        value = name + len + (letter ? 0 : 1);
    int id = find_option(c, name, len, letter);
    if (id < 0) {
        return unknown_option(f, c, o, word, (size_t)(name + len - word));
    }
    bool flag = option_table[id].type == OPTION_FLAG;
    if (option_table[id].type == OPTION_MAYBE && value == NULL) {
        value = is_address(argc, argv, *at + 1) ? argv[++*at] : "";
        return options_set(o, (size_t)id, value, f);
    }
    if (option_table[id].type == OPTION_MAYBE_TIME && value == NULL)
        return options_set(o, (size_t)id, "", f);
    if (flag && value != NULL)
        return usage(f, c, "--%s takes no value", option_table[id].name);
    if (!flag && value == NULL) {
        if (*at + 1 == argc && id == OPT_WHY && o->arg_count > 0)
            return swapped_why(f, c, o->args[0]);
        if (*at + 1 == argc && id == OPT_WHY)
            return fault_set(f, POSTERN_ERR_USAGE,
                             "name the host or device, as 'postern ls' does: postern "
                             "status --why NAME",
                             "--why does not say of which");
        if (*at + 1 == argc)
            return usage(f, c, "--%s needs a value", option_table[id].name);
        value = argv[++*at];
        if (value[0] == '-' && value[1] != '\0')
            return looks_like_option(f, &option_table[id], value);
    }
    if (!flag && *value == '\0')
        return usage(f, c, "--%s needs a value that is not empty",
                     option_table[id].name);
    if (option_table[id].type == OPTION_LINK && o->values[id].given)
        return fault_set(
            f, POSTERN_ERR_USAGE,
            "give one; for another, run a second one with a --state of its "
            "own",
            "--%s is given twice, and only one at a time is used",
            option_table[id].name);
    return options_set(o, (size_t)id, value, f);
}

/* `--wait 5s` is an option without its time, and a word too many; NULL: nothing is. */
static const char *lost_time(const struct options *o, const struct command *c)
{
    int64_t s;
    const struct option_value *wait = &o->values[OPT_WAIT];
    const char *word = o->args[0];
    bool many = o->arg_count > c->args_max;
    bool other =
        c->arguments[0] == ARGUMENT_HOST_SERVICE || c->arguments[0] == ARGUMENT_LINK;
    if (word == NULL || !wait->given || wait->text[0] != '\0' || !(many || other) ||
        options_parse_duration(&s, word) != 0)
        return NULL;
    return many || word[strspn(word, "0123456789")] != '\0' ? word : NULL;
}

/* "1 day" for 1d; a broker's public name behind it alone. */
static bool meant_otherwise(char *advice, size_t cap, const struct options *o,
                            const struct command *c, const char *word)
{
    static const char units[] = "smhd";
    struct addr a;
    const struct option_value *expires =
        &o->values[o->values[OPT_EXPIRES].given ? OPT_EXPIRES : OPT_ACCOUNT_EXPIRES];
    bool number =
        expires->given && expires->text[strspn(expires->text, "0123456789")] == '\0';
    if (number && strchr(units, word[0]) != NULL) {
        (void)snprintf(advice, cap, "write --expires %.20s%c", expires->text, word[0]);
        return true;
    }
    bool named = strcmp(c->name, "broker") == 0 && strchr(word, '.') != NULL &&
                 addr_parse(&a, word) != 0;
    if (named)
        (void)snprintf(advice, cap, "its public name is written --public %.100s", word);
    return named;
}

/* What a word too many was meant for, where that is likely. */
static int too_many(struct fault *f, const struct options *o, const struct command *c,
                    const char *word)
{
    static const struct {
        const char *command, *advice; /* WORD: that */
    } meant[] = {
        {"broker",
         "an address to listen on is written --listen 0.0.0.0:PORT; of words it takes "
         "only 'drain'"},
        {"invite", "it is for whoever has the link; what it is good for: --services"},
        {"log", "how many: --count N; of one device or account: --who WORD"},
        {"ls", "it lists all hosts; of one, while 'postern up' runs: postern status "
               "--why WORD"},
        {"open", "a service stands behind a colon: HOST:WORD"},
        {"receive",
         "name one directory to receive into; with a blank in it, in quotes"},
        {"share", "name the directory alone: whoever joined this host opens it with "
                  "'postern open HOST:share'"},
        {"socks", "where it listens is written --listen 127.0.0.1:1080"},
        {"status", "of one alone: postern status --why WORD"},
        {"up", "it is for all hosts joined; for one service of one host: postern "
               "connect HOST:SERVICE"},
    };
    char advice[160];
    if (meant_otherwise(advice, sizeof(advice), o, c, word))
        return fault_set(f, POSTERN_ERR_USAGE, advice,
                         "there is an argument too many: '%.60s'", word);
    for (size_t i = 0; i < sizeof(meant) / sizeof(meant[0]); i++)
        if (strcmp(meant[i].command, c->name) == 0) {
            const char *at = strstr(meant[i].advice, "WORD");
            (void)snprintf(advice, sizeof(advice), "%.*s%.60s%s",
                           at != NULL ? (int)(at - meant[i].advice) : 160,
                           meant[i].advice, at != NULL ? word : "",
                           at != NULL ? at + strlen("WORD") : "");
            return fault_set(f, POSTERN_ERR_USAGE, advice,
                             "there is an argument too many: '%.60s'", word);
        }
    return usage(f, c, "there is an argument too many: '%.60s'", word);
}

/* As many as the command takes. */
static int check_count(const struct options *o, const struct command *c,
                       struct fault *f)
{
    char advice[160];
    const char *lost = lost_time(o, c);
    if (lost != NULL) {
        (void)snprintf(advice, sizeof(advice), "write --wait=%.20s", lost);
        return fault_set(f, POSTERN_ERR_USAGE, advice,
                         "the time of --wait stands behind '=', not behind a blank");
    }
    if (o->arg_count < c->args_min)
        return usage(f, c, "an argument is missing: %s", c->args_fault);
    if (c->verb != NULL && o->args[0] != NULL && strcmp(o->args[0], c->verb) != 0)
        return too_many(f, o, c, o->args[0]);
    if (o->arg_count <= c->args_max)
        return 0;
    return too_many(f, o, c, o->args[c->args_max]);
}

int options_parse(struct options *o, const struct command *c, int argc, char **argv,
                  struct fault *f)
{
    bool ended = false;
    *o = (struct options){0};
    o->args = calloc((size_t)argc + 2, sizeof(*o->args));
    if (o->args == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!ended && strcmp(word, "--") == 0) {
            ended = true;
        } else if (!ended && word[0] == '-' && word[1] != '\0') {
            int err = parse_option(o, c, argc, argv, &i, f);
            if (err != 0)
                return err;
            if (o->values[OPT_HELP].given)
                return 0;
        } else {
            o->args[o->arg_count++] = word;
            ended = ended || o->arg_count == c->rest;
        }
    }
    return check_count(o, c, f);
}

int options_only(const struct options *o, enum option_id id, option_set allowed,
                 const char *advice, struct fault *f)
{
    option_set fine =
        allowed | OPTIONS_ALWAYS | OPTION_BIT(OPT_JSON) | OPTION_BIT((unsigned)id);
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (o->values[i].given && (fine & OPTION_BIT(i)) == 0)
            return fault_set(f, POSTERN_ERR_USAGE, advice,
                             "--%s does nothing with --%s", option_table[i].name,
                             option_table[id].name);
    return 0;
}

uint32_t options_kinds(const struct options *o)
{
    const struct option_value *v = o->values;
    uint32_t kinds =
        v[OPT_PATHS].given ? (uint32_t)v[OPT_PATHS].number : PATH_KINDS_DEFAULT;
    return kinds | (v[OPT_DIAL_OUT].given ? 1u << PATH_DIAL_OUT : 0) |
           (v[OPT_SPOOF].given ? 1u << PATH_SPOOF : 0);
}

void options_fini(struct options *o)
{
    for (size_t i = 0; i < o->link_text_count; i++) {
        sodium_memzero(o->link_texts[i], strlen(o->link_texts[i]));
        free(o->link_texts[i]);
    }
    o->link_text_count = 0;
    if (o->file_text != NULL)
        sodium_memzero(o->file_text, o->file_len);
    free(o->file_text);
    o->file_text = NULL;
    free(o->args);
    o->args = NULL;
}

const struct command *command_find(const char *name)
{
    for (const struct command *c = commands; c->name != NULL; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

enum { HELP_LEFT = 28, HELP_WIDTH = 70 };

static void print_kinds(FILE *out)
{
    size_t used = HELP_WIDTH;
    for (unsigned k = 0; k < PATH_KIND_COUNT; k++) {
        const char *name = path_kind_name((enum path_kind)k);
        if (used + strlen(name) + 2 > HELP_WIDTH) {
            (void)fprintf(out, "%s  %-*s ", k > 0 ? ",\n" : "", HELP_LEFT, "");
            used = 0;
        }
        used += (size_t)fprintf(out, "%s %s", used > 0 ? "," : "", name);
    }
    (void)fprintf(out, "\n");
}

static void print_help_text(FILE *out, const char *text)
{
    for (;;) {
        size_t len = strcspn(text, "\n");
        (void)fprintf(out, "  %.*s\n", (int)len, text);
        if (text[len] == '\0')
            return;
        text += len + 1;
        (void)fprintf(out, "  %-*s", HELP_LEFT, "");
    }
}

static void print_option(FILE *out, const struct option_row *row)
{
    char left[48];
    char letter[8] = "    ";
    if (row->letter != 0)
        (void)snprintf(letter, sizeof(letter), "-%c, ", row->letter);
    (void)snprintf(left, sizeof(left), "%s--%s%s%s", letter, row->name,
                   row->value && row->type != OPTION_MAYBE_TIME ? " " : "",
                   row->value ? row->value : "");
    (void)fprintf(out, "  %-*s", HELP_LEFT, left);
    print_help_text(out, row->help);
    if (row->type == OPTION_KINDS)
        print_kinds(out);
}

void help_print_command(FILE *out, const struct command *c)
{
    (void)fprintf(out, "postern %s: %s\n\nusage: postern %s%s%s\n\n%s\n\noptions:\n",
                  c->name, c->summary, c->name, c->synopsis[0] ? " " : "", c->synopsis,
                  c->about);
    for (size_t pass = 0; pass < 2; pass++) /* its own first, then those of all */
        for (size_t id = 0; id < OPTION_COUNT; id++)
            if (has_option(c, id) && (id <= OPT_VERBOSE) == (pass == 1))
                print_option(out, &option_table[id]);
    (void)fprintf(out, "\nexample:\n  %s\n", c->example);
}

void help_print_all(FILE *out)
{
    (void)fprintf(out, "Postern reaches servers that listen on nothing, behind any NAT "
                       "or firewall.\n\nusage: postern COMMAND [OPTION...] "
                       "[ARGUMENT...]\n\ncommands:\n");
    for (const struct command *c = commands; c->name != NULL; c++)
        (void)fprintf(out, "  %-9s %s\n", c->name, c->summary);
    (void)fprintf(out, "\n'postern COMMAND --help' tells more, with an example. "
                       "'postern --version' prints the version.\nExit status: 0 done, "
                       "1 failed, 2 wrong command line.\n");
}

/*
 * The ways in which other programs write ports, read as SERVICE. Whether a guess is
 * right only the person knows who is asked.
 */
#include "host/service_slips.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { NAME_MAX_LEN = 64 };

/* Moves `at` behind a number of a port. */
static bool take_port(const char **at, unsigned *port)
{
    const char *from = *at;
    *port = 0;
    for (; isdigit((unsigned char)**at) && *at - from < 5; ++*at)
        *port = *port * 10 + (unsigned)(**at - '0');
    return *at > from && *port > 0 && *port <= 65535;
}

/* Moves `at` behind "udp" or "tcp", in either case. */
static bool take_protocol(const char **at, bool *udp)
{
    *udp = strncasecmp(*at, "udp", 3) == 0;
    if (!*udp && strncasecmp(*at, "tcp", 3) != 0)
        return false;
    *at += 3;
    return true;
}

static void skip_mark(const char **at)
{
    *at += **at != '\0' && strchr(":/=-", **at) != NULL;
}

/* "UDP:53", "udp/53", "udp53", "53/udp", "53:udp", ":8080". */
static bool guess_protocol(char *out, size_t cap, const char *name, const char *text)
{
    bool udp = false;
    unsigned port;
    const char *at = text;
    bool good;
    if (take_protocol(&at, &udp)) {
        skip_mark(&at);
        good = take_port(&at, &port);
    } else {
        skip_mark(&at);
        good = take_port(&at, &port);
        skip_mark(&at);
        good = good && (*at == '\0' || take_protocol(&at, &udp));
    }
    (void)snprintf(out, cap, "%s%s%u", name, udp ? "udp:" : "", port);
    return good && *at == '\0';
}

/* "http://HOST:PORT/...", "unix:/PATH". */
static bool guess_address(char *out, size_t cap, const char *name, const char *text)
{
    const char *at = strstr(text, "://");
    if (strncasecmp(text, "unix:/", 6) == 0) {
        (void)snprintf(out, cap, "%s%s", name, text + 5 + strspn(text + 5, "/") - 1);
        return true;
    }
    if (at == NULL)
        return false;
    int len = (int)strcspn(at += 3, "/");
    bool port = memchr(at, ':', (size_t)len) != NULL;
    bool here = strncasecmp(at, "localhost", 9) == 0 && (at[9] == ':' || len == 9);
    const char *usual = strncasecmp(text, "https", 5) == 0 ? "443" : "80";
    if (here)
        (void)snprintf(out, cap, "%s%.*s", name, port ? len - 10 : 3,
                       port ? at + 10 : usual);
    else
        (void)snprintf(out, cap, "%s%.*s%s%s", name, len, at, port ? "" : ":",
                       port ? "" : usual);
    return true;
}

/* "ssh", which has a port by custom. */
static bool guess_custom(char *out, size_t cap, const char *name, const char *text)
{
    static const char *const customs[][2] = {
        {"ssh", "22"},        {"sshd", "22"},    {"http", "80"},   {"https", "443"},
        {"web", "80"},        {"dns", "udp:53"}, {"rdp", "3389"},  {"vnc", "5900"},
        {"smtp", "25"},       {"imap", "143"},   {"imaps", "993"}, {"mysql", "3306"},
        {"postgres", "5432"}, {"redis", "6379"}, {"rtsp", "554"},  {"mqtt", "1883"},
        {"smb", "445"},       {"samba", "445"},
    };
    for (size_t i = 0; i < sizeof(customs) / sizeof(customs[0]); i++)
        if (strcasecmp(customs[i][0], text) == 0) {
            (void)snprintf(out, cap, "%s%s%s", name[0] != '\0' ? name : text,
                           name[0] != '\0' ? "" : "=", customs[i][1]);
            return true;
        }
    return false;
}

/* "dns:udp:53", "8080:web", "8080=web", "udp:dns=53": what stands in another order. */
static bool guess_order(char *out, size_t cap, const char *text)
{
    size_t first = strcspn(text, ":=");
    const char *rest = text + first, *at = text;
    unsigned port;
    bool udp = false;
    if (*rest == '\0')
        return false;
    rest++;
    if (take_port(&at, &port) && at + 1 == rest) {
        (void)snprintf(out, cap, "%s=%u", rest, port);
        return isalpha((unsigned char)rest[0]) != 0;
    }
    at = text;
    if (take_protocol(&at, &udp) && at + 1 == rest) {
        size_t word = strcspn(rest, "=:");
        (void)snprintf(out, cap, "%.*s=%s%s", (int)word, rest, udp ? "udp:" : "",
                       rest[word] != '\0' ? rest + word + 1 : "");
        return true;
    }
    (void)snprintf(out, cap, "%.*s=%s", (int)first, text, rest);
    return true;
}

bool service_guess(char out[static SERVICE_GUESS_LEN], const char *text,
                   bool (*fits)(const char *text))
{
    char name[NAME_MAX_LEN + 2] = "";
    const char *equals = strchr(text, '='), *rest = text;
    if (equals != NULL && equals - text < NAME_MAX_LEN) {
        (void)snprintf(name, sizeof(name), "%.*s=", (int)(equals - text), text);
        rest = equals + 1;
    }
    bool good = guess_protocol(out, SERVICE_GUESS_LEN, name, rest) ||
                guess_address(out, SERVICE_GUESS_LEN, name, rest) ||
                guess_custom(out, SERVICE_GUESS_LEN, name, rest);
    if (good && strcmp(out, text) != 0 && fits(out))
        return true;
    good = guess_order(out, SERVICE_GUESS_LEN, text);
    return good && strcmp(out, text) != 0 && fits(out);
}

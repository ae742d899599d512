/* A note for each server: "HOST PORT ADDRESS ADDRESS ..." (io/notes.h). */
#include "io/last_good.h"

#include <stdio.h>
#include <string.h>

#include "io/log.h"
#include "io/notes.h"

enum { ABOUT_MAX = 300 };
static const char file[] = "last-good";

static void about_of(char about[static ABOUT_MAX], const char *host, uint16_t port)
{
    (void)snprintf(about, ABOUT_MAX, "%s %u", host, port);
}

size_t last_good_load(const char *dir, const char *host, uint16_t port,
                      struct addr *out, size_t max)
{
    char about[ABOUT_MAX], text[NOTES_LINE_MAX], *save = NULL;
    size_t n = 0;
    about_of(about, host, port);
    if (!notes_load(dir, file, about, text))
        return 0;
    for (char *word = strtok_r(text, " ", &save); word != NULL && n < max;
         word = strtok_r(NULL, " ", &save)) {
        if (addr_parse_ip(&out[n], word) != 0)
            continue;
        out[n].port = port;
        if (addr_scope_of(&out[n]) != ADDR_SCOPE_UNUSABLE)
            n++;
    }
    return n;
}

void last_good_save(const char *dir, const char *host, uint16_t port,
                    const struct addr *addrs, size_t n)
{
    char about[ABOUT_MAX], text[NOTES_LINE_MAX / 2] = "", ip[ADDR_TEXT_LEN];
    size_t len = 0;
    about_of(about, host, port);
    for (size_t i = 0; i < n && len + ADDR_TEXT_LEN + 1 < sizeof(text); i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s",
                                i > 0 ? " " : "", addr_format_ip(&addrs[i], ip));
    if (!notes_save(dir, file, about, text))
        log_debug("where the broker was found could not be kept");
}

/* One walk over the text: at each word's beginning it is asked what it may be. */
#include "core/scrub.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { SECRET_MIN = 16 };

static bool is_word(char c)
{
    return isalnum((unsigned char)c) != 0 || c == '_' || (unsigned char)c >= 0x80;
}

static size_t find(const struct scrub *s, const char *text, size_t len)
{
    for (size_t i = 0; i < s->count; i++)
        if (strlen(s->words[i].text) == len &&
            strncasecmp(s->words[i].text, text, len) == 0)
            return i;
    return s->count;
}

/* The word's place in the table; SCRUB_WORDS_MAX when that is full. */
static size_t learn(struct scrub *s, const char *kind, const char *text, size_t len)
{
    size_t at = find(s, text, len), number = 1;
    if (at < s->count || at == SCRUB_WORDS_MAX || len >= SCRUB_WORD_LEN)
        return at < s->count ? at : SCRUB_WORDS_MAX;
    for (size_t i = 0; i < s->count; i++)
        number += strcmp(s->words[i].kind, kind) == 0;
    for (size_t i = 0; i < len; i++)
        s->words[at].text[i] = (char)tolower((unsigned char)text[i]);
    s->words[at].text[len] = '\0';
    s->words[at].kind = kind;
    s->words[at].number = (unsigned)number;
    s->count++;
    return at;
}

void scrub_know(struct scrub *s, const char *kind, const char *word)
{
    size_t len = word != NULL ? strlen(word) : 0;
    if (len > 1)
        (void)learn(s, kind, word, len);
}

/* The longest known word that stands by itself at `at`; 0 when there is none. */
static size_t known_len(const struct scrub *s, const char *text, const char *at)
{
    size_t best = 0;
    if (at > text && is_word(at[-1]) && is_word(*at))
        return 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t len = strlen(s->words[i].text);
        if (len > best && strncasecmp(s->words[i].text, at, len) == 0 &&
            !(is_word(at[len]) && is_word(at[len - 1])))
            best = len;
    }
    return best;
}

/* Any link, also of a page: what stands behind "//" names a machine. */
static size_t link_len(const char *at)
{
    size_t scheme = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    if (scheme == 0 || strncmp(at + scheme, "://", 3) != 0)
        return 0;
    return strcspn(at, " \t\n\"'<>");
}

/* 192.0.2.1, 2001:db8::1, a card's 02:00:...; but no time, and no version. */
static size_t address_len(const char *at)
{
    size_t v4 = strspn(at, "0123456789."), v6 = strspn(at, "0123456789abcdefABCDEF:.");
    unsigned dots = 0, colons = 0;
    bool gap = false;
    for (size_t i = 0; i < v4; i++)
        dots += at[i] == '.' && i + 1 < v4 && at[i + 1] != '.';
    if (dots == 3 && !is_word(at[v4]))
        return v4 - (at[v4 - 1] == '.');
    while (v6 > 1 && at[v6 - 1] == ':' && at[v6 - 2] != ':')
        v6--;
    for (size_t i = 0; i < v6; i++) {
        colons += at[i] == ':';
        gap = gap || (at[i] == ':' && at[i + 1] == ':');
    }
    if (colons < 2 || (colons < 4 && !gap) || is_word(at[v6]))
        return 0;
    return v6 + (at[v6] == '%' ? 1 + strspn(at + v6 + 1, "abcdefghijklmnopqrstuvwxyz"
                                                         "0123456789.-")
                               : 0);
}

/* Keys, tokens, hashes: long, and of letters and digits; or longer than any word. */
static size_t secret_len(const char *at)
{
    size_t len = 0, digits = 0, letters = 0, plain = 0, longest = 0;
    for (; isalnum((unsigned char)at[len]) || strchr("_-+/=", at[len]) != NULL; len++) {
        if (at[len] == '\0')
            break;
        digits += isdigit((unsigned char)at[len]) != 0;
        letters += isalpha((unsigned char)at[len]) != 0;
        plain = isalnum((unsigned char)at[len]) != 0 ? plain + 1 : 0;
        longest = plain > longest ? plain : longest;
    }
    return longest >= 24 || (len >= SECRET_MIN && digits >= 2 && letters >= 2) ? len
                                                                               : 0;
}

/* What is to be taken out at `at`, and what it is; 0: nothing. */
static size_t found(const struct scrub *s, const char *text, const char *at,
                    const char **kind)
{
    bool begins = at == text || !is_word(at[-1]);
    size_t len;
    *kind = "link";
    if (begins && (len = link_len(at)) > 0)
        return len;
    *kind = "name";
    if ((len = known_len(s, text, at)) > 0)
        return len;
    *kind = "address";
    if ((begins || *at == ':') && (at == text || strchr(":.", at[-1]) == NULL) &&
        (len = address_len(at)) > 0)
        return len;
    *kind = "secret";
    return begins ? secret_len(at) : 0;
}

void scrub_text(struct scrub *s, const char *text, char *out, size_t cap)
{
    size_t used = 0;
    if (cap == 0)
        return;
    for (const char *at = text; *at != '\0' && used + 1 < cap;) {
        const char *kind;
        size_t len = found(s, text, at, &kind);
        if (len == 0) {
            out[used++] = *at++;
            continue;
        }
        size_t i = learn(s, kind, at, len);
        int n = i == SCRUB_WORDS_MAX ? snprintf(out + used, cap - used, "<%s>", kind)
                                     : snprintf(out + used, cap - used, "<%s-%u>",
                                                s->words[i].kind, s->words[i].number);
        used = n > 0 && (size_t)n < cap - used ? used + (size_t)n : cap - 1;
        at += len;
    }
    out[used] = '\0';
}

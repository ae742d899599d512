/* Text form of links; knows nothing of the network or of stored state. */
#include "core/link.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/addr.h"
#include "core/wire.h"

enum { LINK_VERSION = 1, LINK_CHECK_LEN = 4, LINK_PAYLOAD_MAX = 128 };

static const char prefix[] = "postern://";

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_letter(char c)
{
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9');
}

static void link_check(uint8_t check[static LINK_CHECK_LEN], const char *head,
                       size_t head_len, const uint8_t *payload, size_t len)
{
    uint8_t all[LINK_TEXT_LEN + LINK_PAYLOAD_MAX], hash[32];
    struct wire_writer w = wire_writer(all, sizeof(all));
    wire_put_bytes(&w, head, head_len);
    wire_put_bytes(&w, payload, len);
    key_hash(hash, all, w.used, NULL, 0);
    memcpy(check, hash, LINK_CHECK_LEN);
    sodium_memzero(all, sizeof(all));
}

/* All before the payload; returns its length. */
static size_t link_head(const struct link *l, char text[static LINK_TEXT_LEN])
{
    bool v6 = strchr(l->host, ':') != NULL;
    return (size_t)snprintf(text, LINK_TEXT_LEN, "%s%s%s%s:%u/%c/", prefix,
                            v6 ? "[" : "", l->host, v6 ? "]" : "", l->port,
                            (char)l->type);
}

void link_format(const struct link *l, char text[static LINK_TEXT_LEN])
{
    uint8_t payload[LINK_PAYLOAD_MAX];
    struct wire_writer w = wire_writer(payload, sizeof(payload));
    wire_put_u8(&w, LINK_VERSION);
    wire_put_bytes(&w, l->broker_key, KEY_LEN);
    if (l->type == LINK_INVITE) {
        wire_put_bytes(&w, l->host_key, KEY_LEN);
        wire_put_bytes(&w, l->secret, LINK_SECRET_LEN);
    } else if (l->has_token) {
        wire_put_bytes(&w, l->token, LINK_SECRET_LEN);
    }
    size_t head = link_head(l, text);
    uint8_t check[LINK_CHECK_LEN];
    link_check(check, text, head, payload, w.used);
    wire_put_bytes(&w, check, sizeof(check));
    base32_encode(payload, w.used, text + head);
    sodium_memzero(payload, sizeof(payload));
}

/* A web page's address may leave its port out. */
static int parse_authority(struct link *l, const char *at, size_t len, bool web)
{
    char buf[LINK_HOST_LEN + 8];
    if (len >= sizeof(buf))
        return POSTERN_ERR_INVALID;
    memcpy(buf, at, len);
    buf[len] = '\0';
    char *host = buf;
    char *port = strrchr(buf, ':');
    if (buf[0] == '[') {
        char *end = strchr(buf, ']');
        if (end == NULL || (end[1] != ':' && (end[1] != '\0' || !web)))
            return POSTERN_ERR_INVALID;
        *end = '\0';
        host = buf + 1;
        port = end[1] == ':' ? end + 1 : NULL;
    }
    if (port == NULL && !web)
        return POSTERN_ERR_INVALID;
    char standard[] = ":443";
    if (port == NULL)
        port = standard;
    *port++ = '\0';
    char *end = NULL;
    unsigned long v = strtoul(port, &end, 10);
    if (*port < '0' || *port > '9' || *end != '\0' || v == 0 || v > 65535 ||
        *host == '\0' || strlen(host) >= sizeof(l->host))
        return POSTERN_ERR_INVALID;
    l->port = (uint16_t)v;
    memcpy(l->host, host, strlen(host) + 1);
    return 0;
}

int link_parse_address(struct link *l, const char *text, size_t len)
{
    int rc = parse_authority(l, text, len, true);
    for (char *at = l->host; rc == 0 && *at != '\0'; at++)
        *at = lower(*at);
    return rc;
}

static int parse_payload(struct link *l, const uint8_t *payload, size_t len)
{
    struct wire_reader r = wire_reader(payload, len);
    (void)wire_get_u8(&r);
    const uint8_t *key = wire_get_bytes(&r, KEY_LEN);
    if (key == NULL)
        return POSTERN_ERR_INVALID;
    memcpy(l->broker_key, key, KEY_LEN);
    if (l->type == LINK_INVITE) {
        const uint8_t *host = wire_get_bytes(&r, KEY_LEN);
        const uint8_t *secret = wire_get_bytes(&r, LINK_SECRET_LEN);
        if (host == NULL || secret == NULL)
            return POSTERN_ERR_INVALID;
        memcpy(l->host_key, host, KEY_LEN);
        memcpy(l->secret, secret, LINK_SECRET_LEN);
    } else if (r.left > 0) {
        const uint8_t *token = wire_get_bytes(&r, LINK_SECRET_LEN);
        if (token == NULL)
            return POSTERN_ERR_INVALID;
        l->has_token = true;
        memcpy(l->token, token, LINK_SECRET_LEN);
    }
    return wire_end(&r);
}

static const char again[] = "copy the whole link again, or ask for a new one";
static const char cut_short[] = "the link is cut short or mangled";

/* How long a payload of this version is in letters, `nth` of its kind; 0: no more. */
static size_t payload_letters(enum link_type type, unsigned nth)
{
    size_t bytes = 1 + KEY_LEN + LINK_CHECK_LEN;
    if (type == LINK_INVITE)
        bytes += KEY_LEN + LINK_SECRET_LEN;
    else if (nth == 0)
        bytes += LINK_SECRET_LEN; /* with a token first: it is the longer one */
    return nth < (type == LINK_INVITE ? 1 : 2) ? (bytes * 8 + 4) / 5 : 0;
}

/* `len` letters as the payload of the link that `l` has the head of. */
static int parse_letters(struct link *l, const char *letters, size_t len,
                         struct fault *f)
{
    char head[LINK_TEXT_LEN], text[LINK_TEXT_LEN];
    uint8_t payload[LINK_PAYLOAD_MAX], check[LINK_CHECK_LEN];
    int n = POSTERN_ERR_INVALID;
    if (len < sizeof(text)) {
        memcpy(text, letters, len);
        text[len] = '\0';
        n = base32_decode(payload, sizeof(payload), text);
        sodium_memzero(text, sizeof(text));
    }
    if (n < 1 + LINK_CHECK_LEN)
        return fault_set(f, POSTERN_ERR_INVALID, again, "%s", cut_short);
    size_t body = (size_t)n - LINK_CHECK_LEN;
    link_check(check, head, link_head(l, head), payload, body);
    int rc = 0;
    if (sodium_memcmp(check, payload + body, LINK_CHECK_LEN) != 0)
        rc = fault_set(f, POSTERN_ERR_INVALID, again,
                       "the link was mangled: its check does not match");
    else if (payload[0] != LINK_VERSION)
        rc = fault_set(f, POSTERN_ERR_NEWER, "update this program",
                       "the link was made by a newer version of Postern");
    else if (parse_payload(l, payload, body) != 0)
        rc = fault_set(f, POSTERN_ERR_INVALID, again, "%s", cut_short);
    sodium_memzero(payload, sizeof(payload));
    return rc;
}

/* The same, also where the broker's name has lost or got capital letters. */
static int parse_either(struct link *l, const char *letters, size_t len,
                        struct fault *f)
{
    struct link r = *l;
    int rc = parse_letters(&r, letters, len, f);
    if (rc == POSTERN_ERR_INVALID) {
        r = *l;
        for (char *at = r.host; *at != '\0'; at++)
            *at = lower(*at);
        if (parse_letters(&r, letters, len, NULL) == 0)
            rc = 0;
    }
    if (rc == 0)
        *l = r;
    sodium_memzero(&r, sizeof(r));
    return rc;
}

/* ------------------------------------------------------------- what people copy */

/* A text without what copying puts between a link's letters. */
struct copy {
    char text[LINK_INPUT_MAX + 1];
    bool edge[LINK_INPUT_MAX + 1]; /* something stood before this letter */
    size_t len;
};

/*
 * Length of what stands at `at` and cannot be of a link: white space, quotes, brackets
 * and quote marks of mails, their soft line breaks, and what word processors make of
 * all these in UTF-8; else 0.
 */
static size_t between(const char *at)
{
    static const char *const marks[] = {
        "\xc2\xa0", "\xc2\xab", "\xc2\xad",     "\xc2\xbb",     "=\n",
        "=\r\n",    "\\\n",     "\xe2\x81\xa0", "\xe3\x80\x80", "\xef\xbb\xbf",
    };
    if (strchr(" \t\r\n\v\f<>\"'`", *at) != NULL)
        return 1;
    if (strncmp(at, "\xe2\x80", 2) == 0 && ((uint8_t)at[2] & 0xc0) == 0x80)
        return 3; /* general punctuation: wide quotes, spaces without width */
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (strncmp(at, marks[i], strlen(marks[i])) == 0)
            return strlen(marks[i]);
    return 0;
}

/*
 * What a web form, a chat or a mail filter wrote in place of a link's punctuation: %3A,
 * or %253A where two did. Returns its length and the character, else 0.
 */
static size_t escaped(const char *at, char *out)
{
    static const char plain[] = ":/[]#<>\" ";
    static const char *const hex[] = {"3a", "2f", "5b", "5d", "23",
                                      "3c", "3e", "22", "20"};
    size_t len = 1;
    if (*at != '%')
        return 0;
    while (strncmp(at + len, "25", 2) == 0)
        len += 2;
    for (size_t i = 0; i < sizeof(hex) / sizeof(hex[0]); i++) {
        if (strncasecmp(at + len, hex[i], 2) == 0) {
            *out = plain[i];
            return len + 2;
        }
    }
    return 0;
}

static void copy_take(struct copy *c, const char *text)
{
    c->len = 0;
    for (bool edge = false; *text != '\0';) {
        char one = *text;
        size_t coded = escaped(text, &one);
        bool odd = coded > 0 && strchr(" <>\"", one) != NULL;
        size_t skip = coded == 0 ? between(text) : odd ? 1 : 0;
        if (skip == 0) {
            c->edge[c->len] = edge;
            c->text[c->len++] = one;
        }
        edge = skip > 0;
        text += coded > 0 ? coded : skip > 0 ? skip : 1;
    }
    c->text[c->len] = '\0';
    c->edge[c->len] = true;
}

/* What is behind the scheme at `at`, which is a web page's or ours. */
static int parse_behind(struct link *l, const struct copy *c, size_t at, bool web,
                        struct fault *f)
{
    struct link r = {0};
    const char *auth = c->text + at, *slash = strchr(auth, '/');
    const char *kind = slash == NULL ? NULL : slash + (web && slash[1] == '#' ? 2 : 1);
    if (kind == NULL || *kind == '\0' || kind[1] != '/')
        return fault_set(f, POSTERN_ERR_INVALID, again, "%s", cut_short);
    r.type = (enum link_type)(unsigned char)lower(*kind);
    if (r.type != LINK_BROKER && r.type != LINK_AGENT && r.type != LINK_INVITE)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link is of an unknown kind '%c'",
                         *kind > ' ' && *kind < 0x7f ? *kind : '?');
    if (parse_authority(&r, auth, (size_t)(slash - auth), web) != 0)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link's broker address is mangled");
    const char *letters = kind + 2;
    size_t from = (size_t)(letters - c->text), len = 0;
    while (is_letter(letters[len]))
        len++;
    int rc = parse_either(&r, letters, len, f);
    for (unsigned nth = 0; rc == POSTERN_ERR_INVALID && nth < 2; nth++) {
        size_t want = payload_letters(r.type, nth); /* words may follow it */
        if (want > 0 && want < len && c->edge[from + want])
            rc = parse_either(&r, letters, want, NULL);
    }
    if (rc == 0)
        *l = r;
    sodium_memzero(&r, sizeof(r));
    return rc;
}

/* The first that is whole; else what is wrong with the first. NOTFOUND: none. */
static int parse_each(struct link *l, const struct copy *c, const char *scheme,
                      bool web, struct fault *f)
{
    size_t len = strlen(scheme);
    int rc = POSTERN_ERR_NOTFOUND;
    for (size_t at = 0; at + len <= c->len; at++) {
        if (strncasecmp(c->text + at, scheme, len) != 0)
            continue;
        bool first = rc == POSTERN_ERR_NOTFOUND;
        int now = parse_behind(l, c, at + len, web, first ? f : NULL);
        if (now == 0)
            return 0;
        if (first)
            rc = now;
    }
    return rc;
}

/*
 * Without its scheme, or with a part of it: HOST:PORT/i/..., //HOST:PORT/i/...,
 * ostern://HOST:PORT/i/... NOTFOUND: it does not look like that.
 */
static int parse_bare(struct link *l, const struct copy *c, struct fault *f)
{
    static const char word[] = "postern:";
    const char *behind = strstr(c->text, "://"), *at = c->text;
    if (behind != NULL && (size_t)(behind - at) < sizeof(word) - 1)
        at = behind + 1;
    else if (strncasecmp(at, word, sizeof(word) - 1) == 0)
        at += sizeof(word) - 1;
    at += strspn(at, "/");
    const char *slash = strchr(at, '/');
    if (slash == NULL || memchr(at, ':', (size_t)(slash - at)) == NULL ||
        strchr("abi", lower(slash[1])) == NULL || slash[1] == '\0' || slash[2] != '/')
        return POSTERN_ERR_NOTFOUND;
    return parse_behind(l, c, (size_t)(at - c->text), false, f);
}

int link_parse(struct link *l, const char *text, struct fault *f)
{
    struct copy c;
    struct fault why = {0};
    if (strnlen(text, LINK_INPUT_MAX + 1) > LINK_INPUT_MAX)
        return fault_set(f, POSTERN_ERR_INVALID, "copy the link alone",
                         "this is too long to be a Postern link");
    copy_take(&c, text);
    int rc = parse_each(l, &c, prefix, false, &why);
    if (rc == POSTERN_ERR_NOTFOUND && (parse_each(l, &c, "https://", true, NULL) == 0 ||
                                       parse_each(l, &c, "http://", true, NULL) == 0))
        rc = 0;
    if (rc == POSTERN_ERR_NOTFOUND)
        rc = parse_bare(l, &c, &why);
    if (rc == POSTERN_ERR_NOTFOUND && c.len == 0)
        rc = fault_set(&why, POSTERN_ERR_INVALID, again, "the link is empty");
    else if (rc == POSTERN_ERR_NOTFOUND)
        rc = fault_set(&why, POSTERN_ERR_INVALID, again,
                       "this is not a Postern link: there is no %s in it", prefix);
    if (rc != 0 && f != NULL)
        *f = why;
    sodium_memzero(&c, sizeof(c));
    return rc;
}

int link_parse_given(struct link *l, const char *text, struct fault *f)
{
    int rc = link_parse(l, text, f);
    if (rc != POSTERN_ERR_INVALID)
        return rc;
    if (f != NULL)
        f->code = POSTERN_ERR_USAGE;
    return POSTERN_ERR_USAGE;
}

int link_check_broker(const struct link *l, struct fault *f)
{
    if (l->type == LINK_INVITE)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "an invite is for 'postern join'; --broker needs the link "
                         "that 'postern broker' printed",
                         "this link is an invite, not a broker's");
    if (l->type == LINK_AGENT)
        return fault_set(f, POSTERN_ERR_USAGE,
                         "give it to 'postern serve --via'; --broker needs the link "
                         "that 'postern broker' printed",
                         "this link is an agent's, not a broker's");
    return 0;
}

void link_invite_id(uint8_t id[static INVITE_ID_LEN],
                    const uint8_t secret[static LINK_SECRET_LEN])
{
    uint8_t hash[32];
    static const char label[] = "postern invite id";
    key_hash(hash, label, sizeof(label) - 1, secret, LINK_SECRET_LEN);
    memcpy(id, hash, INVITE_ID_LEN);
}

void link_invite_pass(uint8_t pass[static INVITE_PASS_LEN],
                      const uint8_t secret[static LINK_SECRET_LEN])
{
    static const char label[] = "postern invite pass";
    key_hash(pass, label, sizeof(label) - 1, secret, LINK_SECRET_LEN);
}

void link_invite_proof(uint8_t proof[static 32],
                       const uint8_t secret[static LINK_SECRET_LEN],
                       const uint8_t *exporter, size_t len)
{
    key_hash(proof, exporter, len, secret, LINK_SECRET_LEN);
}

bool link_is_here(const struct link *l)
{
    struct addr a;
    return strcmp(l->host, "localhost") == 0 ||
           (addr_parse_ip(&a, l->host) == 0 &&
            addr_scope_of(&a) == ADDR_SCOPE_LOOPBACK);
}

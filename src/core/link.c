/* Text form of links; knows nothing of the network or of stored state. */
#include "core/link.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/wire.h"

enum { LINK_VERSION = 1, LINK_CHECK_LEN = 4, LINK_PAYLOAD_MAX = 128 };

static const char prefix[] = "postern://";

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
    bool v6 = strchr(l->host, ':') != NULL;
    int n = snprintf(text, LINK_TEXT_LEN, "%s%s%s%s:%u/%c/", prefix, v6 ? "[" : "",
                     l->host, v6 ? "]" : "", l->port, (char)l->type);
    size_t head = (size_t)n;
    uint8_t check[LINK_CHECK_LEN];
    link_check(check, text, head, payload, w.used);
    wire_put_bytes(&w, check, sizeof(check));
    base32_encode(payload, w.used, text + head);
    sodium_memzero(payload, sizeof(payload));
}

static int parse_authority(struct link *l, const char *at, size_t len)
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
        if (end == NULL || end[1] != ':')
            return POSTERN_ERR_INVALID;
        *end = '\0';
        host = buf + 1;
        port = end + 1;
    }
    if (port == NULL)
        return POSTERN_ERR_INVALID;
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

static int parse_trimmed(struct link *l, const char *text, struct fault *f)
{
    static const char again[] = "copy the whole link again, or ask for a new one";
    struct link r = {0};
    uint8_t payload[LINK_PAYLOAD_MAX], check[LINK_CHECK_LEN];
    size_t plen = sizeof(prefix) - 1;
    if (strncmp(text, prefix, plen) != 0)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "this is not a Postern link: it does not begin with %s",
                         prefix);
    const char *auth = text + plen;
    const char *slash = strchr(auth, '/');
    if (strlen(text) >= LINK_TEXT_LEN || slash == NULL || slash[1] == '\0' ||
        slash[2] != '/')
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link is cut short or mangled");
    r.type = (enum link_type)(unsigned char)slash[1];
    if (r.type != LINK_BROKER && r.type != LINK_AGENT && r.type != LINK_INVITE)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link is of an unknown kind '%c'",
                         slash[1] > ' ' && slash[1] < 0x7f ? slash[1] : '?');
    if (parse_authority(&r, auth, (size_t)(slash - auth)) != 0)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link's broker address is mangled");
    int n = base32_decode(payload, sizeof(payload), slash + 3);
    if (n < 1 + LINK_CHECK_LEN)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link is cut short or mangled");
    size_t body = (size_t)n - LINK_CHECK_LEN;
    link_check(check, text, (size_t)(slash + 3 - text), payload, body);
    if (sodium_memcmp(check, payload + body, LINK_CHECK_LEN) != 0)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link was mangled: its check does not match");
    if (payload[0] != LINK_VERSION)
        return fault_set(f, POSTERN_ERR_NEWER, "update this program",
                         "the link was made by a newer version of Postern");
    if (parse_payload(&r, payload, body) != 0)
        return fault_set(f, POSTERN_ERR_INVALID, again,
                         "the link is cut short or mangled");
    *l = r;
    return 0;
}

int link_parse(struct link *l, const char *text, struct fault *f)
{
    /* What a copy brings along from the sentence around it is no harm. */
    static const char around[] = " \t\r\n,;.!?:<>()[]\"'`";
    char trimmed[LINK_TEXT_LEN + 1];
    text += strspn(text, around);
    size_t len = strlen(text);
    while (len > 0 && strchr(around, text[len - 1]) != NULL)
        len--;
    if (len >= sizeof(trimmed))
        len = sizeof(trimmed) - 1; /* too long in any case */
    memcpy(trimmed, text, len);
    trimmed[len] = '\0';
    if (strncasecmp(trimmed, prefix, sizeof(prefix) - 1) == 0)
        memcpy(trimmed, prefix, sizeof(prefix) - 1);
    int rc = parse_trimmed(l, trimmed, f);
    if (rc ==
        POSTERN_ERR_INVALID) { /* all of it in capitals, as some scanners give it */
        for (char *at = trimmed; *at != '\0'; at++)
            *at = *at >= 'A' && *at <= 'Z' ? (char)(*at - 'A' + 'a') : *at;
        if (parse_trimmed(l, trimmed, NULL) == 0) {
            rc = 0;
            if (f != NULL)
                *f = (struct fault){0};
        }
    }
    sodium_memzero(trimmed, sizeof(trimmed));
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

void link_invite_proof(uint8_t proof[static 32],
                       const uint8_t secret[static LINK_SECRET_LEN],
                       const uint8_t *exporter, size_t len)
{
    key_hash(proof, exporter, len, secret, LINK_SECRET_LEN);
}
